// added_tokens.h: tokens that are cut out of a text before a tokenizer's own rules see it: [MASK], <|im_start|>. The
// rules are those of AddedVocabulary in Hugging Face's tokenizers:
//
//   1 tokens with normalized = false are looked for in the text as it stands
//   2 what lies between them is normalised, by the tokenizer's own rule, and those with normalized = true, normalised
//     in the same way, are looked for in that
//   3 what lies between these goes to the pre-tokenizer
//
// In both passes the leftmost match counts, and of several that begin there the longest; of tokens that are the same
// after normalisation the one that is named first (which one Hugging Face takes changes from run to run). single_word:
// a match beside a letter, a digit or "_" is text. lstrip, rstrip: white space before, after it belongs to the match.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/errors.h"
#include "common/base/json.h"
#include "common/base/unicode.h"

// Strings as a tree of bytes, so that one walk finds the longest of them that begins at a place of a text
struct ByteTree {
    // A node is a number; (node, byte) → node is a hash table with open addressing. 0 = nothing there; the roots are
    // nodes 1 and 2: two sets of strings in one tree.
    struct Edge {  // key = node << 8 | byte; free if node == 0
        uint32_t key, node;
    };
    std::vector<Edge> edges;     // a power of two, at most half full
    std::vector<int32_t> value;  // node → what add() was given for the string that ends here, or −1

    // An empty tree with room for strings of so many bytes together. `where` begins the message of an error.
    void reset(size_t bytes, const std::string& where) {
        if (bytes >= 1 << 24)
            fail("%s: expected tokens of less than 16 MB together, found %zu bytes", where.c_str(), bytes);
        size_t capacity = 64;
        while (capacity < 2 * bytes) capacity *= 2;
        edges.assign(capacity, {0, 0});
        value.assign(3, -1);
    }
    // The place of an edge in `edges`, or the free one where it would be
    uint32_t edge(uint32_t node, uint8_t byte) const {
        uint32_t key = node << 8 | byte, mask = edges.size() - 1;
        uint32_t i = (key * 2654435761u) >> 7 & mask;
        while (edges[i].node && edges[i].key != key) i = (i + 1) & mask;
        return i;
    }
    // The value at `s`, −1 if it was not there before
    int32_t& at(uint32_t root, std::string_view s) {
        uint32_t node = root;
        for (char byte : s) {
            Edge& e = edges[edge(node, byte)];
            if (!e.node) {
                e = {node << 8 | (uint8_t)byte, (uint32_t)value.size()};
                value.push_back(-1);
            }
            node = e.node;
        }
        return value[node];
    }
    // The value of the longest string that begins at p, and `match` moved to its end; −1 if there is none
    int32_t longest(uint32_t root, const char* p, const char* end, const char*& match) const {
        int32_t found = -1;
        for (uint32_t node = root; p < end && (node = edges[edge(node, *p)].node);) {
            p++;
            if (value[node] >= 0) {
                found = value[node];
                match = p;
            }
        }
        return found;
    }
    int32_t find(uint32_t root, std::string_view s) const {  // the value at `s`, −1: not there
        const char *end = s.data() + s.size(), *match = s.data();
        const int32_t found = longest(root, s.data(), end, match);
        return match == end ? found : -1;
    }
};

struct AddedToken {
    std::string content;
    int32_t id = -1;  // −1: the next free one
    bool special = false, normalized = true, lstrip = false, rstrip = false, single_word = false;
    std::string where;  // the file that names it
    std::string flags() const { return format("%d%d%d%d%d", special, normalized, lstrip, rstrip, single_word); }
};

struct AddedTokens {
    std::vector<AddedToken> tokens;
    bool any_normalized = false;  // has step 2 anything to look for?

    std::vector<AddedToken> by_id() const {
        std::vector<AddedToken> sorted = tokens;
        std::stable_sort(sorted.begin(), sorted.end(), [](auto& x, auto& y) { return x.id < y.id; });
        return sorted;
    }
    Json json() const {  // as tokenizer.json lists them
        Json list = Json::make_array();
        for (const AddedToken& t : by_id()) {
            Json token = Json().set("id", t.id).set("content", t.content).set("single_word", t.single_word);
            token.set("lstrip", t.lstrip).set("rstrip", t.rstrip).set("normalized", t.normalized);
            list.a.push_back(token.set("special", t.special));
        }
        return list;
    }
    const AddedToken* find(std::string_view content) const {
        for (const AddedToken& t : tokens)
            if (t.content == content) return &t;
        return nullptr;
    }
    int32_t id_of(std::string_view content) const {  // −1: none, or it has no id yet
        const AddedToken* t = find(content);
        return t ? t->id : -1;
    }

    // Gives each token its id: id_of(content), the one that the vocabulary of `size` tokens has for it, else the next
    // after the vocabulary, in their order, for which append(content) is called. A file that says another id is
    // refused.
    template <class IdOf, class Append> void number(size_t size, IdOf id_of, Append append) {
        for (AddedToken& t : tokens) {
            int32_t id = id_of(t.content);
            bool is_new = id < 0;
            if (is_new) id = (int32_t)size++;
            if (t.id >= 0 && t.id != id)
                fail("%s: the added token %s has the id %d; expected %d, %s", t.where.c_str(), t.content.c_str(), t.id,
                    id, is_new ? "the first that is free" : "as in the vocabulary");
            t.id = id;
            if (is_new) append(t.content);
        }
    }

    // After number(): what split() needs. normalize(text) → text, the tokenizer's rule
    template <class Normalize> void build(Normalize normalize) {
        size_t bytes = 0;
        std::vector<std::string> as(tokens.size());
        memset(begins, 0, sizeof begins);
        any_normalized = false;
        for (size_t i = 0; i < tokens.size(); i++) {
            as[i] = tokens[i].normalized ? normalize(tokens[i].content) : tokens[i].content;
            bytes += as[i].size();
            if (as[i].empty())
                fail("%s: the added token \"%s\" is empty after normalisation", tokens[i].where.c_str(),
                    tokens[i].content.c_str());
        }
        tree.reset(bytes, tokens.empty() ? "" : tokens[0].where);
        for (size_t i = 0; i < tokens.size(); i++) {
            uint32_t root = tokens[i].normalized ? 2 : 1;
            if (int32_t& at = tree.at(root, as[i]); at < 0) at = (int32_t)i;
            begins[(uint8_t)as[i][0]] |= root;
            any_normalized |= tokens[i].normalized;
        }
        for (uint8_t root : {1, 2}) {
            auto is = [&](uint8_t roots) { return roots & root; };
            const uint8_t* first = std::find_if(begins, begins + 256, is);
            only[root] = std::count_if(begins, begins + 256, is) == 1 ? first - begins : 0;
        }
    }

    // Cuts `text`: calls piece(text) for what lies between the tokens, never empty, and token(id), in order.
    // normalize(text, room) → text: what it makes may lie in `room`, a string; the text itself where it does nothing.
    // specials_are_text: special tokens are left in the text as they are, as for what a user writes.
    template <class Normalize, class Piece, class Token> void split(
        std::string_view text, bool specials_are_text, Normalize&& normalize, Piece&& piece, Token&& token) const {
        std::string room;
        auto second = [&](std::string_view raw) {
            static_assert(std::is_same_v<decltype(normalize(raw, room)), std::string_view>, "a copy would be gone");
            std::string_view s = normalize(raw, room);
            if (any_normalized) pass(2, s, specials_are_text, piece, token);
            else if (!s.empty()) piece(s);
        };
        pass(1, text, specials_are_text, second, token);
    }

    // ------------------------------------------------------------ inside
    ByteTree tree;  // from root 1 the tokens of step 1, from root 2 those of step 2; values: places in `tokens`
    uint8_t begins[256] = {};  // of a byte: 1, 2 or both: some token of this root begins with it
    uint8_t only[3] = {};      // of a root: the byte that begins all its tokens, 0 if there are several

    template <class Piece, class Token>
    void pass(uint32_t root, std::string_view text, bool specials_are_text, Piece&& piece, Token&& token) const {
        const char *p = text.data(), *end = p + text.size(), *done = p, *stop = p;
        for (; p < end; p++) {
            if (only[root]) {  // one byte begins them all: it is found faster
                p = (const char*)memchr(p, only[root], end - p);
                if (!p) break;
            } else if (!(begins[(uint8_t)*p] & root)) {
                continue;
            }
            int32_t i = tree.longest(root, p, end, stop);
            if (i < 0) continue;
            const char *start = p, *after = stop;
            p = stop - 1;  // what matched is passed over, also where it turns out to be text
            const AddedToken& t = tokens[i];
            if (specials_are_text && t.special) continue;
            if (t.single_word && ((start > text.data() && is_word_char(last_code_point(text.data(), start))) ||
                                     (after < end && is_word_char(code_point_at(after, end)))))
                continue;
            if (t.lstrip) {
                while (start > done && is_space(last_code_point(done, start))) start = before_last(done, start);
                start = std::max(start, done);
            }
            if (t.rstrip)
                while (after < end && is_space(code_point_at(after, end))) next_code_point(after, end);
            if (start >= after) continue;  // the token before has taken all of it, as white space
            if (start > done) piece(std::string_view(done, start - done));
            token(t.id);
            done = after;
        }
        if (end > done) piece(std::string_view(done, end - done));
    }
    static int32_t code_point_at(const char* p, const char* end) { return next_code_point(p, end); }
    // Where the last code point before p begins (begin < p)
    static const char* before_last(const char* begin, const char* p) {
        const char* start = p - 1;
        while (start > begin && p - start < 4 && ((uint8_t)*start & 0xC0) == 0x80) start--;
        return start;
    }
    static int32_t last_code_point(const char* begin, const char* p) { return code_point_at(before_last(begin, p), p); }
};
