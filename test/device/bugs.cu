// bugs.cu: kernels, most of them wrong, one for each thing that the shim has to catch. test_shim.cu runs each in a
// process of its own and checks what happens; by hand: build/.../test_shim bug missing-barrier
#include "common/device/device.cuh"
#include "common/device/ptx.cuh"
#include "common/device/reduce.cuh"

namespace bugs {

constexpr int THREADS = SHIM_TSAN(true ||) false ? 64 : 256;  // fibers are slow under TSan

// ---------------------------------------------------------------- barriers
// a block reduction without its first barrier, called twice: the second call overwrites what slow warps still read
__device__ inline float reduce_without_barrier(float v) {
    __shared__ float partial[32];
    v = warp_sum(v);
    partial[threadIdx.x / 32] = v;
    __syncthreads();
    return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : 0.0f);
}
static __global__ void missing_barrier(float* out, const float*) {
    float a = reduce_without_barrier(1.0f), b = reduce_without_barrier(a * 0.5f);
    out[threadIdx.x] = b;
}
static __global__ void divergent_barrier(float* out, const float*) {
    if (threadIdx.x != 5) __syncthreads();
    else out[0] = warp_sum(1.0f);
}
static __global__ void mixed_collectives(float* out, const float*) {
    out[threadIdx.x] = threadIdx.x % 32 < 16 ? __shfl_xor_sync(~0u, 1.0f, 1) : __shfl_down_sync(~0u, 1.0f, 1);
}
static __global__ void lane_outside_mask(float* out, const float*) { out[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 0); }
// lane 31 returns, then the others read its value
static __global__ void shuffle_from_returned_lane(float* out, const float*) {
    if (threadIdx.x % 32 == 31) return;
    out[threadIdx.x] = __shfl_sync(~0u, 1.0f, 31);
}
// a shuffle makes the lanes wait for each other, but only __syncwarp makes what they wrote visible
template <int SYNCWARP> __global__ void shuffle_as_barrier(float* out, const float*) {
    DYNAMIC_SHARED(float, s);
    s[threadIdx.x] = (float)threadIdx.x;
    if (SYNCWARP) __syncwarp();
    else __shfl_sync(~0u, 0, 0);
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}
// right: threads that have returned are not waited for
static __global__ void early_return(float* out, const float*) {
    DYNAMIC_SHARED(float, s);
    s[threadIdx.x] = 1;
    if (threadIdx.x >= 50) return;
    __syncthreads();
    out[threadIdx.x] = s[49 - threadIdx.x];
}

// ---------------------------------------------------------------- memory
static __global__ void shared_overrun_write(float* out, const float*) {
    DYNAMIC_SHARED(float, s);
    s[threadIdx.x + 1] = 1;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}
static __global__ void shared_overrun_read(float* out, const float*) {
    DYNAMIC_SHARED(float, s);
    s[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x + 1];
}
static __global__ void global_overrun(float* out, const float* in) { out[threadIdx.x] = in[threadIdx.x + THREADS]; }
static __global__ void uninitialised_shared(float* out, const float*) {
    DYNAMIC_SHARED(float, s);
    s[threadIdx.x] += 1;
    out[threadIdx.x] = s[threadIdx.x];
}
template <int ATOMIC> __global__ void two_blocks_one_address(float* out, const float*) {
    if (threadIdx.x != 0) return;
    if (ATOMIC) atomicAdd(&out[0], 1.0f);
    else out[0] += 1.0f;
}
static __global__ void deep_stack(float* out, const float*) {
    volatile float locals[shim::STACK / sizeof(float) - 16];
    for (size_t i = 0; i < sizeof locals / sizeof *locals; i++) locals[i] = 1;
    out[threadIdx.x] = locals[threadIdx.x];
}

// ---------------------------------------------------------------- cp.async
enum { RIGHT, NO_COMMIT, NO_WAIT, LATE_WAIT, OFF_BY_ONE, NO_BARRIER, UNALIGNED };
// Two tiles of one float4 per thread, the second on its way while the first is read; each thread reads a neighbour's
// piece.
template <int WRONG> __global__ void async_copy(float* out, const float* in) {
    DYNAMIC_SHARED(float, s);
    float *first = s, *second = s + 4 * THREADS;
    int t = threadIdx.x, other = (t + 1) % THREADS;
    if (WRONG == UNALIGNED) cp_async_16(first + 1, in);
    cp_async_16(first + 4 * t, in + 4 * t);
    cp_async_commit();
    cp_async_16(second + 4 * t, in + 4 * THREADS + 4 * t);
    if (WRONG != NO_COMMIT) cp_async_commit();
    if (WRONG == OFF_BY_ONE) cp_async_wait<2>();
    else if (WRONG != LATE_WAIT) cp_async_wait<1>();
    if (WRONG != NO_BARRIER) __syncthreads();
    float sum = first[4 * other];
    if (WRONG == LATE_WAIT) cp_async_wait<1>();
    if (WRONG != NO_WAIT) cp_async_wait<0>();
    if (WRONG != NO_BARRIER) __syncthreads();
    out[t] = sum + second[4 * other];
}

struct Bug {
    const char* name;
    void (*kernel)(float*, const float*);
    unsigned blocks;
    size_t smem;
    float want;  // what every element of the result is when all is well
};
inline const Bug all[] = {
    {"missing-barrier", missing_barrier, 1, 0, THREADS* THREADS / 2.0f},
    {"divergent-barrier", divergent_barrier, 1, 0, 0},
    {"mixed-collectives", mixed_collectives, 1, 0, 1},
    {"lane-outside-mask", lane_outside_mask, 1, 0, 1},
    {"shuffle-from-returned-lane", shuffle_from_returned_lane, 1, 0, 1},
    {"shuffle-as-barrier", shuffle_as_barrier<0>, 1, THREADS * 4, -1},
    {"syncwarp-as-barrier", shuffle_as_barrier<1>, 1, THREADS * 4, -1},
    {"early-return", early_return, 1, THREADS * 4, -1},
    {"shared-overrun-write", shared_overrun_write, 1, THREADS * 4, 1},
    {"shared-overrun-read", shared_overrun_read, 1, THREADS * 4, 1},
    {"global-overrun", global_overrun, 1, 0, -1},
    {"uninitialised-shared", uninitialised_shared, 1, THREADS * 4, 1},
    {"two-blocks-one-address", two_blocks_one_address<0>, 8, 0, -1},
    {"two-blocks-atomic", two_blocks_one_address<1>, 8, 0, -1},
    {"deep-stack", deep_stack, 1, 0, 1},
    {"async-right", async_copy<RIGHT>, 1, 2 * THREADS * 16, 3},
    {"async-no-commit", async_copy<NO_COMMIT>, 1, 2 * THREADS * 16, 3},
    {"async-no-wait", async_copy<NO_WAIT>, 1, 2 * THREADS * 16, 3},
    {"async-late-wait", async_copy<LATE_WAIT>, 1, 2 * THREADS * 16, 3},
    {"async-wait-off-by-one", async_copy<OFF_BY_ONE>, 1, 2 * THREADS * 16, 3},
    {"async-no-barrier", async_copy<NO_BARRIER>, 1, 2 * THREADS * 16, 3},
    {"async-unaligned", async_copy<UNALIGNED>, 1, 2 * THREADS * 16, 3},
};

// a line of the host's that would crash beside a GPU
inline int touch_device_memory(bool write) {
    shim::host_may_touch = false;
    volatile float* x = (float*)gpu::device_alloc(100 * sizeof(float));
    printf("right until here\n");
    fflush(stdout);
    if (write) x[25] = 1;
    else printf("it read %g\n", x[25]);
    return 0;
}

// Runs one of them: exit status 0 and "right" if the result is what it should be, 1 and "wrong" if not; or the shim or
// a sanitizer ends the process before that.
inline int run(const char* name) {
    if (!strcmp(name, "host-reads-device")) return touch_device_memory(false);
    if (!strcmp(name, "host-writes-device")) return touch_device_memory(true);
    for (const Bug& b : all) {
        if (strcmp(b.name, name)) continue;
        float* in = (float*)malloc(2 * 4 * THREADS * sizeof(float));
        float* out = (float*)calloc(THREADS, sizeof(float));
        for (int i = 0; i < 2 * 4 * THREADS; i++) in[i] = i < 4 * THREADS ? 1.0f : 2.0f;
        if (!strcmp(name, "global-overrun")) {  // exactly as much as a launch would own
            free(in);
            in = (float*)calloc(THREADS, sizeof(float));
        }
        launch(b.kernel, b.blocks, THREADS, b.smem, out, (const float*)in);
        for (int i = 0; b.want >= 0 && i < THREADS; i++)
            if (!(out[i] == b.want)) {
                printf("wrong: element %d is %g, not %g\n", i, out[i], b.want);
                return 1;
            }
        printf("right\n");
        free(in);
        free(out);
        return 0;
    }
    fprintf(stderr, "no such kernel: %s\n", name);
    return 2;
}

}  // namespace bugs
