// test_gpt.cpp: the decoder's properties, in fp32: windows of text, threads, batches, and generation.
#include "train_gpt.cu"

#include "data/bin_writer.h"
#include "test/models/same_sums.h"
#include "test/models/small_gpt.h"
#include "test/temp.h"

#include <set>

typedef std::vector<float> Floats;

// ---------------------------------------------------------------- windows of text
// documents of these lengths; every token is its own number
struct Documents {
    TempDir dir;
    std::string path = dir / "x.bin";
    std::vector<std::vector<int>> text;
    int eot = 0;
    explicit Documents(const std::vector<int>& lengths) {
        int id = 1;
        for (int n : lengths) {
            text.emplace_back();
            for (int i = 0; i < n; i++) text.back().push_back(id++);
        }
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
            CausalLmData data(file, T, docs.eot);
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
                        REQUIRE((data.targets.size() == data.tokens.size() &&
                                 data.positions.size() == data.tokens.size() &&
                                 data.types.size() == data.tokens.size()));
                        lengths.push_back((int)data.tokens.size());
                        for (size_t i = 0; i < data.tokens.size(); i++) {
                            CHECK(data.positions[i] == (int)i);
                            CHECK(data.tokens[i] == (seen[d].empty() ? docs.eot : seen[d].back()));
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
        CausalLmData data(file, 8, docs.eot);
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
    TEST_CASE("1, 2 and 3 threads give the same bits, three steps of training") { check_threads<SmallGpt>(SIZE); }
    TEST_CASE("a packed batch gives the loss of its sequences one by one") { check_packing<SmallGpt>(SIZE); }
    TEST_CASE("a token knows nothing of those after it") {
        SmallGpt gpt(SIZE, 40);
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
    }
    TEST_CASE("accumulation over micro-batches is the full batch, dropout included") {
        check_accumulation<SmallGpt>(SIZE, compare);
    }
    // for devices that want few shapes
    TEST_CASE("padding changes neither loss nor gradients") { check_padding<SmallGpt>(SIZE, compare); }
    TEST_CASE("without a backward pass the layers share buffers, and the loss is the same") {
        check_without_backward<SmallGpt>(SIZE);
    }
    TEST_CASE("--recompute gives the same bits in less memory") { check_recompute<SmallGpt>(SIZE); }
    TEST_CASE("initial values: the matrices that write into the residual stream begin smaller") {
        GptConfig c = SmallGpt::dimensions(8, 64, 2, 256, 101, 40);
        GptTensors<real> t;
        std::vector<ParamSpec> table = gpt_table(t, c, (real*)nullptr);
        std::vector<areal> values = initial_values(table, total_count(table), 1);
        for (const ParamSpec& s : table) {
            double std = l2(&values[s.offset], s.elements()) / sqrt((double)s.elements());
            bool residual = s.names[0].find("c_proj.weight") != std::string::npos;
            double expected = s.init == Init::normal ? (residual ? 0.02 / 4 : 0.02) : s.init == Init::ones ? 1 : 0;
            CHECK_MESSAGE(fabs(std - expected) <= 0.05 * expected,
                          s.names[0]);  // 2560 numbers and more: 1.4 % is one standard deviation
        }
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
        for (int slots : {1, 3, 10}) {
            CAPTURE(slots);
            SmallGpt gpt(SIZE, 64, 0.1f, slots);  // dropout, which generation leaves out
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
        for (auto [key, value] : {std::pair{"activation_function", "\"relu\""},
                                  {"scale_attn_weights", "false"},
                                  {"scale_attn_by_inverse_layer_idx", "true"},
                                  {"add_cross_attention", "true"},
                                  {"tie_word_embeddings", "false"},
                                  {"layer_norm_epsilon", "0"},
                                  {"n_inner", "-1"}})
            CHECK(has(message(format(", \"%s\": %s", key, value)), format("config.json: %s: expected", key)));
        write_bytes(dir / "config.json",
                    "{\"model_type\": \"gpt2\", \"vocab_size\": 77, \"n_positions\": 50, \"n_embd\": 96, \"n_layer\": "
                    "3, \"n_head\": 5}");
        CHECK_THROWS_AS(read_gpt_config(dir.path), Error);
    }
}
