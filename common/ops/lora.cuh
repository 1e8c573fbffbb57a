// lora.cuh: low-rank adapters (Hu et al. 2021). A frozen weight (OC, C) gets two small matrices that are trained, a (r,
// C) and b (OC, r); b begins as zeros, so that nothing changes at first:
//
//   out += u bᵀ,   u(N,r) = s · dropout(inp) aᵀ,   s = α / r
//   db += doutᵀ u,   du = s · dout b,   da += duᵀ dropout(inp),   dinp += dropout(du a)
//
// Where a weight holds several matrices (query, key, value) each has an adapter of its own. Their a lie one after the
// other, and so do their b: P adapters are a (P r, C), b (Σ rows, r), u (N, P r).
//
// All of it is products and dropout, so these are no kernels of their own: the functions call those of `device`.
#pragma once
#include "common/ops/dropout.cuh"
#include "common/ops/matmul.cuh"

struct LoraPart {
    int begin, rows;  // the rows of the weight that the adapter belongs to
};
template <class X> struct LoraTensors {
    X *a = nullptr, *b = nullptr;  // (P r, C), (Σ rows, r); nullptr: this weight has no adapter
};
struct LoraShape {
    int r = 0;
    float scale = 0;    // s
    LoraPart parts[3];  // of the P adapters
    int P = 0;
    explicit operator bool() const { return P > 0; }
    int width() const { return P * r; }
};

// What the adapters read, in both passes: inp(N,C), or with dropout dropped(N,C), into which it is computed.
template <class T> const T* lora_input(T* dropped, const T* inp, int N, int C, Dropout dropout) {
    if (dropout.p <= 0) return inp;
    device::dropout_forward(dropped, inp, N, C, dropout);
    return dropped;
}
// out(N,OC) += u bᵀ; leaves u(N, P r). dropped(N,C): room, used if there is dropout
template <class T> void lora_forward(T* out, T* u, T* dropped, const T* inp, LoraTensors<T> w, const LoraShape& s,
    int N, int C, int OC, Dropout dropout) {
    if (!s || N == 0) return;
    const T* x = lora_input(dropped, inp, N, C, dropout);
    device::matmul_forward(u, x, (const T*)w.a, (const T*)nullptr, N, C, s.width());
    device::elementwise(Times{s.scale}, (size_t)N * s.width(), u, u);
    const T* b = w.b;
    for (int p = 0; p < s.P; b += (size_t)s.parts[p].rows * s.r, p++)
        device::gemm_of_part(
            false, true, N, s.parts[p].rows, s.r, u + p * s.r, s.width(), b, s.r, T(1), out + s.parts[p].begin, OC);
}
// da, db += and du(N, P r); inp and dout(N,OC) as they were
template <class T> void lora_backward_weight(LoraTensors<acc<T>> g, T* du, T* dropped, const T* dout, const T* inp,
    const T* u, LoraTensors<T> w, const LoraShape& s, int N, int C, int OC, Dropout dropout) {
    if (!s || N == 0) return;
    const T* b = w.b;
    acc<T>* db = g.b;
    for (int p = 0; p < s.P; p++) {
        const LoraPart part = s.parts[p];
        const T* d = dout + part.begin;  // (N, rows) of (N, OC)
        device::gemm_of_part(true, false, part.rows, s.r, N, d, OC, u + p * s.r, s.width(), acc<T>(1), db, s.r);
        device::gemm_of_part(false, false, N, s.r, part.rows, d, OC, b, s.r, T(0), du + p * s.r, s.width());
        b += (size_t)part.rows * s.r;
        db += (size_t)part.rows * s.r;
    }
    device::elementwise(Times{s.scale}, (size_t)N * s.width(), du, du);
    const T* x = lora_input(dropped, inp, N, C, dropout);
    device::gemm_of_part(true, false, s.width(), C, N, (const T*)du, s.width(), x, C, acc<T>(1), g.a, C);
}
// dinp(N,C) += dropout(du a)
template <class T> void lora_backward_input(
    T* dinp, T* dropped, const T* du, LoraTensors<T> w, const LoraShape& s, int N, int C, Dropout dropout) {
    if (!s || N == 0) return;
    if (dropout.p <= 0) return device::matmul_backward_input(dinp, du, (const T*)w.a, N, C, s.width(), true);
    device::matmul_backward_input(dropped, du, (const T*)w.a, N, C, s.width());
    device::dropout_forward(dropped, dropped, N, C, dropout);
    device::elementwise(Plus(), (size_t)N * C, dinp, dinp, dropped);
}
