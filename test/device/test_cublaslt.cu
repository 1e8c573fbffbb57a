// test_cublaslt.cu: the code that calls cuBLASLt, on a stand-in for it (cublaslt.h): which matrix is which, the
// epilogues and what runs where there is none, the choice of an algorithm by time, and the plans that a run keeps.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "test/device/cublaslt.h"

#include "common/ops/attention.cuh"
#include "test/ops/kernels.h"
#include "test/ops/matmul_cases.h"
#include "test/temp.h"

static bool ran(cublasLtEpilogue_t e) {
    return std::any_of(fake::runs.begin(), fake::runs.end(), [&](auto& run) { return run.first == e; });
}
// A stand-in as it is at first, no plans, nothing timed
struct Fresh {
    Fresh() { reset(); }
    ~Fresh() { reset(); }
    static void reset() {
        fake::algorithms = 3;
        fake::capturing = false;
        fake::version = 130002;
        fake::missing.clear();
        fake::us = [](cublasLtEpilogue_t, int) { return 10.0; };
        fake::runs.clear();
        fake::timings = fake::heuristics = 0;
        gpu::cublas_lt.plans = MatmulPlans();
        gpu::enable_autotune(false);
    }
};
// At a multiple of 256 bytes, as in a run: the alignment is a part of what a plan is for
template <class T> struct Aligned {
    T* p;
    size_t bytes;
    explicit Aligned(const std::vector<T>& v)
        : p((T*)aligned_alloc(256, round_up(v.size() * sizeof(T), 256))), bytes(v.size() * sizeof(T)) {
        memcpy((void*)p, (const void*)v.data(), bytes);
    }
    ~Aligned() { free((void*)p); }
    Aligned(const Aligned&) = delete;
    operator T*() { return p; }
    uint64_t hash(uint64_t h) const { return fnv1a(p, bytes, h); }
};
// A layer forward and backward, twice; the bits of all that it computes
template <class T> uint64_t layer(int N = 16, int C = 40, int OC = 24) {
    seed = 77;
    Aligned<T> inp(noise<T>(N * C)), weight(noise<T>(OC * C, 0.1)), bias(noise<T>(OC)), dout(noise<T>(N * OC));
    Aligned<T> out(nothing<T>(N * OC)), pre(nothing<T>(N * OC)), dinp(noise<T>(N * C)), dpre(nothing<T>(N * C));
    Aligned<float> dw(noise<float>(OC * C)), db(noise<float>(OC)), scratch(nothing<float>(column_sum_scratch(N, OC)));
    for (int micro = 0; micro < 2; micro++) {
        gpu::matmul_gelu_forward<Gelu::tanh, T>(out, pre, inp, weight, bias, N, C, OC);
        gpu::matmul_backward_input<T>(dinp, dout, weight, N, C, OC, true);
        gpu::matmul_backward_input_gelu<Gelu::tanh, T>(dpre, dout, weight, inp, N, C, OC);
        gpu::matmul_backward_weight<T>(dw, db, dout, inp, scratch, N, C, OC);
    }
    return db.hash(dw.hash(dpre.hash(dinp.hash(pre.hash(out.hash(fnv1a("", 0)))))));
}

TEST_CASE_TEMPLATE("matmul", T, float, bf16) {
    Fresh fresh;
    for (MatmulCase s :
        {MatmulCase{1, 64, 64}, {65, 33, 34}, {65, 64, 48}, {40, 72, 100}, {24, 100, 80}, {130, 100, 257}})
        test_matmul<T>(s);
}
TEST_CASE("every epilogue is used where it may be") {
    Fresh fresh;
    test_matmul<bf16>({16, 40, 24});
    for (auto e : {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
             CUBLASLT_EPILOGUE_DGELU, CUBLASLT_EPILOGUE_BGRADB})
        CHECK(ran(e));
    fake::runs.clear();
    test_matmul<float>({16, 40, 24});  // exact: GELU is ours
    for (auto e : {CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU}) CHECK(!ran(e));
    CHECK(ran(CUBLASLT_EPILOGUE_BIAS));
    fake::runs.clear();
    test_matmul<bf16>({16, 40, 26});  // rows of OC are not a multiple of 8
    CHECK(!ran(CUBLASLT_EPILOGUE_GELU_AUX_BIAS));
    CHECK(ran(CUBLASLT_EPILOGUE_DGELU));
    fake::runs.clear();
    test_matmul<bf16>({16, 40, 24}, 1);  // no address is a multiple of 16
    CHECK(std::all_of(
        fake::runs.begin(), fake::runs.end(), [](auto& run) { return run.first == CUBLASLT_EPILOGUE_DEFAULT; }));
    for (auto missing :
        {CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU, CUBLASLT_EPILOGUE_BGRADB}) {
        Fresh again;
        fake::missing = {missing};
        test_matmul<bf16>({16, 40, 24});
        CHECK(!ran(missing));
    }
}

TEST_CASE("a product without an algorithm is named") {
    Fresh fresh;
    fake::algorithms = 0;
    std::string said;
    try {
        layer<bf16>();
    } catch (const Error& e) {
        said = e.what();
    }
    CHECK(has(said, "cuBLASLt 130002 has no algorithm for the product (16,24) = NT(40)"));
}

TEST_CASE("without timing: the first algorithm, asked for once") {
    Fresh fresh;
    layer<bf16>();
    int asked = fake::heuristics;
    CHECK(fake::timings == 0);
    for (auto& [epilogue, id] : fake::runs) CHECK(id == 0);
    layer<bf16>();
    CHECK(fake::heuristics == asked);
}

TEST_CASE("timing takes the fastest and leaves no trace in what accumulates") {
    Fresh fresh;
    test_matmul<bf16>({16, 40, 24});
    gpu::enable_autotune(true);
    for (int fastest : {0, 1, 2}) {
        gpu::cublas_lt.plans.plans.clear();
        fake::us = [&](cublasLtEpilogue_t e, int id) {
            return (e == CUBLASLT_EPILOGUE_DEFAULT ? 100.0 : 50.0) + (id == fastest ? 0 : 5 + id);
        };
        test_matmul<bf16>({16, 40, 24});  // right although each was run a dozen times on these operands
        fake::runs.clear();
        layer<bf16>();
        int timings = fake::timings;
        fake::runs.clear();
        layer<bf16>();
        CHECK(fake::timings == timings);
        for (auto& [epilogue, id] : fake::runs) CHECK(id == fastest);
        CHECK(ran(CUBLASLT_EPILOGUE_GELU_AUX_BIAS));
        CHECK(ran(CUBLASLT_EPILOGUE_BGRADB));
        const MatmulPlan& plan = gpu::cublas_lt.plans.plans.begin()->second;
        CHECK(plan.us >= 50);
    }
}

TEST_CASE("an epilogue that is slower than kernels of ours is not taken") {
    Fresh fresh;
    gpu::enable_autotune(true);
    fake::us = [](cublasLtEpilogue_t e, int id) { return (e == CUBLASLT_EPILOGUE_DEFAULT ? 10.0 : 20.0) + id; };
    test_matmul<bf16>({16, 40, 24});
    layer<bf16>();
    fake::runs.clear();
    layer<bf16>();
    CHECK(!fake::runs.empty());
    for (auto& [epilogue, id] : fake::runs) CHECK(epilogue == CUBLASLT_EPILOGUE_DEFAULT);
}

TEST_CASE("a candidate that does not run is passed over") {
    Fresh fresh;
    gpu::enable_autotune(true);
    fake::us = [](cublasLtEpilogue_t, int id) { return id == 2 ? 10.0 : -1.0; };
    test_matmul<bf16>({16, 40, 24});
    for (auto& [epilogue, id] : fake::runs) CHECK(id == 2);
}

TEST_CASE("nothing is timed during a capture") {
    Fresh fresh;
    gpu::enable_autotune(true);
    fake::capturing = true;
    layer<bf16>();
    CHECK(fake::timings == 0);
    fake::capturing = false;
    layer<bf16>();
    CHECK(fake::timings > 0);
}

TEST_CASE("a resumed run has the same bits") {
    TempDir dir;
    std::string file = dir / "matmul_plans.jsonl";
    auto start = [&](std::function<double(cublasLtEpilogue_t, int)> us, bool renew = false) {
        fake::us = us;
        gpu::open_tuning_cache(file, renew);
        gpu::enable_autotune(true);
        int before = fake::timings;
        uint64_t bits = layer<bf16>();
        return std::pair{bits, fake::timings - before};
    };
    auto first = [](cublasLtEpilogue_t e, int id) { return id == 1 ? 10.0 : 20.0 + (double)e / 1000; };
    // another day, other times
    auto other = [](cublasLtEpilogue_t e, int id) { return id == 2 ? 10.0 : 20.0 + (double)e / 1000; };
    Fresh fresh;
    auto [bits, timings] = start(first);
    CHECK(timings > 0);
    std::string text = read_file(file);
    Fresh::reset();
    auto [again, none] = start(other);
    CHECK(again == bits);
    CHECK(none == 0);
    CHECK(read_file(file) == text);
    Fresh::reset();
    auto [renewed, all] = start(other, true);  // --retune
    CHECK(renewed != bits);
    CHECK(all == timings);
    CHECK(read_file(file) != text);
    Fresh::reset();
    write_bytes(file, text);
    fake::version = 130100;  // another library
    CHECK(start(other) == std::pair{renewed, all});
    // an algorithm that this library refuses
    Fresh::reset();
    write_bytes(file, text);
    gpu::open_tuning_cache(file, false);
    for (auto& [shape, plan] : gpu::cublas_lt.plans.plans) plan.algorithm[0]++;
    gpu::enable_autotune(true);
    std::string said;
    try {
        layer<bf16>();
    } catch (const Error& e) {
        said = e.what();
    }
    CHECK(has(said, "--retune chooses another algorithm"));
}

int main(int argc, char** argv) { return run_kernel_tests("test_cublaslt", argc, argv); }
