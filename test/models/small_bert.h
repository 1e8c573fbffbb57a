// small_bert.h: a small BERT.
#pragma once
#include "test/models/small.h"
#include "train_bert.cu"

struct SmallBert : Small<Bert> {
    BertConfig config;

    static BertConfig dimensions(int L, int C, int NH, int FF, int V, int T) {
        BertConfig c;
        c.L = L;
        c.C = C;
        c.NH = NH;
        c.FF = FF;
        c.V = V;
        c.T = T;
        return c;
    }
    SmallBert(const BertConfig& config, int N, float dropout = 0) : config(config) {
        model.config = config;
        model.dropout = dropout;
        model.shape.N = model.shape.M = N;
        auto point = [&](real* params, areal* grads) { return model.point(params, grads); };
        allocate(model.shape, config.T, point, [&](Arena& arena) { model.plan_activations(arena, true); });
    }
};

inline bool is_key_bias(const std::string& name) { return name.find("self.key.bias") != std::string::npos; }
