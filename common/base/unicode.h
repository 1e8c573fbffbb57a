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
// full lower-case mapping: one code point may become two
void append_lower(std::vector<int32_t>& out, int32_t code_point);
// canonical or compatibility decomposition of one code point, not reordered
void append_decomposed(std::vector<int32_t>& out, int32_t code_point, bool compatible);
int combining_class(int32_t code_point);
// canonical composition, in place, of a text that is decomposed and in canonical order
void compose(std::vector<int32_t>& text);
// columns of a terminal that a text takes: 2 for a wide character, 0 for a combining one
size_t display_width(std::string_view text);
