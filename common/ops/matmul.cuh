// matmul.cuh: the linear layer and its gradients. weight is (OC, C), as in PyTorch's Linear.
//
//   out(N,OC)     = inp(N,C) weightᵀ + bias         (and, fused: act = gelu(out))
//   dinp(N,C)     = dout(N,OC) weight               (and, fused: · gelu'(pre))
//   dweight(OC,C) += doutᵀ inp,   dbias(OC) += Σₙ dout
//
// On the CPU a single-threaded BLAS runs under one OpenMP loop of ours over panels of rows: the bits do not depend on
// the number of threads, and bias and GELU are applied while a panel is in the cache.
#pragma once
#include <algorithm>

#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/ops/chunks.cuh"
#include "common/ops/elementwise.cuh"
#include "common/ops/gemm.cuh"

constexpr size_t column_sum_scratch(size_t N, size_t C) { return ceil_div(N, CHUNK_ROWS) * C; }  // elements of acc<T>

namespace cpu {
// Rows of a panel: at most 256, in panels of nearly the same size, two of them at least (fine-tuning has batches of a
// few hundred tokens: 256 rows for one core and 44 for the other would waste much; smaller panels cost more packing of
// the weights than they gain). It depends on N alone, so that results do not depend on the number of threads.
inline int panel_rows(int N) { return N <= 64 ? 64 : (int)round_up(ceil_div(N, 2 * ceil_div(N, 512)), 8); }

// Few rows (generation: one row a prompt): panels of output channels instead, so that there is work for all threads.
// The weights are read once, straight from where they are: a BLAS would copy them into another order first, which takes
// longer than the product itself. Four sums at a time hide how long one addition takes.
constexpr int FEW_ROWS = 8;
template <class T> void matmul_few_rows(T* out, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    typedef acc<T> A;
#pragma omp parallel for schedule(static) if ((size_t)C * OC >= 8 * OMP_MIN_ELEMENTS)
    for (int o = 0; o < OC; o += 4) {
        const T* w[4];  // (C) each; beyond the last channel that one again
        for (int k = 0; k < 4; k++) w[k] = weight + (size_t)std::min(o + k, OC - 1) * C;
        const T *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];  // (C)
        for (int n = 0; n < N; n++) {
            const T* x = inp + (size_t)n * C;  // (C)
            A s0 = 0, s1 = 0, s2 = 0, s3 = 0;
            for (int c = 0; c < C; c++) {
                s0 += (A)x[c] * (A)w0[c];
                s1 += (A)x[c] * (A)w1[c];
                s2 += (A)x[c] * (A)w2[c];
                s3 += (A)x[c] * (A)w3[c];
            }
            const A s[4] = {s0, s1, s2, s3};
            for (int k = 0; k < 4 && o + k < OC; k++)
                out[(size_t)n * OC + o + k] = s[k] + (bias ? (A)bias[o + k] : A(0));
        }
    }
}
// f(n, rows) for every panel [n, n + rows) of N rows, each on one thread
template <class F> void for_panels(int N, F f) {
    const int panel = panel_rows(N);
#pragma omp parallel for schedule(static, 1)
    for (int n = 0; n < N; n += panel) f(n, std::min(panel, N - n));
}
// out(N,OC) = inp(N,C) weight(OC,C)ᵀ + bias(OC), and then finish(row) for each row of OC elements from `row` on
template <class T, class Finish>
void matmul_panels(T* out, const T* inp, const T* weight, const T* bias, int N, int C, int OC, Finish finish) {
    for_panels(N, [&](int n, int rows) {
        size_t begin = (size_t)n * OC, end = begin + (size_t)rows * OC;
        gemm(false, true, rows, OC, C, inp + (size_t)n * C, C, weight, C, T(0), out + begin, OC);
        for (size_t row = begin; row < end; row += OC) {
            for (int c = 0; bias && c < OC; c++) out[row + c] = (acc<T>)out[row + c] + (acc<T>)bias[c];
            finish(row);
        }
    });
}
// out(N,OC) = inp(N,C) weight(OC,C)ᵀ + bias(OC); bias may be nullptr
template <class T> void matmul_forward(T* out, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    if (N <= FEW_ROWS) return matmul_few_rows(out, inp, weight, bias, N, C, OC);
    matmul_panels(out, inp, weight, bias, N, C, OC, [](size_t) {});
}
// pre(N,OC) = inp(N,C) weight(OC,C)ᵀ + bias(OC), act(N,OC) = gelu(pre); bias may be nullptr
template <Gelu kind, class T>
void matmul_gelu_forward(T* act, T* pre, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    if (N <= FEW_ROWS) {
        matmul_few_rows(pre, inp, weight, bias, N, C, OC);
        return elementwise(GeluOf<kind>(), (size_t)N * OC, act, pre);
    }
    matmul_panels(pre, inp, weight, bias, N, C, OC, [&](size_t row) {
        for (int c = 0; c < OC; c++) act[row + c] = gelu<kind>((acc<T>)pre[row + c]);
    });
}
// dinp(N,C) = dout(N,OC) weight(OC,C); with add: += instead of =
template <class T>
void matmul_backward_input(T* dinp, const T* dout, const T* weight, int N, int C, int OC, bool add = false) {
    for_panels(N, [&](int n, int rows) {
        gemm(false, false, rows, C, OC, dout + (size_t)n * OC, OC, weight, C, T(add ? 1 : 0), dinp + (size_t)n * C, C);
    });
}
// the same where inp was gelu(pre(N,C)): dpre(N,C) = (dout(N,OC) weight(OC,C)) · gelu'(pre)
template <Gelu kind, class T>
void matmul_backward_input_gelu(T* dpre, const T* dout, const T* weight, const T* pre, int N, int C, int OC) {
    for_panels(N, [&](int n, int rows) {
        T* d = dpre + (size_t)n * C;       // (rows, C)
        const T* p = pre + (size_t)n * C;  // (rows, C)
        gemm(false, false, rows, C, OC, dout + (size_t)n * OC, OC, weight, C, T(0), d, C);
        for (size_t i = 0; i < (size_t)rows * C; i++) d[i] = (acc<T>)d[i] * gelu_derivative<kind>((acc<T>)p[i]);
    });
}
// sum(C) += Σₙ inp(N,C); scratch(column_sum_scratch(N,C))
template <class T> void column_sum(acc<T>* sum, const T* inp, acc<T>* scratch, int N, int C) {
    int chunks = sum_chunks(scratch, N, C, [&](int n, acc<T>* s) {
        for (int c = 0; c < C; c++) s[c] += (acc<T>)inp[(size_t)n * C + c];
    });
    add_chunks(sum, scratch, chunks, C, C);
}
// dweight(OC,C) += dout(N,OC)ᵀ inp(N,C); dbias(OC) += Σₙ dout, unless nullptr; scratch(column_sum_scratch(N,OC))
template <class T> void matmul_backward_weight(
    acc<T>* dweight, acc<T>* dbias, const T* dout, const T* inp, acc<T>* scratch, int N, int C, int OC) {
    if (N == 0) return;
    // panels of output channels: small enough to share among threads, large enough that packing inp again for each does
    // not matter
    int panel = OC <= 512 ? std::max((int)round_up(ceil_div(OC, 2), 16), 64)
                          : std::clamp((int)round_up(ceil_div(OC, 4), 64), 128, 512);
#pragma omp parallel for schedule(static, 1)
    for (int o = 0; o < OC; o += panel)
        gemm(true, false, std::min(panel, OC - o), C, N, dout + o, OC, inp, C, acc<T>(1), dweight + (size_t)o * C, C);
    if (dbias) column_sum(dbias, dout, scratch, N, OC);
}
// c(m,n) = beta c + op(a) op(b) of parts of larger matrices, as gemm(); panels of the longer side of c, of a size that
// does not depend on the number of threads
template <class TA, class TC> void gemm_of_part(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda,
    const TA* b, size_t ldb, TC beta, TC* c, size_t ldc) {
    for_panels(std::max(m, n), [&](int i, int part) {
        if (m >= n) gemm(ta, tb, part, n, k, a + (ta ? i : i * lda), lda, b, ldb, beta, c + i * ldc, ldc);
        else gemm(ta, tb, m, part, k, a, lda, b + (tb ? i * ldb : i), ldb, beta, c + i, ldc);
    });
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
namespace gpu {
// out(N,OC) += bias(OC), and act = gelu(out) if ACT; one thread per W elements
template <int W, bool ACT, Gelu kind, class T>
__global__ void bias_kernel(T* act, T* out, const T* bias, size_t n, int OC) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= n) return;
    float x[W], b[W];
    load<W>(x, out + i);
    load<W>(b, bias + i % OC);
    for (int k = 0; k < W; k++) x[k] = (float)(T)(x[k] + b[k]);  // rounded, as the backward pass will see it
    store<W>(out + i, x);
    if constexpr (ACT) {
        UNROLL
        for (int k = 0; k < W; k++) x[k] = gelu<kind>(x[k]);
        store<W>(act + i, x);
    }
}
template <bool ACT, Gelu kind, class T> void add_bias(T* act, T* out, const T* bias, int N, int OC) {
    size_t n = (size_t)N * OC;
    pick_width<T>(rows_are_wide<T>(OC, act, out, bias), [&](auto w) {
        launch(bias_kernel<w(), ACT, kind, T>, ceil_div(n, THREADS * w()), THREADS, 0, act, out, bias, n, OC);
    });
}
// cuBLASLt's GELU is the tanh form, to bf16's accuracy at least; fp32 is for exactness and takes ours.
template <class T> constexpr bool cublas_gelu = std::is_same_v<T, bf16>;

template <class T> void matmul_forward(T* out, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    auto product = [&] { gemm(false, true, N, OC, C, inp, C, weight, C, 0, out, OC); };
    if (!bias) return product();
    fused_gemm(false, true, N, OC, C, inp, C, weight, C, 0, out, OC, Fused{Epilogue::bias, bias}, [&] {
        product();
        add_bias<false, Gelu::erf>((T*)nullptr, out, bias, N, OC);
    });
}
template <Gelu kind, class T>
void matmul_gelu_forward(T* act, T* pre, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    auto gelu_after = [&] { elementwise(GeluOf<kind>(), (size_t)N * OC, act, pre); };
    if (!bias) {
        matmul_forward(pre, inp, weight, bias, N, C, OC);
        return gelu_after();
    }
    auto bias_then_gelu = [&] {
        auto both_after = [&] {
            gemm(false, true, N, OC, C, inp, C, weight, C, 0, pre, OC);
            add_bias<true, kind>(act, pre, bias, N, OC);
        };
        fused_gemm(
            false, true, N, OC, C, inp, C, weight, C, 0, pre, OC, Fused{Epilogue::bias, bias}, both_after, gelu_after);
    };
    if constexpr (kind == Gelu::tanh && cublas_gelu<T>)
        fused_gemm(
            false, true, N, OC, C, inp, C, weight, C, 0, act, OC, Fused{Epilogue::gelu, bias, pre}, bias_then_gelu);
    else bias_then_gelu();
}
template <class T>
void matmul_backward_input(T* dinp, const T* dout, const T* weight, int N, int C, int OC, bool add = false) {
    gemm(false, false, N, C, OC, dout, OC, weight, C, add ? 1 : 0, dinp, C);
}
template <Gelu kind, class T>
void matmul_backward_input_gelu(T* dpre, const T* dout, const T* weight, const T* pre, int N, int C, int OC) {
    auto product_then_gelu = [&] {
        gemm(false, false, N, C, OC, dout, OC, weight, C, 0, dpre, C);
        elementwise(GeluGradient<kind>(), (size_t)N * C, dpre, dpre, pre);
    };
    if constexpr (kind == Gelu::tanh && cublas_gelu<T>)
        fused_gemm(false, false, N, C, OC, dout, OC, weight, C, 0, dpre, C,
            Fused{Epilogue::gelu_gradient, nullptr, pre}, product_then_gelu);
    else product_then_gelu();
}

// one block per chunk of rows and 128 channels, one thread per channel
template <class T> __global__ void column_sum_kernel(float* scratch, const T* inp, int N, int C) {
    int c = blockIdx.x * blockDim.x + threadIdx.x, begin = blockIdx.y * CHUNK_ROWS, end = min(begin + CHUNK_ROWS, N);
    if (c >= C) return;
    float sum = 0;
    for (int n = begin; n < end; n++) sum += (float)inp[(size_t)n * C + c];
    scratch[(size_t)blockIdx.y * C + c] = sum;
}
template <class T> void column_sum(float* sum, const T* inp, float* scratch, int N, int C) {
    int chunks = (int)ceil_div(N, CHUNK_ROWS);
    launch(column_sum_kernel<T>, dim3((unsigned)ceil_div(C, 128), chunks), 128, 0, scratch, inp, N, C);
    add_chunks(sum, scratch, chunks, C, C);
}
template <class T> void matmul_backward_weight(
    float* dweight, float* dbias, const T* dout, const T* inp, float* scratch, int N, int C, int OC) {
    if (N == 0) return;
    auto product = [&] { gemm(true, false, OC, C, N, dout, OC, inp, C, 1, dweight, C); };
    if (!dbias) return product();
    // cuBLASLt sets, we add: micro-batches accumulate
    auto add_sums = [&] { add_chunks(dbias, scratch, 1, OC, OC); };
    auto sums_after = [&] {
        product();
        column_sum(dbias, dout, scratch, N, OC);
    };
    fused_gemm(true, false, OC, C, N, dout, OC, inp, C, 1, dweight, C,
        Fused{Epilogue::bias_gradient, nullptr, nullptr, scratch, dbias}, sums_after, add_sums);
}
template <class TA, class TC> void gemm_of_part(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda,
    const TA* b, size_t ldb, float beta, TC* c, size_t ldc) {
    gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
}
}  // namespace gpu
#endif
