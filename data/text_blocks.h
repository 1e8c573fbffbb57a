// text_blocks.h: reads text files of any size in blocks, parts of which threads can encode, and finds the documents.
#pragma once
#include <errno.h>
#include <stdio.h>

#include <algorithm>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/unicode.h"
#include "common/text/wordpiece.h"

// May text be cut here, after a line's end, so that no tokenizer and no separator of documents can tell? What follows
// has to be neither white space, which BPE may take together with the line's end, nor a line <|endoftext|>.
inline bool is_cut(std::string_view text, size_t at) {
    constexpr std::string_view eot = "<|endoftext|>";
    if (at == 0 || text[at - 1] != '\n' || at + eot.size() > text.size() || text.substr(at, eot.size()) == eot)
        return false;
    const char* p = text.data() + at;
    return !is_space(next_code_point(p, text.data() + text.size()));
}

// Calls f(block, is it the last?) for the text of a file, block by block. A block is about 16 MB and ends at a cut or
// with the file, so memory is bounded by the longest line.
template <class F>
inline void for_each_block(const std::string& path, F f) {
    FILE* file = fdopen(open_regular(path), "rb");
    if (!file) fail("cannot read %s: %s", path.c_str(), strerror(errno));
    std::string block;
    for (size_t used = 0;;) {
        block.resize(used + (16 << 20));
        size_t n = fread(&block[used], 1, block.size() - used, file);
        if (ferror(file)) {
            int e = errno;
            fclose(file);
            fail("cannot read %s: %s", path.c_str(), strerror(e));
        }
        block.resize(used + n);
        if (n == 0) break;
        size_t cut = block.rfind('\n') + 1;  // npos + 1 == 0: no line's end in it, read on
        while (cut > 0 && !is_cut(block, cut)) cut = cut > 1 ? block.rfind('\n', cut - 2) + 1 : 0;
        if (cut > 0) f(std::string_view(block).substr(0, cut), false);
        block.erase(0, cut);
        used = block.size();
    }
    fclose(file);
    if (!block.empty()) f(std::string_view(block), true);
}

// A block in parts of about 256 kB that end at cuts, for the threads to share
inline std::vector<std::string_view> parts_of(std::string_view block) {
    std::vector<std::string_view> parts;
    while (!block.empty()) {
        size_t cut = std::min<size_t>(256 << 10, block.size());
        do cut = std::min(block.find('\n', cut), block.size() - 1) + 1;
        while (cut < block.size() && !is_cut(block, cut));
        parts.push_back(block.substr(0, cut));
        block.remove_prefix(cut);
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
// Does a document end with this text? Its last character is a line's end.
inline bool ends_document(std::string_view text, const std::string& documents) {
    text.remove_suffix(1);
    return documents == "line" || separates(text.substr(text.rfind('\n') + 1), documents);  // npos + 1 == 0
}

// Cuts text at the lines that separate documents. Calls f(text, ends): a stretch of text, and whether a document ends
// with it. A document is without the line's end before the separator, or before the file's end; of `file` it is all
// bytes. last: the file ends with this text.
template <class F>
inline void for_each_stretch(std::string_view text, const std::string& documents, bool last, F f) {
    auto without_line_end = [](std::string_view s) {
        if (!s.empty() && s.back() == '\n') s.remove_suffix(1);
        if (!s.empty() && s.back() == '\r') s.remove_suffix(1);
        return s;
    };
    size_t start = 0;
    for (size_t at = 0; at < text.size() && documents != "file";) {
        size_t end = std::min(text.find('\n', at), text.size());
        bool separator = separates(text.substr(at, end - at), documents);
        if (separator || documents == "line") {
            f(without_line_end(text.substr(start, (separator ? at : end) - start)), true);
            start = end + 1;
        }
        at = end + 1;
    }
    if (start < text.size())
        f(last && documents != "file" ? without_line_end(text.substr(start)) : text.substr(start), false);
}
