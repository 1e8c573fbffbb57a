// crossentropy.cuh: softmax cross-entropy, forward and backward in one call, in place.
//
//   loss = log Σ_v exp(x_v) − x_target          dx_v = (softmax(x)_v − [v = target]) · scale
//
// A target of −1 is ignored: loss 0, gradient 0. `scale` is 1 / (targets in the whole optimiser step), so that losses and gradients of
// micro-batches simply add up. With weights of the classes, loss and gradient of a row are multiplied with the weight of its target, and
// `scale` is 1 / Σ weights.
#pragma once
#include <algorithm>

#include "device.cuh"
#include "vecmath.h"

// Numbers of a step that live in device memory and are read once, at its end.
struct StepStats {
    double loss;     // Σ (weighted) losses over the targets of the step
    double correct;  // how many of the targets were the most likely class
    double norm2;    // squared norm of the gradient
};

namespace cpu {
// losses(M), correct(M: 1 if the target is the largest logit, the first of equals, else 0)
// logits(M,Vp): if backward, overwritten by their gradient · scale[0] (columns V … Vp and rows without a target: 0)
// weights(V) of the classes, or nullptr
template <class T>
void crossentropy(acc<T>* losses, acc<T>* correct, T* logits, const int* targets, const double* scale, int M, int V, int Vp, bool backward,
                  const double* weights = nullptr) {
    typedef acc<T> A;
    #pragma omp parallel
    {
        std::vector<A> row(V);
        A* terms = row.data();  // (V) exp(x − top) of a row
        #pragma omp for schedule(static, 1)
        for (int m = 0; m < M; m++) {
            T* x = logits + (size_t)m * Vp;  // (Vp)
            int target = targets[m];
            losses[m] = correct[m] = 0;
            if (target < 0) {
                if (backward) for (int v = 0; v < Vp; v++) x[v] = (A)0;
                continue;
            }
            A top = -INFINITY, x_target = (A)x[target];
            #pragma omp simd reduction(max : top)
            for (int v = 0; v < V; v++) top = (A)x[v] > top ? (A)x[v] : top;
            bool first = x_target == top;
            for (int v = 0; v < target && first; v++) first = (A)x[v] < top;
            correct[m] = first;
            double total = 0;  // of parts that are short enough for A: 50,000 small terms would vanish beside one large sum
            for (int v0 = 0; v0 < V; v0 += 1024) {
                A part = 0;
                const int end = std::min(V, v0 + 1024);
                #pragma omp simd reduction(+ : part)
                for (int v = v0; v < end; v++) part += terms[v] = vec_exp((A)x[v] - top);
                total += part;
            }
            A sum = (A)total, weight = weights ? (A)weights[target] : (A)1;
            losses[m] = weight * (std::log(sum) + top - x_target);
            if (!backward) continue;
            A s = (A)scale[0] * weight, by = s / sum;
            for (int v = 0; v < V; v++) x[v] = terms[v] * by;
            x[target] = (terms[target] / sum - 1) * s;
            for (int v = V; v < Vp; v++) x[v] = (A)0;
        }
    }
}
// stats->loss += Σ losses(M), stats->correct += Σ correct(M)
template <class A>
void sum_losses(StepStats* stats, const A* losses, const A* correct, int M) {
    double loss = 0, right = 0;
    for (int m = 0; m < M; m++) {
        loss += losses[m];
        right += correct[m];
    }
    stats->loss += loss;
    stats->correct += right;
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "pack.cuh"
#include "reduce.cuh"
namespace gpu {
// One block per row, which it reads three times (the cache holds it): largest logit, Σ exp, gradient.
template <int W, class T>
__global__ void crossentropy_kernel(float* losses, float* correct, T* logits, const int* targets, const double* scale, int V, int Vp, bool backward,
                                    const double* weights) {
    int m = blockIdx.x, target = targets[m], step = blockDim.x * W;
    T* row = logits + (size_t)m * Vp;  // (Vp)
    float x[W], weight = weights && target >= 0 ? (float)weights[target] : 1.0f;
    if (target < 0) {  // the whole block
        if (threadIdx.x == 0) losses[m] = correct[m] = 0;
        UNROLL for (int k = 0; k < W; k++) x[k] = 0;
        for (int v = threadIdx.x * W; backward && v < Vp; v += step) store<W>(row + v, x);
        return;
    }
    float top = -INFINITY, before = -INFINITY, sum = 0, x_target = (float)row[target];  // before: the largest logit left of the target
    for (int v = threadIdx.x * W; v < V; v += step) {
        load<W>(x, row + v);
        UNROLL for (int k = 0; k < W; k++) {
            if (v + k < V && x[k] > top) top = x[k];
            if (v + k < target && x[k] > before) before = x[k];
        }
    }
    top = block_max(top);
    before = block_max(before);
    for (int v = threadIdx.x * W; v < V; v += step) {
        load<W>(x, row + v);
        UNROLL for (int k = 0; k < W; k++)
            if (v + k < V) sum += vec_exp(x[k] - top);
    }
    sum = block_sum(sum);  // its barriers also let every thread read x_target before anybody overwrites it
    if (threadIdx.x == 0) {
        losses[m] = weight * (logf(sum) + top - x_target);
        correct[m] = x_target == top && (target == 0 || before < top);
    }
    if (!backward) return;
    float s = (float)scale[0] * weight, by = s / sum;
    for (int v = threadIdx.x * W; v < Vp; v += step) {
        load<W>(x, row + v);
        UNROLL for (int k = 0; k < W; k++) {
            if (v + k == target) x[k] = (vec_exp(x[k] - top) / sum - 1) * s;
            else x[k] = v + k < V ? vec_exp(x[k] - top) * by : 0.0f;
        }
        store<W>(row + v, x);
    }
}
template <class T>
void crossentropy(float* losses, float* correct, T* logits, const int* targets, const double* scale, int M, int V, int Vp, bool backward,
                  const double* weights = nullptr) {
    if (M == 0) return;
    unsigned threads = V <= 512 ? 32 : V <= 4096 ? 128 : 512;
    pick_width<T>(rows_are_wide<T>(Vp, logits), [&](auto w) {
        launch(crossentropy_kernel<decltype(w)::value, T>, M, threads, 0, losses, correct, logits, targets, scale, V, Vp, backward, weights);
    });
}

// one block; a thread adds every 256th
template <int>
__global__ void sum_losses_kernel(StepStats* stats, const float* losses, const float* correct, int M) {
    double loss = 0, right = 0;
    for (int m = threadIdx.x; m < M; m += blockDim.x) {
        loss += losses[m];
        right += correct[m];
    }
    loss = block_sum(loss);
    right = block_sum(right);
    if (threadIdx.x == 0) {
        stats->loss += loss;
        stats->correct += right;
    }
}
inline void sum_losses(StepStats* stats, const float* losses, const float* correct, int M) {
    launch(sum_losses_kernel<0>, 1, THREADS, 0, stats, losses, correct, M);
}
}  // namespace gpu
#endif
