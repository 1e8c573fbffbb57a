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
// [PAD] [UNK] [CLS] [SEP] [MASK] are found in the raw text before all this, in exactly this spelling.
//
// A tokenizer directory holds
//   vocab.txt               a token per line, the line number (from 0) is the id
//   tokenizer_config.json   do_lower_case (default true), strip_accents (default: as do_lower_case),
//                           tokenize_chinese_chars (default true)
//   tokenizer.json          all of this in one file, which transformers prefers; read by us only where vocab.txt is
//                           missing
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

struct WordPiece {
    static constexpr size_t max_word_chars = 100;
    static constexpr const char* special_names[5] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

    std::vector<std::string> tokens;  // id → token as it stands in vocab.txt
    int32_t special[5];               // ids of the five names above
    bool lower_case = true, strip_accents = true, split_cjk = true;

    int32_t pad() const { return special[0]; }
    int32_t unk() const { return special[1]; }
    int32_t cls() const { return special[2]; }
    int32_t sep() const { return special[3]; }
    int32_t mask() const { return special[4]; }
    size_t size() const { return tokens.size(); }
    bool is_special(int32_t id) const { return std::find(special, special + 5, id) != special + 5; }
    // does this piece continue the word of the piece before it? (whole-word masking)
    bool is_continuation(int32_t id) const {
        return tokens[id].size() > 2 && tokens[id][0] == '#' && tokens[id][1] == '#';
    }

    // ------------------------------------------------------------ the pieces, as a tree of bytes
    // A node is a number; (node, byte) → node is a hash table with open addressing. 0 = nothing there, 1 = root of the
    // pieces that begin a word, 2 = root of the pieces after ##.
    struct Edge {  // key = node << 8 | byte; free if node == 0
        uint32_t key, node;
    };
    std::vector<Edge> edges;        // a power of two, at most half full
    std::vector<int32_t> piece_at;  // node → id of the piece that ends here, or −1

    // The place of an edge in `edges`, or the free one where it would be
    uint32_t edge(uint32_t node, uint8_t byte) const {
        uint32_t key = node << 8 | byte, mask = edges.size() - 1;
        uint32_t i = (key * 2654435761u) >> 7 & mask;
        while (edges[i].node && edges[i].key != key) i = (i + 1) & mask;
        return i;
    }
    uint32_t child(uint32_t node, uint8_t byte) const { return edges[edge(node, byte)].node; }

    // From tokens: the tree, the special ids. `where` begins the message of an error.
    void build(const std::string& where) {
        size_t bytes = 0;
        for (const std::string& t : tokens) bytes += t.size();
        if (bytes >= 1 << 24)
            fail("%s: expected a vocabulary of less than 16 MB, found %zu bytes", where.c_str(), bytes);
        size_t capacity = 64;
        while (capacity < 2 * bytes) capacity *= 2;
        edges.assign(capacity, {0, 0});
        piece_at.assign(3, -1);
        std::fill(special, special + 5, -1);
        for (size_t id = 0; id < tokens.size(); id++) {
            const std::string& t = tokens[id];
            if (t.empty()) fail("%s: line %zu: expected a token, found an empty line", where.c_str(), id + 1);
            if (invalid_utf8(t) != t.npos)
                fail("%s: line %zu: expected UTF-8, found other bytes", where.c_str(), id + 1);
            uint32_t node = is_continuation(id) ? 2 : 1;
            for (size_t i = node == 2 ? 2 : 0; i < t.size(); i++) {
                Edge& e = edges[edge(node, t[i])];
                if (!e.node) {
                    e = {node << 8 | (uint8_t)t[i], (uint32_t)piece_at.size()};
                    piece_at.push_back(-1);
                }
                node = e.node;
            }
            if (piece_at[node] >= 0)
                fail("%s: line %zu: the token %s stands in line %d already", where.c_str(), id + 1, t.c_str(),
                     piece_at[node] + 1);
            piece_at[node] = id;
            for (int s = 0; s < 5; s++)
                if (t == special_names[s]) special[s] = id;
        }
        for (int s = 0; s < 5; s++)
            if (special[s] < 0)
                fail("%s: expected the token %s, found none: this is no BERT vocabulary", where.c_str(),
                     special_names[s]);
    }

    // ------------------------------------------------------------ text → words
    // Calls word(bytes, length, code points) for every word, normalised, and found(id) for every special token, in
    // order. The pointer is good during the call only. Returns how many bytes were not UTF-8 (they are dropped).
    template <class Word, class Special>
    size_t for_each_word(std::string_view text, Word&& word, Special&& found) const {
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
                char folded[max_word_chars + 1];
                if (lower_case && n <= max_word_chars) {
                    for (size_t i = 0; i < n; i++) folded[i] = table.lower[(uint8_t)start[i]];
                    start = folded;
                }
                word(start, n, n);
            }
            while (p < end && kind(p) == SPACE) p++;
            while (p < end && kind(p) == PUNCTUATION) {
                int s = *p == '[' ? special_at(p, end) : -1;
                if (s >= 0)
                    found(special[s]);
                else
                    word(p, 1, 1);
                p += s >= 0 ? strlen(special_names[s]) : 1;
            }
        }
        return invalid;
    }

    static int special_at(const char* p, const char* end) {
        for (int s = 0; s < 5; s++) {
            size_t n = strlen(special_names[s]);
            if ((size_t)(end - p) >= n && memcmp(p, special_names[s], n) == 0) return s;
        }
        return -1;
    }

    template <class Word>
    size_t split_unicode(const char* p, const char* end, Word&& word) const {
        std::vector<int32_t> text, decomposed;
        size_t invalid = 0;
        while (p < end) {
            int32_t c = next_code_point(p, end);
            if (c < 0)
                invalid++;
            else if (c < 128 && byte_table.kind[c] == WORD)
                text.push_back(c);
            else if (is_dropped(c))
                continue;
            else if (is_space(c))
                text.push_back(' ');
            else if (split_cjk && is_cjk(c))
                text.insert(text.end(), {' ', c, ' '});
            else
                text.push_back(c);
        }
        if (strip_accents) {
            for (int32_t c : text) append_nfd(decomposed, c);
            reorder_combining(decomposed);
            text.clear();
            for (int32_t c : decomposed)
                if (c < 128 || category(c) != CATEGORY('M', 'n')) text.push_back(c);
        }
        if (lower_case) {
            decomposed.clear();
            for (int32_t c : text) append_lower(decomposed, c);
            text.swap(decomposed);
        }
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
                int32_t longest = -1;
                uint32_t node = root;
                for (const char* q = w; q < end && (node = child(node, *q));) {
                    q++;
                    if (piece_at[node] >= 0) {
                        longest = piece_at[node];
                        match = q;
                    }
                }
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
            bool continues = i > 0 && t.size() >= 2 && t[0] == '#' && t[1] == '#';
            if (i > 0 && !continues && !strchr(".,!?", t[0])) out += ' ';
            out.append(t, continues ? 2 : 0);
        }
        return out;
    }
    std::string decode(const std::vector<int32_t>& ids) const { return decode(ids.data(), ids.size()); }

    // A hash of all that decides about the ids: data files carry it, so that no program trains on ids of another
    // tokenizer
    uint64_t fingerprint() const {
        uint64_t h = fnv1a("wordpiece", 9);
        const char flags[3] = {lower_case, strip_accents, split_cjk};
        h = fnv1a(flags, 3, h);
        for (const std::string& t : tokens) h = fnv1a(t.c_str(), t.size() + 1, h);
        return h;
    }

    // ------------------------------------------------------------ directories
    static WordPiece load(const std::string& dir) {
        WordPiece w;
        const std::string vocab = dir + "/vocab.txt", all = dir + "/tokenizer.json";
        const std::string config = dir + "/tokenizer_config.json";
        if (!is_directory(dir))
            fail("%s: expected a tokenizer directory, found %s", dir.c_str(), exists(dir) ? "a file" : "nothing");
        Json json;
        if (exists(all)) json = parse_json(read_file(all), all);
        if (exists(vocab))
            w.read_vocab(read_text(vocab));
        else if (exists(all))
            w.read_vocab(json, all);
        else
            fail(
                "%s: expected vocab.txt or tokenizer.json, found neither; make them with: data/tokenize learn --type "
                "wordpiece --out %s FILE",
                dir.c_str(), dir.c_str());

        auto read_flag = [&](const Json& from, const std::string& file, const char* key, bool& flag) {
            const Json* value = from.find(key);
            if (!value || value->kind == Json::null) return false;
            if (value->kind != Json::boolean)
                fail("%s: expected true or false for %s, found %s", file.c_str(), key, dump_json(*value).c_str());
            flag = value->b;
            return true;
        };
        bool strip_given = false;
        if (const Json* n = json.find("normalizer")) {
            read_flag(*n, all, "lowercase", w.lower_case);
            strip_given |= read_flag(*n, all, "strip_accents", w.strip_accents);
            read_flag(*n, all, "handle_chinese_chars", w.split_cjk);
        }
        if (exists(config)) {  // has the last word, as in transformers
            Json c = parse_json(read_file(config), config);
            read_flag(c, config, "do_lower_case", w.lower_case);
            strip_given |= read_flag(c, config, "strip_accents", w.strip_accents);
            read_flag(c, config, "tokenize_chinese_chars", w.split_cjk);
        }
        if (!strip_given) w.strip_accents = w.lower_case;
        if (const Json* added = json.find("added_tokens"))
            for (const Json& token : added->a) {
                const Json* content = token.find("content");
                if (content && std::find(special_names, special_names + 5, content->s) == special_names + 5)
                    fail("%s: the added token %s is not supported: only [PAD] [UNK] [CLS] [SEP] [MASK] are",
                         all.c_str(), content->s.c_str());
            }
        w.build(exists(vocab) ? vocab : all);
        return w;
    }

    void read_vocab(std::string_view text) {
        while (!text.empty()) {
            size_t n = std::min(text.find('\n'), text.size());
            std::string_view line = text.substr(0, n);
            if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
            tokens.emplace_back(line);
            text.remove_prefix(std::min(n + 1, text.size()));
        }
    }
    void read_vocab(const Json& json, const std::string& where) {
        const Json* model = json.find("model");
        const Json* type = model ? model->find("type") : nullptr;
        const Json* vocab = model ? model->find("vocab") : nullptr;
        if (!vocab || vocab->kind != Json::object || (type && type->s != "WordPiece"))
            fail("%s: expected a model of type WordPiece with a vocab, found %s", where.c_str(),
                 type ? type->s.c_str() : "none");
        tokens.resize(vocab->o.size());
        for (const auto& [token, id] : vocab->o) {
            if (id.kind != Json::integer || id.i < 0 || (size_t)id.i >= tokens.size() || !tokens[id.i].empty())
                fail("%s: expected the ids 0 to %zu once each, found %s for the token %s", where.c_str(),
                     tokens.size() - 1, dump_json(id).c_str(), token.c_str());
            tokens[id.i] = token;
        }
    }

    // Writes the three files; `max_len` is what transformers takes for the model's longest input
    void save(const std::string& dir, int max_len = 512) const {
        make_directories(dir);
        std::string vocab;
        for (const std::string& t : tokens) vocab += t + "\n";

        Json added = Json::make_array(), ids = Json::make_object(), specials = Json::make_object();
        std::vector<int> order = {0, 1, 2, 3, 4};  // by id
        std::sort(order.begin(), order.end(), [&](int x, int y) { return special[x] < special[y]; });
        for (int s : order) {
            Json token;
            token.set("id", special[s]).set("content", special_names[s]).set("single_word", false).set("lstrip", false);
            token.set("rstrip", false).set("normalized", false).set("special", true);
            added.a.push_back(token);
        }
        for (size_t id = 0; id < tokens.size(); id++) ids.o.emplace_back(tokens[id], Json((int)id));

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
            one.set("id", special_names[s]).set("ids", list({special[s]})).set("tokens", list({special_names[s]}));
            specials.set(special_names[s], one);
        }
        Json c = part("SpecialToken", "[CLS]", 0), a = part("Sequence", "A", 0), b = part("Sequence", "B", 1);
        Json s0 = part("SpecialToken", "[SEP]", 0), s1 = part("SpecialToken", "[SEP]", 1);
        Json normalizer, pre, post, decoder, model, all, config;
        normalizer.set("type", "BertNormalizer").set("clean_text", true).set("handle_chinese_chars", split_cjk);
        normalizer.set("strip_accents", strip_accents).set("lowercase", lower_case);
        pre.set("type", "BertPreTokenizer");
        post.set("type", "TemplateProcessing").set("single", list({c, a, s0}));
        post.set("pair", list({c, a, s0, b, s1})).set("special_tokens", specials);
        decoder.set("type", "WordPiece").set("prefix", "##").set("cleanup", true);
        model.set("type", "WordPiece").set("unk_token", "[UNK]").set("continuing_subword_prefix", "##");
        model.set("max_input_chars_per_word", (int)max_word_chars).set("vocab", ids);
        all.set("version", "1.0").set("truncation", Json()).set("padding", Json()).set("added_tokens", added);
        all.set("normalizer", normalizer).set("pre_tokenizer", pre).set("post_processor", post);
        all.set("decoder", decoder).set("model", model);

        config.set("tokenizer_class", "BertTokenizer").set("do_lower_case", lower_case);
        config.set("strip_accents", strip_accents == lower_case ? Json() : Json(strip_accents));
        config.set("tokenize_chinese_chars", split_cjk).set("model_max_length", max_len);
        config.set("pad_token", "[PAD]").set("unk_token", "[UNK]").set("cls_token", "[CLS]");
        config.set("sep_token", "[SEP]").set("mask_token", "[MASK]");

        write_file_atomic(dir + "/tokenizer_config.json", dump_json(config, 2) + "\n");
        write_file_atomic(dir + "/tokenizer.json", dump_json(all, 1) + "\n");
        write_file_atomic(dir + "/vocab.txt", vocab);
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
        result.lower_case = result.strip_accents = lower_case;
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
