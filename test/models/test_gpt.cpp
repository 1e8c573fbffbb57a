// test_gpt.cpp: the decoder's properties, in fp32: windows of text, threads, batches, and generation.
#include "train_gpt.cu"

#include "data/bin_writer.h"
#include "test/models/same_sums.h"
#include "test/models/small_gpt.h"
#include "test/temp.h"
#include "test/tensors.h"

#include <set>

typedef std::vector<float> Floats;

// ---------------------------------------------------------------- windows of text
// documents of these lengths; every token is its own number
struct Documents {
    TempDir dir;
    std::string path = dir / "x.bin";
    std::vector<std::vector<int>> text;
    int eot = 0, bos;
    explicit Documents(const std::vector<int>& lengths) {
        int id = 1;
        for (int n : lengths) {
            text.emplace_back();
            for (int i = 0; i < n; i++) text.back().push_back(id++);
        }
        bos = id++;
        BinWriter out(path, BIN_TEXT, id, 7);
        for (auto& t : text) {
            out.append(t.data(), t.size());
            out.end_sequence();
        }
        out.finish();
    }
};

TEST_SUITE("windows of text") {
    TEST_CASE("every epoch holds every target of every document once, with the token before it, whatever the offsets") {
        const int T = 7;
        Documents docs({1, 5, 6, 7, 0, 8, 30, 13,
            14});  // with <|endoftext|> 2 … 31 tokens; one that is empty has nothing to learn
        BinFile file(docs.path);
        for (bool draw : {false, true}) {
            CAPTURE(draw);
            CausalLmData data(file, T, docs.eot, docs.bos);
            data.draw_offsets = draw;
            data.seed = 3;
            std::set<std::vector<int>> cuts;
            for (uint64_t epoch = 0; epoch < 20; epoch++) {
                std::vector<std::vector<int>> seen(docs.text.size());  // targets, document by document
                std::vector<int> lengths;
                for (uint64_t d = 0, q = 0; d < docs.text.size(); d++)
                    for (; q < data.first[d + 1]; q++) {
                        data.make(epoch, q);
                        REQUIRE(data.tokens.size() <= (size_t)T);
                        REQUIRE(
                            (data.targets.size() == data.tokens.size() && data.positions.size() == data.tokens.size() &&
                                data.types.size() == data.tokens.size()));
                        lengths.push_back((int)data.tokens.size());
                        for (size_t i = 0; i < data.tokens.size(); i++) {
                            CHECK(data.positions[i] == (int)i);
                            CHECK(data.tokens[i] == (seen[d].empty() ? docs.bos : seen[d].back()));
                            seen[d].push_back(data.targets[i]);
                        }
                    }
                for (size_t d = 0; d < docs.text.size(); d++) {
                    std::vector<int> expected = docs.text[d];
                    if (!expected.empty()) expected.push_back(docs.eot);
                    CHECK(seen[d] == expected);
                }
                cuts.insert(lengths);
            }
            CHECK((draw ? cuts.size() > 15 : cuts.size() == 1));
        }
    }
    TEST_CASE("batches are the same from any point on, and no batch holds an empty window") {
        Documents docs({3, 20, 50, 9, 17});
        BinFile file(docs.path);
        CausalLmData data(file, 8, docs.eot, docs.bos);
        data.draw_offsets = true;
        data.seed = 1;
        auto batches = [&](Cursor cursor, int n) {
            std::vector<std::vector<int>> all;
            for (int i = 0; i < n; i++) {
                BatchBuilder b;
                b.shape.N = b.shape.M = 24;
                fill_batch(b, data, cursor, 5, true);
                for (size_t s = 0; s + 1 < b.start.size(); s++) CHECK(b.start[s] < b.start[s + 1]);
                CHECK(b.rows.size() == b.tokens.size());
                all.push_back(b.tokens);
            }
            return all;
        };
        Cursor from;
        BatchBuilder b;
        b.shape.N = b.shape.M = 24;
        for (int i = 0; i < 7; i++) fill_batch(b, data, from, 5, true);
        auto all = batches(Cursor(), 12), rest = batches(from, 5);
        CHECK(std::vector<std::vector<int>>(all.begin() + 7, all.end()) == rest);
    }
}

// ---------------------------------------------------------------- the whole model
static const auto SIZE = SmallGpt::dimensions(2, 64, 2, 128, 101, 40);
static const GptConfig MODELS[] = {SIZE, SmallGpt::llama("llama", 2, 64, 4, 2, 24, 96, 101, 40),
    SmallGpt::llama("qwen2", 2, 64, 4, 1, 24, 96, 101, 40), SmallGpt::llama("qwen3", 2, 64, 6, 3, 24, 96, 101, 40),
    SmallGpt::llama("smollm3", 3, 64, 4, 2, 24, 96, 101, 40)};
template <class Check> static void for_each_model(Check check) {
    for (const GptConfig& config : MODELS) {
        CAPTURE(config.type);
        check(config);
    }
}

// Gradients of two ways to the same sum. 1e-5: the tolerance of fp32 against PyTorch. Of c_attn.bias the part of the
// keys is zero but for rounding.
static void compare(const SmallGpt& gpt, const Floats& a, const Floats& b) {
    size_t C = gpt.config.C;
    for_each_tensor(gpt.opt.table, [&](const std::string& name, size_t at, size_t n) {
        if (name.find("c_attn.bias") == std::string::npos) {
            CHECK_MESSAGE(distance(&a[at], &b[at], n) <= 1e-5, name);
        } else {
            CHECK_MESSAGE(distance(&a[at], &b[at], C) <= 1e-5, name);
            CHECK_MESSAGE(distance(&a[at + 2 * C], &b[at + 2 * C], C) <= 1e-5, name);
        }
    });
}

TEST_SUITE("the decoder in fp32") {
    TEST_CASE("1, 2 and 3 threads give the same bits, three steps of training") {
        for_each_model([](auto& c) { check_threads<SmallGpt>(c); });
    }
    TEST_CASE("a packed batch gives the loss of its sequences one by one") {
        for_each_model([](auto& c) { check_packing<SmallGpt>(c); });
    }
    TEST_CASE("a token knows nothing of those after it") {
        for_each_model([](auto& c) {
            SmallGpt gpt(c, 40);
            gpt.randomise(1);
            std::vector<int> tokens, all(40), targets(40, 1);
            for (int i = 0; i < 40; i++) {
                tokens.push_back((int)below(mix64(1, i), 101));
                all[i] = i;
            }
            auto outputs = [&] {
                gpt.builder.clear();
                gpt.builder.add(tokens, std::vector<int>(40, 0), all, targets);
                real* out = gpt.model.decode(gpt.batch());
                return Floats(out, out + 40 * 64);
            };
            Floats a = outputs();
            tokens[25] = (tokens[25] + 1) % 101;
            Floats b = outputs();
            CHECK(memcmp(a.data(), b.data(), 25 * 64 * sizeof(float)) == 0);
            CHECK(distance(&a[25 * 64], &b[25 * 64], 64) > 1e-3);
            CHECK(distance(&a[39 * 64], &b[39 * 64], 64) > 1e-4);
        });
    }
    TEST_CASE("RoPE: scores depend on distances, and a layer without it knows the order by the mask alone") {
        SmallGpt gpt(SmallGpt::llama("llama", 1, 64, 4, 2, 24, 96, 101, 40), 80);
        gpt.randomise(1);
        std::vector<int> tokens = {5, 9, 7, 33, 2, 9};
        auto last_output = [&] {
            gpt.builder.clear();
            gpt.builder.add(tokens, std::vector<int>(6, 0), {5}, {1});
            real* out = gpt.model.decode(gpt.batch());
            return Floats(out, out + 64);
        };
        Floats a = last_output();
        std::swap(tokens[1], tokens[3]);  // the same keys in another order
        CHECK(distance(last_output().data(), a.data(), 64) > 1e-3);
        gpt.model.config.no_rope = {0};
        Floats b = last_output();
        std::swap(tokens[1], tokens[3]);
        CHECK(distance(last_output().data(), b.data(), 64) < 1e-6);
    }
    TEST_CASE("accumulation over micro-batches is the full batch, dropout included") {
        for_each_model([](auto& c) { check_accumulation<SmallGpt>(c, compare); });
    }
    // for devices that want few shapes
    TEST_CASE("padding changes neither loss nor gradients") {
        for_each_model([](auto& c) { check_padding<SmallGpt>(c, compare); });
    }
    TEST_CASE("without a backward pass the layers share buffers, and the loss is the same") {
        for_each_model([](auto& c) { check_without_backward<SmallGpt>(c); });
    }
    TEST_CASE("--recompute gives the same bits in less memory") {
        for_each_model([](auto& c) { check_recompute<SmallGpt>(c); });
    }
    TEST_CASE("initial values: the matrices that write into the residual stream begin smaller") {
        for (const GptConfig& c :
            {SmallGpt::dimensions(8, 64, 2, 256, 101, 40), SmallGpt::llama("llama", 8, 64, 4, 2, 24, 256, 101, 40)}) {
            GptTensors<real> t;
            std::vector<ParamSpec> table = gpt_table(t, c, (real*)nullptr);
            std::vector<areal> values = initial_values(table, total_count(table), 1);
            for_each_tensor(table, [&](const std::string& name, size_t at, size_t n) {
                double std = l2(&values[at], n) / sqrt((double)n);
                auto ends = [&](const char* end) { return name.find(end) != name.npos; };
                bool residual = ends("c_proj.weight") || ends("o_proj.weight") || ends("down_proj.weight");
                bool norm = ends("norm.weight") || ends("ln_1.weight") || ends("ln_2.weight") || ends("ln_f.weight");
                double expected = ends(".bias") ? 0 : norm ? 1 : residual ? 0.02 / 4 : 0.02;
                CHECK_MESSAGE(fabs(std - expected) <= 0.05 * expected,
                    name);  // 2560 numbers and more: 1.4 % is one standard deviation
            });
        }
    }
    TEST_CASE("a checkpoint holds queries, keys, values, gate and up apart, and gives every bit back; also in shards") {
        for_each_model([](auto& c) {
            TempDir dir;
            SmallGpt gpt(c, 40), other(c, 40);
            gpt.randomise(1);
            gpt.opt.save(dir.path);
            other.opt.load(dir.path);
            CHECK(memcmp(gpt.opt.params, other.opt.params, gpt.opt.n * sizeof(real)) == 0);
            if (!c.llama) return;
            SafeTensors file(dir / "model.safetensors");
            const size_t Q = c.NH * c.HS, KV = c.NKV * c.HS;
            std::string layer = "model.layers.1.";
            auto shape = [&](const std::string& name) { return file.find(layer + name)->shape; };
            CHECK(shape("self_attn.q_proj.weight") == std::vector<size_t>{Q, 64});
            CHECK(shape("self_attn.k_proj.weight") == std::vector<size_t>{KV, 64});
            CHECK(shape("self_attn.v_proj.weight") == std::vector<size_t>{KV, 64});
            CHECK(shape("self_attn.o_proj.weight") == std::vector<size_t>{64, Q});
            CHECK(shape("mlp.up_proj.weight") == std::vector<size_t>{96, 64});
            CHECK((file.find("lm_head.weight") != nullptr) == !c.tied);
            CHECK((file.find(layer + "self_attn.v_proj.bias") != nullptr) == c.qkv_bias);
            std::vector<float> v = read_tensor<float>(file, layer + "self_attn.v_proj.weight", {KV, 64});
            CHECK(memcmp(v.data(), gpt.model.params.layer[1].qkvw + (Q + KV) * 64, v.size() * 4) == 0);

            TempDir sharded;  // every second tensor in the second file
            Json map = Json::make_object();
            std::vector<TensorToWrite> shard[2];
            std::vector<std::vector<float>> values;
            for (const TensorInfo& t : file.tensors) values.push_back(read_tensor<float>(file, t.name, t.shape));
            for (size_t i = 0; i < file.tensors.size(); i++) {
                shard[i % 2].push_back({file.tensors[i].name, "F32", file.tensors[i].shape, values[i].data()});
                map.set(file.tensors[i].name, i % 2 ? "b.safetensors" : "a.safetensors");
            }
            write_safetensors(sharded / "a.safetensors", shard[0]);
            write_safetensors(sharded / "b.safetensors", shard[1]);
            write_bytes(sharded / "model.safetensors.index.json", dump_json(Json().set("weight_map", map)));
            std::fill(other.opt.params, other.opt.params + other.opt.n, NAN);
            other.opt.load(sharded.path);
            CHECK(memcmp(gpt.opt.params, other.opt.params, gpt.opt.n * sizeof(real)) == 0);
        });
    }
}

// ---------------------------------------------------------------- generation
// What decode() alone says comes next, with all that was there before computed again for every token
static Answer slow_greedy(SmallGpt& gpt, std::vector<int> text, int64_t max_new) {
    Answer a;
    const int V = (int)gpt.config.V;
    for (a.stop = Stop::length; (int64_t)a.tokens.size() < max_new;) {
        if ((int64_t)text.size() > gpt.config.T) {
            a.stop = Stop::context;
            break;
        }
        gpt.builder.clear();
        gpt.builder.add(text, std::vector<int>(text.size(), 0), {(int)text.size() - 1}, {0});
        gpt.model.decode(gpt.batch());
        gpt.model.logits_forward(0, 1);
        int next = (int)(std::max_element(gpt.model.acts.logits, gpt.model.acts.logits + V) - gpt.model.acts.logits);
        if (next == gpt.config.eot) {
            a.stop = Stop::end;
            break;
        }
        a.tokens.push_back(next);
        text.push_back(next);
    }
    return a;
}
static std::vector<std::vector<int>> some_prompts(const std::vector<int>& lengths, int V) {
    std::vector<std::vector<int>> prompts;
    for (int n : lengths) {
        prompts.emplace_back();
        for (int i = 0; i < n; i++) prompts.back().push_back((int)below(mix64(9, prompts.size(), i), V));
    }
    return prompts;
}
static Sampler greedy() {
    Sampler s;
    s.temperature = 0;
    return s;
}

TEST_SUITE("generation") {
    TEST_CASE(
        "greedy with the cache is greedy without it, token for token: ragged prompts, more than there are slots, until "
        "the context is full") {
        auto prompts = some_prompts({1, 40, 17, 3, 39, 8, 25, 1, 2, 12}, 101);
        for_each_model([&](auto& c) {
            for (int slots : c.llama ? std::vector<int>{3} : std::vector<int>{1, 3, 10}) {
                CAPTURE(slots);
                SmallGpt gpt(c, 64, 0.1f, slots);  // dropout, which generation leaves out
                gpt.randomise(1);
                std::vector<Answer> fast = gpt.generator.generate(prompts, 30, greedy());
                gpt.model.dropout = 0;
                int stops[4] = {};
                for (size_t i = 0; i < prompts.size(); i++) {
                    CAPTURE(i);
                    Answer slow = slow_greedy(gpt, prompts[i], 30);
                    CHECK(fast[i].tokens == slow.tokens);
                    CHECK(fast[i].stop == slow.stop);
                    stops[(int)fast[i].stop]++;
                }
                CHECK(stops[(int)Stop::length] > 0);
                CHECK(stops[(int)Stop::context] > 0);
            }
        });
    }
    TEST_CASE("matrices that are kept as bf16 give the texts and logits of the same model with rounded matrices") {
        if (!device_is_host) return;
        auto prompts = some_prompts({1, 40, 17, 3, 39, 8}, 101);
        for_each_model([&](auto& c) {
            SmallGpt rounded(c, 64, 0, 3), packed(c, 64, 0, 3);
            rounded.randomise(1);
            const std::vector<real> values(rounded.opt.params, rounded.opt.params + rounded.opt.n);
            for (const ParamSpec& s : rounded.opt.table)
                for (size_t i = 0; s.shape.size() == 2 && i < s.count; i++)
                    rounded.opt.params[s.offset + i] = (real)(float)bf16((float)values[s.offset + i]);
            packed.model.config.bf16_matrices = packed.model.linear.bf16_weights = true;
            const std::vector<ParamSpec> table = packed.model.point(packed.opt.params, nullptr);
            const std::vector<real> halves = pack_bf16(rounded.opt.table, table, values);
            CHECK((double)halves.size() < 0.75 * (double)values.size());
            std::copy(halves.begin(), halves.end(), packed.opt.params);
            std::vector<Answer> a = rounded.generator.generate(prompts, 20, greedy()),
                                b = packed.generator.generate(prompts, 20, greedy());
            for (size_t i = 0; i < prompts.size(); i++) CHECK(a[i].tokens == b[i].tokens);
            // long prompts went through a BLAS, once by rows and once by columns
            const std::vector<real>&x = rounded.generator.host_logits, &y = packed.generator.host_logits;
            CHECK(distance(x.data(), y.data(), x.size()) < 1e-5);
            CHECK(distance(rounded.opt.params, values.data(), values.size()) > 1e-4);
        });
    }
    TEST_CASE("every id of the list that config and generation_config.json give ends a text") {
        SmallGpt gpt(MODELS[1], 64, 0, 2);
        gpt.randomise(1);
        auto prompts = some_prompts({5, 9, 2, 30, 11}, 101);
        const std::vector<int> text = gpt.generator.generate(prompts, 6, greedy())[2].tokens;
        gpt.model.config.stops = {100, text[3]};
        Answer a = gpt.generator.generate(prompts, 6, greedy())[2];
        CHECK(a.stop == Stop::end);
        CHECK(a.tokens == std::vector<int>(text.begin(), std::find(text.begin(), text.end(), text[3])));
    }
    TEST_CASE("<|endoftext|> ends a text and makes room for the next one") {
        SmallGpt gpt(SIZE, 64, 0, 2);
        gpt.randomise(1);
        auto prompts = some_prompts({5, 9, 2, 30, 11}, 101);
        // the token that some text has after a few others becomes <|endoftext|>
        gpt.model.config.eot = gpt.config.eot = slow_greedy(gpt, prompts[2], 6).tokens.back();
        std::vector<Answer> fast = gpt.generator.generate(prompts, 20, greedy());
        int ended = 0;
        for (size_t i = 0; i < prompts.size(); i++) {
            Answer slow = slow_greedy(gpt, prompts[i], 20);
            CHECK(fast[i].tokens == slow.tokens);
            CHECK(fast[i].stop == slow.stop);
            ended += fast[i].stop == Stop::end;
        }
        CHECK(ended >= 1);
        CHECK(fast[2].tokens.size() < 6);
    }
    TEST_CASE("what is drawn depends on seed, prompt and position, and not on the batch") {
        auto prompts = some_prompts({4, 4, 30, 12, 7}, 101);
        prompts[1] = prompts[0];
        Sampler s;
        s.temperature = 0.7;
        s.top_k = 20;
        s.top_p = 0.9;
        s.seed = 5;
        std::vector<std::vector<int>> first;
        for (int slots : {1, 2, 5}) {
            SmallGpt gpt(SIZE, 64, 0, slots);
            gpt.randomise(1, 0.08);
            std::vector<std::vector<int>> texts;
            for (const Answer& a : gpt.generator.generate(prompts, 10, s)) texts.push_back(a.tokens);
            if (slots == 1) first = texts;
            CHECK(texts == first);
            CHECK(texts[0] != texts[1]);  // the same prompt, another place in the list
            Sampler other = s;
            other.seed = 6;
            CHECK(gpt.generator.generate(prompts, 10, other)[0].tokens != first[0]);
        }
    }
    TEST_CASE("every position has a draw of its own") {
        SmallGpt gpt(SIZE, 64, 0, 1);
        gpt.randomise(1, 0.08);
        Sampler s;
        s.temperature = 100;  // all 101 tokens are about as likely: one draw for all positions would give one token
        std::vector<int> text = gpt.generator.generate(some_prompts({4}, 101), 30, s)[0].tokens;
        CHECK(std::set<int>(text.begin(), text.end()).size() > text.size() / 2);
        CHECK(text.size() > 1);
    }
    TEST_CASE("tokens that the tokenizer does not know are never drawn") {
        SmallGpt gpt(SIZE, 64, 0, 2);
        gpt.randomise(1, 0.08);
        Sampler s;
        s.temperature = 3;
        auto largest = [&] {
            int most = 0;
            for (const Answer& a : gpt.generator.generate(some_prompts({4, 9, 2}, 50), 30, s))
                for (int t : a.tokens) most = std::max(most, t);
            return most;
        };
        CHECK(largest() >= 60);  // of 101
        gpt.generator.vocab_limit = 60;
        CHECK(largest() < 60);
    }
    TEST_CASE("every token is announced, and who listens may end it all") {
        SmallGpt gpt(SIZE, 64, 0, 2);
        gpt.randomise(1);
        auto prompts = some_prompts({5, 9, 2}, 101);
        std::vector<std::vector<int>> heard(3);
        auto answers = gpt.generator.generate(prompts, 8, greedy(), [&](size_t i, int t) {
            heard[i].push_back(t);
            return true;
        });
        for (int i = 0; i < 3; i++) CHECK(heard[i] == answers[i].tokens);
        int n = 0;
        auto cut = gpt.generator.generate(prompts, 8, greedy(), [&](size_t, int) { return ++n < 6; });
        size_t total = 0;
        for (auto& a : cut) total += a.tokens.size();
        CHECK(total == 6);
        CHECK(cut[2].stop == Stop::interrupted);
        CHECK_THROWS_AS(gpt.generator.generate({{}}, 8, greedy()), Error);
        CHECK_THROWS_AS(gpt.generator.generate({std::vector<int>(41, 1)}, 8, greedy()), Error);
    }
    TEST_CASE("samplers: shares of the draws, top k, top p") {
        const int V = 300, n = 20000;
        Floats logits = random_numbers<float>(V, 3, 1.5);
        std::vector<int> order(V);
        for (int v = 0; v < V; v++) order[v] = v;
        std::sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
        auto check = [&](double temperature, int64_t top_k, double top_p) {
            CAPTURE(temperature);
            CAPTURE(top_k);
            CAPTURE(top_p);
            Sampler s;
            s.temperature = temperature;
            s.top_k = top_k;
            s.top_p = top_p;
            s.seed = 2;
            std::vector<double> p(V);
            size_t k = top_k ? (size_t)top_k : V;
            double sum = 0, all = 0;
            for (size_t i = 0; i < k; i++) all += exp(logits[order[i]] / temperature);
            size_t kept = 0;
            while (kept < k && (kept == 0 || sum < top_p * all)) sum += exp(logits[order[kept++]] / temperature);
            for (size_t i = 0; i < kept; i++) p[order[i]] = exp(logits[order[i]] / temperature) / sum;
            std::vector<int> count(V);
            for (int i = 0; i < n; i++) count[s.pick(logits.data(), V, 1, i)]++;
            int bad = 0;
            for (int v = 0; v < V; v++) {
                if (p[v] == 0) CHECK(count[v] == 0);
                bad += fabs(count[v] - n * p[v]) >
                       4.5 * sqrt(n * p[v] * (1 - p[v])) + 1;  // of 300, one in a hundred such tests would have one
            }
            CHECK(bad == 0);
        };
        check(1, 0, 1);
        check(0.5, 0, 1);
        check(2, 50, 1);
        check(1, 0, 0.6);
        check(3, 0, 0.99);
        check(1, 100, 0.5);
        check(1, 0, 0);
        Sampler s;
        s.temperature = 0;
        CHECK(s.pick(logits.data(), V, 0, 0) == order[0]);
        s.temperature = 1;
        s.top_k = 1;
        CHECK(s.pick(logits.data(), V, 0, 0) == order[0]);
    }
    TEST_CASE("samplers: logits that are not finite are an error, not a token") {
        Sampler s;
        for (float first : {NAN, INFINITY, -INFINITY})
            for (float rest : {NAN, 1.0f}) {
                Floats logits(70, rest);
                logits[0] = first;
                for (double temperature : {0.0, 1.0}) {
                    s.temperature = temperature;
                    CHECK_THROWS_AS(s.pick(logits.data(), (int)logits.size(), 0, 0), Error);
                }
            }
    }
}

// ---------------------------------------------------------------- config.json
TEST_SUITE("config.json of GPT-2") {
    TEST_CASE("comes back as it was written") {
        TempDir dir;
        GptConfig c = SmallGpt::dimensions(3, 96, 3, 200, 77, 50), d;
        c.eot = 5;
        c.eps = 1e-6;
        c.dropout = 0.25;
        c.init_std = 0.03;
        write_gpt_config(dir.path, c);
        d = read_gpt_config(dir.path);
        CHECK((d.V == 77 && d.T == 50 && d.C == 96 && d.L == 3 && d.NH == 3 && d.FF == 200 && d.eot == 5 &&
               d.eps == 1e-6 && d.dropout == 0.25 && d.init_std == 0.03));
        CHECK(has(read_file(dir / "generation_config.json"), "\"eos_token_id\": 5"));
    }
    TEST_CASE("what is not implemented is refused, with the file's name") {
        TempDir dir;
        auto message = [&](const std::string& more) {
            write_bytes(dir / "config.json",
                "{\"model_type\": \"gpt2\", \"vocab_size\": 77, \"n_positions\": 50, \"n_embd\": 96, "
                "\"n_layer\": 3, \"n_head\": 3" +
                    more + "}");
            try {
                read_gpt_config(dir.path);
            } catch (const Error& e) {
                return std::string(e.what());
            }
            return std::string();
        };
        CHECK(message("") == "");
        CHECK(message(", \"n_inner\": null, \"activation_function\": \"gelu_pytorch_tanh\"") == "");
        for (auto [key, value] : {std::pair{"activation_function", "\"relu\""}, {"scale_attn_weights", "false"},
                 {"scale_attn_by_inverse_layer_idx", "true"}, {"add_cross_attention", "true"},
                 {"tie_word_embeddings", "false"}, {"layer_norm_epsilon", "0"}, {"n_inner", "-1"}})
            CHECK(has(message(format(", \"%s\": %s", key, value)), format("config.json: %s: expected", key)));
        write_bytes(dir / "config.json",
            "{\"model_type\": \"gpt2\", \"vocab_size\": 77, \"n_positions\": 50, \"n_embd\": 96, \"n_layer\": "
            "3, \"n_head\": 5}");
        CHECK_THROWS_AS(read_gpt_config(dir.path), Error);
    }
}

TEST_SUITE("config.json of Llama's kind") {
    // A config as it is published, with the keys of `more` added or changed
    static std::string with(const std::string& type, const Json& more = {}) {
        Json json;
        json.set("model_type", type).set("vocab_size", 77).set("max_position_embeddings", 50);
        json.set("hidden_size", 96).set("num_hidden_layers", 4).set("num_attention_heads", 6);
        json.set("num_key_value_heads", 2).set("intermediate_size", 200).set("hidden_act", "silu");
        json.set("rms_norm_eps", 1e-6).set("rope_theta", 5e5).set("tie_word_embeddings", true);
        for (const auto& [key, value] : more.o) json.set(key, value);
        return dump_json(json);
    }
    static GptConfig read(const std::string& json, const std::string& generation = "") {
        TempDir dir;
        write_bytes(dir / "config.json", json);
        if (!generation.empty()) write_bytes(dir / "generation_config.json", generation);
        return read_gpt_config(dir.path);
    }
    static std::string message(const std::string& json, const std::string& generation = "") {
        try {
            read(json, generation);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }
    static Json scaling() {
        return Json()
            .set("rope_type", "llama3")
            .set("factor", 32.0)
            .set("low_freq_factor", 1.0)
            .set("high_freq_factor", 4.0)
            .set("original_max_position_embeddings", 4096);
    }

    TEST_CASE("comes back as it was written, every type of it") {
        for (auto t : GPT_TYPES) {
            if (std::string(t.first) == "gpt2") continue;
            TempDir dir;
            GptConfig c = SmallGpt::llama(t.first, 5, 96, 6, 2, 24, 200, 77, 50);
            c.eps = 1e-6;
            c.eot = 5;
            c.stops = {5, 7};
            c.bos = 3;
            c.pad = -1;
            c.dropout = 0.25;
            c.init_std = 0.03;
            c.generation.set("temperature", 0.6).set("eos_token_id", 9);
            write_gpt_config(dir.path, c);
            GptConfig d = read_gpt_config(dir.path);
            CHECK((d.V == 77 && d.T == 50 && d.C == 96 && d.L == 5 && d.NH == 6 && d.NKV == 2 && d.HS == 24));
            CHECK((d.FF == 200 && d.eps == 1e-6 && d.eot == 5 && d.bos == 3 && d.pad == -1 && d.dropout == 0.25));
            CHECK((d.type == t.first && d.llama && d.qkv_bias == c.qkv_bias && d.qk_norm == c.qk_norm));
            CHECK((d.tied == c.tied && d.no_rope == c.no_rope && d.stops == c.stops && d.init_std == 0.03));
            CHECK(memcmp(&d.rope, &c.rope, sizeof d.rope) == 0);
            Json generation = parse_json(read_file(dir / "generation_config.json"), "");
            CHECK(dump_json(generation) == "{\"temperature\": 0.6, \"eos_token_id\": [5, 7], \"bos_token_id\": 3}");
            CHECK(has(read_file(dir / "config.json"), format("\"%s\"", t.second)));
        }
    }
    TEST_CASE("both dialects, and what a missing key means") {
        GptConfig c = read(with("llama"));
        CHECK((c.rope.theta == 5e5 && c.rope.factor == 1 && c.HS == 16 && c.eot == -1 && c.tied));
        c = read(with("llama", Json().set("rope_scaling", scaling()).set("head_dim", Json())));
        CHECK((c.rope.theta == 5e5 && c.rope.factor == 32 && c.rope.original_context == 4096 && c.HS == 16));
        c = read(with("llama", Json().set("rope_parameters", scaling().set("rope_theta", 1e6)).set("head_dim", 20)));
        CHECK((c.rope.theta == 1e6 && c.rope.factor == 32 && c.HS == 20));
        c = read(with("llama", Json().set("rope_scaling", Json().set("type", "default"))));  // as older ones spell it
        CHECK((c.rope.theta == 5e5 && c.rope.factor == 1));
        CHECK(read(with("llama", Json().set("num_key_value_heads", Json()))).NKV == 6);
        c = read(
            "{\"model_type\": \"llama\", \"vocab_size\": 77, \"max_position_embeddings\": 50, \"hidden_size\": 96, "
            "\"num_hidden_layers\": 3, \"num_attention_heads\": 3, \"intermediate_size\": 200}");
        CHECK((c.rope.theta == 1e4 && c.NKV == 3 && c.HS == 32 && c.eps == 1e-6 && !c.tied && c.dropout == 0));
        CHECK(read(with("qwen3")).HS == 128);  // as transformers has it
        CHECK(read(with("qwen3", Json().set("head_dim", Json()))).HS == 16);
        CHECK(read(with("smollm3")).no_rope == std::vector<int>{3});
        CHECK(read(with("smollm3", Json().set("no_rope_layer_interval", 2))).no_rope == std::vector<int>{1, 3});
        Json layers = Json::make_array();
        for (int rope : {0, 1, 0, 1, 1}) layers.a.push_back(rope);
        CHECK(read(with("smollm3", Json().set("no_rope_layers", layers))).no_rope == std::vector<int>{0, 2});
    }
    TEST_CASE("what ends a text: of generation_config.json, else of config.json; a number or a list") {
        Json list = Json::make_array();
        list.a = {Json(7), Json(9)};
        GptConfig c = read(with("llama", Json().set("eos_token_id", list).set("bos_token_id", 4)));
        CHECK((c.eot == 7 && c.stops == std::vector<int>{7, 9} && c.bos == 4 && c.ends(9) && !c.ends(4)));
        c = read(with("llama", Json().set("eos_token_id", 5)), "{\"eos_token_id\": [8, 5], \"top_p\": 0.9}");
        CHECK((c.eot == 8 && c.stops == std::vector<int>{8, 5} && c.generation.find("top_p")));
        c = read(with("llama", Json().set("eos_token_id", 5)), "{\"do_sample\": true}");
        CHECK((c.eot == 5 && c.bos == -1));
    }
    TEST_CASE("what is not implemented or makes no sense is refused, with file, key and value") {
        Json window = Json::make_array(), few = Json::make_array(), flags = few;
        window.a = {Json("full_attention"), Json("sliding_attention"), Json("full_attention"), Json("full_attention")};
        few.a = {Json(1), Json(0)};
        flags.a = {Json(true), Json(true), Json(true), Json(false)};
        struct Bad {
            std::string type, key;
            Json value;
            std::string found;
        };
        auto rope = [](const std::string& key, Json value) { return scaling().set(key, value); };
        const std::vector<Bad> all = {
            {"gemma3_text", "vocab_size", 77, "\"gpt2\" or \"llama\" or"},
            {"qwen3_moe", "num_experts", 8, "qwen3_moe"},
            {"qwen3_5", "vocab_size", 77, "qwen3_5"},
            {"mistral", "sliding_window", 4096, "mistral"},
            {"llama", "hidden_act", "gelu", "hidden_act: expected \"silu\", found \"gelu\""},
            {"llama", "attention_bias", true, "attention_bias: expected false, found true"},
            {"qwen3", "attention_bias", true, "attention_bias: expected false, found true"},
            {"llama", "mlp_bias", true, "mlp_bias: expected false, found true"},
            {"llama", "pretraining_tp", 2, "pretraining_tp: expected 1, found 2"},
            {"qwen2", "use_sliding_window", true, "use_sliding_window: expected false, found true"},
            {"qwen2", "layer_types", window,
                "layer_types: expected \"full_attention\" for every layer, found "
                "\"sliding_attention\""},
            {"llama", "quantization_config", Json().set("bits", 4),
                "quantization_config: expected null, found {\"bits\""},
            {"llama", "rope_scaling", rope("rope_type", "yarn"), "rope_scaling: rope_type: expected"},
            {"llama", "rope_scaling", Json().set("type", "linear").set("factor", 2.0), "found {\"type\": \"linear\""},
            {"llama", "rope_parameters", rope("rope_type", "dynamic"), "rope_parameters: rope_type: expected"},
            {"llama", "rope_parameters", rope("mscale", 1.5),
                "rope_parameters: mscale: expected no such key, found 1.5"},
            {"llama", "rope_parameters", "default", "rope_parameters: rope_type: expected"},
            {"llama", "rope_scaling", rope("factor", "8"), "rope_scaling: factor: expected a number"},
            {"llama", "rope_scaling", rope("factor", 0.5), "rope_scaling: factor: expected a number from 1 "},
            {"llama", "rope_scaling", rope("high_freq_factor", 1.0), "rope_scaling: high_freq_factor: expected"},
            {"llama", "partial_rotary_factor", 0.5, "partial_rotary_factor: expected a number from 1 to 1, found 0.5"},
            {"llama", "rope_theta", -1, "rope_theta: expected a number"},
            {"llama", "num_key_value_heads", 4, "multiple of num_key_value_heads, found 6 and 4"},
            {"llama", "num_key_value_heads", 0, "num_key_value_heads: expected an integer from 1"},
            {"llama", "head_dim", 15, "head_dim: expected an even number, found 15"},
            {"llama", "rms_norm_eps", 0, "rms_norm_eps: expected a number"},
            {"llama", "hidden_size", "96", "hidden_size: expected an integer"},
            {"llama", "tie_word_embeddings", "yes", "tie_word_embeddings: expected true or false, found \"yes\""},
            {"llama", "eos_token_id", 77, "eos_token_id: expected ids from 0 to 76, found 77"},
            {"llama", "eos_token_id", Json().set("x", 1), "eos_token_id: expected ids"},
            {"smollm3", "no_rope_layers", few, "no_rope_layers: expected 4 times 0 or 1, found [1, 0]"},
            {"smollm3", "no_rope_layers", flags, "no_rope_layers: expected 4 times 0 or 1, found [true,"},
            {"qwen3", "layer_types", "sliding_attention", "layer_types: expected \"full_attention\" for every layer"},
            {"llama", "rope_scaling", "linear", "rope_scaling: rope_type: expected \"default\" or \"llama3\""},
            {"smollm3", "no_rope_layer_interval", 0, "no_rope_layer_interval: expected an integer"},
        };
        for (const Bad& bad : all) {
            std::string m = message(with(bad.type, Json().set(bad.key, bad.value)));
            CAPTURE(bad.key);
            CAPTURE(m);
            CHECK(has(m, "/config.json: "));
            CHECK(has(m, bad.found));
            CHECK(m.find('\n') == m.npos);
        }
        CHECK(has(
            message(with("llama"), "{\"eos_token_id\": [1, -2]}"), "generation_config.json: eos_token_id: expected"));
        CHECK(has(message(with("qwen2", Json().set("num_key_value_heads", "2"))), "num_key_value_heads: expected"));
    }
}
