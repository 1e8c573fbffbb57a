// text.h: names and numbers, as people read them.
#pragma once
#include <string.h>

#include <algorithm>

#include "common/base/errors.h"
#include "common/base/unicode.h"

template <class X> bool contains(const std::vector<X>& list, const X& x) {
    return std::find(list.begin(), list.end(), x) != list.end();
}
inline bool starts_with(std::string_view text, std::string_view begin) { return text.substr(0, begin.size()) == begin; }
inline bool ends_with(std::string_view text, std::string_view end) {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}
// "a,b,c" → a, b, c; empty ones are left out
inline std::vector<std::string> split_list(const std::string& text, char separator = ',') {
    std::vector<std::string> list;
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find(separator, at), text.size());
        if (end > at) list.push_back(text.substr(at, end - at));
    }
    return list;
}

// A text whose control characters do nothing on a terminal and end no line of a message or table: C0, DEL, C1, the
// line and paragraph separator, the marks that turn the direction of writing, and bytes that are no UTF-8 become \n,
// \x1b, \u009b. kept: the ones, of ASCII, that stay
inline std::string visible(std::string_view text, const char* kept = "") {
    std::string s;
    for (const char *p = text.data(), *end = p + text.size(); p < end;) {
        const char* start = p;
        const int32_t c = next_code_point(p, end);
        const bool direction = (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
        if (c == '\n' || c == '\t' || c == '\r')
            s += strchr(kept, c) ? std::string(1, (char)c) : c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r";
        else if (c < 32 || c == 127)  // −1: no UTF-8
            s += format("\\x%02x", (unsigned char)*start);
        else if ((c > 127 && c < 160) || c == 0x2028 || c == 0x2029 || direction) s += format("\\u%04x", c);
        else s.append(start, p);
    }
    return s;
}

// the number of letters to insert, delete or replace to get from a to b
inline size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<size_t> row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); j++) row[j] = j;
    for (size_t i = 1; i <= a.size(); i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size(); j++) {
            size_t above = row[j];
            row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
            diagonal = above;
        }
    }
    return row[b.size()];
}
// The name, of at least one, that takes the fewest edits; of longer ones the first 200 bytes count.
inline std::string nearest(const std::string& word, const std::vector<std::string>& names) {
    auto edits = [&](std::string_view name) { return edit_distance(word.substr(0, 200), name.substr(0, 200)); };
    return *std::min_element(names.begin(), names.end(), [&](auto& a, auto& b) { return edits(a) < edits(b); });
}
// "; nearest: NAME" for the end of a message that something was not found; "" if there are no names
inline std::string nearest_hint(const std::string& word, const std::vector<std::string>& names) {
    return names.empty() ? "" : "; nearest: " + nearest(word, names);
}

// "a, b, c and 9 more", each visible; up to `most` in full
inline std::string name_list(const std::vector<std::string>& names, size_t most = 4) {
    std::string s;
    size_t shown = names.size() <= most ? names.size() : most - 1;
    for (size_t i = 0; i < shown; i++) s += (i ? ", " : "") + visible(names[i]);
    return shown < names.size() ? s + format(" and %zu more", names.size() - shown) : s;
}

inline std::string file_stem(const std::string& path) {  // "data/test_tasks.bin" → "test_tasks"
    std::string name = path.substr(path.rfind('/') + 1);
    return name.substr(0, name.rfind('.'));
}
inline std::string duration(double s) {  // 42s, 3m10s, 2h05m
    if (s < 60) return format("%.0fs", s);
    if (s < 3600) return format("%dm%02ds", (int)s / 60, (int)s % 60);
    return format("%dh%02dm", (int)(s / 3600), (int)s / 60 % 60);
}
inline std::string thousands(double x) {  // 12,345
    std::string s = format("%.0f", x);
    for (int i = (int)s.size() - 3; i > (s[0] == '-'); i -= 3) s.insert(i, ",");
    return s;
}
