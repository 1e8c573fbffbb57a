// gather.cuh: the rows that have a target go to the head, and their gradients come back.
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
