// exact_match.h: is a generated text equal to one of its references, as Super-NaturalInstructions compares them:
// lower-cased, ASCII punctuation taken out, white space joined to single spaces. A text of which nothing is left ("+")
// is compared as it is. Strict: only white space is joined.
#pragma once
#include <ctype.h>

#include "common/base/unicode.h"

// "The  answer: YES!" → "the answer yes"; strict: "The answer: YES!"
inline std::string normalize_answer(std::string_view text, bool strict = false) {
    std::string out;
    std::vector<int32_t> lowered;
    bool space = false;
    for (const char *p = text.data(), *end = p + text.size(); p < end;) {
        int32_t c = next_code_point(p, end);
        if (c < 0) c = 0xFFFD;
        // white space as for Python's str.split()
        if ((c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || category(c) >> 8 == 'Z') {
            space = true;
            continue;
        }
        if (!strict && c < 128 && ispunct(c)) continue;
        if (space && !out.empty()) out += ' ';
        space = false;
        lowered.clear();
        if (strict) lowered.push_back(c);
        else append_lower(lowered, c);
        for (int32_t l : lowered) append_utf8(out, l);
    }
    return out;
}
// Does the answer equal one of the references?
inline bool exact_match(std::string_view answer, const std::vector<std::string>& references, bool strict = false) {
    const std::string normal = normalize_answer(answer, strict), as_it_is = normalize_answer(answer, true);
    for (const std::string& r : references) {
        const std::string other = normalize_answer(r, strict);
        if (normal.empty() || other.empty() ? normalize_answer(r, true) == as_it_is : other == normal) return true;
    }
    return false;
}
