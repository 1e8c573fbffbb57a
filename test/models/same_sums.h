// same_sums.h: what holds in fp32 of a BERT and of a decoder alike, however a batch is computed. S is SmallBert or
// SmallGpt, of 101 tokens and sequences of up to 40; compare(small, a, b) checks that two gradients are equal up to
// rounding.
#pragma once
#include <omp.h>

#include "test/models/small.h"

static const std::vector<int> LENGTHS{40, 1, 17, 40, 3, 29};

template <class S, class Config> void check_threads(const Config& config) {
    int before = omp_get_max_threads();
    std::vector<float> reference;
    for (int threads : {1, 2, 3}) {
        omp_set_num_threads(threads);
        S small(config, 600, 0.1f);
        small.randomise(1);
        TrainFlags f;
        f.lr = 1e-3;
        for (int step = 0; step < 3; step++) {
            small.builder.clear();
            add_random_sequences(small.builder, LENGTHS, 101, step);
            add_random_sequences(small.builder, LENGTHS, 101, step + 10);
            small.gradients(small.batch({1, (uint64_t)step, 0}));
            update(small.opt, f, step);
        }
        std::vector<float> params(small.opt.params, small.opt.params + small.opt.n);
        if (threads == 1) reference = params;
        CHECK_MESSAGE(memcmp(params.data(), reference.data(), params.size() * 4) == 0, threads, " threads");
    }
    omp_set_num_threads(before);
}

template <class S, class Config> void check_packing(const Config& config) {
    S small(config, 200);
    small.randomise(1);
    add_random_sequences(small.builder, LENGTHS, 101, 1);
    BatchBuilder all = small.builder;
    StepStats together{}, apart{};
    small.model.forward(small.batch(), &together);
    for (size_t s = 0; s < LENGTHS.size(); s++) {
        small.builder.clear();
        add_sequence(small.builder, all, s);
        small.model.forward(small.batch(), &apart);
    }
    CHECK(apart.loss == doctest::Approx(together.loss).epsilon(1e-6));
    CHECK(apart.correct == together.correct);
}

template <class S, class Config, class Compare> void check_accumulation(const Config& config, Compare compare) {
    S small(config, 200, 0.1f);
    small.randomise(1);
    add_random_sequences(small.builder, LENGTHS, 101, 1);
    BatchBuilder all = small.builder;
    std::vector<float> full = small.gradients(small.batch({5, 6, 0}));
    StepStats stats = *small.opt.stats;
    small.opt.zero_gradients();
    uint64_t token0 = 0;
    for (auto [from, to] : {std::pair<size_t, size_t>{0, 2}, {2, 6}}) {
        small.builder.clear();
        for (size_t s = from; s < to; s++) add_sequence(small.builder, all, s);
        small.model.forward_backward(small.batch({5, 6, token0}, (double)all.targets.size()), small.opt.stats);
        token0 += small.builder.tokens.size();
    }
    CHECK(small.opt.stats->loss == doctest::Approx(stats.loss).epsilon(1e-6));
    compare(small, std::vector<float>(small.opt.grads, small.opt.grads + small.opt.n), full);
    // and dropout does something: another step has another loss
    std::vector<float> other = small.gradients(small.batch({5, 7, 0}));
    CHECK(distance(other.data(), full.data(), full.size()) > 0.01);
}

template <class S, class Config, class Compare> void check_padding(const Config& config, Compare compare) {
    S small(config, 256);
    small.randomise(1);
    add_random_sequences(small.builder, LENGTHS, 101, 1);
    size_t targets = small.builder.targets.size();
    std::vector<float> bare = small.gradients(small.batch());
    StepStats stats = *small.opt.stats;
    small.builder.pad_multiple = small.builder.shape.N;
    small.builder.pad_id = 3;
    Batch b = small.batch({1, 2, 0}, (double)targets);
    CHECK((b.N == 256 && b.M == 128));
    compare(small, small.gradients(b), bare);
    CHECK(small.opt.stats->loss == doctest::Approx(stats.loss).epsilon(1e-6));
    CHECK(small.opt.stats->correct == stats.correct);
}

template <class S, class Config> void check_without_backward(const Config& config) {
    S small(config, 200);
    small.randomise(1);
    add_random_sequences(small.builder, LENGTHS, 101, 1);
    Batch b = small.batch();
    double loss = small.loss(b);
    auto lean = small.model;
    Memory memory;
    Arena arena = arena_for(memory, [&](Arena& a) { lean.plan_activations(a, false); });
    lean.plan_activations(arena, false);
    StepStats stats{};
    lean.forward(b, &stats);
    CHECK(stats.loss * *b.loss_scale == loss);
}

// What --recompute does not keep is computed again, with the same bits, in less memory.
template <class S, class Config> void check_recompute(const Config& config) {
    S small(config, 200, 0.1f);
    small.randomise(1);
    add_random_sequences(small.builder, LENGTHS, 101, 1);
    Batch b = small.batch();
    std::vector<areal> kept = small.gradients(b);
    StepStats stats = *small.opt.stats;
    auto again = small.model;
    again.recompute = true;
    Arena before, after;
    small.model.plan_activations(before, true);
    again.plan_activations(after, true);
    CHECK(after.used < before.used);
    Memory memory;
    Arena arena = arena_for(memory, [&](Arena& a) { again.plan_activations(a, true); });
    again.plan_activations(arena, true);
    small.opt.zero_gradients();
    again.forward_backward(b, small.opt.stats);
    CHECK(small.opt.stats->loss == stats.loss);
    CHECK(!memcmp(small.opt.grads, kept.data(), kept.size() * sizeof(areal)));
}
