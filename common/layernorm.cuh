// layernorm.cuh: layer normalisation (Ba et al. 2016), alone and fused with the residual connection before it.
//
//   out = xhat · weight + bias,   xhat = (x − mean) rstd,   rstd = 1 / √(variance + eps)        mean and variance over the C channels
//   dx  = rstd (g − mean(g) − xhat mean(g · xhat)),   g = dout · weight
//   dweight += Σₙ dout · xhat,   dbias += Σₙ dout
//
// With a residual: x = residual + dropout(branch), kept as `sum`; the gradient of `sum` goes to the residual as it is and to the
// branch through the dropout mask.
#pragma once
#include "dropout.cuh"

// Sums over rows (dweight, dbias, …) are made of partial sums over chunks of this many rows, added in order: deterministic,
// whatever the number of threads or blocks.
constexpr int CHUNK_ROWS = 128;
constexpr size_t layernorm_scratch(size_t N, size_t C) { return ceil_div(N, CHUNK_ROWS) * 2 * C; }  // elements of acc<T>

namespace cpu {
// out(N,C), sum(N,C), mean(N), rstd(N) = layernorm(sum = residual(N,C) + dropout(branch(N,C))). sum may be branch or residual.
template <class T>
void residual_layernorm_forward(T* out, T* sum, acc<T>* mean, acc<T>* rstd, const T* residual, const T* branch, const T* weight, const T* bias, int N,
                                int C, acc<T> eps, Dropout dropout) {
    typedef acc<T> A;
    #pragma omp parallel for
    for (int n = 0; n < N; n++) {
        size_t row = (size_t)n * C;
        const T *x = residual + row, *y = branch + row;  // (C)
        T *s = sum + row, *o = out + row;                // (C)
        if (dropout.p > 0) {
            DropoutRow keep(dropout, n);
            for (int c = 0; c < C; c++) s[c] = (A)x[c] + (A)y[c] * keep(c);
        } else {
            for (int c = 0; c < C; c++) s[c] = (A)x[c] + (A)y[c];
        }
        A m = 0, v = 0;
        for (int c = 0; c < C; c++) m += (A)s[c];
        m /= C;
        for (int c = 0; c < C; c++) v += ((A)s[c] - m) * ((A)s[c] - m);
        A r = 1 / std::sqrt(v / C + eps);
        for (int c = 0; c < C; c++) o[c] = ((A)s[c] - m) * r * (A)weight[c] + (A)bias[c];
        mean[n] = m;
        rstd[n] = r;
    }
}
// out(N,C), mean(N), rstd(N) = layernorm(inp(N,C))
template <class T>
void layernorm_forward(T* out, acc<T>* mean, acc<T>* rstd, const T* inp, const T* weight, const T* bias, int N, int C, acc<T> eps) {
    typedef acc<T> A;
    #pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const T* x = inp + (size_t)n * C;  // (C)
        T* o = out + (size_t)n * C;        // (C)
        A m = 0, v = 0;
        for (int c = 0; c < C; c++) m += (A)x[c];
        m /= C;
        for (int c = 0; c < C; c++) v += ((A)x[c] - m) * ((A)x[c] - m);
        A r = 1 / std::sqrt(v / C + eps);
        for (int c = 0; c < C; c++) o[c] = ((A)x[c] - m) * r * (A)weight[c] + (A)bias[c];
        mean[n] = m;
        rstd[n] = r;
    }
}

// dsum(N,C) = gradient of `sum` (+ dresidual(N,C) if given: what reaches the residual stream from later on)
// dbranch(N,C) = dropout mask · dsum; nullptr if there is no branch (a plain LayerNorm). dbranch may be dsum if there is no dropout.
// dweight(C), dbias(C) += ; scratch(layernorm_scratch(N,C)). dsum may be dout or dresidual.
template <class T>
void residual_layernorm_backward(T* dsum, T* dbranch, acc<T>* dweight, acc<T>* dbias, const T* dout, const T* dresidual, const T* sum, const T* weight,
                                 const acc<T>* mean, const acc<T>* rstd, acc<T>* scratch, int N, int C, Dropout dropout) {
    typedef acc<T> A;
    int chunks = (int)ceil_div(N, CHUNK_ROWS);
    #pragma omp parallel for
    for (int k = 0; k < chunks; k++) {
        A *dw = scratch + (size_t)k * 2 * C, *db = dw + C;  // (C) each: this chunk's share
        for (int c = 0; c < 2 * C; c++) dw[c] = 0;
        int end = (k + 1) * CHUNK_ROWS < N ? (k + 1) * CHUNK_ROWS : N;
        for (int n = k * CHUNK_ROWS; n < end; n++) {
            size_t row = (size_t)n * C;
            const T *d = dout + row, *x = sum + row;  // (C)
            A m = mean[n], r = rstd[n], g_mean = 0, gx_mean = 0;
            for (int c = 0; c < C; c++) {
                A xhat = ((A)x[c] - m) * r, g = (A)d[c] * (A)weight[c];
                g_mean += g;
                gx_mean += g * xhat;
                dw[c] += (A)d[c] * xhat;
                db[c] += (A)d[c];
            }
            g_mean /= C;
            gx_mean /= C;
            const T* dres = dresidual ? dresidual + row : nullptr;  // (C)
            T* dx = dsum + row;                                     // (C)
            for (int c = 0; c < C; c++) {
                A xhat = ((A)x[c] - m) * r, g = (A)d[c] * (A)weight[c];
                dx[c] = r * (g - g_mean - xhat * gx_mean) + (dres ? (A)dres[c] : 0);
            }
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
    for (int k = 0; k < chunks; k++)
        for (int c = 0; c < C; c++) {
            dweight[c] += scratch[(size_t)k * 2 * C + c];
            dbias[c] += scratch[(size_t)k * 2 * C + C + c];
        }
}
// dinp(N,C), dweight(C) +=, dbias(C) += ; dinp may be dout
template <class T>
void layernorm_backward(T* dinp, acc<T>* dweight, acc<T>* dbias, const T* dout, const T* inp, const T* weight, const acc<T>* mean, const acc<T>* rstd,
                        acc<T>* scratch, int N, int C) {
    residual_layernorm_backward(dinp, (T*)nullptr, dweight, dbias, dout, (const T*)nullptr, inp, weight, mean, rstd, scratch, N, C, Dropout());
}
}  // namespace cpu
