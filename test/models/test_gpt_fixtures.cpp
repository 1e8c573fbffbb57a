// test_gpt_fixtures.cpp: the whole decoder against GPT2LMHeadModel, LlamaForCausalLM, Qwen2ForCausalLM,
// Qwen3ForCausalLM and SmolLM3ForCausalLM of transformers (test/fixtures/*_lm.safetensors, dev/fixtures.py): logits,
// loss, every gradient, parameters after AdamW steps. Built three times: in fp64, where storage as float32 (6e-8)
// allows a tolerance of 1e-6, in fp32 (1e-5), and in fp32 with -DSHIM: whole training steps of the kernels, on the CPU.
// Run from the top directory (or FIXTURES=DIR).
#include "train_gpt.cu"

#include "test/models/small_gpt.h"
#include "test/temp.h"
#include "test/tensors.h"

static constexpr bool fp64 = std::is_same_v<real, double>;
static constexpr double TOLERANCE = fp64 ? 1e-6 : 1e-5;  // of ‖ours − reference‖ / ‖reference‖, per tensor
static const char* const MODELS[] = {"gpt2_lm", "llama_lm", "qwen2_lm", "qwen3_lm", "smollm3_lm", "lora_lm"};

struct GptReference {
    SafeTensors file;
    SmallGpt gpt;
    std::vector<int> targets;

    explicit GptReference(const std::string& name)
        : file(format("%s/%s.safetensors", getenv("FIXTURES") ? getenv("FIXTURES") : "test/fixtures", name.c_str())),
          gpt(config(file), 55, 0, 0, lora(name)) {
        auto ints = [&](const char* name) { return read_tensor<int>(file, name, file.find(name)->shape); };
        std::vector<int> tokens = ints("tokens"), start = ints("seq_start"), rows = ints("rows");
        targets = ints("targets");
        for (size_t s = 0, m = 0; s + 1 < start.size(); s++) {
            int begin = start[s], end = start[s + 1];
            std::vector<int> positions, target;
            for (; m < rows.size() && rows[m] < end; m++) {
                positions.push_back(rows[m] - begin);
                target.push_back(targets[m]);
            }
            gpt.builder.add(
                {tokens.begin() + begin, tokens.begin() + end}, std::vector<int>(end - begin, 0), positions, target);
        }
        REQUIRE(gpt.builder.rows == rows);
        for (const ParamSpec& s : gpt.opt.table) {
            std::vector<real> values = read("param/", s);
            std::copy(values.begin(), values.end(), gpt.opt.params + s.offset);
        }
        if (name != "lora_lm") return;
        for (const ParamSpec& s : gpt.model.point(nullptr, nullptr)) {
            std::vector<real> values = read("base/", s);
            std::copy(values.begin(), values.end(), (real*)gpt.base.data() + s.offset);
        }
        gpt.model.point((real*)gpt.base.data(), nullptr);
    }
    static LoraFlags lora(const std::string& name) {
        LoraFlags f;
        f.r = name == "lora_lm" ? 3 : 0;
        f.alpha = 7;
        f.targets = "q_proj,v_proj,o_proj,up_proj,down_proj";
        return f;
    }
    std::vector<real> read(const std::string& name) const {
        REQUIRE_MESSAGE(file.find(name), name);
        return read_tensor<real>(file, name, file.find(name)->shape);
    }
    // a tensor of the table, in the order of our memory
    std::vector<real> read(const char* kind, const ParamSpec& s) const {
        std::vector<real> all;
        for (size_t i = 0; i < s.names.size(); i++) {
            std::vector<real> x = read(kind + s.names[i]), y = x;
            REQUIRE(x.size() == s.elements(i));
            if (s.transpose) transpose_copy(y.data(), x.data(), s.shape[0], s.shape[1]);
            all.insert(all.end(), y.begin(), y.end());
        }
        return all;
    }
    // what transformers wrote as config.json; the file of GPT-2 is older
    static GptConfig config(const SafeTensors& file) {
        const Json about = parse_json(file.metadata.find("about")->s, file.path);
        if (!about.find("config")) return SmallGpt::dimensions(2, 64, 2, 128, 61, 32);
        TempDir dir;
        write_file_atomic(dir / "config.json", about.find("config")->s);
        return read_gpt_config(dir.path);
    }
    // the optimiser of dev/fixtures.py
    static TrainFlags flags() {
        TrainFlags f;
        f.lr = 1e-3;
        f.schedule = "constant";
        f.warmup = 0;
        f.beta1 = 0.9;
        f.beta2 = 0.95;
        f.eps = 1e-8;
        f.weight_decay = 0.1;
        f.clip = 1;
        return f;
    }
};

TEST_SUITE("reference outputs of a decoder") {
    TEST_CASE("logits, loss and gradients are PyTorch's") {
        for (const char* name : MODELS) {
            CAPTURE(name);
            if (!device_is_host && name == std::string("lora_lm")) continue;  // there are no kernels for its heads of 8
            GptReference r(name);
            SmallGpt& gpt = r.gpt;
            const int M = (int)r.targets.size(), V = 61, Vp = gpt.model.Vp(), C = 64;
            Batch b = gpt.batch();
            gpt.model.decode(b);
            gpt.model.logits_forward(0, M);
            std::vector<real> logits = r.read("logits"), ours;
            REQUIRE(logits.size() == (size_t)M * V);
            for (int m = 0; m < M; m++)
                ours.insert(ours.end(), gpt.model.acts.logits + m * Vp, gpt.model.acts.logits + m * Vp + V);
            CHECK(distance(ours.data(), logits.data(), ours.size()) <= TOLERANCE);

            gpt.gradients(b);
            CHECK(gpt.opt.stats->loss * *b.loss_scale == doctest::Approx(r.read("loss")[0]).epsilon(TOLERANCE));
            double correct = 0;
            for (int m = 0; m < M; m++)
                correct += std::max_element(&logits[m * V], &logits[m * V] + V) - &logits[m * V] == r.targets[m];
            CHECK(gpt.opt.stats->correct == correct);
            for (const ParamSpec& s : gpt.opt.table) {
                std::vector<real> g = r.read("grad/", s);
                areal* o = gpt.opt.grads + s.offset;
                // of c_attn.bias the part of the keys is zero in exact arithmetic; what is left is rounding
                if (s.names[0].find("c_attn.bias") != std::string::npos) {
                    CHECK_MESSAGE(l2(o + C, C) <= TOLERANCE * l2(o, C), s.names[0]);
                    std::fill(o + C, o + 2 * C, 0);
                    std::fill(&g[C], &g[2 * C], 0);
                }
                CHECK_MESSAGE(distance(o, g.data(), g.size()) <= TOLERANCE, s.names[0]);
            }
        }
    }
    // fp32: AdamW's first steps go by the sign of each gradient, so that elements with a gradient of about zero may go
    // either way
    TEST_CASE("three training steps are PyTorch's" * doctest::skip(!fp64)) {
        for (const char* name : MODELS) {
            CAPTURE(name);
            GptReference r(name);
            r.gpt.opt.set_blocks(0.1, [](const ParamSpec&) { return 1.0f; });
            Batch b = r.gpt.batch();
            for (int step = 0; step < 3; step++) {
                r.gpt.gradients(b);
                update(r.gpt.opt, GptReference::flags(), step);
            }
            for (const ParamSpec& s : r.gpt.opt.table) {
                std::vector<real> after = r.read("after/", s);
                CHECK_MESSAGE(
                    distance(r.gpt.opt.params + s.offset, after.data(), after.size()) <= TOLERANCE, s.names[0]);
            }
        }
    }
}
