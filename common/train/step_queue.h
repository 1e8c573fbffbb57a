// step_queue.h: optimiser steps on their way through the device.
//
// A GPU works while the host continues: the host hands a step over, collects the next one's batches, and reads a step's
// numbers when they have arrived, at the latest when it has handed over the step after it. It waits only where it is
// more than a batch ahead, and where matrix products of a new shape are timed.
#pragma once
#include <omp.h>

#include <deque>

#include "common/data/batch.h"
#include "common/ops/matmul.cuh"
#include "common/train/optimizer.h"

// A step that was handed to the device and whose numbers have not been read back
struct StepInFlight {
    Cursor before;     // where its sequences begin
    double begin = 0;  // omp_get_wtime() when it was collected
    double tokens = 0, targets = 0, sequences = 0, padding = 0;
    double weight = 0;  // what its losses are divided by: the targets, or the sum of their classes' weights
};
// The numbers of a step that is done
struct StepResult {
    StepInFlight step;
    double loss, accuracy, norm, seconds;  // norm: of the gradient
    bool finite() const { return std::isfinite(loss) && std::isfinite(norm); }
};

template <class Task> struct StepQueue {
    Task& task;
    const TrainFlags& f;
    int64_t launched;  // steps handed over since the run began
    std::vector<BatchBuilder> micro_batches = std::vector<BatchBuilder>(f.accum, task.builder);  // of one step
    device::Upload batches{task.block, task.shape.bytes()}, hyper{task.opt.hyper, sizeof(AdamWStep)};
    device::Graphs graphs{};
    device::Readback<StepStats> stats_readback{};
    std::deque<StepInFlight> in_flight{};  // the oldest first; steps launched − in_flight.size() are done
    double last_done = 0;                  // omp_get_wtime() when the last one was read back

    // Fills the micro-batches of the next step: the number of its targets has to be known before it starts.
    StepInFlight collect(Cursor& cursor) {
        StepInFlight s;
        s.before = cursor;
        s.begin = omp_get_wtime();
        for (BatchBuilder& b : micro_batches) {
            s.sequences += task.fill(b, cursor);
            s.tokens += (double)b.tokens.size();
            s.targets += (double)b.targets.size();
            s.weight += b.weight();
        }
        if (s.targets == 0)
            fail("step %lld: none of its %.0f tokens can be a target: is the text made of special tokens?",
                (long long)launched + 1, s.tokens);
        return s;
    }
    // Forward and backward of its micro-batches: their gradients add up to that of the mean loss over all its targets.
    void accumulate(StepInFlight& s) {
        task.opt.zero_gradients();
        uint64_t token0 = 0;  // tokens of the step's micro-batches before this one
        for (BatchBuilder& b : micro_batches) {
            StepCounters counters{(uint64_t)f.seed, (uint64_t)launched, token0};
            size_t tokens = b.tokens.size();  // without the padding that finish() adds
            Batch batch = task.shape.on_device(b.finish(batches.next(), counters, 1 / s.weight), task.block);
            batches.send();
            token0 += tokens;
            s.padding += (double)batch.N - (double)tokens;
            // Of these shapes a run computes thousands: timing is worth it, unlike in a validation or a sample.
            device::enable_autotune(true);
            graphs.run(batch.sizes(), [&] { task.forward_backward(batch, task.opt.stats); });
            device::enable_autotune(false);
        }
    }
    // AdamW, and the step's numbers on their way back
    void update(const StepInFlight& s) {
        *(AdamWStep*)hyper.next() = Optimizer::step_values(f, launched);
        hyper.send();
        graphs.run({}, [&] { task.opt.update(); });
        stats_readback.send(task.opt.stats);
        in_flight.push_back(s);
        launched++;
    }

    // Can a step be taken without waiting, or has one to be taken since two are in flight?
    bool ready() const { return !in_flight.empty() && (in_flight.size() > 1 || stats_readback.ready()); }
    // Waits for the oldest step.
    StepResult take() {
        StepResult r;
        r.step = in_flight.front();
        in_flight.pop_front();
        StepStats stats = stats_readback.take();
        r.loss = stats.loss / r.step.weight;
        r.accuracy = stats.correct / r.step.targets;
        r.norm = sqrt(stats.norm2);
        double now = omp_get_wtime();
        r.seconds = std::max(1e-6, now - std::max(r.step.begin, last_done));
        last_done = now;
        return r;
    }
};
