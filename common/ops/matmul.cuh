// matmul.cuh: the linear layer and its gradients. weight is (OC, C), as in PyTorch's Linear.
//
//   out(N,OC)     = inp(N,C) weightᵀ + bias         (and, fused: act = gelu(out))
//   dinp(N,C)     = dout(N,OC) weight               (and, fused: · gelu'(pre))
//   dweight(OC,C) += doutᵀ inp,   dbias(OC) += Σₙ dout
//
// On the CPU a single-threaded BLAS runs under one OpenMP loop of ours over panels of rows: the bits do not depend on
// the number of threads, and bias and GELU are applied while a panel is in the cache. Without a BLAS (make BLAS=loops)
// a blocked loop stands in.
#pragma once
#include <string.h>

#include <cmath>
#include <vector>

#ifndef BLAS_LOOPS
#include <cblas.h>
extern "C" void openblas_set_num_threads(int) __attribute__((weak));
#endif

#include <algorithm>

#include "common/base/errors.h"
#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/ops/gelu.cuh"
#include "common/ops/layernorm.cuh"  // CHUNK_ROWS

constexpr size_t column_sum_scratch(size_t N, size_t C) { return ceil_div(N, CHUNK_ROWS) * C; }  // elements of acc<T>

namespace cpu {
// c(m,n) = beta c + op(a) op(b), row-major with leading dimensions lda, ldb, ldc; op(x) = xᵀ where ta / tb is set. Runs
// on one thread. c may be of a wider type than a and b (gradients of bf16 parameters are fp32).
template <class TA, class TC>
void gemm_loops(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda, const TA* b, size_t ldb, TC beta, TC* c,
                size_t ldc) {
    typedef acc<TA> A;
    constexpr int KB = 128, NB = 256;  // op(b) in blocks (KB, NB) that stay in the cache, as acc<TA>
    A block[KB * NB], row[NB];
    for (int j0 = 0; j0 < n; j0 += NB) {
        int nb = std::min(NB, n - j0);
        std::vector<A> sum((size_t)m * nb, A(0));  // (m, nb): rounded to TC only once
        for (int p0 = 0; p0 < k; p0 += KB) {
            int kb = std::min(KB, k - p0);
            for (int p = 0; p < kb; p++)
                for (int j = 0; j < nb; j++)
                    block[p * NB + j] = (A)(tb ? b[(size_t)(j0 + j) * ldb + p0 + p]
                                               : b[(size_t)(p0 + p) * ldb + j0 + j]);
            for (int i = 0; i < m; i++) {
                A* s = &sum[(size_t)i * nb];
                for (int j = 0; j < nb; j++) row[j] = s[j];
                for (int p = 0; p < kb; p++) {
                    A x = (A)(ta ? a[(size_t)(p0 + p) * lda + i] : a[(size_t)i * lda + p0 + p]);
                    for (int j = 0; j < nb; j++) row[j] += x * block[p * NB + j];
                }
                for (int j = 0; j < nb; j++) s[j] = row[j];
            }
        }
        for (int i = 0; i < m; i++)
            for (int j = 0; j < nb; j++) {
                TC& out = c[(size_t)i * ldc + j0 + j];
                out = sum[(size_t)i * nb + j] + (beta == TC(0) ? A(0) : A(beta) * A(out));
            }
    }
}
template <class TA, class TC>
void gemm(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda, const TA* b, size_t ldb, TC beta, TC* c,
          size_t ldc) {
    if (m == 0 || n == 0) return;
#ifndef BLAS_LOOPS
    CBLAS_TRANSPOSE opa = ta ? CblasTrans : CblasNoTrans, opb = tb ? CblasTrans : CblasNoTrans;
    if constexpr (std::is_same_v<TA, float>)
        cblas_sgemm(CblasRowMajor, opa, opb, m, n, k, 1, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
    else if constexpr (std::is_same_v<TA, double>)
        cblas_dgemm(CblasRowMajor, opa, opb, m, n, k, 1, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
    else
#endif
        gemm_loops(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
}
// Once, at the start of a program: the BLAS must not start threads of its own under our loops.
inline void blas_init() {
#ifndef BLAS_LOOPS
    if (openblas_set_num_threads) openblas_set_num_threads(1);
#endif
}

// Rows of a panel: at most 256, in panels of nearly the same size, two of them at least (fine-tuning has batches of a
// few hundred tokens: 256 rows for one core and 44 for the other would waste much; smaller panels cost more packing of
// the weights than they gain). It depends on N alone, so that results do not depend on the number of threads.
inline int panel_rows(int N) { return N <= 64 ? 64 : (int)round_up(ceil_div(N, 2 * ceil_div(N, 512)), 8); }

// Few rows (generation: one row a prompt): panels of output channels instead, so that there is work for all threads. Up
// to FEW_ROWS the weights are read once, straight from where they are: a BLAS would copy them into another order first,
// which takes longer than the product itself. Four output channels at a time: so many sums under way hide how long one
// addition takes.
constexpr int FEW_ROWS = 8;
template <class T>
void matmul_few_rows(T* out, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    typedef acc<T> A;
#pragma omp parallel for schedule(static) if ((size_t)C * OC >= 8 * OMP_MIN_ELEMENTS)
    for (int o = 0; o < OC; o += 4) {
        const T* w[4];  // (C) each; beyond the last channel that one again
        for (int k = 0; k < 4; k++) w[k] = weight + (size_t)std::min(o + k, OC - 1) * C;
        const T *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
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
// out(N,OC) = inp(N,C) weight(OC,C)ᵀ + bias(OC); bias may be nullptr
template <class T>
void matmul_forward(T* out, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    if (N <= FEW_ROWS) return matmul_few_rows(out, inp, weight, bias, N, C, OC);
    const int panel = panel_rows(N);
#pragma omp parallel for schedule(static, 1)
    for (int n = 0; n < N; n += panel) {
        int rows = std::min(panel, N - n);
        T* o = out + (size_t)n * OC;  // (rows, OC)
        gemm(false, true, rows, OC, C, inp + (size_t)n * C, C, weight, C, T(0), o, OC);
        if (!bias) continue;
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < OC; c++) o[(size_t)r * OC + c] = (acc<T>)o[(size_t)r * OC + c] + (acc<T>)bias[c];
    }
}
// pre(N,OC) = inp(N,C) weight(OC,C)ᵀ + bias(OC), act(N,OC) = gelu(pre)
template <Gelu kind, class T>
void matmul_gelu_forward(T* act, T* pre, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    if (N <= FEW_ROWS) {
        matmul_few_rows(pre, inp, weight, bias, N, C, OC);
        return gelu_forward<kind>(act, (const T*)pre, (size_t)N * OC);
    }
    const int panel = panel_rows(N);
#pragma omp parallel for schedule(static, 1)
    for (int n = 0; n < N; n += panel) {
        int rows = std::min(panel, N - n);
        T *p = pre + (size_t)n * OC, *a = act + (size_t)n * OC;  // (rows, OC)
        gemm(false, true, rows, OC, C, inp + (size_t)n * C, C, weight, C, T(0), p, OC);
        for (int r = 0; r < rows; r++, p += OC, a += OC)
            for (int c = 0; c < OC; c++) {
                p[c] = (acc<T>)p[c] + (acc<T>)bias[c];
                a[c] = gelu<kind>((acc<T>)p[c]);
            }
    }
}
// dinp(N,C) = dout(N,OC) weight(OC,C); with add: += instead of =
template <class T>
void matmul_backward_input(T* dinp, const T* dout, const T* weight, int N, int C, int OC, bool add = false) {
    const int panel = panel_rows(N);
#pragma omp parallel for schedule(static, 1)
    for (int n = 0; n < N; n += panel) {
        int rows = std::min(panel, N - n);
        gemm(false, false, rows, C, OC, dout + (size_t)n * OC, OC, weight, C, T(add ? 1 : 0), dinp + (size_t)n * C, C);
    }
}
// the same where inp was gelu(pre(N,C)): dpre(N,C) = (dout(N,OC) weight(OC,C)) · gelu'(pre)
template <Gelu kind, class T>
void matmul_backward_input_gelu(T* dpre, const T* dout, const T* weight, const T* pre, int N, int C, int OC) {
    const int panel = panel_rows(N);
#pragma omp parallel for schedule(static, 1)
    for (int n = 0; n < N; n += panel) {
        int rows = std::min(panel, N - n);
        T* d = dpre + (size_t)n * C;       // (rows, C)
        const T* p = pre + (size_t)n * C;  // (rows, C)
        gemm(false, false, rows, C, OC, dout + (size_t)n * OC, OC, weight, C, T(0), d, C);
        for (size_t i = 0; i < (size_t)rows * C; i++) d[i] = (acc<T>)d[i] * gelu_derivative<kind>((acc<T>)p[i]);
    }
}
// sum(C) += Σₙ inp(N,C); scratch(column_sum_scratch(N,C))
template <class T>
void column_sum(acc<T>* sum, const T* inp, acc<T>* scratch, int N, int C) {
    int chunks = (int)ceil_div(N, CHUNK_ROWS);
#pragma omp parallel for
    for (int k = 0; k < chunks; k++) {
        acc<T>* s = scratch + (size_t)k * C;  // (C)
        for (int c = 0; c < C; c++) s[c] = 0;
        for (int n = k * CHUNK_ROWS; n < N && n < (k + 1) * CHUNK_ROWS; n++)
            for (int c = 0; c < C; c++) s[c] += (acc<T>)inp[(size_t)n * C + c];
    }
    for (int k = 0; k < chunks; k++)
        for (int c = 0; c < C; c++) sum[c] += scratch[(size_t)k * C + c];
}
// dweight(OC,C) += dout(N,OC)ᵀ inp(N,C); dbias(OC) += Σₙ dout, unless nullptr; scratch(column_sum_scratch(N,OC)), not
// read without dbias
template <class T>
void matmul_backward_weight(acc<T>* dweight, acc<T>* dbias, const T* dout, const T* inp, acc<T>* scratch, int N, int C,
                            int OC) {
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
inline void keep_plans(const std::string&, bool) {}  // see gpu:: below
inline void time_products(bool) {}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/matmul_plans.h"
#include "common/device/pack.cuh"
#include "common/device/reduce.cuh"
#ifdef __CUDACC__
#include <cublasLt.h>
#define CUBLASLT  // or test/cublaslt.h stands in for it
#endif
namespace gpu {
// The one seam to the matrix product: gemm(), row-major, as cpu::gemm, and fused_gemm(), which leaves the epilogue to
// cuBLASLt too. Products are summed in fp32 and rounded to c's type, by cuBLASLt's epilogues once, behind them; where a
// kernel of ours follows the product, before it as well.
struct Fused {  // what an Epilogue needs; cuBLASLt wants 16-byte addresses, and pre's rows a multiple of 8 elements
                // long
    Epilogue kind = Epilogue::none;
    const void* bias = nullptr;  // (n), of c's type
    const void* pre =
        nullptr;             // (m,n), of c's type, its rows as far apart as c's; written by gelu, read by gelu_gradient
    float* sum = nullptr;    // (m), overwritten
    float* total = nullptr;  // (m), what then() and otherwise() add it to
};
#ifdef CUBLASLT
#define CUBLAS_CHECK(call)                                                                      \
    do {                                                                                        \
        cublasStatus_t status_ = (call);                                                        \
        if (status_ != CUBLAS_STATUS_SUCCESS)                                                   \
            fail("%s:%d: %s: %s", __FILE__, __LINE__, #call, cublasLtGetStatusString(status_)); \
    } while (0)

constexpr size_t WORKSPACE = 32 << 20;  // bytes; what NVIDIA recommends for Hopper
constexpr int CANDIDATES = 8;           // algorithms that are timed for a product
inline cublasLtHandle_t cublas = nullptr;
inline void* workspace = nullptr;
inline MatmulPlans plans;
inline bool products_are_timed = false;
// Once, at the start of a program, before memory is planned
inline void blas_init() {
    cpu::blas_init();
#ifdef __CUDACC__
    int devices = 0;
    if (cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess)
        fail("built for a GPU, and here is none that it can use (%s): build for the CPU with make DEVICE=cpu",
             cudaGetErrorString(error));
#endif
    CUBLAS_CHECK(cublasLtCreate(&cublas));
    workspace = device_alloc(WORKSPACE);
}
// The plans of a run are in this file, and new ones are added to it.
inline void keep_plans(const std::string& path, bool renew) {
    plans.open(path, device_name(), format("%zu", cublasLtGetVersion()), renew);
}
// While it is on, a product of a new shape is timed at its first use, else it takes the heuristic's first algorithm.
// Nothing is timed while a CUDA graph is captured.
inline void time_products(bool on) { products_are_timed = on; }
inline bool may_time() {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    if (products_are_timed) CUDA_CHECK(cudaStreamIsCapturing(stream, &capture));
    return products_are_timed && capture == cudaStreamCaptureStatusNone;
}

// A product as cuBLASLt sees it. It stores by columns: what we call c is cᵀ to it, and cᵀ = op(b)ᵀ op(a)ᵀ. So its A is
// our b, its B our a, the rows of its D run along n: there the bias belongs, and the bias gradient, along m, is that of
// its B.
struct Product {
    const MatmulShape& shape;
    const void *a, *b;
    void* c;
    float beta;
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a_layout, b_layout, c_layout;

    Product(const MatmulShape& s, const void* a, const void* b, float beta, void* c, const Fused& f)
        : shape(s), a(a), b(b), c(c), beta(beta) {
        auto type = [](int64_t bytes) { return bytes == 4 ? CUDA_R_32F : CUDA_R_16BF; };
        CUBLAS_CHECK(cublasLtMatrixLayoutInit(&a_layout, type(s.in_bytes), s.ta ? s.m : s.k, s.ta ? s.k : s.m, s.lda));
        CUBLAS_CHECK(cublasLtMatrixLayoutInit(&b_layout, type(s.in_bytes), s.tb ? s.k : s.n, s.tb ? s.n : s.k, s.ldb));
        CUBLAS_CHECK(cublasLtMatrixLayoutInit(&c_layout, type(s.out_bytes), s.n, s.m, s.ldc));
        CUBLAS_CHECK(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F,
                                            CUDA_R_32F));  // sums in fp32, and fp32 is never rounded to TF32
        auto set = [&](cublasLtMatmulDescAttributes_t what, auto value) {
            CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(&operation, what, &value, sizeof value));
        };
        set(CUBLASLT_MATMUL_DESC_TRANSA, s.tb ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(CUBLASLT_MATMUL_DESC_TRANSB, s.ta ? CUBLAS_OP_T : CUBLAS_OP_N);
        constexpr cublasLtEpilogue_t epilogues[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS,
                                                    CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU,
                                                    CUBLASLT_EPILOGUE_BGRADB};  // in Epilogue's order
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogues[(int)f.kind]);
        if (f.bias || f.sum) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, f.sum ? (const void*)f.sum : f.bias);
        if (f.pre) {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, f.pre);
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, s.ldc);
        }
    }
    cublasStatus_t run(const MatmulPlan& plan) {
        cublasLtMatmulAlgo_t algorithm;
        static_assert(sizeof algorithm == sizeof plan.algorithm, "plans.h holds the whole of it");
        memcpy(&algorithm, plan.algorithm.data(), sizeof algorithm);
        float one = 1;
        return cublasLtMatmul(cublas, &operation, &one, b, &b_layout, a, &a_layout, &beta, c, &c_layout, c, &c_layout,
                              &algorithm, workspace, WORKSPACE, stream);
    }
    // Can cuBLASLt run a plan that comes from a file?
    bool accepts(const MatmulPlan& plan) {
        if (plan.separate) return shape.epilogue != Epilogue::none;
        cublasLtMatmulAlgo_t algorithm;
        memcpy(&algorithm, plan.algorithm.data(), sizeof algorithm);
        cublasLtMatmulHeuristicResult_t result{};
        cublasStatus_t status = cublasLtMatmulAlgoCheck(cublas, &operation, &b_layout, &a_layout, &c_layout, &c_layout,
                                                        &algorithm, &result);
        return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= WORKSPACE;
    }
    // What the heuristic offers, the fastest by its estimate first; nothing where cuBLASLt has no kernel for this shape
    // and epilogue
    std::vector<MatmulPlan> candidates(int most) {
        cublasLtMatmulPreferenceOpaque_t preference;
        CUBLAS_CHECK(cublasLtMatmulPreferenceInit(&preference));
        auto set = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
            CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value));
        };
        set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)WORKSPACE);
        // parts of a sum are added in fp32 and in order: neither in place, where c may be bf16, nor in c's type
        set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            (uint32_t)(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
        for (auto matrix : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
            set(matrix, (uint32_t)shape.alignment);
        std::vector<cublasLtMatmulHeuristicResult_t> results(most);
        int count = 0;
        cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(cublas, &operation, &b_layout, &a_layout, &c_layout,
                                                               &c_layout, &preference, most, results.data(), &count);
        bool none = status == CUBLAS_STATUS_NOT_SUPPORTED ||
                    (status == CUBLAS_STATUS_INVALID_VALUE && shape.epilogue != Epilogue::none);
        if (none) return {};
        if (status != CUBLAS_STATUS_SUCCESS)
            fail("%s:%d: cublasLtMatmulAlgoGetHeuristic for %s: %s", __FILE__, __LINE__, text().c_str(),
                 cublasLtGetStatusString(status));
        std::vector<MatmulPlan> list;
        for (int i = 0; i < count; i++) {
            if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
            MatmulPlan plan;
            memcpy(plan.algorithm.data(), &results[i].algo, sizeof results[i].algo);
            list.push_back(plan);
        }
        return list;
    }
    std::string text() const {
        return format("(%lld,%lld) = %s(%lld), of %lld to %lld bytes, epilogue %s", (long long)shape.m,
                      (long long)shape.n,
                      shape.ta   ? shape.tb ? "TT" : "TN"
                      : shape.tb ? "NT"
                                 : "NN",
                      (long long)shape.k, (long long)shape.in_bytes, (long long)shape.out_bytes,
                      EPILOGUE_NAMES[(int)shape.epilogue]);
    }
};

// Time of one run in µs: after one to warm up, the fastest of three times three. ∞ where run() does not succeed.
template <class Run>
double time_of(Run run) {
    if (run() != CUBLAS_STATUS_SUCCESS) return INFINITY;
    cudaEvent_t begin, end;
    CUDA_CHECK(cudaEventCreate(&begin));
    CUDA_CHECK(cudaEventCreate(&end));
    float best = INFINITY, ms = 0;
    for (int i = 0; i < 3; i++) {
        CUDA_CHECK(cudaEventRecord(begin, stream));
        for (int j = 0; j < 3; j++) run();
        CUDA_CHECK(cudaEventRecord(end, stream));
        CUDA_CHECK(cudaEventSynchronize(end));
        CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
        best = std::min(best, ms);
    }
    CUDA_CHECK(cudaEventDestroy(begin));
    CUDA_CHECK(cudaEventDestroy(end));
    return best * 1000 / 3;
}
// The plan for a product that has none. Timed are cuBLASLt's candidates and, where there is an epilogue, kernels of our
// own for it. run(plan) makes the whole product. What it adds to, c and `total`, is as before when this returns.
template <class Run>
MatmulPlan choose(Product& product, const Fused& fused, bool timed, Run run) {
    const MatmulShape& s = product.shape;
    std::vector<MatmulPlan> list = product.candidates(timed ? CANDIDATES : 1);
    if (s.epilogue != Epilogue::none && (timed || list.empty())) list.emplace_back().separate = true;
    if (list.empty())
        fail("cuBLASLt %zu has no algorithm for the product %s", cublasLtGetVersion(), product.text().c_str());
    if (!timed) return list[0];
    std::vector<char> c(s.add ? ((s.m - 1) * s.ldc + s.n) * s.out_bytes : 0),
        total(fused.total ? s.m * sizeof(float) : 0);
    if (!c.empty()) copy_to_host(c.data(), product.c, c.size());
    if (!total.empty()) copy_to_host(total.data(), fused.total, total.size());
    MatmulPlan* best = nullptr;
    for (MatmulPlan& plan : list) {
        plan.us = time_of([&] { return run(plan); });
        if (std::isfinite(plan.us) && (!best || plan.us < best->us)) best = &plan;
    }
    if (!c.empty()) copy_to_device(product.c, c.data(), c.size());
    if (!total.empty()) copy_to_device(fused.total, total.data(), total.size());
    if (!best)
        fail("cuBLASLt %zu offers %zu algorithms for the product %s and runs none of them", cublasLtGetVersion(),
             list.size(), product.text().c_str());
    best->timed = true;
    return *best;
}

// c(m,n) = beta c + op(a) op(b) with the epilogue, and then then(); where cuBLASLt has no such kernel, or a slower one,
// otherwise() does all of it.
template <class TA, class TC, class Then, class Otherwise>
void fused_gemm(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda, const TA* b, size_t ldb, float beta,
                TC* c, size_t ldc, const Fused& fused, Then then, Otherwise otherwise) {
    if (m == 0 || n == 0) return;
    uintptr_t bits = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)fused.bias | (uintptr_t)fused.pre |
                     (uintptr_t)fused.sum | 256;
    MatmulShape shape{ta,           tb,           beta != 0,    m,          n,          k,
                      (int64_t)lda, (int64_t)ldb, (int64_t)ldc, sizeof(TA), sizeof(TC), (int64_t)(bits & -bits),
                      fused.kind};
    Product product(shape, a, b, beta, c, fused);
    auto run = [&](const MatmulPlan& plan) {
        if (plan.separate) {
            otherwise();
            return CUBLAS_STATUS_SUCCESS;
        }
        cublasStatus_t status = product.run(plan);
        if (status == CUBLAS_STATUS_SUCCESS) then();
        return status;
    };
    MatmulPlan* plan = plans.find(shape);
    if (plan && plan->from_file) {
        plan->from_file = false;
        if (!product.accepts(*plan)) {
            printf("%s: cuBLASLt refuses its algorithm for %s: it gets another one\n", plans.path.c_str(),
                   product.text().c_str());
            plan = nullptr;
        }
    }
    if (!plan || (!plan->timed && may_time())) plan = plans.add(shape, choose(product, fused, may_time(), run));
    if (cublasStatus_t status = run(*plan); status != CUBLAS_STATUS_SUCCESS)
        fail("%s:%d: cublasLtMatmul for %s: %s", __FILE__, __LINE__, product.text().c_str(),
             cublasLtGetStatusString(status));
}
template <class TA, class TC>
void gemm(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda, const TA* b, size_t ldb, float beta, TC* c,
          size_t ldc) {
    fused_gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc, Fused{}, [] {}, [] {});
}
#else
using cpu::blas_init;
using cpu::keep_plans;
using cpu::time_products;
template <class TA, class TC>
void gemm(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda, const TA* b, size_t ldb, float beta, TC* c,
          size_t ldc) {
    constexpr int ROWS = 64;
    shim::record("gemm", 1, 1, 0, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
    shim::require_device("gemm", a, b, c);
    shim::AtWork device;
#pragma omp parallel for
    for (int i = 0; i < m; i += ROWS)
        cpu::gemm(ta, tb, std::min(ROWS, m - i), n, k, a + (ta ? (size_t)i : i * lda), lda, b, ldb, TC(beta),
                  c + i * ldc, ldc);
}
template <class TA, class TC, class Then, class Otherwise>
void fused_gemm(bool, bool, int, int, int, const TA*, size_t, const TA*, size_t, float, TC*, size_t, const Fused&, Then,
                Otherwise otherwise) {
    otherwise();
}
#endif

// out(N,OC) += bias(OC), and act = gelu(out) if ACT; one thread per W elements
template <int W, bool ACT, Gelu kind, class T>
__global__ void bias_kernel(T* act, T* out, const T* bias, size_t n, int OC) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (i >= n) return;
    float x[W], b[W];
    load<W>(x, out + i);
    load<W>(b, bias + i % OC);
    UNROLL
    for (int k = 0; k < W; k++)
        x[k] = (float)(T)(x[k] + b[k]);  // rounded before GELU, as the backward pass will see it
    store<W>(out + i, x);
    if constexpr (ACT) {
        UNROLL
        for (int k = 0; k < W; k++) x[k] = gelu<kind>(x[k]);
        store<W>(act + i, x);
    }
}
template <bool ACT, Gelu kind, class T>
void add_bias(T* act, T* out, const T* bias, int N, int OC) {
    size_t n = (size_t)N * OC;
    if (n == 0) return;
    pick_width<T>(rows_are_wide<T>(OC, act, out, bias), [&](auto w) {
        constexpr int W = decltype(w)::value;
        launch(bias_kernel<W, ACT, kind, T>, (unsigned)ceil_div(n, THREADS * W), THREADS, 0, act, out, bias, n, OC);
    });
}
// cuBLASLt's GELU is the tanh form, to bf16's accuracy at least; fp32 is for exactness and takes ours.
template <class T>
constexpr bool cublas_gelu = std::is_same_v<T, bf16>;

template <class T>
void matmul_forward(T* out, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    auto product = [&] { gemm(false, true, N, OC, C, inp, C, weight, C, 0, out, OC); };
    if (!bias) return product();
    fused_gemm(
        false, true, N, OC, C, inp, C, weight, C, 0, out, OC, Fused{Epilogue::bias, bias}, [] {},
        [&] {
            product();
            add_bias<false, Gelu::erf>((T*)nullptr, out, bias, N, OC);
        });
}
template <Gelu kind, class T>
void matmul_gelu_forward(T* act, T* pre, const T* inp, const T* weight, const T* bias, int N, int C, int OC) {
    auto bias_then_gelu = [&] {
        auto then_gelu = [&] { gelu_forward<kind>(act, (const T*)pre, (size_t)N * OC); };
        fused_gemm(false, true, N, OC, C, inp, C, weight, C, 0, pre, OC, Fused{Epilogue::bias, bias}, then_gelu, [&] {
            gemm(false, true, N, OC, C, inp, C, weight, C, 0, pre, OC);
            add_bias<true, kind>(act, pre, bias, N, OC);
        });
    };
    if constexpr (kind == Gelu::tanh && cublas_gelu<T>)
        fused_gemm(
            false, true, N, OC, C, inp, C, weight, C, 0, act, OC, Fused{Epilogue::gelu, bias, pre}, [] {},
            bias_then_gelu);
    else
        bias_then_gelu();
}
template <class T>
void matmul_backward_input(T* dinp, const T* dout, const T* weight, int N, int C, int OC, bool add = false) {
    gemm(false, false, N, C, OC, dout, OC, weight, C, add ? 1 : 0, dinp, C);
}
template <Gelu kind, class T>
void matmul_backward_input_gelu(T* dpre, const T* dout, const T* weight, const T* pre, int N, int C, int OC) {
    auto product_then_gelu = [&] {
        gemm(false, false, N, C, OC, dout, OC, weight, C, 0, dpre, C);
        gelu_backward<kind>(dpre, dpre, pre, (size_t)N * C);
    };
    if constexpr (kind == Gelu::tanh && cublas_gelu<T>)
        fused_gemm(
            false, false, N, C, OC, dout, OC, weight, C, 0, dpre, C, Fused{Epilogue::gelu_gradient, nullptr, pre},
            [] {}, product_then_gelu);
    else
        product_then_gelu();
}

// one block per chunk of rows and 128 channels, one thread per channel
template <class T>
__global__ void column_sum_kernel(float* scratch, const T* inp, int N, int C) {
    int c = blockIdx.x * blockDim.x + threadIdx.x, begin = blockIdx.y * CHUNK_ROWS, end = min(begin + CHUNK_ROWS, N);
    if (c >= C) return;
    float sum = 0;
    for (int n = begin; n < end; n++) sum += (float)inp[(size_t)n * C + c];
    scratch[(size_t)blockIdx.y * C + c] = sum;
}
template <class T>
void column_sum(float* sum, const T* inp, float* scratch, int N, int C) {
    if (N == 0) return;
    int chunks = (int)ceil_div(N, CHUNK_ROWS);
    launch(column_sum_kernel<T>, dim3((unsigned)ceil_div(C, 128), chunks), 128, 0, scratch, inp, N, C);
    add_chunks(sum, scratch, chunks, C, C);
}
template <class T>
void matmul_backward_weight(float* dweight, float* dbias, const T* dout, const T* inp, float* scratch, int N, int C,
                            int OC) {
    if (N == 0) return;
    auto product = [&] { gemm(true, false, OC, C, N, dout, OC, inp, C, 1, dweight, C); };
    if (!dbias) return product();
    Fused sums{Epilogue::bias_gradient, nullptr, nullptr, scratch,
               dbias};  // cuBLASLt sets, we add: micro-batches accumulate
    fused_gemm(
        true, false, OC, C, N, dout, OC, inp, C, 1, dweight, C, sums, [&] { add_chunks(dbias, scratch, 1, OC, OC); },
        [&] {
            product();
            column_sum(dbias, dout, scratch, N, OC);
        });
}
}  // namespace gpu
#endif
