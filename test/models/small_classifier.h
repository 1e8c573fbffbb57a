// small_classifier.h: a small classifier.
#pragma once
#include "finetune_cls.cu"
#include "test/models/small_bert.h"

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

struct SmallClassifier : SmallBert {
    Memory weights;  // (K) of the classes, where they have any

    SmallClassifier(const BertConfig& config, int K, int N, float dropout = 0,
        const std::vector<double>& class_weights = {}, const LoraFlags& lora = {}, bool recompute = false)
        : SmallBert(of_classes(config, K), N, dropout, recompute, lora) {
        if (class_weights.empty()) return;
        weights.resize(class_weights.size() * sizeof(double));
        model.class_weights = builder.weights = (double*)weights.data();
        std::copy(class_weights.begin(), class_weights.end(), (double*)weights.data());
    }
    static BertConfig of_classes(BertConfig config, int K) {
        config.classes = K;
        return config;
    }
    // Leaves the logits of a batch; logits() are those without their padding, (M, K)
    void forward(const Batch& b) {
        model.head_forward(b, model.encode(b));
        model.logits_forward(0, b.M);
    }
    std::vector<real> logits(int M) const {
        std::vector<real> x;
        for (int m = 0; m < M; m++) {
            const real* row = model.acts.logits + (size_t)m * model.Kp();
            x.insert(x.end(), row, row + model.K());
        }
        return x;
    }
};
