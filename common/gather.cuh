// gather.cuh: only the rows that have a target go on behind the last attention, and their gradients come back.
// rows(M) are distinct token indices; −1 marks filler (a batch's M is rounded up): it reads as zeros and goes nowhere.
#pragma once
#include "device.cuh"

namespace cpu {
// out(M,C) = inp(N,C)[rows]
template <class T>
void gather_rows(T* out, const T* inp, const int* rows, int M, int C) {
    #pragma omp parallel for
    for (int m = 0; m < M; m++) {
        T* o = out + (size_t)m * C;  // (C)
        if (rows[m] < 0) memset((void*)o, 0, C * sizeof(T));
        else memcpy((void*)o, (const void*)(inp + (size_t)rows[m] * C), C * sizeof(T));
    }
}
// dinp(N,C) = 0 but for dinp[rows] = dout(M,C)
template <class T>
void scatter_rows(T* dinp, const T* dout, const int* rows, int N, int M, int C) {
    device_zero(dinp, (size_t)N * C * sizeof(T));
    #pragma omp parallel for
    for (int m = 0; m < M; m++)
        if (rows[m] >= 0) memcpy((void*)(dinp + (size_t)rows[m] * C), (const void*)(dout + (size_t)m * C), C * sizeof(T));
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "pack.cuh"
#include "reduce.cuh"
namespace gpu {
// one thread per W elements of a row
template <int W, class T>
__global__ void gather_rows_kernel(T* out, const T* inp, const int* rows, int M, int C) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= (size_t)M * C) return;
    int row = rows[i / C];
    float x[W] = {};
    if (row >= 0) load<W>(x, inp + (size_t)row * C + i % C);
    store<W>(out + i, x);
}
template <int W, class T>
__global__ void scatter_rows_kernel(T* dinp, const T* dout, const int* rows, int M, int C) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= (size_t)M * C) return;
    int row = rows[i / C];
    if (row < 0) return;
    float x[W];
    load<W>(x, dout + i);
    store<W>(dinp + (size_t)row * C + i % C, x);
}
template <class T>
void gather_rows(T* out, const T* inp, const int* rows, int M, int C) {
    if (M == 0) return;
    pick_width<T>(rows_are_wide<T>(C, out, inp), [&](auto w) {
        constexpr int W = decltype(w)::value;
        launch(gather_rows_kernel<W, T>, (unsigned)ceil_div((size_t)M * C, THREADS * W), THREADS, 0, out, inp, rows, M, C);
    });
}
template <class T>
void scatter_rows(T* dinp, const T* dout, const int* rows, int N, int M, int C) {
    device_zero(dinp, (size_t)N * C * sizeof(T));
    if (M == 0) return;
    pick_width<T>(rows_are_wide<T>(C, dinp, dout), [&](auto w) {
        constexpr int W = decltype(w)::value;
        launch(scatter_rows_kernel<W, T>, (unsigned)ceil_div((size_t)M * C, THREADS * W), THREADS, 0, dinp, dout, rows, M, C);
    });
}
}  // namespace gpu
#endif
