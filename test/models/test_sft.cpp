// test_sft.cpp: what sft promises, in double: which tokens are learned, packing, the mixture of tasks, answers,
// options, tables. Build with -DPRECISION_FP64.
#include "sft.cu"

#include "data/bin_writer.h"
#include "data/instruct_text.h"
#include "data/templates.h"
#include "test/models/check_gradient.h"
#include "test/models/small_gpt.h"
#include "test/temp.h"

typedef std::vector<std::string> Texts;
typedef std::vector<int> Ids;

// ---------------------------------------------------------------- rows
// The 256 bytes, one longer token, the end of text
static Tokenizer small_bpe() {
    Tokenizer b;
    for (int i = 0; i < 256; i++) b.tokens.push_back(std::string(1, (char)i));
    b.merges.push_back({'e', 'r'});
    b.tokens.push_back("er");
    b.tokens.push_back(Tokenizer::eot_name);
    b.build("test");
    return b;
}
static const Tokenizer BPE = small_bpe();
static const int V = 258, EOT = 257;

static InstructRow row_of(const std::string& task, const std::string& instruction, const std::string& input,
    const std::string& output, const Texts& options = {}) {
    InstructRow row;
    row.task = task;
    row.turns = {{instruction, input, output}};
    row.outputs = {output};
    row.options = options;
    row.where = "a row";
    return row;
}
// A .bin of rows, as pack makes it
struct Rows {
    TempDir dir;
    std::vector<InstructRow> rows;
    std::unique_ptr<BinFile> file;

    explicit Rows(const std::vector<InstructRow>& rows, const ChatTemplate& templ = short_template(), size_t shots = 0)
        : rows(rows) {
        BinWriter out(dir / "train.bin", BIN_INSTRUCT, BPE.size(), BPE.fingerprint());
        out.templ = Json(templ.json()).set("shots", (int64_t)shots);
        for (const InstructRow& row : rows) {
            RenderedRow r;
            render_row(BPE, templ, row, shots, true, 0, false, r);
            auto at = std::find(out.tasks.begin(), out.tasks.end(), row.task);
            if (at == out.tasks.end()) at = out.tasks.insert(at, row.task);
            out.append(r.ids.data(), r.ids.size());
            out.end_row((int32_t)(at - out.tasks.begin()), r.spans, dump_instruct_text(row));
        }
        out.finish();
        file = std::make_unique<BinFile>(dir / "train.bin", BIN_INSTRUCT);
    }
};
// Ragged rows, some without an input, the last one of three turns
static std::vector<InstructRow> ragged_rows() {
    std::vector<InstructRow> rows = {row_of("a", "say it", "one two three", "two"), row_of("b", "x", "", "y"),
        row_of("a", "name the longer word", "pear fig", "pear, the longer one"),
        row_of("c", "caf\u00e9 ?", "\u4f60", "\u597d"), row_of("b", "again", "and again and again", "a")};
    InstructRow chat = row_of("chat", "hi", "", "hello");
    chat.turns.push_back({"and then ?", "", "bye"});
    chat.turns.push_back({"more", "", "no"});
    chat.outputs = {"no"};
    chat.system = "be short";
    rows.push_back(chat);
    return rows;
}
// n rows of a task, all different
static void add_rows(std::vector<InstructRow>& rows, const std::string& task, int n) {
    for (int i = 0; i < n; i++)
        rows.push_back(row_of(task, "do " + task, format("text %d", i), format("answer %d", i)));
}

static GptConfig small_size(int C = 16) {
    GptConfig c = SmallGpt::dimensions(2, C, 2, 24, V, 96);
    c.eot = EOT;
    return c;
}
// Puts row s into the builder
static void add_row(BatchBuilder& builder, InstructData& data, size_t s) {
    data.make_row(s);
    builder.add(data.tokens, data.types, data.positions, data.targets);
}

// ---------------------------------------------------------------- what is learned
// A row as text, with what is a target in brackets
static std::string marked(InstructData& data, size_t s) {
    data.make_row(s);
    const size_t n = data.file.length(s);
    REQUIRE(data.tokens.size() == n);
    REQUIRE(data.types == Ids(n, 0));
    REQUIRE(data.tokens[0] == EOT);
    REQUIRE(data.targets.size() == data.positions.size());
    for (size_t i = 0; i + 1 < n; i++) REQUIRE(data.tokens[i + 1] == data.file.token(s, i));
    std::vector<char> target(n, 0);
    for (size_t k = 0; k < data.positions.size(); k++) {
        REQUIRE(data.targets[k] == data.file.token(s, data.positions[k]));  // position i has seen the tokens before i
        REQUIRE((k == 0 || data.positions[k] > data.positions[k - 1]));
        target[data.positions[k]] = 1;
    }
    std::string text;
    for (size_t i = 0; i < n; i++) {
        int32_t id = data.file.token(s, i);
        if (target[i] && (i == 0 || !target[i - 1])) text += "[";
        text += BPE.decode(&id, 1);
        if (target[i] && (i + 1 == n || !target[i + 1])) text += "]";
    }
    return text;
}

TEST_SUITE("what is learned") {
    TEST_CASE("targets are the answers and their end tokens, and nothing else") {
        Rows r(ragged_rows());
        InstructData data(*r.file, {EOT});
        CHECK(marked(data, 0) == "say it\none two three\nanswer :[ two<|endoftext|>]");
        CHECK(marked(data, 1) == "x\nanswer :[ y<|endoftext|>]");
        CHECK(marked(data, 2) == "name the longer word\npear fig\nanswer :[ pear, the longer one<|endoftext|>]");
        CHECK(marked(data, 3) == "caf\u00e9 ?\n\u4f60\nanswer :[ \u597d<|endoftext|>]");
        CHECK(marked(data, 5) ==
              "be short\n\nhi\nanswer :[ hello<|endoftext|>]and then ?\nanswer :[ bye<|endoftext|>]more\nanswer :[ "
              "no<|endoftext|>]");
        data.on_prompt = true;
        CHECK(marked(data, 1) == "[x\nanswer : y<|endoftext|>]");
        CHECK(marked(data, 5) ==
              "[be short\n\nhi\nanswer : hello<|endoftext|>and then ?\nanswer : bye<|endoftext|>more\nanswer : "
              "no<|endoftext|>]");
    }
    TEST_CASE("longer_than counts rows of more than T tokens") {
        Rows r(ragged_rows());
        InstructData data(*r.file, {EOT});
        size_t n = r.file->length(2);  // the longest but one
        CHECK(data.mixture.longer_than(n) == 1);
        CHECK(data.mixture.longer_than(n - 1) == 2);
        data.mixture.rows[r.file->task[2]].clear();  // held out
        CHECK(data.mixture.longer_than(n - 1) == 1);
    }
    TEST_CASE("a packed batch of rows gives the losses and the gradients of its rows one by one") {
        Rows r(ragged_rows());
        InstructData data(*r.file, {EOT});
        for (bool on_prompt : {false, true}) {
            CAPTURE(on_prompt);
            data.on_prompt = on_prompt;
            SmallGpt gpt(small_size(), 384);
            gpt.randomise(1);
            gpt.model.logits_chunk_rows = 7;  // chunks of the vocabulary's rows do not end where rows do
            for (size_t s = 0; s < r.rows.size(); s++) add_row(gpt.builder, data, s);
            size_t targets = gpt.builder.targets.size(), m = 0;
            Numbers together = gpt.gradients(gpt.batch()),
                    losses(gpt.model.acts.losses, gpt.model.acts.losses + targets);
            double loss = gpt.opt.stats->loss, apart = 0;
            gpt.opt.zero_gradients();
            for (size_t s = 0; s < r.rows.size(); s++) {
                gpt.builder.clear();
                add_row(gpt.builder, data, s);
                Batch b = gpt.batch({1, 2, 0}, targets);
                StepStats stats{};
                gpt.model.forward_backward(b, &stats);
                apart += stats.loss;
                // the same sums over other lengths of vectors: some units of the last place of 1e-16
                for (int i = 0; i < b.M; i++, m++)
                    CHECK(gpt.model.acts.losses[i] == doctest::Approx(losses[m]).epsilon(1e-12));
            }
            CHECK(m == targets);
            CHECK(apart == doctest::Approx(loss).epsilon(1e-12));
            CHECK(distance(gpt.opt.grads, together.data(), together.size()) < 1e-11);
        }
    }
    TEST_CASE("what stands in a row changes no other row of its batch, and no answer before it") {
        std::vector<InstructRow> rows = ragged_rows(), other = rows;
        other[2].turns[0].input = "PEAR FIG";
        other[5].turns[2].instruction = "MORE";
        Rows a(rows), b(other);
        Numbers losses[2];
        std::vector<size_t> begin;
        for (const Rows* r : {&a, &b}) {
            InstructData data(*r->file, {EOT});
            SmallGpt gpt(small_size(), 384);
            gpt.randomise(1);
            begin.clear();
            for (size_t s = 0; s < rows.size(); s++) {
                begin.push_back(gpt.builder.targets.size());
                add_row(gpt.builder, data, s);
            }
            begin.push_back(gpt.builder.targets.size());
            gpt.loss(gpt.batch());
            losses[r == &b].assign(gpt.model.acts.losses, gpt.model.acts.losses + begin.back());
        }
        REQUIRE(losses[0].size() == losses[1].size());
        for (size_t s = 0; s < rows.size(); s++)
            for (size_t m = begin[s]; m < begin[s + 1]; m++) {
                bool same = s != 2 && !(s == 5 && m + 4 >= begin[6]);  // " no" and its end: 4 targets
                CHECK_MESSAGE((losses[0][m] == losses[1][m]) == same, "row ", s, ", target ", m - begin[s]);
            }
    }
    TEST_CASE("loss of a packed batch of masked rows by every parameter tensor") {
        Rows r(ragged_rows());
        InstructData data(*r.file, {EOT});
        for (float dropout : {0.0f, 0.1f}) {
            CAPTURE(dropout);
            SmallGpt gpt(small_size(), 384, dropout);
            gpt.randomise(1);
            gpt.model.logits_chunk_rows = 7;
            for (size_t s = 0; s < r.rows.size(); s++) add_row(gpt.builder, data, s);
            REQUIRE(gpt.builder.targets.size() < gpt.builder.tokens.size() / 2);
            Batch b = gpt.batch({3, 4, 5});
            Numbers g = gpt.gradients(b);
            const int C = 16;
            for_each_tensor(gpt.opt.table, [&](const std::string& name, size_t at, size_t n) {
                auto check = [&](size_t from, size_t count) {
                    check_gradient(name, gpt.opt.params + from, &g[from], count, [&] { return gpt.loss(b); }, 16);
                };
                if (name.find("c_attn.bias") == std::string::npos) return check(at, n);
                check(at, C);
                check(at + 2 * C, C);  // that of the keys' bias is zero but for rounding (test_gpt_gradients.cpp)
            });
        }
    }
}

// ---------------------------------------------------------------- the mixture
static std::vector<uint64_t> take_of(
    InstructData& data, const std::vector<double>& weights, const std::string& how, uint64_t cap) {
    data.mixture.mix(weights, how, cap);
    return data.mixture.take;
}

TEST_SUITE("mixture") {
    TEST_CASE("rows of each task in an epoch") {
        typedef std::vector<uint64_t> Counts;
        std::vector<InstructRow> rows;
        add_rows(rows, "a", 10);
        add_rows(rows, "b", 3);
        add_rows(rows, "c", 1);
        Rows r(rows);
        InstructData data(*r.file, {EOT});
        CHECK((data.mixture.take == Counts{10, 3, 1} && data.sequences() == 14));
        CHECK(take_of(data, {1, 1, 1}, "equal", 0) == Counts{5, 5, 4});
        CHECK(take_of(data, {1, 1, 1}, "size", 4) == Counts{4, 3, 1});
        CHECK(take_of(data, {1, 1, 1}, "equal", 4) == Counts{3, 3, 2});    // 8 rows, 2 2/3 of each
        CHECK(take_of(data, {2, 1, 0.5}, "size", 0) == Counts{12, 2, 0});  // 20 : 3 : 0.5 of 14 = 11.9, 1.8, 0.3
        CHECK(take_of(data, {1, 1, 2}, "equal", 0) == Counts{4, 3, 7});    // 3.5, 3.5, 7
        CHECK(take_of(data, {1, 2, 1}, "size", 0) ==
              Counts{8, 5, 1});  // 8.2, 4.9, 0.8: the largest remainders are rounded up
        CHECK(take_of(data, {0, 1, 0}, "equal", 0) == Counts{0, 14, 0});
        CHECK(take_of(data, {0, 0, 0}, "size", 0) == Counts{0, 0, 0});
        CHECK(data.sequences() == 0);
        data.mixture.rows[0].clear();  // held out
        CHECK(take_of(data, {1, 1, 1}, "size", 0) == Counts{0, 3, 1});
        CHECK(take_of(data, {1, 1, 1}, "equal", 0) == Counts{0, 2, 2});
    }
    TEST_CASE("any mixture: the sum is exact, no task is a row away from its share") {
        for (uint64_t seed = 0; seed < 300; seed++) {
            std::vector<InstructRow> rows = {row_of("x", "i", "", "o")};
            Rows r(rows);
            InstructData data(*r.file, {EOT});
            size_t n = 1 + below(mix64(seed, 1), 12);
            data.mixture.rows.assign(n, {});
            data.mixture.take.assign(n, 0);
            std::vector<double> weights(n);
            for (size_t t = 0; t < n; t++) {
                data.mixture.rows[t].resize(below(mix64(seed, 2, t), 3) ? 1 + below(mix64(seed, 3, t), 50) : 0);
                weights[t] = uniform(mix64(seed, 4, t)) * 3;
            }
            bool equal = seed % 2;
            uint64_t cap = seed % 3 ? 0 : 1 + seed % 40;
            data.mixture.mix(weights, equal ? "equal" : "size", cap);
            double total = 0, sum = 0;
            std::vector<double> share(n);
            for (size_t t = 0; t < n; t++) {
                double counted = (double)(cap ? std::min<size_t>(cap, data.mixture.rows[t].size())
                                              : data.mixture.rows[t].size());
                total += counted;
                sum += share[t] = counted == 0 ? 0 : weights[t] * (equal ? 1 : counted);
            }
            CHECK((double)data.sequences() == (sum > 0 ? total : 0));
            for (size_t t = 0; t < n && sum > 0; t++)
                CHECK(fabs((double)data.mixture.take[t] - total * share[t] / sum) < 1);
        }
    }
    TEST_CASE("of a task no row comes a second time before all have come once, over the epochs") {
        std::vector<InstructRow> rows;
        add_rows(rows, "a", 17);
        add_rows(rows, "b", 5);
        add_rows(rows, "c", 2);
        Rows r(rows);
        for (auto [how, cap] : {std::pair<const char*, int>{"size", 0}, {"equal", 0}, {"size", 6}}) {
            CAPTURE(how);
            InstructData data(*r.file, {EOT});
            data.mixture.mix({1, 1, 1}, how, cap);
            data.mixture.seed = 3;
            std::map<std::vector<int>, int> row_of_tokens;
            for (int s = 0; s < (int)rows.size(); s++) {
                data.make_row(s);
                row_of_tokens[data.tokens] = s;
            }
            REQUIRE(row_of_tokens.size() == rows.size());
            std::vector<int> count(rows.size(), 0);
            std::vector<std::vector<int>> order(3);
            for (uint64_t epoch = 0; epoch < 12; epoch++)
                for (uint64_t q = 0; q < data.sequences(); q++) {
                    data.make(epoch, q);
                    int s = row_of_tokens.at(data.tokens), t = r.file->task[s];
                    count[s]++;
                    order[t].push_back(s);
                    for (int other = 0; other < (int)rows.size(); other++)
                        if (r.file->task[other] == t) REQUIRE(std::abs(count[other] - count[s]) <= 1);
                }
            for (int t = 0; t < 3; t++) CHECK(order[t].size() == 12 * data.mixture.take[t]);
            Ids once(order[0].begin(), order[0].begin() + 17), twice(order[0].begin() + 17, order[0].begin() + 34);
            CHECK(once != twice);  // drawn again
            data.mixture.seed = 4;
            data.make(0, 0);
            Ids other = data.tokens;
            for (uint64_t q = 0; q < data.mixture.take[0]; q++) {
                data.make(0, q);
                once[q] -= row_of_tokens.at(data.tokens);
            }
            CHECK(std::count(once.begin(), once.begin() + data.mixture.take[0], 0) <
                  (int)data.mixture.take[0]);  // another seed, other rows
        }
    }
    TEST_CASE("names of tasks and families") {
        CHECK(named_in("lists/first", "lists"));
        CHECK(named_in("lists/first", "first"));
        CHECK(named_in("lists/first", "x,lists/first"));
        CHECK(named_in("plain", "plain"));
        CHECK(!named_in("lists/first", "list"));
        CHECK(!named_in("lists/first", "lists/last"));
        CHECK(!named_in("lists/first", "lists/first/x"));
        CHECK(!named_in("lists/first", ""));
        CHECK(named_in("superni/task1/x", "task1/x"));
    }
}

// ---------------------------------------------------------------- the task
struct Tune {
    TrainFlags f;
    SftFlags sf;
    Memory memory;
    std::unique_ptr<SftTask> task;
    explicit Tune(const Rows& train, const std::function<void(TrainFlags&, SftFlags&)>& change = {},
        const BinFile* val = nullptr, bool answers = true, int C = 16) {
        f.lr = 0.01;
        f.warmup = 0;
        f.dropout = 0;
        f.seed = 5;
        sf.batch = 4;
        sf.max_len = 96;
        if (change) change(f, sf);
        task = std::make_unique<SftTask>(f, sf, *train.file, val, BPE, ChatTemplate::from_json(train.file->templ, "t"),
            small_size(C), "", answers ? small_size(C).T : 0);
        Arena arena = arena_for(memory, [&](Arena& a) { task->plan(a); });
        task->allocate(arena);
        task->opt.set_blocks(f.weight_decay, [&](const ParamSpec& s) { return task->lr_factor(s); });
        randomise(task->opt, 1, 0.3);
    }
    AnsweringGpt answering(int max_new = 8) { return {task->model, task->generator, BPE, task->opt.stats, max_new}; }
    Ids tokens_of_epoch(std::vector<int>& sizes) {  // of all batches
        Cursor cursor;
        Ids all;
        while (cursor.next < task->train_data.sequences()) {
            sizes.push_back(task->fill(task->builder, cursor));
            all.insert(all.end(), task->builder.tokens.begin(), task->builder.tokens.end());
        }
        return all;
    }
};

TEST_SUITE("the task") {
    TEST_CASE("rows with the question of a held-out one go with it") {
        // of "a" the second row asks what "held" asks, with another answer; a conversation asks with its last turn
        std::vector<InstructRow> rows = {row_of("a", "one", "x", "1"), row_of("a", "two", "x", "2"),
            row_of("held", "two", "x", "3"), row_of("held", "three", "", "4"), row_of("a", "two", "", "5")};
        rows.push_back(row_of("a", "one", "", "6"));
        rows.back().turns.push_back({"three", "", "7"});
        rows.back().outputs = {"7"};
        Rows r(rows);
        InstructData data(*r.file, {EOT});
        CHECK(data.mixture.hold_out("") == 0);
        CHECK((data.mixture.rows[0].size() == 4 && data.mixture.rows[1].size() == 2));
        CHECK(data.mixture.hold_out("held") == 1);
        CHECK((data.mixture.rows[0] == std::vector<uint32_t>{0, 4, 5} && data.mixture.rows[1].empty()));
        // every turn of a conversation is learned, so none may ask it
        rows = {row_of("held", "two", "", "3"), row_of("a", "two", "", "1"), row_of("a", "one", "", "2"),
            row_of("a", "one", "", "3"), row_of("held", "five", "", "4"), row_of("a", "five", "", "4")};
        for (size_t i : {1, 2, 3, 4}) {
            rows[i].turns.push_back({i == 3 ? "two" : "three", "", "7"});
            rows[i].outputs = {"7"};
        }
        Rows more(rows);
        InstructData conversations(*more.file, {EOT});
        CHECK(conversations.mixture.hold_out("held") == 1);
        CHECK((conversations.mixture.rows[0].empty() &&
               conversations.mixture.rows[1] ==
                   std::vector<uint32_t>{
                       2, 3, 5}));  // "two" after "one" is another question, "five" is not what is held out
    }
    TEST_CASE("a batch holds --batch rows; what is held out is in none, weights and caps are the command line's") {
        std::vector<InstructRow> rows;
        add_rows(rows, "lists/first", 8);
        add_rows(rows, "lists/last", 8);
        add_rows(rows, "words/first", 4);
        Rows r(rows);
        auto counts = [&](const std::function<void(TrainFlags&, SftFlags&)>& change) {
            Tune t(r, change);
            std::vector<int> sizes;
            std::string text = BPE.decode(t.tokens_of_epoch(sizes));
            for (size_t i = 0; i + 1 < sizes.size(); i++) CHECK(sizes[i] == 4);
            std::vector<int> n;
            for (const char* task : {"do lists/first\n", "do lists/last\n", "do words/first\n"}) {
                n.push_back(0);
                for (size_t at = 0; (at = text.find(task, at)) != text.npos; at++) n.back()++;
            }
            return n;
        };
        CHECK(counts({}) == Ids{8, 8, 4});
        CHECK(counts([](TrainFlags&, SftFlags& sf) { sf.holdout = "words"; }) == Ids{8, 8, 0});
        CHECK(counts([](TrainFlags&, SftFlags& sf) { sf.holdout = "first"; }) == Ids{0, 8, 0});
        CHECK(counts([](TrainFlags&, SftFlags& sf) { sf.holdout = "lists/last,words/first"; }) == Ids{8, 0, 0});
        CHECK(counts([](TrainFlags&, SftFlags& sf) { sf.cap = 4; }) == Ids{4, 4, 4});
        CHECK(counts([](TrainFlags&, SftFlags& sf) {
            sf.weights = "lists=0.5,first=3";
            sf.mix = "equal";
        }) == Ids{6, 2, 12});  // 1.5 : 0.5 : 3
        for (const char* bad : {"lists", "lists=", "lists=x", "lists=-1", "lists=inf", "lists=nan", "=2", "lists=1x"}) {
            CAPTURE(bad);
            CHECK_THROWS_AS(counts([&](TrainFlags&, SftFlags& sf) { sf.weights = bad; }), const Error&);
        }
        try {
            counts([](TrainFlags&, SftFlags& sf) { sf.weights = "list=2"; });
            FAIL("a name that is no task");
        } catch (const Error& e) {
            CHECK(has(e.what(),
                "--weights: expected tasks or families of the training data, found \"list\"; there are "
                "lists/first, lists/last, words/first"));
            CHECK(e.code == EXIT_USAGE);
        }
    }
    TEST_CASE(
        "validation: rows of val.bin that are not held out, their answers only, whatever the batch; --eval-tokens") {
        std::vector<InstructRow> rows;
        add_rows(rows, "a/x", 12);
        add_rows(rows, "b/y", 8);
        Rows train(rows), val(ragged_rows()), both(rows);
        double loss = 0;
        for (int batch : {1, 3, 16}) {
            Tune t(
                train,
                [&](TrainFlags& f, SftFlags& sf) {
                    sf.batch = batch;
                    f.eval_tokens = 0;
                    f.dropout = 0.1;
                },
                val.file.get());
            Eval e = t.task->evaluate();
            InstructData data(*val.file, {EOT});
            uint64_t targets = 0;
            for (size_t s = 0; s < val.rows.size(); s++) {
                data.make_row(s);
                targets += data.targets.size();
            }
            CHECK(e.targets == targets);
            CHECK(e.score == -e.loss);
            if (batch == 1) loss = e.loss;
            CHECK(e.loss == doctest::Approx(loss).epsilon(1e-12));
            CHECK(t.task->model.dropout == 0.1f);  // as it was
        }
        Tune held(
            train,
            [&](TrainFlags& f, SftFlags& sf) {
                f.eval_tokens = 0;
                sf.holdout = "b";
                sf.on_prompt = true;
            },
            both.file.get());
        CHECK(held.task->val_rows == 12);
        Cursor cursor;
        held.task->fill(held.task->builder, cursor);
        CHECK(held.task->builder.targets.size() == held.task->builder.tokens.size());  // in training every token is one
        CHECK(held.task->evaluate().targets == 10 * 9 + 2 * 10);  // " answ" "er" " " and a digit or two, and the end
        Tune few(train, [&](TrainFlags& f, SftFlags&) { f.eval_tokens = 60; }, both.file.get());
        uint64_t n = few.task->val_rows, seen = few.task->evaluate().targets;
        CHECK((n > 0 && n < 5 && seen >= 9 * n && seen <= 10 * n));
        Tune none(train, [&](TrainFlags&, SftFlags& sf) { sf.holdout = "a,b"; }, both.file.get());
        CHECK(none.task->evaluate().targets == 0);
    }
    TEST_CASE("steps lower the loss on answers; memory is there for answers only where some are wanted") {
        Rows r(ragged_rows());
        Tune t(r);
        std::vector<char> host(t.task->shape.bytes());
        double first = 0, last = 0;
        Cursor cursor;
        for (int step = 0; step < 60; step++) {
            t.task->fill(t.task->builder, cursor);
            t.task->opt.zero_gradients();
            t.task->forward_backward(
                t.task->builder.finish(host.data(), {1, (uint64_t)step, 0}, 1 / t.task->builder.weight()),
                t.task->opt.stats);
            t.f.steps = 1000;
            update(t.task->opt, t.f, step);
            last = t.task->opt.stats->loss / t.task->builder.weight();
            if (step == 0) first = last;
        }
        CHECK(last < 0.5 * first);
        Tune without_answers(r, {}, nullptr, false);
        CHECK(without_answers.memory.size() + 4 * 2 * 2 * 96 * 16 * sizeof(real) <=
              t.memory.size());  // keys and values of 4 rows, 2 layers
    }
}

// ---------------------------------------------------------------- answers
static Ids slow_greedy(Gpt& model, BatchBuilder& builder, Ids text, int max_new, std::vector<char>& host) {
    Ids answer;
    while ((int)answer.size() < max_new && (int)text.size() <= model.config.T) {
        builder.clear();
        builder.add(text, Ids(text.size(), 0), {(int)text.size() - 1}, {0});
        model.decode(builder.finish(host.data(), {1, 2, 0}, 1));
        model.logits_forward(0, 1);
        int next = (int)(std::max_element(model.acts.logits, model.acts.logits + model.config.V) - model.acts.logits);
        if (next == EOT) break;
        answer.push_back(next);
        text.push_back(next);
    }
    return answer;
}
// Σ log p of `answer` and its end after the prompt, from the logits of this one sequence
static double log_probability(
    Gpt& model, BatchBuilder& builder, const Ids& prompt, const std::string& answer, std::vector<char>& host) {
    Ids ids = prompt, target, at;
    BPE.encode(answer, target, SPECIALS_AS_TEXT);
    target.push_back(EOT);
    for (size_t i = 0; i < target.size(); i++) at.push_back((int)(prompt.size() + i) - 1);
    ids.insert(ids.end(), target.begin(), target.end() - 1);
    builder.clear();
    builder.add(ids, Ids(ids.size(), 0), at, target);
    model.decode(builder.finish(host.data(), {1, 2, 0}, 1));
    double sum = 0;
    for (size_t i = 0; i < target.size(); i++) {
        model.logits_forward((int)i, 1);
        double total = 0;
        for (int v = 0; v < V; v++) total += exp(model.acts.logits[v]);
        sum += model.acts.logits[target[i]] - log(total);
    }
    return sum;
}
static std::vector<Json> lines_of(const std::string& path) {
    std::vector<Json> lines;
    std::string text = read_file(path);
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = text.find('\n', at);
        lines.push_back(parse_json(text.substr(at, end - at), path));
    }
    return lines;
}
// Scores the options of a row after its prompt.
static void choose_option(
    AnsweringGpt& model, TaskScore& score, const Ids& prompt, const InstructText& row, bool space, Json& line) {
    Texts options = row.options;
    for (std::string& option : options) option = (space ? " " : "") + option;
    score_options(score, model.log_likelihoods(prompt, options, EOT), row, line);
}

TEST_SUITE("answers") {
    TEST_CASE("the evaluator's answers are those of a slow greedy search, its scores theirs") {
        std::vector<InstructRow> rows = ragged_rows();
        add_rows(rows, "a", 5);
        Rows draft(rows);
        Tune t(draft, [](TrainFlags& f, SftFlags& sf) {
            sf.batch = 3;
            f.dropout = 0.2;
        });
        std::vector<char> host(t.task->shape.bytes());
        BatchBuilder builder = t.task->builder;
        // every second row's reference is what the model says; the last row's end is soon
        std::vector<std::string> expected;
        for (int pass = 0; pass < 2; pass++) {
            Rows r(rows);
            expected.clear();
            t.task->model.dropout = 0;
            for (size_t s = 0; s < rows.size(); s++) {
                Ids prompt{EOT};
                for (size_t i = 0; i < r.file->span(s, r.file->spans(s) - 1).begin; i++)
                    prompt.push_back(r.file->token(s, i));
                expected.push_back(trimmed(BPE.decode(slow_greedy(t.task->model, builder, prompt, 8, host))));
                if (pass == 0 && s % 2 && !blank(expected[s]))
                    rows[s].outputs = {"x", parse_json(dump_json(expected[s]), "t").s};
            }
            t.task->model.dropout = 0.2f;
        }
        Rows r(rows);
        TempDir dir;
        std::vector<TestSet> sets = {draw_test_set("all", *r.file, 0, false),
            draw_test_set("one", *r.file, 1, false, [](const std::string& task) { return task == "b"; })};
        CHECK((sets[0].rows.size() == rows.size() && sets[1].rows.size() == 1));
        AnsweringGpt model = t.answering();
        System a = evaluate_on_instructions("me", sets, model, dir / "answers.jsonl");
        CHECK(t.task->model.dropout == 0.2f);
        std::vector<Json> lines = lines_of(dir / "answers.jsonl");
        REQUIRE(lines.size() == rows.size() + 1);
        std::vector<TaskScore> score(r.file->tasks.size());
        const std::vector<uint32_t>& order = sets[0].rows;
        int64_t exact = 0, exact_said = 0;
        double rouge = 0, rouge_said = 0;
        for (size_t i = 0; i < order.size(); i++) {
            size_t s = order[i];
            CHECK(lines[i].find("answer")->s == parse_json(dump_json(expected[s]), "t").s);
            CHECK(lines[i].find("task")->s == rows[s].task);
            CHECK(lines[i].find("set")->s == "all");
            CHECK(has(lines[i].find("prompt")->s, rows[s].turns.back().instruction));
            score[r.file->task[s]].add(expected[s], parse_instruct_text(*r.file, s), false);
            exact += exact_match(expected[s], rows[s].outputs);
            rouge += rouge_l(expected[s], rows[s].outputs);  // any of the references
            CHECK(lines[i].find("exact")->b == exact_match(expected[s], rows[s].outputs));
        }
        CHECK(exact >= 3);
        CHECK(exact < (int64_t)rows.size());
        for (size_t k = 0; k < score.size(); k++) {
            CHECK((a.score[0][k].rows == score[k].rows && a.score[0][k].exact == score[k].exact));
            CHECK(a.score[0][k].rouge == doctest::Approx(score[k].rouge).epsilon(1e-12));
            exact_said += a.score[0][k].exact;
            rouge_said += a.score[0][k].rouge;
        }
        CHECK(exact_said == exact);
        CHECK(rouge_said == doctest::Approx(rouge).epsilon(1e-12));
        CHECK(lines.back().find("set")->s == "one");
    }
    TEST_CASE("a prompt that fills the context has no answer, and counts as wrong") {
        std::vector<InstructRow> rows = {row_of("a", "say", std::string(70, 'x'), "a"),
            row_of("a", "say", std::string(82, 'x'), "a"),
            row_of("a", "say", std::string(81, 'x') + " y", "because of \"y\"")};
        Rows r(rows);
        Tune t(r, [](TrainFlags&, SftFlags& sf) {
            sf.batch = 1;
            sf.max_len = 16;
        });  // room for any prompt, though training rows are short
        AnsweringGpt e = t.answering();
        CHECK(
            row_prompt(*r.file, 0, {EOT}).size() ==
            1 + 3 + 1 + 70 + 1 + 7);  // <|endoftext|>, "say", "\n", the input, "\n", "answer :" with "er" as one token
        CHECK(row_prompt(*r.file, 1, {EOT}).size() == 95);
        std::vector<TestSet> sets = {draw_test_set("all", *r.file, 0, false)};
        System a = evaluate_on_instructions("me", sets, e, "");
        CHECK((a.score[0][0].rows == 3 && a.score[0][0].too_long == 1));
        CHECK((a.score[0][0].quotes == 1 && a.score[0][0].quotes_of_input == 0));  // it would have had to quote
    }
    TEST_CASE("options: the likeliest as a whole and per byte, computed one at a time") {
        std::vector<InstructRow> rows;
        for (int i = 0; i < 40; i++) {
            Texts options;
            for (int k = 0; k < 2 + i % 4; k++)
                options.push_back(std::string(1 + below(mix64(1, i, k), 9), (char)('a' + k)) + (k % 2 ? " end" : ""));
            rows.push_back(row_of(i % 2 ? "a" : "b", format("choose %d", i),
                i % 3 ? format("among %d", i * 7) + std::string(10 * (i % 4), 'z') : "", options[i % options.size()],
                options));
        }
        for (bool space : {true, false}) {
            CAPTURE(space);
            Rows r(rows,
                space ? short_template()
                      : ChatTemplate{"t", "{instruction}|{input}|{output}", "{instruction}|{output}", "{output}"});
            Tune t(r, [](TrainFlags& f, SftFlags& sf) {
                sf.batch = 1;
                sf.max_len = 96;
                f.dropout = 0.2;
            });  // 128 tokens: options need several batches, of long prompts one each
            std::vector<char> host(t.task->shape.bytes());
            BatchBuilder builder = t.task->builder;
            AnsweringGpt e = t.answering();
            TaskScore score;
            int64_t by_sum = 0, by_mean = 0, differ = 0;
            for (size_t s = 0; s < rows.size(); s++) {
                Ids prompt = row_prompt(*r.file, s, {EOT});
                InstructText text = parse_instruct_text(*r.file, s);
                Json line = Json::make_object();
                choose_option(e, score, prompt, text, space, line);
                CHECK(t.task->model.dropout == 0.2f);  // as it was
                t.task->model.dropout = 0;
                std::vector<double> sums, means;
                for (const std::string& o : text.options) {
                    sums.push_back(log_probability(t.task->model, builder, prompt, (space ? " " : "") + o, host));
                    means.push_back(sums.back() / (double)o.size());
                }
                t.task->model.dropout = 0.2f;
                const std::string &whole = text.options[std::max_element(sums.begin(), sums.end()) - sums.begin()],
                                  &mean = text.options[std::max_element(means.begin(), means.end()) - means.begin()];
                CHECK(line.find("option")->s == whole);
                CHECK(line.find("option_per_byte")->s == mean);
                by_sum += whole == text.outputs[0];
                by_mean += mean == text.outputs[0];
                differ += whole != mean;
            }
            CHECK((score.with_options == 40 && score.by_sum == by_sum && score.by_mean == by_mean));
            CHECK(differ > 3);  // else the two could be the same
            CHECK((by_sum > 0 && by_sum < 40));
            CHECK(score.chance == doctest::Approx(10 * (1.0 / 2 + 1.0 / 3 + 1.0 / 4 + 1.0 / 5)));
            // options of which one does not fit into the context cannot be compared: none is right
            // (the line says what was chosen, where something was)
            Ids prompt = row_prompt(*r.file, 0, {EOT});
            for (size_t room : {96 - prompt.size(), 97 - prompt.size(), 98 - prompt.size()}) {
                InstructText text{"", {"a"}, {"a", std::string(room - space, 'b')}};
                TaskScore one;
                Json line = Json::make_object();
                choose_option(e, one, prompt, text, space, line);
                CHECK((one.with_options == 1 && one.chance == 0.5));
                CHECK((line.find("option") != nullptr) == (prompt.size() + room <= 96));
                CHECK(one.long_options == !line.find("option"));
                if (!line.find("option")) CHECK((one.by_sum == 0 && one.by_mean == 0));
            }
            // an evaluation asks for the options as the template puts them after a prompt
            struct Options {
                const Tokenizer& bpe = BPE;
                int asked = 0, with_space = 0;
                size_t max_prompt() const { return 96; }
                std::vector<Answer> generate(
                    const std::vector<Ids>& prompts, int, const std::function<void(size_t)>&) const {
                    return std::vector<Answer>(prompts.size());
                }
                std::vector<double> log_likelihoods(const Ids&, const Texts& answers, int) {
                    asked++;
                    with_space += std::all_of(answers.begin(), answers.end(), [](auto& a) { return a[0] == ' '; });
                    return std::vector<double>(answers.size());
                }
            } model;
            evaluate_on_instructions("me", {draw_test_set("all", *r.file, 0, false)}, model, "");
            CHECK((model.asked == 40 && model.with_space == (space ? 40 : 0)));
        }
    }
    TEST_CASE("baselines: the input as it is, and the answer that most of a task's other rows have") {
        // of each task: what its rows have as answers; several spellings of one in a row are one answer, and so is a
        // sign
        const std::vector<std::vector<Texts>> tasks = {
            {{"plum"}, {"fig"}, {"plum."}, {"Fig"}, {"pear"}, {"fig!"}, {"fig"}, {"plum"}}, {{"same"}},
            {{"b"}, {"a"}, {"a"}, {"a"}}, {{"abc", "ABC"}, {"b"}, {"abc", "abc"}, {"b"}, {"b"}, {"x"}},
            {{"-"}, {"+"}, {"-"}, {"+"}, {"+"}, {"+"}, {"+"}}};
        std::vector<InstructRow> rows;
        for (size_t t = 0; t < tasks.size(); t++)
            for (const Texts& outputs : tasks[t]) {
                rows.push_back(
                    row_of(std::string(1, (char)('a' + t)), t == 1 ? "same" : "i", t == 1 ? "" : "pear", outputs[0]));
                rows.back().outputs = outputs;
            }
        Rows r(rows);
        auto form = [](const std::string& o, bool strict) {
            return normalize_answer(o, strict).empty() ? normalize_answer(o, true) : normalize_answer(o, strict);
        };
        for (bool strict : {false, true}) {
            CAPTURE(strict);
            std::vector<TestSet> sets = {draw_test_set("s", *r.file, 0, strict)};
            System copy = copy_input_baseline(sets), often = most_frequent_baseline(sets);
            for (size_t t = 0; t < tasks.size(); t++) {
                // slowly: of the rows that a draw puts on the other side the answer that most of them have; of several
                // the first by the alphabet
                CAPTURE(t);
                const size_t n = tasks[t].size();
                double exact = 0, rouge = 0;
                for (int d = 0; d < 32; d++)
                    for (size_t i = 0; i < n; i++) {
                        Permutation drawn(n, mix64(2, t, (uint64_t)d));
                        std::string best;
                        int most = 0;
                        for (size_t j = 0; j < n; j++)
                            if (drawn(j) % 2 != drawn(i) % 2)
                                for (const std::string& o : tasks[t][j]) {
                                    int have = 0;
                                    for (size_t k = 0; k < n; k++)
                                        have += drawn(k) % 2 != drawn(i) % 2 && exact_match(o, tasks[t][k], strict);
                                    if (have > most || (have == most && form(o, strict) < form(best, strict))) {
                                        most = have;
                                        best = o;
                                    }
                                }
                        exact += exact_match(best, tasks[t][i], strict) / 32.0;
                        rouge += rouge_l(best, tasks[t][i]) / 32;
                    }
                CHECK(often.score[0][t].rows == (int64_t)n);
                CHECK(often.score[0][t].exact == doctest::Approx(exact).epsilon(1e-12));
                CHECK(often.score[0][t].rouge == doctest::Approx(rouge).epsilon(1e-12));
            }
            CHECK((copy.score[0][0].exact == 1 && copy.score[0][1].exact == 1));  // b has no input: its instruction
            CHECK(task_mean(METRICS[ROUGE], {copy.score[0][0]}) == doctest::Approx(1.0 / 8));
            CHECK((often.score[0][1].rows == 1 && often.score[0][1].exact == 0));  // no other row: no answer
        }
        // answers that take turns: the halves are drawn, not every other row; the two are as frequent, so that a half
        // has a little less of what the other has more of
        rows.clear();
        for (int i = 0; i < 100; i++) rows.push_back(row_of("a", "i", "x", i % 2 ? "yes" : "no"));
        Rows turns(rows);
        const double right = most_frequent_baseline({draw_test_set("s", *turns.file, 0, false)}).score[0][0].exact;
        CHECK((right > 40 && right < 50));
    }
    TEST_CASE("rows of a task are drawn from all of them, always the same") {
        std::vector<InstructRow> rows;
        add_rows(rows, "a", 60);
        add_rows(rows, "b", 3);
        Rows r(rows);
        TestSet some = draw_test_set("s", *r.file, 10, false), again = draw_test_set("s", *r.file, 10, false),
                all = draw_test_set("s", *r.file, 0, false);
        CHECK((some.rows.size() == 13 && some.drawn_from == 63));
        CHECK((some.rows[9] < 60 && some.rows[10] == 60 && some.rows[12] == 62));  // ten of a, all three of b
        Ids every(63);
        std::iota(every.begin(), every.end(), 0);
        CHECK(Ids(all.rows.begin(), all.rows.end()) == every);
        CHECK(some.rows == again.rows);
        CHECK(std::is_sorted(some.rows.begin(), some.rows.end()));
        CHECK(std::adjacent_find(some.rows.begin(), some.rows.end()) == some.rows.end());
        CHECK((some.rows[0] < 30 && some.rows[9] >= 30));  // not the first ten
    }
    TEST_CASE("quoted words, and whether they are in the input") {
        CHECK(quoted("positive because of \" good \"") == "good");
        CHECK(quoted("because of \"good\" and \"bad\"") == "good");
        CHECK((quoted("good") == "" && quoted("a \" b") == "" && quoted("\"\"") == ""));
        CHECK(has_word("the good food .", "good"));
        CHECK((has_word("good", "good") && has_word("x,good", "good") && has_word("goods good", "good")));
        CHECK((!has_word("goods", "good") && !has_word("agood", "good") && !has_word("the food", "good") &&
               !has_word("good", "") && !has_word("", "good")));
        TaskScore s;
        InstructText row{"the food was good .", {"positive because of \"good\""}, {}};
        for (const char* answer :
            {"positive because of \"good\"", "negative because of \"was\"", "positive because of \"great\"", "good"})
            s.add(answer, row, false);
        CHECK((s.rows == 4 && s.exact == 1 && s.quotes == 4 && s.quotes_of_input == 2));
        CHECK(task_mean(METRICS[QUOTES], {s}) == 0.5);
        TaskScore second;  // of two references either will do
        second.add("the red fig", {"x", {"a plum", "red fig, the"}, {}}, false);
        second.add("the red fig", {"x", {"a plum", "The red fig."}, {}}, false);
        CHECK((second.exact == 1 && second.rouge == doctest::Approx(2.0 / 3 + 1)));  // "red fig" of three words
        TaskScore plain;
        plain.add("good", {"x", {"good"}, {}}, false);
        plain.add("he said \"yes\"", {"x", {"he said \"yes\""}, {}}, false);  // quotes, but nothing of the input
        CHECK((plain.quotes == 0 && of_tasks(METRICS[QUOTES], {plain}).empty()));
    }
}

TEST_SUITE("tables") {
    TEST_CASE("every task's mean counts the same; the last model minus the first, with its interval") {
        std::vector<InstructRow> rows;
        add_rows(rows, "a", 4);
        add_rows(rows, "b", 2);
        add_rows(rows, "c", 1);
        Rows r(rows);
        std::vector<TestSet> sets = {draw_test_set("s", *r.file, 0, false),
            draw_test_set("none", *r.file, 0, false, [](const std::string&) { return false; })};
        auto system = [&](const std::string& name, std::vector<int64_t> exact) {
            System a{name, {std::vector<TaskScore>(3), std::vector<TaskScore>(3)}};
            for (size_t t = 0; t < 3; t++) {
                TaskScore& s = a.score[0][t];
                s.rows = std::array{4, 2, 1}[t];
                s.exact = exact[t];
                s.rouge = 0.5 * (double)exact[t];
                if (t != 0) {
                    s.quotes = 4;
                    s.quotes_of_input = (int64_t)t;
                }
                if (t == 1) {
                    s.with_options = 2;
                    s.by_sum = exact[t];
                    s.by_mean = 1;
                }
            }
            return a;
        };
        const std::vector<System> all = {most_frequent_baseline(sets), copy_input_baseline(sets),
            system("one", {1, 0, 0}), system("two", {2, 2, 0}), system("three", {4, 1, 1})};
        Json json = results_json(sets, all);
        const Json &s = *json.find("s"), &three = *s.find("three");
        CHECK(s.find("one")->find("exact_match")->d == doctest::Approx((0.25 + 0 + 0) / 3));
        CHECK(three.find("exact_match")->d == doctest::Approx((1 + 0.5 + 1) / 3));
        CHECK(three.find("rouge_l")->d == doctest::Approx((0.5 + 0.25 + 0.5) / 3));
        CHECK(three.find("option_accuracy")->d == doctest::Approx(0.5));
        CHECK(s.find("two")->find("option_accuracy_per_byte")->d == 0.5);
        CHECK(three.find("quotes_of_input")->d == (0.25 + 0.5) / 2);
        CHECK(three.find("tasks")->find("a")->find("rows")->i == 4);
        CHECK(three.find("tasks")->find("b")->find("option_accuracy_per_byte")->d == 0.5);
        CHECK(!three.find("tasks")->find("a")->find("options"));
        Interval expected = paired_bootstrap_interval({1, 0.5, 1}, {0.25, 0, 0}, 1);
        const Json& difference = *three.find("minus_first_model")->find("exact_match");
        CHECK((difference.find("mean")->d == expected.mean && !expected.known && !difference.find("low") &&
               !difference.find("high")));  // three tasks are too few
        const Json& option = *s.find("two")->find("minus_first_model")->find("option_accuracy");
        CHECK((option.find("mean")->d == 1 && !option.find("low")));  // nor is one
        CHECK(s.find("two")->find("minus_first_model")->find("rouge_l")->find("mean")->d ==
              paired_bootstrap_interval({0.25, 0.5, 0}, {0.125, 0, 0}, 1).mean);
        CHECK(!s.find("one")->find("minus_first_model"));
        CHECK(!s.find("copy the input")->find("minus_first_model"));
        {  // six tasks have an interval
            std::vector<InstructRow> six;
            for (const char* task : {"a", "b", "c", "d", "e", "f"}) add_rows(six, task, 2);
            Rows wide(six);
            std::vector<TestSet> one_set = {draw_test_set("s", *wide.file, 0, false)};
            auto six_tasks = [](bool tuned) {
                System system{tuned ? "tuned" : "base", {std::vector<TaskScore>(6)}};
                for (int t = 0; t < 6; t++) {
                    system.score[0][t].rows = 2;
                    system.score[0][t].exact = tuned ? t % 3 : 0;
                }
                return system;
            };
            const Json results = results_json(one_set, {most_frequent_baseline(one_set), copy_input_baseline(one_set),
                                                           six_tasks(false), six_tasks(true)}),
                       &gain = *results.find("s")->find("tuned")->find("minus_first_model")->find("exact_match");
            Interval is = paired_bootstrap_interval({0, 0.5, 1, 0, 0.5, 1}, {0, 0, 0, 0, 0, 0}, 1);
            CHECK((is.known && is.low < is.mean && gain.find("mean")->d == is.mean && gain.find("low")->d == is.low &&
                   gain.find("high")->d == is.high));
        }
        CHECK(!json.find("none")->find("three")->find("minus_first_model"));  // no rows, no difference
        print_results(sets, all, true);  // does not stumble over a set without rows
    }
}

// ---------------------------------------------------------------- prompts
static SamplingFlags model_at(const std::string& dir) {
    SamplingFlags f;
    f.model = dir;
    return f;
}
TEST_SUITE("inference") {
    TEST_CASE(
        "the prompt of generate and chat is the row that was learned, up to its answer; the tuned model has the "
        "tensors of the base") {
        std::vector<InstructRow> rows = ragged_rows();
        rows[0].examples = {{"", "a b", "b"}, {"", "c d", "d"}};
        for (size_t shots : {0, 1, 2})
            for (const ChatTemplate& templ : {alpaca_template(), short_template()}) {
                Rows r(rows, templ, shots);
                Tune t(r, {}, nullptr, true, 64);  // heads of 32 channels: what a directory may hold
                TempDir dir;
                t.task->save_model(dir.path);
                CHECK(template_fingerprint(ChatTemplate::read(dir / "template.json").json()) == r.file->header.templ);
                LoadedSft asked(model_at(dir.path));
                asked.context = 4096;  // as long as it takes: only the prompt is made
                for (size_t s = 0; s < rows.size(); s++) {
                    InstructRow question = rows[s];
                    question.turns.back().output.clear();
                    question.outputs.clear();
                    Truncation truncation;
                    for (int64_t said : {(int64_t)shots, (int64_t)-1}) {  // the model's template knows how many
                        CHECK(asked.prompt(question, said, 1, false, truncation) == row_prompt(*r.file, s, {EOT}));
                        CHECK((truncation.fits && !truncation.cut()));
                    }
                }
                // where they do not fit there are fewer, unless so many were requested
                Truncation truncation;
                InstructRow question = rows[0];
                asked.context = (int64_t)asked.prompt(question, 1, 1, false, truncation).size() + 1;
                CHECK(asked.prompt(question, -1, 1, false, truncation) ==
                      asked.prompt(question, std::min<int64_t>(shots, 1), 1, false, truncation));
                CHECK_THROWS_AS(asked.prompt(question, 2, 1, false, truncation), Error);
                SmallGpt base(small_size(64), 32);
                TempDir other;
                base.randomise(2);
                save_tensors(other.path, base.opt.table, base.opt.params);
                auto header = [](const std::string& path) {
                    std::string file = read_file(path), text;
                    uint64_t n;
                    memcpy(&n, file.data(), 8);
                    for (auto& [name, value] : parse_json(file.substr(8, n), path).o)
                        if (name != "__metadata__")
                            text += name + dump_json(*value.find("shape")) + dump_json(*value.find("dtype")) + "\n";
                    return text;
                };
                CHECK(header(dir / "model.safetensors") == header(other / "model.safetensors"));
            }
    }
    TEST_CASE("a conversation that is too long loses its earliest turns, and leaves room for the answer") {
        Rows r(ragged_rows());
        Tune t(r, {}, nullptr, true, 64);
        TempDir dir;
        t.task->save_model(dir.path);
        LoadedSft asked(model_at(dir.path));  // 96 positions
        InstructRow row;
        row.where = "this message";
        row.system = "S";
        for (int i = 0; i < 9; i++) row.turns.push_back({format("question %d", i), "", format("answer %d", i)});
        row.turns.push_back({"last", "", ""});
        Truncation truncation;
        Ids prompt = asked.prompt(row, 0, 40, true, truncation);
        CHECK((truncation.fits && truncation.turns));
        CHECK(prompt.size() <= 96 - 40);
        std::string text = BPE.decode(prompt);
        CHECK(text == "<|endoftext|>S\n\nquestion 8\nanswer : answer 8<|endoftext|>last\nanswer :");
        CHECK(row.turns.size() == 10);
        row.turns = {{std::string(60, 'x'), "", ""}};
        try {
            asked.prompt(row, 0, 40, true, truncation);
            FAIL("a message that is too long");
        } catch (const Error& e) {
            CHECK(has(e.what(),
                "this message: the prompt has 71 tokens, expected at most 55 of the model's context of 96: "
                "shorten it"));
        }
    }
    TEST_CASE("test.bin and test_NAME.bin of a folder, sorted") {
        TempDir dir;
        for (const char* name :
            {"test_b.bin", "test.bin", "test_a.bin", "test_.bin", "tests.bin", "test_c.jsonl", "train.bin", "val.bin"})
            write_bytes(dir / name, "x");
        CHECK(test_files(dir.path) == Texts{dir / "test.bin", dir / "test_a.bin", dir / "test_b.bin"});
        CHECK(file_stem("a.b/test_x.bin") == "test_x");
        CHECK_THROWS_AS(test_files(dir / "nowhere"), const Error&);
    }
}
