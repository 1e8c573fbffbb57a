// text_blocks.h: reads text files of any size in blocks, parts of which threads can encode, and finds the documents.
#pragma once
#include <errno.h>
#include <stdio.h>

#include <algorithm>
#include <memory>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/unicode.h"
#include "common/text/tokenizer.h"

// Where a tokenizer lets a text be cut: BPE by Llama 3's rules joins a line's end to punctuation before it, one without
// rules may join a space to anything.
struct CutRules {
    bool at_spaces = true, joins_line_ends = false;
};
inline CutRules cut_rules(const Tokenizer& t) {
    const bool llama3 = t.words.has(Step::LLAMA3) || t.words.has(Step::QWEN2);
    const bool bpe = llama3 || t.words.has(Step::GPT2) || t.words.has(Step::CUT_BEFORE) || t.cuts_before_marks;
    return {bpe || t.model == Tokenizer::WORDPIECE, llama3};
}

// May text be cut here, so that no tokenizer and no separator of documents can tell? Before white space, all of which
// is left to what comes after, and behind a character that ends neither an added token nor a line <|endoftext|>; by
// Llama 3's rules also after a line's end, if neither white space follows nor such a line.
inline bool is_cut(std::string_view text, size_t at, CutRules rules) {
    constexpr std::string_view eot = "<|endoftext|>";
    if (at == 0 || at >= text.size()) return false;
    const char *p = text.data() + at, *end = text.data() + text.size();
    if (byte_table.kind[(uint8_t)*p] != SPACE)
        return rules.joins_line_ends && p[-1] == '\n' && at + eot.size() <= text.size() &&
               text.substr(at, eot.size()) != eot && !is_space(next_code_point(p, end));
    size_t before = at - 1;
    while (before > 0 && at - before < 4 && (text[before] & 0xC0) == 0x80) before--;
    p = text.data() + before;
    int32_t c = next_code_point(p, text.data() + at);
    if (p != text.data() + at) c = -1;  // the byte before is not UTF-8
    const CharKind kind = kind_of(c);
    if (kind == WHITE || c == '>' || c == ']') return false;
    return is_line_end(text[at]) ? kind != NEITHER || !rules.joins_line_ends : rules.at_spaces;
}

inline size_t text_block_bytes = 16 << 20, text_part_bytes = 256 << 10;  // tests take less

// Part of a file, a block or less. first, last: does the file begin, end with it?
struct TextPart {
    std::string_view text;
    bool first, last;
};

// Calls f(block) for the text of a file, without its byte order mark, block by block. A block is about 16 MB and ends
// at a cut or with the file, so memory is bounded by the longest stretch without a cut, and that by 1 GB.
template <class F> inline void for_each_block(const std::string& path, CutRules rules, F f) {
    FILE* file = fdopen(open_regular(path, true), "rb");
    if (!file) fail("cannot read %s: %s", path.c_str(), strerror(errno));
    std::unique_ptr<FILE, int (*)(FILE*)> closed(file, fclose);
    std::string block;
    size_t lines = 0;  // before the block
    for (bool first = true, last = false; !last;) {
        const size_t used = block.size();
        block.resize(used + text_block_bytes);
        const size_t n = fread(&block[used], 1, block.size() - used, file);
        if (ferror(file)) fail("cannot read %s: %s", path.c_str(), strerror(errno));
        block.resize(used + n);
        last = n < text_block_bytes;
        if (first && used == 0) {
            const std::string found = not_text(block);
            if (!found.empty()) fail("%s: expected UTF-8 text, found %s", path.c_str(), found.c_str());
            if (block.compare(0, BYTE_ORDER_MARK.size(), BYTE_ORDER_MARK) == 0) block.erase(0, BYTE_ORDER_MARK.size());
        }
        if (const size_t nul = block.find('\0', used); nul != block.npos)
            fail("%s, line %zu: expected text, found a NUL byte", path.c_str(),
                lines + 1 + std::count(block.begin(), block.begin() + nul, '\n'));
        size_t cut = block.size();
        while (!last && cut > used && !is_cut(block, cut, rules)) cut--;
        if (!last && cut == used && !is_cut(block, cut, rules)) cut = 0;  // none in what is new: read on
        if (block.size() - cut > 1 << 30)
            fail("%s: expected words with white space between them, found 1 GB without", path.c_str());
        if (cut == 0) continue;
        f(TextPart{std::string_view(block).substr(0, cut), first, last});
        first = false;
        lines += std::count(block.begin(), block.begin() + cut, '\n');
        block.erase(0, cut);
    }
}

// A block in parts of about 256 kB that end at cuts, for the threads to share
inline std::vector<TextPart> parts_of(TextPart block, CutRules rules) {
    std::vector<TextPart> parts;
    for (std::string_view rest = block.text; !rest.empty();) {
        size_t cut = std::min(text_part_bytes, rest.size());
        while (cut < rest.size() && !is_cut(rest, cut, rules)) cut++;
        const std::string_view text = rest.substr(0, cut);
        rest.remove_prefix(cut);
        parts.push_back({text, block.first && parts.empty(), block.last && rest.empty()});
    }
    return parts;
}

inline std::string_view strip_spaces(std::string_view line) {
    while (!line.empty() && byte_table.kind[(uint8_t)line.front()] == SPACE) line.remove_prefix(1);
    while (!line.empty() && byte_table.kind[(uint8_t)line.back()] == SPACE) line.remove_suffix(1);
    return line;
}

// Does a line separate documents?
inline bool separates(std::string_view line, const std::string& documents) {
    line = strip_spaces(line);
    return (documents == "eot" && line == "<|endoftext|>") || (documents == "blank" && line.empty());
}
// Does a document end with this part, which ends at a cut?
inline bool ends_document(TextPart part, const std::string& documents) {
    if (part.text.back() != '\n') return false;
    part.text.remove_suffix(1);
    const size_t line = part.text.rfind('\n') + 1;  // npos + 1 == 0
    return documents == "line" || ((line > 0 || part.first) && separates(part.text.substr(line), documents));
}

// Cuts a part at the lines that separate documents. Calls f(text, ends): a stretch of text, and whether a document ends
// with it. A document is without the line's end before the separator, or before the file's end; of `file` it is all
// bytes. A part that is not the first begins with a line that is no separator, or within one, or at its end (is_cut()).
template <class F> inline void for_each_stretch(TextPart part, const std::string& documents, F f) {
    auto without_line_end = [](std::string_view s) {
        if (!s.empty() && s.back() == '\n') s.remove_suffix(1);
        if (!s.empty() && s.back() == '\r') s.remove_suffix(1);
        return s;
    };
    const std::string_view text = part.text;
    size_t start = 0;
    for (size_t at = 0; at < text.size() && documents != "file";) {
        size_t end = std::min(text.find('\n', at), text.size());
        if (end == text.size() && !part.last) break;  // the next part goes on with this line
        bool separator = (at > 0 || part.first) && separates(text.substr(at, end - at), documents);
        if (separator || documents == "line") {
            f(without_line_end(text.substr(start, (separator ? at : end) - start)), true);
            start = end + 1;
        }
        at = end + 1;
    }
    if (start < text.size())
        f(part.last && documents != "file" ? without_line_end(text.substr(start)) : text.substr(start), false);
}
