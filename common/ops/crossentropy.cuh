// crossentropy.cuh: softmax cross-entropy, forward and backward in one call, in place.
//
//   loss = log Σ_v exp(x_v) − x_target          dx_v = (softmax(x)_v − [v = target]) · scale
//
// A target of −1 is ignored: loss 0, gradient 0. `scale` is 1 / (targets in the whole optimiser step), so that losses
// and gradients of micro-batches simply add up. With weights of the classes, loss and gradient of a row are multiplied
// with the weight of its target, and `scale` is 1 / Σ weights.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/types.h"
#include "common/base/vecmath.h"
#include "common/device/device.cuh"

// Bytes of logits at a time. On a CPU a chunk is to stay in the cache between the passes over it. On a GPU it does not
// anyway, and each chunk costs a pass over the gradient of the embeddings (GPT-2: 154 MB read and written), so there
// are to be few.
constexpr size_t LOGITS_BUDGET = device_is_host ? 64 << 20 : 1 << 30;

// Numbers of a step that live in device memory and are read once, at its end.
struct StepStats {
    double loss;     // Σ (weighted) losses over the targets of the step
    double correct;  // how many of the targets were the most likely class
    double norm2;    // squared norm of the gradient
    double failed;   // 1: the loss or the norm of this or an earlier step was not finite; from then on nothing changes
};

namespace cpu {
// losses(M), correct(M: 1 if the target is the largest logit, the first of equals, else 0)
// logits(M,Vp): if backward, overwritten by their gradient · scale[0] (columns V … Vp and rows without a target: 0)
// weights(V) of the classes, or nullptr
template <class T> void crossentropy(acc<T>* losses, acc<T>* correct, T* logits, const int* targets,
    const double* scale, int M, int V, int Vp, bool backward, const double* weights = nullptr) {
    typedef acc<T> A;
#pragma omp parallel
    {
        std::vector<A> row(V);
        A* terms = row.data();  // (V) exp(x − max_logit) of a row
#pragma omp for schedule(static, 1)
        for (int m = 0; m < M; m++) {
            T* x = logits + (size_t)m * Vp;  // (Vp)
            int target = targets[m];
            losses[m] = correct[m] = 0;
            if (target < 0) {
                if (backward)
                    for (int v = 0; v < Vp; v++) x[v] = (A)0;
                continue;
            }
            A max_logit = -INFINITY, x_target = (A)x[target];
#pragma omp simd reduction(max : max_logit)
            for (int v = 0; v < V; v++) max_logit = (A)x[v] > max_logit ? (A)x[v] : max_logit;
            bool first = x_target == max_logit;
            for (int v = 0; v < target && first; v++) first = (A)x[v] < max_logit;
            correct[m] = first;
            // of parts that are short enough for A: 50,000 small terms would vanish beside one large sum
            double total = 0;
            for (int v0 = 0; v0 < V; v0 += 1024) {
                A part = 0;
                const int end = std::min(V, v0 + 1024);
#pragma omp simd reduction(+ : part)
                for (int v = v0; v < end; v++) part += terms[v] = vec_exp((A)x[v] - max_logit);
                total += part;
            }
            A sum = (A)total, weight = weights ? (A)weights[target] : (A)1;
            losses[m] = weight * (std::log(sum) + max_logit - x_target);
            if (!backward) continue;
            A s = (A)scale[0] * weight, factor = s / sum;
            for (int v = 0; v < V; v++) x[v] = terms[v] * factor;
            x[target] = (terms[target] / sum - 1) * s;
            for (int v = V; v < Vp; v++) x[v] = (A)0;
        }
    }
}
// stats->loss += Σ losses(M), stats->correct += Σ correct(M)
template <class A> void sum_losses(StepStats* stats, const A* losses, const A* correct, int M) {
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
#include "common/device/pack.cuh"
#include "common/device/ptx.cuh"
#include "common/device/reduce.cuh"
namespace gpu {
// One block per row: first the largest logit and Σ exp in one go ("online": what was summed is rescaled whenever a
// larger logit comes), then the gradient. Where two rows fit into a multiprocessor's shared memory (SHARED), the row is
// copied there as a whole, and global memory is read once and written once, the floor; one row computes while the other
// one is copied. Else the row is read twice, the second time from the L2 cache if that still holds it (dev/kernels.md).
template <int W, bool SHARED, class T> __global__ void crossentropy_kernel(float* losses, float* correct, T* logits,
    const int* targets, const double* scale, int V, int Vp, bool backward, const double* weights) {
    constexpr float LOG2E = 1.44269504f;
    DYNAMIC_SHARED(T, copy);  // (Vp) if SHARED
    int m = blockIdx.x, target = targets[m], first = threadIdx.x * W, step = blockDim.x * W;
    T* row = logits + (size_t)m * Vp;  // (Vp)
    if (target < 0) {                  // the whole block
        float zero[W] = {};
        if (threadIdx.x == 0) losses[m] = correct[m] = 0;
        for (int v = first; backward && v < Vp; v += step) store<W>(row + v, zero);
        return;
    }
    float max_logit = -INFINITY, sum = 0;
    float x_target = (float)row[target], before = -INFINITY;  // before: the largest logit left of the target
    const T* x = SHARED ? copy : row;                         // (Vp)
    if constexpr (SHARED) {                                   // a thread reads what it copied: no barrier
        for (int v = first; v < Vp; v += step) cp_async_16(copy + v, row + v);
        cp_async_commit();
        cp_async_wait<0>();
    }
    for (int v = first; v < V; v += step) {
        float a[W];
        load<W>(a, x + v);
        if (v + W > V)
            for (int k = 0; k < W; k++) a[k] = v + k < V ? a[k] : -INFINITY;
        float largest = a[0];
        for (int k = 1; k < W; k++) largest = fmaxf(largest, a[k]);
        if (v + W <= target) {
            before = fmaxf(before, largest);
        } else if (v < target) {
            for (int k = 0; k < W; k++) before = v + k < target ? fmaxf(before, a[k]) : before;
        }
        if (largest > max_logit) {
            sum *= fast_exp2((max_logit - largest) * LOG2E);  // 0 the first time
            max_logit = largest;
        }
        float base = max_logit > -INFINITY ? max_logit * LOG2E : 0;  // −∞ − (−∞) would not be a number
        UNROLL
        for (int k = 0; k < W; k++) sum += fast_exp2(a[k] * LOG2E - base);
    }
    float mine = max_logit;
    max_logit = block_max(max_logit);
    before = block_max(before);
    sum = block_sum(mine > -INFINITY ? sum * fast_exp2((mine - max_logit) * LOG2E) : sum);
    // the barriers in there also let every thread read x_target before anybody overwrites it
    float weight = weights ? (float)weights[target] : 1.0f;
    if (threadIdx.x == 0) {
        losses[m] = weight * (logf(sum) + max_logit - x_target);
        correct[m] = x_target == max_logit && (target == 0 || before < max_logit);
    }
    if (!backward) return;
    float s = (float)scale[0] * weight, factor = s / sum, base = max_logit * LOG2E;
    for (int v = first; v < Vp; v += step) {
        float a[W];
        load<W>(a, x + v);
        UNROLL
        for (int k = 0; k < W; k++) a[k] = fast_exp2(a[k] * LOG2E - base) * factor;
        if (v + W > V)
            for (int k = 0; k < W; k++) a[k] = v + k < V ? a[k] : 0.0f;
        if (v <= target && target < v + W) {
            UNROLL
            for (int k = 0; k < W; k++)
                if (v + k == target) a[k] = (fast_exp2(x_target * LOG2E - base) / sum - 1) * s;
        }
        store<W>(row + v, a);
    }
}
template <class T> void crossentropy(float* losses, float* correct, T* logits, const int* targets, const double* scale,
    int M, int V, int Vp, bool backward, const double* weights = nullptr) {
    unsigned threads = V <= 512 ? 32 : V <= 4096 ? 128 : 512;
    size_t bytes = Vp * sizeof(T);
    pick_width<T>(rows_are_wide<T>(Vp, logits), [&](auto w) {
        if constexpr (w() > 1) {
            if (bytes + 2048 <= most_shared_memory() / 2)  // 2 KB: what a block has besides
                return launch(crossentropy_kernel<w(), true, T>, M, threads, bytes, losses, correct, logits, targets,
                    scale, V, Vp, backward, weights);
        }
        launch(crossentropy_kernel<w(), false, T>, M, threads, 0, losses, correct, logits, targets, scale, V, Vp,
            backward, weights);
    });
}

// one block; a thread adds every 1024th
static __global__ void sum_losses_kernel(StepStats* stats, const float* losses, const float* correct, int M) {
    double loss = block_sum(strided_sum<double>(threadIdx.x, M, blockDim.x, [&](int m) { return losses[m]; }));
    double right = block_sum(strided_sum<double>(threadIdx.x, M, blockDim.x, [&](int m) { return correct[m]; }));
    if (threadIdx.x == 0) {
        stats->loss += loss;
        stats->correct += right;
    }
}
inline void sum_losses(StepStats* stats, const float* losses, const float* correct, int M) {
    launch(sum_losses_kernel, 1, 1024, 0, stats, losses, correct, M);
}
}  // namespace gpu
#endif
