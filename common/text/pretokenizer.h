// pretokenizer.h: text → words, which BPE and WordPiece encode one by one: what tokenizer.json names "normalizer" and
// "pre_tokenizer". Both are lists of steps, each of which changes a piece of text or cuts it into smaller ones:
//
//   gpt2     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//            "I'll unpack\n\n 12 of"  →  "I" "'ll" " unpack" "\n\n" " 12" " of"
//   llama3   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+
//            |\s+(?!\S)|\s+
//   qwen2    the same with \p{N}, one digit at a time
//   digits   every digit is a piece (SmolLM2: digits, then gpt2)
//   ▁        SentencePiece's way: spaces become ▁, one more stands before the text, words begin with it
//   bert     drop U+0000, U+FFFD and controls; ideographs stand alone; canonical decomposition (NFD), combining marks
//            (Mn) off, lower case, one code point at a time; then white space parts words, punctuation stands alone
//
// The scanners are written by hand, each beside its expression, and take time linear in the text.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/errors.h"
#include "common/base/json.h"
#include "common/base/text.h"
#include "common/base/unicode.h"
#include "common/text/special_tokens.h"

// ---------------------------------------------------------------- kinds of characters
enum CharKind : uint8_t { WHITE, LETTER, DIGIT, NEITHER };  // \s, \p{L}, \p{N}, the rest; a byte that is not UTF-8 too

inline CharKind kind_of(int32_t c) {
    if (is_space(c)) return WHITE;
    int major = c < 0 ? 0 : category(c) >> 8;
    return major == 'L' ? LETTER : major == 'N' ? DIGIT : NEITHER;
}
// What an ASCII byte means to BERT; bytes of other characters, and controls, are OTHER: they need the full rules.
enum ByteKind : uint8_t { WORD, SPACE, PUNCTUATION, OTHER };

struct ByteTable {
    ByteKind kind[256];
    char lower[256];
    CharKind ascii[128];
    ByteTable() {
        for (int c = 0; c < 256; c++) {
            const bool word = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
            const bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
            kind[c] = space ? SPACE : word ? WORD : c > 32 && c < 127 ? PUNCTUATION : OTHER;
            lower[c] = c >= 'A' && c <= 'Z' ? c + 32 : c;
            if (c < 128) ascii[c] = kind_of(c);
        }
    }
};
inline const ByteTable byte_table;

// The kind of the character at p, and p moved past it
inline CharKind next_kind(const char*& p, const char* end) {
    return (uint8_t)*p < 128 ? byte_table.ascii[(uint8_t)*p++] : kind_of(next_code_point(p, end));
}
inline bool is_line_end(char c) { return c == '\n' || c == '\r'; }
inline bool is_punctuation(int32_t c) { return c < 128 ? byte_table.kind[c] == PUNCTUATION : category(c) >> 8 == 'P'; }
// what BERT's tokenizer leaves out: U+0000, U+FFFD, controls, format and private-use characters
inline bool is_dropped(int32_t c) {
    if (c == '\t' || c == '\n' || c == '\r') return false;
    int cat = category(c);
    return c == 0 || c == 0xFFFD || cat == CATEGORY('C', 'c') || cat == CATEGORY('C', 'f') || cat == CATEGORY('C', 'o');
}
// The eight ranges of the BERT code. (The seventh begins at U+2B820 there and at U+2B920 in BertTokenizerFast: we
// follow the latter.)
inline bool is_cjk(int32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

// ---------------------------------------------------------------- scanners: the end of the word that begins at p
// The bytes of 's|'t|'re|'ve|'m|'ll|'d at p, or 0. any_case: (?i: ), for which U+017F, the long s, is an s too
inline size_t contraction_at(const char* p, const char* end, bool any_case) {
    if (any_case && end - p >= 3 && std::string_view(p, 3) == "'\xc5\xbf") return 3;
    for (std::string_view c : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
        size_t i = 0;
        while (i < c.size() && p + i < end && (p[i] | (any_case && p[i] >= 'A' && p[i] <= 'Z' ? 32 : 0)) == c[i]) i++;
        if (i == c.size()) return i;
    }
    return 0;
}
// The end of the characters of one kind from p on, at most n of them
inline const char* run_end(const char* p, const char* end, CharKind kind, size_t n = SIZE_MAX) {
    for (const char* next = p; n > 0 && p < end && next_kind(next, end) == kind; n--) p = next;
    return p;
}
// \s+(?!\S)|\s+ for white space that begins at `start`, p after its first character: what comes after it takes the last
// character, if there is another. to_line_end: \s*[\r\n]+ is tried before
inline const char* white_end(const char* start, const char* p, const char* end, bool to_line_end) {
    const char *last = start, *line = to_line_end && is_line_end(*start) ? p : nullptr;  // line: behind the last end
    for (const char* next = p; p < end && next_kind(next, end) == WHITE; p = next) {
        if (to_line_end && is_line_end(*p)) line = next;
        last = p;
    }
    return line ? line : last > start && p < end ? last : p;
}
inline const char* gpt2_word_end(const char* start, const char* end) {
    if (*start == '\'')
        if (size_t n = contraction_at(start, end, false)) return start + n;
    const char* p = start;
    CharKind kind = next_kind(p, end);
    const char* next = p;
    if (*start == ' ' && p < end)  // one space belongs to what follows
        if (CharKind after = next_kind(next, end); after != WHITE) return run_end(next, end, after);
    return kind == WHITE ? white_end(start, p, end, false) : run_end(p, end, kind);
}
inline const char* llama3_word_end(const char* start, const char* end, size_t digits) {
    if (*start == '\'')
        if (size_t n = contraction_at(start, end, true)) return start + n;
    const char* p = start;
    CharKind kind = next_kind(p, end);
    if (kind == DIGIT) return run_end(p, end, DIGIT, digits - 1);
    if (kind == LETTER) return run_end(p, end, LETTER);
    const char* next = p;
    CharKind after = p < end ? next_kind(next, end) : WHITE;
    if (after == LETTER && !is_line_end(*start)) return run_end(p, end, LETTER);
    if (kind == NEITHER || (*start == ' ' && after == NEITHER)) {
        p = run_end(p, end, NEITHER);
        while (p < end && is_line_end(*p)) p++;
        return p;
    }
    return white_end(start, p, end, true);
}

// ---------------------------------------------------------------- changes of a text
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
// NFD, NFKD (compatible), NFC and NFKC (composed), in time linear in the text up to the sorting of marks. Before a
// character below U+0300 nothing is ever composed, so a stretch between two of them is taken at a time. Bytes that are
// not UTF-8 stay.
inline std::string normal_form(std::string_view text, bool compatible, bool composed) {
    std::string out;
    std::vector<int32_t> stretch;
    auto flush = [&] {
        reorder_combining(stretch);
        if (composed) compose(stretch);
        append_utf8(out, stretch);
        stretch.clear();
    };
    for (const char *p = text.data(), *end = p + text.size(); p < end;) {
        const char* at = p;
        if ((uint8_t)*p < 128 && (p + 1 == end || (uint8_t)p[1] < 128)) {  // alone
            flush();
            out += *p++;
            continue;
        }
        int32_t c = next_code_point(p, end);
        if (c < 0x300) flush();
        if (c < 0) out += *at;
        else append_decomposed(stretch, c, compatible);
    }
    flush();
    return out;
}
template <class Append> void replace_each(std::vector<int32_t>& text, Append append) {
    std::vector<int32_t> out;
    out.reserve(text.size());
    for (int32_t c : text) append(out, c);
    text.swap(out);
}
template <class Is> void erase_if(std::vector<int32_t>& text, Is is) {
    text.erase(std::remove_if(text.begin(), text.end(), is), text.end());
}

// ---------------------------------------------------------------- steps
struct Step {
    // What cuts: at texts, at kinds of characters; what changes: characters one by one, texts
    enum : int { GPT2, LLAMA3, QWEN2, CUT_BEFORE };
    enum : int { DIGITS = CUT_BEFORE + 1, DIGIT_RUNS, PUNCTUATION, WHITESPACE, WHITESPACE_SPLIT, BERT_WORDS };
    enum : int { BERT = BERT_WORDS + 1, LOWERCASE, STRIP_ACCENTS, NFD, NFKD, NFC, NFKC };
    enum : int { REPLACE = NFKC + 1, PREPEND, PREFIX, PREFIX_FIRST };
    // Parts of fingerprints, in this order; of rules without keys, but nfc, as tokenizer.json has them
    static constexpr const char* names[] = {"gpt2", "llama3", "qwen2", "cut_before", "digits", "digit_runs",
        "Punctuation", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "BertNormalizer", "Lowercase",
        "StripAccents", "NFD", "NFKD", "nfc", "NFKC", "replace", "prepend", "prefix", "prefix_first"};
    int rule;
    // CUT_BEFORE each `from`; REPLACE `from` by `to`; PREPEND `to`, PREFIX: unless it is there, PREFIX_FIRST: and only
    // where the text begins
    std::string from{}, to{};
    bool clean_text = true, split_cjk = true, strip_accents = true, lower_case = true;  // of BERT

    void bert(std::vector<int32_t>& text) const {
        if (clean_text) {
            erase_if(text, is_dropped);
            std::replace_if(text.begin(), text.end(), is_space, ' ');
        }
        if (split_cjk && std::any_of(text.begin(), text.end(), is_cjk))
            replace_each(text, [](std::vector<int32_t>& out, int32_t c) {
                is_cjk(c) ? (void)out.insert(out.end(), {' ', c, ' '}) : out.push_back(c);
            });
        if (strip_accents) {
            replace_each(text, [](std::vector<int32_t>& out, int32_t c) { append_decomposed(out, c, false); });
            reorder_combining(text);
            erase_if(text, [](int32_t c) { return c >= 128 && category(c) == CATEGORY('M', 'n'); });
        }
        if (lower_case) replace_each(text, append_lower);
    }
};

inline const std::pair<int, const char*> known_regexes[] = {
    {Step::GPT2, R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {Step::LLAMA3,
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
        R"(\s+(?!\S)|\s+)"},
    {Step::QWEN2, R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
                  R"(\s+(?!\S)|\s+)"}};

struct Steps {
    std::vector<Step> steps;
    bool byte_level = false;  // ByteLevel was the last of them: files have the bytes of words as printable characters

    bool has(int rule) const {
        return std::any_of(steps.begin(), steps.end(), [&](const Step& s) { return s.rule == rule; });
    }
    // What decides about words, as a text: of GPT-2 "gpt2;"
    std::string description() const {
        std::string d;
        for (const Step& s : steps)
            d += Step::names[s.rule] + (s.from.empty() && s.to.empty() ? "" : " " + s.from + "|" + s.to) + ";";
        return d;
    }

    // How a piece lies in its text: does it begin it, or go on with what was encoded before?
    enum Place : uint8_t { FIRST, LATER, GOES_ON };

    // What a normalizer's steps make of a text
    std::string normalized(std::string text, Place place = FIRST) const {
        for (const Step& s : steps) change(s, text, place);
        return text;
    }
    // Calls word(bytes, length) for every word of a piece of text, in order: steps from number i on
    template <class Word> void split(std::string_view text, Place place, Word&& word, size_t i = 0) const {
        if (text.empty()) return;
        if (i == steps.size()) return word(text.data(), text.size());
        const Step& s = steps[i];
        if (s.rule >= Step::BERT) {
            std::string changed(text);
            change(s, changed, place);
            return split(changed, place, word, i + 1);
        }
        for (const char *p = text.data(), *end = p + text.size(), *stop; p < end; p = stop) {
            bool dropped = false;
            stop = word_end(s, p, end, dropped);
            if (!dropped) split(std::string_view(p, stop - p), p == text.data() ? place : LATER, word, i + 1);
        }
    }

private:
    // What a rule that looks at each character for itself makes of the one at p, and p moved past it
    enum Role : uint8_t { DROPPED, ALONE, RUN, OTHER_RUN };
    static Role next_role(int rule, const char*& p, const char* end) {
        if (rule == Step::DIGITS) return next_kind(p, end) == DIGIT ? ALONE : RUN;
        if (rule == Step::DIGIT_RUNS) return next_kind(p, end) == DIGIT ? OTHER_RUN : RUN;
        const int32_t c = next_code_point(p, end);
        if (rule != Step::PUNCTUATION && is_space(c)) return DROPPED;
        if (rule == Step::WHITESPACE) return is_word_char(c) ? RUN : OTHER_RUN;
        return rule != Step::WHITESPACE_SPLIT && is_punctuation(c) ? ALONE : RUN;
    }
    static const char* word_end(const Step& s, const char* p, const char* end, bool& dropped) {
        switch (s.rule) {
            case Step::GPT2: return gpt2_word_end(p, end);
            case Step::LLAMA3: return llama3_word_end(p, end, 3);
            case Step::QWEN2: return llama3_word_end(p, end, 1);
            case Step::CUT_BEFORE: return p + std::min(std::string_view(p, end - p).find(s.from, 1), (size_t)(end - p));
            default: break;
        }
        const Role role = next_role(s.rule, p, end);
        dropped = role == DROPPED;
        for (const char* next = p; role >= RUN && p < end && next_role(s.rule, next, end) == role;) p = next;
        return p;
    }
    static void change(const Step& s, std::string& text, Place place) {
        if (s.rule <= Step::STRIP_ACCENTS) {
            std::vector<int32_t> chars = code_points(text);
            if (s.rule == Step::BERT) s.bert(chars);
            else if (s.rule == Step::LOWERCASE) replace_each(chars, append_lower);
            else erase_if(chars, [](int32_t c) { return category(c) >> 8 == 'M'; });
            text.clear();
            append_utf8(text, chars);
        } else if (s.rule <= Step::NFKC) {
            const bool compatible = s.rule == Step::NFKD || s.rule == Step::NFKC;
            text = normal_form(text, compatible, s.rule >= Step::NFC);
        } else if (s.rule == Step::REPLACE) {
            std::string out;
            size_t done = 0;
            for (size_t at; (at = text.find(s.from, done)) != text.npos; done = at + s.from.size())
                out.append(text, done, at - done).append(s.to);
            text = out.append(text, done);
        } else if (!text.empty() && place != GOES_ON) {
            if (s.rule != Step::PREPEND && starts_with(text, s.to)) return;
            if (place == FIRST || s.rule != Step::PREFIX_FIRST) text.insert(0, s.to);
        }
    }
};

// The words of BERT's rules, in one pass over a text that is not normalised; the same as by these two
template <class Word> void bert_words(std::string_view text, const Steps& normalizer, const Steps& words, Word&& word) {
    const char *p = text.data(), *end = p + text.size();
    auto kind = [&](const char* q) { return byte_table.kind[(uint8_t)*q]; };
    char folded[100];
    while (p < end) {
        const char* start = p;
        while (p < end && kind(p) == WORD) p++;
        if (p < end && kind(p) == OTHER) {  // not plain ASCII: the full rules, up to the next ASCII separator
            while (p < end && (kind(p) == WORD || kind(p) == OTHER)) p++;
            words.split(normalizer.normalized({start, p}), Steps::FIRST, word);
        } else if (p > start) {
            const size_t n = p - start;
            const bool fold = normalizer.steps[0].lower_case && n <= sizeof folded;  // a longer one is [UNK]
            for (size_t i = 0; fold && i < n; i++) folded[i] = byte_table.lower[(uint8_t)start[i]];
            word(fold ? folded : start, n);
        }
        while (p < end && kind(p) == SPACE) p++;
        for (; p < end && kind(p) == PUNCTUATION; p++) word(p, 1);
    }
}

// ---------------------------------------------------------------- tokenizer.json → steps
// The rules of a Sequence, in `list`, and of those in it; else the rule itself, or none
inline std::vector<Json> rules_of(const Json* rule, const std::string& where, const char* list) {
    if (!rule || rule->kind == Json::null) return {};
    if (json_text(*rule, where, "type") != "Sequence") return {*rule};
    refuse_unknown_keys(*rule, where, {"type", list});
    const Json* rules = json_member(*rule, where, list, Json::array);
    if (!rules) refuse_rule(where, *rule, list);
    std::vector<Json> out;
    for (const Json& r : rules->a)
        for (Json& inner : rules_of(&r, where, list)) out.push_back(std::move(inner));
    return out;
}
// The steps of all[key], "normalizer" or "pre_tokenizer". known: the types that this kind of tokenizer has
inline Steps read_steps(const Json& all, const std::string& file, const std::string& key, const std::string& known) {
    Steps out;
    auto add = [&](Step step) { out.steps.push_back(step); };
    const std::string where = file + ": " + key;
    for (const Json& r : rules_of(all.find(key), where, key == "normalizer" ? "normalizers" : "pretokenizers")) {
        const std::string type = json_text(r, where, "type");
        auto flag = [&](const char* name, bool otherwise) { return json_flag(r, where, name, otherwise); };
        auto text = [&](const char* name, const char* otherwise = "") { return json_text(r, where, name, otherwise); };
        auto keys = [&](std::vector<std::string_view> names) { refuse_unknown_keys(r, where, names); };
        if ((", " + known + ",").find(", " + type + ",") == std::string::npos)
            refuse_rule(where, r, known + ", a Sequence of them or null");
        if (out.byte_level || out.steps.size() > 32)
            refuse_rule(where, r, "at most 32 rules, ByteLevel as the last of them");
        if (type == "ByteLevel") {
            keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
            if (flag("add_prefix_space", true)) add({Step::PREFIX, "", " "});
            if (flag("use_regex", true)) add({Step::GPT2});
            out.byte_level = true;
        } else if (type == "Digits") {
            keys({"type", "individual_digits"});
            add({flag("individual_digits", false) ? Step::DIGITS : Step::DIGIT_RUNS});
        } else if (type == "Punctuation") {
            keys({"type", "behavior"});
            if (text("behavior", "Isolated") != "Isolated") refuse_rule(where, r, "Isolated as its behavior");
            add({Step::PUNCTUATION});
        } else if (type == "Split") {
            keys({"type", "pattern", "behavior", "invert"});
            const Json* pattern = json_member(r, where, "pattern", Json::object);
            const Json* regex = pattern ? pattern->find("Regex") : nullptr;
            const size_t before = out.steps.size();
            for (auto [rule, expression] : known_regexes)
                if (regex && regex->s == expression) add({rule});
            if (out.steps.size() == before || text("behavior") != "Isolated" || flag("invert", false))
                refuse_rule(where, r, "a Split, Isolated, by the expression of GPT-2, Llama 3 or Qwen2");
        } else if (type == "Metaspace") {
            keys({"type", "replacement", "prepend_scheme", "add_prefix_space", "str_rep", "split"});
            const std::string mark = text("replacement");
            const std::string scheme = text("prepend_scheme", flag("add_prefix_space", true) ? "always" : "never");
            if (mark.empty() || text("str_rep", mark.c_str()) != mark ||
                (scheme != "always" && scheme != "first" && scheme != "never"))
                refuse_rule(where, r, "a replacement, and always, first or never for prepend_scheme");
            add({Step::REPLACE, " ", mark});
            if (scheme != "never") add({scheme == "first" ? Step::PREFIX_FIRST : Step::PREFIX, "", mark});
            if (flag("split", true)) add({Step::CUT_BEFORE, mark});
        } else if (type == "Prepend") {
            keys({"type", "prepend"});
            add({Step::PREPEND, "", text("prepend")});
        } else if (type == "Replace") {
            keys({"type", "pattern", "content"});
            const Json* pattern = json_member(r, where, "pattern", Json::object);
            const Json* from = pattern ? pattern->find("String") : nullptr;
            if (!from || from->s.empty() || pattern->o.size() > 1 || from->s.find('\n') != from->s.npos)
                refuse_rule(where, r, "a pattern {\"String\": text} without a line's end");
            add({Step::REPLACE, from->s, text("content")});
        } else if (type == "BertNormalizer") {
            keys({"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"});
            const bool lower = flag("lowercase", true), accents = flag("strip_accents", lower);
            add({Step::BERT, "", "", flag("clean_text", true), flag("handle_chinese_chars", true), accents, lower});
        } else {
            keys({"type"});
            const auto name = std::find(Step::names, std::end(Step::names), type == "NFC" ? "nfc" : type);
            if (name == std::end(Step::names)) refuse_rule(where, r, known);  // "NFC, NFD"
            add({int(name - Step::names)});
        }
    }
    return out;
}
