// tanh.cuh: y = tanh(x), dx = dy (1 − y²): the pooler's nonlinearity.
#pragma once
#include "common/base/types.h"
#include "common/base/vecmath.h"
#include "common/device/device.cuh"

namespace cpu {
// out(n) = tanh(inp(n)); out may be inp
template <class T> void tanh_forward(T* out, const T* inp, size_t n) {
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) out[i] = vec_tanh((acc<T>)inp[i]);
}
// dinp(n) = dout(n) (1 − out(n)²); dinp may be dout
template <class T> void tanh_backward(T* dinp, const T* dout, const T* out, size_t n) {
    typedef acc<T> A;
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) dinp[i] = (A)dout[i] * (A(1) - (A)out[i] * (A)out[i]);
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
namespace gpu {
// one thread per W elements
template <int W, class T> __global__ void tanh_forward_kernel(T* out, const T* inp, size_t n) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= n) return;
    float x[W];
    load<W>(x, inp + i);
    UNROLL
    for (int k = 0; k < W; k++) x[k] = vec_tanh(x[k]);
    store<W>(out + i, x);
}
template <int W, class T> __global__ void tanh_backward_kernel(T* dinp, const T* dout, const T* out, size_t n) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= n) return;
    float y[W], d[W];
    load<W>(y, out + i);
    load<W>(d, dout + i);
    UNROLL
    for (int k = 0; k < W; k++) d[k] *= 1.0f - y[k] * y[k];
    store<W>(dinp + i, d);
}
template <class T> void tanh_forward(T* out, const T* inp, size_t n) {
    if (n == 0) return;
    pick_width<T>(rows_are_wide<T>(n, out, inp), [&](auto w) {
        constexpr int W = decltype(w)::value;
        launch(tanh_forward_kernel<W, T>, (unsigned)ceil_div(n, THREADS * W), THREADS, 0, out, inp, n);
    });
}
template <class T> void tanh_backward(T* dinp, const T* dout, const T* out, size_t n) {
    if (n == 0) return;
    pick_width<T>(rows_are_wide<T>(n, dinp, dout, out), [&](auto w) {
        constexpr int W = decltype(w)::value;
        launch(tanh_backward_kernel<W, T>, (unsigned)ceil_div(n, THREADS * W), THREADS, 0, dinp, dout, out, n);
    });
}
}  // namespace gpu
#endif
