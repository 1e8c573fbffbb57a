// bpe.h: byte pair encoding (Sennrich et al. 2016): a word is a sequence of tokens; of all pairs of neighbours the one
// that was learned first is merged, the leftmost where it stands several times; again, until no pair was learned.
//                  " unpack"  →  " " "u" "n" "p" "a" "c" "k"  →  … →  " un" "pack"
// tokenizer.h says what a word begins as, and which tokenizers do so.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/unicode.h"

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

// ---------------------------------------------------------------- merging
struct MergeTable {
    struct Merge {
        uint64_t pair;     // left << 32 | right
        int32_t rank, id;  // when it was learned; the token that it makes. id < 0: free
    };
    std::vector<Merge> table;  // a hash table with open addressing, a power of two, at most half full

    void reset(size_t merges) {
        size_t capacity = 64;
        while (capacity < 2 * merges + 2) capacity *= 2;
        table.assign(capacity, {0, 0, -1});
    }
    static uint64_t pair_of(int32_t left, int32_t right) { return (uint64_t)left << 32 | (uint32_t)right; }
    size_t place(uint64_t pair) const {  // where it is, or the free place for it
        const uint64_t mask = table.size() - 1;
        uint64_t i = (pair * 0x9E3779B97F4A7C15) >> 32 & mask;
        while (table[i].id >= 0 && table[i].pair != pair) i = (i + 1) & mask;
        return i;
    }
    const Merge* find(int32_t left, int32_t right) const {  // nullptr: not a pair that was learned
        const Merge& m = table[place(pair_of(left, right))];
        return m.id < 0 ? nullptr : &m;
    }
    void add(int32_t left, int32_t right, int32_t rank, int32_t id) {
        const uint64_t pair = pair_of(left, right);
        table[place(pair)] = {pair, rank, id};
    }

    struct Room {  // to work in; `piece` is the word
        std::vector<int32_t> piece, before, after;
        std::vector<uint64_t> heap;
    };
    // The tokens of a word → `ids`. With a heap of (rank, place): n log n also for a word of a million letters
    void merge(Room& room, std::vector<int32_t>& ids) const {
        std::vector<int32_t>& piece = room.piece;                        // place → its token; −1: gone
        std::vector<int32_t>&before = room.before, &after = room.after;  // its neighbours; −1, n: none
        std::vector<uint64_t>& heap = room.heap;
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
};

// Words that were encoded before, and their ids; one cache for each thread
struct WordCache {
    struct Entry {  // free if bytes == 0
        uint32_t hash, bytes_at, ids_at;
        uint16_t bytes, ids;
    };
    static constexpr size_t capacity = 1 << 17, longest = 64;  // longest: in bytes
    uint64_t vocabulary = 0;                                   // whose ids these are
    std::vector<Entry> entries;                                // a hash table with open addressing, at most half full
    size_t used = capacity / 2;
    std::string bytes;
    std::vector<int32_t> ids;

    // The ids of a word: encode() appends them where it is new
    template <class Encode> void find(std::string_view w, uint64_t of, std::vector<int32_t>& out, Encode encode) {
        if (vocabulary != of || used == capacity / 2) {
            vocabulary = of;
            used = 0;
            entries.assign(capacity, {0, 0, 0, 0, 0});
            bytes.clear();
            ids.clear();
        }
        uint64_t h = w.size();
        for (std::string_view rest = w; !rest.empty(); rest.remove_prefix(std::min<size_t>(rest.size(), 8))) {
            uint64_t eight = 0;
            memcpy(&eight, rest.data(), std::min<size_t>(rest.size(), 8));
            h = (h ^ eight) * 0x9E3779B97F4A7C15;
            h ^= h >> 32;
        }
        const uint32_t hash = h;
        size_t i = hash & (capacity - 1);
        auto is_it = [&](const Entry& e) {
            return e.hash == hash && e.bytes == w.size() && memcmp(&bytes[e.bytes_at], w.data(), e.bytes) == 0;
        };
        while (entries[i].bytes != 0 && !is_it(entries[i])) i = (i + 1) & (capacity - 1);
        Entry& e = entries[i];
        if (e.bytes == 0) {
            e = {hash, (uint32_t)bytes.size(), (uint32_t)ids.size(), (uint16_t)w.size(), 0};
            used++;
            bytes.append(w);
            encode(w, ids);
            e.ids = ids.size() - e.ids_at;
        }
        out.insert(out.end(), ids.begin() + e.ids_at, ids.begin() + e.ids_at + e.ids);
    }
};
