// porter_stemmer.h: the stem of an English word (Porter 1980, in the variant that is the default of NLTK), as ROUGE-L
// compares words.
//
// A word is a sequence of consonants and vowels, [C](VC)^m[V]; m is its measure. Rules "suffix → other, if what is
// before it has a measure …" in five steps; in a step only the first suffix that fits counts. y is a vowel after a
// consonant; digits are consonants.
#pragma once
#include <string.h>

#include <string>
#include <string_view>
#include <unordered_map>

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
inline bool ends(const std::string& w, std::string_view suffix) {
    return w.size() >= suffix.size() && std::string_view(w).substr(w.size() - suffix.size()) == suffix;
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

struct Rule {
    const char *suffix, *other;
};
// The first rule whose suffix fits, if the measure before it is above m
template <size_t N> std::string apply(const std::string& w, const Rule (&rules)[N], int m) {
    for (const Rule& r : rules)
        if (ends(w, r.suffix)) {
            std::string stem = without(w, strlen(r.suffix));
            return measure(stem) > m ? stem + r.other : w;
        }
    return w;
}

inline std::string plurals(const std::string& w) {                 // step 1a
    if (ends(w, "ies")) return without(w, w.size() == 4 ? 1 : 2);  // NLTK: dies → die, but flies → fli
    if (ends(w, "sses")) return without(w, 2);
    return ends(w, "ss") || !ends(w, "s") ? w : without(w, 1);
}
inline std::string past_and_ing(const std::string& w) {            // step 1b
    if (ends(w, "ied")) return without(w, w.size() == 4 ? 1 : 2);  // NLTK: died → die, but cried → cri
    if (ends(w, "eed")) return measure(without(w, 3)) > 0 ? without(w, 1) : w;
    std::string stem = ends(w, "ed") ? without(w, 2) : ends(w, "ing") ? without(w, 3) : "";
    if (!has_vowel(stem)) return w;
    if (ends(stem, "at") || ends(stem, "bl") || ends(stem, "iz")) return stem + "e";
    if (ends_double_consonant(stem))
        return stem.back() == 'l' || stem.back() == 's' || stem.back() == 'z' ? stem : without(stem, 1);
    return measure(stem) == 1 && ends_cvc(stem) ? stem + "e" : stem;
}
inline std::string final_y(const std::string& w) {  // step 1c; NLTK: enjoy stays, cry → cri, by stays
    return ends(w, "y") && w.size() > 2 && consonant(w, w.size() - 2) ? without(w, 1) + "i" : w;
}
inline std::string double_suffixes(const std::string& w) {  // step 2
    static const Rule rules[] = {{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"},   {"anci", "ance"},
                                 {"izer", "ize"},    {"bli", "ble"},     {"alli", "al"},     {"entli", "ent"},
                                 {"eli", "e"},       {"ousli", "ous"},   {"ization", "ize"}, {"ation", "ate"},
                                 {"ator", "ate"},    {"alism", "al"},    {"iveness", "ive"}, {"fulness", "ful"},
                                 {"ousness", "ous"}, {"aliti", "al"},    {"iviti", "ive"},   {"biliti", "ble"},
                                 {"fulli", "ful"}};
    // NLTK: once more from the beginning
    if (ends(w, "alli") && measure(without(w, 4)) > 0) return double_suffixes(without(w, 2));
    // the l counts as part of the stem: geology
    if (ends(w, "logi")) return measure(without(w, 3)) > 0 ? without(w, 1) : w;
    return apply(w, rules, 0);
}
inline std::string single_suffixes(const std::string& w) {  // step 3
    static const Rule rules[] = {{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
                                 {"ical", "ic"},  {"ful", ""},   {"ness", ""}};
    return apply(w, rules, 0);
}
// step 4; in the order of the list, so that ement comes before ment before ent
inline std::string last_suffixes(const std::string& w) {
    static const Rule before_ion[] = {{"al", ""},   {"ance", ""}, {"ence", ""}, {"er", ""},    {"ic", ""},
                                      {"able", ""}, {"ible", ""}, {"ant", ""},  {"ement", ""}, {"ment", ""},
                                      {"ent", ""},  {"ou", ""},   {"ism", ""},  {"ate", ""},   {"iti", ""},
                                      {"ous", ""},  {"ive", ""},  {"ize", ""}};
    if (!ends(w, "ion")) return apply(w, before_ion, 1);
    std::string stem = without(w, 3);
    return measure(stem) > 1 && (stem.back() == 's' || stem.back() == 't') ? stem : w;
}
inline std::string final_e(const std::string& w) {  // step 5a
    if (!ends(w, "e")) return w;
    std::string stem = without(w, 1);
    int m = measure(stem);
    return m > 1 || (m == 1 && !ends_cvc(stem)) ? stem : w;
}
inline std::string final_ll(const std::string& w) {  // step 5b
    return ends(w, "ll") && measure(without(w, 1)) > 1 ? without(w, 1) : w;
}

// A lower-case word of a-z, 0-9 → its stem
inline std::string stem(const std::string& w) {
    // NLTK's list
    static const std::unordered_map<std::string, std::string> irregular = {
        {"sky", "sky"},        {"skies", "sky"},       {"dying", "die"},        {"lying", "lie"},
        {"tying", "tie"},      {"news", "news"},       {"innings", "inning"},   {"inning", "inning"},
        {"outings", "outing"}, {"outing", "outing"},   {"cannings", "canning"}, {"canning", "canning"},
        {"howe", "howe"},      {"proceed", "proceed"}, {"exceed", "exceed"},    {"succeed", "succeed"}};
    auto found = irregular.find(w);
    if (found != irregular.end()) return found->second;
    if (w.size() <= 2) return w;
    return final_ll(final_e(last_suffixes(single_suffixes(double_suffixes(final_y(past_and_ing(plurals(w))))))));
}
}  // namespace porter
