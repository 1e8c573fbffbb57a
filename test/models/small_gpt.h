// small_gpt.h: a small decoder.
#pragma once
#include "test/models/small.h"
#include "train_gpt.cu"

struct SmallGpt : Small<Gpt> {
    GptConfig config;
    Generator generator;  // only with `slots`

    static GptConfig dimensions(int L, int C, int NH, int FF, int V, int T) {
        GptConfig c;
        c.L = L;
        c.C = C;
        c.NH = NH;
        c.FF = FF;
        c.V = V;
        c.T = T;
        c.eot = V - 1;
        return c;
    }
    SmallGpt(const GptConfig& config, int N, float dropout = 0, int slots = 0) : config(config) {
        model.config = config;
        model.dropout = dropout;
        model.shape.N = model.shape.M = N;
        auto point = [&](real* params, areal* grads) { return model.point(params, grads); };
        allocate(model.shape, config.T, point, [&](Arena& arena) {
            model.plan_activations(arena, true);
            if (!slots) return;
            arena.take(generator.block, model.shape.bytes());
            generator.plan(arena, model, slots, (int)config.T);
        });
    }
};
