// layernorm.cuh: layer normalisation (Ba et al. 2016), alone and fused with the residual connection before it.
//
//   out = xhat · weight + bias,   xhat = (x − mean) rstd,   rstd = 1 / √(variance + eps)
//   dx  = rstd (g − mean(g) − xhat mean(g · xhat)),   g = dout · weight
//   dweight += Σₙ dout · xhat,   dbias += Σₙ dout
//
// mean and variance are over the C channels. RMSNorm (Zhang and Sennrich 2019) is the same without mean and bias:
//
//   out = xhat · weight,   xhat = x rstd,   rstd = 1 / √(mean(x²) + eps)
//   dx  = rstd (g − xhat mean(g · xhat))
//
// With a residual: x = residual + dropout(branch), kept as `sum`; the gradient of `sum` goes to the residual as it is
// and to the branch through the dropout mask.
#pragma once
#include <cmath>

#include "common/base/errors.h"
#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/ops/chunks.cuh"
#include "common/ops/dropout.cuh"

// dweight and dbias are sums over chunks of rows (chunks.cuh). On a GPU there are so many chunks, a block each: three
// blocks on each of an H200's 132 multiprocessors (a constant, so that other GPUs give the same bits). A block has four
// warps, so that no chunk has less than four rows.
constexpr size_t LAYERNORM_BLOCKS = 396;
constexpr size_t layernorm_rows(size_t N) {  // of a chunk
    return ceil_div(N, LAYERNORM_BLOCKS) > 4 ? ceil_div(N, LAYERNORM_BLOCKS) : 4;
}
constexpr size_t layernorm_scratch(size_t N, size_t C) {  // elements of acc<T>
    size_t cpu = ceil_div(N, CHUNK_ROWS), gpu = ceil_div(N, layernorm_rows(N));
    return (cpu > gpu ? cpu : gpu) * 2 * C;
}

namespace cpu {
// One row: out(C) = layernorm(x(C)), and its mean and rstd
template <class T>
void layernorm_row(T* out, acc<T>& mean, acc<T>& rstd, const T* x, const T* weight, const T* bias, int C, acc<T> eps) {
    typedef acc<T> A;
    A m = 0, v = 0;
    for (int c = 0; c < C; c++) m += (A)x[c];
    m /= C;
    for (int c = 0; c < C; c++) v += ((A)x[c] - m) * ((A)x[c] - m);
    A r = 1 / std::sqrt(v / C + eps);
    for (int c = 0; c < C; c++) out[c] = ((A)x[c] - m) * r * (A)weight[c] + (bias ? (A)bias[c] : 0);
    mean = m;
    rstd = r;
}
// One row: dx(C) = its gradient (+ dresidual(C), unless nullptr), dweight(C), dbias(C) +=. dx may be dout or dresidual.
template <class T> void layernorm_row_backward(T* dx, acc<T>* dweight, acc<T>* dbias, const T* dout, const T* dresidual,
    const T* x, const T* weight, acc<T> mean, acc<T> rstd, int C) {
    typedef acc<T> A;
    A g_mean = 0, gx_mean = 0;
    for (int c = 0; c < C; c++) {
        A xhat = ((A)x[c] - mean) * rstd, g = (A)dout[c] * (A)weight[c];
        g_mean += g;
        gx_mean += g * xhat;
        dweight[c] += (A)dout[c] * xhat;
        dbias[c] += (A)dout[c];
    }
    g_mean /= C;
    gx_mean /= C;
    for (int c = 0; c < C; c++) {
        A xhat = ((A)x[c] - mean) * rstd, g = (A)dout[c] * (A)weight[c];
        dx[c] = rstd * (g - g_mean - xhat * gx_mean) + (dresidual ? (A)dresidual[c] : 0);
    }
}
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
template <class T> void rmsnorm_row_backward(
    T* dx, acc<T>* dweight, const T* dout, const T* dresidual, const T* x, const T* weight, acc<T> rstd, int C) {
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

// out(N,C), sum(N,C), mean(N), rstd(N) = layernorm(sum = residual(N,C) + dropout(branch(N,C))). sum may be branch or
// residual. branch = nullptr: of residual alone, `sum` is not written. bias may be nullptr. mean = nullptr: RMSNorm,
// without bias.
template <class T> void residual_norm_forward(T* out, T* sum, acc<T>* mean, acc<T>* rstd, const T* residual,
    const T* branch, const T* weight, const T* bias, int N, int C, acc<T> eps, Dropout dropout) {
#pragma omp parallel for if ((size_t)N * C >= OMP_MIN_ELEMENTS)
    for (int n = 0; n < N; n++) {
        size_t row = (size_t)n * C;
        const T* x = (branch ? sum : residual) + row;  // (C)
        if (branch) add_dropped_row(sum + row, residual + row, branch + row, n, C, dropout);
        if (mean) layernorm_row(out + row, mean[n], rstd[n], x, weight, bias, C, eps);
        else rstd[n] = rmsnorm_row(out + row, x, weight, C, eps);
    }
}
// dsum(N,C) = gradient of `sum` (+ dresidual(N,C) if given: what reaches the residual stream from later on)
// dbranch(N,C) = dropout mask · dsum; nullptr if there is no branch. dbranch may be dsum if there is no dropout.
// dweight(C), dbias(C) +=, unless nullptr; scratch(layernorm_scratch(N,C)). dsum may be dout or dresidual.
template <class T> void residual_norm_backward(T* dsum, T* dbranch, acc<T>* dweight, acc<T>* dbias, const T* dout,
    const T* dresidual, const T* sum, const T* weight, const acc<T>* mean, const acc<T>* rstd, acc<T>* scratch, int N,
    int C, Dropout dropout) {
    const int K = mean ? 2 : 1;
    int chunks = sum_chunks(scratch, N, K * C, [&](int n, acc<T>* dw) {  // (K, C)
        size_t row = (size_t)n * C;
        const T* dres = dresidual ? dresidual + row : nullptr;
        if (mean)
            layernorm_row_backward(dsum + row, dw, dw + C, dout + row, dres, sum + row, weight, mean[n], rstd[n], C);
        else rmsnorm_row_backward(dsum + row, dw, dout + row, dres, sum + row, weight, rstd[n], C);
        if (dbranch) drop_row(dbranch + row, dsum + row, n, C, dropout);
    });
    if (dweight) add_chunks(dweight, scratch, chunks, K * C, C, dbias);
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
#include "common/device/reduce.cuh"
namespace gpu {
// The floor is a matter of bytes: every input once, every output once. So a row stays in registers: a lane holds E
// elements of it, in packs of W. One warp takes a row of up to 1,024 channels, two or four warps a longer one. Blocks
// have four warps.
// Calls f(W, E, warps), the first two as types, so that f can start a kernel for that width and that many elements.
template <class T, class F> void pick_row(bool wide, int C, F f) {
    pick_width<T>(wide, [&](auto w) {
        constexpr int most = w() > 1 ? 32 : 16;  // elements of a lane: more do not fit into the registers
        const int warps = C <= 32 * most ? 1 : C <= 64 * most ? 2 : 4, lanes = 32 * warps;
        if (C > lanes * most)
            fail("normalisation on a GPU: expected rows of at most %d channels%s, found %d: take a narrower model",
                lanes * most, w() > 1 ? "" : " (4096 if they are a multiple of 8)", C);
        if (C <= 8 * lanes) f(w, std::integral_constant<int, 8>(), warps);
        else if (C <= 16 * lanes) f(w, std::integral_constant<int, 16>(), warps);
        else if constexpr (w() > 1) {
            if (C <= 24 * lanes) f(w, std::integral_constant<int, 24>(), warps);
            else f(w, std::integral_constant<int, 32>(), warps);
        }
    });
}

// `warps` warps per row. All loads start before one is needed. A lane stores where it loaded: outputs may be inputs.
template <int W, int E, bool RMS, class T> __global__ void layernorm_forward_kernel(T* out, T* sum, float* mean,
    float* rstd, const T* residual, const T* branch, const T* weight, const T* bias, int N, int C, float eps,
    Dropout dropout, int warps) {
    constexpr int P = E / W;  // packs of a lane
    int n = blockIdx.x * (4 / warps) + threadIdx.x / 32 / warps;
    int lane = threadIdx.x % (32 * warps), step = 32 * warps * W;
    int width = n < N ? C : 0;  // threads without a row come along to the barriers of row_sums
    size_t row = (size_t)n * C;
    Pack<T, W> x[P], y[P];
    UNROLL
    for (int i = 0, c = lane * W; i < P; i++, c += step)
        if (c < width) {
            x[i] = load_pack<W>(residual + row + c);
            if (branch) y[i] = load_pack<W>(branch + row + c);
        }
    if (branch && n < N) {
        DropoutRow keep(dropout, n);
        UNROLL
        for (int i = 0, c = lane * W; i < P; i++, c += step) {
            if (c >= width) continue;
            UNROLL
            for (int k = 0; k < W; k++) {  // rounded to T, as the backward pass will see it
                float b = (float)y[i].at[k];
                if (dropout.p > 0) b *= keep(c + k);
                x[i].at[k] = (T)((float)x[i].at[k] + b);
            }
            store_pack<W>(sum + row + c, x[i]);
        }
    }
    float s[1] = {0}, v[1] = {0}, m = 0;
    if (!RMS) {
        UNROLL
        for (int i = 0, c = lane * W; i < P; i++, c += step)
            if (c < width)
                for (int k = 0; k < W; k++) s[0] += (float)x[i].at[k];
        row_sums(s, warps);
        m = s[0] / C;
    }
    UNROLL
    for (int i = 0, c = lane * W; i < P; i++, c += step)
        if (c < width)
            for (int k = 0; k < W; k++) v[0] += ((float)x[i].at[k] - m) * ((float)x[i].at[k] - m);
    row_sums(v, warps);
    float r = 1.0f / sqrtf(v[0] / C + eps);
    UNROLL
    for (int i = 0, c = lane * W; i < P; i++, c += step) {
        if (c >= width) continue;
        float w[W], b[W] = {};
        load<W>(w, weight + c);  // the same for all rows: from the cache
        if (!RMS && bias) load<W>(b, bias + c);
        for (int k = 0; k < W; k++) x[i].at[k] = (T)(((float)x[i].at[k] - m) * r * w[k] + b[k]);
        store_pack<W>(out + row + c, x[i]);
    }
    if (lane == 0 && n < N) {
        if (!RMS) mean[n] = m;
        rstd[n] = r;
    }
}
template <class T> void residual_norm_forward(T* out, T* sum, float* mean, float* rstd, const T* residual,
    const T* branch, const T* weight, const T* bias, int N, int C, float eps, Dropout dropout) {
    pick_row<T>(rows_are_wide<T>(C, out, sum, residual, branch, weight, bias), C, [&](auto w, auto e, int warps) {
        launch(mean ? layernorm_forward_kernel<w(), e(), false, T> : layernorm_forward_kernel<w(), e(), true, T>,
            ceil_div(N, 4 / warps), 128, 0, out, sum, mean, rstd, residual, branch, weight, bias, N, C, eps, dropout,
            warps);
    });
}

// One block per chunk of `rows` rows, `warps` warps per row. A lane sees the same E channels in all its rows, so it
// sums their dweight and dbias in registers; at the end the block's groups of warps add theirs in shared memory, one
// after the other, and a small kernel adds the blocks'. No atomics, and dout and sum are read once (dev/kernels.md).
template <int W, int E, bool RMS, class T> __global__ void __launch_bounds__(128, sizeof(T) == 2 || E <= 24 ? 3 : 2)
    layernorm_backward_kernel(T* dsum, T* dbranch, const T* dout, const T* dresidual, const T* sum, const T* weight,
        const float* mean, const float* rstd, float* scratch, int N, int C, Dropout dropout, int rows, int warps) {
    constexpr int P = E / W, K = RMS ? 1 : 2;  // packs of a lane; sums of a row, and of its channels
    int groups = 4 / warps, group = threadIdx.x / 32 / warps, lane = threadIdx.x % (32 * warps), step = 32 * warps * W;
    int begin = blockIdx.x * rows, end = min(begin + rows, N);
    float dw[E] = {}, db[E] = {};  // db: not of RMSNorm
    for (int n0 = begin; n0 < end; n0 += groups) {
        int n = n0 + group, width = n < end ? C : 0;  // threads without a row come along to the barriers of row_sums
        size_t row = (size_t)n * C;
        Pack<T, W> d[P], x[P], res[P];
        UNROLL
        for (int i = 0, c = lane * W; i < P; i++, c += step)
            if (c < width) {
                d[i] = load_pack<W>(dout + row + c);
                x[i] = load_pack<W>(sum + row + c);
                if (dresidual) res[i] = load_pack<W>(dresidual + row + c);
            }
        float m = !RMS && n < end ? mean[n] : 0, r = n < end ? rstd[n] : 0, s[K] = {};  // Σ g, Σ g · xhat
        UNROLL
        for (int i = 0, c = lane * W; i < P; i++, c += step) {
            if (c >= width) continue;
            float w[W];
            load<W>(w, weight + c);  // the same for all rows: from the cache
            UNROLL
            for (int k = 0; k < W; k++) {
                float dk = (float)d[i].at[k], xhat = ((float)x[i].at[k] - m) * r, g = dk * w[k];
                if (!RMS) s[0] += g;
                s[K - 1] += g * xhat;
                dw[i * W + k] += dk * xhat;
                if (!RMS) db[i * W + k] += dk;
            }
        }
        row_sums(s, warps);
        if (n >= end) continue;  // there is no barrier below
        UNROLL
        for (int i = 0; i < P; i++) {  // else their fp32 copies would wait in registers
            opaque_pack(d[i]);
            opaque_pack(x[i]);
        }
        float g_mean = RMS ? 0 : s[0] / C, gx_mean = s[K - 1] / C;
        DropoutRow keep(dropout, n);
        UNROLL
        for (int i = 0, c = lane * W; i < P; i++, c += step) {
            if (c >= C) continue;
            float w[W];
            load<W>(w, weight + c);
            UNROLL
            for (int k = 0; k < W; k++) {
                float xhat = ((float)x[i].at[k] - m) * r, g = (float)d[i].at[k] * w[k];
                d[i].at[k] = (T)(r * (g - g_mean - xhat * gx_mean) + (dresidual ? (float)res[i].at[k] : 0.0f));
            }
            store_pack<W>(dsum + row + c, d[i]);
            if (!dbranch) continue;
            if (dropout.p > 0) {  // the branch gets the dsum that the residual gets, rounded
                UNROLL
                for (int k = 0; k < W; k++) d[i].at[k] = (T)((float)d[i].at[k] * keep(c + k));
            }
            store_pack<W>(dbranch + row + c, d[i]);
        }
    }
    DYNAMIC_SHARED(float, total);  // (K, E, lanes of a row)
    int lanes = 32 * warps;
    for (int g = 0; g < groups; g++) {
        if (group == g) {
            UNROLL
            for (int j = 0; j < E; j++) {
                if (g > 0) {
                    dw[j] += total[j * lanes + lane];
                    if (!RMS) db[j] += total[(E + j) * lanes + lane];
                }
                total[j * lanes + lane] = dw[j];
                if (!RMS) total[(E + j) * lanes + lane] = db[j];
            }
        }
        __syncthreads();  // the next group adds to what this one wrote
    }
    float* to = scratch + (size_t)blockIdx.x * K * C;  // (K, C)
    if (group != groups - 1) return;                   // the last one has the sums of all
    UNROLL
    for (int i = 0, c = lane * W; i < P; i++, c += step)
        if (c < C) {
            UNROLL
            for (int k = 0; k < W; k++) {
                to[c + k] = dw[i * W + k];
                if (!RMS) to[C + c + k] = db[i * W + k];
            }
        }
}
template <class T> void residual_norm_backward(T* dsum, T* dbranch, float* dweight, float* dbias, const T* dout,
    const T* dresidual, const T* sum, const T* weight, const float* mean, const float* rstd, float* scratch, int N,
    int C, Dropout dropout) {
    int K = mean ? 2 : 1, rows = (int)layernorm_rows(N), chunks = (int)ceil_div(N, rows);
    pick_row<T>(rows_are_wide<T>(C, dsum, dbranch, dout, dresidual, sum, weight), C, [&](auto w, auto e, int warps) {
        launch(mean ? layernorm_backward_kernel<w(), e(), false, T> : layernorm_backward_kernel<w(), e(), true, T>,
            chunks, 128, K * e() * 32 * warps * sizeof(float), dsum, dbranch, dout, dresidual, sum, weight, mean, rstd,
            scratch, N, C, dropout, rows, warps);
    });
    if (dweight) add_chunks(dweight, scratch, chunks, K * C, C, dbias);
}
}  // namespace gpu
#endif

// Without a residual
template <class T> void norm_forward(
    T* out, acc<T>* mean, acc<T>* rstd, const T* inp, const T* weight, const T* bias, int N, int C, acc<T> eps) {
    device::residual_norm_forward<T>(out, nullptr, mean, rstd, inp, nullptr, weight, bias, N, C, eps, Dropout());
}
template <class T> void norm_backward(T* dinp, acc<T>* dweight, acc<T>* dbias, const T* dout, const T* inp,
    const T* weight, const acc<T>* mean, const acc<T>* rstd, acc<T>* scratch, int N, int C) {
    device::residual_norm_backward<T>(
        dinp, nullptr, dweight, dbias, dout, nullptr, inp, weight, mean, rstd, scratch, N, C, Dropout());
}
