// small_gpt.h: a small decoder.
#pragma once
#include "test/models/small.h"
#include "train_gpt.cu"

struct SmallGpt : Small<Gpt> {
    GptConfig config;
    Generator generator;  // only with `slots`
    LoraTable adapters;   // only with LoraFlags
    Memory base;          // (total_count) of the model, which is then frozen

    static GptConfig dimensions(int L, int C, int NH, int FF, int V, int T) {
        GptConfig c;
        c.L = L;
        c.C = C;
        c.NH = c.NKV = NH;
        c.HS = C / NH;
        c.FF = FF;
        c.V = V;
        c.T = T;
        c.eot = V - 1;
        return c;
    }
    // One of Llama's kind with what can differ from a GPT-2: fewer heads of keys and values, heads that are wider
    // together than the model. `type`: "llama" (scaled RoPE, an output matrix of its own), "qwen2", "qwen3" or
    // "smollm3"
    static GptConfig llama(const std::string& type, int L, int C, int NH, int NKV, int HS, int FF, int V, int T) {
        GptConfig c = dimensions(L, C, NH, FF, V, T);
        c.NKV = NKV;
        c.HS = HS;
        c.type = type;
        c.llama = true;
        c.qkv_bias = type == "qwen2";
        c.qk_norm = type == "qwen3";
        c.tied = type != "llama";
        if (type == "llama") c.rope = {100, 8, 1, 4, 32};
        if (type == "smollm3") c.no_rope = {L - 1};
        return c;
    }
    // lora.r > 0: the parameters that are trained, opt's, are those of adapters; the model's lie in `base`, random
    SmallGpt(const GptConfig& config, int N, float dropout = 0, int slots = 0, const LoraFlags& lora = {})
        : config(config) {
        model.config = config;
        model.dropout = dropout;
        model.shape.N = model.shape.M = N;
        auto point = [&, lora](real* params, areal* grads) {
            if (lora.r == 0) return model.point(params, grads);
            const std::vector<ParamSpec> table = model.point(nullptr, nullptr);
            real* frozen = frozen_parameters(base, table);
            adapters = LoraTable(table, lora);
            model.linear.point(adapters, table, frozen, params, grads);
            model.point(frozen, nullptr);
            return adapters.rows;
        };
        allocate(model.shape, config.T, point, [&](Arena& arena) {
            model.plan_activations(arena, true);
            if (!slots) return;
            arena.take(generator.block, model.shape.bytes());
            generator.plan(arena, model, slots, (int)config.T);
        });
    }
};
