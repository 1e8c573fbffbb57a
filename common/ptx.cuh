// ptx.cuh: the instructions that CUDA C++ has no name for, each next to plain code that says what it does.
#pragma once
#include "shim.h"

// cp.async: 16 bytes from global to shared memory, without waiting and without a register in between.
//   cp_async_16(shared, global)   starts one copy; both addresses are multiples of 16
//   cp_async_commit()             all copies that this thread started since the last commit are one group
//   cp_async_wait<N>()            wait until at most the N youngest groups of this thread are still under way
// After the wait the thread sees what it copied itself; the other threads see it after a __syncthreads().
__device__ inline void cp_async_16(void* shared, const void* global) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(global) : "memory");
#else
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16) shim::die("cp_async_16: an address is not a multiple of 16");
    for (int i = 0; i < 4; i++) ((shim::Word*)shared)[i] = ~0u;  // whoever reads before the wait gets NaN
    shim::Thread& t = shim::blk->thread[shim::blk->cur];
    t.copies.push_back({shared, global, t.groups});
#endif
}
__device__ inline void cp_async_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    shim::blk->thread[shim::blk->cur].groups++;
#endif
}
template <int N>
__device__ inline void cp_async_wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
    shim::Thread& t = shim::blk->thread[shim::blk->cur];
    size_t done = 0;
    for (; done < t.copies.size() && t.copies[done].group + N < t.groups; done++)
        for (int i = 0; i < 4; i++) ((shim::Word*)t.copies[done].to)[i] = ((const shim::Word*)t.copies[done].from)[i];
    t.copies.erase(t.copies.begin(), t.copies.begin() + (ptrdiff_t)done);
#endif
}

// 2ˣ in one instruction, with a relative error of 2⁻²²; results below 2⁻¹²⁶ are 0
__device__ inline float exp2_approx(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}
