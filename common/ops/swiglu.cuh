// swiglu.cuh: the gated unit of Llama's feed-forward part (Shazeer 2020). One product gives gate and up side by side.
//
//   act = silu(gate) · up,   silu(x) = x σ(x),   σ(x) = 1 / (1 + exp(−x))
//   dgate = dact · up · σ (1 + gate (1 − σ)),   dup = dact · silu(gate)
#pragma once
#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/base/vecmath.h"
#include "common/device/device.cuh"

template <class A> HOST_DEVICE A sigmoid(A x) { return A(1) / (A(1) + vec_exp(-x)); }

namespace cpu {
// act(N,FF) from gate_up(N,2,FF)
template <class T> void swiglu_forward(T* act, const T* gate_up, int N, int FF) {
    typedef acc<T> A;
#pragma omp parallel for if ((size_t)N * FF >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        const T *gate = gate_up + (size_t)n * 2 * FF, *up = gate + FF;  // (FF) each
        T* a = act + (size_t)n * FF;                                    // (FF)
        for (int f = 0; f < FF; f++) a[f] = (A)gate[f] * sigmoid((A)gate[f]) * (A)up[f];
    }
}
// dgate_up(N,2,FF) from dact(N,FF); dgate_up may be gate_up
template <class T> void swiglu_backward(T* dgate_up, const T* dact, const T* gate_up, int N, int FF) {
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

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
namespace gpu {
// one block per token, W elements a thread at a time
template <int W, class T> __global__ void swiglu_forward_kernel(T* act, const T* gate_up, int FF) {
    const T *gate = gate_up + (size_t)blockIdx.x * 2 * FF, *up = gate + FF;  // (FF) each
    for (int f = threadIdx.x * W; f < FF; f += blockDim.x * W) {
        float g[W], u[W];
        load<W>(g, gate + f);
        load<W>(u, up + f);
        UNROLL
        for (int k = 0; k < W; k++) g[k] *= sigmoid(g[k]) * u[k];
        store<W>(act + (size_t)blockIdx.x * FF + f, g);
    }
}
template <int W, class T> __global__ void swiglu_backward_kernel(T* dgate_up, const T* dact, const T* gate_up, int FF) {
    size_t row = (size_t)blockIdx.x * 2 * FF;
    for (int f = threadIdx.x * W; f < FF; f += blockDim.x * W) {
        float g[W], u[W], d[W];
        load<W>(g, gate_up + row + f);
        load<W>(u, gate_up + row + FF + f);
        load<W>(d, dact + row / 2 + f);
        UNROLL
        for (int k = 0; k < W; k++) {
            float s = sigmoid(g[k]), dk = d[k];
            d[k] = dk * g[k] * s;
            g[k] = dk * u[k] * s * (1 + g[k] * (1 - s));
        }
        store<W>(dgate_up + row + f, g);
        store<W>(dgate_up + row + FF + f, d);
    }
}
inline unsigned swiglu_threads(int FF, int W) { return (unsigned)min(round_up(ceil_div(FF, W), 32), (size_t)THREADS); }
template <class T> void swiglu_forward(T* act, const T* gate_up, int N, int FF) {
    pick_width<T>(rows_are_wide<T>(FF, act, gate_up),
        [&](auto w) { launch(swiglu_forward_kernel<w(), T>, N, swiglu_threads(FF, w()), 0, act, gate_up, FF); });
}
template <class T> void swiglu_backward(T* dgate_up, const T* dact, const T* gate_up, int N, int FF) {
    pick_width<T>(rows_are_wide<T>(FF, dgate_up, dact, gate_up), [&](auto w) {
        launch(swiglu_backward_kernel<w(), T>, N, swiglu_threads(FF, w()), 0, dgate_up, dact, gate_up, FF);
    });
}
}  // namespace gpu
#endif
