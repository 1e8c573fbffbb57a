// gelu.cuh: the two forms of GELU (Hendrycks and Gimpel 2016) and their derivatives.
//   erf  (BERT)    gelu(x) = x Φ(x),                        gelu'(x) = Φ(x) + x φ(x)
//   tanh (GPT-2)   gelu(x) = x/2 (1 + tanh u),              gelu'(x) = (1 + tanh u)/2 + x/2 (1 − tanh² u) u'
//                  u = √(2/π) (x + 0.044715 x³)
// Φ and φ are the distribution function and the density of N(0, 1).
#pragma once
#include <math.h>

#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/base/vecmath.h"
#include "common/device/device.cuh"

enum class Gelu { erf, tanh };

template <Gelu kind, class A> HOST_DEVICE A gelu(A x) {
    if (kind == Gelu::erf) return x * normal_cdf(x);
    A u = A(0.79788456080286535588) * (x + A(0.044715) * x * x * x);
    return A(0.5) * x * (A(1) + vec_tanh(u));
}
template <Gelu kind, class A> HOST_DEVICE A gelu_derivative(A x) {
    if (kind == Gelu::erf) return normal_cdf(x) + x * A(0.39894228040143267794) * vec_exp(A(-0.5) * x * x);
    A u = A(0.79788456080286535588) * (x + A(0.044715) * x * x * x);
    A du = A(0.79788456080286535588) * (A(1) + A(3 * 0.044715) * x * x);
    A t = vec_tanh(u);
    return A(0.5) * (A(1) + t) + A(0.5) * x * (A(1) - t * t) * du;
}

namespace cpu {
// out(n) = gelu(inp(n)); out may be inp
template <Gelu kind, class T> void gelu_forward(T* out, const T* inp, size_t n) {
#pragma omp parallel for if (n >= OMP_MIN_ELEMENTS)
    for (size_t i = 0; i < n; i++) out[i] = gelu<kind>((acc<T>)inp[i]);
}
// dinp(n) = dout(n) gelu'(inp(n)); dinp may be dout
template <Gelu kind, class T> void gelu_backward(T* dinp, const T* dout, const T* inp, size_t n) {
#pragma omp parallel for if (n >= OMP_MIN_ELEMENTS)
    for (size_t i = 0; i < n; i++) dinp[i] = (acc<T>)dout[i] * gelu_derivative<kind>((acc<T>)inp[i]);
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
namespace gpu {
// one thread per W elements
template <Gelu kind, int W, class T> __global__ void gelu_forward_kernel(T* out, const T* inp, size_t n) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= n) return;
    float x[W];
    load<W>(x, inp + i);
    UNROLL
    for (int k = 0; k < W; k++) x[k] = gelu<kind>(x[k]);
    store<W>(out + i, x);
}
template <Gelu kind, int W, class T>
__global__ void gelu_backward_kernel(T* dinp, const T* dout, const T* inp, size_t n) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= n) return;
    float x[W], d[W];
    load<W>(x, inp + i);
    load<W>(d, dout + i);
    UNROLL
    for (int k = 0; k < W; k++) d[k] *= gelu_derivative<kind>(x[k]);
    store<W>(dinp + i, d);
}
template <Gelu kind, class T> void gelu_forward(T* out, const T* inp, size_t n) {
    if (n == 0) return;
    pick_width<T>(rows_are_wide<T>(n, out, inp), [&](auto w) {
        constexpr int W = decltype(w)::value;
        launch(gelu_forward_kernel<kind, W, T>, (unsigned)ceil_div(n, THREADS * W), THREADS, 0, out, inp, n);
    });
}
template <Gelu kind, class T> void gelu_backward(T* dinp, const T* dout, const T* inp, size_t n) {
    if (n == 0) return;
    pick_width<T>(rows_are_wide<T>(n, dinp, dout, inp), [&](auto w) {
        constexpr int W = decltype(w)::value;
        launch(gelu_backward_kernel<kind, W, T>, (unsigned)ceil_div(n, THREADS * W), THREADS, 0, dinp, dout, inp, n);
    });
}
}  // namespace gpu
#endif
