// small.h: random numbers, sequences and parameters for tests.
#pragma once
#include <doctest/doctest.h>

#include <set>

#include "common/data/batch.h"
#include "common/ops/matmul.cuh"
#include "common/train/optimizer.h"

static const bool blas_is_single_threaded = (device::blas_init(), true);

// n numbers N(mean, std), a function of the seed
template <class X = real> std::vector<X> random_numbers(size_t n, uint64_t seed, double std = 1, double mean = 0) {
    std::vector<X> x(n);
    for (size_t i = 0; i < n; i++) x[i] = (X)(float)(mean + std * normal(mix64(seed, i)));
    return x;
}
template <class X> double l2(const X* x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return std::sqrt(sum);
}
// ‖x − y‖ / ‖y‖
template <class X, class Y> double distance(const X* x, const Y* y, size_t n) {
    double d = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        norm += (double)y[i] * (double)y[i];
    }
    return d == 0 ? 0 : std::sqrt(d / norm);
}

// A batch of random sequences of these lengths; about a third of the tokens (at least one in a sequence) have a target.
inline void add_random_sequences(BatchBuilder& builder, const std::vector<int>& lengths, int V, uint64_t seed) {
    for (size_t s = 0; s < lengths.size(); s++) {
        std::vector<int> tokens, types, positions, targets;
        for (int i = 0; i < lengths[s]; i++) {
            uint64_t key = mix64(seed, s, i);
            tokens.push_back((int)below(mix64(key, 1), V));
            types.push_back(i > lengths[s] / 3);
            if (below(mix64(key, 2), 3) == 0 || (i + 1 == lengths[s] && positions.empty())) {
                positions.push_back(i);
                targets.push_back((int)below(mix64(key, 3), V));
            }
        }
        builder.add(tokens, types, positions, targets);
    }
}

// Sequence s of a builder, put into another one
inline void add_sequence(BatchBuilder& to, const BatchBuilder& all, size_t s) {
    int begin = all.start[s], end = all.start[s + 1];
    std::vector<int> positions, targets;
    for (size_t m = 0; m < all.rows.size(); m++)
        if (all.rows[m] >= begin && all.rows[m] < end) {
            positions.push_back(all.rows[m] - begin);
            targets.push_back(all.targets[m]);
        }
    to.add({all.tokens.begin() + begin, all.tokens.begin() + end}, {all.types.begin() + begin, all.types.begin() + end},
        positions, targets);
}

// Weights and biases N(0, std), LayerNorm weights around 1: no two alike, and attention far from uniform
inline void randomise(Optimizer& opt, uint64_t seed, double std = 0.15) {
    for (const ParamSpec& s : opt.table)
        for (size_t i = 0; i < s.used(); i++)
            opt.params[s.offset + i] = (real)(float)(std * normal(mix64(seed, s.offset + i)) + (s.init == Init::ones));
}

// A step of AdamW at once
inline void update(Optimizer& opt, const TrainFlags& f, int64_t step) {
    const AdamWStep hyper = Optimizer::step_values(f, step);
    device::copy_to_device(opt.hyper, &hyper, sizeof hyper);
    opt.update();
}

// Calls f(name, first element, elements) for every tensor of the checkpoint: query, key and value are three.
template <class F> void for_each_tensor(const std::vector<ParamSpec>& table, F f) {
    for (const ParamSpec& s : table)
        for (size_t k = 0; k < s.names.size(); k++) f(s.names[k], s.offset + s.begin(k), s.elements(k));
}

// Device memory, which the tests also read and write: where there is a GPU, or the shim, with -DMANAGED_MEMORY
struct Memory {
    char* p = nullptr;
    size_t bytes = 0;
    Memory() = default;
    Memory(const Memory&) = delete;
    ~Memory() { resize(0); }
    void resize(size_t n) {  // what was in it is gone
        if (p) device::device_free(p, bytes);
        p = n ? (char*)device::device_alloc(n) : nullptr;
        bytes = n;
    }
    char* data() const { return p; }
    size_t size() const { return bytes; }
};
// Memory for what plan(arena) takes
template <class Plan> Arena arena_for(Memory& memory, Plan plan) {
    Arena measure;
    plan(measure);
    memory.resize(measure.used);
    return Arena(memory.data());
}

// The parameters of a model to be frozen, random, in `memory`, where they stay once they are there
inline real* frozen_parameters(Memory& memory, const std::vector<ParamSpec>& table) {
    if (memory.size()) return (real*)memory.data();
    std::vector<real> values = random_numbers(total_count(table), 77, 0.3);
    for (const ParamSpec& s : table)
        for (size_t i = 0; i < s.count; i++) values[s.offset + i] += s.init == Init::ones;
    memory.resize(values.size() * sizeof(real));
    std::copy(values.begin(), values.end(), (real*)memory.data());
    return (real*)memory.data();
}

// A model with all its memory, small enough to look at every element.
template <class Model> struct Small {
    Model model;
    Optimizer opt;
    BatchBuilder builder;
    Memory block, memory;  // a batch; all else

    // point(parameters, gradients) points the model's tensors there and returns their table; plan_rest(arena) takes its
    // activations.
    template <class Point, class PlanRest>
    void allocate(const BatchShape& shape, int64_t T, Point point, PlanRest plan_rest) {
        builder.shape = shape;
        builder.pad_length = (int)T;
        opt.table = point(nullptr, nullptr);
        opt.n = total_count(opt.table);
        auto plan = [&](Arena& arena) {
            opt.plan(arena);
            plan_rest(arena);
        };
        Arena arena = arena_for(memory, plan);
        plan(arena);
        point(opt.params, opt.grads);
        block.resize(shape.bytes());
        opt.set_blocks(0.01, [](const ParamSpec&) { return 1.0f; });
    }
    void randomise(uint64_t seed, double std = 0.15) { ::randomise(opt, seed, std); }
    // What the builder holds, as a batch of a step whose weights (targets, where they have none) add up to `weight` (0:
    // the batch's own)
    Batch batch(StepCounters counters = {1, 2, 0}, double weight = 0) {
        return builder.finish(block.data(), counters, 1 / (weight ? weight : builder.weight()));
    }
    // mean loss of a batch, forward pass only
    double loss(const Batch& b) {
        StepStats stats{};
        model.forward(b, &stats);
        return stats.loss * *b.loss_scale;
    }
    // the gradients of a batch, its loss in opt.stats
    std::vector<areal> gradients(const Batch& b) {
        opt.zero_gradients();
        model.forward_backward(b, opt.stats);
        return {opt.grads, opt.grads + opt.n};
    }
};
