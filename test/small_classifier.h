// small_classifier.h: a classifier with all its memory, small enough to look at every element. Include after ../finetune_cls.cu and small_bert.h.
#pragma once

// A batch of random sequences of these lengths, every second one a pair, of classes 0, 1, ..., K − 1, 0, 1, ...
inline void add_random_examples(BatchBuilder& builder, const std::vector<int>& lengths, int V, int K, uint64_t seed) {
    for (size_t s = 0; s < lengths.size(); s++) {
        std::vector<int> tokens, types;
        for (int i = 0; i < lengths[s]; i++) tokens.push_back((int)below(mix64(seed, s, i), V)), types.push_back(s % 2 && i > lengths[s] / 3);
        builder.add(tokens, types, {0}, {(int)s % K});
    }
}
// Sequences [from, to) of a builder, put into another one
inline void add_sequences(BatchBuilder& to_builder, const BatchBuilder& all, size_t from, size_t to) {
    for (size_t s = from; s < to; s++)
        to_builder.add({all.tokens.begin() + all.start[s], all.tokens.begin() + all.start[s + 1]}, {all.types.begin() + all.start[s], all.types.begin() + all.start[s + 1]}, {0},
                       {all.targets[s]});
}

struct SmallClassifier {
    Classifier model;
    Optimizer opt;
    BatchBuilder builder;
    std::vector<double> weights;  // (K) of the classes; empty: none
    std::vector<char> host, memory;

    SmallClassifier(const BertConfig& config, int K, int N, float dropout = 0, const std::vector<double>& class_weights = {}) : weights(class_weights) {
        model.K = K, model.bert.config = config, model.bert.dropout = dropout;
        model.bert.shape.N = model.bert.shape.M = N;
        builder.shape = model.bert.shape, builder.pad_length = (int)config.T;
        if (!weights.empty()) model.class_weights = builder.weights = weights.data();
        opt.table = model.point(nullptr, nullptr);
        opt.n = total_count(opt.table);
        auto plan = [&](Arena& arena) {
            opt.plan(arena);
            model.plan_activations(arena, true);
        };
        Arena measure;
        plan(measure);
        memory.resize(measure.used + 256);
        Arena arena((void*)round_up((size_t)memory.data(), 256));
        plan(arena);
        model.point(opt.params, opt.grads);
        host.resize(model.bert.shape.plan(nullptr, nullptr));
        opt.set_blocks(0.01, [](const Spec&) { return 1.0f; });
    }
    SmallClassifier(const SmallClassifier&) = delete;
    // What the builder holds, as a batch of a step whose weights add up to `weight` (0: the batch's own)
    Batch batch(StepCounters counters = {1, 2, 0}, double weight = 0) { return builder.finish(host.data(), counters, 1 / (weight ? weight : builder.weight())); }
    // Σ w l / Σ w of a batch, forward pass only
    double loss(const Batch& b) {
        StepStats stats{};
        model.forward(b);
        crossentropy(model.losses, model.correct, model.logits, b.targets, b.inverse_targets, b.M, model.K, model.Kp(), false, model.class_weights);
        sum_losses(&stats, model.losses, model.correct, b.M);
        return stats.loss * *b.inverse_targets;
    }
    // Zeroes the gradients and makes them anew.
    std::vector<areal> gradients(const Batch& b) {
        opt.zero_gradients();
        model.forward_backward(b, opt.stats);
        return {opt.grads, opt.grads + opt.n};
    }
    // (M, K) as the last forward pass left them
    std::vector<real> logits(int M) const {
        std::vector<real> x;
        for (int m = 0; m < M; m++) x.insert(x.end(), model.logits + (size_t)m * model.Kp(), model.logits + (size_t)m * model.Kp() + model.K);
        return x;
    }
};
