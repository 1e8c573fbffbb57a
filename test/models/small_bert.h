// small_bert.h: a small BERT.
#pragma once
#include "test/models/small.h"
#include "train_bert.cu"

struct SmallBert : Small<Bert> {
    BertConfig config;
    LoraTable adapters;  // only with LoraFlags
    Memory base;

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
    // lora.r > 0: the parameters that are trained, opt's, are those of adapters and of the head; the model's lie in
    // `base`, random
    SmallBert(const BertConfig& config, int N, float dropout = 0, bool recompute = false, const LoraFlags& lora = {})
        : config(config) {
        model.frozen = lora.r ? 0 : -1;
        model.recompute = recompute;
        model.config = config;
        model.dropout = dropout;
        model.shape.N = model.shape.M = N;
        auto point = [&, lora](real* params, areal* grads) {
            if (lora.r == 0) return model.point(params, grads);
            const std::vector<ParamSpec> table = model.point(nullptr, nullptr);
            real* frozen = frozen_parameters(base, table);
            adapters = LoraTable(table, lora, config.L);
            model.linear.point(adapters, table, frozen, params, grads);
            if (params) model.point(frozen, nullptr, params + adapters.head_offset, grads + adapters.head_offset);
            return adapters.rows;
        };
        allocate(model.shape, config.T, point, [&](Arena& arena) { model.plan_activations(arena, true); });
    }
};

// of BERT and RoBERTa, or of DistilBERT
inline bool is_bias_of(const std::string& name, const char* part, const char* distil) {
    return ends_with(name, format("self.%s.bias", part)) || ends_with(name, format("%s_lin.bias", distil));
}
inline bool is_query_bias(const std::string& name) { return is_bias_of(name, "query", "q"); }
inline bool is_key_bias(const std::string& name) { return is_bias_of(name, "key", "k"); }
