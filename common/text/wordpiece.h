// wordpiece.h: WordPiece, BERT's tokenizer: text → ids → text. Byte-level BPE is in bpe.h; what every tokenizer must
// have is in CONTRIBUTING.md ("A tokenizer").
//
// The ids equal those of transformers' BertTokenizerFast:
//
//   text   "Hé, [MASK] unaffable!"
//   1 clean     drop U+0000, U+FFFD, control characters and bytes that are not UTF-8; any white space is one separator
//   2 CJK       ideographs stand alone
//   3 uncased   canonical decomposition (NFD), drop combining marks (Mn), then lower case, one code point at a time
//   4 split     at white space; every punctuation character is a word of its own
//               he , [MASK] unaffable !
//   5 pieces    the longest piece that fits, from left to right; all but a word's first begin with ##
//               he , [MASK] un ##aff ##able !
//
// A word of more than 100 code points, or one that cannot be pieced together, is one [UNK].
// [PAD] [UNK] [CLS] [SEP] [MASK] and other added tokens are found before all this (added_tokens.h).
//
// A tokenizer directory holds
//   tokenizer.json          all rules. Others than these are in pretokenizer.h; what is not there is refused by name
//   vocab.txt               a token per line, the line number (from 0) is the id. Without tokenizer.json the rules
//                           are those above
//   tokenizer_config.json   do_lower_case (default true), strip_accents (default: as do_lower_case),
//                           tokenize_chinese_chars (default true): where they are given they have the last word, as in
//                           transformers
//   and what special_tokens.h reads. All of it is saved again as it was.
//
// Not rules for us: truncation and padding, since a text is encoded whole, and the decoder.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/unicode.h"
#include "common/text/pretokenizer.h"
#include "common/text/special_tokens.h"

struct WordPiece {
    static constexpr const char* special_names[5] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    static constexpr const char* special_roles[5] = {"pad_token", "unk_token", "cls_token", "sep_token", "mask_token"};

    static constexpr std::string_view prefix = "##";  // begins a token that continues a word
    static constexpr size_t max_word_chars = 100;

    std::vector<std::string> tokens;  // id → token as in vocab.txt; then the added ones that are not there
    int32_t special[5];               // ids of the five names above, or of what the files name instead of them
    Steps normalizer{{{Step::BERT}}}, words{{{Step::BERT_WORDS}}};
    AddedTokens added;
    TokenizerFiles files;  // what was loaded

    explicit WordPiece(bool lower_case = true) {  // without a vocabulary yet, but it finds special tokens in a text
        normalizer.steps[0].lower_case = normalizer.steps[0].strip_accents = lower_case;
        SpecialTokens specials;
        for (int s = 0; s < 5; s++) specials.set_default(special_roles[s], special_names[s]);
        set_added(specials.added);
    }
    int32_t pad() const { return special[0]; }
    int32_t unk() const { return special[1]; }
    int32_t cls() const { return special[2]; }
    int32_t sep() const { return special[3]; }
    int32_t mask() const { return special[4]; }
    size_t size() const { return tokens.size(); }
    bool is_special(int32_t id) const { return std::find(special, special + 5, id) != special + 5; }
    // does this piece continue the word of the piece before it? (whole-word masking)
    bool is_continuation(int32_t id) const { return is_continuation(tokens[id]); }
    bool is_continuation(std::string_view t) const { return t.size() > prefix.size() && starts_with(t, prefix); }
    // Are the rules BERT's own, whatever lower_case, strip_accents and split_cjk are?
    bool are_berts() const {
        return words.description() == "BertPreTokenizer;" && normalizer.description() == "BertNormalizer;" &&
               normalizer.steps[0].clean_text;
    }

    // ------------------------------------------------------------ the pieces
    ByteTree tree;      // root 1: what a word can begin with; root 2: what comes after the prefix
    bool fast = false;  // BERT's rules, and no added token is looked for after normalisation

    // From tokens: the tree and the special tokens. `where` begins the message of an error.
    void build(const std::string& where, SpecialTokens specials = {}) {
        size_t bytes = 0;
        for (const std::string& t : tokens) bytes += t.size();
        // A word can begin with the prefix itself where "#" is no word alone
        const bool both = !are_berts();
        tree.reset(both ? 2 * bytes : bytes, where);
        for (size_t id = 0; id < tokens.size(); id++) {
            const std::string& t = tokens[id];
            if (t.empty()) fail("%s: line %zu: expected a token, found an empty line", where.c_str(), id + 1);
            bool continues = is_continuation(t);
            int32_t& piece = continues ? tree.at(2, std::string_view(t).substr(prefix.size())) : tree.at(1, t);
            if (piece >= 0)
                fail("%s: line %zu: the token %s stands in line %d already", where.c_str(), id + 1, t.c_str(),
                    piece + 1);
            piece = (int32_t)id;
            if (continues && both) tree.at(1, t) = (int32_t)id;
        }
        for (int s = 0; s < 5; s++) {
            std::string& name = specials.role(special_roles[s]);
            if (name.empty()) name = special_names[s];
            // tokenizer.json says itself which of them are cut out of a text
            if (files.all.kind == Json::null) specials.set_default(special_roles[s], special_names[s]);
            if (id_of(name) < 0 && specials.added.id_of(name) < 0)
                fail("%s: expected the token %s, found none: this is no BERT vocabulary", where.c_str(), name.c_str());
        }
        specials.added.number(
            tokens.size(), [&](const std::string& t) { return id_of(t); },
            [&](const std::string& t) { tokens.push_back(t); });
        set_added(specials.added);
        for (int s = 0; s < 5; s++) {
            const std::string& name = specials.role(special_roles[s]);
            special[s] = std::max(added.id_of(name), id_of(name));  // the same where both have it
        }
    }
    int32_t id_of(std::string_view token) const {  // in the vocabulary; −1: not there
        const bool continues = is_continuation(token);
        return tree.find(continues ? 2 : 1, token.substr(continues ? prefix.size() : 0));
    }
    void set_added(const AddedTokens& tokens) {
        added = tokens;
        added.build([&](const std::string& t) { return normalized(t); });
        fast = are_berts() && !added.any_normalized;
    }

    // ------------------------------------------------------------ text → words
    std::string normalized(std::string_view raw) const {  // bytes that are not UTF-8 are dropped
        std::string text;
        append_utf8(text, code_points(raw));
        return normalizer.normalized(text);
    }
    bool too_long(const char* word, size_t bytes) const {
        return bytes > max_word_chars && code_points({word, bytes}).size() > max_word_chars;
    }
    // Calls word(bytes, length) for every word, normalised, and found(id) for every added token, in order. The pointer
    // is good during the call only. Returns how many bytes were not UTF-8.
    template <class Word, class Found> size_t for_each_word(std::string_view text, Word&& word, Found&& found) const {
        auto normalize = [&](std::string_view raw, std::string& room) {
            return fast ? raw : std::string_view(room = normalized(raw));
        };
        auto piece = [&](std::string_view s) { fast ? bert_words(s, word) : words.split(s, Steps::FIRST, word); };
        added.split(text, false, normalize, piece, found);
        return count_invalid(text);
    }
    // BERT's rules in one pass over a text that is not normalised
    template <class Word> void bert_words(std::string_view text, Word&& word) const {
        const bool lower_case = normalizer.steps[0].lower_case;
        const char *p = text.data(), *end = p + text.size();
        auto kind = [&](const char* q) { return byte_table.kind[(uint8_t)*q]; };
        while (p < end) {
            const char* start = p;
            while (p < end && kind(p) == WORD) p++;
            const size_t n = p - start;
            char folded[max_word_chars];
            if (p < end && kind(p) == OTHER) {  // not plain ASCII: the full rules, up to the next ASCII separator
                while (p < end && (kind(p) == WORD || kind(p) == OTHER)) p++;
                words.split(normalizer.normalized({start, p}), Steps::FIRST, word);
            } else if (n > 0) {
                const bool fold = lower_case && n <= max_word_chars;  // a longer one is [UNK]
                for (size_t i = 0; fold && i < n; i++) folded[i] = byte_table.lower[(uint8_t)start[i]];
                word(fold ? folded : start, n);
            }
            while (p < end && kind(p) == SPACE) p++;
            for (; p < end && kind(p) == PUNCTUATION; p++) word(p, 1);
        }
    }

    // ------------------------------------------------------------ text → ids → text
    // Appends the ids of `text`; adds no special tokens. Returns how many bytes were not UTF-8. Safe to call from
    // several threads.
    size_t encode(std::string_view text, std::vector<int32_t>& ids) const {
        auto word = [&](const char* w, size_t bytes) {
            size_t first = ids.size();
            const char *end = w + bytes, *match = w;
            if (too_long(w, bytes)) return ids.push_back(unk());
            for (uint32_t root = 1; w < end; root = 2, w = match) {
                int32_t longest = tree.longest(root, w, end, match);
                if (longest < 0) {
                    ids.resize(first);
                    return ids.push_back(unk());
                }
                ids.push_back(longest);
            }
        };
        return for_each_word(text, word, [&](int32_t id) { ids.push_back(id); });
    }
    std::vector<int32_t> encode(std::string_view text) const {
        std::vector<int32_t> ids;
        encode(text, ids);
        return ids;
    }

    // Pieces joined to words, words by spaces, none before . , ! ? (as transformers' decode does)
    std::string decode(const std::vector<int32_t>& ids) const {
        std::string out;
        for (size_t i = 0; i < ids.size(); i++) {
            const std::string& t = tokens[checked_id(ids[i], tokens.size())];
            bool continues = i > 0 && starts_with(t, prefix);
            if (i > 0 && !continues && !strchr(".,!?", t[0])) out += ' ';
            out.append(t, continues ? prefix.size() : 0);
        }
        return out;
    }

    // A hash of all that decides about the ids: data files carry it, so that no program trains on ids of another
    // tokenizer
    uint64_t fingerprint() const {
        uint64_t h = fnv1a("wordpiece", 9);
        const Step first = normalizer.steps.empty() ? Step{Step::BERT} : normalizer.steps[0];
        const char flags[3] = {first.lower_case, first.strip_accents, first.split_cjk};
        h = fnv1a(flags, 3, h);
        for (const std::string& t : tokens) h = fnv1a(t.c_str(), t.size() + 1, h);
        std::string more;  // what is not BERT's
        if (!are_berts())
            for (const char* key : {"normalizer", "pre_tokenizer"})
                if (const Json* rule = files.all.find(key)) more += dump_json(*rule);
        for (int s = 0; s < 5; s++)
            if (tokens[special[s]] != special_names[s] || !added.find(special_names[s]))
                more += format("%s %d", special_roles[s], special[s]);
        for (const AddedToken& t : added.by_id()) {
            bool usual = std::find(special_names, special_names + 5, t.content) != special_names + 5;
            if (usual && t.flags() == "10000") continue;
            more += format("%s %d %s", t.content.c_str(), t.id, t.flags().c_str());
        }
        return more.empty() ? h : fnv1a(more.data(), more.size(), h);
    }

    // ------------------------------------------------------------ directories
    static WordPiece load(const std::string& dir) {
        WordPiece w;
        w.files = TokenizerFiles::read(dir);
        const TokenizerFiles& f = w.files;
        const std::string vocab = f.path("vocab.txt"), all = f.path("tokenizer.json");
        const std::string config = f.path("tokenizer_config.json");
        const std::string* lines = f.find("vocab.txt");
        const bool has_all = f.all.kind == Json::object;
        if (!lines && !has_all)
            fail(
                "%s: expected vocab.txt or tokenizer.json, found neither; make them with: data/tokenize learn --type "
                "wordpiece --out %s FILE",
                dir.c_str(), dir.c_str());
        if (lines)
            for (std::string_view line : TokenizerFiles::lines(*lines)) w.tokens.emplace_back(line);
        SpecialTokens specials = SpecialTokens::read(f);
        if (has_all) w.read_all(specials, !!lines);

        // tokenizer_config.json
        const std::string kind = json_text(f.config, config, "tokenizer_class");
        const bool generic = kind == "PreTrainedTokenizerFast" || kind == "TokenizersBackend";
        if (!has_all && !is_bert_class(kind))
            fail(
                "%s: the rules of the tokenizer_class %s are not known here; expected BertTokenizer or one like it, or "
                "tokenizer.json, which has the rules",
                config.c_str(), kind.c_str());
        for (auto [key, expected] : {std::pair{"do_basic_tokenize", true}, {"split_special_tokens", false}})
            if (json_flag(f.config, config, key, expected) != expected)
                fail("%s: expected %s to be %s, found %s", config.c_str(), key, expected ? "true" : "false",
                    expected ? "false" : "true");
        const Json* never = json_member(f.config, config, "never_split", Json::array);
        if (never && !never->a.empty())
            fail("%s: expected nothing in never_split, found %.60s; make them added tokens", config.c_str(),
                dump_json(*never).c_str());
        if (w.normalizer.description() == "BertNormalizer;" && !(has_all && generic)) {
            Step& bert = w.normalizer.steps[0];
            const Json* rule = f.all.find("normalizer");
            const bool given = rule && json_member(*rule, all, "strip_accents", Json::boolean);
            bert.lower_case = json_flag(f.config, config, "do_lower_case", bert.lower_case);
            bert.strip_accents = json_flag(
                f.config, config, "strip_accents", given ? bert.strip_accents : bert.lower_case);
            bert.split_cjk = json_flag(f.config, config, "tokenize_chinese_chars", bert.split_cjk);
        }
        w.build(lines ? vocab : all, specials);
        w.check_post_processor(all);
        return w;
    }
    // Do they split words as BERT's does? (BertJapaneseTokenizer, PhobertTokenizer, EsmTokenizer also have vocab.txt.)
    static bool is_bert_class(const std::string& name) {
        for (const char* model : {"Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert", "ConvBert", "LayoutLM",
                 "RetriBert", "Lxmert", "MPNet", "RemBert"})
            if (name == std::string(model) + "Tokenizer" || name == std::string(model) + "TokenizerFast") return true;
        return name.empty() || name == "PreTrainedTokenizerFast" || name == "TokenizersBackend";
    }

    // tokenizer.json: every rule of it. agree: the tokens are there already, from vocab.txt
    void read_all(SpecialTokens& specials, bool agree) {
        const std::string where = files.path("tokenizer.json");
        const Json& model = model_of(files.all, where, "WordPiece", {"max_input_chars_per_word"});
        std::vector<std::string> lines = std::move(tokens);
        tokens = read_vocab(*model.find("vocab"), where);
        for (size_t id = 0; agree && id < std::max(lines.size(), tokens.size()); id++)
            if (id >= lines.size() || id >= tokens.size() || lines[id] != tokens[id])
                fail("%s: the token %zu is %s, in %s it is %s", files.path("vocab.txt").c_str(), id,
                    id < lines.size() ? lines[id].c_str() : "none", where.c_str(),
                    id < tokens.size() ? tokens[id].c_str() : "none");
        for (auto [key, value] : {std::pair{"continuing_subword_prefix", Json(std::string(prefix))},
                 {"max_input_chars_per_word", Json((int)max_word_chars)}})
            if (const Json* found = model.find(key); found && !same_json(*found, value))
                fail("%s: model: %s: expected %s, found %.60s", where.c_str(), key, dump_json(value).c_str(),
                    dump_json(*found).c_str());
        const std::string unknown = json_text(model, where, "unk_token", "[UNK]");
        std::string& named = specials.role("unk_token");
        if (!named.empty() && named != unknown)
            fail(
                "%s: model: the token %s; expected %s, which is unk_token in tokenizer_config.json or "
                "special_tokens_map.json",
                where.c_str(), unknown.c_str(), named.c_str());
        named = unknown;
        normalizer = read_steps(
            files.all, where, "normalizer", "BertNormalizer, Lowercase, StripAccents, NFC, NFD, NFKC, NFKD, Replace");
        words = read_steps(
            files.all, where, "pre_tokenizer", "BertPreTokenizer, Whitespace, WhitespaceSplit, Punctuation, Digits");
        // Files are read in parts that end with a line: where a word can go on there, it must not matter
        if (!words.has(Step::BERT_WORDS) && !words.has(Step::WHITESPACE) && !words.has(Step::WHITESPACE_SPLIT))
            fail(
                "%s: pre_tokenizer: expected BertPreTokenizer, Whitespace or WhitespaceSplit, alone or in a Sequence, "
                "found neither",
                where.c_str());
    }
    // [CLS] A [SEP], [CLS] A [SEP] B [SEP], as sequences are made here, by these or other names
    Json post_processor() const {
        const TemplatePart c = {tokens[cls()], cls()}, s = {tokens[sep()], sep()};
        return make_template({c, {"A"}, s}, {c, {"A"}, s, {"B", -1, 1}, {s.name, s.id, 1}});
    }
    void check_post_processor(const std::string& where) const {
        const Json* found = json_member(files.all, where, "post_processor", Json::object);
        const Json both = post_processor(), one = Json(both).set("pair", Json::make_array());
        auto end = [&](int32_t id) { return Json::make_array({tokens[id], id}); };
        const Json bert = Json().set("type", "BertProcessing").set("sep", end(sep())).set("cls", end(cls()));
        if (found && !same_json(*found, both) && !same_json(*found, one) && !same_json(*found, bert))
            refuse_rule(where + ": post_processor", *found, dump_json(both));
    }

    // Writes what was loaded, and tokenizer.json if it was not there; of a tokenizer that was learned all three files.
    // `max_len` is what transformers takes for the model's longest input, where it was more; exactly: in any case.
    void save(const std::string& dir, int max_len = 512, bool exactly = false) const {
        Json config = files.config;
        if (exactly) config.set("model_max_length", max_len);
        if (!are_berts())  // any other class would build BERT's rules, not read those of tokenizer.json
            config.set("tokenizer_class", "PreTrainedTokenizerFast");
        else if (!config.find("tokenizer_class")) config.set("tokenizer_class", "BertTokenizer");
        if (are_berts()) {
            const Step& bert = normalizer.steps[0];
            config.set("do_lower_case", bert.lower_case).set("tokenize_chinese_chars", bert.split_cjk);
            config.set("strip_accents", bert.strip_accents == bert.lower_case ? Json() : Json(bert.strip_accents));
        }
        for (int s = 0; s < 5; s++)
            if (files.all.kind == Json::null && !config.find(special_roles[s]))
                config.set(special_roles[s], tokens[special[s]]);
        files.save(dir, config, max_len);
        if (!files.find("tokenizer.json")) write_file_atomic(dir + "/tokenizer.json", dump_json(json(), 1) + "\n");
        if (!files.bytes.empty()) return;
        std::string vocab;
        for (const std::string& t : tokens) vocab += t + "\n";
        write_file_atomic(dir + "/vocab.txt", vocab);
    }
    // tokenizer.json of a tokenizer that has BERT's rules
    Json json() const {
        const Step& bert = normalizer.steps[0];
        size_t n = tokens.size();  // of the vocabulary, after which the added ones come
        while (n > 0 && id_of(tokens[n - 1]) < 0) n--;
        Json all = parse_json(R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": {"type": "BertNormalizer", "clean_text": true}, "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": null, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true}, "model": null})",
            "tokenizer.json");
        Json rule = *all.find("normalizer"), model = Json().set("type", "WordPiece").set("unk_token", tokens[unk()]);
        rule.set("handle_chinese_chars", bert.split_cjk).set("strip_accents", bert.strip_accents);
        model.set("continuing_subword_prefix", "##").set("max_input_chars_per_word", (int)max_word_chars);
        model.set("vocab", vocab_json({tokens.begin(), tokens.begin() + n}));
        all.set("added_tokens", added.json()).set("normalizer", rule.set("lowercase", bert.lower_case));
        return all.set("post_processor", post_processor()).set("model", model);
    }
};
