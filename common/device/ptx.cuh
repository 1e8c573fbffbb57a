// ptx.cuh: the instructions that CUDA C++ has no name for, each next to plain code that says what it does.
// Layouts of registers are those of the PTX manual, "Matrix Fragments for mma.m16n8k16 with floating point type" and
// "ldmatrix"; test_shim.cu compares the plain code with the manual's formulas.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "common/device/launch.cuh"

// ---------------------------------------------------------------- copies that nobody waits for
// cp.async: from global to shared memory, without waiting and without a register in between.
//   cp_async_16(shared, global)          starts a copy of 16 bytes; both addresses are multiples of 16
//   cp_async_16(shared, global, there)   … of zeros if not `there`; the global address is then not read
//   cp_async_4(shared, global, there)    4 bytes; multiples of 4
//   cp_async_commit()                    all copies that this thread started since the last commit are one group
//   cp_async_wait<N>()                   wait until at most the N youngest groups of this thread are still in flight
// After the wait the thread sees what it copied itself; the other threads see it after a __syncthreads().
#ifndef __CUDACC__
namespace shim {
SHIM_FN void start_copy(void* shared, const void* global, int words, bool there) {
    Thread& t = blk->thread[blk->cur];
    t.copies.push_back({shared, there ? global : nullptr, t.groups, words});
}
}  // namespace shim
#endif
__device__ inline void cp_async_16(void* shared, const void* global, bool there = true) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(global), "r"(there ? 16 : 0)
                 : "memory");
#else
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16) shim::die("cp_async_16: an address is not a multiple of 16");
    for (int i = 0; i < 4; i++) ((shim::Word*)shared)[i] = ~0u;  // whoever reads before the wait gets NaN
    shim::start_copy(shared, global, 4, there);
#endif
}
__device__ inline void cp_async_4(void* shared, const void* global, bool there) {
#ifdef __CUDACC__
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(global), "r"(there ? 4 : 0)
                 : "memory");
#else
    if ((uintptr_t)shared % 4 || (uintptr_t)global % 4) shim::die("cp_async_4: an address is not a multiple of 4");
    *(shim::Word*)shared = ~0u;
    shim::start_copy(shared, global, 1, there);
#endif
}
__device__ inline void cp_async_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    shim::blk->thread[shim::blk->cur].groups++;
#endif
}
template <int N> __device__ inline void cp_async_wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
    shim::Thread& t = shim::blk->thread[shim::blk->cur];
    size_t done = 0;
    for (; done < t.copies.size() && t.copies[done].group + N < t.groups; done++) {
        const shim::AsyncCopy& c = t.copies[done];
        for (int i = 0; i < c.words; i++) ((shim::Word*)c.to)[i] = c.from ? ((const shim::Word*)c.from)[i] : 0;
    }
    t.copies.erase(t.copies.begin(), t.copies.begin() + (ptrdiff_t)done);
#endif
}

// ---------------------------------------------------------------- tensor cores
// In all of these the 32 lanes of a warp act together. g = lane / 4, t = lane % 4. A 32-bit register holds two bf16,
// the first in its lower half. X[i][j..] are the two elements X[i][j], X[i][j+1].

// Four 8 × 8 matrices of bf16 from shared memory. Lane 8m + i brings the address of row i of matrix m (16 bytes, a
// multiple of 16), and every lane gets r[m] = X[g][2t..] of matrix X = m; with `trans` of its transpose: X[2t][g],
// X[2t+1][g].
#ifndef __CUDACC__
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
#endif
__device__ inline void ldmatrix_x4(uint32_t r[4], const bf16* row) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
#else
    shim::ldmatrix("waits at ldmatrix_x4()", r, row, false);
#endif
}
__device__ inline void ldmatrix_x4_trans(uint32_t r[4], const bf16* row) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
#else
    shim::ldmatrix("waits at ldmatrix_x4_trans()", r, row, true);
#endif
}

// D(16,8) += A(16,16) B(16,8), products of bf16 summed in fp32. Each lane holds
//   a[0] = A[g][2t..]   a[1] = A[g+8][2t..]   a[2] = A[g][2t+8..]   a[3] = A[g+8][2t+8..]
//   b[0] = B[2t][g], B[2t+1][g]               b[1] = B[2t+8][g], B[2t+9][g]
//   d[0], d[1] = D[g][2t..]                   d[2], d[3] = D[g+8][2t..]
__device__ inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
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
#endif
}

// two bf16 in a register, rounded to nearest even; `low` in the lower half
__device__ inline uint32_t pack_bf16(float low, float high) {
#ifdef __CUDACC__
    uint32_t r;  // cvt takes the upper half first
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#else
    return (uint32_t)bf16(low).bits | (uint32_t)bf16(high).bits << 16;
#endif
}

// ---------------------------------------------------------------- the rest
// 2ˣ to 2 ulp by the special function unit; what is below 2⁻¹²⁶ is 0
__device__ inline float fast_exp2(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return x < -126.0f ? 0.0f : exp2f(x);
#endif
}
// From here on the compiler knows nothing about x: what depends on it is computed where it is used, not before a loop
// and kept in registers.
__device__ inline void opaque(int& x) {
#ifdef __CUDACC__
    asm volatile("" : "+r"(x));
#else
    (void)x;
#endif
}
// words of 32 bits between registers and memory of any type: 16 bytes with one instruction, and 4
__device__ inline void copy_16(void* to, const void* from) {
#ifdef __CUDACC__
    *(uint4*)to = *(const uint4*)from;
#else
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) shim::die("copy_16: an address is not a multiple of 16");
    for (int i = 0; i < 4; i++) ((shim::Word*)to)[i] = ((const shim::Word*)from)[i];
#endif
}
__device__ inline void store_4(void* to, uint32_t word) {
#ifdef __CUDACC__
    *(uint32_t*)to = word;
#else
    *(shim::Word*)to = word;
#endif
}
