// async.cuh: the GPU's side of a training step in which the host waits for nothing: Upload, Readback and Graphs, as
// device.cuh describes them, on CUDA's streams, events and graphs. Needs `stream`, CUDA_CHECK and gpu::device_sync().
// test/test_async.cpp runs it on a stand-in for CUDA.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <map>
#include <vector>

namespace gpu {
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

// host ── pinned[slot] ──(copies: over the bus, while the kernels of `stream` run)──▶ staging[slot] ──(stream: within
// the GPU)──▶ to So block i + 1 is built and copied while the GPU computes with block i, and graphs always read the
// same place. A slot is written again when the GPU has taken what was in it; an event that was never recorded is one
// that has happened.
struct Upload {
    static constexpr int SLOTS = 2;
    char *to, *pinned;
    size_t bytes;
    cudaStream_t copies;
    cudaEvent_t arrived[2], taken[2];  // in staging[slot]; from there
    int slot = 1;

    Upload(void* to, size_t bytes) : to((char*)to), pinned((char*)pinned_alloc(SLOTS * bytes)), bytes(bytes) {
        CUDA_CHECK(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
        make_events(arrived);
        make_events(taken);
    }
    Upload(const Upload&) = delete;
    ~Upload() {
        cudaStreamSynchronize(copies);
        destroy_events(arrived);
        destroy_events(taken);
        cudaStreamDestroy(copies);
        cudaFreeHost(pinned);
    }
    char* next() {
        slot ^= 1;
        CUDA_CHECK(
            cudaEventSynchronize(arrived[slot]));  // of the block before last: long ago, unless the host is far ahead
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
        cudaError_t event = cudaEventQuery(arrived[taken % 2]);
        if (event == cudaErrorNotReady) {
            (void)cudaGetLastError();
            return false;  // no error: it is not to show at the next kernel
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
        if (oldest->second.exec) {
            device_sync();  // it may still be running
            CUDA_CHECK(cudaGraphExecDestroy(oldest->second.exec));
        }
        graphs.erase(oldest);
    }
};
}  // namespace gpu
