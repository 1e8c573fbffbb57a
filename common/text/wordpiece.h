// wordpiece.h: WordPiece, BERT's tokenizer: text → ids → text. Byte-level BPE is in bpe.h; what every tokenizer must
// have is in common/README.md ("Another tokenizer").
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
//   tokenizer.json          all rules. Other ones than these are in word_rules.h; what is in neither is refused by name
//   vocab.txt               a token per line, the line number (from 0) is the id. Where there is no tokenizer.json, the
//                           rules are those above
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
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/unicode.h"
#include "common/text/characters.h"
#include "common/text/pair_merging.h"
#include "common/text/special_tokens.h"
#include "common/text/word_rules.h"

struct WordPiece {
    static constexpr const char* special_names[5] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    static constexpr const char* special_roles[5] = {"pad_token", "unk_token", "cls_token", "sep_token", "mask_token"};

    std::vector<std::string> tokens;  // id → token as in vocab.txt; then the added ones that are not there
    int32_t special[5];               // ids of the five names above, or of what the files name instead of them
    WordRules rules;
    std::string prefix = "##";  // begins a token that continues a word
    size_t max_word_chars = 100;
    AddedTokens added;
    TokenizerFiles files;  // what was loaded

    WordPiece() {  // without a vocabulary yet, but it finds special tokens in a text
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
    bool is_continuation(std::string_view token) const {
        return token.size() > prefix.size() && token.substr(0, prefix.size()) == prefix;
    }

    // ------------------------------------------------------------ the pieces
    ByteTree tree;  // root 1: what a word can begin with; root 2: what comes after the prefix

    // From tokens: the tree and the special tokens. `where` begins the message of an error.
    void build(const std::string& where, SpecialTokens specials = {}) {
        size_t bytes = 0;
        for (const std::string& t : tokens) bytes += t.size();
        // A word can begin with the prefix itself, unless it is a word alone, as "#" is
        const bool both = !rules.are_berts() || prefix.empty() || !is_punctuation((uint8_t)prefix[0]);
        tree.reset(both ? 2 * bytes : bytes, where);
        for (size_t id = 0; id < tokens.size(); id++) {
            const std::string& t = tokens[id];
            if (t.empty()) fail("%s: line %zu: expected a token, found an empty line", where.c_str(), id + 1);
            if (invalid_utf8(t) != t.npos)
                fail("%s: line %zu: expected UTF-8, found other bytes", where.c_str(), id + 1);
            bool continues = is_continuation(t);
            int32_t& piece = continues ? tree.at(2, std::string_view(t).substr(prefix.size())) : tree.at(1, t);
            if (piece >= 0)
                fail("%s: line %zu: the token %s stands in line %d already", where.c_str(), id + 1, t.c_str(),
                     piece + 1);
            piece = (int32_t)id;
            if (continues && both) tree.at(1, t) = (int32_t)id;
        }
        std::string names[5];
        for (int s = 0; s < 5; s++) {
            // tokenizer.json says itself which of them are cut out of a text
            if (files.all.kind == Json::null) specials.set_default(special_roles[s], special_names[s]);
            const std::string& role = specials.role(special_roles[s]);
            names[s] = role.empty() ? special_names[s] : role;
            const AddedToken* t = specials.added.find(names[s]);
            if (id_of(names[s]) < 0 && !(t && t->id >= 0))
                fail("%s: expected the token %s, found none: this is no BERT vocabulary", where.c_str(),
                     names[s].c_str());
        }
        specials.added.number(
            tokens.size(), [&](const std::string& t) { return id_of(t); },
            [&](const std::string& t) { tokens.push_back(t); });
        set_added(specials.added);
        for (int s = 0; s < 5; s++) {
            const AddedToken* t = added.find(names[s]);
            special[s] = t ? t->id : id_of(names[s]);
        }
    }
    int32_t id_of(std::string_view token) const {  // in the vocabulary; −1: not there
        const uint32_t root = is_continuation(token) ? 2 : 1;
        if (root == 2) token.remove_prefix(prefix.size());
        const char *p = token.data(), *end = p + token.size(), *match = p;
        int32_t id = tree.longest(root, p, end, match);
        return match == end ? id : -1;
    }
    void set_added(const AddedTokens& tokens) {
        size_t invalid = 0;
        added = tokens;
        added.build([&](const std::string& t) { return rules.normalize(t, invalid); });
    }

    // ------------------------------------------------------------ text → words
    // Calls word(bytes, length, code points) for every word, normalised, and found(id) for every added token, in order.
    // The pointer is good during the call only. Returns how many bytes were not UTF-8 (they are dropped).
    template <class Word, class Found> size_t for_each_word(std::string_view text, Word&& word, Found&& found) const {
        const bool fast = rules.are_berts() && !added.any_normalized();
        size_t invalid = 0;
        auto normalize = [&](std::string_view raw, std::string& room) {
            if (!fast) room = rules.normalize(raw, invalid);
            return fast ? raw : std::string_view(room);
        };
        auto piece = [&](std::string_view s) { fast ? (void)(invalid += bert_words(s, word)) : rules.split(s, word); };
        added.split(text, false, normalize, piece, found);
        return invalid;
    }

    // BERT's rules in one pass over a text that is not normalised
    template <class Word> size_t bert_words(std::string_view text, Word&& word) const {
        const bool lower_case = rules.changes[0].lower_case;
        const char *p = text.data(), *end = p + text.size();
        const ByteTable& table = byte_table;
        auto kind = [&](const char* q) { return table.kind[(uint8_t)*q]; };
        size_t invalid = 0;
        while (p < end) {
            const char* start = p;
            while (p < end && kind(p) == WORD) p++;
            if (p < end && kind(p) == OTHER) {  // not plain ASCII: the full rules, up to the next ASCII separator
                while (p < end && (kind(p) == WORD || kind(p) == OTHER)) p++;
                invalid += split_unicode(start, p, word);
            } else if (p > start) {
                size_t n = p - start;
                char folded[128];
                if (lower_case && n <= sizeof folded) {
                    for (size_t i = 0; i < n; i++) folded[i] = table.lower[(uint8_t)start[i]];
                    word(folded, n, n);
                } else if (lower_case && n <= max_word_chars) {
                    split_unicode(start, p, word);
                } else {
                    word(start, n, n);
                }
            }
            while (p < end && kind(p) == SPACE) p++;
            for (; p < end && kind(p) == PUNCTUATION; p++) word(p, 1, 1);
        }
        return invalid;
    }

    template <class Word> size_t split_unicode(const char* p, const char* end, Word&& word) const {
        std::vector<int32_t> text;
        size_t invalid = 0;
        while (p < end) {
            int32_t c = next_code_point(p, end);
            c < 0 ? (void)invalid++ : text.push_back(c);
        }
        rules.changes[0].bert(text);
        std::string bytes;
        size_t chars = 0;
        auto flush = [&] {
            if (chars) word(bytes.data(), bytes.size(), chars);
            bytes.clear();
            chars = 0;
        };
        for (int32_t c : text) {
            bool alone = is_punctuation(c);
            if (alone || c == ' ') flush();
            if (c != ' ') {
                append_utf8(bytes, c);
                chars++;
            }
            if (alone) flush();
        }
        flush();
        return invalid;
    }

    // ------------------------------------------------------------ text → ids → text
    // Appends the ids of `text`; adds no special tokens. Returns how many bytes were not UTF-8. Safe to call from
    // several threads.
    size_t encode(std::string_view text, std::vector<int32_t>& ids) const {
        auto word = [&](const char* w, size_t bytes, size_t chars) {
            size_t first = ids.size();
            const char *end = w + bytes, *match = w;
            if (chars > max_word_chars) return ids.push_back(unk());
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
    std::string decode(const int32_t* ids, size_t n) const {
        std::string out;
        for (size_t i = 0; i < n; i++) {
            if (ids[i] < 0 || (size_t)ids[i] >= tokens.size())
                fail("cannot decode id %d: the vocabulary has ids 0 to %zu", ids[i], tokens.size() - 1);
            const std::string& t = tokens[ids[i]];
            bool continues = i > 0 && t.compare(0, prefix.size(), prefix) == 0;
            if (i > 0 && !continues && !strchr(".,!?", t[0])) out += ' ';
            out.append(t, continues ? prefix.size() : 0);
        }
        return out;
    }
    std::string decode(const std::vector<int32_t>& ids) const { return decode(ids.data(), ids.size()); }

    // A hash of all that decides about the ids: data files carry it, so that no program trains on ids of another
    // tokenizer
    uint64_t fingerprint() const {
        uint64_t h = fnv1a("wordpiece", 9);
        const WordRules::Change first = rules.changes.empty() ? WordRules::Change() : rules.changes[0];
        const char flags[3] = {first.lower_case, first.strip_accents, first.split_cjk};
        h = fnv1a(flags, 3, h);
        for (const std::string& t : tokens) h = fnv1a(t.c_str(), t.size() + 1, h);
        std::string more;  // what is not BERT's
        if (!rules.are_berts())
            for (const char* key : {"normalizer", "pre_tokenizer"})
                if (const Json* rule = files.all.find(key)) more += dump_json(*rule);
        if (prefix != "##" || max_word_chars != 100) more += format("%s %zu", prefix.c_str(), max_word_chars);
        for (int s = 0; s < 5; s++)
            if (tokens[special[s]] != special_names[s] || !added.find(special_names[s]))
                more += format("%s %d", special_roles[s], special[s]);
        for (const AddedToken& t : added.by_id()) {
            bool usual = std::find(special_names, special_names + 5, t.content) != special_names + 5;
            AddedToken flags;
            flags.special = true;
            flags.normalized = false;
            if (usual && t.same_flags(flags)) continue;
            more += format("%s %d %d%d%d%d%d", t.content.c_str(), t.id, t.special, t.normalized, t.lstrip, t.rstrip,
                           t.single_word);
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
        if (lines) w.read_vocab(*lines);
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
        if (w.rules.changes.size() == 1 && w.rules.changes[0].kind == WordRules::Change::BERT &&
            !(has_all && generic)) {
            WordRules::Change& c = w.rules.changes[0];
            const Json* normalizer = f.all.find("normalizer");
            const bool given = normalizer && json_member(*normalizer, all, "strip_accents", Json::boolean);
            c.lower_case = json_flag(f.config, config, "do_lower_case", c.lower_case);
            c.strip_accents = json_flag(f.config, config, "strip_accents", given ? c.strip_accents : c.lower_case);
            c.split_cjk = json_flag(f.config, config, "tokenize_chinese_chars", c.split_cjk);
        }
        w.build(lines ? vocab : all, specials);
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
        const Json& all = files.all;
        refuse_unknown_keys(all, where,
                            {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                             "post_processor", "decoder", "model"});
        const Json* model = json_member(all, where, "model", Json::object);
        const std::string type = model ? json_text(*model, where, "type", "WordPiece") : "none";
        const Json* vocab = model ? json_member(*model, where, "vocab", Json::object) : nullptr;
        if (!vocab || type != "WordPiece")
            fail("%s: expected a model of type WordPiece with a vocab, found %s", where.c_str(), type.c_str());
        refuse_unknown_keys(*model, where + ": model",
                            {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"});
        std::vector<std::string> lines = std::move(tokens);
        read_vocab(*vocab, where);
        for (size_t id = 0; agree && id < std::max(lines.size(), tokens.size()); id++)
            if (id >= lines.size() || id >= tokens.size() || lines[id] != tokens[id])
                fail("%s: the token %zu is %s, in %s it is %s", files.path("vocab.txt").c_str(), id,
                     id < lines.size() ? lines[id].c_str() : "none", where.c_str(),
                     id < tokens.size() ? tokens[id].c_str() : "none");
        prefix = json_text(*model, where, "continuing_subword_prefix", "##");
        const Json* most = json_member(*model, where, "max_input_chars_per_word", Json::integer);
        if (most && most->i < 1)
            fail("%s: expected max_input_chars_per_word above 0, found %lld", where.c_str(), (long long)most->i);
        if (most) max_word_chars = most->i;
        rules.read(all, where);
        set_role(specials, "unk_token", json_text(*model, where, "unk_token", "[UNK]"), where + ": model");
        read_template(specials, where + ": post_processor");
    }
    // A special token by its role, as tokenizer.json names it: as in the other files, if they name it
    static void set_role(SpecialTokens& specials, const char* name, const std::string& token,
                         const std::string& where) {
        std::string& old = specials.role(name);
        if (!old.empty() && old != token)
            fail("%s: the token %s; expected %s, which is %s in tokenizer_config.json or special_tokens_map.json",
                 where.c_str(), token.c_str(), old.c_str(), name);
        old = token;
    }
    // post_processor: [CLS] A [SEP], [CLS] A [SEP] B [SEP], as sequences are made here, by these or other names
    void read_template(SpecialTokens& specials, const std::string& where) {
        const Json* post = json_member(files.all, where, "post_processor", Json::object);
        if (!post) return;
        const std::string type = json_text(*post, where, "type");
        auto refuse = [&](const Json& rule) {
            WordRules::refuse(where, rule, "[CLS] A [SEP] and [CLS] A [SEP] B [SEP] with their types 0 and 1");
        };
        auto named = [&](const char* role, const std::string& token, const Json* id) {
            set_role(specials, role, token, where);
            auto at = std::find(tokens.begin(), tokens.end(), token);
            const AddedToken* t = specials.added.find(token);
            int64_t expected = at != tokens.end() ? at - tokens.begin() : t ? t->id : -1;
            if (id && (id->kind != Json::integer || id->i != expected))
                fail("%s: the token %s has the id %s; expected %lld, as in the vocabulary", where.c_str(),
                     token.c_str(), dump_json(*id).c_str(), (long long)expected);
        };
        if (type == "BertProcessing") {
            refuse_unknown_keys(*post, where, {"type", "sep", "cls"});
            for (auto [key, role] : {std::pair{"cls", "cls_token"}, {"sep", "sep_token"}}) {
                const Json* pair = json_member(*post, where, key, Json::array);
                if (!pair || pair->a.size() != 2) refuse(*post);
                named(role, pair->a[0].s, &pair->a[1]);
            }
            return;
        }
        if (type != "TemplateProcessing") refuse(*post);
        refuse_unknown_keys(*post, where, {"type", "single", "pair", "special_tokens"});
        const Json* known = json_member(*post, where, "special_tokens", Json::object);
        for (auto [key, expected] : {std::pair{"single", "C0A0S0"}, {"pair", "C0A0S0B1S1"}}) {
            const Json* list = json_member(*post, where, key, Json::array);
            std::string found, cls = specials.role("cls_token"), sep = specials.role("sep_token");
            for (const Json& item : list ? list->a : std::vector<Json>()) {
                refuse_unknown_keys(item, where, {"Sequence", "SpecialToken"});
                const bool is_text = item.find("Sequence");
                const Json* part = item.find(is_text ? "Sequence" : "SpecialToken");
                if (!part) refuse(item);
                refuse_unknown_keys(*part, where, {"id", "type_id"});
                const std::string id = json_text(*part, where, "id");
                const Json* t = part->find("type_id");
                if (!is_text && cls.empty()) cls = id;
                if (!is_text && sep.empty() && id != cls) sep = id;
                found += is_text ? id : id == cls ? "C" : id == sep ? "S" : "?";
                found += t ? dump_json(*t) : "?";
            }
            if (found != expected && (key[0] == 's' || !found.empty())) refuse(list ? *list : *post);
            for (auto [role, token] : {std::pair{"cls_token", cls}, {"sep_token", sep}}) {
                const Json* entry = known ? known->find(token) : nullptr;
                const Json* ids = entry ? json_member(*entry, where, "ids", Json::array) : nullptr;
                if (entry) refuse_unknown_keys(*entry, where, {"id", "ids", "tokens"});
                if (ids && ids->a.size() != 1) refuse(*entry);
                named(role, token, ids ? &ids->a[0] : nullptr);
            }
        }
    }

    void read_vocab(std::string_view text) {
        if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);  // a byte order mark
        while (!text.empty()) {
            size_t n = std::min(text.find('\n'), text.size());
            std::string_view line = text.substr(0, n);
            if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
            tokens.emplace_back(line);
            text.remove_prefix(std::min(n + 1, text.size()));
        }
    }
    void read_vocab(const Json& vocab, const std::string& where) {
        tokens.assign(vocab.o.size(), "");
        for (const auto& [token, id] : vocab.o) {
            if (id.kind != Json::integer || id.i < 0 || (size_t)id.i >= tokens.size() || !tokens[id.i].empty())
                fail("%s: expected the ids 0 to %zu once each, found %s for the token %s", where.c_str(),
                     tokens.size() - 1, dump_json(id).c_str(), token.c_str());
            tokens[id.i] = token;
        }
    }

    // Writes what was loaded, and tokenizer.json if it was not there; of a tokenizer that was learned all three files.
    // `max_len` is what transformers takes for the model's longest input, where it was more; exactly: in any case.
    void save(const std::string& dir, int max_len = 512, bool exactly = false) const {
        Json config = files.config;
        if (exactly) config.set("model_max_length", max_len);
        const bool plain = rules.are_berts() && prefix == "##" && max_word_chars == 100;
        if (!plain)  // any other class would build BERT's rules, not read those of tokenizer.json
            config.set("tokenizer_class", "PreTrainedTokenizerFast");
        else if (!config.find("tokenizer_class")) config.set("tokenizer_class", "BertTokenizer");
        if (rules.are_berts()) {
            const WordRules::Change& c = rules.changes[0];
            config.set("do_lower_case", c.lower_case).set("tokenize_chinese_chars", c.split_cjk);
            config.set("strip_accents", c.strip_accents == c.lower_case ? Json() : Json(c.strip_accents));
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
        Json list_of_added = Json::make_array(), ids = Json::make_object(), specials = Json::make_object();
        for (const AddedToken& t : added.by_id()) {
            Json token;
            token.set("id", t.id).set("content", t.content).set("single_word", t.single_word).set("lstrip", t.lstrip);
            token.set("rstrip", t.rstrip).set("normalized", t.normalized).set("special", t.special);
            list_of_added.a.push_back(token);
        }
        for (size_t id = 0; id < tokens.size(); id++)
            if (id_of(tokens[id]) >= 0) ids.o.emplace_back(tokens[id], Json((int)id));

        auto part = [](const char* kind, const char* id, int type) {
            Json inner, outer;
            inner.set("id", id).set("type_id", type);
            return outer.set(kind, inner);
        };
        auto list = [](std::vector<Json> items) {
            Json j = Json::make_array();
            j.a = std::move(items);
            return j;
        };
        for (int s : {2, 3}) {
            Json one;
            const std::string& name = tokens[special[s]];
            specials.set(name, one.set("id", name).set("ids", list({special[s]})).set("tokens", list({name})));
        }
        const char *cls_name = tokens[cls()].c_str(), *sep_name = tokens[sep()].c_str();
        Json c = part("SpecialToken", cls_name, 0), a = part("Sequence", "A", 0), b = part("Sequence", "B", 1);
        Json s0 = part("SpecialToken", sep_name, 0), s1 = part("SpecialToken", sep_name, 1);
        const WordRules::Change& bert = rules.changes[0];
        Json normalizer, pre, post, decoder, model, all;
        normalizer.set("type", "BertNormalizer").set("clean_text", true).set("handle_chinese_chars", bert.split_cjk);
        normalizer.set("strip_accents", bert.strip_accents).set("lowercase", bert.lower_case);
        pre.set("type", "BertPreTokenizer");
        post.set("type", "TemplateProcessing").set("single", list({c, a, s0}));
        post.set("pair", list({c, a, s0, b, s1})).set("special_tokens", specials);
        decoder.set("type", "WordPiece").set("prefix", "##").set("cleanup", true);
        model.set("type", "WordPiece").set("unk_token", tokens[unk()]).set("continuing_subword_prefix", "##");
        model.set("max_input_chars_per_word", (int)max_word_chars).set("vocab", ids);
        all.set("version", "1.0").set("truncation", Json()).set("padding", Json()).set("added_tokens", list_of_added);
        all.set("normalizer", normalizer).set("pre_tokenizer", pre).set("post_processor", post);
        all.set("decoder", decoder).set("model", model);
        return all;
    }

    // ------------------------------------------------------------ learning
    // Word → how often. The words are what for_each_word finds; special tokens in the text do not count.
    typedef std::unordered_map<std::string, int64_t> Counts;

    size_t count_words(std::string_view text, Counts& counts) const {
        auto word = [&](const char* w, size_t bytes, size_t chars) {
            if (chars <= max_word_chars) counts[std::string(w, bytes)]++;
        };
        return for_each_word(text, word, [](int32_t) {});
    }

    // Learns `size` tokens: the five special ones, an alphabet, then pieces, each the union of the pair of neighbouring
    // pieces that is most frequent within the words counted so far. Of equally frequent pairs the lexicographically
    // greater is taken (first piece, then second, compared as vocab.txt has them). Alphabet: the 1000 most frequent
    // characters (where `size` is small: (size - 5) / 2), each as the beginning and as the continuation of a word,
    // where it occurs so. Words with other characters do not take part. Pairs that occur once are not merged, so a
    // small text can give fewer than `size` tokens. The result depends on the counts only. progress(tokens so far) is
    // called now and then.
    static WordPiece learn(const Counts& counts, size_t size, bool lower_case,
                           const std::function<void(size_t)>& progress = {}) {
        if (size < 32 || size > 1000000) fail_usage("expected a vocabulary of 32 to 1000000 tokens, found %zu", size);
        WordPiece result;
        result.rules = WordRules::bert(lower_case);
        std::vector<std::string>& tokens = result.tokens;
        tokens.assign(special_names, special_names + 5);

        // the alphabet
        std::unordered_map<int32_t, int64_t> chars;
        for (const auto& [word, n] : counts)
            for (const char *p = word.data(), *end = p + word.size(); p < end;) chars[next_code_point(p, end)] += n;
        std::vector<std::pair<int64_t, int32_t>> frequent;  // (−count, code point): sorts by count, then by code point
        for (auto [c, n] : chars) frequent.push_back({-n, c});
        std::sort(frequent.begin(), frequent.end());
        frequent.resize(std::min({frequent.size(), (size_t)1000, (size - 5) / 2}));  // at most two tokens each
        std::unordered_set<int32_t> alphabet;
        for (auto [n, c] : frequent) alphabet.insert(c);

        // the words as sequences of code points, those of the alphabet only; first all that begin a word become tokens,
        // then all others
        std::vector<CountedWord> words;
        std::vector<int32_t> first, later;
        for (const auto& [word, n] : counts) {
            CountedWord w = {{}, n};
            bool known = true;
            for (const char *p = word.data(), *end = p + word.size(); p < end;) {
                w.pieces.push_back(next_code_point(p, end));
                known &= alphabet.count(w.pieces.back()) > 0;
            }
            if (!known) continue;
            first.push_back(w.pieces[0]);
            later.insert(later.end(), w.pieces.begin() + 1, w.pieces.end());
            words.push_back(std::move(w));
        }
        std::unordered_map<std::string, int32_t> id_of;
        auto token_id = [&](const std::string& token) {
            auto [it, is_new] = id_of.try_emplace(token, (int32_t)tokens.size());
            if (is_new) tokens.push_back(token);
            return it->second;
        };
        auto as_token = [&](int32_t c, bool begins) {
            std::string s = begins ? "" : "##";
            append_utf8(s, c);
            return token_id(s);
        };
        for (auto* list : {&first, &later}) {
            std::sort(list->begin(), list->end());
            list->erase(std::unique(list->begin(), list->end()), list->end());
            for (int32_t c : *list) as_token(c, list == &first);
        }
        for (CountedWord& w : words)
            for (size_t i = 0; i < w.pieces.size(); i++) w.pieces[i] = as_token(w.pieces[i], i == 0);

        merge_pairs(
            words, tokens, size, [&](int32_t a, int32_t b) { return token_id(tokens[a] + tokens[b].substr(2)); },
            progress);
        result.build("the learned vocabulary");
        return result;
    }
};
