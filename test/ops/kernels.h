// kernels.h: arrays, random numbers, dropout and work lists for the tests of kernels.
#pragma once
#include <doctest/doctest.h>

#include "common/ops/dropout.cuh"
#include "common/ops/sequences.h"

#ifndef __CUDACC__
static const bool any_memory = shim::addresses_are_checked = false;
#endif
static const bool small = getenv("TEST_SMALL") && *getenv("TEST_SMALL") == '1';

// An array in device memory, a copy of a host's. On the shim it is exactly as long as it says, so that ASan sees every
// overrun.
template <class T> struct Device {
    T* p;
    size_t n;
#ifdef __CUDACC__
    explicit Device(const std::vector<T>& host) : p((T*)gpu::device_alloc(host.size() * sizeof(T))), n(host.size()) {
        if (n) gpu::copy_to_device(p, host.data(), n * sizeof(T));
        gpu::device_sync();
    }
    ~Device() { cudaFree(p); }
#else
    explicit Device(const std::vector<T>& host) : p((T*)malloc(host.size() * sizeof(T))), n(host.size()) {
        if (n) memcpy((void*)p, (const void*)host.data(), n * sizeof(T));
    }
    ~Device() { free((void*)p); }
#endif
    Device(const Device&) = delete;
    std::vector<T> get() const {
        std::vector<T> host(n);
        if (n) gpu::copy_to_host((void*)host.data(), p, n * sizeof(T));
        return host;
    }
    operator T*() { return p; }
    operator const T*() const { return p; }
};

static uint64_t bits = 0;  // of all results that have to be the same in every order
template <class T> bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() &&
           (a.empty() || !memcmp((const void*)a.data(), (const void*)b.data(), a.size() * sizeof(T)));
}

static uint64_t seed = 1;  // every array gets numbers of its own
template <class T>
std::vector<T> noise(size_t n, double scale = 1, double shift = 0) {  // uniform with standard deviation `scale`
    std::vector<T> x(n);
    seed++;
    for (size_t i = 0; i < n; i++) x[i] = (T)(float)((uniform(mix64(seed, i)) * 2 - 1) * scale * 1.7320508 + shift);
    return x;
}
template <class T> std::vector<T> nothing(size_t n) {  // NaN: an output that is not written will not go unnoticed
    std::vector<T> x(n);
    if (n) memset((void*)x.data(), 0xff, n * sizeof(T));
    return x;
}
[[maybe_unused]] static int below(int i, int n) { return (int)below(mix64(seed, (uint64_t)i), (uint64_t)n); }

struct Dice {  // dropout with counters on both sides
    std::vector<StepCounters> host{{42, 7, 1000}};
    Device<StepCounters> device{host};
    Dropout cpu(float p, uint32_t site = 3, const int* rows = nullptr) const { return {host.data(), site, p, rows}; }
    Dropout gpu(float p, uint32_t site = 3, const int* rows = nullptr) const { return {device.p, site, p, rows}; }
};

// ---------------------------------------------------------------- sequences
static const std::vector<int> ragged = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129};
// start and work list of sequences of these lengths, and as much again at their ends that means nothing to do
// (BatchBuilder fills them up)
inline void work_list(
    std::vector<int>& start, std::vector<int>& tiles, const std::vector<int>& lengths, bool group = false) {
    start = {0};
    for (int len : lengths) start.push_back(start.back() + len);
    tiles.resize(2 * (start.back() / ATTENTION_TILE + lengths.size()));
    tiles.resize(2 * make_tiles(tiles.data(), start.data(), (int)lengths.size(), group));
    for (size_t spare = 2 + tiles.size() / 2; spare > 0; spare--) {
        start.push_back(start.back());
        tiles.push_back(-1);
        tiles.push_back(0);
    }
}

// ---------------------------------------------------------------- orders, and main()
#ifndef __CUDACC__
// run() checks some results; are they the same bits, whatever the order of blocks and threads?
template <class F> void check_three_orders(F run) {
    shim::Order before = shim::order;
    uint64_t seen[3], bits_before = bits, seed_before = seed;
    for (shim::Order order : {shim::FORWARD, shim::REVERSE, shim::RANDOM}) {
        shim::order = order;
        bits = 0;
        seed = 1000;
        run();
        seen[order] = bits;
    }
    shim::order = before;
    bits = bits_before;
    seed = seed_before;
    CHECK(seen[0] == seen[1]);
    CHECK(seen[0] == seen[2]);
}
#endif

inline int run_kernel_tests([[maybe_unused]] const char* name, int argc, char** argv) {
#ifdef __CUDACC__
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
        printf("%s: no GPU here: nothing was tested\n", name);
        return EXIT_FAILED;
    }
#endif
    gpu::blas_init();
    int status = doctest::Context(argc, argv).run();
    printf("bits of all results: %016llx\n", (unsigned long long)bits);
    return status;
}
