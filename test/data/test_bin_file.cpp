// .bin files: what is written is read; everything else is refused with one clear line.
#include <doctest/doctest.h>

#include <filesystem>
#include <random>

#include "common/data/bin_file.h"
#include "data/bin_writer.h"
#include "test/temp.h"

namespace {

size_t entries(const TempDir& d) {  // how many files there are
    return std::distance(std::filesystem::directory_iterator(d.path), std::filesystem::directory_iterator());
}

template <class F> std::string bin_error(F f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}
void write_sequences(const std::string& path, size_t vocab, const std::vector<std::vector<int32_t>>& sequences) {
    BinWriter out(path, BIN_TEXT, vocab, 0x1234567890abcdef);
    for (const auto& s : sequences) {
        out.append(s.data(), s.size());
        out.end_sequence();
    }
    out.finish();
}
struct Example {
    std::vector<int32_t> ids;
    size_t second;
    int32_t label;
    std::string shown;
};
void write_examples(const std::string& path, size_t vocab, const std::vector<Example>& examples,
    const std::vector<std::string>& labels) {
    BinWriter out(path, BIN_CLASSIFY, vocab, 0x1234567890abcdef);
    for (const Example& e : examples) {
        out.append(e.ids.data(), e.ids.size());
        out.end_example(e.label, e.second, e.shown);
    }
    out.labels = labels;
    out.finish();
}
std::string open_error(const std::string& path) {
    return bin_error([&] { BinFile f(path); });
}

// a valid file with one field changed, its checksums right again
template <class T> std::string with_field(std::string bytes, size_t at, T value) {
    memcpy(&bytes[at], &value, sizeof value);
    uint64_t content = fnv1a(bytes.data() + 256, bytes.size() - 256);
    memcpy(&bytes[64], &content, 8);
    uint64_t sum = fnv1a(bytes.data(), 248);
    memcpy(&bytes[248], &sum, 8);
    return bytes;
}

}  // namespace

TEST_CASE("bin: written and read, 2 and 4 bytes a token") {
    TempDir s;
    for (size_t vocab : {300, 65536, 65537, 1000000}) {
        std::vector<std::vector<int32_t>> sequences = {{1, 2, 3}, {}, {(int32_t)vocab - 1}, {7, 0}};
        write_sequences(s / "x.bin", vocab, sequences);
        BinFile f(s / "x.bin");
        CHECK(f.header.token_bytes == (vocab <= 65536 ? 2 : 4));
        CHECK(f.sequences() == 4);
        CHECK(f.tokens() == 6);
        CHECK(f.vocab() == vocab);
        CHECK(f.header.tokenizer == 0x1234567890abcdef);
        for (size_t d = 0; d < 4; d++) {
            CHECK(f.length(d) == sequences[d].size());
            for (size_t i = 0; i < f.length(d); i++) CHECK(f.token(d, i) == sequences[d][i]);
        }
        CHECK(entries(s) == 1);  // no temporary files
    }
}

TEST_CASE("bin: more than a buffer, the last sequence left open") {
    TempDir s;
    std::vector<int32_t> ids(700000);
    for (size_t i = 0; i < ids.size(); i++) ids[i] = i * 7 % 1000;
    {
        BinWriter out(s / "x.bin", BIN_TEXT, 1000, 1);
        for (int r = 0; r < 3; r++) {
            out.append(ids.data(), ids.size());
            if (r == 0) out.end_sequence();
        }
        CHECK(out.sequence_length() == 2 * ids.size());
        out.finish();
    }
    BinFile f(s / "x.bin");
    CHECK(f.sequences() == 2);
    CHECK(f.length(1) == 2 * ids.size());
    size_t wrong = 0;
    for (size_t i = 0; i < f.length(1); i++) wrong += f.token(1, i) != ids[i % ids.size()];
    CHECK(wrong == 0);
}

TEST_CASE("bin: an unfinished or failed writer leaves the old file") {
    TempDir s;
    write_sequences(s / "x.bin", 10, {{1, 2}});
    {
        BinWriter out(s / "x.bin", BIN_TEXT, 10, 1);
        int32_t ids[2] = {3, 10};
        out.append(ids, 1);
        CHECK(has(bin_error([&] { out.append(ids, 2); }), "cannot write the token 10: the vocabulary has 10"));
    }
    CHECK(BinFile(s / "x.bin").token(0, 1) == 2);
    CHECK(has(bin_error([&] { write_sequences(s / "x.bin", 10, {{}, {}}); }), "the input holds no tokens"));
    CHECK(BinFile(s / "x.bin").tokens() == 2);
    CHECK(has(bin_error([&] { write_sequences(s / "none/x.bin", 10, {{1}}); }), "No such file"));

    std::string during, at_end;
    {
        FullDisk full(3 << 20);
        during = bin_error([&] { write_sequences(s / "x.bin", 10, {std::vector<int32_t>(4 << 20, 1)}); });
    }
    {
        FullDisk full(2 << 20);  // the tokens fit, with header and offsets they do not
        at_end = bin_error([&] { write_sequences(s / "x.bin", 10, {std::vector<int32_t>(1 << 20, 1)}); });
    }
    CHECK(has(during, "File too large; nothing was written"));
    CHECK(has(at_end, "File too large; nothing was written"));
    CHECK(BinFile(s / "x.bin").tokens() == 2);
    CHECK(entries(s) == 1);
}

struct Tokenizer {
    uint64_t number;
    std::vector<std::string> tokens = std::vector<std::string>(10);
    uint64_t fingerprint() const { return number; }
};
TEST_CASE("bin: foreign tokenizers are refused with the command that helps") {
    TempDir s;
    write_sequences(s / "x.bin", 10, {{1}});
    BinFile f(s / "x.bin");
    f.require_tokenizer(Tokenizer{0x1234567890abcdef}, "tok");
    std::string e = bin_error([&] { f.require_tokenizer(Tokenizer{5}, "tok"); });
    CHECK(has(e, "was made with another tokenizer (1234567890abcdef) than that of tok (0000000000000005)"));
    CHECK(has(e, "data/tokenize pack --tokenizer tok --kind text --in FILE --out " + s / "x.bin"));
    e = bin_error([&] { f.require_tokenizer(Tokenizer{0x1234567890abcdef, {"a"}}, "tok"); });
    CHECK(has(e, "expected a vocabulary of 1 tokens, as tok has, found 10: the file is damaged; pack the data again"));
}

TEST_CASE("bin: bad files") {
    TempDir s;
    const std::string path = s / "x.bin";
    CHECK(has(open_error(s / "none"), "No such file"));
    CHECK(has(open_error(s.path), "found a directory"));
    write_bytes(path, "");
    CHECK(has(open_error(path), "found 0 bytes"));
    write_bytes(path, "short");
    CHECK(has(open_error(path), "found 5 bytes"));
    write_bytes(path, std::string(1000, 'x'));
    CHECK(has(open_error(path), "expected a .bin file, found something else"));

    write_sequences(path, 10, {{1, 2, 3}, {4, 5}});  // offsets at 256 264 272, tokens at 280
    const std::string good = read_file(path);
    CHECK(good.size() == 256 + 3 * 8 + 5 * 2);
    auto bad = [&](const std::string& bytes) {
        write_bytes(path, bytes);
        return open_error(path);
    };
    auto damaged = [&](size_t at) {
        std::string b = good;
        b[at] ^= 1;
        return bad(b);
    };
    CHECK(bad(good) == "no error");
    CHECK(has(damaged(0), "found something else"));
    CHECK(has(damaged(8), "expected .bin version 1, found 0"));
    CHECK(has(damaged(24), "its checksum is wrong"));
    CHECK(has(damaged(250), "its checksum is wrong"));
    CHECK(has(bad(good.substr(0, 256)), "the file is cut off"));
    CHECK(has(bad(good.substr(0, good.size() - 1)), "expected 290 bytes (2 sequences, 5 tokens), found 289"));
    CHECK(has(bad(good + "x"), "found 291"));
    CHECK(has(bad(with_field<uint32_t>(good, 12, 2)), "expected data of kind text, found classify"));
    CHECK(has(bad(with_field<uint32_t>(good, 12, 77)), "found unknown"));
    CHECK(has(bad(with_field<uint32_t>(good, 16, 3)), "makes no sense"));
    CHECK(has(bad(with_field<uint32_t>(good, 16, 4)), "expected 300 bytes"));
    CHECK(has(bad(with_field<uint64_t>(good, 24, ~0ull)), "the file is cut off"));
    CHECK(has(bad(with_field<uint64_t>(good, 24, (1ull << 61) + 2)),
        "the file is cut off"));  // × 8 wraps to the right size
    CHECK(has(bad(with_field<uint64_t>(good, 32, (1ull << 63) + 5)), "the file is cut off"));
    CHECK(has(bad(with_field<uint64_t>(good, 40, 0)), "makes no sense"));
    CHECK(has(bad(with_field<uint64_t>(good, 256, 1)), "expected offsets from 0 to 5, found 1 to 5"));
    CHECK(has(bad(with_field<uint64_t>(good, 264, 6)), "sequence 1 begins after its end"));
    CHECK(has(bad(with_field<uint64_t>(good, 272, 99)), "found 0 to 99"));

    write_bytes(path, with_field<uint16_t>(good, 280, 10));  // tokens are checked when they are read
    BinFile f(path);
    CHECK(f.token(0, 1) == 2);
    CHECK(has(bin_error([&] { f.token(0, 0); }), "sequence 0, token 0: expected an id below 10, found 10"));
}

TEST_CASE("fuzz: .bin files, with right and wrong checksums") {
    TempDir s;
    const std::string path = s / "x.bin";
    std::mt19937 rng(5);
    write_sequences(path, 70000, {{1, 2, 3}, {}, {4, 5}, {69999}});
    const std::string good = read_file(path);
    int opened = 0;
    for (int i = 0; i < 5000; i++) {
        std::string bytes = good;
        for (int n = 1 + rng() % 3; n > 0; n--)
            bytes[8 + rng() % (bytes.size() - 8)] = rng() % 3 ? 1 << rng() % 8 : rng();
        if (rng() % 8 == 0) bytes.resize(rng() % bytes.size());
        if (bytes.size() >= 256 && rng() % 4) bytes = with_field<char>(bytes, 8, bytes[8]);
        write_bytes(path, bytes);
        try {
            BinFile f(path);
            opened++;
            for (size_t d = 0; d < f.sequences(); d++)
                for (size_t t = 0; t < f.length(d); t++) f.token(d, t);
        } catch (const Error&) {}
    }
    CHECK(opened > 50);
}

TEST_CASE("bin: more than 2^31 tokens") {
    // 4 GiB of zeros that take no room on the disk (a sparse file), with three tokens after them
    TempDir s;
    BinHeader header;
    header.sequences = 2;
    header.tokens = (1ull << 31) + 8;
    header.vocab = 300;
    header.checksum = header.expected_checksum();
    uint64_t offsets[3] = {0, (1ull << 31) + 5, header.tokens};
    uint16_t last[3] = {7, 8, 299};
    std::string path = s / "big.bin";
    FILE* f = fopen(path.c_str(), "wb");
    REQUIRE(f);
    REQUIRE(fwrite(&header, sizeof header, 1, f) == 1);
    REQUIRE(fwrite(offsets, sizeof offsets, 1, f) == 1);
    REQUIRE(fseeko(f, (off_t)(offsets[1] * 2), SEEK_CUR) == 0);
    REQUIRE(fwrite(last, sizeof last, 1, f) == 1);
    REQUIRE(fclose(f) == 0);
    BinFile big(path);
    CHECK(big.tokens() == header.tokens);
    CHECK(big.length(0) == (1ull << 31) + 5);
    CHECK(big.token(0, (1ull << 31) + 4) == 0);
    for (int i = 0; i < 3; i++) CHECK(big.token(1, i) == last[i]);
}

TEST_CASE("bin: damaged content") {
    TempDir s;
    write_sequences(s / "x.bin", 300, {{1, 2, 3}, {4, 5}});
    std::string bytes = read_file(s / "x.bin");
    for (size_t at : {256 + 3 * 8, (int)bytes.size() - 1}) {  // a bit of the first and of the last token
        std::string damaged = bytes;
        damaged[at] ^= 1;
        write_bytes(s / "y.bin", damaged);
        CHECK(has(open_error(s / "y.bin"), "the content is damaged"));
    }
}

// ---------------------------------------------------------------- classify
TEST_CASE("bin: examples, written and read") {
    TempDir s;
    const std::string path = s / "x.bin";
    const std::vector<std::string> labels = {"no", "yes, \"\u00e9\"", "3"};
    for (size_t vocab : {300, 70000})
        for (size_t n : {1, 2, 3, 4, 5}) {  // any number of tokens before the zeros
            std::vector<Example> examples = {
                {{1, 2, 3}, 3, 2, "a b c"}, {{4, (int32_t)vocab - 1}, 1, 0, "d\te"}, {{}, 0, 1, ""}};
            examples[0].ids.resize(n, 5);
            examples[0].second = n;
            write_examples(path, vocab, examples, labels);
            CHECK(read_file(path).size() ==
                  256 + 4 * 8 + round_up((n + 2) * (vocab == 300 ? 2 : 4), 8) + 4 * 8 + 3 * 8 + 8 + 38);
            BinFile f(path, BIN_CLASSIFY);
            CHECK(f.sequences() == 3);
            CHECK(f.labels == labels);
            for (size_t e = 0; e < 3; e++) {
                CHECK(f.length(e) == examples[e].ids.size());
                for (size_t i = 0; i < f.length(e); i++) CHECK(f.token(e, i) == examples[e].ids[i]);
                CHECK(f.label[e] == examples[e].label);
                CHECK(f.second[e] == examples[e].second);
                CHECK(f.pair(e) == (e == 1));
                CHECK(f.text(e) == examples[e].shown);
            }
            CHECK(entries(s) == 1);
        }
    CHECK(has(open_error(path), "expected data of kind text, found classify"));
    BinFile f(path, BIN_CLASSIFY);
    CHECK(has(bin_error([&] { f.require_tokenizer(Tokenizer{5}, "tok"); }),
        "data/tokenize pack --tokenizer tok --kind classify --in FILE --out " + path));
}

TEST_CASE("bin: the bytes of both kinds are those of the format") {
    TempDir s;
    auto u = [](uint64_t x, size_t bytes) { return std::string((const char*)&x, bytes); };
    auto header = [&](uint32_t kind, uint64_t S, uint64_t N, uint64_t content, const std::string& more) {
        std::string h = "tunebin\n" + u(1, 4) + u(kind, 4) + u(2, 4) + u(256, 4) + u(S, 8) + u(N, 8) + u(10, 8) +
                        u(0x1234567890abcdef, 8) + u(0, 8) + u(content, 8) + more;
        h.resize(248);
        return h + u(fnv1a(h.data(), 248), 8);
    };
    write_sequences(s / "t.bin", 10, {{1}, {2, 3}});
    std::string content = u(0, 8) + u(1, 8) + u(3, 8) + u(1, 2) + u(2, 2) + u(3, 2);
    CHECK(read_file(s / "t.bin") == header(1, 2, 3, fnv1a(content.data(), content.size()), "") + content);

    write_examples(s / "c.bin", 10, {{{1}, 1, 1, "A"}, {{2, 3}, 1, 0, "B\tC"}}, {"x", "y"});
    content += u(0, 2) + u(0, 8) + u(1, 8) + u(4, 8) + u(1, 4) + u(0, 4) + u(1, 4) + u(1, 4) + "AB\tC" +
               "{\"labels\": [\"x\", \"y\"]}";
    CHECK(read_file(s / "c.bin") ==
          header(2, 2, 3, fnv1a(content.data(), content.size()), u(2, 4) + u(0, 4) + u(4, 8) + u(22, 8)) + content);
}

TEST_CASE("bin: examples, more than a buffer, on a full disk") {
    TempDir s;
    const std::string path = s / "x.bin", text(300000, 'x');
    std::vector<Example> examples;
    for (int e = 0; e < 12; e++) examples.push_back({{e, e}, 2, e % 2, text + std::to_string(e)});
    write_examples(path, 20, examples, {"a", "b"});
    {
        BinFile f(path, BIN_CLASSIFY);
        for (size_t e = 0; e < 12; e++) CHECK(f.text(e) == examples[e].shown);
    }
    std::string during, at_end;
    {
        FullDisk full(2 << 20);
        during = bin_error([&] { write_examples(path, 20, examples, {"a", "b", "c"}); });
    }
    {
        FullDisk full(3600100);  // the texts fit, with the header they do not
        at_end = bin_error([&] { write_examples(path, 20, examples, {"a", "b", "c"}); });
    }
    CHECK(has(during, "File too large; nothing was written"));
    CHECK(has(at_end, "File too large; nothing was written (it takes 3.6 MB"));
    CHECK(BinFile(path, BIN_CLASSIFY).labels.size() == 2);
    CHECK(entries(s) == 1);
}

TEST_CASE("bin: examples that the writer refuses") {
    TempDir s;
    auto refused = [&](const std::vector<Example>& examples, const std::vector<std::string>& labels) {
        return bin_error([&] { write_examples(s / "x.bin", 10, examples, labels); });
    };
    CHECK(has(refused({{{1}, 2, 0, ""}}, {"a", "b"}),
        "cannot write an example of 1 tokens whose second segment begins at 2"));
    CHECK(has(refused({{{1}, 1, 2, ""}}, {"a", "b"}), "cannot write the label 2: there are 2"));
    CHECK(has(refused({{{1}, 1, -1, ""}}, {"a", "b"}), "cannot write the label -1"));
    CHECK(has(refused({}, {"a", "b"}), "the input holds no tokens"));
    CHECK(has(bin_error([&] {
        BinWriter out(s / "x.bin", BIN_CLASSIFY, 10, 1);
        int32_t id = 1;
        out.append(&id, 1);
        out.finish();
    }),
        "cannot write 1 sequences with 0 labels"));
    CHECK(entries(s) == 0);
}

TEST_CASE("bin: bad examples") {
    TempDir s;
    const std::string path = s / "x.bin";
    write_examples(path, 10, {{{1, 2}, 1, 0, "a\tb"}, {{3}, 1, 1, "c"}}, {"no", "yes"});
    // offsets at 256 264 272, tokens at 280, text_at at 288 296 304, labels at 312 316, second at 320 324, texts at
    // 328, names at 332
    const std::string good = read_file(path);
    const std::string names = "{\"labels\": [\"no\", \"yes\"]}";
    CHECK(good.substr(328) == "a\tbc" + names);
    auto error = [&](const std::string& bytes) {
        write_bytes(path, bytes);
        return bin_error([&] { BinFile f(path, BIN_CLASSIFY); });
    };
    auto with_names = [&](const std::string& json) {
        return with_field<uint64_t>(good.substr(0, 332) + json, 88, json.size());
    };
    CHECK(error(good) == "no error");
    CHECK(has(error(good.substr(0, 300)), "the file is cut off"));
    CHECK(has(error(good + "x"), "the file is cut off or damaged"));
    CHECK(has(error(with_field<uint32_t>(good, 12, 1)), "expected data of kind classify, found text"));
    CHECK(has(error(with_field<uint64_t>(good, 80, 5)), "the file is cut off"));
    CHECK(has(error(with_field<uint64_t>(good, 80, ~0ull)), "the file is cut off"));
    CHECK(has(error(with_field<uint64_t>(good, 88, ~0ull)), "the file is cut off"));
    CHECK(has(
        error(with_field<uint64_t>(with_field<uint64_t>(good, 80, 4 + (1ull << 63)), 88, names.size() + (1ull << 63))),
        "the file is cut off"));  // the sum wraps
    CHECK(has(error(with_field<uint64_t>(good, 24, (1ull << 60) + 2)), "the file is cut off"));
    CHECK(has(error(with_field<uint64_t>(good, 288, 1)), "expected texts from 0 to 4, found 1 to 4"));
    CHECK(has(error(with_field<uint64_t>(good, 304, 5)), "expected texts from 0 to 4, found 0 to 5"));
    CHECK(has(error(with_field<uint64_t>(good, 296, 5)), "the text of example 1 begins after its end"));
    CHECK(has(error(with_field<int32_t>(good, 316, 2)), "example 1: expected a label from 0 to 1, found 2"));
    CHECK(has(error(with_field<int32_t>(good, 312, -1)), "example 0: expected a label from 0 to 1, found -1"));
    CHECK(has(error(with_field<uint32_t>(good, 320, 3)), "example 0: expected a second segment at 2 at most, found 3"));
    CHECK(error(with_field<uint32_t>(good, 320, 2)) == "no error");
    CHECK(has(error(with_field<uint32_t>(good, 72, 3)), "expected the names of 3 labels (at least 2), found 2"));
    CHECK(has(error(with_field<uint32_t>(with_names("{\"labels\": [\"no\"]}"), 72, 1)),
        "expected the names of 1 labels (at least 2), found 1"));
    CHECK(has(error(with_names("{\"labels\": [\"no\", \"no\"]}")), "expected different labels, found \"no\" twice"));
    CHECK(has(error(with_names("{\"labels\": [\"no\", \"\"]}")), "expected names as labels, found \"\""));
    CHECK(has(error(with_names("{\"labels\": [\"no\", 1]}")), "expected names as labels, found 1"));
    CHECK(has(error(with_names("{\"labels\": \"no\"}")), "expected {\"labels\": [...]} at the end"));
    CHECK(has(error(with_names("[]")), "expected {\"labels\": [...]} at the end"));
    CHECK(has(error(with_names("")), "names: line 1"));
    CHECK(has(error(with_names("{\"labels\": [\"no\", \"\xff\"]}")), "this is not JSON"));
    std::string damaged = good;
    damaged[328] ^= 1;
    CHECK(has(error(damaged), "the content is damaged"));
}

TEST_CASE("fuzz: .bin files of kind classify") {
    TempDir s;
    const std::string path = s / "x.bin";
    std::mt19937 rng(6);
    write_examples(path, 10, {{{1, 2}, 1, 0, "a\tb"}, {{}, 0, 1, ""}, {{3}, 1, 1, "c"}}, {"no", "yes"});
    const std::string good = read_file(path);
    int opened = 0;
    for (int i = 0; i < 6000; i++) {
        std::string bytes = good;
        for (int n = 1 + rng() % 3; n > 0; n--) {
            size_t at = rng() % 3 ? 256 + rng() % (bytes.size() - 256)
                                  : rng() % 96;  // the sections, the fields of the header
            bytes[at] = rng() % 3 ? 1 << rng() % 8 : rng();
        }
        if (rng() % 8 == 0) bytes.resize(rng() % bytes.size());
        if (bytes.size() >= 256 && rng() % 4) bytes = with_field<char>(bytes, 8, bytes[8]);
        write_bytes(path, bytes);
        try {
            BinFile f(path, BIN_CLASSIFY);
            opened++;
            size_t letters = 0;
            for (size_t e = 0; e < f.sequences(); e++) {
                CHECK((size_t)f.label[e] < f.labels.size());
                CHECK(f.second[e] <= f.length(e));
                for (char c : f.text(e)) letters += c != 0;
                for (size_t t = 0; t < f.length(e); t++) f.token(e, t);
            }
            CHECK(letters <= 4);
        } catch (const Error&) {}
    }
    CHECK(opened > 50);
}

// ---------------------------------------------------------------- instruct
struct Row {
    std::vector<int32_t> ids;
    std::vector<BinSpan> spans;
    int32_t task;
    std::string text;
};
static Json a_template() { return Json().set("name", "t").set("text", "{instruction}{output}"); }
static void write_rows(
    const std::string& path, size_t vocab, const std::vector<Row>& rows, const std::vector<std::string>& tasks) {
    BinWriter out(path, BIN_INSTRUCT, vocab, 0x1234567890abcdef);
    for (const Row& r : rows) {
        out.append(r.ids.data(), r.ids.size());
        out.end_row(r.task, r.spans, r.text);
    }
    out.tasks = tasks;
    out.templ = a_template();
    out.finish();
}

TEST_CASE("bin: rows of instructions, written and read") {
    TempDir s;
    const std::string path = s / "x.bin";
    const std::vector<std::string> tasks = {"list/first", "list/\u00e9", "3"};
    for (size_t vocab : {300, 70000})
        for (size_t n : {2, 3, 4, 5, 6}) {
            std::vector<Row> rows = {{{}, {{1, 2}}, 2, "{\"input\": \"a\"}"},
                {{4, 5, 6, 7, (int32_t)vocab - 1}, {{1, 2}, {2, 3}, {4, 5}}, 0, ""}, {{1, 2}, {{1, 2}}, 1, "x"}};
            rows[0].ids.resize(n, 5);
            write_rows(path, vocab, rows, tasks);
            BinFile f(path, BIN_INSTRUCT);
            CHECK(f.sequences() == 3);
            CHECK(f.tasks == tasks);
            CHECK(dump_json(f.templ) == dump_json(a_template()));
            CHECK(f.header.templ == template_fingerprint(a_template()));
            for (size_t r = 0; r < 3; r++) {
                CHECK(f.length(r) == rows[r].ids.size());
                for (size_t i = 0; i < f.length(r); i++) CHECK(f.token(r, i) == rows[r].ids[i]);
                CHECK(f.task[r] == rows[r].task);
                CHECK(f.text(r) == rows[r].text);
                REQUIRE(f.spans(r) == rows[r].spans.size());
                for (size_t i = 0; i < f.spans(r); i++)
                    CHECK((f.span(r, i).begin == rows[r].spans[i].begin && f.span(r, i).end == rows[r].spans[i].end));
            }
            CHECK(entries(s) == 1);
        }
    CHECK(has(open_error(path), "expected data of kind text, found instruct"));
    CHECK(has(bin_error([&] { BinFile f(path, BIN_CLASSIFY); }), "expected data of kind classify, found instruct"));
    BinFile f(path, BIN_INSTRUCT);
    CHECK(has(bin_error([&] { f.require_tokenizer(Tokenizer{5}, "tok"); }),
        "data/tokenize pack --tokenizer tok --kind instruct --in FILE --out " + path));
}

TEST_CASE("bin: the bytes of kind instruct are those of the format") {
    TempDir s;
    auto u = [](uint64_t x, size_t bytes) { return std::string((const char*)&x, bytes); };
    write_rows(s / "i.bin", 10, {{{1, 9}, {{1, 2}}, 1, "A"}, {{2, 3, 4}, {{1, 2}, {2, 3}}, 0, "BC"}}, {"x", "y"});
    std::string templ = "{\"name\": \"t\", \"text\": \"{instruction}{output}\"}",
                names = "{\"tasks\": [\"x\", \"y\"], \"template\": " + templ + "}";
    std::string content = u(0, 8) + u(2, 8) + u(5, 8) + u(1, 2) + u(9, 2) + u(2, 2) + u(3, 2) + u(4, 2) +
                          std::string(6, '\0');
    content += u(0, 8) + u(1, 8) + u(3, 8) + u(0, 8) + u(1, 8) + u(3, 8) + u(1, 4) + u(2, 4) + u(1, 4) + u(2, 4) +
               u(2, 4) + u(3, 4) + u(1, 4) + u(0, 4) + "ABC" + names;
    const std::string texts = "{\"text\": \"{instruction}{output}\"}";  // what a template is known by
    std::string h = "tunebin\n" + u(1, 4) + u(3, 4) + u(2, 4) + u(256, 4) + u(2, 8) + u(5, 8) + u(10, 8) +
                    u(0x1234567890abcdef, 8) + u(fnv1a(texts.data(), texts.size()), 8) +
                    u(fnv1a(content.data(), content.size()), 8) + u(2, 4) + u(0, 4) + u(3, 8) + u(names.size(), 8) +
                    u(3, 8);
    h.resize(248);
    CHECK(read_file(s / "i.bin") == h + u(fnv1a(h.data(), 248), 8) + content);
}

TEST_CASE("bin: rows that the writer refuses") {
    TempDir s;
    auto refused = [&](const Row& row) { return bin_error([&] { write_rows(s / "x.bin", 10, {row}, {"a"}); }); };
    CHECK(has(refused({{1, 2}, {}, 0, ""}), "cannot write a row without a supervised token"));
    CHECK(has(refused({{1, 2}, {{0, 1}}, 0, ""}), "cannot write a row of 2 tokens with the span 0 to 1"));
    CHECK(has(refused({{1, 2}, {{1, 1}}, 0, ""}), "with the span 1 to 1"));
    CHECK(has(refused({{1, 2}, {{1, 3}}, 0, ""}), "with the span 1 to 3"));
    CHECK(has(refused({{1, 2, 3}, {{1, 3}, {2, 3}}, 0, ""}), "with the span 2 to 3"));
    CHECK(has(refused({{1, 2}, {{1, 2}}, 1, ""}), "cannot write the task 1: there are 1"));
    CHECK(has(refused({{1, 2}, {{1, 2}}, -1, ""}), "cannot write the task -1"));
    CHECK(entries(s) == 0);
}

TEST_CASE("bin: bad rows of instructions") {
    TempDir s;
    const std::string path = s / "x.bin";
    write_rows(path, 10, {{{1, 2}, {{1, 2}}, 0, "ab"}, {{3, 4, 5}, {{1, 2}, {2, 3}}, 1, "c"}}, {"x", "y"});
    // offsets at 256 264 272, tokens at 280, text_at at 296 304 312, span_at at 320 328 336, spans at 344 352 360,
    // tasks at 368 372, texts at 376, names at 379
    const std::string good = read_file(path);
    const std::string templ = "\"template\": {\"name\": \"t\", \"text\": \"{instruction}{output}\"}",
                      names = "{\"tasks\": [\"x\", \"y\"], " + templ + "}";
    CHECK(good.substr(376) == "abc" + names);
    auto error = [&](const std::string& bytes) {
        write_bytes(path, bytes);
        return bin_error([&] { BinFile f(path, BIN_INSTRUCT); });
    };
    auto with_names = [&](const std::string& json) {
        return with_field<uint64_t>(good.substr(0, 379) + json, 88, json.size());
    };
    CHECK(error(good) == "no error");
    CHECK(has(error(good.substr(0, 370)), "the file is cut off"));
    CHECK(has(error(good + "x"), "the file is cut off or damaged"));
    for (size_t at : {24, 32, 80, 88, 96}) {
        CHECK(has(error(with_field<uint64_t>(good, at, ~0ull)), "the file is cut off"));
        CHECK(has(error(with_field<uint64_t>(good, at, (1ull << 61) + 3)),
            "the file is cut off"));  // the size in bytes wraps
    }
    CHECK(has(
        error(with_field<uint64_t>(with_field<uint64_t>(good, 80, 3 + (1ull << 63)), 88, names.size() + (1ull << 63))),
        "the file is cut off"));
    CHECK(has(error(with_field<uint64_t>(good, 296, 1)), "expected texts from 0 to 3, found 1 to 3"));
    CHECK(has(error(with_field<uint64_t>(good, 304, 9)), "the text of example 1 begins after its end"));
    CHECK(has(error(with_field<uint64_t>(good, 320, 1)), "expected spans from 0 to 3, found 1 to 3"));
    CHECK(has(error(with_field<uint64_t>(good, 336, 2)), "expected spans from 0 to 3, found 0 to 2"));
    CHECK(has(error(with_field<uint64_t>(good, 328, 3)), "row 0: expected a span from 2 to 2, found 1 to 2"));
    CHECK(has(error(with_field<uint64_t>(good, 328, 0)), "row 0: expected at least one span, found 0 to 0"));
    CHECK(has(error(with_field<uint64_t>(good, 328, ~0ull)), "row 0: expected at least one span"));
    CHECK(has(error(with_field<uint32_t>(good, 344, 0)), "row 0: expected a span from 1 to 2, found 0 to 2"));
    CHECK(has(error(with_field<uint32_t>(good, 348, 1)), "row 0: expected a span from 1 to 2, found 1 to 1"));
    CHECK(has(error(with_field<uint32_t>(good, 348, 3)), "row 0: expected a span from 1 to 2, found 1 to 3"));
    CHECK(has(error(with_field<uint32_t>(good, 360, 1)), "row 1: expected a span from 2 to 3, found 1 to 3"));
    CHECK(has(error(with_field<int32_t>(good, 368, 2)), "row 0: expected a task from 0 to 1, found 2"));
    CHECK(has(error(with_field<int32_t>(good, 372, -1)), "row 1: expected a task from 0 to 1, found -1"));
    CHECK(has(error(with_field<uint32_t>(good, 72, 3)), "expected the names of 3 tasks (at least 1), found 2"));
    CHECK(has(error(with_field<uint64_t>(good, 56, 1)), "expected the template 0000000000000001, found"));
    CHECK(has(error(with_names("{\"tasks\": [\"x\", \"y\"]}")), "expected {\"template\": {...}} at the end"));
    CHECK(has(error(with_names("{\"tasks\": [\"x\", \"y\"], \"template\": 1}")),
        "expected {\"template\": {...}} at the end"));
    CHECK(has(error(with_names("{\"tasks\": [\"x\", \"x\"], " + templ + "}")),
        "expected different tasks, found \"x\" twice"));
    CHECK(has(error(with_names("{\"tasks\": [\"x\", \"\"], " + templ + "}")), "expected names as tasks, found \"\""));
    CHECK(has(error(with_names("{" + templ + "}")), "expected {\"tasks\": [...]} at the end"));
    std::string damaged = good;
    damaged[376] ^= 1;
    CHECK(has(error(damaged), "the content is damaged"));
}

TEST_CASE("fuzz: .bin files of kind instruct") {
    TempDir s;
    const std::string path = s / "x.bin";
    std::mt19937 rng(7);
    write_rows(path, 10,
        {{{1, 2}, {{1, 2}}, 0, "ab"}, {{3, 4, 5}, {{1, 2}, {2, 3}}, 1, ""}, {{1, 2, 3, 4}, {{2, 4}}, 1, "c"}},
        {"x", "y"});
    const std::string good = read_file(path);
    int opened = 0;
    for (int i = 0; i < 6000; i++) {
        std::string bytes = good;
        for (int n = 1 + rng() % 3; n > 0; n--) {
            size_t at = rng() % 3 ? 256 + rng() % (bytes.size() - 256)
                                  : rng() % 104;  // the sections, the fields of the header
            bytes[at] = rng() % 3 ? 1 << rng() % 8 : rng();
        }
        if (rng() % 8 == 0) bytes.resize(rng() % bytes.size());
        if (bytes.size() >= 256 && rng() % 4) bytes = with_field<char>(bytes, 8, bytes[8]);
        write_bytes(path, bytes);
        try {
            BinFile f(path, BIN_INSTRUCT);
            opened++;
            size_t letters = 0;
            for (size_t r = 0; r < f.sequences(); r++) {
                CHECK((size_t)f.task[r] < f.tasks.size());
                CHECK(f.spans(r) > 0);
                for (size_t k = 0; k < f.spans(r); k++)
                    for (size_t t = f.span(r, k).begin; t < f.span(r, k).end; t++) {
                        f.token(r, t - 1);
                        f.token(r, t);
                    }
                for (char c : f.text(r)) letters += c != 0;
            }
            CHECK(letters <= 3);
        } catch (const Error&) {}
    }
    CHECK(opened > 50);
}
