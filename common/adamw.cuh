// adamw.cuh: the gradient's norm, and AdamW (Loshchilov and Hutter 2019) with clipping, in one pass each over all parameters.
//
//   g ← g · min(1, clip / (‖g‖ + 1e-6))
//   m ← β₁ m + (1 − β₁) g         v ← β₂ v + (1 − β₂) g²
//   w ← w − lr · wd · w − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)
//
// All parameters lie in one array; every tensor starts at a multiple of PARAM_BLOCK and is filled up with zeros, so that weight decay
// and the factor of the learning rate (layer-wise decay, frozen tensors) are looked up once per block.
// If the loss or the norm is not finite, nothing changes.
#pragma once
#include "crossentropy.cuh"

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
// stats->norm2 = Σ grads(n)²; scratch(NORM_CHUNKS)
template <class A>
void norm_squared(StepStats* stats, const A* grads, double* scratch, size_t n) {
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
}
// params(n), m(n), v(n); master(n) in acc<T>, or nullptr where the parameters are their own master; grads(n); n a multiple of PARAM_BLOCK
template <class T>
void adamw_update(T* params, acc<T>* master, acc<T>* m, acc<T>* v, const acc<T>* grads, const StepStats* stats, const AdamWStep* step, ParamBlocks blocks,
                  size_t n) {
    typedef acc<T> A;
    if (!std::isfinite(stats->norm2) || !std::isfinite(stats->loss)) return;
    double norm = std::sqrt(stats->norm2);
    double clip = step->clip > 0 ? step->clip / (norm + 1e-6) : 1;
    A scale = (A)(clip < 1 ? clip : 1);
    A b1 = (A)step->beta1, b2 = (A)step->beta2, eps = (A)step->eps, one_b1 = (A)(1 - step->beta1), one_b2 = (A)(1 - step->beta2);
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
#include "pack.cuh"
#include "reduce.cuh"
namespace gpu {
// one block per chunk, then one block for the chunks
template <int>
__global__ void norm_chunks_kernel(double* chunks, const float* grads, size_t chunk, size_t n) {
    size_t begin = blockIdx.x * chunk, end = min(begin + chunk, n);
    double sum = 0;
    for (size_t i = begin + threadIdx.x; i < end; i += blockDim.x) sum += (double)grads[i] * (double)grads[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) chunks[blockIdx.x] = sum;
}
template <int>
__global__ void norm_total_kernel(StepStats* stats, const double* chunks) {
    double sum = 0;
    for (int k = threadIdx.x; k < NORM_CHUNKS; k += blockDim.x) sum += chunks[k];
    sum = block_sum(sum);
    if (threadIdx.x == 0) stats->norm2 = sum;
}
inline void norm_squared(StepStats* stats, const float* grads, double* scratch, size_t n) {
    launch(norm_chunks_kernel<0>, NORM_CHUNKS, 128, 0, scratch, grads, ceil_div(n, NORM_CHUNKS), n);
    launch(norm_total_kernel<0>, 1, 128, 0, stats, (const double*)scratch);
}

// one block per PARAM_BLOCK parameters, one thread per parameter; thread 0 works out what they all share
template <class T>
__global__ void adamw_update_kernel(T* params, float* master, float* m, float* v, const float* grads, const StepStats* stats, const AdamWStep* step,
                                    ParamBlocks blocks) {
    if (!isfinite(stats->norm2) || !isfinite(stats->loss)) return;  // the whole grid
    __shared__ float scale, lr, shrink, inv1, inv2;
    if (threadIdx.x == 0) {
        double clip = step->clip > 0 ? step->clip / (sqrt(stats->norm2) + 1e-6) : 1, rate = step->lr * blocks.lr_factor[blockIdx.x];
        scale = (float)(clip < 1 ? clip : 1);
        lr = (float)rate;
        shrink = (float)(1 - rate * blocks.decay[blockIdx.x]);
        inv1 = (float)(1 / step->correction1);
        inv2 = (float)(1 / step->correction2);
    }
    __syncthreads();  // thread 0 has written
    size_t i = (size_t)blockIdx.x * PARAM_BLOCK + threadIdx.x;
    float b1 = (float)step->beta1, b2 = (float)step->beta2, one_b1 = (float)(1 - step->beta1), one_b2 = (float)(1 - step->beta2);
    float g = grads[i] * scale;
    float new_m = b1 * m[i] + one_b1 * g, new_v = b2 * v[i] + one_b2 * g * g;
    float w = master ? master[i] : (float)params[i];
    w = w * shrink - lr * (new_m * inv1) / (sqrtf(new_v * inv2) + (float)step->eps);
    m[i] = new_m;
    v[i] = new_v;
    if (master) master[i] = w;
    params[i] = (T)w;
}
template <class T>
void adamw_update(T* params, float* master, float* m, float* v, const float* grads, const StepStats* stats, const AdamWStep* step, ParamBlocks blocks,
                  size_t n) {
    if (n == 0) return;
    launch(adamw_update_kernel<T>, (unsigned)(n / PARAM_BLOCK), PARAM_BLOCK, 0, params, master, m, v, grads, stats, step, blocks);
}
}  // namespace gpu
#endif
