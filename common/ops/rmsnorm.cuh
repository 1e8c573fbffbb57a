// rmsnorm.cuh: root mean square layer normalisation (Zhang and Sennrich 2019), alone and fused with the residual
// connection before it.
//
//   out = xhat · weight,   xhat = x rstd,   rstd = 1 / √(mean(x²) + eps)
//   dx  = rstd (g − xhat mean(g · xhat)),   g = dout · weight
//   dweight += Σₙ dout · xhat
//
// The means are over the C channels. With a residual: x = residual + dropout(branch), kept as `sum`, as in
// layernorm.cuh.
#pragma once
#include "common/ops/layernorm.cuh"

namespace cpu {
// One row: out(C) = rmsnorm(x(C)), returns rstd. out may be x.
template <class T> acc<T> rmsnorm_row(T* out, const T* x, const T* weight, int C, acc<T> eps) {
    typedef acc<T> A;
    A squares = 0;
    for (int c = 0; c < C; c++) squares += (A)x[c] * (A)x[c];
    A r = 1 / std::sqrt(squares / C + eps);
#pragma omp simd
    for (int c = 0; c < C; c++) out[c] = (A)x[c] * r * (A)weight[c];
    return r;
}
// One row: dx(C) = its gradient (+ dresidual(C), unless nullptr), dweight(C) += . dx may be dout or dresidual.
template <class T>
void rmsnorm_row_backward(T* dx, acc<T>* dweight, const T* dout, const T* dresidual, const T* x, const T* weight,
                          acc<T> rstd, int C) {
    typedef acc<T> A;
    A gx_mean = 0;
#pragma omp simd reduction(+ : gx_mean)
    for (int c = 0; c < C; c++) {
        A dw = (A)dout[c] * (A)x[c] * rstd;
        gx_mean += dw * (A)weight[c];
        dweight[c] += dw;
    }
    gx_mean /= C;
#pragma omp simd
    for (int c = 0; c < C; c++) {
        A xhat = (A)x[c] * rstd, g = (A)dout[c] * (A)weight[c];
        dx[c] = rstd * (g - xhat * gx_mean) + (dresidual ? (A)dresidual[c] : 0);
    }
}

// out(N,C), rstd(N) = rmsnorm(inp(N,C)); out may be inp
template <class T> void rmsnorm_forward(T* out, acc<T>* rstd, const T* inp, const T* weight, int N, int C, acc<T> eps) {
#pragma omp parallel for if ((size_t)N * C >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) rstd[n] = rmsnorm_row(out + (size_t)n * C, inp + (size_t)n * C, weight, C, eps);
}
// out(N,C), sum(N,C), rstd(N) = rmsnorm(sum = residual(N,C) + dropout(branch(N,C))). sum may be branch or residual.
template <class T>
void residual_rmsnorm_forward(T* out, T* sum, acc<T>* rstd, const T* residual, const T* branch, const T* weight, int N,
                              int C, acc<T> eps, Dropout dropout) {
    typedef acc<T> A;
#pragma omp parallel for if ((size_t)N * C >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        size_t row = (size_t)n * C;
        const T *x = residual + row, *y = branch + row;  // (C)
        T* s = sum + row;                                // (C)
        if (dropout.p > 0) {
            DropoutRow keep(dropout, n);
            for (int c = 0; c < C; c++) s[c] = (A)x[c] + (A)y[c] * keep(c);
        } else {
            for (int c = 0; c < C; c++) s[c] = (A)x[c] + (A)y[c];
        }
        rstd[n] = rmsnorm_row(out + row, s, weight, C, eps);
    }
}
// dsum(N,C) = gradient of `sum` (+ dresidual(N,C) if given: what reaches the residual stream from later on)
// dbranch(N,C) = dropout mask · dsum; nullptr if there is no branch (a plain RMSNorm). dbranch may be dsum if there is
// no dropout. dweight(C) +=, unless nullptr; scratch(layernorm_scratch(N,C)). dsum may be dout or dresidual.
template <class T>
void residual_rmsnorm_backward(T* dsum, T* dbranch, acc<T>* dweight, const T* dout, const T* dresidual, const T* sum,
                               const T* weight, const acc<T>* rstd, acc<T>* scratch, int N, int C, Dropout dropout) {
    typedef acc<T> A;
    int chunks = (int)ceil_div(N, CHUNK_ROWS);
#pragma omp parallel for
    for (int k = 0; k < chunks; k++) {
        A* dw = scratch + (size_t)k * C;  // (C): this chunk's sums
        for (int c = 0; c < C; c++) dw[c] = 0;
        for (int n = k * CHUNK_ROWS; n < N && n < (k + 1) * CHUNK_ROWS; n++) {
            size_t row = (size_t)n * C;
            T* dx = dsum + row;  // (C)
            rmsnorm_row_backward(dx, dw, dout + row, dresidual ? dresidual + row : nullptr, sum + row, weight, rstd[n],
                                 C);
            if (!dbranch) continue;
            T* dy = dbranch + row;  // (C)
            if (dropout.p > 0) {
                DropoutRow keep(dropout, n);
                for (int c = 0; c < C; c++) dy[c] = (A)dx[c] * keep(c);
            } else if (dy != dx) {
                for (int c = 0; c < C; c++) dy[c] = dx[c];
            }
        }
    }
    for (int k = 0; dweight && k < chunks; k++)
        for (int c = 0; c < C; c++) dweight[c] += scratch[(size_t)k * C + c];
}
// dinp(N,C), dweight(C) +=, unless nullptr; dinp may be dout
template <class T>
void rmsnorm_backward(T* dinp, acc<T>* dweight, const T* dout, const T* inp, const T* weight, const acc<T>* rstd,
                      acc<T>* scratch, int N, int C) {
    residual_rmsnorm_backward(dinp, (T*)nullptr, dweight, dout, (const T*)nullptr, inp, weight, rstd, scratch, N, C,
                              Dropout());
}
}  // namespace cpu

#ifdef WITH_KERNELS
namespace gpu {  // LayerNorm's kernels without mean and bias
template <class T>
void residual_rmsnorm_forward(T* out, T* sum, float* rstd, const T* residual, const T* branch, const T* weight, int N,
                              int C, float eps, Dropout dropout) {
    residual_layernorm_forward<T, true>(out, sum, nullptr, rstd, residual, branch, weight, nullptr, N, C, eps, dropout);
}
template <class T> void rmsnorm_forward(T* out, float* rstd, const T* inp, const T* weight, int N, int C, float eps) {
    residual_rmsnorm_forward(out, (T*)nullptr, rstd, inp, (const T*)nullptr, weight, N, C, eps, Dropout());
}
template <class T>
void residual_rmsnorm_backward(T* dsum, T* dbranch, float* dweight, const T* dout, const T* dresidual, const T* sum,
                               const T* weight, const float* rstd, float* scratch, int N, int C, Dropout dropout) {
    residual_layernorm_backward<T, true>(dsum, dbranch, dweight, nullptr, dout, dresidual, sum, weight, nullptr, rstd,
                                         scratch, N, C, dropout);
}
template <class T>
void rmsnorm_backward(T* dinp, float* dweight, const T* dout, const T* inp, const T* weight, const float* rstd,
                      float* scratch, int N, int C) {
    residual_rmsnorm_backward(dinp, (T*)nullptr, dweight, dout, (const T*)nullptr, inp, weight, rstd, scratch, N, C,
                              Dropout());
}
}  // namespace gpu
#endif
