// cublaslt.cpp: a stand-in for cuBLASLt (libcublasLt.so), with the real header's types and symbols: products of fp32
// and bf16 matrices, summed in fp32, and the epilogues that gemm.cuh uses. After "cuBLAS", chapter "Using the cuBLASLt
// API": matrices by columns, D = epilogue(alpha op(A) op(B) + beta C), and its rules for pointers and alignment.
//
// It offers three algorithms for a product, which sum in different orders, so that their bits differ. Which of them the
// device's clock calls the fastest depends on the shape alone.
#include <cublasLt.h>
#include <math.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "test/emulator/count.h"
#include "test/emulator/emulator.h"
#include "test/emulator/runtime.h"
using emulator::say;

namespace {
// What lies in the opaque structures
struct Operation {
    int32_t transa, transb;
    uint32_t epilogue;
    const void *bias, *aux;
    int64_t aux_ld;
};
struct Matrix {
    int32_t type;
    uint64_t rows, cols;
    int64_t ld;
    size_t element() const { return type == CUDA_R_32F ? 4 : 2; }
};
struct Preference {
    uint64_t workspace;
    uint32_t schemes, alignment[4];  // of A, B, C, D
};
struct Algorithm {
    uint64_t magic, id;
    uint32_t alignment[4];
};
constexpr uint64_t MAGIC = 0x6d6574616c756d65;
constexpr int ALGORITHMS = 3;
template <class Inner, class Opaque> const Inner& in(const Opaque* o) {
    static_assert(sizeof(Inner) <= sizeof(Opaque), "it has to fit into the header's structure");
    return *(const Inner*)o;
}
template <class Inner, class Opaque> Inner& in(Opaque* o) {
    static_assert(sizeof(Inner) <= sizeof(Opaque), "it has to fit into the header's structure");
    return *(Inner*)o;
}
cublasStatus_t set(void* to, size_t expected, const void* value, size_t bytes) {
    if (!value || bytes != expected) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

float from_bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
}
uint16_t to_bf16(float x) {  // to nearest even
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (isnan(x)) return 0x7fff;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
// n elements of device memory from element `first` on
void read(float* to, const void* from, int32_t type, size_t first, size_t n) {
    size_t element = type == CUDA_R_32F ? 4 : 2;
    const char* data = emulator::access((uint64_t)from + first * element, n * element, false);
    if (type == CUDA_R_32F) memcpy(to, data, 4 * n);
    else
        for (size_t i = 0; i < n; i++) to[i] = from_bf16(((const uint16_t*)data)[i]);
}
void write(void* to, int32_t type, size_t first, const float* from, size_t n) {
    size_t element = type == CUDA_R_32F ? 4 : 2;
    char* data = emulator::access((uint64_t)to + first * element, n * element, true);
    if (type == CUDA_R_32F) memcpy(data, from, 4 * n);
    else
        for (size_t i = 0; i < n; i++) ((uint16_t*)data)[i] = to_bf16(from[i]);
}
// op(X), where it is (rows, cols), as (rows, cols) by rows: a row is what a sum runs along
std::vector<float> rows_of(const void* p, const Matrix& x, bool by_columns) {
    std::vector<float> out(x.rows * x.cols), column(x.rows);
    for (size_t j = 0; j < x.cols; j++) {
        read(column.data(), p, x.type, j * (size_t)x.ld, x.rows);
        for (size_t i = 0; i < x.rows; i++) out[by_columns ? j * x.rows + i : i * x.cols + j] = column[i];
    }
    return out;
}

// the tanh form, as the documentation of CUBLASLT_EPILOGUE_GELU has it
float gelu(float x) { return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x))); }
float gelu_derivative(float x) {
    float t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 3 * 0.044715f * x * x);
}
bool has_aux(uint32_t e) { return e == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || e == CUBLASLT_EPILOGUE_DGELU; }
bool has_bias(uint32_t e) { return e == CUBLASLT_EPILOGUE_BIAS || e == CUBLASLT_EPILOGUE_GELU_AUX_BIAS; }
bool has_sums(uint32_t e) { return e == CUBLASLT_EPILOGUE_BGRADA || e == CUBLASLT_EPILOGUE_BGRADB; }
bool known(uint32_t e) { return e == CUBLASLT_EPILOGUE_DEFAULT || has_aux(e) || has_bias(e) || has_sums(e); }

// What the documentation asks of a product and its epilogue
cublasStatus_t legal(const Operation& o, const Matrix& a, const Matrix& b, const Matrix& c, const Matrix& d) {
    uint64_t m = o.transa ? a.cols : a.rows, k = o.transa ? a.rows : a.cols;
    uint64_t k2 = o.transb ? b.cols : b.rows, n = o.transb ? b.rows : b.cols;
    bool same = c.type == d.type && c.rows == d.rows && c.cols == d.cols;
    if (m != d.rows || n != d.cols || k != k2 || !same) return CUBLAS_STATUS_INVALID_VALUE;
    if (a.type != b.type || (a.type == CUDA_R_32F && d.type != CUDA_R_32F) || !known(o.epilogue))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (has_aux(o.epilogue) && (!o.aux || o.aux_ld % 8 || o.aux_ld < (int64_t)d.rows))
        return CUBLAS_STATUS_INVALID_VALUE;
    if ((has_bias(o.epilogue) || has_sums(o.epilogue)) && !o.bias) return CUBLAS_STATUS_INVALID_VALUE;
    bool aligned = (uintptr_t)o.bias % 16 == 0 && (uintptr_t)o.aux % 16 == 0;
    return o.epilogue == CUBLASLT_EPILOGUE_DEFAULT || aligned ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

struct Product {
    Operation o;
    Matrix a, b, c, d;
    float alpha, beta;
    const void *A, *B, *C;
    void* D;
    int id;  // of the algorithm: the sum is one of id + 1 parts, which are added in order
};
void multiply(const Product& p) {
    size_t m = p.d.rows, n = p.d.cols, k = p.o.transa ? p.a.rows : p.a.cols;
    std::string numbers;
    for (size_t x : {m, n, k, p.a.element(), p.d.element(), (size_t)(p.beta != 0), (size_t)p.o.epilogue})
        numbers += (numbers.empty() ? "" : ", ") + std::to_string(x);
    emulator::log_line("{\"product\": [" + numbers + "]}");
    if (emulator::options.sample) return;
    std::vector<float> a = rows_of(p.A, p.a, p.o.transa), b = rows_of(p.B, p.b, !p.o.transb);  // (m,k), (n,k)
    std::vector<float> bias(has_bias(p.o.epilogue) ? m : 0), product(m * n);                   // (n,m)
    if (!bias.empty()) read(bias.data(), p.o.bias, p.d.type, 0, m);
    size_t part = std::max<size_t>((k + p.id) / (p.id + 1), 1);
#pragma omp parallel for
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < m; i++) {
            float sum = 0;
            for (size_t begin = 0; begin < k; begin += part) {
                float s = 0;
                const float *x = &a[i * k], *y = &b[j * k];
                for (size_t q = begin; q < std::min(begin + part, k); q++) s += x[q] * y[q];
                sum += s;
            }
            product[j * m + i] = p.alpha * sum;
        }
    std::vector<float> old(m), aux(m);
    for (size_t j = 0; j < n; j++) {
        float* x = &product[j * m];
        if (p.beta != 0) {  // else C is not read
            read(old.data(), p.C, p.c.type, j * (size_t)p.c.ld, m);
            for (size_t i = 0; i < m; i++) x[i] += p.beta * old[i];
        }
        for (size_t i = 0; i < bias.size(); i++) x[i] += bias[i];
        if (p.o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
            write((void*)p.o.aux, p.d.type, j * (size_t)p.o.aux_ld, x, m);
            for (size_t i = 0; i < m; i++) x[i] = gelu(x[i]);
        }
        if (p.o.epilogue == CUBLASLT_EPILOGUE_DGELU) {
            read(aux.data(), p.o.aux, p.d.type, j * (size_t)p.o.aux_ld, m);
            for (size_t i = 0; i < m; i++) x[i] *= gelu_derivative(aux[i]);
        }
        write(p.D, p.d.type, j * (size_t)p.d.ld, x, m);
    }
    if (has_sums(p.o.epilogue)) {
        bool of_a = p.o.epilogue == CUBLASLT_EPILOGUE_BGRADA;
        const std::vector<float>& rows = of_a ? a : b;
        std::vector<float> sums(of_a ? m : n);
        for (size_t i = 0; i < sums.size(); i++)
            for (size_t q = 0; q < k; q++) sums[i] += rows[i * k + q];
        write((void*)p.o.bias, p.d.type, 0, sums.data(), sums.size());
    }
}
// Time on the device's clock: 600 TFLOP/s for bf16, 50 for fp32, and a launch; the algorithm that suits the shape best
// takes that, the others more.
double product_ns(const Product& p) {
    double k = (double)(p.o.transa ? p.a.rows : p.a.cols), flops = 2.0 * (double)p.d.rows * (double)p.d.cols * k;
    uint64_t best = (p.d.rows / 16 + p.d.cols / 8 + (uint64_t)k / 32) % ALGORITHMS;
    uint64_t after_best = ((uint64_t)p.id + ALGORITHMS - best) % ALGORITHMS;
    return (2000 + flops / (p.a.type == CUDA_R_32F ? 50e3 : 600e3)) * (1 + 0.1 * (double)after_best);
}
}  // namespace

namespace emulator {
int unsupported(const char* function) {  // stubs.cpp
    say("%s is not supported by the emulator", function);
    return CUBLAS_STATUS_NOT_SUPPORTED;
}
}  // namespace emulator

extern "C" {
size_t cublasLtGetVersion() { return CUBLAS_VERSION; }
const char* cublasLtGetStatusString(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS: return "success";
        case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
        case CUBLAS_STATUS_INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
        case CUBLAS_STATUS_EXECUTION_FAILED: return "the function failed to launch on the GPU";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "the functionality requested is not supported";
        default: return "unknown status";
    }
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = (cublasLtHandle_t) new uint64_t(MAGIC);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete (uint64_t*)handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutInit_internal(
    cublasLtMatrixLayout_t layout, size_t bytes, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld) {
    if (bytes != sizeof *layout || ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    if (type != CUDA_R_32F && type != CUDA_R_16BF) {
        say("cuBLASLt: matrices of type %d are not supported by the emulator", (int)type);
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    in<Matrix>(layout) = {type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescInit_internal(
    cublasLtMatmulDesc_t desc, size_t bytes, cublasComputeType_t compute, cudaDataType_t scale) {
    if (bytes != sizeof *desc) return CUBLAS_STATUS_INVALID_VALUE;
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) {
        say("cuBLASLt: products of compute type %d are not supported by the emulator", (int)compute);
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    in<Operation>(desc) = {CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, nullptr, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(
    cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t what, const void* value, size_t bytes) {
    Operation& o = in<Operation>(desc);
    switch (what) {
        case CUBLASLT_MATMUL_DESC_TRANSA: return set(&o.transa, 4, value, bytes);
        case CUBLASLT_MATMUL_DESC_TRANSB: return set(&o.transb, 4, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&o.epilogue, 4, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&o.bias, 8, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return set(&o.aux, 8, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return set(&o.aux_ld, 8, value, bytes);
        default:
            say("cublasLtMatmulDescSetAttribute: attribute %d is not supported by the emulator", (int)what);
            return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t bytes) {
    if (bytes != sizeof *preference) return CUBLAS_STATUS_INVALID_VALUE;
    in<Preference>(preference) = {0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t what, const void* value, size_t bytes) {
    Preference& p = in<Preference>(preference);
    switch (what) {
        case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(&p.workspace, 8, value, bytes);
        case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(&p.schemes, 4, value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return set(&p.alignment[0], 4, value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return set(&p.alignment[1], 4, value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return set(&p.alignment[2], 4, value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(&p.alignment[3], 4, value, bytes);
        default:
            say("cublasLtMatmulPreferenceSetAttribute: attribute %d is not supported by the emulator", (int)what);
            return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
    cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference, int most, cublasLtMatmulHeuristicResult_t results[], int* count) {
    *count = 0;
    if (!handle || most < 1) return CUBLAS_STATUS_INVALID_VALUE;
    const Operation& o = in<Operation>(operation);
    const Preference& p = in<Preference>(preference);
    if (cublasStatus_t s = legal(o, in<Matrix>(a), in<Matrix>(b), in<Matrix>(c), in<Matrix>(d))) return s;
    // an epilogue wants vectors of 16 bytes, and so rows that begin on them
    bool vectors = *std::min_element(p.alignment, p.alignment + 4) >= 16 && in<Matrix>(d).ld % 8 == 0;
    if (o.epilogue != CUBLASLT_EPILOGUE_DEFAULT && !vectors) return CUBLAS_STATUS_NOT_SUPPORTED;
    bool split = p.schemes & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE && p.workspace > 0;
    for (; *count < std::min(most, split ? ALGORITHMS : 1); ++*count) {
        cublasLtMatmulHeuristicResult_t& r = results[*count];
        memset(&r, 0, sizeof r);
        Algorithm& algorithm = in<Algorithm>(&r.algo);
        algorithm = {MAGIC, (uint64_t)*count, {}};
        std::copy(p.alignment, p.alignment + 4, algorithm.alignment);
        r.workspaceSize = *count ? 1 << 20 : 0;
        r.state = CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
    cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    const cublasLtMatmulAlgo_t* algo, cublasLtMatmulHeuristicResult_t* result) {
    const Algorithm& algorithm = in<Algorithm>(algo);
    if (!handle || algorithm.magic != MAGIC || algorithm.id >= ALGORITHMS) return CUBLAS_STATUS_INVALID_VALUE;
    memset(result, 0, sizeof *result);
    result->algo = *algo;
    result->workspaceSize = algorithm.id ? 1 << 20 : 0;
    result->state = legal(in<Operation>(operation), in<Matrix>(a), in<Matrix>(b), in<Matrix>(c), in<Matrix>(d));
    return result->state;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* A,
    cublasLtMatrixLayout_t a, const void* B, cublasLtMatrixLayout_t b, const void* beta, const void* C,
    cublasLtMatrixLayout_t c, void* D, cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algo, void* workspace,
    size_t workspace_bytes, cudaStream_t stream) {
    cublasLtMatmulHeuristicResult_t checked;
    if (!algo) {
        say("cublasLtMatmul without an algorithm is not supported by the emulator");
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (cublasStatus_t s = cublasLtMatmulAlgoCheck(handle, operation, a, b, c, d, algo, &checked)) return s;
    bool enough = checked.workspaceSize <= (workspace ? workspace_bytes : 0);
    if (!enough || (uintptr_t)workspace % 16) return CUBLAS_STATUS_INVALID_VALUE;
    const Algorithm& algorithm = in<Algorithm>(algo);
    const void* pointers[] = {A, B, C, D};
    for (int i = 0; i < 4; i++)  // an algorithm takes for granted what the preference promised
        if (!pointers[i] || (uintptr_t)pointers[i] % algorithm.alignment[i]) return CUBLAS_STATUS_INVALID_VALUE;
    Product p{in<Operation>(operation), in<Matrix>(a), in<Matrix>(b), in<Matrix>(c), in<Matrix>(d),
        *(const float*)alpha, *(const float*)beta, A, B, C, D, (int)algorithm.id};
    cudaError_t error = emulator::enqueue(stream, product_ns(p), [p] { multiply(p); });
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
}  // extern "C"
