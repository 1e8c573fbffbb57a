// gemm.cuh: the one seam to the matrix product, c(m,n) = beta c + op(a) op(b), row-major.
//
// On the CPU a BLAS on one thread (matmul.cuh has the threads), for bf16 oneDNN, whose products of bf16 (AMX,
// AVX512-BF16) are summed in fp32, or without them (make BLAS=loops, tests) a blocked loop. On a GPU cuBLASLt:
// fused_gemm() also leaves the epilogue to it, a bias or a GELU that is applied before c is stored. Which of its
// algorithms is the fastest for a shape is timed once a run (matmul_plans.h).
#pragma once
#include <string.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#ifndef BLAS_LOOPS
#ifdef __APPLE__
#include <Accelerate/Accelerate.h>
#else
#include <cblas.h>
extern "C" void openblas_set_num_threads(int) __attribute__((weak));
#endif
#endif
#ifdef ONEDNN
#include <dnnl.hpp>
#endif

#include "common/base/threads.h"
#include "common/base/types.h"
#include "common/device/device.cuh"

namespace cpu {
// c(m,n) = beta c + op(a) op(b), row-major with leading dimensions lda, ldb, ldc; op(x) = xᵀ where ta / tb is set. Runs
// on one thread. c may be of a wider type than a and b (gradients of bf16 parameters are fp32).
template <class TA, class TC> void gemm_loops(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda,
    const TA* b, size_t ldb, TC beta, TC* c, size_t ldc) {
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
                A* s = &sum[(size_t)i * nb];  // (nb)
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
#ifdef ONEDNN
inline bool cpu_has(dnnl::cpu_isa isa) { return ((int)dnnl::get_effective_cpu_isa() & (int)isa) == (int)isa; }
// what products of bf16 run on
inline const char* bf16_instructions() {
    if (cpu_has(dnnl::cpu_isa::avx512_core_amx)) return "bf16 by AMX";
    if (cpu_has(dnnl::cpu_isa::avx512_core_bf16)) return "bf16 by AVX512-BF16";
    return "this processor has no instructions for bf16: PRECISION=fp32 is faster";
}
// gemm() for bf16. oneDNN makes code for a shape at its first use, and finds it again in 2 µs at the next ones.
template <class TC> void gemm_onednn(bool ta, bool tb, int m, int n, int k, const bf16* a, size_t lda, const bf16* b,
    size_t ldb, TC beta, TC* c, size_t ldc) {
    using dnnl::memory, dnnl::matmul;
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    static thread_local dnnl::stream stream(engine);
    auto matrix = [](int rows, int cols, size_t ld, bool transposed, bool is_bf16) {
        memory::dims strides = {(int64_t)ld, 1};
        if (transposed) std::swap(strides[0], strides[1]);
        return memory::desc({rows, cols}, is_bf16 ? memory::data_type::bf16 : memory::data_type::f32, strides);
    };
    const memory::desc as = matrix(m, k, lda, ta, true), bs = matrix(k, n, ldb, tb, true);
    const memory::desc cs = matrix(m, n, ldc, false, std::is_same_v<TC, bf16>);
    dnnl::post_ops add;
    if ((float)beta != 0) add.append_sum((float)beta);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(add);
#if DNNL_VERSION_MAJOR >= 3
    const matmul::primitive_desc description(engine, as, bs, cs, attributes);
#else
    const matmul::primitive_desc description({as, bs, cs}, attributes, engine);
#endif
    matmul(description)
        .execute(stream, {{DNNL_ARG_SRC, memory(as, engine, (void*)a)},
                             {DNNL_ARG_WEIGHTS, memory(bs, engine, (void*)b)}, {DNNL_ARG_DST, memory(cs, engine, c)}});
}
#else
inline const char* bf16_instructions() { return "bf16 by loops: slow, for tests"; }
#endif
template <class TA, class TC> void gemm(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda, const TA* b,
    size_t ldb, TC beta, TC* c, size_t ldc) {
    if (m == 0 || n == 0) return;
#ifdef ONEDNN
    static const bool fast = cpu_has(dnnl::cpu_isa::avx512_core);  // below, oneDNN is slower than loops
    if constexpr (std::is_same_v<TA, bf16>)
        if (fast) return gemm_onednn(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
#endif
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
    check_threads();
#if !defined(BLAS_LOOPS) && !defined(__APPLE__)
    if (openblas_set_num_threads) openblas_set_num_threads(1);
#endif
}
inline void open_tuning_cache(const std::string&, bool) {}  // a BLAS has nothing to choose; see gpu:: below
inline void enable_autotune(bool) {}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/matmul_plans.h"
#ifdef __CUDACC__
#include <cublasLt.h>
#define CUBLASLT  // or test/device/cublaslt.h stands in for it
#endif
namespace gpu {
// Products are summed in fp32 and rounded to c's type: by cuBLASLt's epilogues once, after them; where a kernel of ours
// follows the product, before it as well.

// What an Epilogue needs. cuBLASLt wants 16-byte addresses, and pre's rows a multiple of 8 elements long.
struct Fused {
    Epilogue kind = Epilogue::none;
    const void* bias = nullptr;  // (n), of c's type
    // (m,n), of c's type, its rows as far apart as c's; written by gelu, read by gelu_gradient
    const void* pre = nullptr;
    float* sum = nullptr;    // (m), overwritten
    float* total = nullptr;  // (m), what on_fused() and fallback() add it to
};
struct Nothing {
    void operator()() const {}
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
struct CublasLt {
    cublasLtHandle_t handle = nullptr;
    void* workspace = nullptr;  // (WORKSPACE) bytes of device memory
    MatmulPlans plans;
    bool autotune = false;  // a product of a new shape is timed at its first use
};
inline CublasLt cublas_lt;
// Once, at the start of a program, before memory is planned
inline void blas_init() {
    cpu::blas_init();
#ifdef __CUDACC__
    int devices = 0;
    if (cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess)
        fail("built for a GPU, and here is none that it can use (%s): build for the CPU with make DEVICE=cpu",
            cudaGetErrorString(error));
#endif
    CUBLAS_CHECK(cublasLtCreate(&cublas_lt.handle));
    cublas_lt.workspace = device_alloc(WORKSPACE);
}
// The plans of a run are read from this file, unless `renew`, and new ones are added to it.
inline void open_tuning_cache(const std::string& path, bool renew) {
    cublas_lt.plans.open(path, device_name(), format("%zu", cublasLtGetVersion()), renew);
}
// While it is on, a product of a new shape is timed at its first use, else it takes the heuristic's first algorithm.
// Nothing is timed while a CUDA graph is captured.
inline void enable_autotune(bool on) { cublas_lt.autotune = on; }
inline bool may_time() {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    if (cublas_lt.autotune) CUDA_CHECK(cudaStreamIsCapturing(compute_stream, &capture));
    return cublas_lt.autotune && capture == cudaStreamCaptureStatusNone;
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
        // sums in fp32, and fp32 is never rounded to TF32
        CUBLAS_CHECK(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        auto set = [&](cublasLtMatmulDescAttributes_t what, auto value) {
            CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(&operation, what, &value, sizeof value));
        };
        set(CUBLASLT_MATMUL_DESC_TRANSA, s.tb ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(CUBLASLT_MATMUL_DESC_TRANSB, s.ta ? CUBLAS_OP_T : CUBLAS_OP_N);
        constexpr cublasLtEpilogue_t epilogues[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS,
            CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU, CUBLASLT_EPILOGUE_BGRADB};  // in Epilogue's order
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogues[(int)f.kind]);
        if (f.bias || f.sum) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, f.sum ? (const void*)f.sum : f.bias);
        if (f.pre) {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, f.pre);
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, s.ldc);
        }
    }
    cublasStatus_t run(const MatmulPlan& plan) {
        cublasLtMatmulAlgo_t algorithm;
        static_assert(sizeof algorithm == sizeof plan.algorithm, "matmul_plans.h holds the whole of it");
        memcpy(&algorithm, plan.algorithm.data(), sizeof algorithm);
        float one = 1;
        return cublasLtMatmul(cublas_lt.handle, &operation, &one, b, &b_layout, a, &a_layout, &beta, c, &c_layout, c,
            &c_layout, &algorithm, cublas_lt.workspace, WORKSPACE, compute_stream);
    }
    // What the heuristic offers, fastest by its estimate first; nothing where cuBLASLt has no kernel for the product
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
        cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(cublas_lt.handle, &operation, &b_layout, &a_layout,
            &c_layout, &c_layout, &preference, most, results.data(), &count);
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
        return format("(%lld,%lld) = %c%c(%lld), of %lld to %lld bytes, epilogue %s", (long long)shape.m,
            (long long)shape.n, shape.ta ? 'T' : 'N', shape.tb ? 'T' : 'N', (long long)shape.k,
            (long long)shape.in_bytes, (long long)shape.out_bytes, EPILOGUE_NAMES[(int)shape.epilogue]);
    }
};

// Time of one run in µs: after one to warm up, the fastest of three times three. ∞ where run() does not succeed.
template <class Run> double time_of(Run run) {
    if (run() != CUBLAS_STATUS_SUCCESS) return INFINITY;
    cudaEvent_t begin, end;
    CUDA_CHECK(cudaEventCreate(&begin));
    CUDA_CHECK(cudaEventCreate(&end));
    float best = INFINITY, ms = 0;
    for (int i = 0; i < 3; i++) {
        CUDA_CHECK(cudaEventRecord(begin, compute_stream));
        for (int j = 0; j < 3; j++) run();
        CUDA_CHECK(cudaEventRecord(end, compute_stream));
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
template <class Run> MatmulPlan choose(Product& product, const Fused& fused, bool timed, Run run) {
    const MatmulShape& s = product.shape;
    std::vector<MatmulPlan> list = product.candidates(timed ? CANDIDATES : 1);
    if (s.epilogue != Epilogue::none && (timed || list.empty())) list.emplace_back().separate = true;
    if (list.empty())
        fail("cuBLASLt %zu has no algorithm for the product %s", cublasLtGetVersion(), product.text().c_str());
    if (!timed) return list[0];
    std::vector<char> c(s.add ? ((s.m - 1) * s.ldc + s.n) * s.out_bytes : 0);
    std::vector<char> total(fused.total ? s.m * sizeof(float) : 0);
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

// c(m,n) = beta c + op(a) op(b) with the epilogue, and then on_fused(); where cuBLASLt has no such kernel, or a slower
// one, fallback() does all of it.
template <class TA, class TC, class Fallback, class OnFused = Nothing> void fused_gemm(bool ta, bool tb, int m, int n,
    int k, const TA* a, size_t lda, const TA* b, size_t ldb, float beta, TC* c, size_t ldc, const Fused& fused,
    Fallback fallback, OnFused on_fused = {}) {
    if (m == 0 || n == 0) return;
    uintptr_t bits = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)fused.bias | (uintptr_t)fused.pre |
                     (uintptr_t)fused.sum | 256;
    MatmulShape shape{ta, tb, beta != 0, m, n, k, (int64_t)lda, (int64_t)ldb, (int64_t)ldc, sizeof(TA), sizeof(TC),
        (int64_t)(bits & -bits), fused.kind};
    Product product(shape, a, b, beta, c, fused);
    auto run = [&](const MatmulPlan& plan) {
        if (plan.separate) {
            fallback();
            return CUBLAS_STATUS_SUCCESS;
        }
        cublasStatus_t status = product.run(plan);
        if (status == CUBLAS_STATUS_SUCCESS) on_fused();
        return status;
    };
    MatmulPlan* plan = cublas_lt.plans.find(shape);
    if (!plan || (!plan->timed && may_time()))
        plan = cublas_lt.plans.add(shape, choose(product, fused, may_time(), run));
    if (cublasStatus_t status = run(*plan); status != CUBLAS_STATUS_SUCCESS)
        fail("cublasLtMatmul for %s: %s%s", product.text().c_str(), cublasLtGetStatusString(status),
            plan->timed ? ": --retune chooses another algorithm" : "");
}
template <class TA, class TC> void gemm(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda, const TA* b,
    size_t ldb, float beta, TC* c, size_t ldc) {
    fused_gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc, Fused{}, Nothing());
}
#else
using cpu::blas_init;
using cpu::enable_autotune;
using cpu::open_tuning_cache;
#endif
}  // namespace gpu
#ifndef CUBLASLT
#include "test/device/shim_gemm.h"
#endif
#endif
