// bpe.h: BPE, the tokenizers of decoders. Their ids equal those of Hugging Face's tokenizers:
//
//   text    "I'll unpack\n\n 12 of them<|endoftext|>"
//   1 added tokens, such as <|endoftext|>, are cut out (added_tokens.h); special ones only where they are asked for
//   2 what lies between them is normalised and split into words (pretokenizer.h); as GPT-2 does it
//                                    "I" "'ll" " unpack" "\n\n" " 12" " of" " them"
//   3 a word is a sequence of tokens of one byte; of all pairs of neighbours the one that was learned first is merged,
//     the leftmost where it stands several times; again, until no pair is one that was learned
//                                    "I" "'ll" " un" "pack" "\n" "\n" " 12" " of" " them"
//
// Two kinds differ in what a word begins as, and in how a vocabulary is written:
//   byte-level (GPT-2, Llama 3, Qwen, SmolLM)   bytes, as printable characters (ByteNames). Decoding gives back every
//                   byte, also those that are not UTF-8: each is a character that is no letter, digit or space
//   SentencePiece (Llama 2, TinyLlama)          characters, "▁" for a space; a character without a token becomes
//                   tokens of its bytes, <0xE2> <0x82> <0xAC> (byte_fallback), or unk_token
//
// A tokenizer directory holds, besides what special_tokens.h names,
//   tokenizer.json                all: rules, vocabulary, merges. A rule that is not obeyed here is refused by name
// or, where this file is missing,
//   vocab.json or encoder.json    {"token": id}, byte-level
//   merges.txt or vocab.bpe       a pair a line, in the order of learning; line 1 may be "#version: 0.2"
// and tokenizer_config.json       add_bos_token, add_eos_token; kept whole, with the chat_template, when saved again
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
#include "common/text/pretokenizer.h"
#include "common/text/special_tokens.h"

// ---------------------------------------------------------------- bytes as printable characters, in files
// Bytes 33–126, 161–172, 174–255 are the characters of these numbers; the other 68, in their order, U+0100, U+0101, ...
struct ByteNames {
    int32_t code_point[256];
    int32_t byte[256 + 68];  // code point → byte, or −1; in the order of GPT-2's vocabulary
    ByteNames() {
        std::fill(byte, byte + 256 + 68, -1);
        for (int b = 0, other = 256; b < 256; b++) {
            const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            code_point[b] = itself ? b : other++;
            byte[code_point[b]] = b;
        }
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

// Do special tokens in a text become their ids, or does it stay text, as what a user writes?
enum Specials : bool { SPECIALS_AS_TEXT, SPECIALS_PARSED };

struct Bpe {
    static constexpr const char* eot_name = "<|endoftext|>";  // GPT-2's, and of what learn() learns
    static constexpr const char* mark = "\u2581";             // SentencePiece's space

    // id → byte-level: its bytes; SentencePiece: its piece as the vocabulary has it; of an added token its content
    std::vector<std::string> tokens;
    std::vector<std::pair<int32_t, int32_t>> merges;  // in the order of learning
    // The rules; those of GPT-2 unless load() reads others
    Steps normalizer, words{{{Step::GPT2}}};
    SpecialTokens special;  // added tokens, and which of them begin and end a text
    bool byte_level = true, byte_fallback = false, ignore_merges = false, fuse_unk = false;
    int32_t unk = -1;
    // SentencePiece, decoding: tokens <0x0A> are bytes; one space is taken off the text's beginning; all of its first
    // token's are
    bool decodes_bytes = false, strips_space = false, strips_first_token = false;
    std::vector<int32_t> prefix, suffix;  // what the post-processor puts around a text
    // A prompt comes after bos(), as a text that begins. encode() does not look at it.
    bool add_bos = false;
    TokenizerFiles files;  // what load() read, for save()

    Bpe() {
        for (const char* role : {"bos_token", "eos_token", "unk_token"}) special.set_default(role, eot_name);
    }
    size_t size() const { return tokens.size(); }
    // The token that ends a text, and the one that begins one: eos_token and bos_token; without the latter the former
    int32_t eot() const {
        if (eot_id < 0)
            fail(
                "%s: expected an eos_token, found none in tokenizer_config.json nor eos_token_id elsewhere: no token "
                "ends a text",
                files.dir.c_str());
        return eot_id;
    }
    int32_t bos() const { return !prefix.empty() ? prefix[0] : bos_id >= 0 ? bos_id : eot(); }
    bool is_special(int32_t id) const { return (size_t)id < special_id.size() && special_id[id]; }

    // ------------------------------------------------------------ what build() makes of these
    struct Merge {
        uint64_t pair;     // left << 32 | right
        int32_t rank, id;  // id < 0: free
    };
    std::vector<Merge> table;  // a hash table with open addressing, a power of two, at most half full
    // ids of the vocabulary, from root 1 those of words; from root 2, of a byte-level one, those that are not written
    // as bytes, such as <｜begin｜>: no word is one
    ByteTree tree;
    std::vector<bool> unwritten;                     // id → is it such a one? May be empty
    std::unordered_map<int32_t, std::string> shown;  // added tokens that are another text after normalisation
    int32_t byte_id[256];
    int32_t vocab_size = 0, eot_id = -1, bos_id = -1;  // vocab_size: without added tokens that are not in it
    std::vector<bool> special_id;                      // id → is it a special token?
    bool cuts_before_marks = false;  // no token goes on from another character to a ▁: each run of them begins a word
    uint64_t serial = 0;             // of this vocabulary among all that were built: what the caches of words belong to

    const Merge* find(int32_t left, int32_t right) const {  // nullptr: not a pair that was learned
        uint64_t pair = (uint64_t)left << 32 | (uint32_t)right, mask = table.size() - 1;
        for (uint64_t i = (pair * 0x9E3779B97F4A7C15) >> 32 & mask;; i = (i + 1) & mask) {
            if (table[i].id < 0) return nullptr;
            if (table[i].pair == pair) return &table[i];
        }
    }
    int32_t id_of(std::string_view token) const { return tree.find(1, token); }  // −1: not in the vocabulary
    // The same of a token as files write it
    int32_t id_of_name(const std::string& name) const {
        std::string bytes;
        if (!byte_level) return id_of(name);
        return byte_names.bytes(name, bytes) ? id_of(bytes) : tree.find(2, name);
    }
    std::string name(int32_t id) const {
        const bool itself = !byte_level || id >= vocab_size || (!unwritten.empty() && unwritten[id]);
        return itself ? tokens[id] : byte_names.name(tokens[id]);
    }

    static size_t end_of_marks(std::string_view text, size_t at) {
        while (text.substr(at, 3) == mark) at += 3;
        return at;
    }

    // `where` begins the message of an error
    void build_index(const std::string& where) {
        size_t bytes = 0;
        for (const std::string& t : tokens) bytes += t.size();
        tree.reset(bytes, where);
        vocab_size = (int32_t)tokens.size();
        for (int32_t id = 0; id < vocab_size; id++)
            tree.at(!unwritten.empty() && unwritten[id] ? 2 : 1, tokens[id]) = id;
    }
    // merge_where(i) says where merge i stands.
    void build(const std::string& where, const std::function<std::string(size_t)>& merge_where) {
        build_index(where);
        std::string missing;
        for (int b = 0; b < 256; b++) {
            byte_id[b] = id_of(byte_level ? std::string(1, (char)b) : format("<0x%02X>", b));
            if (byte_id[b] < 0) missing = format("0x%02x (%s)", b, byte_names.name(std::string(1, (char)b)).c_str());
        }
        // GPT-2's own files have all bytes; other vocabularies may leave some out, which then become unk_token or
        // nothing, as in tokenizers
        if (!missing.empty() && (byte_fallback || files.all.kind == Json::null) && (byte_level || byte_fallback))
            fail("%s: expected a token for each of the 256 bytes, found none for %s: this is no %s vocabulary",
                where.c_str(), missing.c_str(), byte_level ? "byte-level" : "byte_fallback");

        special.added.number(
            tokens.size(), [&](const std::string& content) { return id_of_name(content); },
            [&](const std::string& content) { tokens.push_back(content); });
        auto normalized = [&](const std::string& text) { return normalizer.normalized(text); };
        special.added.build(normalized);
        special.find_stops(files, tokens.size());
        special_id.assign(tokens.size(), false);
        shown.clear();
        for (const AddedToken& t : special.added.tokens) {
            special_id[t.id] = t.special;
            if (t.normalized && normalized(t.content) != t.content) shown[t.id] = normalized(t.content);
        }
        eot_id = special.added.id_of(special.role("eos_token"));
        if (eot_id < 0) eot_id = special.stops.empty() ? special.added.id_of(eot_name) : special.stops[0];
        bos_id = special.added.id_of(special.role("bos_token"));

        size_t capacity = 64;
        while (capacity < 2 * merges.size() + 2) capacity *= 2;
        table.assign(capacity, {0, 0, -1});
        cuts_before_marks = !byte_level && id_of(mark) >= 0;
        for (size_t i = 0; i < merges.size(); i++) {
            auto [left, right] = merges[i];
            const std::string both = tokens[left] + tokens[right];
            const int32_t joined = id_of(both);
            if (joined < 0)
                fail("%s: expected the pair %s %s to make a token, found no %s in the vocabulary",
                    merge_where(i).c_str(), name(left).c_str(), name(right).c_str(),
                    (name(left) + name(right)).c_str());
            if (find(left, right))
                fail("%s: the pair %s %s stands in %s already", merge_where(i).c_str(), name(left).c_str(),
                    name(right).c_str(), merge_where(find(left, right)->rank).c_str());
            if (is_special(left) || is_special(right) || is_special(joined)) continue;  // never comes out of text
            uint64_t pair = (uint64_t)left << 32 | (uint32_t)right;
            uint64_t at = (pair * 0x9E3779B97F4A7C15) >> 32 & (capacity - 1);
            while (table[at].id >= 0) at = (at + 1) & (capacity - 1);
            table[at] = {pair, (int32_t)i, joined};
            cuts_before_marks = cuts_before_marks && both.find(mark, end_of_marks(both, 0)) == both.npos;
        }
        static std::atomic<uint64_t> built{0};
        serial = ++built;
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
        static uint32_t hash(std::string_view w) {
            uint64_t h = w.size();
            for (; !w.empty(); w.remove_prefix(std::min<size_t>(w.size(), 8))) {
                uint64_t eight = 0;
                memcpy(&eight, w.data(), std::min<size_t>(w.size(), 8));
                h = (h ^ eight) * 0x9E3779B97F4A7C15;
                h ^= h >> 32;
            }
            return h;
        }
        Entry& entry(std::string_view w, uint32_t h) {  // where the word is, or the free place for it
            for (size_t i = h & (capacity - 1);; i = (i + 1) & (capacity - 1)) {
                Entry& e = entries[i];
                if (e.bytes == 0 ||
                    (e.hash == h && e.bytes == w.size() && memcmp(&bytes[e.bytes_at], w.data(), e.bytes) == 0))
                    return e;
            }
        }
    };

    // What a word begins as: a token for each byte or character, or what stands for it where it has none
    void pieces_of(std::string_view word, std::vector<int32_t>& out) const {
        bool unknown = false;  // what came before
        for (const char *p = word.data(), *end = p + word.size(); p < end;) {
            const char* at = p++;
            if (!byte_level) next_code_point(p = at, end);
            int32_t id = byte_level ? byte_id[(uint8_t)*at] : id_of({at, (size_t)(p - at)});
            bool fused = unknown && fuse_unk;
            unknown = id < 0 && !byte_fallback;
            if (id >= 0) out.push_back(id);
            else if (byte_fallback)
                for (; at < p; at++) out.push_back(byte_id[(uint8_t)*at]);
            else if (unk >= 0 && !fused) out.push_back(unk);
        }
    }

    // Merges with a heap of (rank, place): n log n also for a word of a million letters
    void encode_word(std::string_view word, std::vector<int32_t>& ids, Cache& cache) const {
        std::vector<int32_t>& piece = cache.piece;                         // place → its token; −1: gone
        std::vector<int32_t>&before = cache.before, &after = cache.after;  // its neighbours; −1, n: none
        std::vector<uint64_t>& heap = cache.heap;
        if (ignore_merges)
            if (int32_t id = id_of(word); id >= 0 && !is_special(id)) return ids.push_back(id);
        piece.clear();
        pieces_of(word, piece);
        const size_t n = piece.size();
        before.resize(n);
        after.resize(n);
        heap.clear();
        for (size_t i = 0; i < n; i++) {
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

    // Appends the ids of `text`, without what the post-processor adds. place: GOES_ON if it was cut off from what was
    // encoded before. Returns how many bytes are not UTF-8 (they are kept). Safe to call from several threads.
    size_t encode(std::string_view text, std::vector<int32_t>& ids, Specials specials = SPECIALS_PARSED,
        Steps::Place place = Steps::FIRST) const {
        if (text.size() > INT32_MAX)
            fail("cannot encode a text of %zu bytes at once: expected less than 2 GB", text.size());
        static thread_local Cache cache;
        if (cache.serial != serial) cache.clear(serial);
        auto known_word = [&](std::string_view w) {
            if (w.size() > Cache::longest) return encode_word(w, ids, cache);
            const uint32_t h = Cache::hash(w);
            Cache::Entry* e = &cache.entry(w, h);
            if (e->bytes == 0) {
                if (cache.used++ == Cache::capacity / 2) {
                    cache.clear(serial);
                    e = &cache.entry(w, h);
                }
                *e = {h, (uint32_t)cache.bytes.size(), (uint32_t)cache.ids.size(), (uint16_t)w.size(), 0};
                cache.bytes.append(w);
                encode_word(w, cache.ids, cache);
                e->ids = cache.ids.size() - e->ids_at;
            }
            ids.insert(ids.end(), cache.ids.begin() + e->ids_at, cache.ids.begin() + e->ids_at + e->ids);
        };
        auto word = [&](const char* w, size_t n) {
            const std::string_view all(w, n);
            if (!cuts_before_marks) return known_word(all);
            for (size_t begin = 0, end; begin < n; begin = end) {
                end = std::min(all.find(mark, end_of_marks(all, begin)), n);
                known_word(all.substr(begin, end - begin));
            }
        };
        const char* begin = nullptr;  // of what the normalizer gave, if it is the text's first
        auto place_of = [&](const char* p, const char* first) { return p == first ? place : Steps::LATER; };
        auto normalize = [&](std::string_view raw, std::string& room) {
            std::string_view s = raw;
            if (!normalizer.steps.empty())
                s = room = normalizer.normalized(std::string(raw), place_of(raw.data(), text.data()));
            begin = raw.data() == text.data() ? s.data() : nullptr;
            return s;
        };
        auto piece = [&](std::string_view s) { words.split(s, place_of(s.data(), begin), word); };
        special.added.split(
            text, specials == SPECIALS_AS_TEXT, normalize, piece, [&](int32_t id) { ids.push_back(id); });
        return count_invalid(text);
    }
    std::vector<int32_t> encode(std::string_view text, Specials specials = SPECIALS_PARSED) const {
        std::vector<int32_t> ids;
        encode(text, ids, specials);
        return ids;
    }
    // How many bytes of a text have no token and are left out, as tokenizers does it
    size_t count_lost(std::string_view text) const {
        if (!byte_level || unk >= 0) return 0;
        return std::count_if(text.begin(), text.end(), [&](char b) { return byte_id[(uint8_t)b] < 0; });
    }

    // Calls on_text(part) and on_token(id) for the parts of a text between added tokens and these, in order.
    template <class OnText, class OnToken>
    void each_added(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
        special.added.split(text, false, [](std::string_view t, std::string&) { return t; }, on_text, on_token);
    }
    // The text of the ids, every byte of it: a character whose bytes are not all there is not UTF-8. begins: the first
    // of them begins a text, so that SentencePiece's space before it goes. skip_special: without special tokens
    std::string decode(const int32_t* ids, size_t n, bool begins = true, bool skip_special = false) const {
        std::string out;
        bool first = begins;
        for (size_t i = 0; i < n; i++) {
            if (skip_special && is_special(ids[i])) continue;
            auto other = shown.empty() ? shown.end() : shown.find(ids[i]);
            const std::string& t = other != shown.end() ? other->second : tokens[checked_id(ids[i], size())];
            const bool is_byte = decodes_bytes && starts_with(t, "<0x");
            const int byte = is_byte ? std::find(byte_id, byte_id + 256, ids[i]) - byte_id : 256;
            if (byte < 256) out += (char)byte;
            else if (byte_level) out += t;
            else
                for (size_t at = 0, end; at < t.size(); at = end + 3) {
                    end = std::min(t.find(mark, at), t.size());
                    out.append(t, at, end - at);
                    if (end < t.size() && !(first && strips_first_token)) out += ' ';
                }
            first = false;
        }
        if (begins && strips_space && !out.empty() && out[0] == ' ') out.erase(0, 1);
        return out;
    }
    std::string decode(const std::vector<int32_t>& ids) const { return decode(ids.data(), ids.size()); }

    // What decides about the ids besides tokens and merges, as a text
    std::string rules() const {
        std::string r = format("%d%d%d%d %d ", byte_level, byte_fallback, ignore_merges, fuse_unk, unk) +
                        normalizer.description() + "/" + words.description();
        for (AddedToken t : special.added.tokens) {
            t.normalized = t.normalized && !normalizer.steps.empty();
            r += format(" %zu", t.content.size()) + t.flags() + t.content;
        }
        return r;
    }
    // A hash of all that decides about the ids: data files carry it, so that no program trains on ids of another
    // tokenizer. Of GPT-2's rules it says nothing.
    uint64_t fingerprint() const {
        uint64_t h = fnv1a("bpe", 3);
        for (const std::string& t : tokens) {
            uint32_t n = t.size();
            h = fnv1a(t.data(), n, fnv1a(&n, 4, h));
        }
        for (auto [left, right] : merges) h = fnv1a(&right, 4, fnv1a(&left, 4, h));
        const std::string r = rules();
        return r == Bpe().rules() ? h : fnv1a(r.data(), r.size(), h);
    }

    // ------------------------------------------------------------ directories
    // Is what this directory holds a BPE tokenizer? (Else it may be WordPiece's, or none.)
    static bool is_in(const std::string& dir) {
        if (exists(dir + "/vocab.txt")) return false;
        for (const char* name : {"vocab.json", "encoder.json", "merges.txt", "vocab.bpe", "tokenizer.model"})
            if (exists(dir + "/" + name)) return true;
        if (!exists(dir + "/tokenizer.json")) return false;
        std::string all = read_file(dir + "/tokenizer.json");  // parsing takes long
        auto is_blank = [](char c) { return std::string_view(" \t\r\n").find(c) != std::string_view::npos; };
        all.erase(std::remove_if(all.begin(), all.end(), is_blank), all.end());
        return all.find(R"("type":"BPE")") != all.npos;
    }

    static Bpe load(const std::string& dir) {
        Bpe b;
        TokenizerFiles& f = b.files;
        f = TokenizerFiles::read(dir);
        auto either = [&](const char* name, const char* stock_name) { return f.find(name) ? name : stock_name; };
        const char *vocab = either("vocab.json", "encoder.json"), *merges = either("merges.txt", "vocab.bpe");
        b.special = SpecialTokens::read(f);
        const std::string all = f.path("tokenizer.json");
        if (f.all.kind != Json::null)
            b.read_all(f.all, all, [&](size_t i) { return format("%s, merge %zu", all.c_str(), i + 1); });
        else if (f.find(vocab) && f.find(merges)) b.read_stock(vocab, merges);
        else if (f.find(vocab) || f.find(merges))
            fail("%s: expected %s beside %s, found none", dir.c_str(),
                f.find(vocab) ? "merges.txt or vocab.bpe" : "vocab.json or encoder.json",
                f.path(f.find(vocab) ? vocab : merges).c_str());
        else if (f.find("tokenizer.model"))
            fail(
                "%s: expected tokenizer.json beside tokenizer.model, found none; make it with: data/pretrained.py %s "
                "--out ANOTHER_DIR",
                dir.c_str(), dir.c_str());
        else
            fail(
                "%s: expected vocab.json and merges.txt, or tokenizer.json, found none; make them with: data/tokenize "
                "learn --type bpe --out %s FILE",
                dir.c_str(), dir.c_str());
        b.read_config();
        f.all = Json();  // f.bytes has it
        return b;
    }

    void read_tokens(const Json& vocab, const std::string& where) {
        tokens = read_vocab(vocab, where);
        unwritten.assign(byte_level ? tokens.size() : 0, false);
        std::string bytes;
        for (size_t id = 0; byte_level && id < tokens.size(); id++) {
            unwritten[id] = !byte_names.bytes(tokens[id], bytes);
            if (!unwritten[id]) tokens[id] = bytes;
            else if (!special.added.find(tokens[id]))
                fail(
                    "%s: expected bytes as printable characters in the token of id %zu, found \"%s\": this is no "
                    "byte-level vocabulary",
                    where.c_str(), id, tokens[id].c_str());
        }
        build_index(where);
    }

    // GPT-2's files, which say nothing about rules: those are what transformers' class of this name has
    void read_stock(const char* vocab_name, const char* merges_name) {
        const std::string where = files.path(vocab_name), merges_path = files.path(merges_name);
        const std::string config = files.path("tokenizer_config.json");
        const std::string type = json_text(files.config, config, "tokenizer_class", "GPT2Tokenizer");
        const std::string slow = type.size() > 4 && ends_with(type, "Fast") ? type.substr(0, type.size() - 4) : type;
        const bool qwen2 = slow == "Qwen2Tokenizer";
        if (!qwen2 && slow != "GPT2Tokenizer" && slow != "PreTrainedTokenizer")
            fail(
                "%s: tokenizer_class: expected GPT2Tokenizer or Qwen2Tokenizer where there is no tokenizer.json, "
                "found %s",
                config.c_str(), slow.c_str());
        const bool adds_space = json_flag(files.config, config, "add_prefix_space", false);
        const Json vocab = parse_json(*files.find(vocab_name), where);
        if (!contains(read_vocab(vocab, where), std::string(eot_name)) && special.role("eos_token").empty())
            fail("%s: expected the token %s, found none: this is no GPT-2 vocabulary", where.c_str(), eot_name);
        for (const char* role : {"bos_token", "eos_token", "unk_token"})
            if (!qwen2 || role[0] != 'b') special.set_default(role, eot_name);

        std::vector<std::string_view> lines = TokenizerFiles::lines(*files.find(merges_name));
        const size_t first = !lines.empty() && starts_with(lines[0], "#version");  // line with a pair, from 0
        if (!lines.empty() && lines.back().empty()) lines.pop_back();
        Json pairs = Json::make_array();
        for (size_t i = first; i < lines.size(); i++) pairs.a.push_back(std::string(lines[i]));
        read_all(stock(vocab, pairs, qwen2), where,
            [&](size_t i) { return format("%s, line %zu", merges_path.c_str(), first + i + 1); });
        if (adds_space) words.steps.insert(words.steps.begin(), {Step::PREFIX, "", " "});
    }

    // tokenizer.json. merge_where(i) says where merge i stands: only an error asks
    void read_all(const Json& json, const std::string& where, const std::function<std::string(size_t)>& merge_where) {
        const Json& model = model_of(json, where, "BPE",
            {"dropout", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "merges"});
        const Json* list = json_member(model, where + ": model", "merges", Json::array);
        if (!list) fail("%s: expected a model of type BPE with merges, found none", where.c_str());
        for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
            if (const Json* value = model.find(key))
                if (value->kind != Json::null && (value->kind == Json::string ? !value->s.empty() : value->d != 0))
                    fail("%s: model: %s: expected none, found %.60s: tokenizers with this rule are not supported",
                        where.c_str(), key, dump_json(*value).c_str());
        normalizer = read_steps(json, where, "normalizer", "NFC, Prepend, Replace");
        words = read_steps(json, where, "pre_tokenizer", "ByteLevel, Digits, Split, Metaspace");
        byte_level = words.byte_level;
        byte_fallback = json_flag(model, where, "byte_fallback", false) && !byte_level;
        ignore_merges = json_flag(model, where, "ignore_merges", false);
        fuse_unk = json_flag(model, where, "fuse_unk", false);
        read_tokens(*model.find("vocab"), where);
        if (const std::string name = json_text(model, where, "unk_token"); !name.empty()) {
            unk = id_of_name(name);
            if (unk < 0) fail("%s: model: the unk_token %s is not in the vocabulary", where.c_str(), name.c_str());
        }
        if (!byte_level && !byte_fallback && unk < 0)
            fail(
                "%s: model: expected byte_fallback or an unk_token, found none: characters without a token would be "
                "lost",
                where.c_str());
        for (const Json& pair : list->a) {  // "left right" or ["left", "right"]
            const size_t space = std::min(pair.s.find(' '), pair.s.size());
            const bool two = pair.a.size() == 2;
            const std::string left = two ? pair.a[0].s : pair.s.substr(0, space);
            const std::string right = two ? pair.a[1].s : pair.s.substr(std::min(space + 1, pair.s.size()));
            merges.push_back({id_of_name(left), id_of_name(right)});
            if (merges.back().first < 0 || merges.back().second < 0)
                fail("%s: expected two tokens of the vocabulary with a space between them, found \"%.60s\", \"%.60s\"",
                    merge_where(merges.size() - 1).c_str(), left.c_str(), right.c_str());
        }
        build(where, merge_where);
        read_post_processor(json.find("post_processor"), where + ": post_processor");
        read_decoder(json.find("decoder"), where + ": decoder");
    }

    void read_post_processor(const Json* rule, const std::string& where) {
        for (const Json& r : rules_of(rule, where, "processors")) {
            const std::string type = json_text(r, where, "type");
            if (type == "ByteLevel") continue;
            if (type != "TemplateProcessing")
                refuse_rule(where, r, "ByteLevel, TemplateProcessing, a Sequence of them or null");
            refuse_unknown_keys(r, where, {"type", "single", "pair", "special_tokens"});
            const Json *single = json_member(r, where, "single", Json::array), none;
            const Json* known = json_member(r, where, "special_tokens", Json::object);
            std::vector<int32_t> before, after;
            size_t texts = 0;
            for (const Json& part : single ? single->a : none.a) {
                const Json *token = part.find("SpecialToken"), *name = token ? token->find("id") : nullptr;
                const Json* entry = known && name ? known->find(name->s) : nullptr;
                const Json* ids = entry ? json_member(*entry, where, "ids", Json::array) : nullptr;
                if (part.find("Sequence")) texts++;
                else if (!ids) refuse_rule(where, r, "the ids of its special tokens");
                for (const Json& id : ids ? ids->a : none.a) {
                    if (id.kind != Json::integer || id.i < 0 || (size_t)id.i >= size())
                        refuse_rule(where, r, format("ids from 0 to %zu", size() - 1));
                    (texts ? after : before).push_back((int32_t)id.i);
                }
            }
            if (texts != 1) refuse_rule(where, r, "one text in its \"single\"");
            prefix.insert(prefix.begin(), before.begin(), before.end());
            suffix.insert(suffix.end(), after.begin(), after.end());
        }
    }

    void read_decoder(const Json* rule, const std::string& where) {
        bool spaces = false, fused = false;
        for (const Json& r : rules_of(rule, where, "decoders")) {
            const std::string type = json_text(r, where, "type");
            auto is = [&](const char* text) { return same_json(r, parse_json(text, where)); };
            if (byte_level) {
                if (type != "ByteLevel") refuse_rule(where, r, "ByteLevel");
            } else if (type == "Metaspace" && json_text(r, where, "replacement") == mark) {
                spaces = true;
                strips_first_token = json_flag(r, where, "add_prefix_space", true) &&
                                     json_text(r, where, "prepend_scheme", "always") != "never";
            } else if (is(R"({"type": "Replace", "pattern": {"String": "▁"}, "content": " "})")) {
                spaces = true;
            } else if (type == "ByteFallback") {
                decodes_bytes = true;
            } else if (type == "Fuse") {
                fused = true;
            } else if (fused && is(R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})")) {
                strips_space = true;
            } else {
                refuse_rule(where, r,
                    "Metaspace, or a Sequence of Replace ▁ by a space, ByteFallback, Fuse and Strip of one "
                    "space at the beginning");
            }
        }
        if (!byte_level && !spaces)
            fail("%s: expected Metaspace or Replace, which make spaces of ▁, found neither", where.c_str());
    }

    void read_config() {
        const Json& c = files.config;
        const std::string where = files.path("tokenizer_config.json");
        const bool adds = words.has(Step::PREFIX) || words.has(Step::PREFIX_FIRST) || normalizer.has(Step::PREPEND);
        for (auto [key, expected, why] :
            {std::tuple{"split_special_tokens", false, "programs say by themselves which special tokens are text"},
                {"add_prefix_space", adds, "the rules of tokenizer.json have it so"}})
            if (json_flag(c, where, key, expected) != expected)
                fail("%s: %s: expected %s, found %s: %s", where.c_str(), key, expected ? "true" : "false",
                    expected ? "false" : "true", why);
        const bool bos = json_flag(c, where, "add_bos_token", false), eos = json_flag(c, where, "add_eos_token", false);
        if (c.find("add_bos_token") ||
            c.find("add_eos_token")) {  // no matter what tokenizer.json says, as transformers
            prefix.assign(bos && bos_id >= 0, bos_id);
            suffix.assign(eos && eot_id >= 0, eot_id);
        }
        add_bos = !prefix.empty();
    }

    static Json level(bool adds_space, bool by_expression) {
        const Json rule = Json().set("type", "ByteLevel").set("add_prefix_space", adds_space);
        return Json(rule).set("trim_offsets", true).set("use_regex", by_expression);
    }
    // tokenizer.json where only vocab.json and merges.txt are there
    static Json stock(const Json& vocab, const Json& pairs, bool qwen2, bool adds_space = false,
        const Json& added = Json::make_array()) {
        Json all = parse_json(R"({"version": "1.0", "truncation": null, "padding": null})", "");
        Json model = parse_json(R"({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false})",
            "");
        Json rule = level(adds_space, !qwen2), pre = rule, split = Json().set("type", "Split");
        split.set("pattern", Json().set("Regex", known_regexes[2].second)).set("behavior", "Isolated");
        split.set("invert", false);
        if (qwen2) pre = Json().set("type", "Sequence").set("pretokenizers", Json::make_array({split, rule}));
        all.set("added_tokens", added).set("normalizer", qwen2 ? Json().set("type", "NFC") : Json());
        all.set("pre_tokenizer", pre).set("post_processor", rule).set("decoder", rule);
        return all.set("model", model.set("vocab", vocab).set("merges", pairs));
    }
    Json json() const {
        Json pairs = Json::make_array();
        for (auto [left, right] : merges) pairs.a.push_back(Json::make_array({name(left), name(right)}));
        return stock(vocabulary(), pairs, words.has(Step::QWEN2), words.has(Step::PREFIX), special.added.json());
    }
    Json vocabulary() const {
        std::vector<std::string> names;
        for (int32_t id = 0; id < vocab_size; id++) names.push_back(name(id));
        return vocab_json(names);
    }
    // add_bos as transformers reads it: bos() before the text, or nothing
    Json post_processor() const {
        const Json bytes = byte_level ? level(false, true) : Json();
        if (!add_bos) return bytes;
        const TemplatePart first = {tokens[bos()], bos()};
        const Json begins = make_template({first, {"A"}}, {first, {"A"}, {"B", -1, 1}});
        if (!byte_level) return begins;
        return Json().set("type", "Sequence").set("processors", Json::make_array({bytes, begins}));
    }

    // Writes all files that were read, as they were, and tokenizer.json and tokenizer_config.json, so that transformers
    // gives the same ids. max_len: what transformers takes for the model's longest input
    void save(const std::string& dir, int max_len = 1024) const {
        const std::string* all = files.find("tokenizer.json");
        const bool changed = add_bos != !prefix.empty();  // by a program
        Json config = files.config;
        if (config.kind == Json::null) {
            config.set("tokenizer_class", "GPT2Tokenizer");
            if (byte_level) config.set("add_prefix_space", words.has(Step::PREFIX));
            config.set("add_bos_token", add_bos).set("model_max_length", max_len);
            if (eot_id >= 0) config.set("bos_token", tokens[bos()]).set("eos_token", tokens[eot_id]);
            if (!special.roles[2].empty()) config.set("unk_token", special.roles[2]);
            config.set("clean_up_tokenization_spaces", false);
        }
        // These classes have rules of their own, no matter what tokenizer.json says
        const std::string type = json_text(config, dir, "tokenizer_class");
        const std::string steps = normalizer.description() + "/" + words.description();
        const bool plain = byte_level && !ignore_merges && unk < 0;
        if (!(plain && starts_with(type, "GPT2Tokenizer") && steps == "/gpt2;") &&
            !(plain && starts_with(type, "Qwen2Tokenizer") && steps == "nfc;/qwen2;"))
            config.set("tokenizer_class", "PreTrainedTokenizerFast");
        if (changed) config.set("add_bos_token", add_bos);
        if (add_bos && prefix.empty()) config.set("bos_token", tokens[bos()]);
        files.save(dir, config, max_len);
        if (changed || !all) {
            Json rules = all ? parse_json(*all, files.path("tokenizer.json")) : json();
            if (changed) rules.set("post_processor", post_processor());  // transformers looks for it there
            write_file_atomic(dir + "/tokenizer.json", dump_json(rules) + "\n");
        }
        if (all) return;
        std::string lines = "#version: 0.2\n";
        for (auto [left, right] : merges) lines += name(left) + " " + name(right) + "\n";
        write_file_atomic(dir + "/vocab.json", dump_json(vocabulary()) + "\n");
        write_file_atomic(dir + "/merges.txt", lines);
    }
};
