// test_instruct_encoding.cpp: rows of instructions as tokens: which are supervised, what goes if a row is too long, and
// the texts that evaluation reads.
#include "common/data/instruct_encoding.h"

#include <random>

#include "data/bin_writer.h"
#include "data/instruct_text.h"
#include "test/text/instruct_rows.h"

namespace {
// The 256 bytes, some words, the end: enough of a vocabulary
Tokenizer small_bpe() {
    Tokenizer b;
    for (int i = 0; i < 256; i++) b.tokens.push_back(std::string(1, (char)i));
    auto merge = [&](const std::string& left, const std::string& right) {
        auto id = [&](const std::string& t) {
            return (int32_t)(std::find(b.tokens.begin(), b.tokens.end(), t) - b.tokens.begin());
        };
        b.merges.push_back({id(left), id(right)});
        b.tokens.push_back(left + right);
    };
    merge("e", "s");
    merge("y", "es");
    merge(" ", "yes");
    merge("n", "o");
    merge(" ", "no");
    b.tokens.push_back(Tokenizer::eot_name);
    b.build("test");
    return b;
}
}  // namespace

TEST_CASE("instruct: what is learned is known by construction") {
    const Tokenizer bpe = small_bpe();
    const int32_t yes = 258, eot = bpe.eot();
    REQUIRE(bpe.tokens[yes] == " yes");
    RenderedRow r;
    auto encode = [&](const InstructRow& row) { encode_segments(bpe, render(short_template(), row, 0, true), r); };
    encode(row_of("a", "", "yes"));
    CHECK(r.ids == std::vector<int32_t>{'a', '\n', 'a', 'n', 's', 'w', 'e', 'r', ' ', ':', yes, eot});
    REQUIRE(r.spans.size() == 1);
    CHECK((r.spans[0].begin == 10 && r.spans[0].end == 12 && count_supervised(r.spans) == 2));
    // the end token stands in each answer, and only there: the same text in a row is text
    encode(row_of("<|endoftext|>", "<|endoftext|>", "<|endoftext|>"));
    CHECK(std::count(r.ids.begin(), r.ids.end(), eot) == 1);
    CHECK(r.ids.back() == eot);
    CHECK(bpe.decode(r.ids) == "<|endoftext|>\n<|endoftext|>\nanswer : <|endoftext|><|endoftext|>");
    // a conversation: two answers, two ends
    InstructRow row = row_of("u", "", "yes");
    row.turns.push_back({"v", "", "no"});
    encode(row);
    REQUIRE(r.spans.size() == 2);
    CHECK(bpe.decode(std::vector<int32_t>(r.ids.begin() + r.spans[0].begin, r.ids.begin() + r.spans[0].end)) ==
          " yes<|endoftext|>");
    CHECK(bpe.decode(std::vector<int32_t>(r.ids.begin() + r.spans[1].begin, r.ids.begin() + r.spans[1].end)) ==
          " no<|endoftext|>");
    CHECK(r.spans[1].end == r.ids.size());
    // a prompt to be answered is, token for token, the beginning of the row that was learned
    std::mt19937 rng(3);
    for (int i = 0; i < 500; i++) {
        auto text = [&] {
            std::string s = "x";
            for (int n = rng() % 12; n > 0; n--)
                s += Texts{" yes", "no", "e", "s", " ", "\n", "<|endoftext|>", "\u00e9", ":", "'s"}[rng() % 10];
            return s;
        };
        InstructRow any = row_of(text(), rng() % 2 ? text() : "", text());
        if (rng() % 3 == 0) any.turns.push_back({text(), "", text()});
        any.examples = {{"", text(), text()}};
        for (const ChatTemplate& t : {short_template(), alpaca_template()}) {
            RenderedRow whole, prompt;
            encode_segments(bpe, render(t, any, i % 3, true), whole);
            encode_segments(bpe, render(t, any, i % 3, false), prompt);
            REQUIRE(prompt.ids.size() == whole.spans.back().begin);
            CHECK(std::equal(prompt.ids.begin(), prompt.ids.end(), whole.ids.begin()));
            CHECK(whole.ids[whole.spans.back().end - 1] == eot);
            size_t ends = 0;
            for (int32_t id : whole.ids) ends += id == eot;
            CHECK(ends == any.turns.size());
        }
    }
}

TEST_CASE("instruct: rows that are too long") {
    const Tokenizer bpe = small_bpe();
    const ChatTemplate t = short_template();
    RenderedRow r;
    InstructRow row = row_of("pick", "one \u00e9\u00e9\u00e9 two",
        "yes");  // pick \n 14 bytes \n answer : 2 tokens and the end
    row.examples = {{"", "q", "no"}, {"", "w", "no"}};
    auto fit = [&](const InstructRow& any, size_t shots, size_t max_len, bool truncate) {
        return render_row(bpe, t, any, shots, true, max_len, truncate, r);
    };
    CHECK((fit(row, 0, 0, false).fits && r.ids.size() == 30));
    CHECK((fit(row, 0, 30, false).fits && !fit(row, 0, 30, true).cut()));
    CHECK_FALSE(fit(row, 0, 29, false).fits);
    CHECK(r.ids.size() == 30);  // what there would have been, for the message
    // first examples go, ...
    size_t with_two = (fit(row, 2, 0, true), r.ids.size());
    Truncation s = fit(row, 2, with_two - 1, true);
    CHECK((s.fits && s.examples && !s.input && has(bpe.decode(r.ids), "q\nanswer : no\none")));
    s = fit(row, 2, 30, true);
    CHECK((s.fits && s.examples && !s.input &&
           bpe.decode(r.ids) == "pick\none \u00e9\u00e9\u00e9 two\nanswer : yes<|endoftext|>"));
    // ... then the end of the input, never within a character, never the answer or its end
    for (size_t max_len = 17; max_len < 30; max_len++) {
        s = fit(row, 0, max_len, true);
        CHECK((s.fits && s.input && !s.examples && r.ids.size() <= max_len && r.ids.size() + 2 > max_len));
        CHECK(bpe.decode(r.ids) ==
              "pick\n" + row.turns[0].input.substr(0, s.input_bytes) + "\nanswer : yes<|endoftext|>");
        CHECK(count_supervised(r.spans) == 2);
        CHECK(r.ids.back() == bpe.eot());
        CHECK(invalid_utf8(bpe.decode(r.ids)) == std::string::npos);
    }
    for (size_t max_len : {1, 15, 16})
        CHECK_FALSE(fit(row, 0, max_len, true).fits);  // one character of the input has to stay
    CHECK_FALSE(fit(row_of("a long instruction", "", "yes"), 0, 20, true).fits);  // no instruction is cut
    CHECK_FALSE(fit(row_of("a", "input", "a long answer, which stays as it is"), 0, 20, true).fits);
    // of a conversation the earliest turns
    InstructRow talk = row_of("first", "", "yes");
    talk.turns.push_back({"second", "", "no"});
    talk.turns.push_back({"third", "", "yes"});
    s = fit(talk, 0, 35, true);
    CHECK((s.fits && s.turns && !s.input &&
           bpe.decode(r.ids) == "second\nanswer : no<|endoftext|>third\nanswer : yes<|endoftext|>"));
    CHECK(r.spans.size() == 2);
}

TEST_CASE("instruct: the text of a row in a .bin, and showing it") {
    TempDir dir;
    const Tokenizer bpe = small_bpe();
    InstructRow row = row_of("is it?", "so", "yes"), plain = row_of("say no", "", "no");
    row.outputs = {"yes", "Yes \"!\""};
    row.options = {"yes", "Yes \"!\"", "no"};
    BinWriter out(dir / "x.bin", BIN_INSTRUCT, bpe.size(), bpe.fingerprint());
    out.templ = short_template().json();
    out.tasks = {"all"};
    RenderedRow r;
    for (const InstructRow& any : {row, plain}) {
        encode_segments(bpe, render(short_template(), any, 0, true), r);
        out.append(r.ids.data(), r.ids.size());
        out.end_row(0, r.spans, dump_instruct_text(any));
    }
    out.append(r.ids.data(), r.ids.size());
    out.end_row(0, r.spans, "{\"input\": 1}");
    out.finish();
    BinFile file(dir / "x.bin", BIN_INSTRUCT);
    InstructText text = parse_instruct_text(file, 0);
    CHECK((text.input == "so" && text.outputs == row.outputs && text.options == row.options));
    text = parse_instruct_text(file, 1);
    CHECK((text.input == "say no" && text.outputs == Texts{"no"} && text.options.empty()));
    CHECK(has(error_of([&] { parse_instruct_text(file, 2); }),
        "x.bin, text of row 2: expected \"input\" and \"outputs\", found {\"input\": 1}"));
    CHECK(template_fingerprint(ChatTemplate::from_json(file.templ, file.path).json()) == file.header.templ);
    CHECK(show_row(file, bpe, 0) ==
          "---- row 1 of 3, task all, 20 tokens, 2 supervised\nis it?\nso\nanswer :\u27e6 yes<|endoftext|>\u27e7\n");
}
