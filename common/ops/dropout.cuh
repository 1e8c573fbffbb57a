// dropout.cuh: out = keep ? inp / (1 − p) : 0, where keep comes from counters wherever it is needed, never stored.
//
// A site is one place in the model where numbers are dropped (the embedding, the weights of layer 3's attention, …) and
// has a number of its own, so that no two drop the same elements. There is no dropout_backward: the gradient is
// multiplied with the very factors of the forward pass, so dropout_forward, applied to it, is the backward pass.
//
// Whether element (row, column) of a site is kept depends on (seed, step, site, row, column) and nothing else. The row
// is the index of the token within the optimiser step (for attention: of query and head), so cutting a step into
// micro-batches changes nothing. The decision is an integer comparison: the same bits on every machine.
#pragma once
#include "common/base/rng.h"
#include "common/base/types.h"
#include "common/device/device.cuh"

// Lives in device memory beside the batch, so that a captured step reads the new values at every replay.
struct StepCounters {
    uint64_t seed;
    uint64_t step;    // optimiser steps done
    uint64_t token0;  // tokens of this step that earlier micro-batches held
};

struct Dropout {
    const StepCounters* counters = nullptr;  // in device memory
    uint32_t site = 0;                       // which dropout of the model: every call has a number of its own
    float p = 0;                             // probability of dropping; 0 switches it off (`counters` is not read then)
    const int* rows = nullptr;               // the token of each row, in device memory; nullptr: row n is token n
};

// Inference: while one of these lives, the rate it was given is 0.
struct NoDropout {
    float &rate, before;
    explicit NoDropout(float& rate) : rate(rate), before(rate) { rate = 0; }
    ~NoDropout() { rate = before; }
    NoDropout(const NoDropout&) = delete;
};

// Row n of a dropout site: two 32-bit keys, made once per row.
struct DropoutRow {
    uint32_t k0, k1, threshold;
    float scale;
    HOST_DEVICE DropoutRow(const Dropout& d, int64_t n, uint32_t rows_per_token = 1, uint32_t row = 0)
        : k0(0), k1(0), threshold(0), scale(1) {
        if (d.p <= 0) return;
        uint64_t token = d.rows ? d.rows[n] : n;
        uint64_t key = mix64(
            d.counters->seed, d.counters->step, d.site, (d.counters->token0 + token) * rows_per_token + row);
        k0 = (uint32_t)key;
        k1 = (uint32_t)(key >> 32);
        threshold = (uint32_t)((double)d.p * 4294967296.0);
        scale = 1.0f / (1.0f - d.p);
    }
    // the factor of a column: 0 or 1 / (1 − p). The two rounds are those of a 32-bit finaliser (constants found by C.
    // Wellons), with the second key entering in between.
    HOST_DEVICE float operator()(uint32_t column) const { return keeps(column, k0, k1, threshold) ? scale : 0.0f; }
    // from now on column `first` is what column 0 was
    HOST_DEVICE void start_at(uint32_t first) { k0 -= first * 0x9e3779b1u; }
    // The finaliser ends with x ^= x >> 16. Then x ≥ threshold is decided by its upper half, or, if that is the
    // threshold's, by the lower one, which was XORed with just this: so the threshold's upper half will do, and takes
    // one instruction less.
    HOST_DEVICE static bool keeps(uint32_t column, uint32_t k0, uint32_t k1, uint32_t threshold) {
        uint32_t x = column * 0x9e3779b1u + k0;
        x = (x ^ x >> 16) * 0x7feb352du + k1;
        x = (x ^ x >> 15) * 0x846ca68bu;
        return (x ^ threshold >> 16) >= threshold;
    }
};

namespace cpu {
// Row n: out(C) = dropout(inp(C)), out may be inp
template <class T> void drop_row(T* out, const T* inp, int n, int C, const Dropout& dropout) {
    DropoutRow keep(dropout, n);
    if (dropout.p > 0)
        for (int c = 0; c < C; c++) out[c] = (acc<T>)inp[c] * keep(c);
    else if (out != inp) memcpy((void*)out, (const void*)inp, C * sizeof(T));
}
// Row n: sum(C) = x(C) + dropout(branch(C)), sum may be one of them
template <class T> void add_dropped_row(T* sum, const T* x, const T* branch, int n, int C, const Dropout& dropout) {
    typedef acc<T> A;
    DropoutRow keep(dropout, n);
    if (dropout.p > 0)
        for (int c = 0; c < C; c++) sum[c] = (A)x[c] + (A)branch[c] * keep(c);
    else
        for (int c = 0; c < C; c++) sum[c] = (A)x[c] + (A)branch[c];
}
// out(N,C) = dropout(inp(N,C)); out may be inp. The backward pass is the same function applied to the gradient.
template <class T> void dropout_forward(T* out, const T* inp, int N, int C, Dropout dropout) {
    if (dropout.p <= 0 && out == inp) return;
#pragma omp parallel for
    for (int n = 0; n < N; n++) drop_row(out + (size_t)n * C, inp + (size_t)n * C, n, C, dropout);
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
namespace gpu {
// one warp per row: the row's keys are made once, then cost about a dozen integer operations per element
template <int W, class T> __global__ void dropout_forward_kernel(T* out, const T* inp, int N, int C, Dropout dropout) {
    int lane = threadIdx.x % 32, n = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (n >= N) return;
    DropoutRow keep(dropout, n);
    for (int c = lane * W; c < C; c += 32 * W) {
        float x[W];
        load<W>(x, inp + (size_t)n * C + c);
        UNROLL
        for (int k = 0; k < W; k++) x[k] *= keep(c + k);  // 1 if there is no dropout
        store<W>(out + (size_t)n * C + c, x);
    }
}
template <class T> void dropout_forward(T* out, const T* inp, int N, int C, Dropout dropout) {
    if (dropout.p <= 0 && out == inp) return;
    pick_width<T>(rows_are_wide<T>(C, out, inp),
        [&](auto w) { launch(dropout_forward_kernel<w(), T>, row_blocks(N), THREADS, 0, out, inp, N, C, dropout); });
}
}  // namespace gpu
#endif
