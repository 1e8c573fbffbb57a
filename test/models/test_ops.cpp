// test_ops.cpp: properties, in fp32: vector mathematics, random numbers, dropout, loader, loss, optimiser, threads,
// batches.
#include "train_bert.cu"

#include "common/ops/glu.cuh"
#include "common/ops/rope.cuh"
#include "data/bin_writer.h"
#include "test/models/same_sums.h"
#include "test/models/small_bert.h"
#include "test/temp.h"

typedef std::vector<float> Floats;

// Is `hits` of n trials of probability p within 4 standard deviations?
static bool likely(double hits, double n, double p) { return fabs(hits - n * p) <= 4 * sqrt(n * p * (1 - p)) + 0.5; }

TEST_SUITE("vecmath") {
    // every 4099th float of the range [0, top], both signs: all exponents, ever different mantissas
    template <class F> static void for_floats(float top, F f) {
        uint32_t end;
        memcpy(&end, &top, 4);
        for (uint32_t bits = 0; bits <= end; bits += 4099) {
            float x;
            memcpy(&x, &bits, 4);
            f(x);
            f(-x);
        }
    }
    TEST_CASE("exp") {
        double worst = 0;
        for_floats(88.0f, [&](float x) {
            if (x >= -87.3f) worst = std::max(worst, fabs((double)vec_exp(x) / exp((double)x) - 1));
        });
        CHECK(worst <= 2e-7);
        for (float x : {-87.4f, -104.0f, -1e10f, -INFINITY}) CHECK(vec_exp(x) == 0);
        for (float x : {88.1f, 1000.0f, 1e30f, INFINITY}) CHECK(vec_exp(x) == INFINITY);
        CHECK(std::isnan(vec_exp(NAN)));
        CHECK(vec_exp(0.0f) == 1);
    }
    TEST_CASE("tanh") {
        double worst = 0;
        for_floats(100.0f, [&](float x) { worst = std::max(worst, fabs((double)vec_tanh(x) - tanh((double)x))); });
        CHECK(worst <= 2e-7);
        CHECK(vec_tanh(INFINITY) == 1);
        CHECK(vec_tanh(-INFINITY) == -1);
        CHECK(std::isnan(vec_tanh(NAN)));
    }
    TEST_CASE("normal distribution function") {
        double worst = 0;
        for_floats(50.0f, [&](float x) {
            worst = std::max(worst, fabs((double)normal_cdf(x) - 0.5 * erfc(-(double)x / sqrt(2.0))));
        });
        CHECK(worst <= 3e-7);
        CHECK(std::isnan(normal_cdf(NAN)));
    }
}

TEST_SUITE("random numbers") {
    TEST_CASE("a permutation visits every number once") {
        for (uint64_t n : {1, 2, 3, 4, 5, 7, 16, 17, 64, 65, 100, 255, 256, 257, 1000, 4097, 65537, 100003})
            for (uint64_t key : {0, 1, 99}) {
                Permutation p(n, key);
                std::vector<char> seen(n);
                for (uint64_t i = 0; i < n; i++) {
                    uint64_t j = p(i);
                    REQUIRE(j < n);
                    REQUIRE(!seen[j]);
                    seen[j] = 1;
                }
            }
        // and mixes: few numbers stay or keep their neighbour, other keys give another order
        const int n = 10000;
        Permutation p(n, 1), q(n, 2);
        int fixed = 0, neighbours = 0, same = 0;
        for (int i = 0; i + 1 < n; i++) {
            fixed += p(i) == (uint64_t)i;
            neighbours += p(i + 1) == p(i) + 1;
            same += p(i) == q(i);
        }
        CHECK(fixed < 10);  // 1 expected of each, Poisson
        CHECK(neighbours < 10);
        CHECK(same < 10);
    }
    TEST_CASE("uniform, below and normal") {
        const int n = 100000;
        double sum = 0, square = 0, u = 0;
        std::vector<int> count(7);
        for (int i = 0; i < n; i++) {
            double x = normal(mix64(1, i)), y = uniform(mix64(2, i));
            sum += x;
            square += x * x;
            u += y;
            REQUIRE((y >= 0 && y < 1));
            count[below(mix64(3, i), 7)]++;
        }
        CHECK(fabs(sum / n) < 4 / sqrt(n));
        CHECK(fabs(square / n - 1) < 4 * sqrt(2.0 / n));
        CHECK(fabs(u / n - 0.5) < 4 / sqrt(12.0 * n));
        for (int c : count) CHECK(likely(c, n, 1 / 7.0));
        CHECK(below(~0ull, 1ull << 40) < 1ull << 40);
    }
}

TEST_SUITE("dropout") {
    static std::vector<char> kept(StepCounters at, uint32_t site, float p, int N, int C) {
        Floats ones((size_t)N * C, 1), out((size_t)N * C);
        cpu::dropout_forward(out.data(), ones.data(), N, C, Dropout{&at, site, p});
        std::vector<char> keep(out.size());
        for (size_t i = 0; i < out.size(); i++) {
            REQUIRE((out[i] == 0 || out[i] == 1 / (1 - p)));
            keep[i] = out[i] != 0;
        }
        return keep;
    }
    TEST_CASE("the share that is kept, in all and in every row and column") {
        const int N = 512, C = 512;
        for (float p : {0.1f, 0.5f, 0.9f}) {
            auto keep = kept({1, 2, 3}, 4, p, N, C);
            std::vector<int> row(N), column(C);
            int all = 0, bad = 0;
            for (int n = 0; n < N; n++)
                for (int c = 0; c < C; c++) {
                    row[n] += keep[n * C + c];
                    column[c] += keep[n * C + c];
                    all += keep[n * C + c];
                }
            CHECK(likely(all, N * C, 1 - p));
            // 5 standard deviations: there are 1024 of them
            for (int x : row) bad += fabs(x - C * (1 - p)) > 5 * sqrt(C * p * (1 - p));
            for (int x : column) bad += fabs(x - N * (1 - p)) > 5 * sqrt(N * p * (1 - p));
            CHECK(bad == 0);
        }
        Floats x = random_numbers<float>(64, 1), y(64);
        cpu::dropout_forward(y.data(), x.data(), 8, 8, Dropout());
        CHECK(x == y);
    }
    TEST_CASE("neighbours know nothing of each other") {
        const int N = 512, C = 512;
        const float p = 0.3f;
        auto a = kept({1, 2, 0}, 4, p, N, C);
        // two decisions that are independent agree with probability p² + (1 − p)²
        auto independent = [&](const char* name, const std::vector<char>& b, int shift) {
            double agree = 0, n = 0;
            for (size_t i = 0; i + shift < a.size(); i++) {
                agree += a[i + shift] == b[i];
                n++;
            }
            CHECK_MESSAGE(likely(agree, n, p * p + (1 - p) * (1 - p)), name);
        };
        for (int d : {1, 2, 3, 4, 8, 16, 32, 64, 128, 256}) {
            independent("columns", a, d);
            independent("rows", a, d * C);
        }
        independent("diagonal", a, C + 1);
        independent("steps", kept({1, 3, 0}, 4, p, N, C), 0);
        independent("sites", kept({1, 2, 0}, 5, p, N, C), 0);
        independent("seeds", kept({2, 2, 0}, 4, p, N, C), 0);
        independent("a site and the next step", kept({1, 1, 0}, 5, p, N, C), 0);
        // heads of attention: rows of one token
        StepCounters at{1, 2, 0};
        double agree = 0, n = 0;
        for (int t = 0; t < 512; t++) {
            DropoutRow head0(Dropout{&at, 1, p}, t, 2, 0), head1(Dropout{&at, 1, p}, t, 2, 1),
                next(Dropout{&at, 1, p}, t + 1, 2, 0);
            for (int c = 0; c < 256; c++) {
                agree += (head0(c) == head1(c)) + (head1(c) == next(c));
                n += 2;
            }
        }
        CHECK(likely(agree, n, p * p + (1 - p) * (1 - p)));
    }
    TEST_CASE("the second half of a step is the same in a micro-batch of its own") {
        const int N = 40, C = 33;
        auto all = kept({1, 2, 100}, 4, 0.5f, N, C), half = kept({1, 2, 125}, 4, 0.5f, N - 25, C);
        CHECK(std::equal(half.begin(), half.end(), all.begin() + 25 * C));
    }
}

// ---------------------------------------------------------------- the loader
struct TestData {
    static constexpr int T = 16, WORDS = 50, V = 5 + WORDS + 20;  // the last 20 are continuation pieces
    TempDir dir;
    Tokenizer words{Tokenizer::WORDPIECE};
    std::vector<std::vector<int>> documents;
    std::unique_ptr<BinFile> file;
    std::unique_ptr<MaskedLmData> data;

    TestData() {
        for (const char* name : Tokenizer::special_names) words.tokens.push_back(name);
        for (int i = 0; i < WORDS; i++) words.tokens.push_back(format("w%d", i));
        for (int i = 0; i < 20; i++) words.tokens.push_back(format("##c%d", i));
        words.build("test");
        // lengths around those of pieces (T − 2, T − 3, 2T − 5), none, one, and long ones
        std::vector<int> lengths{
            1, 2, 3, 0, T - 4, T - 3, T - 2, T - 1, 2 * T - 6, 2 * T - 5, 2 * T - 4, 4 * T - 10, 0, 1000, 777};
        for (int i = 0; i < 60; i++) lengths.push_back((int)below(mix64(1, i), 120));
        BinWriter out(dir / "train.bin", BIN_TEXT, V, words.fingerprint());
        for (size_t d = 0; d < lengths.size(); d++) {
            std::vector<int> ids;
            for (int i = 0; i < lengths[d]; i++) ids.push_back(5 + (int)below(mix64(2, d, i), V - 5));
            out.append(ids.data(), ids.size());
            out.end_sequence();
            documents.push_back(ids);
        }
        out.finish();
        file = std::make_unique<BinFile>(dir / "train.bin");
        data = std::make_unique<MaskedLmData>(*file, (int)T, words);
        data->seed = 7;
    }
    // tokens of the last sequence before masking
    std::vector<int> original() const {
        std::vector<int> t = data->tokens;
        for (size_t i = 0; i < data->positions.size(); i++) t[data->positions[i]] = data->targets[i];
        return t;
    }
};

TEST_SUITE("loader") {
    TEST_CASE("pieces hold every token of every document once, in order, in the right form") {
        TestData t;
        MaskedLmData& d = *t.data;
        uint64_t q = 0;
        double pairs = 0, singles = 0, moved = 0;
        for (auto& document : t.documents) {
            std::vector<int> text;
            while (text.size() < document.size()) {
                REQUIRE(q < d.sequences());
                d.make(0, q);
                std::vector<int> s = t.original(), types = d.types;
                size_t n = s.size();
                REQUIRE(n <= (size_t)TestData::T);
                REQUIRE(types.size() == n);
                REQUIRE(s.front() == t.words.cls());
                REQUIRE(s.back() == t.words.sep());
                size_t b = std::find(types.begin(), types.end(), 1) - types.begin();  // first of type 1
                bool pair = b < n;
                for (size_t i = 0; i < n; i++) {
                    bool special = i == 0 || i == n - 1 || (pair && i == b - 1);
                    REQUIRE(types[i] == (i >= b));
                    REQUIRE(t.words.is_special(s[i]) == special);
                    if (special && i > 0) REQUIRE(s[i] == t.words.sep());
                    if (!special) text.push_back(s[i]);
                }
                if (pair) REQUIRE((b > 2 && b < n - 1));  // both segments have text
                if (n > 3) (pair ? pairs : singles)++;
                d.make(1, q++);
                if (pair) moved += std::find(d.types.begin(), d.types.end(), 1) - d.types.begin() != (long)b;
            }
            REQUIRE(text == document);
        }
        CHECK(q == d.sequences());
        CHECK(fabs(pairs / (pairs + singles) - 0.5) < 0.05);
        CHECK(moved > 0.5 * pairs);  // the cut is drawn again in every epoch
    }
    TEST_CASE("pieces: pairs with two separators, as RoBERTa has them") {
        TestData t;
        const int c = t.words.cls(), s = t.words.sep();
        t.words.pair = {c, -1, s, s, -2, s};
        t.data = std::make_unique<MaskedLmData>(*t.file, (int)TestData::T, t.words);
        uint64_t q = 0;
        size_t longest[2] = {};  // of one text, of two
        for (auto& document : t.documents) {
            std::vector<int> text;
            while (text.size() < document.size()) {
                t.data->make(0, q++);
                const std::vector<int> x = t.original(), &types = t.data->types;
                const size_t b = std::find(types.begin(), types.end(), 1) - types.begin();  // first of type 1
                const bool pair = b < x.size();
                REQUIRE((x.size() == types.size() && x.front() == c && x.back() == s));
                if (pair) REQUIRE((x[b - 1] == s && x[b - 2] == s && x[b - 3] != s && types.back() == 1));
                longest[pair] = std::max(longest[pair], x.size());
                for (int id : x)
                    if (!t.words.is_special(id)) text.push_back(id);
            }
            REQUIRE(text == document);
        }
        CHECK(q == t.data->sequences());
        for (size_t n : longest) CHECK(n == TestData::T);
        CHECK_THROWS_WITH_AS(MaskedLmData(*t.file, 5, t.words), "--max-len: expected at least 6, found 5", Error);
    }
    TEST_CASE("masks: how many, where, and what stands there") {
        TestData t;
        MaskedLmData& d = *t.data;
        double chosen = 0, masked = 0, kept = 0, changed = 0, special = 0;
        std::vector<double> at(TestData::T), of(TestData::T);
        for (int epoch = 0; epoch < 60; epoch++)
            for (uint64_t q = 0; q < d.sequences(); q++) {
                d.make(epoch, q);
                std::vector<int> s = t.original();
                int n = 0;
                for (int id : s) n += !t.words.is_special(id);
                REQUIRE(d.positions.size() == (size_t)std::max(1.0, round(0.15 * n)));
                REQUIRE(std::is_sorted(d.positions.begin(), d.positions.end()));
                REQUIRE(std::set<int>(d.positions.begin(), d.positions.end()).size() == d.positions.size());
                if ((int)s.size() == TestData::T &&
                    !d.types.back())  // full sequences of one segment: every position as often
                    for (int p = 1; p <= n; p++) of[p]++;
                for (size_t i = 0; i < d.positions.size(); i++) {
                    int p = d.positions[i], now = d.tokens[p];
                    REQUIRE(!t.words.is_special(d.targets[i]));
                    chosen++;
                    masked += now == t.words.mask();
                    kept += now == d.targets[i];
                    changed += now != t.words.mask() && now != d.targets[i];
                    special += now != t.words.mask() && t.words.is_special(now);
                    if ((int)s.size() == TestData::T && !d.types.back()) at[p]++;
                }
            }
        double V = TestData::V;
        CHECK(likely(masked, chosen, 0.8 + 0.1 / V));
        CHECK(likely(kept, chosen, 0.1 + 0.1 / V));
        CHECK(likely(changed, chosen, 0.1 * (1 - 2 / V)));
        CHECK(likely(special, chosen, 0.1 * 4 / V));  // any id of the whole vocabulary
        for (int p = 1; p < TestData::T - 1; p++) CHECK_MESSAGE(likely(at[p], of[p], 2 / 14.0), "position ", p);
    }
    TEST_CASE("special tokens that the text itself holds are nothing to guess") {
        TempDir dir;
        Tokenizer words{Tokenizer::WORDPIECE};
        for (const char* name : Tokenizer::special_names) words.tokens.push_back(name);
        for (int i = 0; i < 20; i++) words.tokens.push_back(format("w%d", i));
        words.build("test");
        BinWriter out(dir / "train.bin", BIN_TEXT, 25, words.fingerprint());
        std::vector<int> text{7, words.mask(), words.cls(), words.unk, words.sep(), words.pad()},
            nothing{words.mask(), words.sep()};
        out.append(text.data(), text.size());
        out.end_sequence();
        out.append(nothing.data(), nothing.size());
        out.end_sequence();
        out.finish();
        BinFile file(dir / "train.bin");
        MaskedLmData d(file, 16, words);
        d.rate = 0.9;
        for (uint64_t epoch = 0; epoch < 20; epoch++) {
            d.make(epoch, 0);
            CHECK(d.targets == std::vector<int>{7, words.unk});  // round(0.9 · 2): the word and the unknown one
            d.make(epoch, 1);
            CHECK(d.targets.empty());
        }
    }
    TEST_CASE("masks depend on seed, epoch and sequence, and on nothing else") {
        TestData t;
        MaskedLmData& d = *t.data;
        auto made = [&](uint64_t seed, uint64_t epoch, uint64_t q) {
            d.seed = seed;
            d.make(epoch, q);
            return std::pair(d.tokens, d.positions);
        };
        int other_epoch = 0, other_seed = 0, n = 0;
        for (uint64_t q = 0; q < d.sequences(); q++) {
            auto a = made(7, 0, q);
            if (a.first.size() < 10) continue;
            n++;
            other_epoch += made(7, 1, q).second != a.second;
            other_seed += made(8, 0, q).second != a.second;
            REQUIRE(made(7, 0, q) == a);
        }
        REQUIRE(n > 50);
        CHECK(other_epoch > 0.8 * n);
        CHECK(other_seed > 0.8 * n);
    }
    TEST_CASE("whole words are masked whole") {
        TestData t;
        MaskedLmData& d = *t.data;
        d.whole_words = true;
        int broken = 0, too_many = 0, several = 0;
        double share = 0, all = 0;
        for (int epoch = 0; epoch < 5; epoch++)
            for (uint64_t q = 0; q < d.sequences(); q++) {
                d.make(epoch, q);
                std::vector<int> s = t.original();
                std::vector<char> chosen(s.size());
                for (int p : d.positions) chosen[p] = 1;
                int n = 0, words = 0, pieces_of_word = 0;
                for (size_t i = 1; i < s.size(); i++) {
                    bool goes_on = !t.words.is_special(s[i]) && t.words.is_continuation(s[i]) &&
                                   !t.words.is_special(s[i - 1]);
                    if (goes_on && chosen[i] != chosen[i - 1]) broken++;
                    n += !t.words.is_special(s[i]);
                    if (chosen[i] && !goes_on) words++;
                    if (chosen[i]) pieces_of_word++;
                }
                REQUIRE(words >= 1);
                REQUIRE(pieces_of_word == (int)d.positions.size());
                int want = std::max(1, (int)lround(0.15 * n));
                too_many += words > 1 && pieces_of_word > want;  // one word alone may be longer than the budget
                several += pieces_of_word > words;
                share += pieces_of_word;
                all += n;
            }
        CHECK(broken == 0);
        CHECK(too_many == 0);
        CHECK(several > 0);
        CHECK(share / all > 0.12);
    }
    TEST_CASE("the order: every sequence once an epoch, whatever the batch size, and from any point on") {
        TestData t;
        MaskedLmData& d = *t.data;
        uint64_t n = d.sequences();
        auto stream = [&](int N, int M, Cursor cursor,
                          uint64_t end) {  // all tokens and rows' tokens from the cursor to `end`
            BatchBuilder b;
            b.shape.N = N;
            b.shape.M = M;
            std::vector<int> all, targets, lengths;
            while (cursor.next < end) {
                fill_batch(b, d, cursor, 7, true, end);
                REQUIRE((int)b.tokens.size() <= N);
                REQUIRE((int)b.rows.size() <= M);
                for (size_t i = 0; i < b.rows.size(); i++) {
                    targets.push_back(b.targets[i]);
                    targets.push_back(b.tokens[b.rows[i]]);
                }
                for (size_t s = 0; s + 1 < b.start.size(); s++) lengths.push_back(b.start[s + 1] - b.start[s]);
                all.insert(all.end(), b.tokens.begin(), b.tokens.end());
            }
            return std::tuple(all, targets, lengths);
        };
        auto whole = stream(1 << 16, 1 << 16, {0}, 2 * n), small = stream(40, 8, {0}, 2 * n),
             tight = stream(128, 9, {0}, 2 * n);
        CHECK(std::get<2>(whole).size() == 2 * n);
        CHECK(whole == small);
        CHECK(whole == tight);
        auto rest = stream(64, 64, {n / 2}, 2 * n);  // resumed
        auto& a = std::get<0>(whole);
        auto& b = std::get<0>(rest);
        REQUIRE(b.size() < a.size());
        CHECK(std::equal(b.rbegin(), b.rend(), a.rbegin()));
        // two epochs: the same sequences, in another order
        auto lengths = std::get<2>(whole);
        std::vector<int> first(lengths.begin(), lengths.begin() + n), second(lengths.begin() + n, lengths.end());
        CHECK(first != second);
        std::sort(first.begin(), first.end());
        std::sort(second.begin(), second.end());
        CHECK(first == second);
        // unshuffled: the order of the file
        BatchBuilder builder;
        builder.shape.N = builder.shape.M = 1 << 16;
        Cursor cursor;
        fill_batch(builder, d, cursor, 7, false, n);
        size_t at = 0;
        for (uint64_t q = 0; q < n; q++) {
            d.make(0, q);
            REQUIRE(std::equal(d.tokens.begin(), d.tokens.end(), builder.tokens.begin() + at));
            at += d.tokens.size();
        }
        CHECK(at == builder.tokens.size());
        builder.shape.N = 3;
        cursor.next = 0;
        CHECK_THROWS_AS(fill_batch(builder, d, cursor, 7, true), Error);  // nothing fits
    }
    TEST_CASE("sizes of filled batches: few, with little waste") {
        for (size_t n = 1; n < 5000; n += 1 + n / 40)
            for (int bits : {3, 5}) {
                size_t up = round_up_bits(n, bits);
                REQUIRE((up >= n && (double)up < (double)n * (1 + 2.0 / (1 << bits))));
                REQUIRE(
                    (up >> bits == 0 || round_up_bits(up - 1, bits) == up || round_up_bits(up - 1, bits) == up - 1));
            }
        CHECK((round_up_bits(0, 5) == 0 && round_up_bits(31, 5) == 31 && round_up_bits(33, 5) == 34 &&
               round_up_bits(1025, 5) == 1088));
        // batches of fine-tuning: (texts of a batch, shortest, longest); sizes that 300 batches meet, at most; tokens
        // that are padding, at most. This build does not group short sequences, so that the number of tiles varies as
        // well.
        struct Kind {
            int texts, from, to;
            size_t most;
            double waste;
        };
        BatchBuilder pretraining;
        pretraining.set_up(BatchShape{4096, 640}, 0, 128);  // every batch has one size
        CHECK(pretraining.pad_multiple == (device_is_host ? 0 : 4096));
        CHECK((batch_tokens(129) == 256 && batch_tokens((int64_t)65536 * 131072) == 1 << 30));  // not 0
        for (Kind k : {Kind{32, 5, 45, 16, 0.1}, {32, 200, 512, 8, 0.035}, {16, 30, 300, 26, 0.04}}) {
            CAPTURE(k.texts);
            CAPTURE(k.to);
            BatchBuilder b;
            b.shape.N = (int)round_up(k.texts * k.to, 128);
            b.shape.M = 128;
            b.pad_multiple = 128;
            b.pad_length = k.to;
            std::vector<char> host(b.shape.bytes());
            std::map<std::vector<int>, int> met;
            double tokens = 0, computed = 0;
            for (uint64_t i = 0; i < 300; i++) {
                b.clear();
                for (int s = 0; s < k.texts; s++) {
                    size_t n = k.from + below(mix64(i, s), k.to - k.from + 1);
                    b.add(std::vector<int>(n, s), std::vector<int>(n, 0), {0}, {1});
                }
                tokens += (double)b.tokens.size();
                Batch batch = b.finish(host.data(), {1, 2, 3}, 1);
                computed += batch.N;
                met[batch.sizes()]++;
            }
            CHECK(met.size() <= k.most);
            CHECK(1 - tokens / computed < k.waste);
        }
    }
    TEST_CASE("what a batch is filled up with means nothing to do, and follows from its sizes") {
        for (auto [lengths, most] : {std::pair{std::vector<int>{1}, 1}, {{1, 1, 1}, 1}, {{128, 1, 129, 64, 65}, 129},
                 {std::vector<int>(300, 1), 1}, {{500}, 500}}) {
            BatchBuilder b;
            b.shape.N = 1000;
            b.shape.M = 350;
            b.pad_multiple = 128;
            b.pad_length = most;
            add_random_sequences(b, lengths, 6, 1);
            size_t tokens = b.tokens.size(), targets = b.targets.size();
            std::vector<char> host(b.shape.bytes(), (char)0xee);
            Batch batch = b.finish(host.data(), {1, 2, 3}, 1);
            REQUIRE((batch.N == (int)std::min<size_t>(round_up(tokens, 128), 1000) &&
                     batch.M == (int)std::min<size_t>(round_up(targets, 128), 350)));
            for (int m = 0; m < batch.M; m++)
                REQUIRE((m < (int)targets) == (batch.rows[m] >= 0 && batch.targets[m] >= 0));
            CHECK(batch.seq.S == batch.N);
            for (int s = 0; s < batch.seq.S; s++) REQUIRE(batch.seq.start[s] <= batch.seq.start[s + 1]);
            CHECK(batch.seq.start[batch.seq.S] == batch.N);
            int seen = 0;
            for (int w = 0; w < batch.seq.W; w++) {
                int s = batch.seq.tiles[2 * w], i = batch.seq.tiles[2 * w + 1];
                if (s < 0) continue;
                seen += std::min(ATTENTION_TILE, batch.seq.start[s + 1] - batch.seq.start[s] - i);
            }
            CHECK(seen == batch.N);
            int room = (int)embedding_slots(1000) + 1;  // of multi_id
            for (auto [sorted, R] :
                {std::pair{batch.by_token, batch.N}, {batch.by_pos, std::min(batch.N, batch.N / EMBEDDING_RUN + most)},
                    {batch.by_type, std::min(batch.N, batch.N / EMBEDDING_RUN + 2)}}) {
                CHECK(sorted.R == R);
                CHECK(sorted.U <= room);
                int before = 0, slots = 0;
                for (int r = 0; r < sorted.R; r++) {
                    REQUIRE((sorted.run_start[r] == before && sorted.run_start[r + 1] >= before));
                    before = sorted.run_start[r + 1];
                }
                CHECK(before == batch.N);
                for (int u = 0; u < sorted.U; u++) {
                    REQUIRE((sorted.multi_slot[u] == slots && sorted.multi_slot[u + 1] >= slots));
                    slots = sorted.multi_slot[u + 1];
                }
            }
        }
    }
    TEST_CASE("a batch: positions, tiles and sorted ids") {
        BatchBuilder b;
        b.shape.N = b.shape.M = 1000;
        std::vector<int> lengths{1, 64, 65, 200, 2, 130};
        add_random_sequences(b, lengths, 6, 1);
        std::vector<char> host(b.shape.bytes());
        Batch batch = b.finish(host.data(), {1, 2, 3}, 0.5);
        REQUIRE(batch.N == 462);
        CHECK(batch.counters->token0 == 3);
        int n = 0;
        std::set<std::pair<int, int>> tiles;
        for (int s = 0; s < (int)lengths.size(); s++)
            for (int i = 0; i < lengths[s]; i++, n++) {
                REQUIRE(batch.pos[n] == i);
                if (i % ATTENTION_TILE == 0) tiles.insert({s, i});
            }
        REQUIRE(batch.seq.W == (int)tiles.size());
        for (int w = 0; w < batch.seq.W; w++) {
            const int* tile = batch.seq.tiles + 2 * w;
            CHECK(tiles.erase({tile[0], tile[1]}) ==
                  1);  // each once, of the longest sequence first, and of a sequence the last one first
            if (w > 0) CHECK(std::pair{lengths[tile[-2]], tile[-1]} >= std::pair{lengths[tile[0]], tile[1]});
        }
        for (auto [sorted, ids] :
            {std::pair{batch.by_token, batch.tokens}, {batch.by_pos, batch.pos}, {batch.by_type, batch.types}}) {
            std::vector<int> runs_of(1000);
            int slots = 0, multi = 0;
            for (int i = 1; i < batch.N; i++) {
                int a = sorted.order[i - 1], c = sorted.order[i];
                REQUIRE((ids[a] < ids[c] || (ids[a] == ids[c] && a < c)));
            }
            for (int r = 0; r < sorted.R; r++) {
                int begin = sorted.run_start[r], end = sorted.run_start[r + 1];
                REQUIRE((end > begin && end - begin <= EMBEDDING_RUN));
                for (int i = begin; i < end; i++) REQUIRE(ids[sorted.order[i]] == sorted.run_id[r]);
                runs_of[sorted.run_id[r]]++;
                if (sorted.run_slot[r] >= 0) REQUIRE(sorted.run_slot[r] == slots++);
            }
            CHECK(sorted.run_start[sorted.R] == batch.N);
            for (int id = 0; id < 1000; id++) {
                if (runs_of[id] < 2) continue;
                REQUIRE(sorted.multi_id[multi] == id);
                REQUIRE(sorted.multi_slot[multi + 1] - sorted.multi_slot[multi] == runs_of[id]);
                multi++;
            }
            CHECK(multi == sorted.U);
            CHECK(slots <= (int)embedding_slots(batch.N));
        }
    }
}

TEST_SUITE("ops in fp32") {
    TEST_CASE("crossentropy is the naive one in double") {
        for (auto [words, Vp] : {std::pair{2, 64}, {61, 64}, {8192, 8192}, {50257, 50304}}) {
            const int V = words;
            CAPTURE(V);
            const int M = 5;
            std::vector<int> targets{0, V - 1, -1, V / 2, V / 2};
            Floats x = random_numbers<float>((size_t)M * Vp, 1, 3), losses(M, NAN), correct(M, NAN);
            for (int m = 0; m < M; m++)
                for (int v = V; v < Vp; v++) x[(size_t)m * Vp + v] = 1e4f;   // what stands after V is not read
            x[0] = 40;                                                       // row 0 is sure, and right
            x[(size_t)3 * Vp + V / 2] = x[(size_t)3 * Vp + V / 2 - 1] = 30;  // a tie: the first of equals counts
            x[(size_t)4 * Vp + V / 2] = 30;
            double scale = 0.25, top_error = 0, top_loss = 0;
            Floats g = x;
            cpu::crossentropy(losses.data(), correct.data(), g.data(), targets.data(), &scale, M, V, Vp, true);
            for (int m = 0; m < M; m++) {
                const float* row = &x[(size_t)m * Vp];
                double sum = 0, top = *std::max_element(row, row + V);
                for (int v = 0; v < V; v++) sum += exp(row[v] - top);
                bool right = targets[m] >= 0 && std::max_element(row, row + V) - row == targets[m];
                CHECK(correct[m] == right);
                double loss = targets[m] < 0 ? 0 : log(sum) + top - row[targets[m]];
                top_loss = std::max(top_loss, fabs(losses[m] - loss) / (1 + fabs(loss)));
                for (int v = 0; v < Vp; v++) {
                    double d = targets[m] < 0 || v >= V ? 0 : (exp(row[v] - top) / sum - (v == targets[m])) * scale;
                    top_error = std::max(top_error, fabs(g[(size_t)m * Vp + v] - d) / scale);
                }
            }
            double tolerance = 1e-6 + 6e-8 * sqrt(V);  // rounding of a float sum of V terms, a random walk
            CHECK(top_loss <= tolerance);
            CHECK(top_error <= tolerance);
            CHECK((correct[0] == 1 && correct[3] == 0 && correct[4] == 1));
            StepStats stats{1, 2, 3, 0};
            cpu::sum_losses(&stats, losses.data(), correct.data(), M);
            double loss = 1;
            for (float l : losses) loss += l;
            CHECK(stats.loss == loss);
            CHECK(stats.correct == 2 + std::count(correct.begin(), correct.end(), 1.0f));
        }
    }
    template <class T> static void check_gemm() {
        for (auto [m, n, k] : {std::tuple{1, 1, 1}, {3, 5, 7}, {17, 300, 140}, {2, 513, 257}, {4, 4, 0}})
            for (int form = 0; form < 8; form++) {
                bool ta = form & 1, tb = form & 2;
                float beta = form & 4 ? 1.0f : 0.0f;
                int lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 2, ldc = n + 1;
                auto a = random_numbers<T>((size_t)(ta ? k : m) * lda + 1, 1),
                     b = random_numbers<T>((size_t)(tb ? n : k) * ldb + 1, 2);
                Floats c = random_numbers<float>((size_t)m * ldc, 3), loops = c, blas = c;
                if (beta == 0)
                    for (int i = 0; i < m; i++)
                        for (int j = 0; j < n; j++) loops[i * ldc + j] = blas[i * ldc + j] = NAN;  // not read
                cpu::gemm_loops(ta, tb, m, n, k, a.data(), lda, b.data(), ldb, beta, loops.data(), ldc);
                if (k > 0) cpu::gemm(ta, tb, m, n, k, a.data(), lda, b.data(), ldb, beta, blas.data(), ldc);
                int bad = 0;
                for (int i = 0; i < m; i++)
                    for (int j = 0; j < ldc; j++) {
                        if (j >= n) {
                            bad += loops[i * ldc + j] != c[i * ldc + j];  // between the rows: untouched
                            continue;
                        }
                        double sum = beta * c[i * ldc + j], size = fabs(sum);
                        for (int p = 0; p < k; p++) {
                            double term = (double)(float)a[ta ? p * lda + i : i * lda + p] *
                                          (double)(float)b[tb ? j * ldb + p : p * ldb + j];
                            sum += term;
                            size += fabs(term);
                        }
                        // rounding of a float sum: at most (terms) · 6e-8 of Σ|terms|, in practice far less
                        double tolerance = 6e-8 * (k + 1) * size;
                        bad += !(fabs(loops[i * ldc + j] - sum) <= tolerance) ||
                               (k > 0 && !(fabs(blas[i * ldc + j] - sum) <= tolerance));
                    }
                const std::string which = format("%d %d %d form %d", m, n, k, form);
                CHECK_MESSAGE(bad == 0, which);
            }
    }
    TEST_CASE("gemm_loops and gemm are the product in double") {
        check_gemm<float>();
        check_gemm<bf16>();
    }

    TEST_CASE("RoPE, RMSNorm of heads and SwiGLU: transformers' numbers") {
        // LlamaRotaryEmbedding's inv_freq, of Llama 3.2 1B: kept, in between, and divided by 32. It takes powers in
        // fp32.
        RopeConfig llama;
        llama.theta = 5e5;
        llama.factor = 32;
        std::vector<double> table = rope_table<double>(llama, 2, 64);
        for (auto [at, f] :
            {std::pair{0, 1.0}, {1, 0.663601279}, {10, 0.0165604409}, {14, 0.00321144611}, {15, 0.00129054801},
                {16, 0.000429556705}, {17, 9.70828623e-05}, {18, 1.94616387e-05}, {31, 9.41830649e-08}}) {
            const int i = at;
            CAPTURE(i);
            CHECK(atan2(table[64 + 32 + i], table[64 + i]) == doctest::Approx(f).epsilon(1e-5));
            CHECK(table[i] == 1);  // position 0 does not turn
            CHECK(table[32 + i] == 0);
        }
        // one token at position 5, one head: apply_rotary_pos_emb, alone and after Qwen3RMSNorm; SiLU times the rest
        const Floats turned = {0.63478547f, -0.14017352f, 0.33079958f, 0.49499378f, 0.05742334f, 0.77804327f,
                         0.8926487f, 1.00248742f},
                     normed = {1.20088744f, -0.68067551f, 0.32376659f, 0.77626485f, 0.30361009f, 1.65902340f,
                         2.44509553f, 3.17238903f},
                     swiglu = {-0.17102392f, -0.20170608f, -0.16517405f, 0};
        Floats angles = rope_table<float>(RopeConfig(), 6, 8), x(24), w(8), out(24), act(4);
        float rstd[2];
        int pos = 5;
        for (int i = 0; i < 8; i++) {
            x[i] = x[i + 8] = (i + 1) / 8.0f;
            w[i] = i / 4.0f + 0.25f;
        }
        cpu::rope_forward(out.data(), rstd, x.data(), w.data(), w.data(), angles.data(), &pos, 1, 1, 1, 8, 1e-6f);
        Floats gate_up = x;
        for (int i = 0; i < 4; i++) gate_up[i] = gate_up[i] * 4 - 2;
        cpu::glu_forward<Silu>(act.data(), gate_up.data(), 1, 4);
        cpu::rope_forward<float>(x.data(), nullptr, x.data(), nullptr, nullptr, angles.data(), &pos, 1, 1, 1, 8, 0);
        for (int head : {0, 8}) {
            CHECK(distance(&x[head], turned.data(), 8) < 1e-6);
            CHECK(distance(&out[head], normed.data(), 8) < 1e-6);
        }
        CHECK(distance(act.data(), swiglu.data(), 4) < 1e-6);
    }

    // Few rows: the product of double to the rounding of up to 600 numbers of size 1, a few ε √C, the bits of a row
    // alone, and those of weights that were bf16 before
    template <class T> static void few_rows(double tolerance) {
        for (auto [C, OC] : {std::pair{5, 1}, {16, 2}, {40, 7}, {600, 450}}) {
            const int most = cpu::FEW_ROWS + 2;
            const std::vector<T> x = random_numbers<T>(most * C, 1), bias = random_numbers<T>(OC, 3);
            const std::vector<bf16> half = random_numbers<bf16>((size_t)OC * C, 2);
            const std::vector<T> w(half.begin(), half.end());
            std::vector<T> alone(most * OC);
            for (int n = 0; n < most; n++)
                cpu::matmul_forward(&alone[n * OC], &x[n * C], w.data(), bias.data(), 1, C, OC);
            for (int N : {1, 4, 7, 8, 13, cpu::FEW_ROWS, most}) {
                std::vector<T> out(N * OC), of_half(N * OC), no_bias(OC);
                cpu::matmul_forward(out.data(), x.data(), w.data(), bias.data(), N, C, OC);
                cpu::matmul_forward(of_half.data(), x.data(), half.data(), bias.data(), N, C, OC);
                double worst = 0, worst_half = 0;
                for (int i = 0; i < N * OC; i++) {
                    double sum = (double)bias[i % OC];
                    for (int c = 0; c < C; c++) sum += (double)x[i / OC * C + c] * (double)w[i % OC * C + c];
                    worst = std::max(worst, std::fabs(sum - (double)out[i]) / std::sqrt(C));
                    worst_half = std::max(worst_half, std::fabs(sum - (double)of_half[i]) / std::sqrt(C));
                }
                CHECK(worst < tolerance);
                CHECK(worst_half < tolerance);
                if (N > cpu::FEW_ROWS) continue;  // a BLAS
                CHECK(out == std::vector<T>(alone.begin(), alone.begin() + N * OC));
                CHECK(of_half == out);
                cpu::matmul_forward(no_bias.data(), x.data(), w.data(), (const T*)nullptr, 1, C, OC);
                for (int o = 0; o < OC; o++) CHECK((double)(no_bias[o] + bias[o]) == (double)alone[o]);
            }
        }
    }
    TEST_CASE("a product with few rows, weights as they are and as bf16") {
        few_rows<float>(4e-6);
        few_rows<double>(1e-14);
    }

    // all ops once, at shapes with several chunks, panels and tiles
    static Floats all_ops() {
        const int N = 700, C = 32, FF = 160, NH = 2, V = 70, Vp = 128;
        StepCounters counters{1, 2, 3};
        Dropout dropout{&counters, 4, 0.2f};
        BatchBuilder builder;
        builder.shape.N = builder.shape.M = N;
        add_random_sequences(builder, {1, 300, 65, 2, 332}, V, 1);
        std::vector<char> host(builder.shape.bytes());
        Batch b = builder.finish(host.data(), counters, 0.01);
        REQUIRE(b.N == N);
        Floats x = random_numbers<float>(N * C, 1), y = random_numbers<float>(N * C, 2),
               wide = random_numbers<float>(N * FF, 3), w = random_numbers<float>(FF * C, 4, 0.2),
               bias = random_numbers<float>(FF, 5), qkv = random_numbers<float>(N * 3 * C, 6),
               gain = random_numbers<float>(C, 7);
        Floats all, scratch(std::max(layernorm_scratch(N, FF), embedding_slots(N) * (size_t)C));
        std::vector<Floats> results;
        auto room = [&](size_t n) { return results.emplace_back(n).data(); };
        results.reserve(100);
        float *out = room(N * C), *sum = room(N * C), *mean = room(N), *rstd = room(N), *big = room(N * FF),
              *big2 = room(N * FF), *dx = room(N * C), *dy = room(N * C);
        float *dw = room(FF * C), *db = room(FF), *lse = room(NH * N), *delta = room(NH * N);
        using namespace cpu;
        auto keep = [&] {
            for (auto& r : results) all.insert(all.end(), r.begin(), r.end());
        };
        embedding_forward(out, w.data(), x.data(), y.data(), b.tokens, b.pos, b.types, N, C);
        embedding_backward(dw, x.data(), b.by_token, scratch.data(), C);
        embedding_backward(dy, x.data(), b.by_pos, scratch.data(), C);
        embedding_backward(dx, x.data(), b.by_type, scratch.data(), C);
        keep();
        norm_forward(out, mean, rstd, x.data(), gain.data(), bias.data(), N, C, 1e-5f);
        norm_backward(dx, dw, db, y.data(), x.data(), gain.data(), mean, rstd, scratch.data(), N, C);
        keep();
        residual_norm_forward(out, sum, mean, rstd, x.data(), y.data(), gain.data(), bias.data(), N, C, 1e-5f, dropout);
        residual_norm_backward(
            dx, dy, dw, db, y.data(), x.data(), sum, gain.data(), mean, rstd, scratch.data(), N, C, dropout);
        keep();
        matmul_forward(big, x.data(), w.data(), bias.data(), N, C, FF);
        matmul_backward_input(dx, wide.data(), w.data(), N, C, FF);
        matmul_backward_weight(dw, db, wide.data(), x.data(), scratch.data(), N, C, FF);
        column_sum(db, wide.data(), scratch.data(), N, FF);
        keep();
        matmul_gelu_forward<Gelu::tanh>(big, big2, x.data(), w.data(), bias.data(), N, C, FF);
        keep();
        matmul_gelu_forward<Gelu::erf>(big, big2, x.data(), w.data(), bias.data(), N, C, FF);
        matmul_backward_input_gelu<Gelu::erf>(dx, wide.data(), w.data(), x.data(), N, C, FF);
        keep();
        elementwise(GeluOf<Gelu::tanh>(), N * C, out, x.data());
        elementwise(GeluGradient<Gelu::erf>(), N * C, dx, y.data(), x.data());
        dropout_forward(dy, x.data(), N, C, dropout);
        keep();
        gather_rows(out, x.data(), b.rows, b.M, C);
        scatter_rows(dx, y.data(), b.rows, N, b.M, C);
        keep();
        for (bool causal : {false, true}) {
            attention_forward(out, lse, qkv.data(), b.seq, NH, NH, C / NH, causal ? CAUSAL : ALL_KEYS, dropout);
            attention_backward(
                big, delta, y.data(), out, qkv.data(), lse, b.seq, NH, NH, C / NH, causal ? CAUSAL : ALL_KEYS, dropout);
            keep();
        }
        // four heads of queries, two of keys
        Floats table = rope_table<float>(RopeConfig(), N, 8);
        float *lse4 = room(4 * N), *heads = room(4 * N);
        attention_forward(out, lse4, qkv.data(), b.seq, 4, 2, 8, CAUSAL, dropout);
        attention_backward(big, heads, y.data(), out, qkv.data(), lse4, b.seq, 4, 2, 8, CAUSAL, dropout);
        keep();
        rope_forward<float>(big, nullptr, big, nullptr, nullptr, table.data(), b.pos, N, 4, 2, 8, 0);
        rope_backward<float>(
            big, nullptr, nullptr, big, nullptr, nullptr, nullptr, table.data(), b.pos, scratch.data(), N, 4, 2, 8);
        rope_forward(big2, heads, qkv.data(), gain.data(), bias.data(), table.data(), b.pos, N, 2, 2, 8, 1e-6f);
        keep();
        rope_backward(
            big, dw, db, qkv.data(), gain.data(), bias.data(), heads, table.data(), b.pos, scratch.data(), N, 2, 2, 8);
        keep();
        norm_forward<float>(out, nullptr, rstd, x.data(), gain.data(), nullptr, N, C, 1e-5f);
        residual_norm_backward<float>(dx, nullptr, dw, nullptr, y.data(), nullptr, x.data(), gain.data(), nullptr, rstd,
            scratch.data(), N, C, Dropout());
        keep();
        residual_norm_forward<float>(
            out, sum, nullptr, rstd, x.data(), y.data(), gain.data(), nullptr, N, C, 1e-5f, dropout);
        residual_norm_backward(
            dx, dy, dw, nullptr, y.data(), x.data(), sum, gain.data(), nullptr, rstd, scratch.data(), N, C, dropout);
        keep();
        glu_forward<Silu>(big, wide.data(), N, FF / 2);
        glu_backward<Silu>(big2, big, wide.data(), N, FF / 2);
        keep();
        Floats logits = random_numbers<float>((size_t)b.M * Vp, 8);
        crossentropy(big, big2, logits.data(), b.targets, b.loss_scale, b.M, V, Vp, true);
        std::copy(logits.begin(), logits.begin() + std::min(logits.size(), (size_t)N * C), dx);
        keep();
        StepStats stats{};
        std::vector<double> chunks(NORM_CHUNKS);
        sum_losses(&stats, big, big2, b.M);
        norm_squared(&stats, dw, chunks.data(), FF * C);
        AdamWStep step{1e-3, 0.9, 0.98, 1e-6, 0.1, 0.02, 1};
        for (int i = 0; i < N * C; i++) sum[i] *= sum[i];
        Floats ones((size_t)FF * C / PARAM_BLOCK, 1.0f);
        adamw_update(
            big, (float*)nullptr, out, sum, dw, &stats, &step, ParamBlocks{ones.data(), ones.data()}, (size_t)FF * C);
        keep();
        all.push_back((float)stats.loss);
        all.push_back((float)stats.norm2);
        return all;
    }
    TEST_CASE("1, 2 and 3 threads give the same bits, every op") {
        int before = omp_get_max_threads();
        Floats reference;
        for (int threads : {1, 2, 3}) {
            omp_set_num_threads(threads);
            Floats all = all_ops();
            if (threads == 1) reference = all;
            REQUIRE(all.size() == reference.size());
            CHECK_MESSAGE(memcmp(all.data(), reference.data(), all.size() * sizeof(float)) == 0, threads, " threads");
        }
        omp_set_num_threads(before);
        CHECK(std::none_of(reference.begin(), reference.end(), [](float f) { return std::isnan(f); }));
    }
}

// ---------------------------------------------------------------- the whole model
static const auto SIZE = SmallBert::dimensions(2, 64, 2, 128, 101, 40);

TEST_SUITE("the model in fp32") {
    TEST_CASE("1, 2 and 3 threads give the same bits, three steps of training") { check_threads<SmallBert>(SIZE); }
    TEST_CASE("a packed batch gives the loss of its sequences one by one") { check_packing<SmallBert>(SIZE); }
    // Gradients of two ways to the same sum. 1e-5: the tolerance of fp32 against PyTorch.
    static void compare(const SmallBert& bert, const Floats& a, const Floats& b) {
        double query_bias = 0;
        for_each_tensor(bert.opt.table, [&](const std::string& name, size_t at, size_t n) {
            if (name.find("query.bias") != std::string::npos) query_bias = l2(&b[at], n);
            if (is_key_bias(name)) CHECK(l2(&a[at], n) <= 1e-6 * query_bias);
            else CHECK_MESSAGE(distance(&a[at], &b[at], n) <= 1e-5, name);
        });
    }
    TEST_CASE("accumulation over micro-batches is the full batch, dropout included") {
        check_accumulation<SmallBert>(SIZE, compare);
    }
    // for devices that want few shapes
    TEST_CASE("padding changes neither loss nor gradients") { check_padding<SmallBert>(SIZE, compare); }
    TEST_CASE("without a backward pass the layers share buffers, and the loss is the same") {
        check_without_backward<SmallBert>(SIZE);
    }
    TEST_CASE("--recompute gives the same bits in less memory") { check_recompute<SmallBert>(SIZE); }
    TEST_CASE("initial values: of the right size, and each from its name and index alone") {
        SmallBert bert(SIZE, 128);
        Floats a = initial_values(bert.opt.table, bert.opt.n, 1), b = initial_values(bert.opt.table, bert.opt.n, 2);
        CHECK(a == initial_values(bert.opt.table, bert.opt.n, 1));
        for_each_tensor(bert.opt.table, [&](const std::string& name, size_t at, size_t n) {
            bool matrix = name.find("embeddings.weight") != std::string::npos ||
                          (name.find("LayerNorm") == std::string::npos && name.find(".weight") != std::string::npos);
            bool one = name.find("LayerNorm.weight") != std::string::npos;
            if (matrix) {
                double sd = 1 / sqrt(2.0 * n);  // of the estimated deviation, as a fraction of it
                CHECK_MESSAGE(fabs(l2(&a[at], n) / sqrt(n) / 0.02 - 1) < 4 * sd, name);
                CHECK(a[at] != b[at]);
            } else {
                CHECK_MESSAGE(std::all_of(&a[at], &a[at] + n, [&](float x) { return x == one; }), name);
            }
        });
    }
}

TEST_SUITE("memory") {
    static size_t mapped() {  // bytes of this process's address space
        unsigned long pages = 0;
        if (FILE* f = fopen("/proc/self/statm", "r")) {
            if (fscanf(f, "%lu", &pages) != 1) pages = 0;
            fclose(f);
        }
        return pages * (size_t)sysconf(_SC_PAGESIZE);
    }
    TEST_CASE("it is zero, begins at 2 MiB, and what is freed is given back") {
        size_t before = mapped(), sizes[] = {1, 2 << 20, (2 << 20) + 1, 40 << 20};
        for (int i = 0; i < 64; i++) {
            size_t n = sizes[i % 4];
            char* p = (char*)device_alloc(n);
            CHECK((size_t)p % (2 << 20) == 0);
            CHECK((p[0] == 0 && p[n - 1] == 0));
            p[0] = p[n - 1] = 1;
            device_free(p, n);
        }
        CHECK(mapped() < before + (16 << 20));
    }
}

TEST_SUITE("optimiser") {
    TEST_CASE("learning rates") {
        TrainFlags f;
        f.steps = 1000;
        f.lr = 2;
        f.warmup = 100;
        f.final_lr_fraction = 0.1;
        auto at = [&](int64_t step) { return learning_rate(f, step); };
        auto near = [](double x) { return doctest::Approx(x).epsilon(1e-12); };
        for (const char* schedule : {"linear", "cosine", "constant", "wsd"}) {
            CAPTURE(schedule);
            f.schedule = schedule;
            CHECK(at(0) == near(2 / 101.0));
            CHECK(at(49) == near(2 * 50 / 101.0));
            CHECK(at(99) == near(2 * 100 / 101.0));
            CHECK(at(100) == near(2));
            for (int s = 100; s < 1000; s++) REQUIRE(at(s + 1) <= at(s));
            CHECK(at(1000) == near(f.schedule == "constant" ? 2 : 0.2));
            CHECK(at(5000) == at(1000));
        }
        f.schedule = "linear";
        CHECK(at(550) == near(1.1));
        CHECK(at(325) == near(0.2 + 1.8 * 0.75));
        f.schedule = "cosine";
        CHECK(at(550) == near(1.1));
        CHECK(at(325) == near(0.2 + 1.8 * 0.5 * (1 + sqrt(0.5))));
        f.schedule = "wsd";
        f.decay_fraction = 0.25;
        CHECK(at(750) == near(2));
        CHECK(at(875) == near(1.1));
        f.warmup = 0.1;  // below 1: a fraction of the steps
        CHECK(at(99) == near(2 * 100 / 101.0));
        CHECK(at(100) == near(2));
        f.warmup = 0;
        f.schedule = "linear";
        CHECK(at(0) == near(2));
    }
    // n numbers in blocks with their own decay and learning rate
    struct Case {
        size_t n = 5 * PARAM_BLOCK;
        Floats g, m, v, w, factor{1, 0.5f, 0, 2, 1}, decay{0.1f, 0, 0.1f, 0.01f, 1};
        Case()
            : g(random_numbers<float>(n, 1)), m(random_numbers<float>(n, 2)), v(random_numbers<float>(n, 3)),
              w(random_numbers<float>(n, 4)) {
            for (float& x : v) x *= x;
        }
        ParamBlocks blocks() { return {factor.data(), decay.data()}; }
        bool operator==(const Case& o) const { return m == o.m && v == o.v && w == o.w; }
    };
    TEST_CASE("AdamW is its formula in double, clipped and not, with and without masters") {
        for (double clip : {0.0, 1.0, 1000.0}) {
            CAPTURE(clip);
            Case a;
            StepStats stats{};
            std::vector<double> scratch(NORM_CHUNKS);
            cpu::norm_squared(&stats, a.g.data(), scratch.data(), a.n);
            double norm = l2(a.g.data(), a.n);
            CHECK(stats.norm2 == doctest::Approx(norm * norm).epsilon(1e-12));
            AdamWStep step{0.03, 0.9, 0.98, 1e-6, 1 - pow(0.9, 3), 1 - pow(0.98, 3), clip};
            Case b = a, before = a;
            std::vector<bf16> rounded(a.n);
            cpu::adamw_update(
                a.w.data(), (float*)nullptr, a.m.data(), a.v.data(), a.g.data(), &stats, &step, a.blocks(), a.n);
            cpu::adamw_update(
                rounded.data(), b.w.data(), b.m.data(), b.v.data(), b.g.data(), &stats, &step, b.blocks(), b.n);
            CHECK(a == b);
            double scale = clip > 0 && norm > clip ? clip / (norm + 1e-6) : 1, worst = 0;
            int bad = 0;
            for (size_t i = 0; i < a.n; i++) {
                bad += (float)rounded[i] != (float)bf16(b.w[i]);
                double g = before.g[i] * scale, m = 0.9 * before.m[i] + 0.1 * g, v = 0.98 * before.v[i] + 0.02 * g * g;
                double lr = 0.03 * before.factor[i / PARAM_BLOCK], decay = before.decay[i / PARAM_BLOCK];
                double w = before.w[i] - lr * decay * before.w[i] -
                           lr * (m / (1 - pow(0.9, 3))) / (sqrt(v / (1 - pow(0.98, 3))) + 1e-6);
                worst = std::max({worst, fabs(a.m[i] - m), fabs(a.v[i] - v), fabs(a.w[i] - w)});
            }
            CHECK(bad == 0);
            CHECK(worst < 3e-6);  // rounding of numbers up to 10
            CHECK(std::equal(a.w.begin() + 2 * PARAM_BLOCK, a.w.begin() + 3 * PARAM_BLOCK,
                before.w.begin() + 2 * PARAM_BLOCK));  // factor 0: frozen
        }
    }
    TEST_CASE("a loss or norm that is not finite changes nothing, nor does any step after it") {
        AdamWStep step{0.03, 0.9, 0.98, 1e-6, 0.1, 0.02, 1};
        std::vector<double> scratch(NORM_CHUNKS);
        for (double bad : {(double)NAN, (double)INFINITY, -(double)INFINITY})
            for (bool loss : {false, true}) {
                Case a, before;
                StepStats stats{loss ? bad : 1, 0, 0, 0};
                if (!loss) a.g[700] = (float)bad;
                for (int i = 0; i < 2; i++) {
                    cpu::norm_squared(&stats, a.g.data(), scratch.data(), a.n);
                    CHECK(std::isfinite(stats.norm2) == (loss || i == 1));
                    cpu::adamw_update(a.w.data(), (float*)nullptr, a.m.data(), a.v.data(), a.g.data(), &stats, &step,
                        a.blocks(), a.n);
                    CHECK(a == before);
                    a.g[700] = 1;
                    stats.loss = 1;  // the step after it is finite
                }
            }
    }
    TEST_CASE("weight decay is for matrices and embeddings") {
        SmallBert bert(SIZE, 128);
        bert.opt.set_blocks(0.25, [](const ParamSpec&) { return 1.0f; });
        for (const ParamSpec& s : bert.opt.table) {
            bool matrix = s.shape.size() == 2;
            for (size_t b = s.offset / PARAM_BLOCK; b < ceil_div(s.offset + s.count, PARAM_BLOCK); b++) {
                REQUIRE_MESSAGE(bert.opt.decay[b] == (matrix ? 0.25f : 0.0f), s.names[0]);
                REQUIRE(bert.opt.lr_factor[b] == 1);
            }
        }
    }
}
