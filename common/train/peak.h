// peak.h: how fast this machine can multiply matrices: what a training step's FLOP/s are compared with.
#pragma once
#include <omp.h>
#include <algorithm>

#include "common/ops/matmul.cuh"

// FLOP/s of dense matrix products at this precision; 0 where it is not known. GPU: the data sheet. CPU: the best of
// some products.
inline double peak_flops() {
#ifdef __CUDACC__
    std::string name = device::device_name();
    struct Row {
        const char* part;
        double bf16, fp32;
    };
    for (Row r : {Row{"H200", 989e12, 67e12}, Row{"H100 PCIe", 756e12, 51e12}, Row{"H100", 989e12, 67e12},
                  Row{"A100", 312e12, 19.5e12}, Row{"L40S", 362e12, 91.6e12}, Row{"4090", 165e12, 82.6e12}})
        if (name.find(r.part) != std::string::npos) return sizeof(real) == 2 ? r.bf16 : r.fp32;
    return 0;
#elif defined(SHIM)
    return 0;
#else
    constexpr int n = 384;
    double best = 0;
#pragma omp parallel
    {
        std::vector<real> a(n * n, real(0.5f)), b(n * n, real(0.25f)), c(n * n, real(0.0f));
        for (int i = 0; i < 20; i++) {
#pragma omp barrier
            double t = omp_get_wtime();
            cpu::gemm(false, true, n, n, n, a.data(), n, b.data(), n, real(0.0f), c.data(), n);
#pragma omp barrier
            t = omp_get_wtime() - t;
#pragma omp single
            best = std::max(best, 2.0 * n * n * n * omp_get_num_threads() / t);
        }
    }
    return best;
#endif
}
