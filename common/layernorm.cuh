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
    #pragma omp parallel for if ((size_t)N * C >= PARALLEL)
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
    #pragma omp parallel for if ((size_t)N * C >= PARALLEL)
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

#ifdef WITH_KERNELS
#include "pack.cuh"
#include "reduce.cuh"
namespace gpu {
// One warp per row. The first loop leaves the row in `x` (sum, if there is a residual), and every lane reads back in the later
// loops what it wrote itself, so nothing waits for memory but the warp's own sums.
template <int W, bool RESIDUAL, class T>
__global__ void layernorm_forward_kernel(T* out, T* sum, float* mean, float* rstd, const T* residual, const T* branch, const T* weight, const T* bias,
                                         int N, int C, float eps, Dropout dropout) {
    int lane = threadIdx.x % 32, n = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (n >= N) return;  // the whole warp
    size_t row = (size_t)n * C;
    const T* x = RESIDUAL ? sum + row : residual + row;  // (C)
    float a[W], b[W], m = 0, v = 0;
    DropoutRow keep(dropout, n);
    for (int c = lane * W; c < C; c += 32 * W) {
        if (RESIDUAL) {
            load<W>(a, residual + row + c);
            load<W>(b, branch + row + c);
            if (dropout.p > 0) {
                UNROLL for (int k = 0; k < W; k++) a[k] += b[k] * keep(c + k);
            } else {
                UNROLL for (int k = 0; k < W; k++) a[k] += b[k];
            }
            store<W>(sum + row + c, a);
        }
        load<W>(a, x + c);  // rounded to T, as the backward pass will see it
        UNROLL for (int k = 0; k < W; k++) m += a[k];
    }
    m = warp_sum(m) / C;
    for (int c = lane * W; c < C; c += 32 * W) {
        load<W>(a, x + c);
        UNROLL for (int k = 0; k < W; k++) v += (a[k] - m) * (a[k] - m);
    }
    float r = 1.0f / sqrtf(warp_sum(v) / C + eps);
    for (int c = lane * W; c < C; c += 32 * W) {
        float w[W];
        load<W>(a, x + c);
        load<W>(w, weight + c);
        load<W>(b, bias + c);
        UNROLL for (int k = 0; k < W; k++) a[k] = (a[k] - m) * r * w[k] + b[k];
        store<W>(out + row + c, a);
    }
    if (lane == 0) {
        mean[n] = m;
        rstd[n] = r;
    }
}
template <class T>
void residual_layernorm_forward(T* out, T* sum, float* mean, float* rstd, const T* residual, const T* branch, const T* weight, const T* bias, int N, int C,
                                float eps, Dropout dropout) {
    if (N == 0) return;
    pick_width<T>(rows_are_wide<T>(C, out, sum, residual, branch, weight, bias), [&](auto w) {
        launch(layernorm_forward_kernel<decltype(w)::value, true, T>, (unsigned)ceil_div(N, 4), 128, 0, out, sum, mean, rstd, residual, branch, weight,
               bias, N, C, eps, dropout);
    });
}
template <class T>
void layernorm_forward(T* out, float* mean, float* rstd, const T* inp, const T* weight, const T* bias, int N, int C, float eps) {
    if (N == 0) return;
    pick_width<T>(rows_are_wide<T>(C, out, inp, weight, bias), [&](auto w) {
        launch(layernorm_forward_kernel<decltype(w)::value, false, T>, (unsigned)ceil_div(N, 4), 128, 0, out, (T*)nullptr, mean, rstd, inp,
               (const T*)nullptr, weight, bias, N, C, eps, Dropout());
    });
}

// One block per chunk of CHUNK_ROWS rows. First the chunk's share of dweight and dbias: one thread per channel, down the rows, sums in
// registers. Then dsum and dbranch: one warp per row.
template <int W, class T>
__global__ void layernorm_backward_kernel(T* dsum, T* dbranch, const T* dout, const T* dresidual, const T* sum, const T* weight, const float* mean,
                                          const float* rstd, float* scratch, int N, int C, Dropout dropout) {
    int begin = blockIdx.x * CHUNK_ROWS, end = min(begin + CHUNK_ROWS, N);
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float dw = 0, db = 0;
        for (int n = begin; n < end; n++) {
            float d = (float)dout[(size_t)n * C + c];
            dw += d * (((float)sum[(size_t)n * C + c] - mean[n]) * rstd[n]);
            db += d;
        }
        scratch[(size_t)blockIdx.x * 2 * C + c] = dw;
        scratch[(size_t)blockIdx.x * 2 * C + C + c] = db;
    }
    __syncthreads();  // dsum may be dout: nobody writes before everybody has read
    int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (int n = begin + threadIdx.x / 32; n < end; n += warps) {
        size_t row = (size_t)n * C;
        float d[W], x[W], w[W], m = mean[n], r = rstd[n], g_mean = 0, gx_mean = 0;
        for (int c = lane * W; c < C; c += 32 * W) {
            load<W>(d, dout + row + c);
            load<W>(x, sum + row + c);
            load<W>(w, weight + c);
            UNROLL for (int k = 0; k < W; k++) {
                float g = d[k] * w[k];
                g_mean += g;
                gx_mean += g * ((x[k] - m) * r);
            }
        }
        g_mean = warp_sum(g_mean) / C;
        gx_mean = warp_sum(gx_mean) / C;
        DropoutRow keep(dropout, n);
        for (int c = lane * W; c < C; c += 32 * W) {
            float dres[W];
            load<W>(d, dout + row + c);
            load<W>(x, sum + row + c);
            load<W>(w, weight + c);
            if (dresidual) load<W>(dres, dresidual + row + c);
            UNROLL for (int k = 0; k < W; k++) {
                d[k] = r * (d[k] * w[k] - g_mean - (x[k] - m) * r * gx_mean) + (dresidual ? dres[k] : 0.0f);
                d[k] = (float)(T)d[k];  // the branch gets the dsum that the residual gets
            }
            store<W>(dsum + row + c, d);
            if (!dbranch) continue;
            if (dropout.p > 0) {
                UNROLL for (int k = 0; k < W; k++) d[k] *= keep(c + k);
            }
            store<W>(dbranch + row + c, d);
        }
    }
}
// to(C) += the sum over chunks of scratch(chunks, stride), in order; one thread per channel
template <int>
__global__ void add_chunks_kernel(float* to, const float* scratch, int chunks, int stride, int C) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    float sum = 0;
    for (int k = 0; k < chunks; k++) sum += scratch[(size_t)k * stride + c];
    to[c] += sum;
}
inline void add_chunks(float* to, const float* scratch, int chunks, int stride, int C) {
    launch(add_chunks_kernel<0>, (unsigned)ceil_div(C, 64), 64, 0, to, scratch, chunks, stride, C);
}
template <class T>
void residual_layernorm_backward(T* dsum, T* dbranch, float* dweight, float* dbias, const T* dout, const T* dresidual, const T* sum, const T* weight,
                                 const float* mean, const float* rstd, float* scratch, int N, int C, Dropout dropout) {
    if (N == 0) return;
    int chunks = (int)ceil_div(N, CHUNK_ROWS);
    pick_width<T>(rows_are_wide<T>(C, dsum, dbranch, dout, dresidual, sum, weight), [&](auto w) {
        launch(layernorm_backward_kernel<decltype(w)::value, T>, chunks, THREADS, 0, dsum, dbranch, dout, dresidual, sum, weight, mean, rstd, scratch, N, C,
               dropout);
    });
    add_chunks(dweight, scratch, chunks, 2 * C, C);
    add_chunks(dbias, scratch + C, chunks, 2 * C, C);
}
template <class T>
void layernorm_backward(T* dinp, float* dweight, float* dbias, const T* dout, const T* inp, const T* weight, const float* mean, const float* rstd,
                        float* scratch, int N, int C) {
    residual_layernorm_backward(dinp, (T*)nullptr, dweight, dbias, dout, (const T*)nullptr, inp, weight, mean, rstd, scratch, N, C, Dropout());
}
}  // namespace gpu
#endif
