// device.cuh: memory, copies and facts of the device, as cpu:: and gpu::; here a program's device is picked.
//   g++            the loops of namespace cpu run, on plain memory
//   g++ -DSHIM     the kernels of namespace gpu run, on the CPU, in a memory that the host cannot reach (shim.h)
//   nvcc           the kernels of namespace gpu run, on the GPU
#pragma once
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "common/base/errors.h"
#include "common/base/types.h"
#if defined(__CUDACC__) || defined(SHIM)
#define WITH_KERNELS
#include "common/device/launch.cuh"
constexpr bool device_is_host = false;
#else
constexpr bool device_is_host = true;
#endif

namespace cpu {
// n bytes, zeroed, aligned to 2 MiB (huge pages where the system has them). Fails if there is not enough memory.
inline void* device_alloc(size_t bytes) {
    size_t size = round_up(bytes ? bytes : 1, 2 << 20);
    void* p = mmap(
        nullptr, size + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        fail("could not get %.1f MiB of memory: take a smaller batch or a smaller model", bytes / 1048576.0);
    char *aligned = (char*)round_up((size_t)p, 2 << 20), *end = (char*)p + size + (2 << 20);
    if (aligned > p) munmap(p, aligned - (char*)p);
    if (end > aligned + size) munmap(aligned + size, end - (aligned + size));
    madvise(aligned, size, MADV_HUGEPAGE);
    return aligned;
}
// bytes: as many as it was made with
inline void device_free(void* p, size_t bytes) { munmap(p, round_up(bytes ? bytes : 1, 2 << 20)); }
inline void copy_to_device(void* device, const void* host, size_t bytes) { memcpy(device, host, bytes); }
inline void copy_to_host(void* host, const void* device, size_t bytes) { memcpy(host, device, bytes); }
inline void device_zero(void* p, size_t bytes) { memset(p, 0, bytes); }
inline void device_sync() {}
// bytes that a run may take: what the machine has available, or what its container may have
inline size_t device_memory() {
    size_t bytes = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE), n;
    std::ifstream meminfo("/proc/meminfo");
    for (std::string word; meminfo >> word;)
        if (word == "MemAvailable:" && meminfo >> n) bytes = n << 10;
    for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"})
        if (std::ifstream limit(path); limit >> n) bytes = n < bytes ? n : bytes;
    return bytes;
}
inline std::string device_name() {
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; std::getline(cpuinfo, line);)
        if (size_t colon = line.find(": "); line.rfind("model name", 0) == 0 && colon != line.npos)
            return line.substr(colon + 2);
    return "CPU";
}
}  // namespace cpu

#ifdef WITH_KERNELS
#ifdef __CUDACC__
namespace gpu {
// Every CUDA call goes through this: the call, the place and the reason in one line.
#define CUDA_CHECK(call)                                                                                         \
    do {                                                                                                         \
        cudaError_t error_ = (call);                                                                             \
        if (error_ != cudaSuccess) fail("%s:%d: %s: %s", __FILE__, __LINE__, #call, cudaGetErrorString(error_)); \
    } while (0)
inline size_t device_memory() {
    size_t free = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free, &total));
    size_t reserve = 256 << 20;  // for the libraries
    return free > reserve ? free - reserve : 0;
}
inline void* device_alloc(size_t bytes) {  // zeroed
    void* p = nullptr;
#ifdef MANAGED_MEMORY  // for tests, which touch it from the host as well (on the shim, too: shim.h)
    cudaError_t error = cudaMallocManaged(&p, bytes ? bytes : 1);
#else
    cudaError_t error = cudaMalloc(&p, bytes ? bytes : 1);
#endif
    if (error == cudaErrorMemoryAllocation)
        fail("could not get %.1f MiB of GPU memory, %.1f MiB are free: take a smaller batch or a smaller model",
            bytes / 1048576.0, device_memory() / 1048576.0);
    CUDA_CHECK(error);
    CUDA_CHECK(cudaMemset(p, 0, bytes));
    CUDA_CHECK(cudaDeviceSynchronize());  // before another stream, or the host, writes there
    return p;
}
// says nothing: an error that matters was reported where it happened
inline void device_free(void* p, size_t) { cudaFree(p); }
// Returns when `host` may be used again.
inline void copy_to_device(void* device, const void* host, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, compute_stream));
    CUDA_CHECK(cudaStreamSynchronize(compute_stream));
}
inline void copy_to_host(void* host, const void* device, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, compute_stream));
    CUDA_CHECK(cudaStreamSynchronize(compute_stream));
}
inline void device_zero(void* p, size_t bytes) { CUDA_CHECK(cudaMemsetAsync(p, 0, bytes, compute_stream)); }
inline void device_sync() { CUDA_CHECK(cudaStreamSynchronize(compute_stream)); }
inline std::string device_name() {
    cudaDeviceProp prop;
    CUDA_CHECK(cudaGetDeviceProperties(&prop, 0));
    return prop.name;
}
}  // namespace gpu
#else
#include "test/device/shim_memory.h"
namespace gpu {
using cpu::device_memory;
}
#endif
namespace device = gpu;
#else
namespace device = cpu;
#endif
