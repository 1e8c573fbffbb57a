// small_bert.h: a BERT with all its memory, small enough to look at every element. Include after ../train_bert.cu.
#pragma once
#include "small.h"

struct SmallBert {
    BertConfig config;
    Bert model;
    Optimizer opt;
    BatchBuilder builder;
    std::vector<char> host, memory;

    static BertConfig dimensions(int L, int C, int NH, int FF, int V, int T) {
        BertConfig c;
        c.L = L, c.C = C, c.NH = NH, c.FF = FF, c.V = V, c.T = T;
        return c;
    }
    SmallBert(const BertConfig& config, int N, float dropout = 0) : config(config) {
        model.config = config, model.dropout = dropout;
        model.shape.N = model.shape.M = N;
        builder.shape = model.shape, builder.pad_length = (int)config.T;
        opt.table = bert_table(model.params, config, (real*)nullptr);
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
        bert_table(model.params, config, opt.params);
        bert_table(model.grads, config, opt.grads);
        host.resize(model.shape.plan(nullptr, nullptr));
        opt.set_blocks(0.01, [](const Spec&) { return 1.0f; });
    }
    void randomise(uint64_t seed, double std = 0.15) { ::randomise(opt, seed, std); }
    // What the builder holds, as a batch of a step of `targets` targets (0: the batch's own)
    Batch batch(StepCounters counters = {1, 2, 0}, size_t targets = 0) {
        return builder.finish(host.data(), counters, 1.0 / (double)(targets ? targets : builder.targets.size()));
    }
    // mean loss of a batch, forward pass only
    double loss(const Batch& b) {
        StepStats stats{};
        model.forward(b, &stats);
        return stats.loss * *b.inverse_targets;
    }
};

inline bool is_key_bias(const std::string& name) { return name.find("self.key.bias") != std::string::npos; }
