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
// QK-norm: before it turns, each head x of q becomes rmsnorm(x) · qw, each head of k rmsnorm(x) · kw (rmsnorm.cuh, HS
// in place of C).
//
// qkv(N, NH + 2 NKV, HS) holds the heads of q, k and v of a token side by side, as in attention.cuh. A model with
// QK-norm keeps qkv as it was for the backward pass, and gives attention another array.
#pragma once
#include <math.h>

#include <vector>

#include "common/ops/rmsnorm.cuh"

struct RopeConfig {
    double theta = 10000, factor = 1;  // factor 1: no frequency is changed
    double low_freq_factor = 1, high_freq_factor = 4, original_context = 8192;
};
// table(T, 2, HS/2): cosines and sines of each position, computed in double
template <class A>
std::vector<A> rope_table(const RopeConfig& rope, int T, int HS) {
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
template <class T>
void rotate_heads(T* x, const acc<T>* angles, acc<T> sign, int heads, int HS) {
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
// Queries and keys of qkv(N, NH + 2 NKV, HS), in place, by positions pos(N); table(T, 2, HS/2). HS is even.
template <class T>
void rope_forward(T* qkv, const acc<T>* table, const int* pos, int N, int NH, int NKV, int HS, acc<T> sign = 1) {
#pragma omp parallel for if ((size_t)N * NH * HS >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++)
        rotate_heads(qkv + (size_t)n * (NH + 2 * NKV) * HS, table + (size_t)pos[n] * HS, sign, NH + NKV, HS);
}
// dqkv(N, NH + 2 NKV, HS): the gradient of what rope_forward() left becomes that of what it found, in place
template <class T>
void rope_backward(T* dqkv, const acc<T>* table, const int* pos, int N, int NH, int NKV, int HS) {
    rope_forward(dqkv, table, pos, N, NH, NKV, HS, acc<T>(-1));
}

// out(N, NH + 2 NKV, HS): queries and keys of qkv normalised with qw(HS), kw(HS) and turned; values as they are.
// rstd(N, NH + NKV). out may be qkv.
template <class T>
void qk_norm_rope_forward(T* out, acc<T>* rstd, const T* qkv, const T* qw, const T* kw, const acc<T>* table,
                          const int* pos, int N, int NH, int NKV, int HS, acc<T> eps) {
    int heads = NH + NKV;
    size_t C = (size_t)(heads + NKV) * HS;
#pragma omp parallel for if (N * C >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        const T* x = qkv + n * C;  // (NH + 2 NKV, HS)
        T* o = out + n * C;        // (NH + 2 NKV, HS)
        for (int h = 0; h < heads; h++)
            rstd[(size_t)n * heads + h] = rmsnorm_row(o + h * HS, x + h * HS, h < NH ? qw : kw, HS, eps);
        rotate_heads(o, table + (size_t)pos[n] * HS, acc<T>(1), heads, HS);
        if (o != x) memcpy((void*)(o + heads * HS), (const void*)(x + heads * HS), (size_t)NKV * HS * sizeof(T));
    }
}
// dqkv(N, NH + 2 NKV, HS): the gradient of `out` becomes that of qkv, in place; dqw(HS), dkw(HS) +=, unless nullptr;
// scratch(layernorm_scratch(N, HS))
template <class T>
void qk_norm_rope_backward(T* dqkv, acc<T>* dqw, acc<T>* dkw, const T* qkv, const T* qw, const T* kw,
                           const acc<T>* rstd, const acc<T>* table, const int* pos, acc<T>* scratch, int N, int NH,
                           int NKV, int HS) {
    typedef acc<T> A;
    int chunks = (int)ceil_div(N, CHUNK_ROWS), heads = NH + NKV;
    size_t C = (size_t)(heads + NKV) * HS;
#pragma omp parallel for
    for (int k = 0; k < chunks; k++) {
        A *dq = scratch + (size_t)k * 2 * HS, *dk = dq + HS;  // (HS) each: this chunk's sums
        for (int c = 0; c < 2 * HS; c++) dq[c] = 0;
        for (int n = k * CHUNK_ROWS; n < N && n < (k + 1) * CHUNK_ROWS; n++) {
            const T* x = qkv + n * C;  // (NH + 2 NKV, HS)
            T* d = dqkv + n * C;       // (NH + 2 NKV, HS)
            rotate_heads(d, table + (size_t)pos[n] * HS, A(-1), heads, HS);
            for (int h = 0; h < heads; h++)
                rmsnorm_row_backward(d + h * HS, h < NH ? dq : dk, d + h * HS, (const T*)nullptr, x + h * HS,
                                     h < NH ? qw : kw, rstd[(size_t)n * heads + h], HS);
        }
    }
    for (int k = 0; dqw && k < chunks; k++)
        for (int c = 0; c < HS; c++) {
            dqw[c] += scratch[(size_t)k * 2 * HS + c];
            dkw[c] += scratch[(size_t)k * 2 * HS + HS + c];
        }
}
}  // namespace cpu
