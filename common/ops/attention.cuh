// attention.cuh: scaled dot-product attention (Vaswani et al. 2017) over packed sequences, in tiles (Dao et al. 2022).
//
// For each sequence, head and query i, over the keys j of the same sequence within its reach (sequences.h):
//   s_ij = q_i · k_j / √HS        p_ij = exp(s_ij − lse_i),   lse_i = log Σ_j exp(s_ij)
//   o_i = Σ_j drop_ij p_ij v_j
// Backward, with delta_i = do_i · o_i  (equal to Σ_j p_ij dp_ij, also under dropout):
//   dp_ij = drop_ij (do_i · v_j)      ds_ij = p_ij (dp_ij − delta_i) / √HS
//   dq_i = Σ_j ds_ij k_j              dk_j = Σ_i ds_ij q_i                  dv_j = Σ_i drop_ij p_ij do_i
// drop_ij is 0 or 1/(1−p), drawn from (token and head of the query, j). No T×T matrix is in memory: lse gives p again.
//
// No token sees a neighbouring sequence, though they lie back to back without padding. On the CPU the loops run over
// the tokens of one sequence; in fp32 every entry of the work list (make_tiles in sequences.h) is of one sequence; in
// bf16 short neighbours share a tile, and apply_mask() in flash.cuh hides what lies outside a query's own range.
//
// NKV heads of keys and values, each shared by a group of NH / NKV heads of queries (Ainslie et al. 2023): query head h
// looks at head h / (NH / NKV), whose dk and dv are sums over the group, in the order of h. NKV = NH is plain
// attention.
//
// qkv(N, NH + 2 NKV, HS): q, k, v of a token side by side, as one matrix product leaves them. NH · HS need not be C.
//
// Generation keeps the keys and values of what was there before (KvCacheView): attention_cache() takes them over from
// the packed pass over the prompts, attention_decode() adds one token a row and lets it look back.
//
// On a GPU there are two of each kernel: here the exact ones, all arithmetic in fp32; in flash.cuh those for bf16, on
// the tensor cores.
#pragma once
#include <string.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/errors.h"
#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/base/vecmath.h"
#include "common/ops/dropout.cuh"
#include "common/ops/matmul.cuh"
#include "common/ops/sequences.h"

// Keys and values of one layer, in device memory. A slot holds one sequence of up to `context` tokens.
template <class T> struct KvCacheView {
    T *k, *v;  // (slots, NKV, context, HS)
    int context;
};

namespace cpu {
constexpr int TQ = 64, TK = 256;  // queries and keys of a tile of scores

// Memory for one head of one sequence, one per thread; grows to the longest sequence and is kept.
template <class A> A* attention_scratch(size_t n) {
    static thread_local std::vector<A> scratch;
    if (scratch.size() < n) scratch.resize(n);
    return scratch.data();
}

// to(len, HS) = factor · from(len, HS), whose rows lie to_stride and from_stride elements apart
template <class X, class Y, class A>
void copy_head(X* to, size_t to_stride, const Y* from, size_t from_stride, int len, int HS, A factor) {
    for (int t = 0; t < len; t++, to += to_stride, from += from_stride)
        for (int i = 0; i < HS; i++) to[i] = (A)from[i] * factor;
}

// out(N, NH, HS), lse(NH, N)
template <class T> void attention_forward(
    T* out, acc<T>* lse, const T* qkv, Sequences seq, int NH, int NKV, int HS, Reach reach, Dropout dropout) {
    typedef acc<T> A;
    size_t C = (size_t)NH * HS, KV = (size_t)NKV * HS;
    A scale = 1 / std::sqrt((A)HS);
#pragma omp parallel for collapse(2) schedule(dynamic, 1)
    for (int s = 0; s < seq.S; s++)
        for (int h = 0; h < NH; h++) {
            int n0 = seq.start[s], len = seq.start[s + 1] - n0;
            size_t size = (size_t)len * HS;
            A* q = attention_scratch<A>(3 * size + (size_t)TQ * (TK + HS));                    // (len, HS)
            A *k = q + size, *v = k + size, *p = v + size, *o = p + (size_t)TQ * TK;           // p (TQ, TK)
            const T *x = qkv + n0 * (C + 2 * KV), *y = x + C + (size_t)(h / (NH / NKV)) * HS;  // v: KV on
            copy_head(q, HS, x + (size_t)h * HS, C + 2 * KV, len, HS, scale);
            copy_head(k, HS, y, C + 2 * KV, len, HS, A(1));
            copy_head(v, HS, y + KV, C + 2 * KV, len, HS, A(1));
            for (int i0 = 0; i0 < len; i0 += TQ) {
                int rows = std::min(TQ, len - i0), first = std::max(0, i0 - reach.before);
                int keys = std::min(len, i0 + rows + reach.after);  // [first, keys): what these queries see
                A row_max[TQ], sum[TQ];  // of each query so far: largest score, Σ exp(score − row_max)
                std::fill(row_max, row_max + TQ, -INFINITY);
                std::fill(sum, sum + TQ, A(0));
                std::fill(o, o + (size_t)TQ * HS, A(0));
                for (int j0 = first; j0 < keys; j0 += TK) {
                    int cols = std::min(TK, keys - j0);
                    gemm(false, true, rows, cols, HS, q + (size_t)i0 * HS, HS, k + (size_t)j0 * HS, HS, A(0), p, TK);
                    for (int i = 0; i < rows; i++) {
                        A* x = p + (size_t)i * TK;  // (cols)
                        A new_max = row_max[i], add = 0;
                        int unseen = std::clamp(i0 + i - reach.before - j0, 0, cols);
                        int seen = std::clamp(i0 + i + 1 + reach.after - j0, 0, cols);  // keys [unseen, seen)
                        for (int j = unseen; j < seen; j++) new_max = x[j] > new_max ? x[j] : new_max;
                        A rescale = row_max[i] == -INFINITY ? A(0) : vec_exp(row_max[i] - new_max);
                        for (int j = unseen; j < seen; j++) {
                            x[j] = vec_exp(x[j] - new_max);
                            add += x[j];
                        }
                        std::fill(x, x + unseen, A(0));
                        std::fill(x + seen, x + cols, A(0));
                        if (dropout.p > 0) {
                            DropoutRow drop(dropout, n0 + i0 + i, NH, h);
                            for (int j = unseen; j < seen; j++) x[j] *= drop(j0 + j);
                        }
                        row_max[i] = new_max;
                        sum[i] = sum[i] * rescale + add;
                        if (j0 > first)
                            for (int c = 0; c < HS; c++) o[(size_t)i * HS + c] *= rescale;
                    }
                    gemm(false, false, rows, HS, cols, p, TK, v + (size_t)j0 * HS, HS, A(1), o, HS);
                }
                for (int i = 0; i < rows; i++) {
                    size_t n = n0 + i0 + i;
                    A inv_sum = 1 / sum[i];
                    for (int c = 0; c < HS; c++) out[n * C + (size_t)h * HS + c] = o[(size_t)i * HS + c] * inv_sum;
                    lse[(size_t)h * seq.N + n] = row_max[i] + std::log(sum[i]);
                }
            }
        }
}

// dqkv(N, NH + 2 NKV, HS) = ; dout, out (N, NH, HS); lse(NH, N). delta(NH, N) is scratch.
template <class T> void attention_backward(T* dqkv, acc<T>* delta, const T* dout, const T* out, const T* qkv,
    const acc<T>* lse, Sequences seq, int NH, int NKV, int HS, Reach reach, Dropout dropout) {
    typedef acc<T> A;
    size_t C = (size_t)NH * HS, KV = (size_t)NKV * HS, row = C + 2 * KV;
    A scale = 1 / std::sqrt((A)HS);
#pragma omp parallel for collapse(2) schedule(dynamic, 1)
    for (int s = 0; s < seq.S; s++)
        for (int kv = 0; kv < NKV; kv++) {
            int n0 = seq.start[s], len = seq.start[s + 1] - n0;
            size_t size = (size_t)len * HS, to_k = n0 * row + C + (size_t)kv * HS;    // of k in qkv; v: KV on
            A* q = attention_scratch<A>(7 * size + (size_t)3 * TQ * TK);              // (len, HS)
            A *k = q + size, *v = k + size, *d = v + size;                            // (len, HS) each
            A *dq = d + size, *dk = dq + size, *dv = dk + size;                       // (len, HS) each
            A *p = dv + size, *pd = p + (size_t)TQ * TK, *ds = pd + (size_t)TQ * TK;  // (TQ, TK) each
            std::fill(dk, dk + 2 * size, A(0));
            copy_head(k, HS, qkv + to_k, row, len, HS, A(1));
            copy_head(v, HS, qkv + to_k + KV, row, len, HS, A(1));
            for (int h = kv * (NH / NKV); h < (kv + 1) * (NH / NKV); h++) {
                size_t to_q = n0 * row + (size_t)h * HS, to_o = n0 * C + (size_t)h * HS;  // of q in qkv, o in out
                const A* lse_h = lse + (size_t)h * seq.N + n0;                            // (len)
                A* delta_h = delta + (size_t)h * seq.N + n0;                              // (len)
                std::fill(dq, dq + size, A(0));
                copy_head(q, HS, qkv + to_q, row, len, HS, scale);
                copy_head(d, HS, dout + to_o, C, len, HS, A(1));
                for (int t = 0; t < len; t++) {
                    A sum = 0;
                    for (int i = 0; i < HS; i++) sum += d[(size_t)t * HS + i] * (A)out[to_o + t * C + i];
                    delta_h[t] = sum;
                }
                for (int i0 = 0; i0 < len; i0 += TQ) {
                    int rows = std::min(TQ, len - i0), first = std::max(0, i0 - reach.before);
                    int keys = std::min(len, i0 + rows + reach.after);  // [first, keys): what these queries see
                    const A *qi = q + (size_t)i0 * HS, *di = d + (size_t)i0 * HS;  // (rows, HS)
                    for (int j0 = first; j0 < keys; j0 += TK) {
                        int cols = std::min(TK, keys - j0);
                        size_t j1 = (size_t)j0 * HS;
                        gemm(false, true, rows, cols, HS, qi, HS, k + j1, HS, A(0), p, TK);
                        gemm(false, true, rows, cols, HS, di, HS, v + j1, HS, A(0), ds, TK);
                        for (int i = 0; i < rows; i++) {
                            A *x = p + (size_t)i * TK, *y = pd + (size_t)i * TK, *z = ds + (size_t)i * TK;  // (cols)
                            int unseen = std::clamp(i0 + i - reach.before - j0, 0, cols);
                            int seen = std::clamp(i0 + i + 1 + reach.after - j0, 0, cols);  // keys [unseen, seen)
                            A l = lse_h[i0 + i], del = delta_h[i0 + i];
                            auto gradient = [&](auto drop) {
                                for (int j = unseen; j < seen; j++) {
                                    A w = vec_exp(x[j] - l), drop_scale = drop(j0 + j);
                                    y[j] = w * drop_scale;
                                    z[j] = w * (z[j] * drop_scale - del);
                                }
                            };
                            if (dropout.p > 0) gradient(DropoutRow(dropout, n0 + i0 + i, NH, h));
                            else gradient([](int) { return A(1); });
                            for (int j = 0; j < cols; j++)
                                if (j < unseen || j >= seen) y[j] = z[j] = 0;
                        }
                        // q holds q/√HS, so dk = dsᵀ q has its factor already; dq takes it at the end
                        gemm(true, false, cols, HS, rows, pd, TK, di, HS, A(1), dv + j1, HS);
                        gemm(true, false, cols, HS, rows, ds, TK, qi, HS, A(1), dk + j1, HS);
                        gemm(false, false, rows, HS, cols, ds, TK, k + j1, HS, A(1), dq + (size_t)i0 * HS, HS);
                    }
                }
                copy_head(dqkv + to_q, row, dq, HS, len, HS, scale);
            }
            copy_head(dqkv + to_k, row, dk, HS, len, HS, A(1));
            copy_head(dqkv + to_k + KV, row, dv, HS, len, HS, A(1));
        }
}

// Keys and values of sequence s of qkv(N, NH + 2 NKV, HS) into slot slots[s], from position 0 on; slots(S)
template <class T>
void attention_cache(KvCacheView<T> cache, const T* qkv, Sequences seq, const int* slots, int NH, int NKV, int HS) {
    size_t C = (size_t)NH * HS, KV = (size_t)NKV * HS;
    for (int s = 0; s < seq.S; s++)
        for (int t = 0; t < seq.start[s + 1] - seq.start[s]; t++)
            for (int h = 0; h < NKV; h++) {
                const T* x = qkv + (seq.start[s] + t) * (C + 2 * KV) + C + (size_t)h * HS;  // (HS) of k; v: KV on
                size_t to = (((size_t)slots[s] * NKV + h) * cache.context + t) * HS;
                memcpy((void*)(cache.k + to), (const void*)x, HS * sizeof(T));
                memcpy((void*)(cache.v + to), (const void*)(x + KV), HS * sizeof(T));
            }
}
// out(R, NH, HS) of R tokens, each the next one of its slot: qkv(R, NH + 2 NKV, HS), slots(R), all different, and
// pos(R), its position. Adds their keys and values to the cache.
template <class T> void attention_decode(
    T* out, KvCacheView<T> cache, const T* qkv, const int* slots, const int* pos, int R, int NH, int NKV, int HS) {
    typedef acc<T> A;
    typedef typename VectorOf<A>::type V;
    constexpr int LANES = 64 / sizeof(A);
    size_t C = (size_t)NH * HS, KV = (size_t)NKV * HS;
    A scale = 1 / std::sqrt((A)HS);
    int G = NH / NKV;  // queries of a group: each key and value is read once for all of them
#pragma omp parallel for collapse(2) schedule(dynamic, 1) if ((size_t)R * C * (pos[0] + 1) >= OMP_MIN_ELEMENTS)
    for (int r = 0; r < R; r++)
        for (int h = 0; h < NKV; h++) {
            const T* q = qkv + r * (C + 2 * KV) + (size_t)h * G * HS;  // (G, HS)
            const T* x = qkv + r * (C + 2 * KV) + C + (size_t)h * HS;  // (HS) of k; v: KV on
            size_t at = ((size_t)slots[r] * NKV + h) * cache.context * HS;
            T *k = cache.k + at, *v = cache.v + at;  // (context, HS)
            int n = pos[r] + 1;
            memcpy((void*)(k + (size_t)(n - 1) * HS), (const void*)x, HS * sizeof(T));
            memcpy((void*)(v + (size_t)(n - 1) * HS), (const void*)(x + KV), HS * sizeof(T));
            A *w = attention_scratch<A>((size_t)G * (n + HS)), *o = w + (size_t)G * n;  // w(G, n), o(G, HS)
            for (int j = 0; j < n; j++) {
                for (int c = 0; c < HS; c += 64 / sizeof(T))
                    __builtin_prefetch((const void*)(v + (size_t)j * HS + c), 0, 2);
                for (int g = 0; g < G; g++) {
                    A s = 0;
                    for (int c = 0; c < HS; c++) s += (A)q[g * HS + c] * (A)k[(size_t)j * HS + c];
                    w[(size_t)g * n + j] = s * scale;
                }
            }
            for (int g = 0; g < G; g++) {
                A *wg = w + (size_t)g * n, row_max = -INFINITY, sum = 0;  // (n): scores, then weights
                for (int j = 0; j < n; j++) row_max = wg[j] > row_max ? wg[j] : row_max;
                for (int j = 0; j < n; j++) wg[j] = vec_exp(wg[j] - row_max);
                for (int j = 0; j < n; j++) sum += wg[j];
                for (int j = 0; j < n; j++) wg[j] /= sum;
            }
            std::fill(o, o + G * HS, A(0));
            constexpr int NEAR = 512;  // values that stay in the cache for all queries of the group
            for (int from = 0; from < n; from += NEAR)
                for (int g = 0, c = 0, to = std::min(from + NEAR, n); g < G; g++, c = 0) {
                    A *og = o + g * HS, *wg = w + (size_t)g * n;
                    // og[c, c + W LANES) += Σⱼ wg[j] v[j, …), the sums in registers
                    auto weigh = [&](auto W) {
                        V sum[W()], x;
                        memcpy((void*)sum, (const void*)(og + c), sizeof sum);
                        for (int j = from; j < to; j++)
                            for (int i = 0; i < W(); i++) {
                                load_vector<LANES>(x, v + (size_t)j * HS + c + i * LANES);
                                sum[i] += wg[j] * x;
                            }
                        memcpy((void*)(og + c), (const void*)sum, sizeof sum);
                    };
                    for (; c + 4 * LANES <= HS; c += 4 * LANES) weigh(std::integral_constant<int, 4>());
                    for (; c + LANES <= HS; c += LANES) weigh(std::integral_constant<int, 1>());
                    for (; c < HS; c++)
                        for (int j = from; j < to; j++) og[c] += wg[j] * (A)v[(size_t)j * HS + c];
                }
            for (int i = 0; i < G * HS; i++) out[r * C + (size_t)h * G * HS + i] = o[i];
        }
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/reduce.cuh"
#include "common/ops/flash.cuh"
namespace gpu {
// All arithmetic is fp32. A block of 256 threads works on tiles of 64 rows (queries or keys) in shared memory. It is a
// square of 16 × 16 threads: thread (y, x) has rows 4y … 4y+3 of a tile of results, and columns x, x+16, x+32, …; so a
// row of results belongs to 16 lanes of one warp.
constexpr int TILE = 64, TILE_P = TILE + 4;   // rows of a tile; floats between rows of a tile of scores
constexpr int TILES = ATTENTION_TILE / TILE;  // blocks per entry of the work list
template <int HS>
constexpr int TILE_HS = HS + 4;  // floats between rows of a tile of vectors: 16-byte loads hit different banks

// tile(64, HS) = factor · rows [row, row+64) of x, zeros from `end` on; `stride` elements from row to row
template <int HS>
__device__ inline void load_tile(float* tile, const float* x, int row, int end, size_t stride, float factor) {
    for (int i = threadIdx.x; i < TILE * HS / 4; i += blockDim.x) {
        int r = i / (HS / 4), c = i % (HS / 4) * 4;
        float v[4] = {};
        if (row + r < end) load<4>(v, x + (size_t)(row + r) * stride + c);
        for (int k = 0; k < 4; k++) v[k] *= factor;
        store<4>(tile + r * TILE_HS<HS> + c, v);
    }
}
// s[i][j] += a[4y+i] · b[x+16j]: 4 × 4 products of rows of two tiles of vectors
template <int HS> __device__ inline void tile_dot(float s[4][4], const float* a, const float* b) {
    int x = threadIdx.x % 16, y = threadIdx.x / 16;
    for (int c = 0; c < HS; c += 4) {
        float u[4][4], v[4][4];
        for (int i = 0; i < 4; i++) load<4>(u[i], a + (4 * y + i) * TILE_HS<HS> + c);
        for (int j = 0; j < 4; j++) load<4>(v[j], b + (x + 16 * j) * TILE_HS<HS> + c);
        UNROLL
        for (int i = 0; i < 4; i++) UNROLL
        for (int j = 0; j < 4; j++) UNROLL
        for (int k = 0; k < 4; k++) s[i][j] += u[i][k] * v[j][k];
    }
}
// o[i][e] += Σ_j p[4y+i][j] b[j][x+16e] over the first `n` rows of b: a tile of scores times a tile of vectors
template <int HS> __device__ inline void tile_multiply(float o[4][HS / 16], const float* p, const float* b, int n) {
    int x = threadIdx.x % 16, y = threadIdx.x / 16;
    for (int j = 0; j < n; j += 4) {
        float w[4][4];
        for (int i = 0; i < 4; i++) load<4>(w[i], p + (4 * y + i) * TILE_P + j);
        UNROLL
        for (int k = 0; k < 4; k++) UNROLL
        for (int e = 0; e < HS / 16; e++) {
            float v = b[(j + k) * TILE_HS<HS> + x + 16 * e];
            for (int i = 0; i < 4; i++) o[i][e] += w[i][k] * v;
        }
    }
}
// leaves the 4 × 4 scores of every thread in shared memory for tile_multiply
__device__ inline void store_scores(float* p, const float s[4][4]) {
    int x = threadIdx.x % 16, y = threadIdx.x / 16;
    __syncwarp();  // the rows of a warp are its own: the warp has used what it put there before …
    UNROLL
    for (int i = 0; i < 4; i++) UNROLL
    for (int j = 0; j < 4; j++) p[(4 * y + i) * TILE_P + x + 16 * j] = s[i][j];
    __syncwarp();  // … and sees all of what it puts there now
}
template <int HS> constexpr size_t attention_forward_shared = (2 * TILE * TILE_HS<HS> + TILE * TILE_P) * sizeof(float);
template <int HS> constexpr size_t attention_backward_shared = (4 * TILE * TILE_HS<HS> + TILE * TILE_P) * sizeof(float);

// One block per 64 queries of one head. The queries stay in shared memory, their outputs, largest scores and sums in
// registers; the keys come by in tiles of 64, followed by their values in the same place.
template <int HS> __global__ void __launch_bounds__(256, HS == 32 ? 3 : 2) attention_forward_kernel(
    float* out, float* lse, const float* qkv, Sequences seq, int NH, int NKV, Reach reach, Dropout dropout) {
    constexpr int E = HS / 16;
    DYNAMIC_SHARED(float, q);                                          // (64, HS)
    float *kv = q + TILE * TILE_HS<HS>, *p = kv + TILE * TILE_HS<HS>;  // (64, HS), (64, 64)
    const int* entry = seq.tiles + 2 * (blockIdx.x / TILES);
    int s = entry[0], i0 = entry[1] + (int)(blockIdx.x % TILES) * TILE, h = blockIdx.y;
    if (s < 0) return;  // the whole block
    int n0 = seq.start[s], len = seq.start[s + 1] - n0, x = threadIdx.x % 16, y = threadIdx.x / 16;
    if (i0 >= len) return;
    size_t C = (size_t)NH * HS, KV = (size_t)NKV * HS, row = C + 2 * KV;
    const float* queries = qkv + n0 * row + (size_t)h * HS;                  // (len, HS), rows `row` elements apart
    const float* keys = qkv + n0 * row + C + (size_t)(h / (NH / NKV)) * HS;  // the same; values: KV on
    load_tile<HS>(q, queries, i0, len, row, 1.0f / sqrtf((float)HS));
    float o[4][E] = {}, sum[4] = {}, row_max[4];
    for (float& m : row_max) m = -1e30f;  // below every score, but a number: a query may see nothing of a tile
    int end = min(len, i0 + TILE + reach.after);
    for (int j0 = max(0, i0 - reach.before) / TILE * TILE; j0 < end; j0 += TILE) {
        __syncthreads();  // everybody is done with the values of the tile before
        load_tile<HS>(kv, keys, j0, len, row, 1.0f);
        __syncthreads();  // the keys (and, the first time, the queries) are there
        float score[4][4] = {};
        tile_dot<HS>(score, q, kv);
        UNROLL
        for (int i = 0; i < 4; i++) {
            int query = i0 + 4 * y + i, unseen = query - reach.before, seen = min(query + 1 + reach.after, len);
            float new_max = row_max[i], add = 0;
            UNROLL
            for (int j = 0; j < 4; j++)
                if (int key = j0 + x + 16 * j; key >= unseen && key < seen) new_max = fmaxf(new_max, score[i][j]);
            new_max = warp_max<16>(new_max);
            UNROLL
            for (int j = 0; j < 4; j++) {
                int key = j0 + x + 16 * j;
                score[i][j] = key >= unseen && key < seen ? vec_exp(score[i][j] - new_max) : 0.0f;
                add += score[i][j];
            }
            add = warp_sum<16>(add);
            float rescale = vec_exp(row_max[i] - new_max);
            row_max[i] = new_max;
            sum[i] = sum[i] * rescale + add;
            UNROLL
            for (int e = 0; e < E; e++) o[i][e] *= rescale;
            if (dropout.p > 0) {
                DropoutRow drop(dropout, n0 + query, NH, h);
                for (int j = 0; j < 4; j++) score[i][j] *= drop(j0 + x + 16 * j);
            }
        }
        store_scores(p, score);
        __syncthreads();  // everybody is done with the keys
        load_tile<HS>(kv, keys + KV, j0, len, row, 1.0f);
        __syncthreads();  // the values are there
        tile_multiply<HS>(o, p, kv, min(TILE, end - j0));
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        int query = i0 + 4 * y + i;
        if (query >= len) continue;
        float inv_sum = 1.0f / sum[i];
        UNROLL
        for (int e = 0; e < E; e++) out[(size_t)(n0 + query) * C + (size_t)h * HS + x + 16 * e] = (o[i][e] * inv_sum);
        if (x == 0) lse[(size_t)h * seq.N + n0 + query] = row_max[i] + logf(sum[i]);
    }
}

// delta(NH, N): 16 bytes of dout and of out a lane, as many lanes per token and head as that takes
template <int HS, class T>
__global__ void attention_delta_kernel(float* delta, const T* dout, const T* out, int N, int NH) {
    constexpr int W = 16 / sizeof(T), LANES = HS / W;
    size_t thread = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned i = (unsigned)min(thread / LANES, (size_t)N * NH - 1);  // token · NH + head
    size_t at = (size_t)i * HS + thread % LANES * W;
    float a[W], b[W], sum = 0;
    load<W>(a, dout + at);
    load<W>(b, out + at);
    for (int c = 0; c < W; c++) sum += a[c] * b[c];
    sum = warp_sum<LANES>(sum);
    if (thread == (size_t)i * LANES) delta[(size_t)(i % NH) * N + i / NH] = sum;
}
template <int HS, class T> void attention_delta(float* delta, const T* dout, const T* out, int N, int NH) {
    size_t threads = (size_t)N * NH * HS * sizeof(T) / 16;
    launch(attention_delta_kernel<HS, T>, ceil_div(threads, THREADS), THREADS, 0, delta, dout, out, N, NH);
}

// One block per 64 queries of one head: dq. With KEYS one per 64 keys of one head: dk and dv. Its rows, q and do or k
// and v, stay, and so do the sums; the columns come by: keys and values, or the queries that see these keys and their
// do, of one head of the group after the other. So with KEYS the scores lie on their side.
template <int HS, bool KEYS> __global__ void __launch_bounds__(256)
    attention_backward_kernel(float* dqkv, const float* delta, const float* dout, const float* qkv, const float* lse,
        Sequences seq, int NH, int NKV, Reach reach, Dropout dropout) {
    constexpr int E = HS / 16, SIZE = TILE * TILE_HS<HS>;
    DYNAMIC_SHARED(float, q);                                          // (64, HS)
    float *d = q + SIZE, *k = d + SIZE, *v = k + SIZE, *p = v + SIZE;  // (64, HS) each; p (64, 64)
    const int* entry = seq.tiles + 2 * (blockIdx.x / TILES);
    int s = entry[0], row0 = entry[1] + (int)(blockIdx.x % TILES) * TILE;
    if (s < 0) return;  // the whole block
    int n0 = seq.start[s], len = seq.start[s + 1] - n0, x = threadIdx.x % 16, y = threadIdx.x / 16;
    if (row0 >= len) return;
    int group = NH / NKV, h0 = KEYS ? blockIdx.y * group : blockIdx.y;
    size_t C = (size_t)NH * HS, KV = (size_t)NKV * HS, row = C + 2 * KV;
    size_t to_q = n0 * row + (size_t)h0 * HS, to_k = n0 * row + C + (size_t)(h0 / group) * HS;  // in qkv; v: KV on
    float scale = 1.0f / sqrtf((float)HS), dqk[4][E] = {}, dv[4][E] = {};                       // dqk: of q, or of k
    auto load_queries = [&](int h, int i0) {
        load_tile<HS>(q, qkv + n0 * row + (size_t)h * HS, i0, len, row, scale);
        load_tile<HS>(d, dout + n0 * C + (size_t)h * HS, i0, len, C, 1.0f);
    };
    auto load_keys = [&](int j0) {
        load_tile<HS>(k, qkv + to_k, j0, len, row, 1.0f);
        load_tile<HS>(v, qkv + to_k + KV, j0, len, row, 1.0f);
    };
    if (KEYS) load_keys(row0);
    else load_queries(h0, row0);
    int begin = max(0, row0 - (KEYS ? reach.after : reach.before)) / TILE * TILE;
    int end = min(len, row0 + TILE + (KEYS ? reach.before : reach.after));
    int tiles = (end - begin + TILE - 1) / TILE;
    for (int i = 0; i < (KEYS ? group : 1) * tiles; i++) {
        int h = h0 + i / tiles, col0 = begin + i % tiles * TILE;
        __syncthreads();  // everybody is done with the tile before
        if (KEYS) load_queries(h, col0);
        else load_keys(col0);
        __syncthreads();  // all four tiles are there
        float score[4][4] = {}, dp[4][4] = {};
        tile_dot<HS>(score, KEYS ? k : q, KEYS ? q : k);
        tile_dot<HS>(dp, KEYS ? v : d, KEYS ? d : v);
        UNROLL
        for (int a = 0; a < 4; a++) {  // queries, then keys of this thread
            int query = KEYS ? col0 + x + 16 * a : row0 + 4 * y + a, known = min(query, len - 1);
            float l = lse[(size_t)h * seq.N + n0 + known], del = delta[(size_t)h * seq.N + n0 + known];
            DropoutRow drop(dropout, n0 + known, NH, h);
            UNROLL
            for (int b = 0; b < 4; b++) {
                int key = KEYS ? row0 + 4 * y + b : col0 + x + 16 * b;
                bool sees = query < len && key < len && key >= query - reach.before && key <= query + reach.after;
                float &s_ij = KEYS ? score[b][a] : score[a][b], &dp_ij = KEYS ? dp[b][a] : dp[a][b];
                float drop_ij = dropout.p > 0 ? drop(key) : 1.0f, w = sees ? vec_exp(s_ij - l) : 0.0f;
                s_ij = w * drop_ij;
                dp_ij = w * (dp_ij * drop_ij - del);
            }
        }
        if (KEYS) {
            store_scores(p, score);
            tile_multiply<HS>(dv, p, d, min(TILE, end - col0));
        }
        store_scores(p, dp);
        tile_multiply<HS>(dqk, p, KEYS ? q : k, min(TILE, end - col0));  // q holds q/√HS: the factor is in dk
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        if (row0 + 4 * y + i >= len) continue;
        float* to = dqkv + (KEYS ? to_k : to_q) + (row0 + 4 * y + i) * row;  // (HS) of dq or dk; dv: KV on
        UNROLL
        for (int e = 0; e < E; e++) {
            to[x + 16 * e] = KEYS ? dqk[i][e] : dqk[i][e] * scale;
            if (KEYS) to[KV + x + 16 * e] = dv[i][e];
        }
    }
}

// one block per sequence and head, a thread per element at a time
template <class T> __global__ void attention_cache_kernel(
    KvCacheView<T> cache, const T* qkv, Sequences seq, const int* slots, int NH, int NKV, int HS) {
    int s = blockIdx.x, h = blockIdx.y, n0 = seq.start[s], len = seq.start[s + 1] - n0;
    if (len == 0) return;  // it only fills the list
    size_t C = (size_t)NH * HS, KV = (size_t)NKV * HS, to = ((size_t)slots[s] * NKV + h) * cache.context * HS;
    for (int i = threadIdx.x; i < len * HS; i += blockDim.x) {
        const T* x = qkv + (n0 + i / HS) * (C + 2 * KV) + C + (size_t)h * HS + i % HS;  // of k; v: KV on
        cache.k[to + i] = x[0];
        cache.v[to + i] = x[KV];
    }
}
// One block of 128 threads per row and head. The keys come by in tiles of 128, one a thread, which leaves its weight in
// shared memory; the values are then summed by 128 / HS groups of threads, a thread per channel, each group over every
// (128 / HS)-th key. The blocks of a group start together, so that keys and values come from memory once, then from the
// cache. The first of them adds this token's; as nobody waits for it, all take that one from qkv.
template <int HS, class T> __global__ void __launch_bounds__(128) attention_decode_kernel(
    T* out, KvCacheView<T> cache, const T* qkv, const int* slots, const int* pos, int NH, int NKV) {
    constexpr int KEYS = 128, GROUPS = KEYS / HS, W = 16 / sizeof(T);
    __shared__ float q[HS], p[KEYS], part[KEYS];
    int r = blockIdx.x, h = blockIdx.y, t = threadIdx.x, n = pos[r] + 1;
    int G = NH / NKV, kv = h / G;
    size_t C = (size_t)NH * HS, KV = (size_t)NKV * HS, at = ((size_t)slots[r] * NKV + kv) * cache.context * HS;
    T *k = cache.k + at, *v = cache.v + at;                             // (context, HS)
    const T* token = qkv + r * (C + 2 * KV);                            // (NH + 2 NKV, HS)
    const T *own_k = token + C + (size_t)kv * HS, *own_v = own_k + KV;  // (HS) each
    if (t < HS) {
        q[t] = (float)token[(size_t)h * HS + t] * (1.0f / sqrtf((float)HS));
        if (h % G == 0) {
            k[(size_t)(n - 1) * HS + t] = own_k[t];
            v[(size_t)(n - 1) * HS + t] = own_v[t];
        }
    }
    __syncthreads();  // the query is there
    float o = 0, row_max = -INFINITY, sum = 0;
    int channel = t % HS, group = t / HS;
    for (int j0 = 0; j0 < n; j0 += KEYS) {
        int j = j0 + t;
        float s = -INFINITY;
        if (j < n) {
            s = 0;
            const T* key = j == n - 1 ? own_k : k + (size_t)j * HS;  // (HS)
            for (int c = 0; c < HS; c += W) {
                float x[W];
                load<W>(x, key + c);
                for (int i = 0; i < W; i++) s += q[c + i] * x[i];
            }
        }
        float new_max = fmaxf(row_max, block_max(s));  // its barriers: the values before are summed
        float w = j < n ? vec_exp(s - new_max) : 0.0f;
        float rescale = j0 == 0 ? 0.0f : vec_exp(row_max - new_max);
        p[t] = w;
        sum = sum * rescale + block_sum(w);  // its barriers also let everybody see p
        row_max = new_max;
        o *= rescale;
        for (int i = group; i < min(KEYS, n - 1 - j0); i += GROUPS)
            o += p[i] * (float)v[(size_t)(j0 + i) * HS + channel];
    }
    if (group == (n - 1) % KEYS % GROUPS) o += p[(n - 1) % KEYS] * (float)own_v[channel];
    part[t] = o;
    __syncthreads();  // all groups have left their sums
    if (t >= HS) return;
    for (int g = 1; g < GROUPS; g++) o += part[g * HS + t];
    out[(size_t)r * C + (size_t)h * HS + t] = (T)(o / sum);
}

template <class T> void attention_forward(
    T* out, float* lse, const T* qkv, Sequences seq, int NH, int NKV, int HS, Reach reach, Dropout dropout) {
    pick_head_size(HS, [&](auto hs) {
        if constexpr (std::is_same_v<T, bf16>) flash_forward<hs()>(out, lse, qkv, seq, NH, NKV, reach, dropout);
        else
            launch(attention_forward_kernel<hs()>, dim3(TILES * seq.W, NH), 256, attention_forward_shared<hs()>, out,
                lse, qkv, seq, NH, NKV, reach, dropout);
    });
}
template <class T> void attention_backward(T* dqkv, float* delta, const T* dout, const T* out, const T* qkv,
    const float* lse, Sequences seq, int NH, int NKV, int HS, Reach reach, Dropout dropout) {
    pick_head_size(HS, [&](auto hs) {
        attention_delta<hs()>(delta, dout, out, seq.N, NH);
        if constexpr (std::is_same_v<T, bf16>) {
            flash_backward<hs()>(dqkv, delta, dout, qkv, lse, seq, NH, NKV, reach, dropout);
        } else {
            launch(attention_backward_kernel<hs(), false>, dim3(TILES * seq.W, NH), 256,
                attention_backward_shared<hs()>, dqkv, delta, dout, qkv, lse, seq, NH, NKV, reach, dropout);
            launch(attention_backward_kernel<hs(), true>, dim3(TILES * seq.W, NKV), 256,
                attention_backward_shared<hs()>, dqkv, delta, dout, qkv, lse, seq, NH, NKV, reach, dropout);
        }
    });
}
template <class T>
void attention_cache(KvCacheView<T> cache, const T* qkv, Sequences seq, const int* slots, int NH, int NKV, int HS) {
    launch(attention_cache_kernel<T>, dim3(seq.S, NKV), 1024, 0, cache, qkv, seq, slots, NH, NKV, HS);
}
template <class T> void attention_decode(
    T* out, KvCacheView<T> cache, const T* qkv, const int* slots, const int* pos, int R, int NH, int NKV, int HS) {
    pick_head_size(HS, [&](auto hs) {
        launch(attention_decode_kernel<hs(), T>, dim3(R, NH), 128, 0, out, cache, qkv, slots, pos, NH, NKV);
    });
}
}  // namespace gpu
#endif
