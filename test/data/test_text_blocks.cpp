// text_blocks.h: a file that is read in blocks and encoded in parts gives the documents and ids of the whole file.
#include <doctest/doctest.h>

#include <random>

#include "common/text/bpe.h"
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

// the documents, each as its words (what a tokenizer encodes one by one), with | between them
typedef std::vector<std::string> Documents;
template <class Split>
Documents documents_of(const std::string& path, const std::string& documents, Split split, size_t& parts) {
    Documents found(1);
    parts = 0;
    for_each_block(path, [&](TextPart block) {
        for (const TextPart& part : parts_of(block)) {
            parts++;
            for_each_stretch(part, documents, [&](std::string_view text, bool ends) {
                split(text, found.back());
                if (ends) found.emplace_back();
            });
        }
    });
    return found;
}

void bpe_words(std::string_view text, std::string& out) {
    static const Steps gpt2{{{Step::GPT2}}};
    gpt2.split(text, Steps::FIRST, [&](const char* w, size_t n) { out += std::string(w, n) + "|"; });
}
void wordpiece_words(std::string_view text, std::string& out) {
    static WordPiece rules;  // no pieces, only how words are made
    rules.for_each_word(text, [&](const char* w, size_t n, size_t) { out += std::string(w, n) + "|"; }, [](int) {});
}

}  // namespace

TEST_CASE("blocks and parts change no document and no word") {
    TempDir d;
    std::mt19937 random(1);
    const char* atoms[] = {"a",
                           "b1",
                           ".",
                           ">",
                           " ",
                           " ",
                           "  ",
                           "\n",
                           "\n",
                           "\n",
                           "\r\n",
                           "\t",
                           "\u00e9",
                           "]",
                           "\u3002",
                           "\u3000",
                           "\xff",
                           "\n<|endoftext|>\n",
                           "\n <|endoftext|> \r\n",
                           "<|endoftext|>",
                           "'s",
                           "\x85"};
    size_t cuts = 0;
    for (int round = 0; round < 400; round++) {
        std::string text = round % 7 == 0 ? "\xef\xbb\xbf" : "";
        for (int n = random() % 120; n > 0; n--) text += atoms[random() % (sizeof atoms / sizeof *atoms)];
        write_bytes(d / "x", text);
        for (const char* documents : {"eot", "line", "blank", "file"})
            for (auto split : {bpe_words, wordpiece_words}) {
                size_t one, parts;
                const Documents whole = documents_of(d / "x", documents, split, one);
                SmallBlocks small(4 + random() % 40, 1 + random() % 20);
                REQUIRE(documents_of(d / "x", documents, split, parts) == whole);
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
        for_each_block(d / "x", [&](TextPart block) {
            longest = std::max(longest, block.text.size());
            for (const TextPart& part : parts_of(block)) {
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
    text[11 * 151 + 3] = '\0';
    write_bytes(d / "x", text);
    std::string error;
    try {
        for_each_block(d / "x", [](TextPart) {});
    } catch (const Error& e) {
        error = e.what();
    }
    CHECK(error == (d / "x") + ", line 152: expected text, found a NUL byte");
}
