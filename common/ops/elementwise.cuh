// elementwise.cuh: out[i] = f(inp[i], …): scaling, adding, tanh and relu, which the heads of classifiers have (y =
// tanh(x), dx = dy (1 − y²); y = max(x, 0)), and the two forms of GELU (Hendrycks and Gimpel 2016):
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

// What f may be, on the CPU and on the GPU; numbers are acc<T>
template <Gelu kind> struct GeluOf {
    template <class A> HOST_DEVICE A operator()(A x) const { return gelu<kind>(x); }
};
template <Gelu kind> struct GeluGradient {
    template <class A> HOST_DEVICE A operator()(A dout, A x) const { return dout * gelu_derivative<kind>(x); }
};
struct TanhOf {
    template <class A> HOST_DEVICE A operator()(A x) const { return vec_tanh(x); }
};
struct TanhGradient {
    template <class A> HOST_DEVICE A operator()(A dout, A out) const { return dout * (A(1) - out * out); }
};
struct ReluOf {
    template <class A> HOST_DEVICE A operator()(A x) const { return x < A(0) ? A(0) : x; }
};
struct ReluGradient {
    template <class A> HOST_DEVICE A operator()(A dout, A out) const { return out > A(0) ? dout : A(0); }
};
struct Times {
    float s;
    template <class A> HOST_DEVICE A operator()(A x) const { return x * A(s); }
};
struct Plus {
    template <class A> HOST_DEVICE A operator()(A x, A y) const { return x + y; }
};

namespace cpu {
// out(n) = f(inp(n)…); out may be one of them
template <class F, class T, class... X> void elementwise(F f, size_t n, T* out, const X*... inp) {
#pragma omp parallel for if (n >= OMP_MIN_ELEMENTS)
    for (size_t i = 0; i < n; i++) out[i] = f((acc<T>)inp[i]...);
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
namespace gpu {
template <int W> struct Floats {
    float at[W];
    template <class T> __device__ explicit Floats(const T* p) { load<W>(at, p); }
};
template <int W, class F, class... X> __device__ inline void apply(F f, float out[W], const X&... x) {
    UNROLL
    for (int k = 0; k < W; k++) out[k] = f(x.at[k]...);
}
// one thread per W elements
template <int W, class F, class T, class... X>
__global__ void elementwise_kernel(F f, size_t n, T* out, const X*... inp) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= n) return;
    float x[W];
    apply<W>(f, x, Floats<W>(inp + i)...);
    store<W>(out + i, x);
}
template <class F, class T, class... X> void elementwise(F f, size_t n, T* out, const X*... inp) {
    pick_width<T>(rows_are_wide<T>(n, out, inp...), [&](auto w) {
        launch(elementwise_kernel<w(), F, T, X...>, ceil_div(n, THREADS * w()), THREADS, 0, f, n, out, inp...);
    });
}
}  // namespace gpu
#endif
