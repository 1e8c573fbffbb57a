// gather.cuh: only the rows that have a target continue after the last attention, and their gradients come back.
// rows(M) are distinct token indices; −1 marks padding (a batch's M is rounded up): it reads as zeros and goes nowhere.
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
}  // namespace gpu
#endif
