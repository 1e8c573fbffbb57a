// unicode.cpp: unicode.h by utf8proc.
#include "common/base/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include <algorithm>

int32_t next_code_point(const char*& p, const char* end) {
    int32_t cp;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t*)p, std::min<ptrdiff_t>(end - p, 4), &cp);
    p += n > 0 ? n : 1;
    return n > 0 ? cp : -1;
}
std::vector<int32_t> code_points(std::string_view text) {
    std::vector<int32_t> out;
    out.reserve(text.size());
    for (const char *p = text.data(), *end = p + text.size(); p < end;)
        if (int32_t c = next_code_point(p, end); c >= 0) out.push_back(c);
    return out;
}
void append_utf8(std::string& out, int32_t code_point) {
    utf8proc_uint8_t bytes[4];
    out.append((const char*)bytes, utf8proc_encode_char(code_point, bytes));
}
void append_utf8(std::string& out, const std::vector<int32_t>& code_points) {
    for (int32_t c : code_points) append_utf8(out, c);
}

size_t invalid_utf8(std::string_view text) {
    for (const char *p = text.data(), *end = p + text.size(), *at = p; p < end; at = p) {
        uint64_t eight = 0x80;
        if (end - p >= 8) memcpy(&eight, p, 8);
        if (!(eight & 0x8080808080808080)) p += 8;  // ASCII
        else if ((unsigned char)*p < 128) p++;
        else if (next_code_point(p, end) < 0) return at - text.data();
    }
    return std::string_view::npos;
}
size_t count_invalid(std::string_view text) {
    size_t invalid = 0;
    for (size_t at; (at = invalid_utf8(text)) != text.npos; invalid++) text.remove_prefix(at + 1);
    return invalid;
}

int category(int32_t code_point) {
    const char* two = utf8proc_category_string(code_point);
    return CATEGORY(two[0], two[1]);
}
// U+0130 (I with a dot above) is the only code point whose lower case is two code points in every context and language.
void append_lower(std::vector<int32_t>& out, int32_t code_point) {
    if (code_point == 0x130) out.insert(out.end(), {'i', 0x307});
    else out.push_back(utf8proc_tolower(code_point));
}
void append_decomposed(std::vector<int32_t>& out, int32_t code_point, bool compatible) {
    if (code_point < 0xA0) return out.push_back(code_point);
    utf8proc_int32_t parts[32];
    int boundary_state = 0;
    const int options = UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    utf8proc_ssize_t n = utf8proc_decompose_char(code_point, parts, 32, (utf8proc_option_t)options, &boundary_state);
    if (n < 1 || n > 32) out.push_back(code_point);
    else out.insert(out.end(), parts, parts + n);
}
int combining_class(int32_t code_point) { return utf8proc_get_property(code_point)->combining_class; }
void compose(std::vector<int32_t>& text) {
    const utf8proc_option_t composed = (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    utf8proc_ssize_t n = utf8proc_normalize_utf32(text.data(), text.size(), composed);
    if (n >= 0) text.resize(n);
}

size_t display_width(std::string_view text) {
    size_t columns = 0;
    for (const char *p = text.data(), *end = p + text.size(); p < end;)
        columns += utf8proc_charwidth(next_code_point(p, end));
    return columns;
}
