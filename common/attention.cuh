// attention.cuh: scaled dot-product attention (Vaswani et al. 2017) over packed sequences, in tiles (Dao et al. 2022).
//
// For each sequence, head and query i, over the keys j of the same sequence (causal: j ≤ i):
//   s_ij = q_i · k_j / √HS        p_ij = exp(s_ij − lse_i),   lse_i = log Σ_j exp(s_ij)        o_i = Σ_j drop_ij p_ij v_j
// Backward, with delta_i = do_i · o_i  (equal to Σ_j p_ij dp_ij, also under dropout):
//   dp_ij = drop_ij (do_i · v_j)      ds_ij = p_ij (dp_ij − delta_i) / √HS
//   dq_i = Σ_j ds_ij k_j              dk_j = Σ_i ds_ij q_i                  dv_j = Σ_i drop_ij p_ij do_i
// drop_ij is 0 or 1/(1−p), drawn from (token and head of the query, j). No T×T matrix is ever in memory: p is recomputed from lse.
//
// qkv(N, 3, NH, HS) holds q, k, v of a token side by side, as one matrix product leaves them.
#pragma once
#include "dropout.cuh"
#include "matmul.cuh"

constexpr int ATTENTION_TILE = 64;  // queries of one entry of the work list

// The sequences of a batch; arrays in device memory. Unused capacity is filled up with entries that mean nothing to do.
struct Sequences {
    const int* start;  // (S+1)  sequence s is tokens [start[s], start[s+1])
    const int* tiles;  // (W, 2) work list: sequence, first query of the tile counted from the sequence's start; sequence −1: nothing
    int S, W;
    int N;             // tokens
    int longest;       // tokens of the longest sequence
};

namespace cpu {
constexpr int TQ = 64, TK = 256;  // queries and keys of a tile of scores

// Room for one head of one sequence, one per thread; grows to the longest sequence and is kept.
template <class A>
A* attention_room(size_t n) {
    static thread_local std::vector<A> room;
    if (room.size() < n) room.resize(n);
    return room.data();
}

// out(N, NH, HS), lse(NH, N)
template <class T>
void attention_forward(T* out, acc<T>* lse, const T* qkv, Sequences seq, int NH, int HS, bool causal, Dropout dropout) {
    typedef acc<T> A;
    size_t C = (size_t)NH * HS;
    A scale = 1 / std::sqrt((A)HS);
    #pragma omp parallel for collapse(2) schedule(dynamic, 1)
    for (int s = 0; s < seq.S; s++)
        for (int h = 0; h < NH; h++) {
            int n0 = seq.start[s], len = seq.start[s + 1] - n0;
            A* q = attention_room<A>((size_t)3 * len * HS + (size_t)TQ * (TK + HS));
            A *k = q + (size_t)len * HS, *v = k + (size_t)len * HS;      // (len, HS) each
            A *p = v + (size_t)len * HS, *o = p + (size_t)TQ * TK;       // (TQ, TK), (TQ, HS)
            for (int t = 0; t < len; t++) {
                const T* x = qkv + (size_t)(n0 + t) * 3 * C + (size_t)h * HS;
                for (int i = 0; i < HS; i++) {
                    q[(size_t)t * HS + i] = (A)x[i] * scale;
                    k[(size_t)t * HS + i] = (A)x[C + i];
                    v[(size_t)t * HS + i] = (A)x[2 * C + i];
                }
            }
            for (int i0 = 0; i0 < len; i0 += TQ) {
                int rows = std::min(TQ, len - i0), keys = causal ? i0 + rows : len;
                A top[TQ], sum[TQ];  // of each query so far: largest score, Σ exp(score − top)
                std::fill(top, top + TQ, -INFINITY);
                std::fill(sum, sum + TQ, A(0));
                std::fill(o, o + (size_t)TQ * HS, A(0));
                for (int j0 = 0; j0 < keys; j0 += TK) {
                    int cols = std::min(TK, keys - j0);
                    gemm(false, true, rows, cols, HS, q + (size_t)i0 * HS, HS, k + (size_t)j0 * HS, HS, A(0), p, TK);
                    for (int i = 0; i < rows; i++) {
                        A *x = p + (size_t)i * TK, best = top[i], add = 0;
                        int seen = causal ? std::clamp(i0 + i + 1 - j0, 0, cols) : cols;
                        for (int j = 0; j < seen; j++) best = x[j] > best ? x[j] : best;
                        A keep = top[i] == -INFINITY ? A(0) : vec_exp(top[i] - best);
                        for (int j = 0; j < seen; j++) {
                            x[j] = vec_exp(x[j] - best);
                            add += x[j];
                        }
                        for (int j = seen; j < cols; j++) x[j] = 0;
                        if (dropout.p > 0) {
                            DropoutRow drop(dropout, n0 + i0 + i, NH, h);
                            for (int j = 0; j < seen; j++) x[j] *= drop(j0 + j);
                        }
                        top[i] = best;
                        sum[i] = sum[i] * keep + add;
                        if (j0 > 0) for (int c = 0; c < HS; c++) o[(size_t)i * HS + c] *= keep;
                    }
                    gemm(false, false, rows, HS, cols, p, TK, v + (size_t)j0 * HS, HS, A(1), o, HS);
                }
                for (int i = 0; i < rows; i++) {
                    size_t n = n0 + i0 + i;
                    A by = 1 / sum[i];
                    for (int c = 0; c < HS; c++) out[n * C + (size_t)h * HS + c] = o[(size_t)i * HS + c] * by;
                    lse[(size_t)h * seq.N + n] = top[i] + std::log(sum[i]);
                }
            }
        }
}

// dqkv(N, 3, NH, HS) = ; dout, out (N, NH, HS); lse(NH, N). delta(NH, N) is scratch.
template <class T>
void attention_backward(T* dqkv, acc<T>* delta, const T* dout, const T* out, const T* qkv, const acc<T>* lse, Sequences seq, int NH, int HS, bool causal,
                        Dropout dropout) {
    typedef acc<T> A;
    size_t C = (size_t)NH * HS;
    A scale = 1 / std::sqrt((A)HS);
    #pragma omp parallel for collapse(2) schedule(dynamic, 1)
    for (int s = 0; s < seq.S; s++)
        for (int h = 0; h < NH; h++) {
            int n0 = seq.start[s], len = seq.start[s + 1] - n0;
            size_t size = (size_t)len * HS;
            A* q = attention_room<A>(7 * size + (size_t)3 * TQ * TK);
            A *k = q + size, *v = k + size, *d = v + size, *dq = d + size, *dk = dq + size, *dv = dk + size;  // (len, HS) each
            A *p = dv + size, *pd = p + (size_t)TQ * TK, *ds = pd + (size_t)TQ * TK;                         // (TQ, TK) each
            std::fill(dq, dq + 3 * size, A(0));
            for (int t = 0; t < len; t++) {
                size_t n = n0 + t;
                const T *x = qkv + n * 3 * C + (size_t)h * HS, *y = dout + n * C + (size_t)h * HS, *o = out + n * C + (size_t)h * HS;
                A sum = 0;
                for (int i = 0; i < HS; i++) {
                    q[(size_t)t * HS + i] = (A)x[i] * scale;
                    k[(size_t)t * HS + i] = (A)x[C + i];
                    v[(size_t)t * HS + i] = (A)x[2 * C + i];
                    d[(size_t)t * HS + i] = (A)y[i];
                    sum += (A)y[i] * (A)o[i];
                }
                delta[(size_t)h * seq.N + n] = sum;
            }
            for (int i0 = 0; i0 < len; i0 += TQ) {
                int rows = std::min(TQ, len - i0), keys = causal ? i0 + rows : len;
                for (int j0 = 0; j0 < keys; j0 += TK) {
                    int cols = std::min(TK, keys - j0);
                    gemm(false, true, rows, cols, HS, q + (size_t)i0 * HS, HS, k + (size_t)j0 * HS, HS, A(0), p, TK);
                    gemm(false, true, rows, cols, HS, d + (size_t)i0 * HS, HS, v + (size_t)j0 * HS, HS, A(0), ds, TK);
                    for (int i = 0; i < rows; i++) {
                        size_t n = n0 + i0 + i;
                        A *x = p + (size_t)i * TK, *y = pd + (size_t)i * TK, *z = ds + (size_t)i * TK;
                        A l = lse[(size_t)h * seq.N + n], del = delta[(size_t)h * seq.N + n];
                        int seen = causal ? std::clamp(i0 + i + 1 - j0, 0, cols) : cols;
                        if (dropout.p > 0) {
                            DropoutRow drop(dropout, n, NH, h);
                            for (int j = 0; j < seen; j++) {
                                A w = vec_exp(x[j] - l), keep = drop(j0 + j);
                                y[j] = w * keep;
                                z[j] = w * (z[j] * keep - del);
                            }
                        } else {
                            for (int j = 0; j < seen; j++) {
                                A w = vec_exp(x[j] - l);
                                y[j] = w;
                                z[j] = w * (z[j] - del);
                            }
                        }
                        for (int j = seen; j < cols; j++) y[j] = z[j] = 0;
                    }
                    // q holds q/√HS, so dk = dsᵀ q has its factor already; dq takes it at the end
                    gemm(true, false, cols, HS, rows, pd, TK, d + (size_t)i0 * HS, HS, A(1), dv + (size_t)j0 * HS, HS);
                    gemm(true, false, cols, HS, rows, ds, TK, q + (size_t)i0 * HS, HS, A(1), dk + (size_t)j0 * HS, HS);
                    gemm(false, false, rows, HS, cols, ds, TK, k + (size_t)j0 * HS, HS, A(1), dq + (size_t)i0 * HS, HS);
                }
            }
            for (int t = 0; t < len; t++) {
                T* y = dqkv + (size_t)(n0 + t) * 3 * C + (size_t)h * HS;
                for (int i = 0; i < HS; i++) {
                    y[i] = dq[(size_t)t * HS + i] * scale;
                    y[C + i] = dk[(size_t)t * HS + i];
                    y[2 * C + i] = dv[(size_t)t * HS + i];
                }
            }
        }
}
}  // namespace cpu
