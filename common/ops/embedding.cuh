// embedding.cuh: out[n] = wte[token[n]] (+ wpe[pos[n]]) (+ wtt[type[n]]), and the gradients of the three tables.
//
// Backward: dw[id] += Σ dout[n] over the n with that id. Many n may share an id ("the", position 0, type 0), so adding
// in place would need atomics or serialise. Instead the loader sorts the n by id (SortedIds) and cuts each id's list
// into runs of at most 64:
//   pass 1  every run is summed on its own; the only run of its id goes straight to dw, the others to `partial`
//   pass 2  every id with several runs adds its partial sums to dw, in order
// Deterministic, and no id is a bottleneck.
#pragma once
#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/device/device.cuh"

constexpr int EMBEDDING_RUN = 64;

// The index of one table's backward pass, in device memory. Unused: runs with start = end, ids with first = last.
struct SortedIds {
    int* order;      // (N)   token indices, sorted by id, and within an id ascending
    int* run_start;  // (R+1) run r is order[run_start[r] .. run_start[r+1])
    int* run_id;     // (R)   the row of the table that run r belongs to
    int* run_slot;   // (R)   row of `partial` that takes its sum; −1: the id's only run, straight to the table
    int R;
    int* multi_id;    // (U)  rows of the table that have several runs
    int* multi_slot;  // (U+1) their partial sums: slots [multi_slot[u], multi_slot[u+1])
    int U;
};
// An id with r ≥ 2 runs has more than 64 (r − 1) ≥ 32 r tokens, so N tokens fill at most N / 32 slots.
constexpr size_t embedding_slots(size_t N) { return N / 32 + 1; }

namespace cpu {
// out(N,C); wte(V,C); wpe(maxT,C), wtt(types,C) or nullptr; tokens, pos, types (N). W: T or bf16
template <class T, class W> void embedding_forward(T* out, const W* wte, const W* wpe, const W* wtt, const int* tokens,
    const int* pos, const int* types, int N, int C) {
#pragma omp parallel for if ((size_t)N * C >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        T* o = out + (size_t)n * C;                                // (C)
        const W* te = wte + (size_t)tokens[n] * C;                 // (C)
        const W* pe = wpe ? wpe + (size_t)pos[n] * C : nullptr;    // (C)
        const W* tt = wtt ? wtt + (size_t)types[n] * C : nullptr;  // (C)
        for (int c = 0; c < C; c++) o[c] = (acc<T>)te[c] + (pe ? (acc<T>)pe[c] : 0) + (tt ? (acc<T>)tt[c] : 0);
    }
}
// dw(rows,C) += sums of dout(N,C) by id; partial(embedding_slots(N),C) is scratch
template <class T> void embedding_backward(acc<T>* dw, const T* dout, SortedIds ids, acc<T>* partial, int C) {
#pragma omp parallel for
    for (int r = 0; r < ids.R; r++) {
        int begin = ids.run_start[r], end = ids.run_start[r + 1], slot = ids.run_slot[r];
        if (begin == end) continue;
        acc<T>* to = slot < 0 ? dw + (size_t)ids.run_id[r] * C : partial + (size_t)slot * C;  // (C)
        if (slot >= 0)
            for (int c = 0; c < C; c++) to[c] = 0;
        for (int i = begin; i < end; i++) {
            const T* d = dout + (size_t)ids.order[i] * C;  // (C)
            for (int c = 0; c < C; c++) to[c] += (acc<T>)d[c];
        }
    }
#pragma omp parallel for
    for (int u = 0; u < ids.U; u++) {
        acc<T>* to = dw + (size_t)ids.multi_id[u] * C;  // (C)
        for (int slot = ids.multi_slot[u]; slot < ids.multi_slot[u + 1]; slot++)
            for (int c = 0; c < C; c++) to[c] += partial[(size_t)slot * C + c];
    }
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
#include "common/device/reduce.cuh"
namespace gpu {
// one warp per token, from all tables at once
template <int W, class T> __global__ void embedding_forward_kernel(T* out, const T* wte, const T* wpe, const T* wtt,
    const int* tokens, const int* pos, const int* types, int N, int C) {
    int lane = threadIdx.x % 32, n = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (n >= N) return;
    const T* te = wte + (size_t)tokens[n] * C;                 // (C)
    const T* pe = wpe ? wpe + (size_t)pos[n] * C : nullptr;    // (C)
    const T* tt = wtt ? wtt + (size_t)types[n] * C : nullptr;  // (C)
    for (int c = lane * W; c < C; c += 32 * W) {
        float x[W], y[W] = {}, z[W] = {};
        load<W>(x, te + c);
        if (pe) load<W>(y, pe + c);
        if (tt) load<W>(z, tt + c);
        UNROLL
        for (int k = 0; k < W; k++) x[k] = x[k] + y[k] + z[k];
        store<W>(out + (size_t)n * C + c, x);
    }
}
template <class T> void embedding_forward(T* out, const T* wte, const T* wpe, const T* wtt, const int* tokens,
    const int* pos, const int* types, int N, int C) {
    pick_width<T>(rows_are_wide<T>(C, out, wte, wpe, wtt), [&](auto w) {
        launch(
            embedding_forward_kernel<w(), T>, row_blocks(N), THREADS, 0, out, wte, wpe, wtt, tokens, pos, types, N, C);
    });
}

// Pass 1: one block per run, W channels a thread, the sum of up to 64 rows in registers, eight rows on their way at a
// time. Tokens of a text and positions both have enough runs to fill a GPU.
template <int W, class T>
__global__ void embedding_runs_kernel(float* dw, const T* dout, SortedIds ids, float* partial, int C) {
    int r = blockIdx.x, begin = ids.run_start[r], end = ids.run_start[r + 1], slot = ids.run_slot[r];
    if (begin == end) return;
    float* to = slot < 0 ? dw + (size_t)ids.run_id[r] * C : partial + (size_t)slot * C;  // (C)
    for (int c = threadIdx.x * W; c < C; c += blockDim.x * W) {
        float sum[W] = {};
        if (slot < 0)
            for (int k = 0; k < W; k++) sum[k] = to[c + k];
        for (int i0 = begin; i0 < end; i0 += 8) {
            Pack<T, W> d[8];
            UNROLL
            for (int i = 0; i < 8; i++)
                if (i0 + i < end) d[i] = load_pack<W>(dout + (size_t)ids.order[i0 + i] * C + c);
            UNROLL
            for (int i = 0; i < 8; i++)
                if (i0 + i < end)
                    for (int k = 0; k < W; k++) sum[k] += (float)d[i].at[k];
        }
        for (int k = 0; k < W; k++) to[c + k] = sum[k];
    }
}
// Pass 2: one block per id with several runs and 32 channels, one lane each; every warp adds some of the runs' sums
// (256 of 16,384 tokens of two types), then the first warp adds the warps'.
static __global__ void embedding_partials_kernel(float* dw, SortedIds ids, const float* partial, int C) {
    __shared__ float sums[THREADS / 32][32];
    int u = blockIdx.x, begin = ids.multi_slot[u], end = ids.multi_slot[u + 1];
    if (begin == end) return;  // the whole block
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = blockIdx.y * 32 + lane;
    sums[warp][lane] = strided_sum<float>(
        begin + warp, c < C ? end : 0, THREADS / 32, [&](int slot) { return partial[(size_t)slot * C + c]; });
    __syncthreads();  // every warp has written
    if (warp > 0 || c >= C) return;
    float sum = dw[(size_t)ids.multi_id[u] * C + c];
    UNROLL
    for (int w = 0; w < (int)THREADS / 32; w++) sum += sums[w][lane];
    dw[(size_t)ids.multi_id[u] * C + c] = sum;
}
template <class T> void embedding_backward(float* dw, const T* dout, SortedIds ids, float* partial, int C) {
    pick_width<T>(rows_are_wide<T>(C, dout), [&](auto w) {
        launch(embedding_runs_kernel<w(), T>, ids.R, min(round_up(ceil_div(C, w()), 32), (size_t)THREADS), 0, dw, dout,
            ids, partial, C);
    });
    launch(embedding_partials_kernel, dim3(ids.U, ceil_div(C, 32)), THREADS, 0, dw, ids, (const float*)partial, C);
}
}  // namespace gpu
#endif
