// glu.cuh: the gated units of the feed-forward part of Llama, SwiGLU, and of ModernBERT, GeGLU (Shazeer 2020). One
// product gives gate and up side by side.
//
//   act = f(gate) · up,   dgate = dact · up · f'(gate),   dup = dact · f(gate)
//   f(x) = silu(x) = x σ(x),   silu'(x) = σ (1 + x (1 − σ)),   σ(x) = 1 / (1 + exp(−x));   or gelu(x), its erf form
#pragma once
#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/base/vecmath.h"
#include "common/device/device.cuh"
#include "common/ops/elementwise.cuh"

struct Silu {
    template <class A> static HOST_DEVICE A sigmoid(A x) { return A(1) / (A(1) + vec_exp(-x)); }
    template <class A> static HOST_DEVICE A value(A x) { return x * sigmoid(x); }
    template <class A> static HOST_DEVICE A derivative(A x) {
        A s = sigmoid(x);
        return s * (A(1) + x * (A(1) - s));
    }
};
struct GeluErf {
    template <class A> static HOST_DEVICE A value(A x) { return gelu<Gelu::erf>(x); }
    template <class A> static HOST_DEVICE A derivative(A x) { return gelu_derivative<Gelu::erf>(x); }
};

namespace cpu {
// act(N,FF) from gate_up(N,2,FF)
template <class F, class T> void glu_forward(T* act, const T* gate_up, int N, int FF) {
    typedef acc<T> A;
#pragma omp parallel for if ((size_t)N * FF >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        const T *gate = gate_up + (size_t)n * 2 * FF, *up = gate + FF;  // (FF) each
        T* a = act + (size_t)n * FF;                                    // (FF)
        for (int f = 0; f < FF; f++) a[f] = F::value((A)gate[f]) * (A)up[f];
    }
}
// dgate_up(N,2,FF) from dact(N,FF); dgate_up may be gate_up
template <class F, class T> void glu_backward(T* dgate_up, const T* dact, const T* gate_up, int N, int FF) {
    typedef acc<T> A;
#pragma omp parallel for if ((size_t)N * FF >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        const T *gate = gate_up + (size_t)n * 2 * FF, *up = gate + FF, *d = dact + (size_t)n * FF;  // (FF) each
        T *dgate = dgate_up + (size_t)n * 2 * FF, *dup = dgate + FF;                                // (FF) each
#pragma omp simd
        for (int f = 0; f < FF; f++) {
            A g = gate[f], df = d[f], u = up[f];
            dgate[f] = df * u * F::derivative(g);
            dup[f] = df * F::value(g);
        }
    }
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
namespace gpu {
// one block per token, W elements a thread at a time
template <int W, class F, class T> __global__ void glu_forward_kernel(T* act, const T* gate_up, int FF) {
    const T *gate = gate_up + (size_t)blockIdx.x * 2 * FF, *up = gate + FF;  // (FF) each
    for (int f = threadIdx.x * W; f < FF; f += blockDim.x * W) {
        float g[W], u[W];
        load<W>(g, gate + f);
        load<W>(u, up + f);
        UNROLL
        for (int k = 0; k < W; k++) g[k] = F::value(g[k]) * u[k];
        store<W>(act + (size_t)blockIdx.x * FF + f, g);
    }
}
template <int W, class F, class T>
__global__ void glu_backward_kernel(T* dgate_up, const T* dact, const T* gate_up, int FF) {
    size_t row = (size_t)blockIdx.x * 2 * FF;
    for (int f = threadIdx.x * W; f < FF; f += blockDim.x * W) {
        float g[W], u[W], d[W];
        load<W>(g, gate_up + row + f);
        load<W>(u, gate_up + row + FF + f);
        load<W>(d, dact + row / 2 + f);
        UNROLL
        for (int k = 0; k < W; k++) {
            float dk = d[k];
            d[k] = dk * F::value(g[k]);
            g[k] = dk * u[k] * F::derivative(g[k]);
        }
        store<W>(dgate_up + row + f, g);
        store<W>(dgate_up + row + FF + f, d);
    }
}
inline unsigned glu_threads(int FF, int W) { return (unsigned)min(round_up(ceil_div(FF, W), 32), (size_t)THREADS); }
template <class F, class T> void glu_forward(T* act, const T* gate_up, int N, int FF) {
    pick_width<T>(rows_are_wide<T>(FF, act, gate_up),
        [&](auto w) { launch(glu_forward_kernel<w(), F, T>, N, glu_threads(FF, w()), 0, act, gate_up, FF); });
}
template <class F, class T> void glu_backward(T* dgate_up, const T* dact, const T* gate_up, int N, int FF) {
    pick_width<T>(rows_are_wide<T>(FF, dgate_up, dact, gate_up), [&](auto w) {
        launch(glu_backward_kernel<w(), F, T>, N, glu_threads(FF, w()), 0, dgate_up, dact, gate_up, FF);
    });
}
}  // namespace gpu
#endif
