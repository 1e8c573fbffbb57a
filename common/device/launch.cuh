// launch.cuh: how a kernel is written and started, so that nvcc compiles it for a GPU, and g++ -DSHIM for the CPU.
//
//   launch(kernel, grid, block, smem_bytes, args...)    in place of kernel<<<grid, block, smem_bytes>>>(args...);
//                                                       a grid of no blocks is nothing to do
//   DYNAMIC_SHARED(float, buf)                          in place of extern __shared__ float buf[];
//   UNROLL, ROLLED                                      before a loop: #pragma unroll, and the opposite
//   most_shared_memory()                                bytes that a block may have
//
// Here is what they are when nvcc compiles. With -DSHIM they are those of shim.h, which runs a kernel on the CPU; the
// default CPU build compiles no kernel at all (device.cuh).
#pragma once
#include "common/base/errors.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>

#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define DYNAMIC_SHARED(T, name)                                       \
    extern __shared__ __align__(128) unsigned char dynamic_shared_[]; \
    T* name = reinterpret_cast<T*>(dynamic_shared_)

namespace gpu {
// Every kernel and matrix product of a program runs on it. Unlike stream 0 this one can be captured (gpu::Graphs).
inline cudaStream_t compute_stream = cudaStreamPerThread;
}  // namespace gpu

inline size_t most_shared_memory() {  // bytes that a block may have
    int device = 0, most = 0;
    if (cudaGetDevice(&device) || cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
        most = 48 * 1024;
    return (size_t)most;
}
template <class... P, class... A> void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, A... args) {
    if (grid.x == 0 || grid.y == 0) return;
    cudaError_t e = cudaSuccess;
    // 163 KiB on an A100, 227 on an H100 or H200, 99 on consumer cards. 48 KiB, less the kernel's own __shared__
    // arrays, need no permission.
    if (smem > 48 * 1024 && smem > most_shared_memory())
        fail(
            "this kernel needs %zu KiB of shared memory per block, the GPU has %zu: take smaller heads (--heads) or a "
            "larger GPU",
            smem >> 10, most_shared_memory() >> 10);
    if (smem > 40 * 1024)
        e = cudaFuncSetAttribute((const void*)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)smem);
    if (e == cudaSuccess) {
        kernel<<<grid, block, smem, gpu::compute_stream>>>(args...);
        e = cudaGetLastError();
    }
    if (e != cudaSuccess) {
        const char* name = "?";
#if CUDART_VERSION >= 12030
        if (cudaFuncGetName(&name, (const void*)kernel)) name = "?";
#endif
        fail("launch of %s: grid %ux%ux%u, block %ux%ux%u, %zu bytes of shared memory: %s", name, grid.x, grid.y,
            grid.z, block.x, block.y, block.z, smem, cudaGetErrorString(e));
    }
}
#else
#include "test/device/shim.h"
#endif
