// cuda_streams.h: a stand-in for CUDA's streams, events and graphs, for test_pipeline.cpp. What is put into a stream is
// done later: when somebody has to wait for it, or, by a draw, at any call. A copy reads its source when it is done, so
// that a block which is written again too early shows.
#pragma once
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <functional>
#include <set>
#include <vector>

#include "common/base/errors.h"
#include "common/base/rng.h"

#define CUDA_STREAMS

enum cudaError_t { cudaSuccess, cudaErrorNotReady, cudaErrorOther };
enum {
    cudaEventDisableTiming,
    cudaStreamNonBlocking,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaStreamCaptureModeThreadLocal
};
struct Event {
    int recorded = 0, done = 0;  // how often
};
struct Op {
    std::function<void()> work;
    Event* event = nullptr;  // waits until it was done so often
    int times = 0;
};
typedef std::vector<std::function<void()>>* cudaGraph_t;
typedef std::vector<std::function<void()>>* cudaGraphExec_t;
struct Stream {
    std::deque<Op> queue;
    cudaGraph_t capturing = nullptr;
};
typedef Stream* cudaStream_t;
typedef Event* cudaEvent_t;

namespace cuda {
inline std::set<Stream*> streams;
inline std::set<void*> alive;  // events, graphs, pinned memory: everything that somebody has to give back
inline int patience = 0;       // operations done at a call: below so many, drawn
inline uint64_t drawn = 0, seed = 0;

// Does one operation of a stream that can continue; false if there is none.
inline bool work_once() {
    std::vector<Stream*> able;
    for (Stream* s : streams)
        if (!s->queue.empty() && (!s->queue[0].event || s->queue[0].event->done >= s->queue[0].times))
            able.push_back(s);
    if (able.empty()) return false;
    Stream* s = able[below(mix64(seed, drawn++), able.size())];
    Op op = s->queue[0];
    s->queue.pop_front();
    if (op.work) op.work();
    return true;
}
template <class F> void wait(F until) {
    while (!until())
        if (!work_once()) fail("the stand-in for CUDA: everything waits, and nothing can continue");
}
inline cudaError_t call() {
    for (uint64_t n = patience ? below(mix64(seed, drawn++, 1), patience) : 0; n > 0 && work_once(); n--) {}
    return cudaSuccess;
}
inline cudaError_t put(Stream* s, std::function<void()> work) {
    if (s->capturing) s->capturing->push_back(work);
    else s->queue.push_back({work});
    return call();
}
}  // namespace cuda

inline const char* cudaGetErrorString(cudaError_t) { return "an error"; }
inline cudaError_t cudaMallocHost(void** p, size_t bytes) {
    cuda::alive.insert(*p = malloc(bytes));
    return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* p) {
    cuda::alive.erase(p);
    free(p);
    return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, int) {
    cuda::streams.insert(*s = new Stream);
    return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t s) {
    cuda::streams.erase(s);
    delete s;
    return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, int) {
    cuda::alive.insert(*e = new Event);
    return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t e) {
    cuda::alive.erase(e);
    delete e;
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    if (s->capturing) return cudaErrorOther;
    cuda::wait([&] { return s->queue.empty(); });
    return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    int times = ++e->recorded;
    return cuda::put(s, [=] { e->done = times; });
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, int) {
    s->queue.push_back({nullptr, e, e->recorded});
    return cuda::call();
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    cuda::wait([&] { return e->done == e->recorded; });
    return cudaSuccess;
}
inline cudaError_t last_error = cudaSuccess;
inline cudaError_t cudaEventQuery(cudaEvent_t e) {
    cuda::call();
    return last_error = e->done == e->recorded ? cudaSuccess : cudaErrorNotReady;
}
inline cudaError_t cudaGetLastError() {
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, cudaStream_t s) {
    return cuda::put(s, [=] { memcpy(to, from, bytes); });
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, int) {
    cuda::alive.insert(s->capturing = new std::vector<std::function<void()>>);
    return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* g) {
    *g = s->capturing;
    s->capturing = nullptr;
    return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t g, int) {
    cuda::alive.insert(*exec = new std::vector<std::function<void()>>(*g));
    return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    cuda::alive.erase(g);
    delete g;
    return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) {
    cuda::alive.erase(g);
    delete g;
    return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s) {
    return cuda::put(s, [=] {
        if (!cuda::alive.count(g)) fail("the stand-in for CUDA: a graph was destroyed before it ran");
        for (auto& work : *g) work();
    });
}
