// rng.h: random numbers as functions of counters, never of a running state: equal on CPU and GPU, and independent of
// the number of threads, the order of evaluation and the way a step is cut into micro-batches.
#pragma once
#include <math.h>

#include "common/base/types.h"

// A bijection of 64-bit numbers that turns counters into noise (the finaliser of SplitMix64, Steele et al. 2014)
HOST_DEVICE inline uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}
HOST_DEVICE inline uint64_t mix64(uint64_t a, uint64_t b) { return mix64(mix64(a) + b); }
HOST_DEVICE inline uint64_t mix64(uint64_t a, uint64_t b, uint64_t c) { return mix64(mix64(a, b) + c); }
HOST_DEVICE inline uint64_t mix64(uint64_t a, uint64_t b, uint64_t c, uint64_t d) { return mix64(mix64(a, b, c) + d); }

HOST_DEVICE inline double uniform(uint64_t key) { return (double)(key >> 11) * 0x1p-53; }  // [0, 1)
// an integer in [0, n), n > 0 (bias below n / 2^64)
HOST_DEVICE inline uint64_t below(uint64_t key, uint64_t n) {
    return n < (1ull << 32) ? ((key >> 32) * n) >> 32 : key % n;
}
inline double normal(uint64_t key) {  // N(0, 1), Box and Muller 1958
    double u = 1.0 - uniform(mix64(key, 1)), v = uniform(mix64(key, 2));
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}

// A random permutation of [0, n) without a table: a Feistel network of four rounds on the smallest even number of bits
// that holds n, walked until it lands below n. permute(i) for i = 0, 1, … n−1 visits every number once.
struct Permutation {
    uint64_t n, key;
    int half;  // bits of each half
    Permutation(uint64_t n, uint64_t key) : n(n), key(key), half(1) {
        while (half < 32 && (1ull << 2 * half) < n) half++;
    }
    uint64_t operator()(uint64_t i) const {
        uint64_t mask = (1ull << half) - 1;
        do {
            uint64_t l = i >> half, r = i & mask;
            for (uint64_t round = 0; round < 4; round++) {
                uint64_t next = l ^ (mix64(key, round, r) & mask);
                l = r;
                r = next;
            }
            i = l << half | r;
        } while (i >= n);
        return i;
    }
};
