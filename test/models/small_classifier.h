// small_classifier.h: a small classifier.
#pragma once
#include "finetune_cls.cu"
#include "test/models/small.h"

// A batch of random sequences of these lengths, every second one a pair, of classes 0, 1, ..., K − 1, 0, 1, ...
inline void add_random_examples(BatchBuilder& builder, const std::vector<int>& lengths, int V, int K, uint64_t seed) {
    for (size_t s = 0; s < lengths.size(); s++) {
        std::vector<int> tokens, types;
        for (int i = 0; i < lengths[s]; i++) {
            tokens.push_back((int)below(mix64(seed, s, i), V));
            types.push_back(s % 2 && i > lengths[s] / 3);
        }
        builder.add(tokens, types, {0}, {(int)s % K});
    }
}

struct SmallClassifier : Small<Classifier> {
    Memory weights;  // (K) of the classes, where they have any

    SmallClassifier(
        const BertConfig& config, int K, int N, float dropout = 0, const std::vector<double>& class_weights = {}) {
        model.K = K;
        model.bert.config = config;
        model.bert.dropout = dropout;
        model.bert.shape.N = model.bert.shape.M = N;
        if (!class_weights.empty()) {
            weights.resize(class_weights.size() * sizeof(double));
            model.class_weights = builder.weights = (double*)weights.data();
            std::copy(class_weights.begin(), class_weights.end(), (double*)weights.data());
        }
        allocate(
            model.bert.shape, config.T, [&](real* params, areal* grads) { return model.point(params, grads); },
            [&](Arena& arena) { model.plan_activations(arena, true); });
    }
    SmallClassifier(const SmallClassifier&) = delete;
    // Σ w l / Σ w of a batch, forward pass only
    double loss(const Batch& b) {
        StepStats stats{};
        model.forward(b);
        crossentropy(model.losses, model.correct, model.logits, b.targets, b.loss_scale, b.M, model.K, model.Kp(),
            false, model.class_weights);
        sum_losses(&stats, model.losses, model.correct, b.M);
        return stats.loss * *b.loss_scale;
    }
    // (M, K) as the last forward pass left them
    std::vector<real> logits(int M) const {
        std::vector<real> x;
        for (int m = 0; m < M; m++)
            x.insert(x.end(), model.logits + (size_t)m * model.Kp(), model.logits + (size_t)m * model.Kp() + model.K);
        return x;
    }
};
