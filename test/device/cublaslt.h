// cublaslt.h: as much of cuBLASLt, and of CUDA's events, as gemm.cuh uses, on the CPU, after NVIDIA's documentation:
// matrices by columns, the epilogues' rules, and nothing that is not documented. The very code that calls cuBLASLt on a
// GPU runs on it, in test_cublaslt.cu. It offers several algorithms for a product. They sum in different orders, so
// their bits differ, and a clock of its own says how long each takes.
#pragma once
#include <functional>
#include <set>

#include "common/ops/elementwise.cuh"

#define CUBLASLT
#define CUDA_CHECK(call)                                                                   \
    do {                                                                                   \
        if (call) fail("%s:%d: %s: not what the test expects", __FILE__, __LINE__, #call); \
    } while (0)

enum cublasStatus_t { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_INVALID_VALUE = 7, CUBLAS_STATUS_NOT_SUPPORTED = 15 };
enum cublasOperation_t : int32_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_16BF = 14 };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F = 68 };
enum cublasLtEpilogue_t : uint32_t {
    CUBLASLT_EPILOGUE_DEFAULT = 1,
    CUBLASLT_EPILOGUE_BIAS = 4,
    CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 164,
    CUBLASLT_EPILOGUE_DGELU = 192,
    CUBLASLT_EPILOGUE_BGRADA = 256,
    CUBLASLT_EPILOGUE_BGRADB = 512
};
enum cublasLtReductionScheme_t { CUBLASLT_REDUCTION_SCHEME_NONE = 0, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2 };
enum cublasLtMatmulDescAttributes_t {
    CUBLASLT_MATMUL_DESC_TRANSA,
    CUBLASLT_MATMUL_DESC_TRANSB,
    CUBLASLT_MATMUL_DESC_EPILOGUE,
    CUBLASLT_MATMUL_DESC_BIAS_POINTER,
    CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
    CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD
};
enum cublasLtMatmulPreferenceAttributes_t {
    CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
    CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
};
struct cublasLtMatmulDescOpaque_t {
    cublasOperation_t transa, transb;
    cublasLtEpilogue_t epilogue;
    const void *bias, *aux;
    int64_t aux_ld;
};
struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
};
struct cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace;
    uint32_t scheme, alignment[4];
};
struct cublasLtMatmulAlgo_t {
    uint64_t data[8];
};
struct cublasLtMatmulHeuristicResult_t {
    cublasLtMatmulAlgo_t algo;
    size_t workspaceSize;
    cublasStatus_t state;
};
typedef cublasLtMatmulDescOpaque_t* cublasLtMatmulDesc_t;
typedef cublasLtMatrixLayoutOpaque_t* cublasLtMatrixLayout_t;
typedef cublasLtMatmulPreferenceOpaque_t* cublasLtMatmulPreference_t;
typedef int* cublasLtHandle_t;
typedef int cudaStream_t;
typedef double cudaEvent_t;
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };

namespace gpu {
inline cudaStream_t compute_stream = 0;
}  // namespace gpu

namespace fake {
// what a test sets
inline int algorithms = 3;  // it offers for every product
inline size_t version = 130002;
inline bool capturing = false;
inline std::set<cublasLtEpilogue_t> missing;  // epilogues that it has no kernel for
// time of an algorithm; < 0: it refuses to run
inline std::function<double(cublasLtEpilogue_t, int)> us = [](cublasLtEpilogue_t, int) { return 10.0; };
// what a test reads
inline double clock = 0;
inline std::vector<std::pair<cublasLtEpilogue_t, int>> runs;  // epilogue and algorithm of every product
inline int timings = 0, heuristics = 0;

constexpr uint64_t MAGIC = 0x616c676f72697468;
inline float element(const void* p, cudaDataType_t type, size_t i) {
    return type == CUDA_R_32F ? ((const float*)p)[i] : (float)((const bf16*)p)[i];
}
inline void store(void* p, cudaDataType_t type, size_t i, float x) {
    if (type == CUDA_R_32F) ((float*)p)[i] = x;
    else ((bf16*)p)[i] = (bf16)x;
}
}  // namespace fake

inline size_t cublasLtGetVersion() { return fake::version; }
inline const char* cublasLtGetStatusString(cublasStatus_t s) {
    return s == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : s ? "invalid value" : "success";
}
inline cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    *handle = &fake::algorithms;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatrixLayoutInit(
    cublasLtMatrixLayout_t m, cudaDataType_t type, uint64_t rows, uint64_t cols, int64_t ld) {
    *m = {type, rows, cols, ld};
    return ld < (int64_t)rows ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t d, cublasComputeType_t, cudaDataType_t scale) {
    *d = {CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, nullptr, 0};
    return scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
inline cublasStatus_t cublasLtMatmulDescSetAttribute(
    cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what, const void* value, size_t size) {
    void* to[] = {&d->transa, &d->transb, &d->epilogue, &d->bias, &d->aux, &d->aux_ld};
    size_t sizes[] = {4, 4, 4, 8, 8, 8};
    if (size != sizes[what]) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to[what], value, size);
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t p) {
    *p = {0, 7, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t what, const void* value, size_t size) {
    void* to[] = {&p->workspace, &p->scheme, &p->alignment[0], &p->alignment[1], &p->alignment[2], &p->alignment[3]};
    if (size != (what ? 4 : 8)) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to[what], value, size);
    return CUBLAS_STATUS_SUCCESS;
}

namespace fake {
// What the documentation asks of a product and its epilogue
inline cublasStatus_t legal(
    cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c) {
    uint64_t m = d->transa ? a->cols : a->rows, k = d->transa ? a->rows : a->cols, k2 = d->transb ? b->cols : b->rows,
             n = d->transb ? b->rows : b->cols;
    if (m != c->rows || n != c->cols || k != k2 || a->type != b->type) return CUBLAS_STATUS_INVALID_VALUE;
    bool aux = d->epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || d->epilogue == CUBLASLT_EPILOGUE_DGELU;
    bool vector = d->epilogue != CUBLASLT_EPILOGUE_DEFAULT && d->epilogue != CUBLASLT_EPILOGUE_DGELU;
    if (aux && (!d->aux || d->aux_ld % 8 || d->aux_ld < (int64_t)c->rows)) return CUBLAS_STATUS_INVALID_VALUE;
    if (vector && !d->bias) return CUBLAS_STATUS_INVALID_VALUE;
    if ((aux && (uintptr_t)d->aux % 16) || (vector && (uintptr_t)d->bias % 16) || missing.count(d->epilogue))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}
}  // namespace fake
inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t p, int most,
    cublasLtMatmulHeuristicResult_t* results, int* count) {
    fake::heuristics++;
    *count = 0;
    if (cublasStatus_t s = fake::legal(d, a, b, c)) return s;
    bool vectors = p->alignment[0] >= 16 && p->alignment[3] >= 16 && c->ld % 8 == 0;  // else it has no epilogue
    if ((d->epilogue != CUBLASLT_EPILOGUE_DEFAULT && !vectors) || p->scheme & 5) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (; *count < std::min(most, fake::algorithms); ++*count)
        results[*count] = {{{fake::MAGIC, (uint64_t)*count, p->alignment[0]}}, p->workspace, CUBLAS_STATUS_SUCCESS};
    return *count ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}
inline cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t* algorithm,
    cublasLtMatmulHeuristicResult_t* result) {
    result->workspaceSize = 0;
    if (cublasStatus_t s = fake::legal(d, a, b, c)) return s;
    return algorithm->data[0] == fake::MAGIC && algorithm->data[1] < (uint64_t)fake::algorithms
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_INVALID_VALUE;
}
// D = epilogue(alpha op(A) op(B) + beta C), by columns
inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t d, const float* alpha, const void* A,
    cublasLtMatrixLayout_t a, const void* B, cublasLtMatrixLayout_t b, const float* beta, const void* C,
    cublasLtMatrixLayout_t c, void* D, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
    size_t bytes, cudaStream_t) {
    cublasLtMatmulHeuristicResult_t result;
    if (cublasStatus_t s = cublasLtMatmulAlgoCheck(handle, d, a, b, c, c, algorithm, &result)) return s;
    for (const void* p : {A, B, C, (const void*)D})  // an algorithm takes for granted what the preference promised
        if ((uintptr_t)p % algorithm->data[2]) return CUBLAS_STATUS_INVALID_VALUE;
    int id = (int)algorithm->data[1];
    double us = fake::us(d->epilogue, id);
    if (us < 0 || !workspace || !bytes) return CUBLAS_STATUS_NOT_SUPPORTED;
    fake::clock += us;
    fake::runs.push_back({d->epilogue, id});
    size_t m = c->rows, n = c->cols, k = d->transa ? a->rows : a->cols;
    auto at = [&](const void* p, cublasLtMatrixLayout_t x, bool t, size_t i, size_t j) {
        return fake::element(p, x->type, t ? j + i * x->ld : i + j * x->ld);
    };
#pragma omp parallel for
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < m; i++) {
            float sum[4] = {0, 0, 0, 0};  // algorithm `id` sums in id + 1 parts
            for (size_t p = 0; p < k; p++)
                sum[p % (id + 1) % 4] += at(A, a, d->transa, i, p) * at(B, b, d->transb, p, j);
            float x = *alpha * (sum[0] + sum[1] + sum[2] + sum[3]) +
                      (*beta == 0 ? 0 : *beta * fake::element(C, c->type, i + j * c->ld));
            size_t aux = i + j * d->aux_ld;
            if (d->epilogue == CUBLASLT_EPILOGUE_BIAS || d->epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
                x += fake::element(d->bias, c->type, i);
            if (d->epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
                fake::store((void*)d->aux, c->type, aux, x);
                x = gelu<Gelu::tanh>(x);
            }
            if (d->epilogue == CUBLASLT_EPILOGUE_DGELU)
                x *= gelu_derivative<Gelu::tanh>(fake::element(d->aux, c->type, aux));
            fake::store(D, c->type, i + j * c->ld, x);
        }
    bool of_a = d->epilogue == CUBLASLT_EPILOGUE_BGRADA, of_b = d->epilogue == CUBLASLT_EPILOGUE_BGRADB;
    for (size_t i = 0; i < (of_a ? m : of_b ? n : 0); i++) {
        float sum = 0;
        for (size_t p = 0; p < k; p++) sum += of_a ? at(A, a, d->transa, i, p) : at(B, b, d->transb, p, i);
        fake::store((void*)d->bias, c->type, i, sum);
    }
    return CUBLAS_STATUS_SUCCESS;
}

inline int cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* s) {
    *s = fake::capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return 0;
}
inline int cudaEventCreate(cudaEvent_t* e) {
    *e = 0;
    fake::timings++;
    return 0;
}
inline int cudaEventDestroy(cudaEvent_t) { return 0; }
inline int cudaEventRecord(cudaEvent_t& e, cudaStream_t) {
    e = fake::clock;
    return fake::capturing;  // during a capture a host may not time
}
inline int cudaEventSynchronize(cudaEvent_t) { return fake::capturing; }
inline int cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
    *ms = (float)((end - begin) / 1000);
    return 0;
}
