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

#include <map>
#include <vector>

#include "common/device/device.cuh"

namespace cpu {
// Blocks of `bytes` on their way from the host to one place in device memory
struct Upload {
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
struct Event {
    cudaEvent_t event;
    Event() { CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming)); }
    ~Event() { cudaEventDestroy(event); }
    Event(const Event&) = delete;
    operator cudaEvent_t() const { return event; }
};

// A block is copied between two steps of compute_stream, so that graphs always read the same place; the host builds the
// next one meanwhile, in the other slot. A slot is written again when what was in it has arrived; an event that was
// never recorded is one that has happened.
struct Upload {
    char *to, *pinned;  // (bytes) in device memory; (2, bytes) of the host's that a copy reads while the host continues
    size_t bytes;
    Event arrived[2];
    int slot = 1;

    Upload(void* to, size_t bytes) : to((char*)to), bytes(bytes) {
        CUDA_CHECK(cudaMallocHost((void**)&pinned, 2 * bytes));
    }
    ~Upload() {
        cudaStreamSynchronize(compute_stream);
        cudaFreeHost(pinned);
    }
    char* next() {
        slot ^= 1;
        // of the block before last: long ago, unless the host is far ahead
        CUDA_CHECK(cudaEventSynchronize(arrived[slot]));
        return pinned + slot * bytes;
    }
    void send() {
        CUDA_CHECK(cudaMemcpyAsync(to, pinned + slot * bytes, bytes, cudaMemcpyHostToDevice, compute_stream));
        CUDA_CHECK(cudaEventRecord(arrived[slot], compute_stream));
    }
};
template <class X> struct Readback {
    X* slot;  // (2)
    Event arrived[2];
    unsigned sent = 0, taken = 0;

    Readback() { CUDA_CHECK(cudaMallocHost((void**)&slot, 2 * sizeof(X))); }
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
    static constexpr size_t MAX_GRAPHS = 64;             // graphs kept; a layer has some 40 kernels, each about 1 KB
    std::map<std::vector<int>, cudaGraphExec_t> graphs;  // nullptr: ran once

    Graphs() = default;
    Graphs(const Graphs&) = delete;
    ~Graphs() { clear(); }
    void clear() {
        for (auto& [key, graph] : graphs)
            if (graph) cudaGraphExecDestroy(graph);
        graphs.clear();
    }
    template <class F> void run(const std::vector<int>& key, F body) {
        auto found = graphs.find(key);
        if (found == graphs.end()) {
            if (graphs.size() == MAX_GRAPHS) {  // all begin anew
                device_sync();                  // one may still be running
                clear();
            }
            graphs[key] = nullptr;
            return body();
        }
        cudaGraphExec_t& graph = found->second;
        if (!graph) {
            cudaGraph_t captured;
            CUDA_CHECK(cudaStreamBeginCapture(compute_stream, cudaStreamCaptureModeThreadLocal));
            body();
            CUDA_CHECK(cudaStreamEndCapture(compute_stream, &captured));
            CUDA_CHECK(cudaGraphInstantiateWithFlags(&graph, captured, 0));
            CUDA_CHECK(cudaGraphDestroy(captured));
        }
        CUDA_CHECK(cudaGraphLaunch(graph, compute_stream));
    }
};
}  // namespace gpu
#endif
