// schedule.h: the learning rate, step by step.
#pragma once
#include <algorithm>
#include <cmath>

#include "common/train/flags.h"

// Learning rate of step `step` (from 0) of `steps`: a linear warmup, then the schedule down to final_lr · lr.
inline double learning_rate(const TrainFlags& f, int64_t step) {
    double warmup = f.warmup < 1 ? f.warmup * (double)f.steps : f.warmup;
    if ((double)step < warmup) return f.lr * (double)(step + 1) / (warmup + 1);
    double t = std::min(
        1.0, ((double)step - warmup) / std::max(1.0, (double)f.steps - warmup));  // 0 → 1 over the rest of the run
    double share = 1;
    if (f.schedule == "linear") share = 1 - t;
    if (f.schedule == "cosine") share = 0.5 * (1 + cos(M_PI * t));
    if (f.schedule == "wsd") {
        double begin = 1 - f.decay_share;
        double from = std::max(0.0, (begin * (double)f.steps - warmup) / std::max(1.0, (double)f.steps - warmup));
        share = t <= from ? 1 : (1 - t) / (1 - from);
    }
    return f.lr * (f.final_lr + (1 - f.final_lr) * share);
}
