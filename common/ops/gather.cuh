// gather.cuh: only the rows that have a target continue after the last attention, or the means of whole sequences, and
// their gradients come back. rows(M) are distinct token indices; −1 marks padding (a batch's M is rounded up): it reads
// as zeros and goes nowhere. Of means there is a row for each sequence, start[m] to start[m + 1].
#pragma once
#include <stddef.h>
#include <string.h>

#include "common/device/device.cuh"

namespace cpu {
// out(M,C) = inp(N,C)[rows]
template <class T> void gather_rows(T* out, const T* inp, const int* rows, int M, int C) {
#pragma omp parallel for
    for (int m = 0; m < M; m++) {
        T* o = out + (size_t)m * C;  // (C)
        if (rows[m] < 0) memset((void*)o, 0, C * sizeof(T));
        else memcpy((void*)o, (const void*)(inp + (size_t)rows[m] * C), C * sizeof(T));
    }
}
// dinp(N,C) = 0 but for dinp[rows] = dout(M,C)
template <class T> void scatter_rows(T* dinp, const T* dout, const int* rows, int N, int M, int C) {
    device_zero(dinp, (size_t)N * C * sizeof(T));
#pragma omp parallel for
    for (int m = 0; m < M; m++)
        if (rows[m] >= 0)
            memcpy((void*)(dinp + (size_t)rows[m] * C), (const void*)(dout + (size_t)m * C), C * sizeof(T));
}
// out(M,C): the mean of inp(N,C) over each sequence
template <class T> void mean_forward(T* out, const T* inp, const int* rows, const int* start, int M, int C) {
#pragma omp parallel for
    for (int m = 0; m < M; m++)
        for (int c = 0; c < C; c++) {
            acc<T> sum = 0;
            const int begin = start[m], end = rows[m] < 0 ? begin : start[m + 1];
            for (int n = begin; n < end; n++) sum += (acc<T>)inp[(size_t)n * C + c];
            out[(size_t)m * C + c] = sum / (acc<T>)(end > begin ? end - begin : 1);
        }
}
// dinp(N,C) = dout(M,C) of each token's sequence, divided by its length
template <class T> void mean_backward(T* dinp, const T* dout, const int* rows, const int* start, int N, int M, int C) {
    device_zero(dinp, (size_t)N * C * sizeof(T));
#pragma omp parallel for
    for (int m = 0; m < M; m++)
        for (int n = start[m]; rows[m] >= 0 && n < start[m + 1]; n++)
            for (int c = 0; c < C; c++)
                dinp[(size_t)n * C + c] = (acc<T>)dout[(size_t)m * C + c] / (acc<T>)(start[m + 1] - start[m]);
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
namespace gpu {
// out(M,C) = inp[rows], or with SCATTER out[rows] = inp(M,C). One warp per row; packs stay as they are.
template <int W, bool SCATTER, class T>
__global__ void copy_rows_kernel(T* out, const T* inp, const int* rows, int M, int C) {
    int lane = threadIdx.x % 32, m = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (m >= M || (SCATTER && rows[m] < 0)) return;
    int row = rows[m], from = SCATTER ? m : row, to = SCATTER ? row : m;
    for (int c = lane * W; c < C; c += 32 * W) {
        Pack<T, W> x = {};
        if (from >= 0) x = load_pack<W>(inp + (size_t)from * C + c);
        store_pack<W>(out + (size_t)to * C + c, x);
    }
}
template <bool SCATTER, class T> void copy_rows(T* out, const T* inp, const int* rows, int M, int C) {
    pick_width<T>(rows_are_wide<T>(C, out, inp),
        [&](auto w) { launch(copy_rows_kernel<w(), SCATTER, T>, row_blocks(M), THREADS, 0, out, inp, rows, M, C); });
}
template <class T> void gather_rows(T* out, const T* inp, const int* rows, int M, int C) {
    copy_rows<false>(out, inp, rows, M, C);
}
template <class T> void scatter_rows(T* dinp, const T* dout, const int* rows, int N, int M, int C) {
    device_zero(dinp, (size_t)N * C * sizeof(T));
    copy_rows<true>(dinp, dout, rows, M, C);
}
// One thread per column and sequence
template <class T>
__global__ void mean_forward_kernel(T* out, const T* inp, const int* rows, const int* start, int M, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, m = i / C, c = i % C;
    if (m >= (size_t)M) return;
    float sum = 0;
    int begin = start[m], end = rows[m] < 0 ? begin : start[m + 1];
    for (int n = begin; n < end; n++) sum += (float)inp[(size_t)n * C + c];
    out[i] = (T)(sum / (float)(end > begin ? end - begin : 1));
}
template <class T>
__global__ void mean_backward_kernel(T* dinp, const T* dout, const int* rows, const int* start, int M, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, m = i / C, c = i % C;
    if (m >= (size_t)M || rows[m] < 0) return;
    for (int n = start[m]; n < start[m + 1]; n++)
        dinp[(size_t)n * C + c] = (T)((float)dout[i] / (float)(start[m + 1] - start[m]));
}
template <class T> void mean_forward(T* out, const T* inp, const int* rows, const int* start, int M, int C) {
    launch(mean_forward_kernel<T>, ceil_div((size_t)M * C, THREADS), THREADS, 0, out, inp, rows, start, M, C);
}
template <class T> void mean_backward(T* dinp, const T* dout, const int* rows, const int* start, int N, int M, int C) {
    device_zero(dinp, (size_t)N * C * sizeof(T));
    launch(mean_backward_kernel<T>, ceil_div((size_t)M * C, THREADS), THREADS, 0, dinp, dout, rows, start, M, C);
}
}  // namespace gpu
#endif
