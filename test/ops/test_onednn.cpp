// Products of bf16 on a CPU, by oneDNN, against the loops: run for each kind of instructions (ONEDNN_MAX_CPU_ISA).
#include <doctest/doctest.h>

#include <array>

#include "common/base/rng.h"
#include "common/ops/matmul.cuh"

namespace {
template <class T> std::vector<T> noise(size_t n) {  // uniform within (-1, 1)
    static uint64_t seed = 1;
    std::vector<T> x(n);
    seed++;
    for (size_t i = 0; i < n; i++) x[i] = T((float)uniform(mix64(seed, i)) * 2 - 1);
    return x;
}
// Products of bf16 are exact in fp32; both sides add k of them in fp32, in different orders, and round the sum once:
// what differs is k roundings of 2⁻²⁴ of Σ|a b|, here ≤ k (noise lies within ±1), and in bf16 one ulp more, 2⁻⁸ of the
// sum.
template <class TC> void test_product(bool ta, bool tb, int m, int n, int k, size_t more, TC beta) {
    CAPTURE(ta);
    CAPTURE(tb);
    CAPTURE(m);
    CAPTURE(n);
    CAPTURE(k);
    CAPTURE(more);
    const size_t lda = (ta ? m : k) + more, ldb = (tb ? k : n) + more, ldc = n + more;  // parts of larger matrices
    const auto a = noise<bf16>(lda * (ta ? k : m)), b = noise<bf16>(ldb * (tb ? n : k));
    auto c = noise<TC>(ldc * m), expected = c;
    cpu::gemm(ta, tb, m, n, k, a.data(), lda, b.data(), ldb, beta, c.data(), ldc);
    cpu::gemm_loops(ta, tb, m, n, k, a.data(), lda, b.data(), ldb, beta, expected.data(), ldc);
    size_t wrong = 0, touched = 0;
    for (size_t i = 0; i < c.size(); i++) {
        const float x = c[i], y = expected[i];
        if (i % ldc >= (size_t)n) touched += memcmp((void*)&c[i], (void*)&expected[i], sizeof(TC)) != 0;
        else
            wrong += !(std::abs(x - y) <= ldexpf(2.0f * k * k + 1, -24) +
                                              (sizeof(TC) == 2 ? ldexpf(std::max(std::abs(x), std::abs(y)), -7) : 0));
    }
    CHECK(wrong == 0);
    CHECK(touched == 0);
}
}  // namespace

TEST_CASE("products of bf16 equal the loops'") {
    MESSAGE(std::string(cpu::bf16_instructions()));
    for (bool ta : {false, true})
        for (bool tb : {false, true})
            for (auto [m, n, k] :
                {std::array<int, 3>{1, 1, 1}, {33, 1, 65}, {1, 47, 2}, {64, 64, 64}, {31, 17, 3}, {100, 129, 257}})
                for (size_t more : {0, 1, 32}) {
                    test_product<bf16>(ta, tb, m, n, k, more, bf16(0.0f));
                    test_product<bf16>(ta, tb, m, n, k, more, bf16(1.0f));
                    test_product<float>(ta, tb, m, n, k, more, 0.0f);
                    test_product<float>(ta, tb, m, n, k, more, 1.0f);
                }
}

TEST_CASE("NaN and infinity go through a product, and what beta = 0 overwrites does not") {
    const float bad[] = {NAN, INFINITY};
    for (float x : bad) {
        std::vector<bf16> a(64 * 64, bf16(1.0f)), b(64 * 64, bf16(1.0f)), c(64 * 64, bf16(NAN));
        a[5 * 64 + 7] = bf16(x);
        cpu::gemm(false, true, 64, 64, 64, a.data(), 64, b.data(), 64, bf16(0.0f), c.data(), 64);
        CHECK(!std::isfinite((float)c[5 * 64 + 63]));
        CHECK((float)c[4 * 64 + 63] == 64.0f);
    }
}

TEST_CASE("the linear layer in bf16 has the same bits on 1, 2 and 3 threads") {
    const int N = 300, C = 96, OC = 200;
    const auto inp = noise<bf16>(N * C), weight = noise<bf16>(OC * C), bias = noise<bf16>(OC),
               dout = noise<bf16>(N * OC);
    std::vector<std::vector<bf16>> outs, dinps;
    std::vector<std::vector<float>> dweights;
    const int threads = omp_get_max_threads();
    for (int t : {1, 2, 3}) {
        omp_set_num_threads(t);
        std::vector<bf16> out(N * OC), dinp(N * C);
        std::vector<float> dweight(OC * C), dbias(OC), scratch(column_sum_scratch(N, OC));
        cpu::matmul_forward(out.data(), inp.data(), weight.data(), bias.data(), N, C, OC);
        cpu::matmul_backward_input(dinp.data(), dout.data(), weight.data(), N, C, OC);
        cpu::matmul_backward_weight(dweight.data(), dbias.data(), dout.data(), inp.data(), scratch.data(), N, C, OC);
        outs.push_back(out), dinps.push_back(dinp), dweights.push_back(dweight);
    }
    omp_set_num_threads(threads);
    for (int t : {1, 2}) {
        CHECK(memcmp((void*)outs[0].data(), (void*)outs[t].data(), outs[0].size() * 2) == 0);
        CHECK(memcmp((void*)dinps[0].data(), (void*)dinps[t].data(), dinps[0].size() * 2) == 0);
        CHECK(dweights[0] == dweights[t]);
    }
}
