// pipeline.cuh: a training step in which the host waits for nothing: the next batch goes up (Upload) and the numbers of
// the steps before come back (Readback) while the GPU computes, and a step's hundreds of launches become one (Graphs).
//
// Here at once, on the CPU (cpu::), and with CUDA's streams, events and graphs (gpu::), which
// test/device/test_pipeline.cpp runs on a stand-in for CUDA. The shim's, in test/device/shim_memory.h, refuse what a
// GPU would do wrong.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <vector>

#include "common/device/device.cuh"

namespace cpu {
// Blocks of `bytes` on their way from the host to one place in device memory, followed by room for SLOTS blocks more.
struct Upload {
    static constexpr int SLOTS = 0;
    std::vector<char> block;
    void* to;
    Upload(void* to, size_t bytes) : block(bytes), to(to) {}
    char* next() { return block.data(); }                    // where the host writes the next block
    void send() { memcpy(to, block.data(), block.size()); }  // everything that is launched from now on sees it
};
// Values X on their way back to the host, at most two at a time.
template <class X> struct Readback {
    X slot[2];
    unsigned sent = 0, taken = 0;
    void send(const X* from) { slot[sent++ % 2] = *from; }  // as it is when all that was launched is done
    bool ready() const { return true; }                     // has the oldest one arrived?
    X take() { return slot[taken++ % 2]; }                  // waits for the oldest one
};
// Work that comes again and again: on a GPU a CUDA graph for each key.
struct Graphs {
    template <class F> void run(const std::vector<int>&, F body) { body(); }
};
}  // namespace cpu

#if defined(__CUDACC__) || defined(CUDA_STREAMS)  // or test/device/cuda_streams.h, which stands in for them
namespace gpu {
inline void* pinned_alloc(size_t bytes) {  // memory of the host that a copy reads or writes while the host continues
    void* p;
    CUDA_CHECK(cudaMallocHost(&p, bytes));
    return p;
}
struct Event {
    cudaEvent_t event;
    Event() { CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming)); }
    ~Event() { cudaEventDestroy(event); }
    Event(const Event&) = delete;
    operator cudaEvent_t() const { return event; }
};

// host ── pinned[slot] ──(copies)──▶ staging[slot] ──(compute_stream)──▶ to
// The first copy goes over the bus while kernels run on compute_stream, the second stays within the GPU. So block i + 1
// is built and copied while the GPU computes with block i, and graphs always read the same place. A slot is written
// again when the GPU has taken what was in it; an event that was never recorded is one that has happened.
struct Upload {
    static constexpr int SLOTS = 2;
    char *to, *pinned;  // (1 + SLOTS, bytes) in device memory; (SLOTS, bytes) on the host
    size_t bytes;
    cudaStream_t copies;
    Event arrived[2];  // the block is in staging[slot]
    Event taken[2];    // it was copied from there
    int slot = 1;

    Upload(void* to, size_t bytes) : to((char*)to), pinned((char*)pinned_alloc(SLOTS * bytes)), bytes(bytes) {
        CUDA_CHECK(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
    }
    ~Upload() {
        cudaStreamSynchronize(copies);
        cudaStreamDestroy(copies);
        cudaFreeHost(pinned);
    }
    char* next() {
        slot ^= 1;
        // of the block before last: long ago, unless the host is far ahead
        CUDA_CHECK(cudaEventSynchronize(arrived[slot]));
        return pinned + slot * bytes;
    }
    void send() {
        char* staging = to + (1 + slot) * bytes;
        CUDA_CHECK(cudaStreamWaitEvent(copies, taken[slot], 0));
        CUDA_CHECK(cudaMemcpyAsync(staging, pinned + slot * bytes, bytes, cudaMemcpyHostToDevice, copies));
        CUDA_CHECK(cudaEventRecord(arrived[slot], copies));
        CUDA_CHECK(cudaStreamWaitEvent(compute_stream, arrived[slot], 0));
        CUDA_CHECK(cudaMemcpyAsync(to, staging, bytes, cudaMemcpyDeviceToDevice, compute_stream));
        CUDA_CHECK(cudaEventRecord(taken[slot], compute_stream));
    }
};
template <class X> struct Readback {
    X* slot = (X*)pinned_alloc(2 * sizeof(X));
    Event arrived[2];
    unsigned sent = 0, taken = 0;

    ~Readback() {
        cudaStreamSynchronize(compute_stream);
        cudaFreeHost(slot);
    }
    void send(const X* from) {
        CUDA_CHECK(cudaMemcpyAsync(slot + sent % 2, from, sizeof(X), cudaMemcpyDeviceToHost, compute_stream));
        CUDA_CHECK(cudaEventRecord(arrived[sent++ % 2], compute_stream));
    }
    bool ready() const {
        cudaError_t event = cudaEventQuery(arrived[taken % 2]);
        if (event == cudaErrorNotReady) {
            (void)cudaGetLastError();  // no error: it is not to show at the next kernel
            return false;
        }
        CUDA_CHECK(event);
        return true;
    }
    X take() {
        CUDA_CHECK(cudaEventSynchronize(arrived[taken % 2]));
        return slot[taken++ % 2];
    }
};
// Launching a kernel costs the host some microseconds; a step of a small model has hundreds of kernels that take less.
// So what a body launches is captured as a CUDA graph and from then on launched as a whole. A graph repeats the
// launches with the very grids and arguments of its capture: these have to follow from the key, and everything else
// that changes has to be in device memory. The shim checks that. The first time a key comes, the body just runs:
// kernels are loaded, plans of matrix products timed, buffers of libraries allocated, none of which can be captured.
// The second time it is captured.
struct Graphs {
    static constexpr size_t MAX_GRAPHS = 64;  // graphs kept; a layer has some 40 kernels, each about 1 KB
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
    template <class F> void run(const std::vector<int>& key, F body) {
        auto found = graphs.find(key);
        if (found == graphs.end()) {
            if (graphs.size() == MAX_GRAPHS) drop_oldest();
            graphs[key] = {nullptr, ++runs};
            return body();
        }
        Graph& g = found->second;
        g.used = ++runs;
        if (!g.exec) {
            cudaGraph_t captured;
            CUDA_CHECK(cudaStreamBeginCapture(compute_stream, cudaStreamCaptureModeThreadLocal));
            body();
            CUDA_CHECK(cudaStreamEndCapture(compute_stream, &captured));
            CUDA_CHECK(cudaGraphInstantiateWithFlags(&g.exec, captured, 0));
            CUDA_CHECK(cudaGraphDestroy(captured));
        }
        CUDA_CHECK(cudaGraphLaunch(g.exec, compute_stream));
    }
    void drop_oldest() {
        auto oldest = std::min_element(
            graphs.begin(), graphs.end(), [](auto& a, auto& b) { return a.second.used < b.second.used; });
        if (oldest->second.exec) {
            device_sync();  // it may still be running
            CUDA_CHECK(cudaGraphExecDestroy(oldest->second.exec));
        }
        graphs.erase(oldest);
    }
};
}  // namespace gpu
#endif
