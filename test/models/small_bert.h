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
    SmallBert(const BertConfig& config, int N, float dropout = 0, bool recompute = false) : config(config) {
        model.recompute = recompute;
        model.config = config;
        model.dropout = dropout;
        model.shape.N = model.shape.M = N;
        auto point = [&](real* params, areal* grads) { return model.point(params, grads); };
        allocate(model.shape, config.T, point, [&](Arena& arena) { model.plan_activations(arena, true); });
    }
};

// of BERT and RoBERTa, or of DistilBERT
inline bool is_bias_of(const std::string& name, const char* part, const char* distil) {
    return ends_with(name, format("self.%s.bias", part)) || ends_with(name, format("%s_lin.bias", distil));
}
inline bool is_query_bias(const std::string& name) { return is_bias_of(name, "query", "q"); }
inline bool is_key_bias(const std::string& name) { return is_bias_of(name, "key", "k"); }
