// embedding.cuh: out[n] = wte[token[n]] + wpe[pos[n]] (+ wtt[type[n]]), and the gradients of the three tables.
//
// Backward: dw[id] += Σ dout[n] over the n with that id. Many n may share an id ("the", position 0, type 0), so adding in place would
// need atomics or serialise. Instead the loader sorts the n by id (SortedIds) and cuts each id's list into runs of at most 64:
//   pass 1  every run is summed on its own; a run that is its id's only one goes straight to dw, the others to `partial`
//   pass 2  every id with several runs adds its partial sums to dw, in order
// Deterministic, and no id is a bottleneck.
#pragma once
#include "device.cuh"

constexpr int EMBEDDING_RUN = 64;

// The index of one table's backward pass; arrays in device memory. Unused capacity: runs with start = end, ids with first = last.
struct SortedIds {
    const int* order;      // (N)   token indices, sorted by id, and within an id ascending
    const int* run_start;  // (R+1) run r is order[run_start[r] .. run_start[r+1])
    const int* run_id;     // (R)   the row of the table that run r belongs to
    const int* run_slot;   // (R)   row of `partial` that takes its sum; −1: the id's only run, straight to the table
    int R;
    const int* multi_id;    // (U)  rows of the table that have several runs
    const int* multi_slot;  // (U+1) their partial sums: slots [multi_slot[u], multi_slot[u+1])
    int U;
};
// An id with r ≥ 2 runs has more than 64 (r − 1) ≥ 32 r tokens, so N tokens fill at most N / 32 slots.
constexpr size_t embedding_slots(size_t N) { return N / 32 + 1; }

namespace cpu {
// out(N,C); wte(V,C), wpe(maxT,C), wtt(types,C) or nullptr; tokens, pos, types (N)
template <class T>
void embedding_forward(T* out, const T* wte, const T* wpe, const T* wtt, const int* tokens, const int* pos, const int* types, int N, int C) {
    #pragma omp parallel for if ((size_t)N * C >= PARALLEL)
    for (int n = 0; n < N; n++) {
        T* o = out + (size_t)n * C;                     // (C)
        const T* te = wte + (size_t)tokens[n] * C;      // (C)
        const T* pe = wpe + (size_t)pos[n] * C;         // (C)
        const T* tt = wtt ? wtt + (size_t)types[n] * C : nullptr;
        for (int c = 0; c < C; c++) o[c] = (acc<T>)te[c] + (acc<T>)pe[c] + (tt ? (acc<T>)tt[c] : 0);
    }
}
// dw(rows,C) += sums of dout(N,C) by id; partial(embedding_slots(N),C) is scratch
template <class T>
void embedding_backward(acc<T>* dw, const T* dout, SortedIds ids, acc<T>* partial, int C) {
    #pragma omp parallel for
    for (int r = 0; r < ids.R; r++) {
        int begin = ids.run_start[r], end = ids.run_start[r + 1], slot = ids.run_slot[r];
        if (begin == end) continue;
        acc<T>* to = slot < 0 ? dw + (size_t)ids.run_id[r] * C : partial + (size_t)slot * C;  // (C)
        if (slot >= 0) for (int c = 0; c < C; c++) to[c] = 0;
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
#include "pack.cuh"
#include "reduce.cuh"
namespace gpu {
// one thread per W channels of a token
template <int W, class T>
__global__ void embedding_forward_kernel(T* out, const T* wte, const T* wpe, const T* wtt, const int* tokens, const int* pos, const int* types, int N,
                                         int C) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= (size_t)N * C) return;
    int n = (int)(i / C), c = (int)(i % C);
    float x[W], y[W];
    load<W>(x, wte + (size_t)tokens[n] * C + c);
    load<W>(y, wpe + (size_t)pos[n] * C + c);
    UNROLL for (int k = 0; k < W; k++) x[k] += y[k];
    if (wtt) {
        load<W>(y, wtt + (size_t)types[n] * C + c);
        UNROLL for (int k = 0; k < W; k++) x[k] += y[k];
    }
    store<W>(out + i, x);
}
template <class T>
void embedding_forward(T* out, const T* wte, const T* wpe, const T* wtt, const int* tokens, const int* pos, const int* types, int N, int C) {
    if (N == 0) return;
    pick_width<T>(rows_are_wide<T>(C, out, wte, wpe, wtt), [&](auto w) {
        constexpr int W = decltype(w)::value;
        launch(embedding_forward_kernel<W, T>, (unsigned)ceil_div((size_t)N * C, THREADS * W), THREADS, 0, out, wte, wpe, wtt, tokens, pos, types, N, C);
    });
}

// pass 1: one block per run, a thread per channel; the sum of up to 64 rows stays in a register
template <class T>
__global__ void embedding_runs_kernel(float* dw, const T* dout, SortedIds ids, float* partial, int C) {
    int r = blockIdx.x, begin = ids.run_start[r], end = ids.run_start[r + 1], slot = ids.run_slot[r];
    if (begin == end) return;
    float* to = slot < 0 ? dw + (size_t)ids.run_id[r] * C : partial + (size_t)slot * C;  // (C)
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float sum = slot < 0 ? to[c] : 0.0f;
        for (int i = begin; i < end; i++) sum += (float)dout[(size_t)ids.order[i] * C + c];
        to[c] = sum;
    }
}
// pass 2: one block per id with several runs, a thread per channel
template <int>
__global__ void embedding_partials_kernel(float* dw, SortedIds ids, const float* partial, int C) {
    int u = blockIdx.x, begin = ids.multi_slot[u], end = ids.multi_slot[u + 1];
    if (begin == end) return;
    float* to = dw + (size_t)ids.multi_id[u] * C;  // (C)
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float sum = to[c];
        for (int slot = begin; slot < end; slot++) sum += partial[(size_t)slot * C + c];
        to[c] = sum;
    }
}
template <class T>
void embedding_backward(float* dw, const T* dout, SortedIds ids, float* partial, int C) {
    if (ids.R > 0) launch(embedding_runs_kernel<T>, ids.R, 128, 0, dw, dout, ids, partial, C);
    if (ids.U > 0) launch(embedding_partials_kernel<0>, ids.U, 128, 0, dw, ids, (const float*)partial, C);
}
}  // namespace gpu
#endif
