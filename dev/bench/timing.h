// timing.h: device memory with random numbers in it, and the time of a kernel. For the programs of this folder.
#pragma once
#include <algorithm>
#include <chrono>

#include "common/base/rng.h"
#include "common/device/device.cuh"

template <class T> T* on_device(const std::vector<T>& host) {
    T* p = (T*)gpu::device_alloc(host.size() * sizeof(T));
    gpu::copy_to_device((void*)p, host.data(), host.size() * sizeof(T));
    return p;
}
inline bf16* random_numbers(size_t n, uint64_t seed, float std) {  // uniform
    std::vector<bf16> x(n);
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) x[i] = (bf16)(((float)(mix64(seed, i) >> 40) * 0x1p-24f * 2 - 1) * 1.732f * std);
    return on_device(x);
}
inline void release(void* p) {
#ifdef __CUDACC__
    CUDA_CHECK(cudaFree(p));
#else
    (void)p;  // a few megabytes
#endif
}
// Microseconds of f(), by events on the stream; without a GPU by the clock. The first three calls do not count.
template <class F> double median_us(int times, F f) {
    std::vector<double> us;
    for (int i = 0; i < times + 3; i++) {
#ifdef __CUDACC__
        cudaEvent_t begin, end;
        float ms;
        CUDA_CHECK(cudaEventCreate(&begin));
        CUDA_CHECK(cudaEventCreate(&end));
        CUDA_CHECK(cudaEventRecord(begin, gpu::compute_stream));
        f();
        CUDA_CHECK(cudaEventRecord(end, gpu::compute_stream));
        CUDA_CHECK(cudaEventSynchronize(end));
        CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
        CUDA_CHECK(cudaEventDestroy(begin));
        CUDA_CHECK(cudaEventDestroy(end));
        us.push_back(ms * 1e3);
#else
        auto begin = std::chrono::steady_clock::now();
        f();
        us.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() * 1e6);
#endif
    }
    std::sort(us.begin() + 3, us.end());
    return us[3 + times / 2];
}
