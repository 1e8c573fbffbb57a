// test_gpt_gradients.cpp: the loss of the whole decoder, differentiated numerically in double by every parameter
// tensor. Build with -DPRECISION_FP64. The ops are in test_gradients.cpp.
#include "train_gpt.cu"

#include "test/models/check_gradient.h"
#include "test/models/small_gpt.h"

TEST_SUITE("gradients of the decoder") {
    static void check_model(const GptConfig& config, float dropout, const LoraFlags& lora = {}) {
        CAPTURE(config.type);
        CAPTURE(config.L);
        CAPTURE(dropout);
        const int C = (int)config.C;
        SmallGpt gpt(config, 40, dropout, 0, lora);
        gpt.randomise(1, lora.r ? 0.5 : 0.15);
        gpt.model.logits_chunk_rows = 5;  // the vocabulary in several chunks of rows, the last one smaller
        add_random_sequences(gpt.builder, {12, 1, 7, 3, 12}, 37, 2);
        REQUIRE(gpt.builder.targets.size() % 5 != 0);
        REQUIRE(gpt.builder.targets.size() > 5);
        Batch b = gpt.batch({3, 4, 5});
        check_model_gradients(gpt, b, [&](const std::string& name, size_t at, size_t n, const Numbers& g) {
            auto check = [&](const std::string& part, size_t from, size_t count) {
                check_gradient(part, gpt.opt.params + from, &g[from], count, [&] { return gpt.loss(b); }, 48);
            };
            if (name.find("c_attn.bias") == std::string::npos) return check(name, at, n);
            check(name + ", queries", at, C);
            // the bias of the keys adds the same to all scores of a query: its gradient is zero in exact arithmetic
            CHECK_MESSAGE(l2(&g[at + C], C) <= 1e-6 * l2(&g[at], C), name);
            check(name + ", values", at + 2 * C, C);
        });
    }
    static GptConfig gpt2(int L) { return SmallGpt::dimensions(L, 16, 2, 24, 37, 12); }
    TEST_CASE("loss of a decoder by every parameter tensor") {
        check_model(gpt2(1), 0);
        check_model(gpt2(3), 0);
    }
    TEST_CASE("loss of a decoder by every parameter tensor, dropout 0.1") {
        check_model(gpt2(1), 0.1f);
        check_model(gpt2(2), 0.1f);
    }
    // adapters on all matrices, on some parts of them, and on a GPT-2, whose activations are then not fused; with
    // dropout of what they read
    TEST_CASE("loss of frozen models by every adapter") {
        for (const char* targets : {"all", "attention", "q_proj,v_proj,up_proj"})
            for (float dropout : {0.0f, 0.2f}) {
                LoraFlags lora;
                lora.r = 3;
                lora.alpha = 5;
                lora.targets = targets;
                check_model(SmallGpt::llama("qwen3", 2, 16, 4, 2, 6, 20, 37, 12), dropout, lora);
            }
        LoraFlags lora;
        lora.r = 2;
        check_model(gpt2(2), 0.2f, lora);
        lora.targets = "c_proj";
        check_model(gpt2(2), 0, lora);
    }
    // four heads of 6 channels, wider together than the model's 16, in two groups; one layer and several
    TEST_CASE("loss of the models of Llama's kind by every parameter tensor") {
        for (auto t : GPT_TYPES) {
            if (std::string(t.first) == "gpt2") continue;
            check_model(SmallGpt::llama(t.first, 1, 16, 4, 2, 6, 20, 37, 12), 0);
            check_model(SmallGpt::llama(t.first, 3, 16, 4, 2, 6, 20, 37, 12), 0.1f);
        }
    }
}
