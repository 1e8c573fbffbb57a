// adamw.cuh: the gradient's norm and AdamW (Loshchilov and Hutter 2019) with clipping, a pass each over all parameters.
//
//   g ← g · min(1, clip / (‖g‖ + 1e-6))
//   m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) g²
//   w ← w − lr · wd · w − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)
//
// All parameters lie in one array; every tensor starts at a multiple of PARAM_BLOCK and is padded with zeros, so
// that weight decay and the factor of the learning rate (layer-wise decay, frozen tensors) are looked up once per
// block. If the loss or the norm is not finite, nothing changes, nor in any later step: the host hears of it when the
// next one has begun.
#pragma once
#include <cmath>

#include "common/base/types.h"
#include "common/ops/crossentropy.cuh"

constexpr int NORM_CHUNKS = 1024;  // partial sums of the norm, in double, added in order

// In device memory, written by the host before each step (a captured step reads the new values).
struct AdamWStep {
    double lr, beta1, beta2, eps;
    double correction1, correction2;  // 1 − β₁ᵗ, 1 − β₂ᵗ
    double clip;                      // largest norm; 0: no clipping
};

// What AdamW knows of each block of parameters; arrays in device memory.
struct ParamBlocks {
    const float* lr_factor;  // (n / PARAM_BLOCK)
    const float* decay;      // (n / PARAM_BLOCK)  weight decay, 0 for biases and LayerNorm
};

namespace cpu {
// stats->norm2 = Σ grads(n)², and stats->failed; scratch(NORM_CHUNKS)
template <class A> void norm_squared(StepStats* stats, const A* grads, double* scratch, size_t n) {
    size_t chunk = ceil_div(n, NORM_CHUNKS);
#pragma omp parallel for
    for (int k = 0; k < NORM_CHUNKS; k++) {
        size_t end = (k + 1) * chunk < n ? (k + 1) * chunk : n;
        double sum = 0;
        for (size_t i = k * chunk; i < end; i++) sum += (double)grads[i] * (double)grads[i];
        scratch[k] = sum;
    }
    double sum = 0;
    for (int k = 0; k < NORM_CHUNKS; k++) sum += scratch[k];
    stats->norm2 = sum;
    if (!std::isfinite(sum) || !std::isfinite(stats->loss)) stats->failed = 1;
}
// params, m, v, grads (n); master(n), or nullptr where the parameters are their own; n: a multiple of PARAM_BLOCK
template <class T> void adamw_update(T* params, acc<T>* master, acc<T>* m, acc<T>* v, const acc<T>* grads,
    const StepStats* stats, const AdamWStep* step, ParamBlocks blocks, size_t n) {
    typedef acc<T> A;
    if (stats->failed != 0) return;
    double norm = std::sqrt(stats->norm2);
    double clip = step->clip > 0 ? step->clip / (norm + 1e-6) : 1;
    A scale = (A)(clip < 1 ? clip : 1);
    A b1 = (A)step->beta1, b2 = (A)step->beta2, eps = (A)step->eps;
    A one_b1 = (A)(1 - step->beta1), one_b2 = (A)(1 - step->beta2);
    A inv1 = (A)(1 / step->correction1), inv2 = (A)(1 / step->correction2);
#pragma omp parallel for
    for (size_t b = 0; b < n / PARAM_BLOCK; b++) {
        A lr = (A)(step->lr * blocks.lr_factor[b]), shrink = (A)(1 - step->lr * blocks.lr_factor[b] * blocks.decay[b]);
        for (size_t i = b * PARAM_BLOCK; i < (b + 1) * PARAM_BLOCK; i++) {
            A g = grads[i] * scale;
            m[i] = b1 * m[i] + one_b1 * g;
            v[i] = b2 * v[i] + one_b2 * g * g;
            A w = master ? master[i] : (A)params[i];
            w = w * shrink - lr * (m[i] * inv1) / (std::sqrt(v[i] * inv2) + eps);
            if (master) master[i] = w;
            params[i] = w;
        }
    }
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/pack.cuh"
#include "common/device/reduce.cuh"
namespace gpu {
constexpr int LOADS_IN_FLIGHT = 4;
// One block per chunk, then one block for the chunks. A thread has four loads of 16 bytes on their way: with 8 blocks
// on a multiprocessor 64 KB (dev/kernels.md: 40 KB have to be).
static __global__ void norm_chunks_kernel(double* chunks, const float* grads, size_t chunk, size_t n) {
    size_t end = min((blockIdx.x + 1) * chunk, n);
    double sum = 0;
    for (size_t i0 = blockIdx.x * chunk + threadIdx.x * 4; i0 < end; i0 += LOADS_IN_FLIGHT * 4 * blockDim.x) {
        Pack<float, 4> g[LOADS_IN_FLIGHT] = {};
        UNROLL
        for (int j = 0; j < LOADS_IN_FLIGHT; j++)
            if (i0 + j * 4 * blockDim.x < end) g[j] = load_pack<4>(grads + i0 + j * 4 * blockDim.x);
        UNROLL
        for (int j = 0; j < LOADS_IN_FLIGHT; j++) UNROLL
        for (int k = 0; k < 4; k++) sum += (double)g[j].at[k] * (double)g[j].at[k];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) chunks[blockIdx.x] = sum;
}
static __global__ void norm_total_kernel(StepStats* stats, const double* chunks) {
    double sum = 0;
    for (int k = threadIdx.x; k < NORM_CHUNKS; k += blockDim.x) sum += chunks[k];
    sum = block_sum(sum);
    if (threadIdx.x > 0) return;
    stats->norm2 = sum;
    if (!isfinite(sum) || !isfinite(stats->loss)) stats->failed = 1;
}
// grads from a multiple of 16 bytes on, n a multiple of PARAM_BLOCK
inline void norm_squared(StepStats* stats, const float* grads, double* scratch, size_t n) {
    launch(norm_chunks_kernel, NORM_CHUNKS, 128, 0, scratch, grads,
        ceil_div(n / PARAM_BLOCK, NORM_CHUNKS) * PARAM_BLOCK, n);
    launch(norm_total_kernel, 1, NORM_CHUNKS, 0, stats, (const double*)scratch);
}

// Eight blocks on each of an H200's 132 multiprocessors share the parameters among them.
constexpr size_t ADAMW_BLOCKS = 1056;
// One warp per PARAM_BLOCK parameters at a time, two times four to a lane: 16 bytes of every fp32 array, side by side
// in a warp. A lane starts all its loads, 128 bytes, before it waits. What all parameters share is worked out once per
// warp, in double as in the loops.
template <class T> __global__ void adamw_update_kernel(T* params, float* master, float* m, float* v, const float* grads,
    const StepStats* stats, const AdamWStep* step, ParamBlocks blocks, size_t n) {
    if (stats->failed != 0) return;  // the whole grid
    double clip = step->clip > 0 ? step->clip / (sqrt(stats->norm2) + 1e-6) : 1;
    float scale = (float)(clip < 1 ? clip : 1);
    float b1 = (float)step->beta1, b2 = (float)step->beta2, eps = (float)step->eps;
    float one_b1 = (float)(1 - step->beta1), one_b2 = (float)(1 - step->beta2);
    float inv1 = (float)(1 / step->correction1), inv2 = (float)(1 / step->correction2);
    double rate = step->lr;
    size_t warps = gridDim.x * (blockDim.x / 32), lane = threadIdx.x % 32;
    for (size_t b = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; b < n / PARAM_BLOCK; b += warps) {
        size_t i = b * PARAM_BLOCK + lane * 4;
        float g[2][4], m1[2][4], v1[2][4], w[2][4];
        UNROLL
        for (int j = 0; j < 2; j++) {
            load<4>(g[j], grads + i + 128 * j);
            load<4>(m1[j], m + i + 128 * j);
            load<4>(v1[j], v + i + 128 * j);
            if (master) load<4>(w[j], master + i + 128 * j);
            else load<4>(w[j], params + i + 128 * j);
        }
        double lr_block = rate * blocks.lr_factor[b];
        float lr = (float)lr_block, shrink = (float)(1 - lr_block * blocks.decay[b]);
        UNROLL
        for (int j = 0; j < 2; j++) {
            UNROLL
            for (int k = 0; k < 4; k++) {
                float gk = g[j][k] * scale;
                m1[j][k] = b1 * m1[j][k] + one_b1 * gk;
                v1[j][k] = b2 * v1[j][k] + one_b2 * gk * gk;
                w[j][k] = w[j][k] * shrink - lr * (m1[j][k] * inv1) / (sqrtf(v1[j][k] * inv2) + eps);
            }
            store<4>(m + i + 128 * j, m1[j]);
            store<4>(v + i + 128 * j, v1[j]);
            if (master) store<4>(master + i + 128 * j, w[j]);
            store<4>(params + i + 128 * j, w[j]);
        }
    }
}
// all arrays from a multiple of 16 bytes on
template <class T> void adamw_update(T* params, float* master, float* m, float* v, const float* grads,
    const StepStats* stats, const AdamWStep* step, ParamBlocks blocks, size_t n) {
    static_assert(PARAM_BLOCK == 256, "a warp takes 32 x 2 x 4 parameters");
    launch(adamw_update_kernel<T>, (unsigned)min(ceil_div(n / PARAM_BLOCK, THREADS / 32), ADAMW_BLOCKS), THREADS, 0,
        params, master, m, v, grads, stats, step, blocks, n);
}
}  // namespace gpu
#endif
