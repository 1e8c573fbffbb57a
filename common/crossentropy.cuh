// crossentropy.cuh: softmax cross-entropy, forward and backward in one visit to the logits.
//
//   loss = log Σ_v exp(x_v) − x_target          dx_v = (softmax(x)_v − [v = target]) · scale
//
// A target of −1 is ignored: loss 0, gradient 0. `scale` is 1 / (targets in the whole optimiser step), so that losses and gradients of
// micro-batches simply add up.
#pragma once
#include "device.cuh"
#include "vecmath.h"

// Numbers of a step that live in device memory and are read once, at its end.
struct StepStats {
    double loss;     // Σ losses over the targets of the step
    double correct;  // how many of the targets were the most likely class
    double norm2;    // squared norm of the gradient
};

namespace cpu {
// losses(M), correct(M: 1 if the target is the largest logit, the first of equals, else 0)
// logits(M,Vp): if backward, overwritten by their gradient · scale[0] (columns V … Vp and rows without a target: 0)
template <class T>
void crossentropy(acc<T>* losses, acc<T>* correct, T* logits, const int* targets, const double* scale, int M, int V, int Vp, bool backward) {
    typedef acc<T> A;
    #pragma omp parallel for schedule(static, 1)
    for (int m = 0; m < M; m++) {
        T* x = logits + (size_t)m * Vp;  // (Vp)
        int target = targets[m];
        losses[m] = correct[m] = 0;
        if (target < 0) {
            if (backward) for (int v = 0; v < Vp; v++) x[v] = (A)0;
            continue;
        }
        A top = -INFINITY, sum = 0, x_target = (A)x[target];
        for (int v = 0; v < V; v++) top = (A)x[v] > top ? (A)x[v] : top;
        for (int v = 0; v < V; v++) sum += vec_exp((A)x[v] - top);
        losses[m] = std::log(sum) + top - x_target;
        bool first = x_target == top;
        for (int v = 0; v < target && first; v++) first = (A)x[v] < top;
        correct[m] = first;
        if (!backward) continue;
        A s = (A)scale[0], by = s / sum;
        for (int v = 0; v < V; v++) x[v] = vec_exp((A)x[v] - top) * by;
        x[target] = (vec_exp(x_target - top) / sum - 1) * s;
        for (int v = V; v < Vp; v++) x[v] = (A)0;
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
