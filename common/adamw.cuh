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
