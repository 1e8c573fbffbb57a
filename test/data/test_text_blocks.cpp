// text_blocks.h: a file that is read in blocks and encoded in parts gives the documents and ids of the whole file.
#include <doctest/doctest.h>

#include <random>

#include "common/text/tokenizer.h"
#include "data/text_blocks.h"
#include "test/temp.h"

namespace {

struct SmallBlocks {  // while it lives
    SmallBlocks(size_t block, size_t part) {
        text_block_bytes = block;
        text_part_bytes = part;
    }
    ~SmallBlocks() {
        text_block_bytes = 16 << 20;
        text_part_bytes = 256 << 10;
    }
};

// the documents, each as its words (what a tokenizer encodes one by one), with | between them; cut as pack_text() does
typedef std::vector<std::string> Documents;
template <class Split> Documents documents_of(
    const std::string& path, const std::string& documents, CutRules rules, Split split, size_t& parts) {
    Documents found(1);
    parts = 0;
    bool new_part = true;  // does a document begin with the next part?
    for_each_block(path, rules, [&](TextPart block) {
        for (const TextPart& part : parts_of(block, rules)) {
            parts++;
            bool begins = new_part;
            for_each_stretch(part, documents, [&](std::string_view text, bool ends) {
                split(text, begins ? Steps::FIRST : Steps::GOES_ON, found.back());
                if (ends) found.emplace_back();
                begins = ends;
            });
            new_part = ends_document(part, documents);
        }
    });
    return found;
}

struct Rules {
    const char* name;
    std::vector<Step> steps;  // of BPE; none: WordPiece
};
const Rules all_rules[] = {{"WordPiece", {}}, {"GPT-2", {{Step::GPT2}}}, {"Llama 3", {{Step::LLAMA3}}},
    {"Qwen 2", {{Step::NFC}, {Step::QWEN2}}}, {"SmolLM", {{Step::DIGITS}, {Step::GPT2}}},
    {"prefix", {{Step::PREFIX, "", " "}, {Step::GPT2}}},
    {"Metaspace", {{Step::REPLACE, " ", Tokenizer::mark}, {Step::PREFIX_FIRST, "", Tokenizer::mark},
                      {Step::CUT_BEFORE, Tokenizer::mark}}}};

void split(const Rules& rules, std::string_view text, Steps::Place place, std::string& out) {
    // Metaspace makes one word of what stands on both sides of a line's end; no token of such a vocabulary goes across
    // it
    const std::string bar = !rules.steps.empty() && rules.steps.back().rule == Step::CUT_BEFORE ? "" : "|";
    auto add = [&](const char* w, size_t n) { out += std::string(w, n) + bar; };
    static Tokenizer wordpiece(Tokenizer::WORDPIECE);  // no pieces, only how words are made
    Steps steps{rules.steps};
    if (rules.steps.empty()) wordpiece.for_each_word(text, add, [](int) {});
    else steps.split(text, place, add);
}
CutRules cuts_of(const Rules& rules) {
    Tokenizer bpe;
    bpe.words = Steps{rules.steps};
    return rules.steps.empty() ? cut_rules(Tokenizer()) : cut_rules(bpe);
}

}  // namespace

TEST_CASE("blocks and parts change no document and no word") {
    TempDir d;
    std::mt19937 random(1);
    const char* atoms[] = {"a", "b1", ".", ">", " ", " ", "  ", "\n", "\n", "\n", "\r\n", "\t", "\u00e9", "]", "\u3002",
        "\u3000", "\xff", "\n<|endoftext|>\n", "\n <|endoftext|> \r\n", "<|endoftext|>", "'s", "\x85"};
    size_t cuts = 0;
    for (int round = 0; round < 600; round++) {
        std::string text = round % 7 == 0 ? "\xef\xbb\xbf" : "";
        for (int n = random() % (round < 400 ? 12 : 120); n > 0; n--)
            text += atoms[random() % (sizeof atoms / sizeof *atoms)];
        write_bytes(d / "x", text);
        for (const char* documents : {"eot", "line", "blank", "file"})
            for (const Rules& rules : all_rules) {
                INFO(std::string(rules.name), " ", std::string(documents), " ", dump_json(text));
                auto words = [&](std::string_view t, Steps::Place p, std::string& out) { split(rules, t, p, out); };
                size_t one, parts;
                SmallBlocks one_block(1 << 14, 1 << 14);
                const Documents whole = documents_of(d / "x", documents, cuts_of(rules), words, one);
                SmallBlocks small(4 + random() % 40, 1 + random() % 20);
                REQUIRE(documents_of(d / "x", documents, cuts_of(rules), words, parts) == whole);
                cuts += parts - one;
            }
    }
    CHECK(cuts > 10000);  // so the parts were small indeed
}

TEST_CASE("blocks: memory is bounded by the longest stretch without white space, whatever the lines begin with") {
    TempDir d;
    SmallBlocks small(1000, 100);
    for (const char* line : {"word\n", " word\n", "    word.\n", "\tword)\r\n", "\u4e2d\u6587\u3002\n", "word "}) {
        std::string text;
        while (text.size() < 100000) text += line;
        write_bytes(d / "x", text);
        size_t longest = 0, bytes = 0;
        for_each_block(d / "x", {}, [&](TextPart block) {
            longest = std::max(longest, block.text.size());
            for (const TextPart& part : parts_of(block, {})) {
                CHECK(part.text.size() < 120);
                bytes += part.text.size();
            }
        });
        CHECK(longest < 1100);
        CHECK(bytes == text.size());
    }
}

TEST_CASE("blocks: a NUL byte is refused with its line, in any block") {
    TempDir d;
    SmallBlocks small(100, 100);
    std::string text;
    for (int i = 0; i < 200; i++) text += "some words\n";
    text[1700] = '\0';  // the first byte of a block, in line 1700 / 11 + 1
    write_bytes(d / "x", text);
    std::string error;
    try {
        for_each_block(d / "x", {}, [](TextPart) {});
    } catch (const Error& e) {
        error = e.what();
    }
    CHECK(error == (d / "x") + ", line 155: expected text, found a NUL byte");
}
