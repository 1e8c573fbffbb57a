// word_rules.h: text → words, which WordPiece then takes apart: what tokenizer.json names "normalizer" and
// "pre_tokenizer". BERT's own are in wordpiece.h once more, in one pass and fast.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/unicode.h"
#include "common/text/characters.h"
#include "common/text/special_tokens.h"

struct WordRules {
    struct Change {  // a step of the normalizer
        enum Kind { BERT, LOWERCASE, STRIP_ACCENTS, NFD, NFKD, NFC, NFKC, STRIP, REPLACE } kind = BERT;
        bool clean_text = true, split_cjk = true, strip_accents = true, lower_case = true;  // of BERT
        bool left = true, right = true;                                                     // of STRIP
        std::vector<int32_t> from{}, to{};                                                  // of REPLACE

        void apply(std::vector<int32_t>& text) const {
            if (kind == BERT) {
                bert(text);
            } else if (kind == LOWERCASE) {
                each(text, append_lower);
            } else if (kind == STRIP_ACCENTS) {
                erase_if(text, [](int32_t c) { return category(c) >> 8 == 'M'; });
            } else if (kind == STRIP) {
                while (right && !text.empty() && is_space(text.back())) text.pop_back();
                auto is_text = [](int32_t c) { return !is_space(c); };
                if (left) text.erase(text.begin(), std::find_if(text.begin(), text.end(), is_text));
            } else if (kind == REPLACE) {
                std::vector<int32_t> out;
                auto done = text.begin();
                for (auto at = done; done != text.end(); done = at + from.size()) {
                    at = std::search(done, text.end(), from.begin(), from.end());
                    out.insert(out.end(), done, at);
                    if (at == text.end()) break;
                    out.insert(out.end(), to.begin(), to.end());
                }
                text.swap(out);
            } else {
                each(text, kind == NFD || kind == NFC ? append_nfd : append_nfkd);
                reorder_combining(text);
                if (kind == NFC || kind == NFKC) compose(text);
            }
        }
        void bert(std::vector<int32_t>& text) const {
            if (clean_text) {
                erase_if(text, is_dropped);
                for (int32_t& c : text)
                    if (is_space(c)) c = ' ';
            }
            if (split_cjk && std::any_of(text.begin(), text.end(), is_cjk))
                each(text, [](std::vector<int32_t>& out, int32_t c) {
                    is_cjk(c) ? (void)out.insert(out.end(), {' ', c, ' '}) : out.push_back(c);
                });
            if (strip_accents) {
                each(text, append_nfd);
                reorder_combining(text);
                erase_if(text, [](int32_t c) { return c >= 128 && category(c) == CATEGORY('M', 'n'); });
            }
            if (lower_case) each(text, append_lower);
        }
        template <class Append> static void each(std::vector<int32_t>& text, Append append) {
            std::vector<int32_t> out;
            out.reserve(text.size());
            for (int32_t c : text) append(out, c);
            text.swap(out);
        }
        template <class Is> static void erase_if(std::vector<int32_t>& text, Is is) {
            text.erase(std::remove_if(text.begin(), text.end(), is), text.end());
        }
    };
    enum Cut { BERT, WHITESPACE, WHITESPACE_SPLIT, PUNCTUATION, NO_PUNCTUATION, PUNCTUATION_RUNS, DIGITS, DIGIT_RUNS };

    std::vector<Change> changes = {Change()};
    std::vector<Cut> cuts = {BERT};

    static WordRules bert(bool lower_case) {
        WordRules r;
        r.changes[0].lower_case = r.changes[0].strip_accents = lower_case;
        return r;
    }
    // Are they BERT's own, whatever lower_case, strip_accents and split_cjk are?
    bool are_berts() const {
        return changes.size() == 1 && changes[0].kind == Change::BERT && changes[0].clean_text && cuts.size() == 1 &&
               cuts[0] == BERT;
    }

    // The normalizer. `invalid` grows by the bytes that are not UTF-8; they are dropped.
    std::string normalize(std::string_view raw, size_t& invalid) const {
        std::vector<int32_t> text;
        for (const char *p = raw.data(), *end = p + raw.size(); p < end;) {
            int32_t c = next_code_point(p, end);
            c < 0 ? (void)invalid++ : text.push_back(c);
        }
        for (const Change& change : changes) change.apply(text);
        std::string out;
        for (int32_t c : text) append_utf8(out, c);
        return out;
    }

    // What a step of the pre_tokenizer makes of a character. A word is the longest run of one of the last two.
    enum Role : uint8_t { DROPPED, ALONE, WORD, OTHER_WORD };
    static Role role(Cut cut, int32_t c) {
        bool numeric = category(c) >> 8 == 'N';
        switch (cut) {
            case BERT: return is_space(c) ? DROPPED : is_punctuation(c) ? ALONE : WORD;
            case WHITESPACE: return is_space(c) ? DROPPED : is_word_char(c) ? WORD : OTHER_WORD;
            case WHITESPACE_SPLIT: return is_space(c) ? DROPPED : WORD;
            case PUNCTUATION: return is_punctuation(c) ? ALONE : WORD;
            case NO_PUNCTUATION: return is_punctuation(c) ? DROPPED : WORD;
            case PUNCTUATION_RUNS: return is_punctuation(c) ? OTHER_WORD : WORD;
            case DIGITS: return numeric ? ALONE : WORD;
            default: return numeric ? OTHER_WORD : WORD;
        }
    }
    // The pre_tokenizer. Calls word(bytes, length, code points) for every word of a normalised text. Steps after the
    // first only cut further, so a word ends where any of them ends one.
    template <class Word> void split(std::string_view text, Word&& word) const {
        size_t chars = 0;
        uint64_t last = 0;  // the roles of the character before, 2 bits each
        const char *p = text.data(), *end = p + text.size(), *start = p;
        auto flush = [&](const char* to) {
            if (chars) word(start, (size_t)(to - start), chars);
            chars = 0;
            start = to;
        };
        while (p < end) {
            const char* at = p;
            int32_t c = next_code_point(p, end);
            bool dropped = false, alone = false;
            uint64_t roles = 0;
            for (Cut cut : cuts) {
                Role r = role(cut, c);
                dropped |= r == DROPPED;
                alone |= r == ALONE;
                roles = roles << 2 | r;
            }
            if (dropped || alone || roles != last) flush(at);
            last = roles;
            chars += !dropped;
            if (dropped) start = p;
            if (alone) flush(p);
        }
        flush(end);
    }

    // ------------------------------------------------------------ from tokenizer.json
    [[noreturn]] static void refuse(const std::string& where, const Json& rule, const char* known) {
        fail("%s: the rule %.60s is not known here; expected %s", where.c_str(), dump_json(rule).c_str(), known);
    }
    // Calls f(rule, its type) for a rule or each of a Sequence, whose list is called `list`
    template <class F> static void for_each_rule(const Json* rule, const std::string& where, const char* list, F f) {
        if (!rule || rule->kind == Json::null) return;
        const std::string type = json_text(*rule, where, "type");
        if (type != "Sequence") return f(*rule, type);
        refuse_unknown_keys(*rule, where, {"type", list});
        if (const Json* rules = json_member(*rule, where, list, Json::array))
            for (const Json& r : rules->a) for_each_rule(&r, where, list, f);
    }
    void read(const Json& all, const std::string& file) {
        const std::string normalizer = file + ": normalizer", pre = file + ": pre_tokenizer";
        changes.clear();
        cuts.clear();
        for_each_rule(
            all.find("normalizer"), normalizer, "normalizers",
            [&](const Json& rule, const std::string& type) { changes.push_back(read_change(rule, type, normalizer)); });
        for_each_rule(all.find("pre_tokenizer"), pre, "pretokenizers",
                      [&](const Json& rule, const std::string& type) { cuts.push_back(read_cut(rule, type, pre)); });
        // Files are read in parts that end with a line: where a word can go on there, it must not matter
        bool at_spaces = std::any_of(cuts.begin(), cuts.end(), [](Cut c) { return c <= WHITESPACE_SPLIT; });
        if (!at_spaces || cuts.size() > 32)
            fail("%s: expected 1 to 32 rules, BertPreTokenizer, Whitespace or WhitespaceSplit among them, found %.60s",
                 pre.c_str(), all.find("pre_tokenizer") ? dump_json(*all.find("pre_tokenizer")).c_str() : "none");
    }
    static Change read_change(const Json& rule, const std::string& type, const std::string& where) {
        Change c;
        const std::vector<std::pair<std::string_view, Change::Kind>> plain = {{"Lowercase", Change::LOWERCASE},
                                                                              {"StripAccents", Change::STRIP_ACCENTS},
                                                                              {"NFD", Change::NFD},
                                                                              {"NFKD", Change::NFKD},
                                                                              {"NFC", Change::NFC},
                                                                              {"NFKC", Change::NFKC}};
        for (auto [name, kind] : plain)
            if (type == name) {
                c.kind = kind;
                refuse_unknown_keys(rule, where, {"type"});
                return c;
            }
        if (type == "BertNormalizer") {
            refuse_unknown_keys(rule, where,
                                {"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"});
            c.clean_text = json_flag(rule, where, "clean_text", true);
            c.split_cjk = json_flag(rule, where, "handle_chinese_chars", true);
            c.lower_case = json_flag(rule, where, "lowercase", true);
            c.strip_accents = json_flag(rule, where, "strip_accents", c.lower_case);
        } else if (type == "Strip") {
            refuse_unknown_keys(rule, where, {"type", "strip_left", "strip_right"});
            c.kind = Change::STRIP;
            c.left = json_flag(rule, where, "strip_left", true);
            c.right = json_flag(rule, where, "strip_right", true);
        } else if (type == "Replace") {
            refuse_unknown_keys(rule, where, {"type", "pattern", "content"});
            c.kind = Change::REPLACE;
            const Json* pattern = json_member(rule, where, "pattern", Json::object);
            const std::string from = pattern && pattern->o.size() == 1 ? json_text(*pattern, where, "String") : "";
            if (from.empty() || from.find('\n') != from.npos)
                refuse(where, rule, "Replace with {\"String\": text} as its pattern, without a line's end");
            for (auto [text, to] : {std::pair{from, &c.from}, {json_text(rule, where, "content"), &c.to}})
                for (const char *p = text.data(), *end = p + text.size(); p < end;)
                    to->push_back(next_code_point(p, end));
        } else {
            refuse(where, rule, "BertNormalizer, Lowercase, StripAccents, NFC, NFD, NFKC, NFKD, Strip, Replace");
        }
        return c;
    }
    static Cut read_cut(const Json& rule, const std::string& type, const std::string& where) {
        if (type == "Punctuation" || type == "Digits") {
            refuse_unknown_keys(rule, where, {"type", type == "Digits" ? "individual_digits" : "behavior"});
            if (type == "Digits") return json_flag(rule, where, "individual_digits", false) ? DIGITS : DIGIT_RUNS;
            const std::string behavior = json_text(rule, where, "behavior", "Isolated");
            if (behavior == "Isolated") return PUNCTUATION;
            if (behavior == "Removed") return NO_PUNCTUATION;
            if (behavior == "Contiguous") return PUNCTUATION_RUNS;
            refuse(where, rule, "Isolated, Removed or Contiguous as its behavior");
        }
        refuse_unknown_keys(rule, where, {"type"});
        if (type == "BertPreTokenizer") return BERT;
        if (type == "Whitespace") return WHITESPACE;
        if (type == "WhitespaceSplit") return WHITESPACE_SPLIT;
        refuse(where, rule, "BertPreTokenizer, Whitespace, WhitespaceSplit, Punctuation, Digits");
    }
};
