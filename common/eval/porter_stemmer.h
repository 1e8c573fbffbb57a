// porter_stemmer.h: the stem of an English word (Porter 1980, in NLTK's default variant), as ROUGE-L compares words.
//
// A word is a sequence of consonants and vowels, [C](VC)^m[V]; m is its measure. Rules "suffix → other, if what is
// before it is ..." in five steps; in a step only the first suffix that fits counts. y is a vowel after a consonant;
// digits are consonants.
#pragma once
#include <unordered_map>

#include "common/base/text.h"

namespace porter {
inline bool consonant(const std::string& w, size_t i) {
    bool is = false;  // y is a consonant at the beginning and after a vowel, so a run of them takes turns
    size_t first = i;
    while (first > 0 && w[first] == 'y') first--;
    for (size_t j = first; j <= i; j++) {
        char c = w[j];
        is = c == 'y' ? j == 0 || !is : !(c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u');
    }
    return is;
}
inline int measure(const std::string& w) {  // how often a consonant follows a vowel
    int m = 0;
    for (size_t i = 1; i < w.size(); i++) m += !consonant(w, i - 1) && consonant(w, i);
    return m;
}
inline bool has_vowel(const std::string& w) {
    for (size_t i = 0; i < w.size(); i++)
        if (!consonant(w, i)) return true;
    return false;
}
inline std::string without(const std::string& w, size_t n) { return w.substr(0, w.size() - n); }
// consonant, vowel, consonant other than w, x, y: hop, fil(e); NLTK also: a vowel and a consonant are all there is
inline bool ends_cvc(const std::string& w) {
    size_t n = w.size();
    if (n == 2) return !consonant(w, 0) && consonant(w, 1);
    return n >= 3 && consonant(w, n - 3) && !consonant(w, n - 2) && consonant(w, n - 1) && w[n - 1] != 'w' &&
           w[n - 1] != 'x' && w[n - 1] != 'y';
}
inline bool ends_double_consonant(const std::string& w) {
    return w.size() >= 2 && w.end()[-1] == w.end()[-2] && consonant(w, w.size() - 1);
}

inline std::string past_and_ing(const std::string& w) {                 // step 1b
    if (ends_with(w, "ied")) return without(w, w.size() == 4 ? 1 : 2);  // NLTK: died → die, but cried → cri
    if (ends_with(w, "eed")) return measure(without(w, 3)) > 0 ? without(w, 1) : w;
    std::string stem = ends_with(w, "ed") ? without(w, 2) : ends_with(w, "ing") ? without(w, 3) : "";
    if (!has_vowel(stem)) return w;
    if (ends_with(stem, "at") || ends_with(stem, "bl") || ends_with(stem, "iz")) return stem + "e";
    if (ends_double_consonant(stem))
        return stem.back() == 'l' || stem.back() == 's' || stem.back() == 'z' ? stem : without(stem, 1);
    return measure(stem) == 1 && ends_cvc(stem) ? stem + "e" : stem;
}

struct Step {
    const char* rules;  // "suffix>other suffix>other"
    bool (*fits)(const std::string& stem, std::string_view suffix);

    // The first rule whose suffix the word has
    std::string apply(const std::string& w) const {
        for (std::string_view rest = rules; !rest.empty();) {
            const std::string_view rule = rest.substr(0, rest.find(' '));
            rest.remove_prefix(std::min(rest.size(), rule.size() + 1));
            const std::string_view suffix = rule.substr(0, rule.find('>')), other = rule.substr(suffix.size() + 1);
            if (!ends_with(w, suffix)) continue;
            const std::string stem = without(w, suffix.size());
            return fits(stem, suffix) ? stem + std::string(other) : w;
        }
        return w;
    }
};
const Step PLURALS = {"sses>ss ss>ss s>", [](auto&, auto) { return true; }};  // 1a
const Step STEPS[] = {
    // 1c; NLTK: enjoy stays, cry → cri, by stays
    {"y>i", [](auto& stem, auto) { return stem.size() > 1 && consonant(stem, stem.size() - 1); }},
    // 2; NLTK: after alli once more from the beginning; the l of logi counts as part of the stem: geology
    {"alli>al", [](auto& stem, auto) { return measure(stem) > 0; }},
    {"ational>ate tional>tion enci>ence anci>ance izer>ize bli>ble entli>ent eli>e ousli>ous ization>ize ation>ate "
     "ator>ate alism>al iveness>ive fulness>ful ousness>ous aliti>al iviti>ive biliti>ble fulli>ful logi>log",
        [](auto& stem, auto suffix) { return measure(suffix == "logi" ? stem + 'l' : stem) > 0; }},
    // 3
    {"icate>ic ative> alize>al iciti>ic ical>ic ful> ness>", [](auto& stem, auto) { return measure(stem) > 0; }},
    // 4; of the list ement comes before ment before ent, and ion has a rule of its own
    {"al> ance> ence> er> ic> able> ible> ant> ement> ment> ent> ou> ism> ate> iti> ous> ive> ize> ion>",
        [](auto& stem, auto suffix) {
            return measure(stem) > 1 && (suffix != "ion" || stem.back() == 's' || stem.back() == 't');
        }},
    // 5a, 5b
    {"e>", [](auto& stem, auto) { return measure(stem) > 1 || (measure(stem) == 1 && !ends_cvc(stem)); }},
    {"ll>l", [](auto& stem, auto) { return measure(stem + 'l') > 1; }}};

// A lower-case word of a-z, 0-9 → its stem
inline std::string stem(const std::string& w) {
    // NLTK's list
    static const std::unordered_map<std::string, std::string> irregular = {{"sky", "sky"}, {"skies", "sky"},
        {"dying", "die"}, {"lying", "lie"}, {"tying", "tie"}, {"news", "news"}, {"innings", "inning"},
        {"inning", "inning"}, {"outings", "outing"}, {"outing", "outing"}, {"cannings", "canning"},
        {"canning", "canning"}, {"howe", "howe"}, {"proceed", "proceed"}, {"exceed", "exceed"}, {"succeed", "succeed"}};
    auto found = irregular.find(w);
    if (found != irregular.end()) return found->second;
    if (w.size() <= 2) return w;
    // NLTK: dies → die, but flies → fli
    std::string s = past_and_ing(ends_with(w, "ies") ? without(w, w.size() == 4 ? 1 : 2) : PLURALS.apply(w));
    for (const Step& step : STEPS) s = step.apply(s);
    return s;
}
}  // namespace porter
