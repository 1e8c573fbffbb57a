// device.cuh: memory, copies and facts of the device, as cpu:: and gpu::; and the one place where a program's device is picked.
//   g++            the loops of namespace cpu run, on plain memory
//   g++ -DSHIM     the kernels of namespace gpu run, on the CPU (shim.h)
//   nvcc           the kernels of namespace gpu run, on the GPU
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <map>

#include "common.h"
#if defined(__CUDACC__) || defined(SHIM)
#define WITH_KERNELS
#include "shim.h"
#endif
#ifdef __CUDACC__
constexpr bool device_is_host = false;
#else
constexpr bool device_is_host = true;
#endif

namespace cpu {
// n bytes, zeroed, aligned to 2 MiB (huge pages where the system has them). Fails if there is not enough memory.
inline void* device_alloc(size_t bytes) {
    size_t size = round_up(bytes ? bytes : 1, 2 << 20);
    void* p = mmap(nullptr, size + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw OutOfMemory(EXIT_FAILED, format("could not get %.1f MiB of memory: take a smaller batch or a smaller model", bytes / 1048576.0));
    char *aligned = (char*)round_up((size_t)p, 2 << 20), *end = (char*)p + size + (2 << 20);
    if (aligned > p) munmap(p, aligned - (char*)p);
    if (end > aligned + size) munmap(aligned + size, end - (aligned + size));
    madvise(aligned, size, MADV_HUGEPAGE);
    return aligned;
}
inline void device_free(void* p, size_t bytes) { munmap(p, round_up(bytes ? bytes : 1, 2 << 20)); }  // as many bytes as it was made with
inline void copy_to_device(void* device, const void* host, size_t bytes) { memcpy(device, host, bytes); }
inline void copy_to_host(void* host, const void* device, size_t bytes) { memcpy(host, device, bytes); }
inline void device_zero(void* p, size_t bytes) { memset(p, 0, bytes); }
inline void device_sync() {}
inline size_t device_memory() {  // bytes that a run may take: what the machine has available, or what its container may have
    size_t bytes = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    if (FILE* f = fopen("/proc/meminfo", "r")) {
        char line[256];
        unsigned long long kib;
        while (fgets(line, sizeof line, f))
            if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) bytes = kib << 10;
        fclose(f);
    }
    for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"})
        if (FILE* f = fopen(path, "r")) {
            unsigned long long limit;
            if (fscanf(f, "%llu", &limit) == 1 && limit < bytes) bytes = limit;
            fclose(f);
        }
    return bytes;
}
inline std::string device_name() {
    std::string name = "CPU";
    if (FILE* f = fopen("/proc/cpuinfo", "r")) {
        char line[256];
        while (fgets(line, sizeof line, f))
            if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
                name = strchr(line, ':') + 2;
                if (!name.empty() && name.back() == '\n') name.pop_back();
                break;
            }
        fclose(f);
    }
    return name;
}

// What a training step needs so that the host never waits for the device in it. Without a GPU everything happens at once.
//
// Blocks of `bytes` on their way from the host to one place in device memory. The place is followed by room for SLOTS blocks more.
struct Upload {
    static constexpr int SLOTS = 0;
    std::vector<char> block;
    void* to;
    Upload(void* to, size_t bytes) : block(bytes), to(to) {}
    char* next() { return block.data(); }                           // where the host writes the next block
    void send() { memcpy(to, block.data(), block.size()); }         // everything that is launched from now on sees it
};
// Values X on their way back to the host, at most two at a time.
template <class X>
struct Readback {
    X slot[2];
    unsigned sent = 0, taken = 0;
    void send(const X* from) { slot[sent++ % 2] = *from; }          // as it is when all that was launched is done
    bool ready() const { return true; }                             // has the oldest one arrived?
    X take() { return slot[taken++ % 2]; }                          // waits for the oldest one
};
// Work that comes again and again: on a GPU a CUDA graph for each key.
struct Graphs {
    template <class F>
    void run(const std::vector<int>&, F body) { body(); }
};
}  // namespace cpu

#ifdef WITH_KERNELS
namespace gpu {
#ifdef __CUDACC__
// Every CUDA call goes through this: the call, the place and the reason in one line.
#define CUDA_CHECK(call)                                                                                       \
    do {                                                                                                       \
        cudaError_t error_ = (call);                                                                           \
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
#ifdef MANAGED_MEMORY  // for tests, which touch it from the host as well
    cudaError_t error = cudaMallocManaged(&p, bytes ? bytes : 1);
#else
    cudaError_t error = cudaMalloc(&p, bytes ? bytes : 1);
#endif
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();  // the caller may try less: it is not to show at the next kernel
        throw OutOfMemory(EXIT_FAILED, format("could not get %.1f MiB of GPU memory, %.1f MiB are free: take a smaller batch or a smaller model",
                                              bytes / 1048576.0, device_memory() / 1048576.0));
    }
    CUDA_CHECK(error);
    CUDA_CHECK(cudaMemset(p, 0, bytes));
    CUDA_CHECK(cudaDeviceSynchronize());  // before another stream, or the host, writes there
    return p;
}
inline void device_free(void* p, size_t) { cudaFree(p); }  // says nothing: an error that matters was reported where it happened
// Returns when `host` may be used again.
inline void copy_to_device(void* device, const void* host, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
}
inline void copy_to_host(void* host, const void* device, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
}
inline void device_zero(void* p, size_t bytes) { CUDA_CHECK(cudaMemsetAsync(p, 0, bytes, stream)); }
inline void device_sync() { CUDA_CHECK(cudaStreamSynchronize(stream)); }
inline std::string device_name() {
    cudaDeviceProp prop;
    CUDA_CHECK(cudaGetDeviceProperties(&prop, 0));
    return prop.name;
}

inline void* pinned_alloc(size_t bytes) {  // memory of the host that a copy reads or writes while the host goes on
    void* p;
    CUDA_CHECK(cudaMallocHost(&p, bytes));
    return p;
}
inline void make_events(cudaEvent_t (&events)[2]) {
    for (cudaEvent_t& e : events) CUDA_CHECK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
}
inline void destroy_events(cudaEvent_t (&events)[2]) {
    for (cudaEvent_t e : events) cudaEventDestroy(e);
}

// host ── pinned[slot] ──(copies: over the bus, while the kernels of `stream` run)──▶ staging[slot] ──(stream: within the GPU)──▶ to
// So block i + 1 is built and copied while the GPU computes with block i, and graphs always read the same place. A slot is written again when the
// GPU has taken what was in it; an event that was never recorded is one that has happened.
struct Upload {
    static constexpr int SLOTS = 2;
    char *to, *pinned;
    size_t bytes;
    cudaStream_t copies;
    cudaEvent_t arrived[2], taken[2];  // in staging[slot]; from there
    int slot = 1;

    Upload(void* to, size_t bytes) : to((char*)to), pinned((char*)pinned_alloc(SLOTS * bytes)), bytes(bytes) {
        CUDA_CHECK(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
        make_events(arrived), make_events(taken);
    }
    Upload(const Upload&) = delete;
    ~Upload() {
        cudaStreamSynchronize(copies);
        destroy_events(arrived), destroy_events(taken);
        cudaStreamDestroy(copies);
        cudaFreeHost(pinned);
    }
    char* next() {
        slot ^= 1;
        CUDA_CHECK(cudaEventSynchronize(arrived[slot]));  // of the block before last: long ago, unless the host is far ahead
        return pinned + slot * bytes;
    }
    void send() {
        char* staging = to + (1 + slot) * bytes;
        CUDA_CHECK(cudaStreamWaitEvent(copies, taken[slot], 0));
        CUDA_CHECK(cudaMemcpyAsync(staging, pinned + slot * bytes, bytes, cudaMemcpyHostToDevice, copies));
        CUDA_CHECK(cudaEventRecord(arrived[slot], copies));
        CUDA_CHECK(cudaStreamWaitEvent(stream, arrived[slot], 0));
        CUDA_CHECK(cudaMemcpyAsync(to, staging, bytes, cudaMemcpyDeviceToDevice, stream));
        CUDA_CHECK(cudaEventRecord(taken[slot], stream));
    }
};
template <class X>
struct Readback {
    X* slot = (X*)pinned_alloc(2 * sizeof(X));
    cudaEvent_t arrived[2];
    unsigned sent = 0, taken = 0;

    Readback() { make_events(arrived); }
    Readback(const Readback&) = delete;
    ~Readback() {
        cudaStreamSynchronize(stream);
        destroy_events(arrived);
        cudaFreeHost(slot);
    }
    void send(const X* from) {
        CUDA_CHECK(cudaMemcpyAsync(slot + sent % 2, from, sizeof(X), cudaMemcpyDeviceToHost, stream));
        CUDA_CHECK(cudaEventRecord(arrived[sent++ % 2], stream));
    }
    bool ready() const {
        cudaError_t e = cudaEventQuery(arrived[taken % 2]);
        if (e != cudaErrorNotReady) CUDA_CHECK(e);
        return e == cudaSuccess;
    }
    X take() {
        CUDA_CHECK(cudaEventSynchronize(arrived[taken % 2]));
        return slot[taken++ % 2];
    }
};
// Launching a kernel costs the host some microseconds; a step of a small model has hundreds of kernels that take less. So what a body launches is
// captured as a CUDA graph and from then on launched as a whole. A graph repeats the launches with the very grids and arguments of its capture: these
// have to follow from the key, and everything else that changes has to be in device memory. The shim checks that.
// The first time a key comes, the body just runs: kernels are loaded, plans of matrix products timed, buffers of libraries allocated, none of which
// can be captured. The second time it is captured.
struct Graphs {
    static constexpr size_t MOST = 64;  // graphs kept; a layer has some 40 kernels, each about 1 KB
    struct Graph {
        cudaGraphExec_t exec;  // nullptr: ran once
        uint64_t used;
    };
    std::map<std::vector<int>, Graph> graphs;
    uint64_t runs = 0;

    Graphs() = default;
    Graphs(const Graphs&) = delete;
    ~Graphs() {
        for (auto& [key, g] : graphs)
            if (g.exec) cudaGraphExecDestroy(g.exec);
    }
    template <class F>
    void run(const std::vector<int>& key, F body) {
        auto found = graphs.find(key);
        if (found == graphs.end()) {
            if (graphs.size() == MOST) drop_oldest();
            graphs[key] = {nullptr, ++runs};
            return body();
        }
        Graph& g = found->second;
        g.used = ++runs;
        if (!g.exec) {
            cudaGraph_t captured;
            CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
            body();
            CUDA_CHECK(cudaStreamEndCapture(stream, &captured));
            CUDA_CHECK(cudaGraphInstantiateWithFlags(&g.exec, captured, 0));
            CUDA_CHECK(cudaGraphDestroy(captured));
        }
        CUDA_CHECK(cudaGraphLaunch(g.exec, stream));
    }
    void drop_oldest() {
        auto oldest = graphs.begin();
        for (auto g = graphs.begin(); g != graphs.end(); g++)
            if (g->second.used < oldest->second.used) oldest = g;
        device_sync();  // it may still be running
        if (oldest->second.exec) CUDA_CHECK(cudaGraphExecDestroy(oldest->second.exec));
        graphs.erase(oldest);
    }
};
#else
using cpu::device_alloc;
using cpu::device_free;
using cpu::device_memory;
using cpu::Upload;
inline void copy_to_device(void* device, const void* host, size_t bytes) { shim::refuse_in_graph("copy_to_device"), cpu::copy_to_device(device, host, bytes); }
inline void copy_to_host(void* host, const void* device, size_t bytes) { shim::refuse_in_graph("copy_to_host"), cpu::copy_to_host(host, device, bytes); }
inline void device_sync() { shim::refuse_in_graph("device_sync"); }
inline void device_zero(void* p, size_t bytes) { shim::record("device_zero", 1, 1, 0, p, bytes), cpu::device_zero(p, bytes); }
inline std::string device_name() { return "shim (the GPU's kernels, on the CPU)"; }

template <class X>
struct Readback : cpu::Readback<X> {
    bool ready() const { return false; }  // as late as it may be
};
// Runs the body every time, and fails if it launches anything else than the first time this key came: then a captured graph would do the wrong thing.
struct Graphs {
    std::map<std::vector<int>, std::vector<shim::Launch>> graphs;
    template <class F>
    void run(const std::vector<int>& key, F body) {
        std::vector<shim::Launch> launches;
        shim::recorder = &launches;
        try {
            body();
        } catch (...) {
            shim::recorder = nullptr;
            throw;
        }
        shim::recorder = nullptr;
        auto [first, is_new] = graphs.try_emplace(key, launches);
        if (!is_new) shim::require_same(first->second, launches);
    }
};
#endif
}  // namespace gpu
namespace device = gpu;
#else
namespace device = cpu;
#endif
