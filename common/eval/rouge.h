// rouge.h: ROUGE-L, how close a generated text is to its references, as Super-NaturalInstructions scores it (Lin 2004):
//
//   L = length of the longest common subsequence of the words of both texts
//   P = L / words of the answer,   R = L / words of the reference,   F = 2 P R / (P + R)
//
// Of several references the best F counts. Equal to the Python package rouge-score 0.1.2 with use_stemmer=True
// (test/hf/test_rouge.py). Words: lower-case, everything but a-z and 0-9 is a space; words of more than 3 letters are
// stemmed. Languages of other letters have no words here: their ROUGE-L is 0, rouge_is_blind() tells.
#pragma once
#include <algorithm>

#include "common/base/unicode.h"
#include "common/eval/porter_stemmer.h"

// The words of a text, stemmed. Bytes that are not UTF-8 separate words.
inline std::vector<std::string> rouge_words(std::string_view text, bool stemmed = true) {
    std::vector<std::string> words(1);
    std::vector<int32_t> lowered;
    for (const char *p = text.data(), *end = p + text.size(); p < end;) {
        lowered.clear();
        int32_t c = next_code_point(p, end);
        if (c >= 0) append_lower(lowered, c);  // the Kelvin sign is a k, a dotted capital I an i and a dot
        for (int32_t l : lowered)
            if ((l >= 'a' && l <= 'z') || (l >= '0' && l <= '9')) words.back() += (char)l;
            else if (!words.back().empty()) words.emplace_back();
        if (c < 0 && !words.back().empty()) words.emplace_back();
    }
    if (words.back().empty()) words.pop_back();
    if (stemmed)
        for (std::string& w : words)
            if (w.size() > 3) w = porter::stem(w);
    return words;
}

// Length of the longest common subsequence
inline size_t longest_common(const std::vector<std::string>& a, const std::vector<std::string>& b) {
    std::vector<size_t> row(b.size() + 1, 0);  // row[j]: of the words of a so far and the first j of b
    for (const std::string& word : a) {
        size_t diagonal = 0;  // row[j] before this word
        for (size_t j = 0; j < b.size(); j++) {
            size_t above = row[j + 1];
            row[j + 1] = word == b[j] ? diagonal + 1 : std::max(above, row[j]);
            diagonal = above;
        }
    }
    return row.back();
}

struct Rouge {
    double precision = 0, recall = 0, f = 0;
};
inline Rouge rouge_of_counts(size_t common, size_t answer, size_t reference) {
    if (common == 0) return {};
    double p = (double)common / (double)answer, r = (double)common / (double)reference;
    return {p, r, 2 * p * r / (p + r)};
}
inline Rouge rouge_l(std::string_view answer, std::string_view reference, bool stemmed = true) {
    std::vector<std::string> a = rouge_words(answer, stemmed), r = rouge_words(reference, stemmed);
    return rouge_of_counts(longest_common(r, a), a.size(), r.size());
}
// Has no reference a word? Then ROUGE-L is 0, whatever the answer.
inline bool rouge_is_blind(const std::vector<std::string>& references) {
    return std::all_of(references.begin(), references.end(), [](auto& r) { return rouge_words(r, false).empty(); });
}
// The best F over the references, 0 to 1
inline double rouge_l(std::string_view answer, const std::vector<std::string>& references) {
    double best = 0;
    for (const std::string& r : references) best = std::max(best, rouge_l(answer, r).f);
    return best;
}
