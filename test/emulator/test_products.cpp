// test_products.cpp: the stand-in for cuBLASLt (cublaslt.cpp) by the library's own header: every way to say a product
// and its epilogue against loops in double, and what the documentation says is refused.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

#include <doctest/doctest.h>

#define OK(call) REQUIRE((int)(call) == 0)
constexpr size_t WORKSPACE = 4 << 20;

static double noise(size_t i) { return (double)((i * 2654435761u >> 8) % 2001) / 1000 - 1; }  // in [-1, 1]
// A matrix by columns on the device; rows below `rows` of a column are not written.
struct Matrix {
    cudaDataType type;
    size_t rows, cols, ld;
    char* p = nullptr;
    std::vector<double> x;  // (cols, rows), as it was rounded to the type
    Matrix(cudaDataType t, size_t r, size_t c, size_t l, size_t seed, bool written = true)
        : type(t), rows(r), cols(c), ld(l), x(r * c) {
        OK(cudaMalloc(&p, std::max<size_t>(bytes(), 1)));
        if (!written) return;
        for (size_t j = 0; j < cols; j++) {
            std::vector<float> wide(rows);
            std::vector<__nv_bfloat16> narrow(rows);
            for (size_t i = 0; i < rows; i++) {
                wide[i] = (float)noise(seed + j * rows + i);
                narrow[i] = __float2bfloat16(wide[i]);
                x[j * rows + i] = t == CUDA_R_32F ? wide[i] : __bfloat162float(narrow[i]);
            }
            const void* from = t == CUDA_R_32F ? (void*)wide.data() : narrow.data();
            OK(cudaMemcpy(p + j * ld * element(), from, rows * element(), cudaMemcpyHostToDevice));
        }
    }
    ~Matrix() { cudaFree(p); }
    Matrix(const Matrix&) = delete;
    size_t element() const { return type == CUDA_R_32F ? 4 : 2; }
    size_t bytes() const { return ld * cols * element(); }
    double at(size_t i, size_t j) const { return x[j * rows + i]; }
    std::vector<double> get() const {  // (cols, rows)
        std::vector<double> y;
        for (size_t j = 0; j < cols; j++) {
            std::vector<float> wide(rows);
            std::vector<__nv_bfloat16> narrow(rows);
            void* to = type == CUDA_R_32F ? (void*)wide.data() : narrow.data();
            OK(cudaMemcpy(to, p + j * ld * element(), rows * element(), cudaMemcpyDeviceToHost));
            for (size_t i = 0; i < rows; i++) y.push_back(type == CUDA_R_32F ? wide[i] : __bfloat162float(narrow[i]));
        }
        return y;
    }
    cublasLtMatrixLayoutOpaque_t layout() const {
        cublasLtMatrixLayoutOpaque_t l;
        OK(cublasLtMatrixLayoutInit(&l, type, rows, cols, (int64_t)ld));
        return l;
    }
};
struct Library {
    cublasLtHandle_t handle;
    void* workspace;
    Library() {
        OK(cublasLtCreate(&handle));
        OK(cudaMalloc(&workspace, WORKSPACE));
    }
    ~Library() {
        cublasLtDestroy(handle);
        cudaFree(workspace);
    }
};
// d = epilogue(alpha op(a) op(b) + beta c)
struct Call {
    const Matrix &a, &b, &c, &d;
    bool ta = false, tb = false;
    float alpha = 1, beta = 0;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const Matrix *bias = nullptr, *aux = nullptr;
    uint32_t alignment = 16;                  // promised of all pointers
    size_t workspace = WORKSPACE, shift = 0;  // bytes by which the pointer to a is off

    cublasLtMatmulDescOpaque_t description() const {
        cublasLtMatmulDescOpaque_t o;
        OK(cublasLtMatmulDescInit(&o, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        auto set = [&](cublasLtMatmulDescAttributes_t what, auto value) {
            OK(cublasLtMatmulDescSetAttribute(&o, what, &value, sizeof value));
        };
        set(CUBLASLT_MATMUL_DESC_TRANSA, (int32_t)(ta ? CUBLAS_OP_T : CUBLAS_OP_N));
        set(CUBLASLT_MATMUL_DESC_TRANSB, (int32_t)(tb ? CUBLAS_OP_T : CUBLAS_OP_N));
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, (uint32_t)epilogue);
        if (bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, (const void*)bias->p);
        if (aux) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, (const void*)aux->p);
        if (aux) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, (int64_t)aux->ld);
        return o;
    }
    std::vector<cublasLtMatmulHeuristicResult_t> algorithms(
        Library& l, cublasStatus_t expected = CUBLAS_STATUS_SUCCESS) {
        cublasLtMatmulPreferenceOpaque_t p;
        OK(cublasLtMatmulPreferenceInit(&p));
        auto set = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
            OK(cublasLtMatmulPreferenceSetAttribute(&p, what, &value, sizeof value));
        };
        set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)workspace);
        for (auto which : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
            set(which, alignment);
        std::vector<cublasLtMatmulHeuristicResult_t> found(8);
        int count = 0;
        auto o = description();
        auto la = a.layout(), lb = b.layout(), lc = c.layout(), ld = d.layout();
        cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
            l.handle, &o, &la, &lb, &lc, &ld, &p, (int)found.size(), found.data(), &count);
        CHECK(status == expected);
        found.resize((size_t)count);
        return found;
    }
    cublasStatus_t run(Library& l, const cublasLtMatmulAlgo_t& algorithm, cudaStream_t stream = nullptr) {
        auto o = description();
        auto la = a.layout(), lb = b.layout(), lc = c.layout(), ld = d.layout();
        return cublasLtMatmul(l.handle, &o, &alpha, a.p + shift, &la, b.p, &lb, &beta, c.p, &lc, d.p, &ld, &algorithm,
            workspace ? l.workspace : nullptr, workspace, stream);
    }
    // What each element of d has to be before the epilogue, and the sum of the sizes of its terms
    void expected(std::vector<double>& want, std::vector<double>& size) const {
        size_t k = ta ? a.rows : a.cols;
        for (size_t j = 0; j < d.cols; j++)
            for (size_t i = 0; i < d.rows; i++) {
                double sum = 0, sizes = 0;
                for (size_t q = 0; q < k; q++) {
                    double term = (ta ? a.at(q, i) : a.at(i, q)) * (tb ? b.at(j, q) : b.at(q, j));
                    sum += term;
                    sizes += fabs(term);
                }
                double old = beta != 0 ? beta * c.at(i, j) : 0;
                want.push_back(alpha * sum + old);
                size.push_back(fabs(alpha) * sizes + fabs(old));
            }
    }
};
// Within the roundings of fp32 sums of `terms`, in any order, and of the type
static void check(const std::vector<double>& got, const std::vector<double>& want, const std::vector<double>& size,
    cudaDataType type, size_t terms) {
    size_t bad = 0;
    REQUIRE(got.size() == want.size());
    for (size_t i = 0; i < got.size(); i++) {
        double limit = (double)(terms + 4) * 6e-8 * (size[i] + 1) + (type == CUDA_R_32F ? 0 : fabs(want[i]) / 256);
        bad += !(fabs(got[i] - want[i]) <= limit);
    }
    CHECK(bad == 0);
}

struct Shape {
    size_t M, N, K, wider;  // wider: what leading dimensions are beyond their rows
};
TEST_CASE("products: transposed or not, shapes, leading dimensions, alpha and beta, types, every algorithm") {
    Library l;
    size_t seed = 1;
    for (auto [in, out] : {std::pair(CUDA_R_32F, CUDA_R_32F), {CUDA_R_16BF, CUDA_R_16BF}, {CUDA_R_16BF, CUDA_R_32F}})
        for (bool ta : {false, true})
            for (bool tb : {false, true})
                for (Shape s : {Shape{8, 16, 32, 0}, {1, 1, 1, 7}, {40, 24, 72, 8}, {33, 5, 130, 1}})
                    for (auto [alpha, beta] : {std::pair(1.0f, 0.0f), {0.5f, 1.0f}, {-2.0f, 0.25f}}) {
                        auto [M, N, K, wider] = s;
                        CAPTURE(M);
                        CAPTURE(ta);
                        CAPTURE(tb);
                        size_t ar = ta ? K : M, br = tb ? N : K;
                        seed += 1000;
                        Matrix a(in, ar, ta ? M : K, ar + wider, seed), b(in, br, tb ? K : N, br + 2 * wider, seed + 7);
                        // in place, as all our sums are; beta 0: what is there is not read
                        Matrix d(out, M, N, M + wider, seed + 9, beta != 0);
                        Call call{a, b, d, d, ta, tb, alpha, beta};
                        call.alignment = 2;
                        std::vector<double> want, size;
                        call.expected(want, size);
                        auto found = call.algorithms(l);
                        REQUIRE(!found.empty());
                        if (beta == 0)
                            for (size_t i = 1; i < found.size(); i++) {
                                OK(call.run(l, found[i].algo));
                                check(d.get(), want, size, out, K);
                            }
                        OK(call.run(l, found[0].algo));
                        check(d.get(), want, size, out, K);
                    }
}
static double gelu(double x) { return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }
static double slope(double x) { return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5; }
TEST_CASE("epilogues") {
    Library l;
    const size_t M = 40, N = 24, K = 64;  // in bf16, as vectors of 16 bytes
    Matrix a(CUDA_R_16BF, K, M, K, 1), b(CUDA_R_16BF, K, N, K, 2), bias(CUDA_R_16BF, M, 1, M, 3);
    Matrix d(CUDA_R_16BF, M, N, M, 0, false), aux(CUDA_R_16BF, M, N, M, 5), pre(CUDA_R_16BF, M, N, M, 0, false);
    std::vector<double> want, size;
    Call call{a, b, d, d, true, false};
    call.expected(want, size);
    auto now = [&](auto f) {
        std::vector<double> y;
        for (size_t i = 0; i < want.size(); i++) y.push_back(f(want[i], i % M, i));
        auto found = call.algorithms(l);
        REQUIRE(!found.empty());
        OK(call.run(l, found.back().algo));
        check(d.get(), y, size, CUDA_R_16BF, K);
    };
    call.bias = &bias;
    call.epilogue = CUBLASLT_EPILOGUE_BIAS;
    now([&](double x, size_t row, size_t) { return x + bias.x[row]; });
    call.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    call.aux = &pre;
    now([&](double x, size_t row, size_t) { return gelu(x + bias.x[row]); });
    std::vector<double> before;
    for (size_t i = 0; i < want.size(); i++) before.push_back(want[i] + bias.x[i % M]);
    check(pre.get(), before, size, CUDA_R_16BF, K);
    call.epilogue = CUBLASLT_EPILOGUE_DGELU;
    call.aux = &aux;
    now([&](double x, size_t, size_t i) { return x * slope(aux.x[i]); });
    for (bool of_a : {true, false}) {  // the sums of op(a)'s rows, of op(b)'s columns, over k
        call.epilogue = of_a ? CUBLASLT_EPILOGUE_BGRADA : CUBLASLT_EPILOGUE_BGRADB;
        Matrix sums(CUDA_R_16BF, of_a ? M : N, 1, of_a ? M : N, 0, false);
        call.bias = &sums;
        now([](double x, size_t, size_t) { return x; });
        std::vector<double> total, sizes;
        for (size_t i = 0; i < sums.rows; i++) {
            double t = 0, s = 0;
            for (size_t q = 0; q < K; q++) t += (of_a ? a : b).at(q, i), s += fabs((of_a ? a : b).at(q, i));
            total.push_back(t);
            sizes.push_back(s);
        }
        check(sums.get(), total, sizes, CUDA_R_16BF, K);
    }
}
TEST_CASE("algorithms are those of a shape: the same bits again, and other bits than the others") {
    Library l;
    Matrix a(CUDA_R_32F, 64, 1000, 64, 1), b(CUDA_R_32F, 1000, 64, 1000, 2), d(CUDA_R_32F, 64, 64, 64, 0, false);
    Call call{a, b, d, d};
    auto found = call.algorithms(l), again = call.algorithms(l);
    REQUIRE(found.size() > 1);
    std::vector<std::vector<double>> results;
    for (size_t i = 0; i < found.size(); i++) {
        CHECK(!memcmp(&found[i].algo, &again[i].algo, sizeof found[i].algo));
        OK(call.run(l, found[i].algo));
        results.push_back(d.get());
        OK(call.run(l, again[i].algo));
        CHECK(d.get() == results.back());
    }
    CHECK(results[0] != results[1]);
    call.workspace = 0;  // for one that needs none
    found = call.algorithms(l);
    REQUIRE(!found.empty());
    CHECK(found[0].workspaceSize == 0);
    OK(call.run(l, found[0].algo));
}
TEST_CASE("what is refused") {
    Library l;
    Matrix a(CUDA_R_16BF, 64, 40, 64, 1), b(CUDA_R_16BF, 64, 24, 64, 2), d(CUDA_R_16BF, 40, 24, 40, 0, false);
    Matrix other(CUDA_R_16BF, 24, 40, 24, 0, false), single(CUDA_R_32F, 64, 40, 64, 1),
        odd(CUDA_R_16BF, 40, 24, 44, 0, false);
    Call right{a, b, d, d, true, false};
    auto found = right.algorithms(l);
    REQUIRE(found.size() > 1);
    const cublasLtMatmulAlgo_t best = found[0].algo, with_workspace = found[1].algo;
    Call wrong_shape{a, b, other, other, true, false}, not_transposed{a, b, d, d}, mixed{single, b, d, d, true, false};
    CHECK(wrong_shape.algorithms(l, CUBLAS_STATUS_INVALID_VALUE).empty());
    CHECK(not_transposed.algorithms(l, CUBLAS_STATUS_INVALID_VALUE).empty());
    CHECK(mixed.algorithms(l, CUBLAS_STATUS_NOT_SUPPORTED).empty());
    CHECK(wrong_shape.run(l, best) == CUBLAS_STATUS_INVALID_VALUE);
    cublasLtMatrixLayoutOpaque_t layout;
    CHECK(cublasLtMatrixLayoutInit(&layout, CUDA_R_16BF, 64, 40, 63) == CUBLAS_STATUS_INVALID_VALUE);
    Call shifted = right;
    shifted.shift = 2;  // 16 bytes were promised
    CHECK(shifted.run(l, best) == CUBLAS_STATUS_INVALID_VALUE);
    Call poor = right;
    poor.workspace = 0;
    CHECK(poor.run(l, with_workspace) == CUBLAS_STATUS_INVALID_VALUE);
    Call no_bias = right;
    no_bias.epilogue = CUBLASLT_EPILOGUE_BIAS;
    CHECK(no_bias.algorithms(l, CUBLAS_STATUS_INVALID_VALUE).empty());
    Call unaligned_aux = right;  // its leading dimension is a multiple of 8
    unaligned_aux.epilogue = CUBLASLT_EPILOGUE_DGELU;
    unaligned_aux.aux = &odd;
    CHECK(unaligned_aux.algorithms(l, CUBLAS_STATUS_INVALID_VALUE).empty());
    Call narrow = right;
    narrow.epilogue = CUBLASLT_EPILOGUE_BIAS;
    Matrix bias(CUDA_R_16BF, 40, 1, 40, 3);
    narrow.bias = &bias;
    narrow.alignment = 2;
    CHECK(narrow.algorithms(l, CUBLAS_STATUS_NOT_SUPPORTED).empty());
    cublasLtMatmulAlgo_t garbage;
    memset(&garbage, 0, sizeof garbage);
    CHECK(right.run(l, garbage) != CUBLAS_STATUS_SUCCESS);
}
TEST_CASE("a product waits in its stream, and is a part of a graph that is captured from it") {
    Library l;
    Matrix a(CUDA_R_32F, 8, 8, 8, 1), b(CUDA_R_32F, 8, 8, 8, 2), d(CUDA_R_32F, 8, 8, 8, 3);
    Call call{a, b, d, d, false, false, 1, 1};  // d += a b
    auto found = call.algorithms(l);
    REQUIRE(!found.empty());
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    OK(call.run(l, found[0].algo, s));
    OK(cudaStreamEndCapture(s, &graph));
    OK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    CHECK(d.get() == d.x);
    for (int i = 0; i < 3; i++) OK(cudaGraphLaunch(exec, s));
    OK(cudaStreamSynchronize(s));
    std::vector<double> want, size;
    call.beta = 0;
    call.expected(want, size);
    for (size_t i = 0; i < want.size(); i++) want[i] = 3 * want[i] + d.x[i], size[i] = 3 * size[i] + 1;
    check(d.get(), want, size, CUDA_R_32F, 24);
    OK(cudaGraphExecDestroy(exec));
    OK(cudaGraphDestroy(graph));
    OK(cudaStreamDestroy(s));
}
// last: the context is lost afterwards
TEST_CASE("the emulator sees what a product reads and nobody wrote, and where it leaves its memory") {
    Library l;
    Matrix a(CUDA_R_32F, 8, 8, 8, 1, false), b(CUDA_R_32F, 8, 8, 8, 2), d(CUDA_R_32F, 8, 8, 8, 3);
    Call call{a, b, d, d};
    auto found = call.algorithms(l);
    REQUIRE(!found.empty());
    OK(call.run(l, found[0].algo));
    CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
}
