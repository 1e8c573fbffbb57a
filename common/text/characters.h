// characters.h: what kind of character is it? Spaces, punctuation, ideographs, as BERT's and GPT-2's tokenizers see
// them.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <vector>

#include "common/base/unicode.h"

// What an ASCII byte means to BERT; bytes of other characters, and controls, are OTHER: they need the full rules.
enum ByteKind : uint8_t { WORD, SPACE, PUNCTUATION, OTHER };

struct ByteTable {
    ByteKind kind[256];
    char lower[256];
    ByteTable() {
        for (int c = 0; c < 256; c++) {
            bool punctuation = (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
                               (c >= 123 && c <= 126);
            bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
            kind[c] = space ? SPACE : punctuation ? PUNCTUATION : c < 32 || c > 126 ? OTHER : WORD;
            lower[c] = c >= 'A' && c <= 'Z' ? c + 32 : c;
        }
    }
};
inline const ByteTable byte_table;

inline bool is_space(int32_t c) {  // Unicode's White_Space
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}
// what BERT's tokenizer leaves out: U+0000, U+FFFD, controls, format and private-use characters
inline bool is_dropped(int32_t c) {
    if (c == '\t' || c == '\n' || c == '\r') return false;
    int cat = category(c);
    return c == 0 || c == 0xFFFD || cat == CATEGORY('C', 'c') || cat == CATEGORY('C', 'f') || cat == CATEGORY('C', 'o');
}
inline bool is_punctuation(int32_t c) { return c < 128 ? byte_table.kind[c] == PUNCTUATION : category(c) >> 8 == 'P'; }

inline bool is_word_char(int32_t c) {  // \w of Rust's regex
    if (c < 0) return false;
    int cat = category(c), major = cat >> 8;
    return major == 'L' || major == 'M' || cat == CATEGORY('N', 'd') || cat == CATEGORY('N', 'l') ||
           cat == CATEGORY('P', 'c') || c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
           (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

// The eight ranges of the BERT code. (The seventh begins at U+2B820 there and at U+2B920 in BertTokenizerFast: we
// follow the latter.)
inline bool is_cjk(int32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

// Canonical order: within a run of combining characters (class > 0) a stable sort by class. A run may be a whole file.
inline void reorder_combining(std::vector<int32_t>& text) {
    auto is_base = [](int32_t c) { return combining_class(c) == 0; };
    auto by_class = [](int32_t a, int32_t b) { return combining_class(a) < combining_class(b); };
    for (auto end = text.begin(); end != text.end();) {
        auto run = std::find_if_not(end, text.end(), is_base);
        end = std::find_if(run, text.end(), is_base);
        if (end - run > 1) std::stable_sort(run, end, by_class);
    }
}
