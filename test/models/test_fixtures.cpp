// test_fixtures.cpp: our encoders and classifiers of every kind beside PyTorch's: logits, loss, every
// gradient, and AdamW (dev/fixtures.py made the reference in double). Built three times: with -DPRECISION_FP64, where
// the reference's own rounding to float32 (6e-8) allows a tolerance of 1e-6, in fp32 (1e-5), and in fp32 with -DSHIM:
// whole training steps of the kernels, on the CPU. Run from the top directory (or FIXTURES=DIR).
#include "finetune_cls.cu"

#include "test/models/small_bert.h"
#include "test/models/small_classifier.h"
#include "test/temp.h"
#include "test/tensors.h"

static constexpr bool fp64 = std::is_same_v<real, double>;
static const char* const MODELS[] = {"bert_mlm", "distilbert_mlm", "roberta_mlm", "modernbert_mlm"};
static const char* const CLASSIFIERS[] = {"bert_classifier", "distilbert_classifier", "roberta_classifier",
    "modernbert_classifier", "modernbert_mean_classifier"};
static constexpr double TOLERANCE = fp64 ? 1e-6 : 1e-5;  // of ‖ours − reference‖ / ‖reference‖, per tensor

template <class Model> struct Fixture {
    SafeTensors file;
    Model bert;
    std::vector<int> targets;

    static std::string path(const std::string& name) {
        return format("%s/%s.safetensors", getenv("FIXTURES") ? getenv("FIXTURES") : "test/fixtures", name.c_str());
    }
    template <class... Arguments> Fixture(const char* name, Arguments... arguments)
        : file(path(name)), bert(arguments...) {
        auto ints = [&](const char* name) { return read_tensor<int>(file, name, file.find(name)->shape); };
        std::vector<int> tokens = ints("tokens"), types = ints("types"), start = ints("seq_start"), rows = ints("rows");
        targets = ints("targets");
        for (size_t s = 0, m = 0; s + 1 < start.size(); s++) {
            int begin = start[s], end = start[s + 1];
            std::vector<int> positions, target;
            for (; m < rows.size() && rows[m] < end; m++) {
                positions.push_back(rows[m] - begin);
                target.push_back(targets[m]);
            }
            bert.builder.add({tokens.begin() + begin, tokens.begin() + end},
                {types.begin() + begin, types.begin() + end}, positions, target);
        }
        REQUIRE(bert.builder.rows == rows);
        put("param/", bert.opt.params);
    }
    void put(const std::string& prefix, real* to) {
        for_each_tensor(bert.opt.table, [&](const std::string& name, size_t at, size_t n) {
            std::vector<real> values = read(prefix + name);
            REQUIRE(values.size() == n);
            std::copy(values.begin(), values.end(), to + at);
        });
    }
    std::vector<real> read(const std::string& name) const {
        REQUIRE_MESSAGE(file.find(name), name);
        return read_tensor<real>(file, name, file.find(name)->shape);
    }
    // every gradient in opt.grads is PyTorch's
    void check_gradients() const {
        double query_bias = 0;
        for_each_tensor(bert.opt.table, [&](const std::string& name, size_t at, size_t n) {
            std::vector<real> g = read("grad/" + name);
            REQUIRE(g.size() == n);
            if (is_query_bias(name)) query_bias = l2(g.data(), n);
            // zero in exact arithmetic; what is left is rounding
            if (is_key_bias(name)) CHECK_MESSAGE(l2(bert.opt.grads + at, n) <= TOLERANCE * query_bias, name);
            else CHECK_MESSAGE(distance(bert.opt.grads + at, g.data(), n) <= TOLERANCE, name);
        });
    }
    // and every parameter after the three steps
    void check_after() const {
        for_each_tensor(bert.opt.table, [&](const std::string& name, size_t at, size_t n) {
            std::vector<real> after = read("after/" + name);
            REQUIRE(after.size() == n);
            CHECK_MESSAGE(distance(bert.opt.params + at, after.data(), n) <= TOLERANCE, name);
        });
    }
};

struct Reference : Fixture<SmallBert> {
    explicit Reference(const char* name = "bert_mlm") : Fixture(name, config(name), 55) {}
    // what transformers wrote as config.json; the file of BERT is older
    static BertConfig config(const char* name) {
        const SafeTensors file(path(name));
        const Json about = parse_json(file.metadata.find("about")->s, file.path);
        if (!about.find("config"))
            return name == std::string("bert_mlm") ? SmallBert::dimensions(2, 64, 2, 128, 61, 32)
                                                   : SmallBert::dimensions(2, 32, 1, 48, 37, 16);
        TempDir dir;
        write_file_atomic(dir / "config.json", about.find("config")->s);
        return read_bert_config(dir.path);
    }
    // the optimiser of dev/fixtures.py
    static TrainFlags flags() {
        TrainFlags f;
        f.lr = 1e-3;
        f.schedule = "constant";
        f.warmup = 0;
        f.beta1 = 0.9;
        f.beta2 = 0.98;
        f.eps = 1e-6;
        f.weight_decay = 0.01;
        f.clip = 1;
        return f;
    }
};

struct ClassifierReference : Fixture<SmallClassifier> {
    explicit ClassifierReference(const char* name)
        : Fixture(name, Reference::config(name), 3, 69, 0.0f, std::vector<double>{1, 0.25, 3}) {
        REQUIRE(read("class_weights") == std::vector<real>{1, 0.25f, 3});
    }
    static TrainFlags flags() {
        TrainFlags f = Reference::flags();
        f.beta2 = 0.999;
        f.eps = 1e-8;
        return f;
    }
};

TEST_SUITE("reference outputs") {
    TEST_CASE("logits, loss and gradients are PyTorch's") {
        for (const char* name : MODELS) {
            CAPTURE(name);
            Reference r(name);
            SmallBert& bert = r.bert;
            const int M = (int)r.targets.size(), V = 61, Vp = bert.model.Kp();
            Batch b = r.bert.batch();

            bert.model.head_forward(b, bert.model.encode(b));
            bert.model.logits_forward(0, M);
            std::vector<real> logits = r.read("logits"), ours;
            REQUIRE(logits.size() == (size_t)M * V);
            for (int m = 0; m < M; m++)
                ours.insert(ours.end(), bert.model.acts.logits + m * Vp, bert.model.acts.logits + m * Vp + V);
            CHECK(distance(ours.data(), logits.data(), ours.size()) <= TOLERANCE);

            bert.opt.zero_gradients();
            bert.model.forward_backward(b, bert.opt.stats);
            CHECK(bert.opt.stats->loss * *b.loss_scale == doctest::Approx(r.read("loss")[0]).epsilon(TOLERANCE));
            double correct = 0;
            for (int m = 0; m < M; m++)
                correct += std::max_element(&logits[m * V], &logits[m * V] + V) - &logits[m * V] == r.targets[m];
            CHECK(bert.opt.stats->correct == correct);

            r.check_gradients();
        }
    }

    TEST_CASE("three AdamW steps on given gradients are PyTorch's") {
        Reference r;
        r.put("grad/", (real*)r.bert.opt.grads);
        for (int step = 0; step < 3; step++) update(r.bert.opt, Reference::flags(), step);
        int compared = 0;
        for_each_tensor(r.bert.opt.table, [&](const std::string& name, size_t at, size_t n) {
            if (!r.file.find("given/" + name)) return;
            std::vector<real> after = r.read("given/" + name), before = r.read("param/" + name), moved(n), expected(n);
            CHECK_MESSAGE(distance(r.bert.opt.params + at, after.data(), n) <= TOLERANCE, name);
            // and how far they went, which is 1 % of them: both ends are rounded to float32, so ten times the tolerance
            // of fp32
            for (size_t i = 0; i < n; i++) {
                moved[i] = r.bert.opt.params[at + i] - before[i];
                expected[i] = after[i] - before[i];
            }
            CHECK_MESSAGE(distance(moved.data(), expected.data(), n) <= 1e-4, name);
            compared++;
        });
        CHECK(compared == 5);
    }

    // fp32: AdamW's first steps go by the sign of each gradient, so that elements with a gradient of about zero may go
    // either way
    TEST_CASE("three training steps are PyTorch's" * doctest::skip(!fp64)) {
        for (const char* name : MODELS) {
            CAPTURE(name);
            Reference r(name);
            Batch b = r.bert.batch();
            for (int step = 0; step < 3; step++) {
                r.bert.opt.zero_gradients();
                r.bert.model.forward_backward(b, r.bert.opt.stats);
                update(r.bert.opt, Reference::flags(), step);
            }
            r.check_after();
        }
    }

    TEST_CASE("a classifier's logits, loss and gradients are PyTorch's") {
        for (const char* name : CLASSIFIERS) {
            CAPTURE(name);
            ClassifierReference r(name);
            SmallClassifier& c = r.bert;
            Batch b = c.batch();
            c.forward(b);
            std::vector<real> logits = r.read("logits"), ours = c.logits(b.M);
            REQUIRE(logits.size() == ours.size());
            CHECK(distance(ours.data(), logits.data(), ours.size()) <= TOLERANCE);
            c.gradients(b);
            CHECK(c.opt.stats->loss * *b.loss_scale == doctest::Approx(r.read("loss")[0]).epsilon(TOLERANCE));
            double correct = 0;
            for (int m = 0; m < b.M; m++)
                correct += std::max_element(&logits[m * 3], &logits[m * 3] + 3) - &logits[m * 3] == r.targets[m];
            CHECK(c.opt.stats->correct == correct);
            r.check_gradients();
        }
    }
    TEST_CASE("three training steps of a classifier are PyTorch's" * doctest::skip(!fp64)) {
        for (const char* name : CLASSIFIERS) {
            CAPTURE(name);
            ClassifierReference r(name);
            Batch b = r.bert.batch();
            for (int step = 0; step < 3; step++) {
                r.bert.gradients(b);
                update(r.bert.opt, ClassifierReference::flags(), step);
            }
            r.check_after();
        }
    }
}
