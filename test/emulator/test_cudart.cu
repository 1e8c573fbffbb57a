// test_cudart.cu: the stand-in for the CUDA runtime against the reference manual: what waits for what, errors, events,
// graphs. Nothing here is special to the emulator but the last case, so that it also says whether a GPU agrees; the
// cases "nobody waited" show what a GPU may do.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

static __global__ void add_one(int* x, int n) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] += 1;
}
static __global__ void fill(int* x, int n, int value) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] = value;
}
static __global__ void much_shared(int* x) {
    extern __shared__ int buffer[];
    __shared__ int own[256];
    own[threadIdx.x] = (int)threadIdx.x;
    buffer[threadIdx.x] = 7;
    __syncthreads();
    x[threadIdx.x] = buffer[31 - threadIdx.x] + own[31 - threadIdx.x];
}
static __global__ void many_registers(int* x) {  // 96 numbers, which the barrier keeps from being read later
    int v[96], sum = 0;
#pragma unroll
    for (int i = 0; i < 96; i++) v[i] = x[((unsigned)(7 * i) + threadIdx.x) % 64];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 96; i++) sum = sum * v[i] + v[95 - i];
    if (sum == 5) x[threadIdx.x % 64] = sum;
}
static __global__ void __launch_bounds__(128) bounded(int* x) { x[threadIdx.x] = 1; }

#define OK(call) REQUIRE((call) == cudaSuccess)
#define FAILS(error, call)                        \
    do {                                          \
        CHECK((call) == (error));                 \
        CHECK(cudaGetLastError() == (error));     \
        CHECK(cudaGetLastError() == cudaSuccess); \
    } while (0)

constexpr int N = 64;
struct Ints {  // (N) on the device, zeroed
    int* p;
    Ints() {
        OK(cudaMalloc(&p, N * sizeof(int)));
        OK(cudaMemset(p, 0, N * sizeof(int)));
        OK(cudaDeviceSynchronize());
    }
    ~Ints() { cudaFree(p); }
    int operator[](int i) const {
        int x = -1;
        cudaMemcpy(&x, p + i, sizeof x, cudaMemcpyDeviceToHost);
        return x;
    }
};
struct Stream {
    cudaStream_t s;
    Stream(unsigned flags = cudaStreamNonBlocking) { OK(cudaStreamCreateWithFlags(&s, flags)); }
    ~Stream() { cudaStreamDestroy(s); }
    operator cudaStream_t() const { return s; }
};
struct Event {
    cudaEvent_t e;
    Event(unsigned flags = cudaEventDefault) { OK(cudaEventCreateWithFlags(&e, flags)); }
    ~Event() { cudaEventDestroy(e); }
    operator cudaEvent_t() const { return e; }
};

TEST_CASE("launches run in the order of their stream") {
    Ints x;
    fill<<<1, N>>>(x.p, N, 5);
    for (int i = 0; i < 3; i++) add_one<<<2, N / 2>>>(x.p, N);
    OK(cudaGetLastError());
    CHECK(x[0] == 8);
    CHECK(x[N - 1] == 8);
}
TEST_CASE("arguments are those of the launch") {
    Ints x;
    int value = 3;
    fill<<<1, N, 0, cudaStreamPerThread>>>(x.p, N, value);
    value = 4;
    OK(cudaStreamSynchronize(cudaStreamPerThread));
    CHECK(x[1] == 3);
}
TEST_CASE("the legacy stream waits for blocking streams and they for it, not for others") {
    Ints x;
    Stream blocking(cudaStreamDefault);
    fill<<<1, N, 0, blocking>>>(x.p, N, 1);
    add_one<<<1, N>>>(x.p, N);  // legacy
    add_one<<<1, N, 0, cudaStreamPerThread>>>(x.p, N);
    OK(cudaStreamSynchronize(cudaStreamPerThread));
    int got = 0;
    OK(cudaMemcpyAsync(&got, x.p, sizeof got, cudaMemcpyDeviceToHost, cudaStreamPerThread));
    CHECK(got == 3);
}
TEST_CASE("an event orders two streams; one that was never recorded is one that has happened") {
    Ints x;
    Stream a, b;
    Event e(cudaEventDisableTiming), never;
    OK(cudaStreamWaitEvent(b, never, 0));
    OK(cudaEventQuery(never));
    OK(cudaEventSynchronize(never));
    fill<<<1, N, 0, a>>>(x.p, N, 10);
    OK(cudaEventRecord(e, a));
    fill<<<1, N, 0, a>>>(x.p, N, 20);
    OK(cudaStreamWaitEvent(b, e, 0));
    add_one<<<1, N, 0, b>>>(x.p, N);
    OK(cudaStreamSynchronize(b));
    OK(cudaStreamSynchronize(a));
    int got = x[0];
    CHECK((got == 20 || got == 21));  // add_one came after 10
    cudaError_t query;
    fill<<<1, N, 0, a>>>(x.p, N, 30);
    OK(cudaEventRecord(e, a));
    while ((query = cudaEventQuery(e)) == cudaErrorNotReady) (void)cudaGetLastError();
    OK(query);
    CHECK(x[0] == 30);
}
TEST_CASE("copies: pageable memory is free at once, pinned memory when the stream is there") {
    Ints x;
    std::vector<int> pageable(N, 1), back(N);
    OK(cudaMemcpyAsync(x.p, pageable.data(), N * sizeof(int), cudaMemcpyHostToDevice, cudaStreamPerThread));
    pageable.assign(N, 2);
    OK(cudaMemcpyAsync(back.data(), x.p, N * sizeof(int), cudaMemcpyDeviceToHost, cudaStreamPerThread));
    CHECK(back == std::vector<int>(N, 1));
    int* pinned;
    OK(cudaMallocHost(&pinned, N * sizeof(int)));
    pinned[0] = 5;
    OK(cudaMemcpyAsync(x.p, pinned, N * sizeof(int), cudaMemcpyHostToDevice, cudaStreamPerThread));
    OK(cudaStreamSynchronize(cudaStreamPerThread));
    pinned[0] = 6;
    CHECK(x[0] == 5);
    OK(cudaMemcpyAsync(pinned, x.p, sizeof(int), cudaMemcpyDeviceToHost, cudaStreamPerThread));
    OK(cudaStreamSynchronize(cudaStreamPerThread));
    CHECK(pinned[0] == 5);
    OK(cudaFreeHost(pinned));
    FAILS(cudaErrorInvalidValue, cudaFreeHost(pageable.data()));
}
TEST_CASE("copies and fills beyond an allocation, or the wrong way, are refused") {
    Ints x;
    int host[2 * N] = {};
    FAILS(cudaErrorInvalidValue, cudaMemcpy(x.p, host, sizeof host, cudaMemcpyHostToDevice));
    FAILS(cudaErrorInvalidValue, cudaMemcpy(host, x.p + 1, N * sizeof(int), cudaMemcpyDeviceToHost));
    FAILS(cudaErrorInvalidValue, cudaMemset(x.p, 0, sizeof host));
    FAILS(cudaErrorInvalidValue, cudaMemcpy(x.p, host, N, cudaMemcpyDeviceToHost));
    OK(cudaMemcpy(x.p, host, N, cudaMemcpyDefault));
    FAILS(cudaErrorInvalidValue, cudaFree(x.p + 1));
    OK(cudaFree(nullptr));
    size_t free = 0, total = 0;
    OK(cudaMemGetInfo(&free, &total));
    void* p = &p;
    FAILS(cudaErrorMemoryAllocation, cudaMalloc(&p, total + 1));
}
TEST_CASE("launches that no device can run") {
    Ints x;
    auto launch = [&](dim3 grid, dim3 block, size_t shared) {
        fill<<<grid, block, shared>>>(x.p, N, 1);
        return cudaPeekAtLastError();
    };
    FAILS(cudaErrorInvalidConfiguration, launch(1, 1025, 0));
    FAILS(cudaErrorInvalidConfiguration, launch(1, dim3(32, 33), 0));
    FAILS(cudaErrorInvalidConfiguration, launch(1, dim3(1, 1, 65), 0));
    FAILS(cudaErrorInvalidConfiguration, launch(1, 0, 0));
    FAILS(cudaErrorInvalidConfiguration, launch(0, 1, 0));
    FAILS(cudaErrorInvalidConfiguration, launch(dim3(1, 65536), 1, 0));
    FAILS(cudaErrorInvalidValue, launch(1, 1, (48 << 10) + 1));
    bounded<<<1, 256>>>(x.p);
    CHECK(cudaGetLastError() != cudaSuccess);
    bounded<<<1, N>>>(x.p);
    OK(cudaGetLastError());
    CHECK(x[0] == 1);
}
TEST_CASE("more registers than there are") {
    Ints x;
    OK(cudaMemset(x.p, 0, N * sizeof(int)));
    many_registers<<<1, 256>>>(x.p);
    OK(cudaGetLastError());
    many_registers<<<1, 1024>>>(x.p);  // 1024 threads have 64 each
    FAILS(cudaErrorLaunchOutOfResources, cudaPeekAtLastError());
    OK(cudaDeviceSynchronize());
}
TEST_CASE("more than 48 KiB of shared memory wants permission") {
    Ints x;
    int most = 0;
    OK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    size_t wanted = 60 << 10;
    much_shared<<<1, 32, wanted>>>(x.p);
    FAILS(cudaErrorInvalidValue, cudaPeekAtLastError());
    much_shared<<<1, 32, 48 << 10>>>(x.p);  // with its own array it is more than 48 KiB
    FAILS(cudaErrorInvalidValue, cudaPeekAtLastError());
    auto allow = [](int bytes) {
        return cudaFuncSetAttribute(much_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    };
    FAILS(cudaErrorInvalidValue, allow(most));
    OK(allow((int)wanted));
    much_shared<<<1, 32, wanted>>>(x.p);
    OK(cudaGetLastError());
    CHECK(x[3] == 7 + 28);
    const char* name = nullptr;
    OK(cudaFuncGetName(&name, (const void*)much_shared));
    CHECK(std::string(name).find("much_shared") != std::string::npos);
}
TEST_CASE("times of events") {
    Ints x;
    Event begin, end, untimed(cudaEventDisableTiming), never;
    OK(cudaEventRecord(begin, cudaStreamPerThread));
    fill<<<1, N, 0, cudaStreamPerThread>>>(x.p, N, 1);
    OK(cudaEventRecord(end, cudaStreamPerThread));
    OK(cudaEventRecord(untimed, cudaStreamPerThread));
    OK(cudaEventSynchronize(end));
    float ms = -1;
    OK(cudaEventElapsedTime(&ms, begin, end));
    CHECK(ms > 0);
    OK(cudaStreamSynchronize(cudaStreamPerThread));
    FAILS(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&ms, begin, untimed));
    FAILS(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&ms, never, end));
}
TEST_CASE("each thread has a stream of its own") {
    Ints x, y;
    fill<<<1, N, 0, cudaStreamPerThread>>>(x.p, N, 1);
    std::thread other([&] {
        fill<<<1, N, 0, cudaStreamPerThread>>>(y.p, N, 2);
        cudaStreamSynchronize(cudaStreamPerThread);
        cudaMemcpy(nullptr, x.p, 4, cudaMemcpyDeviceToHost);  // an error of that thread
    });
    other.join();
    OK(cudaPeekAtLastError());
    OK(cudaStreamSynchronize(cudaStreamPerThread));
    CHECK(x[0] == 1);
    CHECK(y[0] == 2);
}

// ---------------------------------------------------------------- graphs
template <class Body> cudaError_t capture(cudaStream_t s, cudaGraphExec_t* exec, Body body) {
    cudaGraph_t graph = nullptr;
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    body();
    cudaError_t error = cudaStreamEndCapture(s, &graph);
    if (error != cudaSuccess) return error;
    OK(cudaGraphInstantiateWithFlags(exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    return cudaSuccess;
}
TEST_CASE("a graph does nothing when it is captured, and all of it at each launch, with the captured arguments") {
    Ints x, y;
    Stream s, side;
    Event fork(cudaEventDisableTiming), join(cudaEventDisableTiming);
    cudaGraphExec_t exec;
    int value = 5;
    OK(capture(s, &exec, [&] {
        cudaStreamCaptureStatus status;
        OK(cudaStreamIsCapturing(s, &status));
        CHECK(status == cudaStreamCaptureStatusActive);
        fill<<<1, N, 0, s>>>(x.p, N, value);
        OK(cudaEventRecord(fork, s));
        OK(cudaStreamWaitEvent(side, fork, 0));
        OK(cudaMemcpyAsync(y.p, x.p, N * sizeof(int), cudaMemcpyDeviceToDevice, side));
        OK(cudaEventRecord(join, side));
        OK(cudaStreamWaitEvent(s, join, 0));
        add_one<<<1, N, 0, s>>>(y.p, N);
        value = 9;
    }));
    cudaStreamCaptureStatus status;
    OK(cudaStreamIsCapturing(side, &status));
    CHECK(status == cudaStreamCaptureStatusNone);
    CHECK(x[0] == 0);
    for (int i = 0; i < 3; i++) OK(cudaGraphLaunch(exec, s));
    OK(cudaStreamSynchronize(s));
    CHECK(x[0] == 5);
    CHECK(y[0] == 6);
    OK(cudaGraphExecDestroy(exec));
}
TEST_CASE("what may not be captured") {
    Ints x;
    Stream s, side, blocking(cudaStreamDefault);
    Event e(cudaEventDisableTiming), before(cudaEventDisableTiming);
    cudaGraphExec_t exec;
    void* p;
    OK(cudaEventRecord(before, side));
    auto refused = [&](cudaError_t error, cudaError_t at_end, auto body) {
        CHECK(capture(s, &exec, [&] { CHECK(body() == error); }) == at_end);
        (void)cudaGetLastError();
        cudaStreamCaptureStatus status;
        OK(cudaStreamIsCapturing(s, &status));
        CHECK(status == cudaStreamCaptureStatusNone);
    };
    refused(cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureInvalidated, [&] { return cudaMalloc(&p, 8); });
    refused(
        cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureInvalidated, [&] { return cudaStreamSynchronize(s); });
    refused(
        cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureInvalidated, [] { return cudaDeviceSynchronize(); });
    refused(cudaErrorStreamCaptureIsolation, cudaErrorStreamCaptureInvalidated,
        [&] { return cudaStreamWaitEvent(s, before, 0); });
    refused(cudaErrorCapturedEvent, cudaErrorStreamCaptureInvalidated, [&] {
        OK(cudaEventRecord(e, s));
        return cudaEventSynchronize(e);
    });
    refused(cudaSuccess, cudaErrorStreamCaptureUnjoined, [&] {
        fill<<<1, N, 0, s>>>(x.p, N, 1);
        OK(cudaEventRecord(e, s));
        OK(cudaStreamWaitEvent(side, e, 0));
        fill<<<1, N, 0, side>>>(x.p, N, 2);
        return cudaGetLastError();
    });
    OK(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeThreadLocal));
    CHECK(cudaMemset(x.p, 0, 4) == cudaErrorStreamCaptureImplicit);
    cudaGraph_t graph;
    CHECK(cudaStreamEndCapture(blocking, &graph) == cudaErrorStreamCaptureInvalidated);
    (void)cudaGetLastError();
    FAILS(cudaErrorStreamCaptureUnsupported, cudaStreamBeginCapture(0, cudaStreamCaptureModeThreadLocal));
}

// ---------------------------------------------------------------- what ends a process, in one of its own
// A process that used CUDA may not fork and go on: this starts anew, with `what` as its argument. → as of wait()
static int in_a_child(const char* what) {
    int code = -1;
    if (fork() == 0) {
        execl("/proc/self/exe", "test_cudart", what, (char*)nullptr);
        _exit(99);
    }
    wait(&code);
    return code;
}
static int child(const std::string& what) {
    if (!freopen("/dev/null", "w", stderr)) return 98;
    int* x;
    cudaMalloc(&x, 4);
    if (what == "touch") {
        *(volatile int*)x = 1;
        return 0;
    }
    cudaFree(x);
    fill<<<1, 1>>>(x, 1, 1);
    if (cudaGetLastError() != cudaSuccess) return 1;
    if (cudaDeviceSynchronize() != cudaErrorIllegalAddress) return 2;
    if (cudaMalloc(&x, 4) != cudaErrorIllegalAddress) return 3;
    if (cudaGetLastError() != cudaErrorIllegalAddress || cudaGetLastError() != cudaErrorIllegalAddress) return 4;
    return 0;
}
TEST_CASE("a kernel's fault is the error of every later call") {
    int code = in_a_child("fault");
    CHECK(WIFEXITED(code));
    CHECK(WEXITSTATUS(code) == 0);
    CHECK(std::string(cudaGetErrorString(cudaErrorIllegalAddress)) == "an illegal memory access was encountered");
    CHECK(std::string(cudaGetErrorName(cudaErrorInvalidValue)) == "cudaErrorInvalidValue");
}
TEST_CASE("memory of the device is out of the host's reach; managed memory is not") {
    CHECK(WIFSIGNALED(in_a_child("touch")));
    int* managed;
    OK(cudaMallocManaged(&managed, N * sizeof(int)));
    managed[0] = 1;
    add_one<<<1, 1>>>(managed, 1);
    OK(cudaDeviceSynchronize());
    CHECK(managed[0] == 2);
    OK(cudaFree(managed));
}
TEST_CASE("what the emulator lacks says so") {
    FAILS(cudaErrorNotSupported, cudaMemcpy2D(nullptr, 0, nullptr, 0, 0, 0, cudaMemcpyDefault));
}
int main(int argc, char** argv) {
    for (const char* what : {"fault", "touch"})
        if (argc == 2 && !strcmp(argv[1], what)) return child(what);
    return doctest::Context(argc, argv).run();
}
