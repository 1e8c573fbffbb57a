// ptx.cuh: the instructions that CUDA C++ has no name for. Layouts of registers are those of the PTX manual, "Matrix
// Fragments for mma.m16n8k16 with floating point type" and "ldmatrix".
#pragma once
#include <stdint.h>

#include "common/device/launch.cuh"

#ifndef __CUDACC__
#include "test/device/shim_ptx.h"  // the same in plain code
#else
// ---------------------------------------------------------------- copies that nobody waits for
// cp.async: from global to shared memory, without waiting and without a register in between.
//   cp_async_16(shared, global)          starts a copy of 16 bytes; both addresses are multiples of 16
//   cp_async_16(shared, global, there)   … of zeros if not `there`; the global address is then not read
//   cp_async_4(shared, global, there)    4 bytes; multiples of 4
//   cp_async_commit()                    all copies that this thread started since the last commit are one group
//   cp_async_wait<N>()                   wait until at most the N youngest groups of this thread are still in flight
// After the wait the thread sees what it copied itself; the other threads see it after a __syncthreads().
__device__ inline void cp_async_16(void* shared, const void* global, bool there = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
        "l"(global), "r"(there ? 16 : 0)
        : "memory");
}
__device__ inline void cp_async_4(void* shared, const void* global, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
        "l"(global), "r"(there ? 4 : 0)
        : "memory");
}
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ inline void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// ---------------------------------------------------------------- tensor cores
// In all of these the 32 lanes of a warp act together. g = lane / 4, t = lane % 4. A 32-bit register holds two bf16,
// the first in its lower half. X[i][j..] are the two elements X[i][j], X[i][j+1].

// Four 8 × 8 matrices of bf16 from shared memory. Lane 8m + i brings the address of row i of matrix m (16 bytes, a
// multiple of 16), and every lane gets r[m] = X[g][2t..] of matrix X = m; with `trans` of its transpose: X[2t][g],
// X[2t+1][g].
__device__ inline void ldmatrix_x4(uint32_t r[4], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
        : "r"((uint32_t)__cvta_generic_to_shared(row))
        : "memory");
}
__device__ inline void ldmatrix_x4_trans(uint32_t r[4], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
        : "r"((uint32_t)__cvta_generic_to_shared(row))
        : "memory");
}

// D(16,8) += A(16,16) B(16,8), products of bf16 summed in fp32. Each lane holds
//   a[0] = A[g][2t..]   a[1] = A[g+8][2t..]   a[2] = A[g][2t+8..]   a[3] = A[g+8][2t+8..]
//   b[0] = B[2t][g], B[2t+1][g]               b[1] = B[2t+8][g], B[2t+9][g]
//   d[0], d[1] = D[g][2t..]                   d[2], d[3] = D[g+8][2t..]
__device__ inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// two bf16 in a register, rounded to nearest even; `low` in the lower half
__device__ inline uint32_t pack_bf16(float low, float high) {
    uint32_t r;  // cvt takes the upper half first
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// ---------------------------------------------------------------- the rest
// 2ˣ to 2 ulp by the special function unit; what is below 2⁻¹²⁶ is 0
__device__ inline float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// From here on the compiler knows nothing about x: what depends on it is computed where it is used, not kept.
__device__ inline void opaque(int& x) { asm volatile("" : "+r"(x)); }
// words of 32 bits between registers and memory of any type: 16 bytes with one instruction, and 4
__device__ inline void copy_16(void* to, const void* from) { *(uint4*)to = *(const uint4*)from; }
__device__ inline void store_4(void* to, uint32_t word) { *(uint32_t*)to = word; }
#endif
