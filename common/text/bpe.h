// bpe.h: byte-level BPE, GPT-2's tokenizer. Its ids equal those of transformers' GPT2TokenizerFast:
//
//   text    "I'll unpack\n\n 12 of them"
//   1 split by 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//                                    "I" "'ll" " unpack" "\n\n" " 12" " of" " them"
//   2 a word is a sequence of tokens of one byte; of all pairs of neighbours the one that was learned first is merged,
//     the leftmost where it stands several times; again, until no pair is one that was learned
//                                    "I" "'ll" " un" "pack" "\n" "\n" " 12" " of" " them"
//
// Nothing is unknown and nothing is lost: decoding gives back every byte, also those that are not UTF-8 (to step 1 each
// is a character that is neither letter nor digit nor space). <|endoftext|> is the only special token.
//
// A tokenizer directory holds
//   vocab.json or encoder.json    {"token": id}, with every byte as a printable character (see ByteNames)
//   merges.txt or vocab.bpe       a pair a line, in the order of learning; line 1 may be "#version: 0.2"
//   tokenizer.json                all of this in one file; read by us only where the two are missing
//   tokenizer_config.json         for transformers; add_bos_token is read
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/unicode.h"
#include "common/text/characters.h"
#include "common/text/pair_merging.h"

// ---------------------------------------------------------------- bytes as printable characters, in files
// Bytes 33–126, 161–172, 174–255 are the characters of these numbers; the other 68, in their order, are U+0100, U+0101,
// ...
struct ByteNames {
    int32_t code_point[256];
    int32_t byte[256 + 68];  // code point → byte, or −1
    uint8_t order[256];      // bytes in the order of GPT-2's vocabulary: first those that stand for themselves
    ByteNames() {
        std::fill(byte, byte + 256 + 68, -1);
        auto itself = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
        int n = 0, other = 256;
        for (int b = 0; b < 256; b++)
            if (itself(b)) {
                code_point[b] = b;
                order[n++] = b;
            }
        for (int b = 0; b < 256; b++)
            if (!itself(b)) {
                code_point[b] = other++;
                order[n++] = b;
            }
        for (int b = 0; b < 256; b++) byte[code_point[b]] = b;
    }
    std::string name(std::string_view bytes) const {
        std::string s;
        for (char b : bytes) append_utf8(s, code_point[(uint8_t)b]);
        return s;
    }
    // false if there is another character in it
    bool bytes(std::string_view name, std::string& out) const {
        out.clear();
        for (const char *p = name.data(), *end = p + name.size(); p < end;) {
            int32_t c = next_code_point(p, end);
            if (c < 0 || c >= 256 + 68 || byte[c] < 0) return false;
            out += (char)byte[c];
        }
        return true;
    }
};
inline const ByteNames byte_names;

struct Bpe {
    static constexpr const char* eot_name = "<|endoftext|>";

    std::vector<std::string> tokens;                  // id → its bytes; of <|endoftext|> its name
    std::vector<std::pair<int32_t, int32_t>> merges;  // in the order of learning
    // add_bos_token: a prompt comes after <|endoftext|>, as a text that begins. encode() does not look at it.
    bool add_bos = false;

    int32_t eot() const { return eot_id; }
    size_t size() const { return tokens.size(); }

    // ------------------------------------------------------------ what build() makes of the two
    struct Merge {
        uint64_t pair;     // left << 32 | right
        int32_t rank, id;  // id < 0: free
    };
    std::vector<Merge> table;  // a hash table with open addressing, a power of two, at most half full
    int32_t byte_id[256];
    int32_t eot_id = -1;
    uint64_t serial = 0;  // of this vocabulary among all that were built: what the caches of words belong to

    const Merge* find(int32_t left, int32_t right) const {  // nullptr: not a pair that was learned
        uint64_t pair = (uint64_t)left << 32 | (uint32_t)right, mask = table.size() - 1;
        for (uint64_t i = (pair * 0x9E3779B97F4A7C15) >> 32 & mask;; i = (i + 1) & mask) {
            if (table[i].id < 0) return nullptr;
            if (table[i].pair == pair) return &table[i];
        }
    }

    // `where` begins the message of an error. merge_where(i) says where merge i stands.
    void build(const std::string& where, const std::function<std::string(size_t)>& merge_where) {
        std::unordered_map<std::string_view, int32_t> id_of;
        std::fill(byte_id, byte_id + 256, -1);
        for (size_t id = 0; id < tokens.size(); id++) {
            const std::string& t = tokens[id];
            if (t.empty()) fail("%s: expected a token for the id %zu, found an empty one", where.c_str(), id);
            if (!id_of.emplace(t, id).second)
                fail("%s: the token %s has two ids, %d and %zu", where.c_str(), byte_names.name(t).c_str(), id_of[t],
                     id);
            if (t.size() == 1) byte_id[(uint8_t)t[0]] = id;
        }
        for (int b = 0; b < 256; b++)
            if (byte_id[b] < 0)
                fail(
                    "%s: expected a token for each of the 256 bytes, found none for 0x%02x (%s): this is no byte-level "
                    "vocabulary",
                    where.c_str(), b, byte_names.name(std::string(1, b)).c_str());
        eot_id = id_of.count(eot_name) ? id_of[eot_name] : -1;
        if (eot_id < 0)
            fail("%s: expected the token %s, found none: this is no GPT-2 vocabulary", where.c_str(), eot_name);

        size_t capacity = 64;
        while (capacity < 2 * merges.size() + 2) capacity *= 2;
        table.assign(capacity, {0, 0, -1});
        for (size_t i = 0; i < merges.size(); i++) {
            auto [left, right] = merges[i];
            auto joined = id_of.find(tokens[left] + tokens[right]);
            auto name = [&](int32_t id) { return byte_names.name(tokens[id]); };
            if (left == eot_id || right == eot_id)
                fail("%s: expected a pair of tokens, found %s, which is never merged", merge_where(i).c_str(),
                     eot_name);
            if (joined == id_of.end())
                fail("%s: expected the pair %s %s to make a token, found no %s in the vocabulary",
                     merge_where(i).c_str(), name(left).c_str(), name(right).c_str(),
                     (name(left) + name(right)).c_str());
            if (find(left, right))
                fail("%s: the pair %s %s stands in %s already", merge_where(i).c_str(), name(left).c_str(),
                     name(right).c_str(), merge_where(find(left, right)->rank).c_str());
            uint64_t pair = (uint64_t)left << 32 | (uint32_t)right;
            uint64_t at = (pair * 0x9E3779B97F4A7C15) >> 32 & (capacity - 1);
            while (table[at].id >= 0) at = (at + 1) & (capacity - 1);
            table[at] = {pair, (int32_t)i, joined->second};
        }
        static std::atomic<uint64_t> built{0};
        serial = ++built;
    }

    // ------------------------------------------------------------ text → words
    enum CharKind : uint8_t { WHITE, LETTER, DIGIT, NEITHER };

    static CharKind kind_of(int32_t c) {
        if (is_space(c)) return WHITE;
        int major = c < 0 ? 0 : category(c) >> 8;
        return major == 'L' ? LETTER : major == 'N' ? DIGIT : NEITHER;
    }
    struct AsciiKinds {
        CharKind kind[128];
        AsciiKinds() {
            for (int c = 0; c < 128; c++) kind[c] = kind_of(c);
        }
    };
    // The kind of the character at p, and p moved past it; bytes that are not UTF-8 are counted in `invalid`
    static CharKind next_kind(const char*& p, const char* end, size_t& invalid) {
        static const AsciiKinds ascii;
        if ((uint8_t)*p < 128) return ascii.kind[(uint8_t)*p++];
        int32_t c = next_code_point(p, end);
        invalid += c < 0;
        return kind_of(c);
    }
    static size_t contraction_at(const char* p, const char* end) {
        for (const char* c : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
            size_t n = strlen(c);
            if ((size_t)(end - p) >= n && memcmp(p, c, n) == 0) return n;
        }
        return 0;
    }

    // Calls word(bytes, length) for every word, in order: together they are the text. Returns how many bytes are not
    // UTF-8. goes_on: the text ends with the end of a line, and more follows, which does not begin with white space.
    template <class Word>
    static size_t split(std::string_view text, bool goes_on, Word&& word) {
        const char *p = text.data(), *end = p + text.size();
        size_t invalid = 0;
        while (p < end) {
            const char *start = p, *next = p;
            if (*p == '\'')
                if (size_t n = contraction_at(p, end)) {
                    word(p, n);
                    p += n;
                    continue;
                }
            CharKind kind = next_kind(next, end, invalid);
            if (*p == ' ' && next < end) {  // one space belongs to what follows
                const char* after_next = next;
                size_t counted_later = 0;
                CharKind after = next_kind(after_next, end, counted_later);
                if (after != WHITE) {
                    kind = after;
                    next = after_next;
                    invalid += counted_later;
                }
            }
            const char* last = start;  // the last character of the run
            for (p = next; p < end; p = next) {
                size_t counted = 0;
                if (next_kind(next, end, counted) != kind) break;
                invalid += counted;
                last = p;
            }
            // white space before something else leaves its last character to what follows, if it has another
            if (kind == WHITE && last > start && (p < end || goes_on)) p = last;
            word(start, (size_t)(p - start));
        }
        return invalid;
    }

    // The same, and special() for every <|endoftext|>, which parts the text
    template <class Word, class Special>
    static size_t split(std::string_view text, bool goes_on, Word&& word, Special&& special) {
        size_t invalid = 0, at;
        while ((at = text.find(eot_name)) != text.npos) {
            invalid += split(text.substr(0, at), false, word);
            special();
            text.remove_prefix(at + strlen(eot_name));
        }
        return invalid + split(text, goes_on, word);
    }

    // ------------------------------------------------------------ words → ids
    // Words that were encoded before, and room to work in; one for each thread
    struct Cache {
        struct Entry {  // free if bytes == 0
            uint32_t hash, bytes_at, ids_at;
            uint16_t bytes, ids;
        };
        static constexpr size_t capacity = 1 << 17, longest = 64;  // longest: in bytes
        uint64_t serial = 0;
        size_t used = 0;
        std::vector<Entry> entries;
        std::string bytes;
        std::vector<int32_t> ids;
        // of encode_word
        std::vector<int32_t> piece, before, after;
        std::vector<uint64_t> heap;

        void clear(uint64_t for_serial) {
            serial = for_serial;
            used = 0;
            entries.assign(capacity, {0, 0, 0, 0, 0});
            bytes.clear();
            ids.clear();
        }
        static uint32_t hash(const char* w, size_t n) {
            uint64_t h = n;
            for (; n > 0; w += 8) {
                uint64_t eight = 0;
                memcpy(&eight, w, std::min<size_t>(n, 8));
                h = (h ^ eight) * 0x9E3779B97F4A7C15;
                h ^= h >> 32;
                n -= std::min<size_t>(n, 8);
            }
            return h;
        }
        Entry& entry(const char* w, size_t n, uint32_t h) {  // where the word is, or the free place for it
            for (size_t i = h & (capacity - 1);; i = (i + 1) & (capacity - 1)) {
                Entry& e = entries[i];
                if (e.bytes == 0 || (e.hash == h && e.bytes == n && memcmp(&bytes[e.bytes_at], w, n) == 0)) return e;
            }
        }
    };

    // Merges with a heap of (rank, place): n log n also for a word of a million letters
    void encode_word(const char* w, size_t n, std::vector<int32_t>& ids, Cache& cache) const {
        std::vector<int32_t>& piece = cache.piece;                         // place → its token; −1: gone
        std::vector<int32_t>&before = cache.before, &after = cache.after;  // its neighbours; −1, n: none
        std::vector<uint64_t>& heap = cache.heap;
        piece.resize(n);
        before.resize(n);
        after.resize(n);
        heap.clear();
        for (size_t i = 0; i < n; i++) {
            piece[i] = byte_id[(uint8_t)w[i]];
            before[i] = (int32_t)i - 1;
            after[i] = (int32_t)i + 1;
        }
        auto consider = [&](int32_t i) {
            if (const Merge* m = find(piece[i], piece[after[i]])) {
                heap.push_back((uint64_t)m->rank << 32 | i);
                std::push_heap(heap.begin(), heap.end(), std::greater<uint64_t>());
            }
        };
        for (size_t i = 0; i + 1 < n; i++) consider(i);
        while (!heap.empty()) {
            int32_t rank = heap[0] >> 32, i = (int32_t)heap[0];
            std::pop_heap(heap.begin(), heap.end(), std::greater<uint64_t>());
            heap.pop_back();
            if (piece[i] < 0 || after[i] == (int32_t)n) continue;
            int32_t j = after[i];
            const Merge* m = find(piece[i], piece[j]);
            if (!m || m->rank != rank) continue;  // the pair that stood here has changed
            piece[i] = m->id;
            piece[j] = -1;
            after[i] = after[j];
            if (after[i] < (int32_t)n) {
                before[after[i]] = i;
                consider(i);
            }
            if (before[i] >= 0) consider(before[i]);
        }
        for (size_t i = 0; i < n; i = after[i]) ids.push_back(piece[i]);
    }

    // Appends the ids of `text`. specials: <|endoftext|> in the text becomes its id. Returns how many bytes are not
    // UTF-8 (they are kept). goes_on: as for split. Safe to call from several threads.
    size_t encode(std::string_view text, std::vector<int32_t>& ids, bool specials = true, bool goes_on = false) const {
        if (text.size() > INT32_MAX)
            fail("cannot encode a text of %zu bytes at once: expected less than 2 GB", text.size());
        static thread_local Cache cache;
        if (cache.serial != serial) cache.clear(serial);
        auto word = [&](const char* w, size_t n) {
            if (n == 1) return ids.push_back(byte_id[(uint8_t)*w]);
            if (n > Cache::longest) return encode_word(w, n, ids, cache);
            uint32_t h = Cache::hash(w, n);
            Cache::Entry* e = &cache.entry(w, n, h);
            if (e->bytes == 0) {
                if (cache.used == Cache::capacity / 2) {
                    cache.clear(serial);
                    e = &cache.entry(w, n, h);
                }
                cache.used++;
                *e = {h, (uint32_t)cache.bytes.size(), (uint32_t)cache.ids.size(), (uint16_t)n, 0};
                cache.bytes.append(w, n);
                encode_word(w, n, cache.ids, cache);
                e->ids = cache.ids.size() - e->ids_at;
            }
            ids.insert(ids.end(), cache.ids.begin() + e->ids_at, cache.ids.begin() + e->ids_at + e->ids);
        };
        return specials ? split(text, goes_on, word, [&] { ids.push_back(eot_id); }) : split(text, goes_on, word);
    }
    std::vector<int32_t> encode(std::string_view text, bool specials = true) const {
        std::vector<int32_t> ids;
        encode(text, ids, specials);
        return ids;
    }

    // The exact bytes; a character whose bytes are not all there is not UTF-8
    std::string decode(const int32_t* ids, size_t n) const {
        std::string out;
        for (size_t i = 0; i < n; i++) {
            if (ids[i] < 0 || (size_t)ids[i] >= tokens.size())
                fail("cannot decode id %d: the vocabulary has ids 0 to %zu", ids[i], tokens.size() - 1);
            out += tokens[ids[i]];
        }
        return out;
    }
    std::string decode(const std::vector<int32_t>& ids) const { return decode(ids.data(), ids.size()); }

    // A hash of all that decides about the ids: data files carry it, so that no program trains on ids of another
    // tokenizer
    uint64_t fingerprint() const {
        uint64_t h = fnv1a("bpe", 3);
        for (const std::string& t : tokens) {
            uint32_t n = t.size();
            h = fnv1a(t.data(), n, fnv1a(&n, 4, h));
        }
        for (auto [left, right] : merges) h = fnv1a(&right, 4, fnv1a(&left, 4, h));
        return h;
    }

    // ------------------------------------------------------------ directories
    // Of two names the one that is there, else ""
    static std::string either(const std::string& dir, const char* name, const char* stock_name) {
        for (const char* n : {name, stock_name})
            if (exists(dir + "/" + n)) return dir + "/" + n;
        return "";
    }
    // Is what this directory holds a BPE tokenizer? (Else it may be WordPiece's, or none.)
    static bool is_in(const std::string& dir) {
        if (exists(dir + "/vocab.txt")) return false;
        if (!either(dir, "vocab.json", "encoder.json").empty() || !either(dir, "merges.txt", "vocab.bpe").empty())
            return true;
        const std::string all = dir + "/tokenizer.json";
        if (!exists(all)) return false;
        Json json = parse_json(read_file(all), all);
        const Json* model = json.find("model");
        const Json* type = model ? model->find("type") : nullptr;
        return type && type->s == "BPE";
    }

    static Bpe load(const std::string& dir) {
        if (!is_directory(dir))
            fail("%s: expected a tokenizer directory, found %s", dir.c_str(), exists(dir) ? "a file" : "nothing");
        const std::string vocab = either(dir, "vocab.json", "encoder.json");
        const std::string merges = either(dir, "merges.txt", "vocab.bpe");
        const std::string all = dir + "/tokenizer.json", config = dir + "/tokenizer_config.json";
        Json json, c;
        if (exists(all)) json = parse_json(read_file(all), all);
        if (exists(config)) c = parse_json(read_file(config), config);
        check_rules(json, all, c, config);
        Bpe b;
        if (!vocab.empty() && !merges.empty()) {
            b.read_vocab(parse_json(read_file(vocab), vocab), vocab);
            size_t first = b.read_merges(read_text(merges), merges);
            b.build(vocab, [&](size_t i) { return format("%s, line %zu", merges.c_str(), first + i); });
        } else if (exists(all)) {
            b.read_all(json, all);
            b.build(all, [&](size_t i) { return format("%s, merge %zu", all.c_str(), i + 1); });
        } else if (!vocab.empty() || !merges.empty()) {
            fail("%s: expected %s beside %s, found none", dir.c_str(),
                 vocab.empty() ? "vocab.json or encoder.json" : "merges.txt or vocab.bpe", (vocab + merges).c_str());
        } else {
            fail(
                "%s: expected vocab.json and merges.txt, or tokenizer.json, found none; make them with: data/tokenize "
                "learn --type bpe --out %s FILE",
                dir.c_str(), dir.c_str());
        }
        if (const Json* bos = c.find("add_bos_token")) b.add_bos = bos->kind == Json::boolean && bos->b;
        return b;
    }

    // Refuses rules that are not GPT-2's: other special tokens, a normalizer, another way to split, a space put before
    // the text.
    static void check_rules(const Json& all, const std::string& all_path, const Json& config,
                            const std::string& config_path) {
        auto refuse_unless = [](const Json* value, const std::string& path, const char* key, bool fine,
                                const char* expected) {
            if (value && value->kind != Json::null && !fine)
                fail("%s: %s: expected %s, as GPT-2 has it, found %.60s", path.c_str(), key, expected,
                     dump_json(*value).c_str());
        };
        auto is_false = [](const Json* j) { return j && j->kind == Json::boolean && !j->b; };
        auto refuse_true = [&](const Json* from, const std::string& path, const char* key) {
            const Json* value = from ? from->find(key) : nullptr;
            refuse_unless(value, path, key, is_false(value), "false");
        };
        refuse_true(&config, config_path, "add_prefix_space");
        refuse_unless(all.find("normalizer"), all_path, "normalizer", false, "none");
        const Json *pre = all.find("pre_tokenizer"), *model = all.find("model");
        if (pre) {
            const Json *type = pre->find("type"), *regex = pre->find("use_regex");
            refuse_unless(pre, all_path, "pre_tokenizer", type && type->s == "ByteLevel" && !is_false(regex),
                          "ByteLevel alone");
            refuse_true(pre, all_path, "add_prefix_space");
        }
        if (model) {
            for (const char* key : {"ignore_merges", "byte_fallback"}) refuse_true(model, all_path, key);
            for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
                const Json* value = model->find(key);
                refuse_unless(value, all_path, key, value && value->kind == Json::string && value->s.empty(), "none");
            }
        }
        if (const Json* added = all.find("added_tokens"))
            for (const Json& token : added->a) {
                const Json* content = token.find("content");
                if (!content || content->s != eot_name)
                    fail("%s: the added token %.60s is not supported: only %s is", all_path.c_str(),
                         content ? content->s.c_str() : dump_json(token).c_str(), eot_name);
            }
    }

    void read_vocab(const Json& json, const std::string& where) {
        if (json.kind != Json::object)
            fail("%s: expected a JSON object {\"token\": id, ...}, found %.60s", where.c_str(),
                 dump_json(json).c_str());
        tokens.resize(json.o.size());
        std::string bytes;
        for (const auto& [name, id] : json.o) {
            if (id.kind != Json::integer || id.i < 0 || (size_t)id.i >= tokens.size() || !tokens[id.i].empty())
                fail("%s: expected the ids 0 to %zu once each, found %s for the token %s", where.c_str(),
                     tokens.size() - 1, dump_json(id).c_str(), name.c_str());
            if (name.empty())
                fail("%s: expected a token for the id %s, found an empty one", where.c_str(), dump_json(id).c_str());
            if (name == eot_name)
                bytes = name;
            else if (!byte_names.bytes(name, bytes))
                fail(
                    "%s: expected bytes as printable characters in the token of id %s, found \"%s\": this is no "
                    "byte-level vocabulary",
                    where.c_str(), dump_json(id).c_str(), name.c_str());
            tokens[id.i] = bytes;
        }
    }

    // "left right" → merges. `where` is a function: saying where takes time that only an error has
    template <class Where>
    void add_merge(std::string_view left, std::string_view right, const std::unordered_map<std::string, int32_t>& id_of,
                   Where where) {
        std::string bytes;
        int32_t ids[2];
        for (int i = 0; i < 2; i++) {
            std::string_view name = i ? right : left;
            auto found = byte_names.bytes(name, bytes) ? id_of.find(bytes) : id_of.end();
            if (name.empty() || found == id_of.end())
                fail("%s: expected two tokens of the vocabulary with a space between them, found \"%.60s\", \"%.60s\"",
                     where().c_str(), std::string(left).c_str(), std::string(right).c_str());
            ids[i] = found->second;
        }
        merges.push_back({ids[0], ids[1]});
    }
    std::unordered_map<std::string, int32_t> ids_of_tokens() const {
        std::unordered_map<std::string, int32_t> id_of;
        for (size_t id = 0; id < tokens.size(); id++) id_of.emplace(tokens[id], id);
        return id_of;
    }

    // Returns the number of the first line with a pair
    size_t read_merges(std::string_view text, const std::string& where) {
        auto id_of = ids_of_tokens();
        bool version = text.substr(0, 8) == "#version";
        for (size_t number = 1; !text.empty(); number++) {
            size_t n = std::min(text.find('\n'), text.size());
            std::string_view line = text.substr(0, n);
            text.remove_prefix(std::min(n + 1, text.size()));
            if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
            if ((version && number == 1) || (line.empty() && text.empty())) continue;
            size_t space = std::min(line.find(' '), line.size());
            add_merge(line.substr(0, space), line.substr(std::min(space + 1, line.size())), id_of,
                      [&] { return format("%s, line %zu", where.c_str(), number); });
        }
        return version ? 2 : 1;
    }

    void read_all(const Json& json, const std::string& where) {
        const Json* model = json.find("model");
        const Json* type = model ? model->find("type") : nullptr;
        const Json* vocab = model ? model->find("vocab") : nullptr;
        const Json* list = model ? model->find("merges") : nullptr;
        if (!vocab || !list || list->kind != Json::array || (type && type->s != "BPE"))
            fail("%s: expected a model of type BPE with vocab and merges, found %s", where.c_str(),
                 type ? type->s.c_str() : "none");
        Json with_added = *vocab;
        if (const Json* added = json.find("added_tokens"))  // <|endoftext|> may stand there only
            for (const Json& token : added->a)
                if (const Json* id = token.find("id"))
                    if (vocab->kind == Json::object && !vocab->find(eot_name)) with_added.set(eot_name, *id);
        read_vocab(with_added, where);
        auto id_of = ids_of_tokens();
        for (size_t i = 0; i < list->a.size(); i++) {
            const Json& pair = list->a[i];  // "left right" or ["left", "right"]
            std::string_view left = pair.s, right;
            if (pair.kind == Json::array && pair.a.size() == 2) {
                left = pair.a[0].s;
                right = pair.a[1].s;
            } else if (size_t space = left.find(' '); space != left.npos) {
                right = left.substr(space + 1);
                left = left.substr(0, space);
            }
            add_merge(left, right, id_of, [&] { return format("%s, merge %zu", where.c_str(), i + 1); });
        }
    }

    // Writes the four files; `max_len` is what transformers takes for the model's longest input
    void save(const std::string& dir, int max_len = 1024) const {
        make_directories(dir);
        auto name = [&](int32_t id) { return id == eot_id ? eot_name : byte_names.name(tokens[id]); };
        Json vocab = Json::make_object(), pairs = Json::make_array(), added = Json::make_array();
        Json eot, level, post, model, all, config;
        for (size_t id = 0; id < tokens.size(); id++) vocab.o.emplace_back(name(id), Json((int)id));
        std::string lines = "#version: 0.2\n";
        for (auto [left, right] : merges) {
            Json pair = Json::make_array();
            pair.a = {name(left), name(right)};
            lines += name(left) + " " + name(right) + "\n";
            pairs.a.push_back(pair);
        }
        eot.set("id", eot_id).set("content", eot_name).set("single_word", false).set("lstrip", false);
        eot.set("rstrip", false).set("normalized", false).set("special", true);
        added.a.push_back(eot);
        level.set("type", "ByteLevel").set("add_prefix_space", false).set("trim_offsets", true).set("use_regex", true);
        post = level;
        if (add_bos) {  // transformers looks for it here
            Json first, text, bos, single = Json::make_array(), pair = Json::make_array();
            Json ids = Json::make_array(), names = Json::make_array(), both = Json::make_array();
            first.set("SpecialToken", Json().set("id", eot_name).set("type_id", 0));
            text.set("Sequence", Json().set("id", "A").set("type_id", 0));
            single.a = {first, text};
            pair.a = {first, text, Json().set("Sequence", Json().set("id", "B").set("type_id", 1))};
            ids.a = {Json(eot_id)};
            names.a = {Json(eot_name)};
            bos.set("type", "TemplateProcessing").set("single", single).set("pair", pair);
            bos.set("special_tokens",
                    Json().set(eot_name, Json().set("id", eot_name).set("ids", ids).set("tokens", names)));
            both.a = {level, bos};
            post = Json().set("type", "Sequence").set("processors", both);
        }
        model.set("type", "BPE").set("dropout", Json()).set("unk_token", Json());
        model.set("continuing_subword_prefix", "").set("end_of_word_suffix", "").set("fuse_unk", false);
        model.set("byte_fallback", false).set("ignore_merges", false).set("vocab", vocab).set("merges", pairs);
        all.set("version", "1.0").set("truncation", Json()).set("padding", Json()).set("added_tokens", added);
        all.set("normalizer", Json());
        all.set("pre_tokenizer", level).set("post_processor", post).set("decoder", level).set("model", model);
        config.set("tokenizer_class", "GPT2Tokenizer").set("add_prefix_space", false).set("add_bos_token", add_bos);
        config.set("model_max_length", max_len);
        config.set("bos_token", eot_name).set("eos_token", eot_name).set("unk_token", eot_name);
        config.set("clean_up_tokenization_spaces", false);

        write_file_atomic(dir + "/tokenizer_config.json", dump_json(config, 2) + "\n");
        write_file_atomic(dir + "/tokenizer.json", dump_json(all) + "\n");
        write_file_atomic(dir + "/vocab.json", dump_json(vocab) + "\n");
        write_file_atomic(dir + "/merges.txt", lines);
    }

    // ------------------------------------------------------------ learning
    typedef std::unordered_map<std::string, int64_t> Counts;  // word → how often

    static size_t count_words(std::string_view text, Counts& counts, bool goes_on = false) {
        return split(text, goes_on, [&](const char* w, size_t n) { counts[std::string(w, n)]++; }, [] {});
    }

    // Learns `size` tokens: the 256 bytes in the order of GPT-2's vocabulary, what merge_pairs makes of them in the
    // words counted so far, and <|endoftext|> as the last. The result depends on the counts only. progress(tokens so
    // far) is called now and then.
    static Bpe learn(const Counts& counts, size_t size, const std::function<void(size_t)>& progress = {}) {
        if (size < 257 || size > 1000000)
            fail_usage("expected a vocabulary of 257 to 1000000 tokens (256 bytes, merges, %s), found %zu", eot_name,
                       size);
        Bpe b;
        for (uint8_t byte : byte_names.order) b.tokens.emplace_back(1, (char)byte);
        std::unordered_map<std::string, int32_t> id_of = b.ids_of_tokens();
        std::vector<CountedWord> words;
        for (const auto& [word, n] : counts) {
            CountedWord w = {{}, n};
            for (char byte : word) w.pieces.push_back(id_of[std::string(1, byte)]);
            words.push_back(std::move(w));
        }
        auto join = [&](int32_t left, int32_t right) {
            auto [it, is_new] = id_of.try_emplace(b.tokens[left] + b.tokens[right], (int32_t)b.tokens.size());
            if (is_new) b.tokens.push_back(it->first);
            b.merges.push_back({left, right});
            return it->second;
        };
        merge_pairs(words, b.tokens, size - 1, join, progress);
        b.tokens.push_back(eot_name);
        b.build("the learned vocabulary", [](size_t i) { return format("merge %zu", i + 1); });
        return b;
    }
};
