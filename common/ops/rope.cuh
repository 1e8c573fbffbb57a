// rope.cuh: rotary position embedding (Su et al. 2021) of queries and keys, alone and with RMSNorm of each head before
// it (QK-norm, as in Qwen3).
//
//   (x_i, x_{i+HS/2}) turns by the angle pos · f_i, i < HS/2,   f_i = θ^(−2i/HS)
//   out_i = x_i cos − x_{i+HS/2} sin,   out_{i+HS/2} = x_{i+HS/2} cos + x_i sin
//   the gradient turns back: by −pos · f_i
//
// Llama 3 stretches what turns slowly, so that a model reads further than it was first trained to. A frequency that
// turns t = f · original_context / 2π times in the first context is kept if t ≥ high_freq_factor, divided by `factor`
// if t ≤ low_freq_factor, and between the two is a mean of both, the weight growing linearly with t.
//
// QK-norm: before it turns, each head x of q becomes rmsnorm(x) · qw, each head of k rmsnorm(x) · kw (layernorm.cuh).
//
// qkv(N, NH + 2 NKV, HS) holds the heads of q, k and v of a token side by side, as in attention.cuh. A model with
// QK-norm keeps qkv as it was for the backward pass, and gives attention another array.
#pragma once
#include <math.h>

#include <vector>

#include "common/ops/layernorm.cuh"

struct RopeConfig {
    double theta = 10000, factor = 1;  // factor 1: no frequency is changed
    double low_freq_factor = 1, high_freq_factor = 4, original_context = 8192;
};
// table(T, 2, HS/2): cosines and sines of each position, computed in double
template <class A> std::vector<A> rope_table(const RopeConfig& rope, int T, int HS) {
    std::vector<A> table((size_t)T * HS);
    for (int i = 0; i < HS / 2; i++) {
        double f = pow(rope.theta, -2.0 * i / HS), turns = f * rope.original_context / (2 * M_PI);
        double keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
        keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
        f *= keep + (1 - keep) / rope.factor;
        for (int t = 0; t < T; t++) {
            table[(size_t)t * HS + i] = (A)cos(t * f);
            table[(size_t)t * HS + HS / 2 + i] = (A)sin(t * f);
        }
    }
    return table;
}

namespace cpu {
// Turns the heads x(heads, HS) of one token; angles(2, HS/2): its row of the table; sign −1: back
template <class T> void rotate_heads(T* x, const acc<T>* angles, acc<T> sign, int heads, int HS) {
    typedef acc<T> A;
    int half = HS / 2;
    for (int h = 0; h < heads; h++, x += HS)
#pragma omp simd
        for (int i = 0; i < half; i++) {
            A a = x[i], b = x[i + half], cosine = angles[i], sine = sign * angles[half + i];
            x[i] = a * cosine - b * sine;
            x[i + half] = b * cosine + a * sine;
        }
}
// out(N, NH + 2 NKV, HS): queries and keys of qkv normalised with qw(HS), kw(HS) and turned by positions pos(N); values
// as they are. rstd(N, NH + NKV); table(T, 2, HS/2). out may be qkv; with qw = nullptr, without QK-norm, it is qkv.
template <class T> void rope_forward(T* out, acc<T>* rstd, const T* qkv, const T* qw, const T* kw, const acc<T>* table,
    const int* pos, int N, int NH, int NKV, int HS, acc<T> eps) {
    int heads = NH + NKV;
    size_t C = (size_t)(heads + NKV) * HS;
#pragma omp parallel for if (N * C >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        const T* x = qkv + n * C;  // (NH + 2 NKV, HS)
        T* o = out + n * C;        // (NH + 2 NKV, HS)
        for (int h = 0; qw && h < heads; h++)
            rstd[(size_t)n * heads + h] = rmsnorm_row(o + h * HS, x + h * HS, h < NH ? qw : kw, HS, eps);
        rotate_heads(o, table + (size_t)pos[n] * HS, acc<T>(1), heads, HS);
        if (o != x) memcpy((void*)(o + heads * HS), (const void*)(x + heads * HS), (size_t)NKV * HS * sizeof(T));
    }
}
// dqkv(N, NH + 2 NKV, HS): the gradient of `out` becomes that of qkv, in place; dqw(HS), dkw(HS) +=, unless nullptr;
// scratch(layernorm_scratch(N, HS))
template <class T> void rope_backward(T* dqkv, acc<T>* dqw, acc<T>* dkw, const T* qkv, const T* qw, const T* kw,
    const acc<T>* rstd, const acc<T>* table, const int* pos, acc<T>* scratch, int N, int NH, int NKV, int HS) {
    int heads = NH + NKV;
    size_t C = (size_t)(heads + NKV) * HS;
    int chunks = sum_chunks(scratch, N, 2 * HS, [&](int n, acc<T>* dq) {  // sums of dqw(HS), then of dkw(HS)
        const T* x = qkv + n * C;                                         // (NH + 2 NKV, HS)
        T* d = dqkv + n * C;                                              // (NH + 2 NKV, HS)
        rotate_heads(d, table + (size_t)pos[n] * HS, acc<T>(-1), heads, HS);
        for (int h = 0; qw && h < heads; h++, d += HS, x += HS)
            rmsnorm_row_backward(
                d, h < NH ? dq : dq + HS, d, (const T*)nullptr, x, h < NH ? qw : kw, rstd[(size_t)n * heads + h], HS);
    });
    if (dqw) add_chunks(dqw, scratch, chunks, 2 * HS, HS, dkw);
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
#include "common/device/reduce.cuh"
namespace gpu {
// HS / 2W lanes a head, each W pairs: 16 bytes of both halves
template <int HS, class T> constexpr int ROPE_LANES = HS / 2 * sizeof(T) / 16;
// the pairs a, b of a head turn, with sign −1 back; table: cosines of these pairs, HS/2 on their sines
template <int HS, int W> __device__ inline void rotate(float a[W], float b[W], const float* table, float sign) {
    float cosine[W], sine[W];
    load<W>(cosine, table);
    load<W>(sine, table + HS / 2);
    UNROLL
    for (int k = 0; k < W; k++) {
        float x = a[k], s = sign * sine[k];
        a[k] = x * cosine[k] - b[k] * s;
        b[k] = b[k] * cosine[k] + x * s;
    }
}
// Without NORM rstd, qw and kw are not used and the values not touched.
template <int HS, bool NORM, class T> __global__ void rope_kernel(T* out, float* rstd, const T* qkv, const T* qw,
    const T* kw, const float* table, const int* pos, int N, int NH, int NKV, float eps, float sign) {
    constexpr int W = 16 / sizeof(T), LANES = ROPE_LANES<HS, T>;
    unsigned heads = NH + NKV + (NORM ? NKV : 0), i = (unsigned)(((size_t)blockIdx.x * THREADS + threadIdx.x) / LANES);
    bool there = i < N * heads;
    unsigned n = i / heads, h = i % heads, c = threadIdx.x % LANES * W;
    size_t at = ((size_t)n * (NH + 2 * NKV) + h) * HS + c;
    float a[W] = {}, b[W] = {};  // a thread that is not there comes along to warp_sum
    if (there) {
        load<W>(a, qkv + at);
        load<W>(b, qkv + at + HS / 2);
    }
    if (NORM) {
        float squares = 0;
        for (int k = 0; k < W; k++) squares += a[k] * a[k] + b[k] * b[k];
        float r = 1.0f / sqrtf(warp_sum<LANES>(squares) / HS + eps);
        if (h < (unsigned)(NH + NKV)) {
            const T* weight = (h < (unsigned)NH ? qw : kw) + c;
            float v[W], w[W];
            load<W>(v, weight);
            load<W>(w, weight + HS / 2);
            UNROLL
            for (int k = 0; k < W; k++) {
                a[k] *= r * v[k];
                b[k] *= r * w[k];
            }
            if (there && c == 0) rstd[(size_t)n * (NH + NKV) + h] = r;
        }
    }
    if (!there) return;
    if (h < (unsigned)(NH + NKV)) rotate<HS, W>(a, b, table + (size_t)pos[n] * HS + c, sign);
    store<W>(out + at, a);
    store<W>(out + at + HS / 2, b);
}
template <class T> void rope_forward(T* out, float* rstd, const T* qkv, const T* qw, const T* kw, const float* table,
    const int* pos, int N, int NH, int NKV, int HS, float eps, float sign = 1) {
    pick_head_size(HS, [&](auto hs) {
        size_t threads = (size_t)N * (NH + NKV + (qw ? NKV : 0)) * ROPE_LANES<hs(), T>;
        launch(qw ? rope_kernel<hs(), true, T> : rope_kernel<hs(), false, T>, ceil_div(threads, THREADS), THREADS, 0,
            out, rstd, qkv, qw, kw, table, pos, N, NH, NKV, eps, sign);
    });
}

// One block per chunk of `rows` tokens: first all heads of q, then those of k. A thread sees the same 2 W channels of
// its heads, so it sums their dqw or dkw in registers; at the end a warp adds its lanes' sums, and the block its
// warps'.
template <int HS, class T> __global__ void __launch_bounds__(THREADS, 3)
    qk_norm_rope_backward_kernel(T* dqkv, const T* qkv, const T* qw, const T* kw, const float* rstd, const float* table,
        const int* pos, float* scratch, int N, int NH, int NKV, int rows) {
    constexpr int W = 16 / sizeof(T), LANES = ROPE_LANES<HS, T>;
    __shared__ float total[THREADS / 32][HS];
    int c = threadIdx.x % LANES * W, begin = blockIdx.x * rows, end = min(begin + rows, N);
    ROLLED
    for (int kind = 0; kind < 2; kind++) {  // q, k
        int heads = kind ? NKV : NH, first = kind ? NH : 0;
        const T* weight = (kind ? kw : qw) + c;
        float sums[2 * W] = {};  // of the channels in the first half, then in the second
        for (int i0 = begin * heads; i0 < end * heads; i0 += THREADS / LANES) {
            int i = i0 + threadIdx.x / LANES, n = i / heads, h = first + i % heads;
            bool there = i < end * heads;  // threads without a head come along to warp_sum
            size_t at = ((size_t)n * (NH + 2 * NKV) + h) * HS + c;
            float a[W] = {}, b[W] = {}, x[W] = {}, y[W] = {}, v[W], w[W], r = 0, gx_mean = 0;
            if (there) {
                load<W>(a, dqkv + at);
                load<W>(b, dqkv + at + HS / 2);
                load<W>(x, qkv + at);
                load<W>(y, qkv + at + HS / 2);
                r = rstd[(size_t)n * (NH + NKV) + h];
                rotate<HS, W>(a, b, table + (size_t)pos[n] * HS + c, -1);
            }
            load<W>(v, weight);
            load<W>(w, weight + HS / 2);
            UNROLL
            for (int k = 0; k < W; k++) {
                x[k] *= r;  // xhat
                y[k] *= r;
                sums[k] += a[k] * x[k];
                sums[W + k] += b[k] * y[k];
                a[k] *= v[k];
                b[k] *= w[k];
                gx_mean += a[k] * x[k] + b[k] * y[k];
            }
            gx_mean = warp_sum<LANES>(gx_mean) / HS;
            if (!there) continue;
            UNROLL
            for (int k = 0; k < W; k++) {
                a[k] = r * (a[k] - x[k] * gx_mean);
                b[k] = r * (b[k] - y[k] * gx_mean);
            }
            store<W>(dqkv + at, a);
            store<W>(dqkv + at + HS / 2, b);
        }
        UNROLL
        for (int k = 0; k < 2 * W; k++) {
            float sum = sums[k];
            for (int d = LANES; d < 32; d *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
            if (threadIdx.x % 32 < LANES) total[threadIdx.x / 32][k / W * (HS / 2) + c + k % W] = sum;
        }
        __syncthreads();  // all warps have left theirs
        if (threadIdx.x < HS) {
            float sum = 0;
            for (int w = 0; w < (int)THREADS / 32; w++) sum += total[w][threadIdx.x];
            scratch[((size_t)blockIdx.x * 2 + kind) * HS + threadIdx.x] = sum;
        }
        __syncthreads();  // they have been read
    }
}
template <class T> void rope_backward(T* dqkv, float* dqw, float* dkw, const T* qkv, const T* qw, const T* kw,
    const float* rstd, const float* table, const int* pos, float* scratch, int N, int NH, int NKV, int HS) {
    if (!qw) return rope_forward(dqkv, nullptr, (const T*)dqkv, qw, kw, table, pos, N, NH, NKV, HS, 0, -1);
    int rows = (int)layernorm_rows(N), chunks = (int)ceil_div(N, rows);
    pick_head_size(HS, [&](auto hs) {
        launch(qk_norm_rope_backward_kernel<hs(), T>, chunks, THREADS, 0, dqkv, qkv, qw, kw, rstd, table, pos, scratch,
            N, NH, NKV, rows);
    });
    if (dqw) add_chunks(dqw, scratch, chunks, 2 * HS, HS, dkw);
}
}  // namespace gpu
#endif
