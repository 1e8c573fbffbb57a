// unicode.h: UTF-8, and what a tokenizer asks about a code point. unicode.cpp alone includes utf8proc.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string>
#include <string_view>
#include <vector>

// Reads the code point at p (p < end), moves p after it; −1 and one byte further if the bytes are not UTF-8.
int32_t next_code_point(const char*& p, const char* end);
std::vector<int32_t> code_points(std::string_view text);  // without bytes that are not UTF-8
void append_utf8(std::string& out, int32_t code_point);
void append_utf8(std::string& out, const std::vector<int32_t>& code_points);
// Byte offset of the first byte that is not part of valid UTF-8, or npos; and how many there are
size_t invalid_utf8(std::string_view text);
size_t count_invalid(std::string_view text);
// General category as two letters in one number, e.g. category(cp) == CATEGORY('M','n')
constexpr int CATEGORY(char a, char b) { return a << 8 | b; }
int category(int32_t code_point);
inline bool is_space(int32_t c) {  // Unicode's White_Space
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}
inline bool is_word_char(int32_t c) {  // \w of Rust's regex
    if (c < 0) return false;
    int cat = category(c), major = cat >> 8;
    return major == 'L' || major == 'M' || cat == CATEGORY('N', 'd') || cat == CATEGORY('N', 'l') ||
           cat == CATEGORY('P', 'c') || c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
           (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}
// full lower-case mapping: one code point may become two
void append_lower(std::vector<int32_t>& out, int32_t code_point);
// canonical or compatibility decomposition of one code point, not reordered
void append_decomposed(std::vector<int32_t>& out, int32_t code_point, bool compatible);
int combining_class(int32_t code_point);
// canonical composition, in place, of a text that is decomposed and in canonical order
void compose(std::vector<int32_t>& text);
// columns of a terminal that a text takes: 2 for a wide character, 0 for a combining one
size_t display_width(std::string_view text);
