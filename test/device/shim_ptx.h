// shim_ptx.h: the instructions of ptx.cuh in plain code; what they are is said there. test_shim.cu compares them with
// the formulas of the PTX manual.
#pragma once
#include <math.h>
#include <stdint.h>

#include "test/device/shim.h"

namespace shim {
SHIM_FN void start_copy(void* shared, const void* global, int words, bool there) {
    Thread& t = blk->thread[blk->cur];
    t.copies.push_back({shared, there ? global : nullptr, t.groups, words});
}
}  // namespace shim
__device__ inline void cp_async_16(void* shared, const void* global, bool there = true) {
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16) shim::die("cp_async_16: an address is not a multiple of 16");
    for (int i = 0; i < 4; i++) ((shim::Word*)shared)[i] = ~0u;  // whoever reads before the wait gets NaN
    shim::start_copy(shared, global, 4, there);
}
__device__ inline void cp_async_4(void* shared, const void* global, bool there) {
    if ((uintptr_t)shared % 4 || (uintptr_t)global % 4) shim::die("cp_async_4: an address is not a multiple of 4");
    *(shim::Word*)shared = ~0u;
    shim::start_copy(shared, global, 1, there);
}
__device__ inline void cp_async_commit() { shim::blk->thread[shim::blk->cur].groups++; }
template <int N> __device__ inline void cp_async_wait() {
    shim::Thread& t = shim::blk->thread[shim::blk->cur];
    size_t done = 0;
    for (; done < t.copies.size() && t.copies[done].group + N < t.groups; done++) {
        const shim::AsyncCopy& c = t.copies[done];
        for (int i = 0; i < c.words; i++) ((shim::Word*)c.to)[i] = c.from ? ((const shim::Word*)c.from)[i] : 0;
    }
    t.copies.erase(t.copies.begin(), t.copies.begin() + (ptrdiff_t)done);
}

namespace shim {
inline void ldmatrix(const char* op, uint32_t r[4], const bf16* row, bool trans) {
    if ((uintptr_t)row % 16) die("ldmatrix: the address of a row is not a multiple of 16");
    struct Row {
        uint32_t at[4];
    } mine;
    for (int i = 0; i < 4; i++) mine.at[i] = ((const Word*)row)[i];
    Gathered rows = gather(op, ~0u, mine);
    int g = lane() / 4, t = lane() % 4;
    auto element = [&](int m, int i, int j) { return rows.from<Row>(8 * m + i).at[j / 2] >> 16 * (j % 2) & 0xffffu; };
    for (int m = 0; m < 4; m++)
        r[m] = trans ? element(m, 2 * t, g) | element(m, 2 * t + 1, g) << 16
                     : element(m, g, 2 * t) | element(m, g, 2 * t + 1) << 16;
}
}  // namespace shim
__device__ inline void ldmatrix_x4(uint32_t r[4], const bf16* row) {
    shim::ldmatrix("waits at ldmatrix_x4()", r, row, false);
}
__device__ inline void ldmatrix_x4_trans(uint32_t r[4], const bf16* row) {
    shim::ldmatrix("waits at ldmatrix_x4_trans()", r, row, true);
}

__device__ inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    struct Mine {
        uint32_t a[4], b[2];
    } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    shim::Gathered all = shim::gather("waits at mma_16x8x16()", ~0u, mine);
    auto number = [](uint32_t bits) {
        float f;
        __builtin_memcpy(&f, &bits, 4);
        return f;
    };
    int g = shim::lane() / 4, t = shim::lane() % 4;
    // row g of A lies in lanes 4g + k, column 2t of B in lanes 8t + k, the next one four lanes on
    for (int k = 0; k < 4; k++) {
        Mine x = all.from<Mine>(4 * g + k), y[2] = {all.from<Mine>(8 * t + k), all.from<Mine>(8 * t + 4 + k)};
        for (int i = 0; i < 4; i++)
            for (int half = 0; half < 2; half++) {
                uint32_t u = x.a[2 * half + i / 2], v = y[i % 2].b[half];
                d[i] += number(u << 16) * number(v << 16) + number(u & 0xffff0000u) * number(v & 0xffff0000u);
            }
    }
}

__device__ inline uint32_t pack_bf16(float low, float high) {
    return (uint32_t)bf16(low).bits | (uint32_t)bf16(high).bits << 16;
}

__device__ inline float fast_exp2(float x) { return x < -126.0f ? 0.0f : exp2f(x); }
__device__ inline void opaque(int& x) { (void)x; }
__device__ inline void copy_16(void* to, const void* from) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) shim::die("copy_16: an address is not a multiple of 16");
    for (int i = 0; i < 4; i++) ((shim::Word*)to)[i] = ((const shim::Word*)from)[i];
}
__device__ inline void store_4(void* to, uint32_t word) { *(shim::Word*)to = word; }
