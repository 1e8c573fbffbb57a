// swiglu.cuh: the gated unit of Llama's feed-forward part (Shazeer 2020). One product gives gate and up side by side.
//
//   act = silu(gate) · up,   silu(x) = x σ(x),   σ(x) = 1 / (1 + exp(−x))
//   dgate = dact · up · σ (1 + gate (1 − σ)),   dup = dact · silu(gate)
#pragma once
#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/base/vecmath.h"
#include "common/device/device.cuh"

template <class A>
HOST_DEVICE A sigmoid(A x) {
    return A(1) / (A(1) + vec_exp(-x));
}

namespace cpu {
// act(N,FF) from gate_up(N,2,FF)
template <class T>
void swiglu_forward(T* act, const T* gate_up, int N, int FF) {
    typedef acc<T> A;
#pragma omp parallel for if ((size_t)N * FF >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        const T *gate = gate_up + (size_t)n * 2 * FF, *up = gate + FF;  // (FF) each
        T* a = act + (size_t)n * FF;                                    // (FF)
        for (int f = 0; f < FF; f++) a[f] = (A)gate[f] * sigmoid((A)gate[f]) * (A)up[f];
    }
}
// dgate_up(N,2,FF) from dact(N,FF); dgate_up may be gate_up
template <class T>
void swiglu_backward(T* dgate_up, const T* dact, const T* gate_up, int N, int FF) {
    typedef acc<T> A;
#pragma omp parallel for if ((size_t)N * FF >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        const T *gate = gate_up + (size_t)n * 2 * FF, *up = gate + FF, *d = dact + (size_t)n * FF;  // (FF) each
        T *dgate = dgate_up + (size_t)n * 2 * FF, *dup = dgate + FF;                                // (FF) each
#pragma omp simd
        for (int f = 0; f < FF; f++) {
            A g = gate[f], s = sigmoid(g), df = d[f], u = up[f];
            dgate[f] = df * u * s * (1 + g * (1 - s));
            dup[f] = df * g * s;
        }
    }
}
}  // namespace cpu
