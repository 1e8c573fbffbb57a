// matmul.cuh: the linear layer and its gradients. weight is (OC, C), as in PyTorch's Linear.
//
//   out(N,OC)     = inp(N,C) weightᵀ + bias         (and, fused: act = gelu(out))
//   dinp(N,C)     = dout(N,OC) weight               (and, fused: · gelu'(pre))
//   dweight(OC,C) += doutᵀ inp,   dbias(OC) += Σₙ dout
//
// On the CPU a single-threaded BLAS runs under one OpenMP loop of ours over panels of rows: the bits do not depend on
// the number of threads.
#pragma once
#include <string.h>

#include <algorithm>
#include <type_traits>
#include <vector>

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

// Few rows (generation: one row a text): panels of output channels instead, so that there is work for all threads. The
// weights are read once, straight from where they are, as T or bf16: a BLAS would copy them into another order first,
// which takes longer than the product itself. A tile of K channels and R rows has its sums in registers, a vector of 64
// bytes each, and asks for the weights of the next ones. A sum is added up in one order, whatever N and the tile are.
constexpr int FEW_ROWS = 32;
#ifdef __CUDACC__
#define KEEP_IN_REGISTERS
#else
#define KEEP_IN_REGISTERS _Pragma("GCC unroll 8")
#endif
template <class A> struct VectorOf {
    typedef A type __attribute__((vector_size(64)));
};
template <int LANES, class V, class X> void load_vector(V& v, const X* x) {
    memcpy((void*)&v, (const void*)x, sizeof v);
}
template <int LANES, class V> void load_vector(V& v, const bf16* x) {  // a bf16 is the upper half of a float
    typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
    typedef float Floats __attribute__((vector_size(4 * LANES)));
    uint16_t half __attribute__((vector_size(2 * LANES)));
    memcpy((void*)&half, (const void*)x, sizeof half);
    v = __builtin_convertvector((Floats)(__builtin_convertvector(half, Bits) << 16), V);
}
// sums(n) = the sum of each of lanes(n, LANES), by halves. One function for all tiles: one order.
template <int LANES, class A> __attribute__((noinline)) void sum_lanes(A* sums, const A* lanes, int n) {
    for (int i = 0; i < n; i++, lanes += LANES) {
        A half[LANES / 2];
        for (int l = 0; l < LANES / 2; l++) half[l] = lanes[l] + lanes[LANES / 2 + l];
        for (int h = LANES / 4; h > 0; h /= 2)
            for (int l = 0; l < h; l++) half[l] += half[h + l];
        sums[i] = half[0];
    }
}
// out[r OC + k] = the product's of R rows of inp(R,C) and K of weight(K,C), and bias(K)
template <int K, int R, class T, class W>
void few_rows_tile(T* out, const T* inp, const W* weight, const T* bias, int C, int OC) {
    typedef acc<T> A;
    typedef typename VectorOf<A>::type V;
    constexpr int LANES = 64 / sizeof(A);
    V s[K][R] = {};
    int c = 0;
    for (; c + LANES <= C; c += LANES) {
        V x[R], w;
        KEEP_IN_REGISTERS
        for (int r = 0; r < R; r++) load_vector<LANES>(x[r], inp + (size_t)r * C + c);
        KEEP_IN_REGISTERS
        for (int k = 0; k < K; k++) {
            load_vector<LANES>(w, weight + (size_t)k * C + c);
            __builtin_prefetch((const void*)(weight + (size_t)(2 * K + k) * C + c), 0, 2);     // from memory
            __builtin_prefetch((const void*)(weight + (size_t)k * C + c + 16 * LANES), 0, 3);  // from the L2 cache
            KEEP_IN_REGISTERS
            for (int r = 0; r < R; r++) s[k][r] += x[r] * w;
        }
    }
    A lanes[K][R][LANES], sums[K][R];
    KEEP_IN_REGISTERS
    for (int k = 0; k < K; k++) {
        KEEP_IN_REGISTERS
        for (int r = 0; r < R; r++) memcpy((void*)lanes[k][r], (const void*)&s[k][r], sizeof s[k][r]);
    }
    for (int l = 0; c + l < C; l++)
        for (int k = 0; k < K; k++)
            for (int r = 0; r < R; r++)
                lanes[k][r][l] += (A)inp[(size_t)r * C + c + l] * (A)weight[(size_t)k * C + c + l];
    sum_lanes<LANES>(sums[0], lanes[0][0], K * R);
    for (int k = 0; k < K; k++)
        for (int r = 0; r < R; r++) out[(size_t)r * OC + k] = sums[k][r] + (bias ? (A)bias[k] : A(0));
}
// out(N,OC) = inp(N,C) weight(OC,C)ᵀ + bias(OC), W: T or bf16
template <class T, class W>
void matmul_few_rows(T* out, const T* inp, const W* weight, const T* bias, int N, int C, int OC) {
    // of K channels from o on, all rows
    auto channels = [&](auto K, int o) {
        const W* w = weight + (size_t)o * C;     // (K, C)
        const T* b = bias ? bias + o : nullptr;  // (K)
        int n = 0;
        for (; n + 8 <= N; n += 8) few_rows_tile<K(), 8>(out + (size_t)n * OC + o, inp + (size_t)n * C, w, b, C, OC);
        for (; n + 4 <= N; n += 4) few_rows_tile<K(), 4>(out + (size_t)n * OC + o, inp + (size_t)n * C, w, b, C, OC);
        for (; n < N; n++) few_rows_tile<K(), 1>(out + (size_t)n * OC + o, inp + (size_t)n * C, w, b, C, OC);
    };
#pragma omp parallel for schedule(guided, 8) if ((size_t)C * OC >= 8 * OMP_MIN_ELEMENTS)
    for (int o = 0; o < OC; o += 2) {
        if (o + 1 < OC) channels(std::integral_constant<int, 2>(), o);
        else channels(std::integral_constant<int, 1>(), o);
    }
}
// f(n, rows) for every panel [n, n + rows) of N rows, each on one thread
template <class F> void for_panels(int N, F f) {
    const int panel = panel_rows(N);
#pragma omp parallel for schedule(static, 1)
    for (int n = 0; n < N; n += panel) f(n, std::min(panel, N - n));
}
// out(N,OC) = inp(N,C) weight(OC,C)ᵀ + bias(OC); bias may be nullptr. W: T, or bf16 that become T by panels of channels
template <class T, class W>
void matmul_forward(T* out, const T* inp, const W* weight, const T* bias, int N, int C, int OC) {
    if (N <= FEW_ROWS) return matmul_few_rows(out, inp, weight, bias, N, C, OC);
    if constexpr (std::is_same_v<T, W>)
        return for_panels(N, [&](int n, int rows) {
            T* o = out + (size_t)n * OC;  // (rows, OC)
            gemm(false, true, rows, OC, C, inp + (size_t)n * C, C, weight, C, T(0), o, OC);
            for (int r = 0; bias && r < rows; r++, o += OC)
                for (int c = 0; c < OC; c++) o[c] = (acc<T>)o[c] + (acc<T>)bias[c];
        });
    constexpr int PANEL = 128;
#pragma omp parallel for schedule(dynamic, 1)
    for (int o = 0; o < OC; o += PANEL) {
        const int rows = std::min(PANEL, OC - o);
        const std::vector<T> panel(weight + (size_t)o * C, weight + (size_t)(o + rows) * C);  // (rows, C)
        gemm(false, true, N, rows, C, inp, C, panel.data(), C, T(0), out + o, OC);
        for (int n = 0; bias && n < N; n++)
            for (int k = 0; k < rows; k++) {
                T& to = out[(size_t)n * OC + o + k];
                to = (acc<T>)to + (acc<T>)bias[o + k];
            }
    }
}
// pre(N,OC) = inp(N,C) weight(OC,C)ᵀ + bias(OC), act(N,OC) = gelu(pre); bias may be nullptr
template <Gelu kind, class T>
void matmul_gelu_forward(T* act, T* pre, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    matmul_forward(pre, inp, weight, bias, N, C, OC);
    elementwise(GeluOf<kind>(), (size_t)N * OC, act, pre);
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
    matmul_backward_input(dpre, dout, weight, N, C, OC);
    elementwise(GeluGradient<kind>(), (size_t)N * C, dpre, dpre, pre);
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
// out(N,OC) += bias(OC); one thread per W elements
template <int W, class T> __global__ void bias_kernel(T* out, const T* bias, size_t n, int OC) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= n) return;
    float x[W], b[W];
    load<W>(x, out + i);
    load<W>(b, bias + i % OC);
    for (int k = 0; k < W; k++) x[k] += b[k];
    store<W>(out + i, x);
}
// cuBLASLt's GELU is the tanh form, to bf16's accuracy at least; fp32 is for exactness and takes ours.
template <class T> constexpr bool cublas_gelu = std::is_same_v<T, bf16>;

template <class T> void matmul_forward(T* out, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    auto product = [&] { gemm(false, true, N, OC, C, inp, C, weight, C, 0, out, OC); };
    if (!bias) return product();
    fused_gemm(false, true, N, OC, C, inp, C, weight, C, 0, out, OC, Fused{Epilogue::bias, bias}, [&] {
        product();
        pick_width<T>(rows_are_wide<T>(OC, out, bias), [&](auto w) {
            size_t n = (size_t)N * OC;
            launch(bias_kernel<w(), T>, ceil_div(n, THREADS * w()), THREADS, 0, out, bias, n, OC);
        });
    });
}
template <Gelu kind, class T>
void matmul_gelu_forward(T* act, T* pre, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    auto gelu_after = [&] {
        matmul_forward(pre, inp, weight, bias, N, C, OC);
        elementwise(GeluOf<kind>(), (size_t)N * OC, act, pre);
    };
    if constexpr (kind == Gelu::tanh && cublas_gelu<T>)
        if (bias)
            return fused_gemm(
                false, true, N, OC, C, inp, C, weight, C, 0, act, OC, Fused{Epilogue::gelu, bias, pre}, gelu_after);
    gelu_after();
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
template <class... X> void gemm_of_part(X... x) { gemm(x...); }
}  // namespace gpu
#endif
