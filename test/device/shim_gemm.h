// shim_gemm.h: matrix products (gemm.cuh) of the shim: those of the CPU, of device memory, without an epilogue.
#pragma once
#include "test/device/shim.h"

namespace cpu {
template <class TA, class TC> void gemm(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda, const TA* b,
    size_t ldb, TC beta, TC* c, size_t ldc);
}
namespace gpu {
struct Nothing;
struct Fused;
template <class TA, class TC> void gemm(bool ta, bool tb, int m, int n, int k, const TA* a, size_t lda, const TA* b,
    size_t ldb, float beta, TC* c, size_t ldc) {
    constexpr int ROWS = 64;
    shim::record("gemm", 1, 1, 0, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
    shim::require_device("gemm", a, b, c);
    shim::AtWork device;
#pragma omp parallel for
    for (int i = 0; i < m; i += ROWS)
        cpu::gemm(ta, tb, std::min(ROWS, m - i), n, k, a + (ta ? (size_t)i : i * lda), lda, b, ldb, TC(beta),
            c + i * ldc, ldc);
}
template <class TA, class TC, class Fallback, class OnFused = Nothing> void fused_gemm(bool, bool, int, int, int,
    const TA*, size_t, const TA*, size_t, float, TC*, size_t, const Fused&, Fallback fallback, OnFused = {}) {
    fallback();
}
}  // namespace gpu
