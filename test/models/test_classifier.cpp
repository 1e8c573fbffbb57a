// test_classifier.cpp: what finetune_cls promises, in fp32: loss and weights, micro-batches, frozen layers, padded
// classes, segments, the choice of examples, prediction.
#include "finetune_cls.cu"

#include "data/bin_writer.h"
#include "test/models/small_bert.h"
#include "test/models/small_classifier.h"
#include "test/temp.h"

typedef std::vector<float> Floats;
static const BertConfig SIZE = SmallBert::dimensions(2, 32, 2, 48, 101, 24);
static const std::vector<int> LENGTHS{24, 3, 11, 1, 24, 17, 8, 24, 5};
static const std::vector<double> WEIGHTS{1, 0.25, 4};

static bool same_bits(const Floats& a, const Floats& b) {
    return a.size() == b.size() && !memcmp(a.data(), b.data(), a.size() * sizeof(float));
}

TEST_SUITE("classifier") {
    TEST_CASE("the loss is the mean of the losses, each weighed by its class") {
        for (bool weighed : {false, true}) {
            SmallClassifier c(SIZE, 3, 128, 0, weighed ? WEIGHTS : std::vector<double>{});
            randomise(c.opt, 1);
            add_random_examples(c.builder, LENGTHS, 101, 3, 1);
            Batch b = c.batch();
            c.forward(b);
            Floats x = c.logits(b.M);
            double above = 0, below = 0, correct = 0;
            for (int m = 0; m < b.M; m++) {
                double sum = 0, w = weighed ? WEIGHTS[b.targets[m]] : 1;
                for (int k = 0; k < 3; k++) sum += exp((double)x[3 * m + k]);
                above += w * (log(sum) - x[3 * m + b.targets[m]]);
                below += w;
                correct += std::max_element(&x[3 * m], &x[3 * m] + 3) - &x[3 * m] == b.targets[m];
            }
            CHECK(c.builder.weight() == doctest::Approx(below));
            CHECK(1 / *b.loss_scale == doctest::Approx(below));
            c.gradients(b);
            CHECK(c.opt.stats->loss * *b.loss_scale == doctest::Approx(above / below).epsilon(1e-6));
            CHECK(c.opt.stats->correct == correct);
        }
    }
    TEST_CASE("a packed batch gives the logits of its sequences one by one") {
        SmallClassifier c(SIZE, 3, 128);
        randomise(c.opt, 1);
        add_random_examples(c.builder, LENGTHS, 101, 3, 1);
        BatchBuilder all = c.builder;
        Batch b = c.batch();
        c.forward(b);
        Floats together = c.logits(b.M), apart;
        for (size_t s = 0; s < LENGTHS.size(); s++) {
            c.builder.clear();
            add_sequence(c.builder, all, s);
            c.forward(c.batch());
            Floats one = c.logits(1);
            apart.insert(apart.end(), one.begin(), one.end());
        }
        CHECK(l2(together.data(), together.size()) > 1);
        CHECK(distance(apart.data(), together.data(), together.size()) <= 1e-6);
    }
    TEST_CASE("two micro-batches are one batch, dropout included") {
        SmallClassifier c(SIZE, 3, 128, 0.1f, WEIGHTS);
        randomise(c.opt, 1);
        add_random_examples(c.builder, LENGTHS, 101, 3, 1);
        BatchBuilder all = c.builder;
        const size_t C = 32, M = LENGTHS.size();
        Floats full = c.gradients(c.batch({5, 6, 0}));
        StepStats stats = *c.opt.stats;
        Floats dropped(c.model.acts.head_out, c.model.acts.head_out + M * C), parts;
        CHECK(std::count(dropped.begin(), dropped.end(), 0.0f) > 0);
        c.opt.zero_gradients();
        uint64_t token0 = 0;
        for (auto [from, to] : {std::pair<size_t, size_t>{0, 4}, {4, 9}}) {
            c.builder.clear();
            for (size_t s = from; s < to; s++) add_sequence(c.builder, all, s);
            c.model.forward_backward(c.batch({5, 6, token0}, all.weight()), c.opt.stats);
            parts.insert(parts.end(), c.model.acts.head_out, c.model.acts.head_out + (to - from) * C);
            token0 += c.builder.tokens.size();
        }
        size_t differ = 0;
        for (size_t i = 0; i < M * C; i++) differ += (parts[i] == 0) != (dropped[i] == 0);
        CHECK(differ == 0);
        CHECK(distance(parts.data(), dropped.data(), M * C) <= 1e-6);
        CHECK(c.opt.stats->loss == doctest::Approx(stats.loss).epsilon(1e-6));
        CHECK(c.opt.stats->correct == stats.correct);
        double query_bias = 0;
        for_each_tensor(c.opt.table, [&](const std::string& name, size_t at, size_t n) {
            if (name.find("query.bias") != std::string::npos) query_bias = l2(&full[at], n);
            if (is_key_bias(name)) CHECK(l2(c.opt.grads + at, n) <= 1e-6 * query_bias);
            else CHECK_MESSAGE(distance(c.opt.grads + at, &full[at], n) <= 1e-5, name);
        });
    }
    TEST_CASE("the dropout before the classifier is one of its own, drawn for each [CLS]") {
        SmallClassifier c(SIZE, 3, 128, 0.3f);
        randomise(c.opt, 1);
        add_random_examples(c.builder, LENGTHS, 101, 3, 1);
        StepCounters counters{5, 6, 1000};
        Batch b = c.batch(counters);
        c.forward(b);
        size_t differ = 0, agree = 0;
        for (int m = 0; m < b.M; m++) {
            DropoutRow keep(Dropout{&counters, 3 * 2 + 1, 0.3f}, b.rows[m]),
                last(Dropout{&counters, 3 * 2, 0.3f}, b.rows[m]);
            for (int i = 0; i < 32; i++) {
                differ += c.model.acts.head_out[m * 32 + i] != c.model.acts.head_act[m * 32 + i] * keep(i);
                agree += keep(i) == last(i);
            }
        }
        CHECK(differ == 0);
        CHECK(agree < 0.8 * b.M * 32);  // 0.58 of two sites agree
    }
    TEST_CASE("padding changes neither loss nor gradients") {
        SmallClassifier c(SIZE, 3, 256, 0.1f, WEIGHTS);
        randomise(c.opt, 1);
        add_random_examples(c.builder, LENGTHS, 101, 3, 1);
        double weight = c.builder.weight();
        Floats bare = c.gradients(c.batch());
        StepStats stats = *c.opt.stats;
        c.builder.pad_multiple = 128;
        c.builder.pad_id = 3;
        Batch b = c.batch({1, 2, 0}, weight);
        CHECK((b.N == 128 && b.M == 128));
        Floats filled = c.gradients(b);
        CHECK(distance(filled.data(), bare.data(), bare.size()) <= 1e-6);
        CHECK(c.opt.stats->loss == doctest::Approx(stats.loss).epsilon(1e-6));
        CHECK(c.opt.stats->correct == stats.correct);
    }
    TEST_CASE("classes that fill up to a multiple of 8 stay zero") {
        SmallClassifier c(SIZE, 3, 128, 0.1f, WEIGHTS);
        randomise(c.opt, 1);
        add_random_examples(c.builder, LENGTHS, 101, 3, 1);
        TrainFlags f;
        f.lr = 0.01;
        for (int step = 0; step < 3; step++) {
            Floats g = c.gradients(c.batch({1, (uint64_t)step, 0}));
            update(c.opt, f, step);
            CHECK(c.model.Kp() == 8);
            double rest = 0;
            for (int i = 3 * 32; i < 8 * 32; i++) rest += fabs(c.model.params.outw[i]) + fabs(c.model.grads.outw[i]);
            for (int i = 3; i < 8; i++) rest += fabs(c.model.params.outb[i]) + fabs(c.model.grads.outb[i]);
            CHECK(rest == 0);
            CHECK(l2(c.model.grads.outb, 3) > 0);
        }
    }
    TEST_CASE("the types of a pair: 0 and 1, of RoBERTa both 0; a model with one type takes none") {
        BertConfig c = SIZE;
        for (auto [type, types, pairs] : {std::tuple{"bert", 2, true}, {"bert", 1, false}, {"roberta", 1, true},
                 {"roberta", 2, true}, {"distilbert", 0, true}, {"modernbert", 0, true}}) {
            CAPTURE(type);
            CAPTURE(types);
            c.type = type;
            c.types = types;
            CHECK(c.takes_pairs() == pairs);
            BatchBuilder builder;
            builder.last_type = c.last_type();
            builder.add({1, 2, 3}, {0, 0, 1}, {0}, {0});
            CHECK(builder.types == std::vector<int>{0, 0, type == std::string("roberta") ? 0 : 1});
        }
    }
    TEST_CASE("a resumed run has the same model: its kind, its windows, its angles") {
        BertConfig c = SIZE;
        c.type = "modernbert";
        c.modern = true;
        const std::string same = dump_json(model_identity(c));
        CHECK(dump_json(model_identity(BertConfig(c))) == same);
        for (auto change : std::vector<std::function<void(BertConfig&)>>{[](auto& d) { d.type = "bert"; },
                 [](auto& d) { d.window = 63; }, [](auto& d) { d.global_every = 2; },
                 [](auto& d) { d.global_rope.theta = 1e4; }, [](auto& d) { d.local_rope.theta = 1e5; },
                 [](auto& d) { d.mean_pooling = true; }, [](auto& d) { d.FF++; }}) {
            BertConfig other = c;
            change(other);
            CHECK(dump_json(model_identity(other)) != same);
        }
    }
    TEST_CASE("columns of the logits: classes rounded up to 8") {
        for (auto [K, Kp] : {std::pair{2, 8}, {8, 8}, {9, 16}, {150, 152}})
            CHECK(SmallClassifier::of_classes(SIZE, K).Kp() == Kp);
    }
}

// ---------------------------------------------------------------- data
// Examples of random lengths, every third one a pair, with labels in unequal numbers
struct Examples {
    static constexpr int V = 60;
    TempDir dir;
    Tokenizer words{Tokenizer::WORDPIECE};
    std::vector<std::string> labels;
    std::unique_ptr<BinFile> file;
    explicit Examples(std::vector<int> of_class, uint64_t seed = 1, const std::vector<std::string>& names = {}) {
        for (const char* name : Tokenizer::special_names) words.tokens.push_back(name);
        for (int i = 5; i < V; i++) words.tokens.push_back(format("w%d", i));
        words.build("test");
        std::vector<int> label;
        for (size_t k = 0; k < of_class.size(); k++) {
            label.insert(label.end(), of_class[k], (int)k);
            labels.push_back(names.empty() ? format("class %zu", k) : names[k]);
        }
        for (size_t i = label.size() - 1; i > 0; i--) std::swap(label[i], label[below(mix64(seed, i), i + 1)]);
        BinWriter out(dir / "train.bin", BIN_CLASSIFY, V, words.fingerprint());
        for (size_t s = 0; s < label.size(); s++) {
            std::vector<int> ids;
            for (uint64_t i = 0, n = 2 + below(mix64(seed, 2, s), 12); i < n; i++)
                ids.push_back(5 + (int)below(mix64(seed, 3, s * 100 + i), V - 5));
            out.append(ids.data(), ids.size());
            out.end_example(label[s], s % 3 ? ids.size() : ids.size() / 2, format("text %zu", s));
        }
        out.labels = labels;
        out.finish();
        file = std::make_unique<BinFile>(dir / "train.bin", BIN_CLASSIFY);
    }
};

TEST_SUITE("examples") {
    TEST_CASE("join_segments: what stands around texts is the tokenizer's affair") {
        Examples e({1, 1});
        const int c = e.words.cls(), s = e.words.sep(), a[] = {10, 11, 12}, b[] = {30, 31};
        e.words.pair = {c, -1, s, s, -2, s};  // RoBERTa's
        std::vector<int> tokens, types;
        CHECK_FALSE(join_segments(tokens, types, a, 3, b, 2, e.words, 9));
        CHECK(tokens == std::vector<int>{c, 10, 11, 12, s, s, 30, 31, s});
        CHECK(types == std::vector<int>{0, 0, 0, 0, 0, 0, 1, 1, 1});
        e.words.pair_type = 0;
        CHECK(join_segments(tokens, types, a, 3, b, 2, e.words, 7));
        CHECK(tokens == std::vector<int>{c, 10, 11, s, s, 30, s});
        CHECK(types == std::vector<int>(7, 0));
        e.words.files.config.set("truncation_side", "left");
        CHECK(join_segments(tokens, types, a, 3, b, 2, e.words, 7));
        CHECK(tokens == std::vector<int>{c, 11, 12, s, s, 31, s});
        CHECK(join_segments(tokens, types, a, 3, nullptr, 0, e.words, 4));
        CHECK(tokens == std::vector<int>{c, 11, 12, s});
        for (size_t T : {0, 3, 5}) CHECK_THROWS_AS(join_segments(tokens, types, a, 3, b, 2, e.words, T), Error);
        CHECK_FALSE(join_segments(tokens, types, a, 3, nullptr, 0, e.words, 5));
        CHECK(tokens == std::vector<int>{c, 10, 11, 12, s});
        ClassifyData data(*e.file, e.words, 9, e.labels);
        size_t cut = 0;
        for (uint64_t i = 0; i < data.sequences(); i++) cut += data.make(0, i);
        CHECK(data.count_cut() == cut);
    }
    TEST_CASE("join_segments: the longer segment gives way first") {
        Examples e({1, 1});
        std::vector<int> a, b, tokens, types;
        for (int i = 0; i < 20; i++) {
            a.push_back(10 + i);
            b.push_back(30 + i);
        }
        for (size_t T : {5, 6, 7, 12, 23, 100})
            for (size_t na = 1; na <= 20; na++)
                for (size_t nb = 0; nb <= 20; nb++) {
                    bool cut = join_segments(tokens, types, a.data(), na, b.data(), nb, e.words, T);
                    // one token after the other, as Google's BERT cuts
                    size_t ka = na, kb = nb, room = T - (nb ? 3 : 2);
                    while (ka + kb > room) {
                        if (ka > kb) ka--;
                        else kb--;
                    }
                    std::vector<int> expected{e.words.cls()}, segment{0};
                    for (size_t i = 0; i < ka; i++) {
                        expected.push_back(a[i]);
                        segment.push_back(0);
                    }
                    expected.push_back(e.words.sep());
                    segment.push_back(0);
                    for (size_t i = 0; i < kb; i++) {
                        expected.push_back(b[i]);
                        segment.push_back(1);
                    }
                    if (nb) {
                        expected.push_back(e.words.sep());
                        segment.push_back(1);
                    }
                    REQUIRE(tokens == expected);
                    REQUIRE(types == segment);
                    REQUIRE(cut == (ka + kb < na + nb));
                    REQUIRE(tokens.size() <= T);
                    REQUIRE((ka > 0 && (nb == 0 || kb > 0)));  // neither one disappears
                }
    }
    TEST_CASE("an example of a file: its segments, its label among the model's, what is cut") {
        Examples e({30, 20, 10}, 1, {"yes", "no", "perhaps"});
        ClassifyData data(*e.file, e.words, 9, {"no", "perhaps", "maybe", "yes"});
        CHECK(data.label_id == std::vector<int>{3, 0, 1});
        size_t cut = 0;
        for (uint64_t q = 0; q < data.sequences(); q++) {
            cut += data.make(0, q);
            size_t n = e.file->length(q), pair = e.file->pair(q), stays = std::min<size_t>(n, 9 - 2 - pair);
            REQUIRE(data.tokens.size() == stays + 2 + pair);
            REQUIRE(data.tokens[1] == e.file->token(q, 0));
            REQUIRE((data.types.back() == (int)pair && data.types[0] == 0 && data.positions == std::vector<int>{0}));
            REQUIRE(data.targets == std::vector<int>{std::vector<int>{3, 0, 1}[e.file->label[q]]});
        }
        CHECK(cut == data.count_cut());
        CHECK((cut > 0 && cut < data.sequences()));
        try {
            ClassifyData wrong(*e.file, e.words, 9, {"no", "yes"});
            FAIL("a label that the model does not have is an error");
        } catch (const Error& error) {
            CHECK(has(error.what(),
                "train.bin: expected the labels of the training data (no, yes), found \"perhaps\" as well"));
        }
    }
    TEST_CASE("stratified_order: a permutation in which every stretch from the start has the shares of the whole") {
        for (auto& sizes : std::vector<std::vector<int>>{
                 {50, 50}, {97, 3}, {1, 1}, {40, 35, 25}, {500, 30, 7, 1, 1}, {13, 13, 13, 13, 13, 13, 13}}) {
            CAPTURE(sizes.size());
            Examples e(sizes);
            ClassifyData data(*e.file, e.words, 16, e.labels);
            int K = (int)sizes.size(), n = (int)data.sequences();
            std::vector<uint32_t> order = stratified_order(data, K, 7), sorted = order,
                                  again = stratified_order(data, K, 7), other = stratified_order(data, K, 8);
            std::sort(sorted.begin(), sorted.end());
            REQUIRE(sorted == data.which);
            CHECK(order == again);
            if (n > 20) CHECK(order != other);
            std::vector<double> count(K, 0.0);
            double worst = 0;  // distance of a class from its share, over what it may be
            for (int m = 0; m < n; m++) {
                count[e.file->label[order[m]]]++;
                // up to a key x class k has n_k x ± 1/2 examples, all classes n x ± K/2, so class k is at most 1/2 +
                // K/2 n_k/n from its share
                for (int k = 0; k < K; k++)
                    worst = std::max(worst, fabs(count[k] - (m + 1.0) * sizes[k] / n) / (0.5 + 0.5 * K * sizes[k] / n));
            }
            CHECK(worst <= 1 + 1e-9);
        }
    }
}

// ---------------------------------------------------------------- the task
struct Task {
    TrainFlags f;
    ClassifyFlags cf;
    BertConfig config = SmallBert::dimensions(2, 32, 1, 48, Examples::V, 16);
    Memory memory;
    std::unique_ptr<ClassifyTask> task;
    explicit Task(const Examples& e, const std::function<void(TrainFlags&, ClassifyFlags&)>& change = {}) {
        f.lr = 0.01;
        f.warmup = 0;
        f.weight_decay = 0.1;
        f.dropout = 0.1;
        cf.max_len = 16;
        cf.batch = 8;
        if (change) change(f, cf);
        task = std::make_unique<ClassifyTask>(f, cf, *e.file, e.words, config, "");
        Arena arena = arena_for(memory, [&](Arena& a) { task->plan(a); });
        task->allocate(arena);
        task->opt.set_blocks(f.weight_decay, [&](const ParamSpec& s) { return task->lr_factor(s); });
        randomise(task->opt, 1);
    }
    void steps(int n) {
        Cursor cursor;
        std::vector<char> host(task->shape.bytes());
        for (int step = 0; step < n; step++) {
            int taken = task->fill(task->builder, cursor);
            REQUIRE(taken == cf.batch);
            task->opt.zero_gradients();
            task->forward_backward(
                task->builder.finish(host.data(), {1, (uint64_t)step, 0}, 1 / task->builder.weight()), task->opt.stats);
            update(task->opt, f, step);
        }
    }
};

TEST_SUITE("fine-tuning") {
    TEST_CASE("every bit of what is frozen stays, and the rest learns") {
        Examples e({40, 30});
        for (int64_t freeze : {-1, 0, 1, 2}) {
            CAPTURE(freeze);
            Task t(e, [&](TrainFlags&, ClassifyFlags& cf) {
                cf.freeze = freeze;
                cf.layer_decay = 0.9;
            });
            Optimizer& opt = t.task->opt;
            Floats before(opt.params, opt.params + opt.n);
            t.steps(3);
            for (const ParamSpec& s : opt.table) {
                bool frozen = freeze >= 0 && s.layer < freeze;
                CHECK(t.task->lr_factor(s) == (frozen ? 0.0f : (float)pow(0.9, 2 - s.layer)));
                CHECK_MESSAGE(same_bits({&before[s.offset], &before[s.offset] + s.count},
                                  {opt.params + s.offset, opt.params + s.offset + s.count}) == frozen,
                    s.names[0]);
            }
        }
    }
    TEST_CASE("a factor of 0 leaves every bit, whatever the gradient") {
        Examples e({40, 30});
        Task t(e);
        Optimizer& opt = t.task->opt;
        opt.set_blocks(0.1, [](const ParamSpec& s) { return s.layer == 0 ? 0.0f : 1.0f; });
        Floats before(opt.params, opt.params + opt.n);
        t.steps(2);
        for (const ParamSpec& s : opt.table) {
            CHECK_MESSAGE(same_bits({&before[s.offset], &before[s.offset] + s.count},
                              {opt.params + s.offset, opt.params + s.offset + s.count}) == (s.layer == 0),
                s.names[0]);
            CHECK_MESSAGE(l2(opt.grads + s.offset, s.count) > 0, s.names[0]);
        }
    }
    TEST_CASE("layer decay: 1 for the head, then a factor for each layer downwards") {
        Examples e({40, 30});
        Task t(e, [&](TrainFlags&, ClassifyFlags& cf) { cf.layer_decay = 0.5; });
        auto factor = [&](const std::string& name) {
            for (const ParamSpec& s : t.task->opt.table)
                for (const std::string& n : s.names)
                    if (n == name) return (double)t.task->opt.lr_factor[s.offset / PARAM_BLOCK];
            return -1.0;
        };
        CHECK(factor("classifier.weight") == 1);
        CHECK(factor("classifier.bias") == 1);
        CHECK(factor("bert.pooler.dense.weight") == 1);
        CHECK(factor("bert.encoder.layer.1.output.dense.weight") == 0.5);
        CHECK(factor("bert.encoder.layer.0.attention.self.key.bias") == 0.25);
        CHECK(factor("bert.embeddings.word_embeddings.weight") == 0.125);
        CHECK(factor("bert.embeddings.LayerNorm.bias") == 0.125);
    }
    TEST_CASE("class weights: balanced, and a list") {
        Examples e({60, 30, 10});
        Task balanced(e, [](TrainFlags&, ClassifyFlags& cf) {
            cf.class_weights = "balanced";
            cf.dev_split = 0;
        });
        for (int k = 0; k < 3; k++)
            CHECK(balanced.task->weights[k] ==
                  doctest::Approx(100.0 / (3 * std::vector<int>{60, 30, 10}[k])));  // n / (K n_k)
        CHECK((balanced.task->model.class_weights && balanced.task->builder.weights));
        Task list(e, [](TrainFlags&, ClassifyFlags& cf) { cf.class_weights = "1,2.5,0.5"; });
        CHECK(list.task->weights == std::vector<double>{1, 2.5, 0.5});
        Task none(e);
        CHECK((!none.task->model.class_weights && !none.task->builder.weights));
        for (const char* wrong : {"1,2", "1,2,3,4", "1,-2,3", "1,0,3", "1,x,3", "", "1,inf,1", "1 2 3"})
            CHECK_THROWS_AS(Task(e, [&](TrainFlags&, ClassifyFlags& cf) { cf.class_weights = wrong; }), Error);
    }
    TEST_CASE("the examples that choose the epoch are not trained on, and have the same shares") {
        Examples e({600, 300, 100});
        Task t(e, [](TrainFlags&, ClassifyFlags& cf) {
            cf.examples = 500;
            cf.dev_split = 0.2;
        });
        std::vector<uint32_t> train = t.task->train_data.which, dev = t.task->dev_data.which;
        CHECK((train.size() == 400 && dev.size() == 100));
        std::set<uint32_t> both(train.begin(), train.end());
        both.insert(dev.begin(), dev.end());
        CHECK(both.size() == 500);
        for (auto* data : {&t.task->train_data, &t.task->dev_data}) {
            std::vector<int> count(3, 0);
            for (uint64_t q = 0; q < data->sequences(); q++) count[data->label(q)]++;
            for (int k = 0; k < 3; k++)
                CHECK(abs(count[k] - (int)data->sequences() * std::vector<int>{6, 3, 1}[k] / 10) <= 2);
        }
        Task again(e, [](TrainFlags& f, ClassifyFlags& cf) {
            cf.examples = 500;
            cf.dev_split = 0.2;
            f.seed = 2;
        });
        CHECK(again.task->dev_data.which != dev);
        for (double split : {0.0001, 0.9999})
            CHECK_THROWS_AS(Task(e, [&](TrainFlags&, ClassifyFlags& cf) { cf.dev_split = split; }), Error);
    }
    TEST_CASE("validation: its metrics are those of the sequences one by one, and training continues as before") {
        Examples e({40, 30});
        Task t(e, [](TrainFlags&, ClassifyFlags& cf) { cf.dev_split = 0.5; });
        t.steps(2);
        Eval a = t.task->evaluate();
        ClassifyData& dev = t.task->dev_data;
        SmallClassifier c(t.config, 2, 128);
        std::copy(t.task->opt.params, t.task->opt.params + t.task->opt.n, c.opt.params);
        double loss = 0, correct = 0;
        for (uint64_t q = 0; q < dev.sequences(); q++) {
            dev.make(0, q);
            c.builder.clear();
            c.builder.add(dev.tokens, dev.types, dev.positions, dev.targets);
            c.gradients(c.batch());
            loss += c.opt.stats->loss;
            correct += c.opt.stats->correct;
        }
        CHECK(a.targets == dev.sequences());
        CHECK(a.loss == doctest::Approx(loss / (double)a.targets).epsilon(1e-5));
        CHECK(a.accuracy == correct / (double)a.targets);
        CHECK(a.score == a.accuracy);
        CHECK(t.task->model.dropout == 0.1f);
    }
}

// ---------------------------------------------------------------- prediction
TEST_SUITE("prediction") {
    TEST_CASE("a probability for each sequence, in order, whatever the batches") {
        SmallClassifier c(SIZE, 3, 64, 0.5f);  // dropout must not matter
        randomise(c.opt, 1);
        // lengths that fill 64 tokens exactly, overflow by one, and fill up the rows
        const std::vector<int> lengths{24, 24, 16, 24, 24, 17, 1, 1, 1, 24, 24, 15, 1, 1, 24, 3, 9, 2};
        BatchBuilder all = c.builder;
        all.shape.N = 1000;
        all.shape.M = 100;
        add_random_examples(all, lengths, 101, 3, 4);
        std::vector<double> single;
        c.model.dropout = 0;
        for (size_t s = 0; s < lengths.size(); s++) {
            c.builder.clear();
            add_sequence(c.builder, all, s);
            c.forward(c.batch());
            Floats x = c.logits(1);
            double sum = exp((double)x[0]) + exp((double)x[1]) + exp((double)x[2]);
            for (float v : x) single.push_back(exp((double)v) / sum);
        }
        c.model.dropout = 0.5f;
        for (int rows : {64, 2, 1}) {
            c.builder.clear();
            c.builder.shape.M = c.model.shape.M = rows;
            std::vector<double> p;
            std::vector<char> block(c.block.size());
            Predictor predictor{c.model, c.builder, block.data()};
            std::vector<size_t> flushed;  // after how many sequences were there new answers?
            for (size_t s = 0; s < lengths.size(); s++) {
                size_t had = p.size();
                predictor.add({all.tokens.begin() + all.start[s], all.tokens.begin() + all.start[s + 1]},
                    {all.types.begin() + all.start[s], all.types.begin() + all.start[s + 1]},
                    [&](const double* x) { p.insert(p.end(), x, x + 3); });
                if (p.size() > had) flushed.push_back(s);
                if (p.size() > had) CHECK(p.size() == 3 * s);  // all that came before
            }
            predictor.flush();
            predictor.flush();  // nothing is answered twice
            CHECK(flushed == (rows == 64     ? std::vector<size_t>{3, 5, 10, 14}
                                 : rows == 2 ? std::vector<size_t>{2, 4, 6, 8, 10, 12, 14, 16}
                                             : flushed));
            if (rows == 1) CHECK(flushed.size() == lengths.size() - 1);
            REQUIRE(p.size() == single.size());
            double worst = 0;
            for (size_t i = 0; i < p.size(); i++) worst = std::max(worst, fabs(p[i] - single[i]));
            CHECK(worst < 1e-6);
            CHECK(c.model.dropout == 0.5f);
        }
        CHECK(l2(single.data(), 3) < 0.999);
    }
    TEST_CASE("logits of any size give probabilities") {
        SmallClassifier c(SIZE, 3, 64);
        randomise(c.opt, 1);
        for (int i = 0; i < 3 * 32; i++) c.model.params.outw[i] *= 1e6f;
        std::vector<char> block(c.block.size());
        double sum = 0;
        Predictor predictor{c.model, c.builder, block.data()};
        predictor.add({1, 2, 3}, {0, 0, 0}, [&](const double* p) { sum = p[0] + p[1] + p[2]; });
        predictor.flush();
        CHECK(sum == doctest::Approx(1));
    }
    TEST_CASE("an output that is not finite is an error, not an answer") {
        SmallClassifier c(SIZE, 3, 64);
        randomise(c.opt, 1);
        c.model.params.outw[40] = NAN;
        std::vector<char> block(c.block.size());
        Predictor predictor{c.model, c.builder, block.data()};
        predictor.add({1, 2, 3}, {0, 0, 0}, [](const double*) {});
        try {
            predictor.flush();
            FAIL("expected an error");
        } catch (const Error& error) {
            CHECK(error.code == EXIT_NOT_FINITE);
        }
    }
    TEST_CASE("results: the loss is that of the gold class, the first of equals is the prediction") {
        ClassificationReport r({"a", "b", "c"});
        const double p[3][3] = {{0.5, 0.25, 0.25}, {0.25, 0.375, 0.375}, {0, 0, 1}};
        CHECK(r.add(0, p[0]) == 0);
        CHECK(r.add(2, p[1]) == 1);
        CHECK(r.add(2, p[2]) == 2);
        CHECK(r.mean_loss() == doctest::Approx((log(2) - log(0.375)) / 3));
        CHECK(r.confusion.accuracy() == doctest::Approx(2.0 / 3));
        CHECK(r.confusion.at(2, 1) == 1);
        r.add(0, p[2]);  // a probability that is rounded to 0 does not make the loss infinite
        CHECK(std::isfinite(r.mean_loss()));
    }
}

TEST_CASE("adapters of a classifier: which matrices PEFT is told of, and the head in full") {
    for (auto [type, targets, expected, saved] :
        {std::tuple{"bert", "all", "query,key,value,output.dense,intermediate.dense", "pooler,classifier"},
            // not output.dense: the feed-forward layer has one, too
            {"bert", "attention", "query,key,value,attention.output.dense", "pooler,classifier"},
            {"distilbert", "attention", "q_lin,k_lin,v_lin,out_lin", "pre_classifier,classifier"},
            {"roberta", "query,output.dense", "query,output.dense", "classifier"},
            {"modernbert", "attention", "Wqkv,attn.Wo", "head,classifier"}}) {
        CAPTURE(type);
        BertConfig config = SIZE;
        config.type = type;
        config.modern = config.type == "modernbert";
        LoraFlags lora;
        lora.r = 2;
        lora.targets = targets;
        SmallClassifier c(config, 3, 64, 0, {}, lora);
        CHECK(c.adapters.targets == split_list(expected));
        CHECK(c.adapters.saved == split_list(saved));
        CHECK(c.model.params.headw == c.opt.params + c.adapters.head_offset);
        CHECK(c.model.grads.headw == c.opt.grads + c.adapters.head_offset);
        CHECK((!c.model.grads.wte && !c.model.grads.layer[1].ln2w));
        CHECK(c.opt.table.back().names[0] == std::string(PEFT_PREFIX) + bert_type(type).classifier + ".bias");
    }
}

TEST_CASE("classifier: the rows of its head go where their labels are") {
    std::vector<ParamSpec> table(3);
    table[0].names = {"bert.pooler.dense.bias"};
    table[0].shape = {2};
    table[1].names = {"classifier.weight"};
    table[1].shape = {3, 2};
    table[1].count = 8 * 2;  // padded
    table[2].names = {"classifier.bias"};
    table[2].shape = {3};
    layout(table);
    std::vector<areal> values(total_count(table), 0);
    for (const ParamSpec& s : table)
        for (size_t i = 0; i < s.elements(); i++) values[s.offset + i] = (areal)(i + 1);
    std::vector<areal> same = values;
    reorder_head(same, table, {});
    CHECK(same == values);
    reorder_head(values, table, {2, 0, 1});
    auto of = [&](int row) {
        return std::vector<areal>(&values[table[row].offset], &values[table[row].offset] + table[row].elements());
    };
    CHECK(of(0) == std::vector<areal>{1, 2});
    CHECK(of(1) == std::vector<areal>{5, 6, 1, 2, 3, 4});
    CHECK(of(2) == std::vector<areal>{3, 1, 2});
    CHECK(values[table[1].offset + 6] == 0);
}
