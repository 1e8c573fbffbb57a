// schedule.h: the learning rate, step by step.
#pragma once
#include <algorithm>
#include <cmath>

#include "common/train/flags.h"

// Learning rate of step `step` (from 0) of `steps`: a linear warmup, then the schedule, which falls to
// final_lr_fraction · lr.
inline double learning_rate(const TrainFlags& f, int64_t step) {
    double warmup = f.warmup < 1 ? f.warmup * (double)f.steps : f.warmup;
    if ((double)step < warmup) return f.lr * (double)(step + 1) / (warmup + 1);
    double rest = std::max(1.0, (double)f.steps - warmup);
    double t = std::min(1.0, ((double)step - warmup) / rest);  // 0 → 1 over the rest of the run
    double fraction = 1;                                       // 1 → 0
    if (f.schedule == "linear") fraction = 1 - t;
    if (f.schedule == "cosine") fraction = 0.5 * (1 + cos(M_PI * t));
    if (f.schedule == "wsd") {
        double begin = 1 - f.decay_fraction;
        double from = std::max(0.0, (begin * (double)f.steps - warmup) / rest);
        fraction = t <= from ? 1 : (1 - t) / (1 - from);
    }
    return f.lr * (f.final_lr_fraction + (1 - f.final_lr_fraction) * fraction);
}
