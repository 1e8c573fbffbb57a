// learn.h: how data/tokenize learns a vocabulary of WordPiece or BPE from words: the most frequent pair of neighbouring
// pieces becomes one, again and again.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <functional>
#include <queue>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/text/tokenizer.h"

typedef std::unordered_map<std::string, int64_t> WordCounts;  // word → how often

struct CountedWord {
    std::vector<int32_t> pieces;  // ids of tokens
    int64_t count;
};

// Merges, until there are `size` tokens, the pair of neighbouring pieces that is most frequent within the words. Of
// equally frequent pairs the lexicographically greater is taken (first piece, then second, by their bytes in `tokens`).
// Pairs that occur once are not merged, so few words can give fewer than `size` tokens. join(a, b) returns the id of
// what a and b become, a new token or one that is there already.
template <class Join> void merge_pairs(std::vector<CountedWord>& words, const std::vector<std::string>& tokens,
    size_t size, Join join, const std::function<void(size_t)>& progress) {
    // pairs of neighbours: how often, and in which words (a superset: words where the pair is gone are not taken out)
    struct Pair {
        int64_t count = 0;
        std::vector<int32_t> words;
    };
    std::unordered_map<uint64_t, Pair> pairs;
    auto key = [](int32_t a, int32_t b) { return (uint64_t)a << 32 | (uint32_t)b; };
    auto add = [&](int32_t a, int32_t b, int32_t w) {
        Pair& pair = pairs[key(a, b)];
        pair.count += words[w].count;
        if (pair.words.empty() || pair.words.back() != w) pair.words.push_back(w);
    };
    for (size_t w = 0; w < words.size(); w++)
        for (size_t i = 0; i + 1 < words[w].pieces.size(); i++) add(words[w].pieces[i], words[w].pieces[i + 1], w);

    // A heap of (count, pair). An entry whose count is no longer true is put back with the true one when it comes up;
    // a pair that becomes more frequent gets a new entry at once.
    typedef std::pair<int64_t, uint64_t> Entry;
    auto less = [&](const Entry& x, const Entry& y) {
        if (x.first != y.first) return x.first < y.first;
        int32_t xa = x.second >> 32, ya = y.second >> 32, xb = (int32_t)x.second, yb = (int32_t)y.second;
        return xa != ya ? tokens[xa] < tokens[ya] : tokens[xb] < tokens[yb];
    };
    std::priority_queue<Entry, std::vector<Entry>, decltype(less)> heap(less);
    for (const auto& [k, pair] : pairs) heap.push({pair.count, k});

    std::vector<uint64_t> more_frequent;
    while (tokens.size() < size && !heap.empty()) {
        auto [count, k] = heap.top();
        heap.pop();
        Pair& best = pairs[k];
        if (best.count < 2) continue;
        if (best.count != count) {
            if (best.count < count) heap.push({best.count, k});
            continue;
        }
        int32_t a = k >> 32, b = (int32_t)k, ab = join(a, b);
        std::vector<int32_t> in = std::move(best.words);
        pairs.erase(k);
        more_frequent.clear();
        for (int32_t w : in) {
            // … l a b r … becomes … l ab r …: the pairs (l,a) and (b,r) lose, (l,ab) and (ab,r) gain; the pieces after
            // it move up in place
            std::vector<int32_t>& piece = words[w].pieces;
            size_t to = 0, n = piece.size();
            auto lose = [&](int32_t x, int32_t y) {
                auto it = pairs.find(key(x, y));
                if (it != pairs.end()) it->second.count -= words[w].count;
            };
            auto gain = [&](int32_t x, int32_t y) {
                add(x, y, w);
                more_frequent.push_back(key(x, y));
            };
            for (size_t from = 0; from < n; to++) {
                if (from + 1 < n && piece[from] == a && piece[from + 1] == b) {
                    if (to > 0) {
                        lose(piece[to - 1], a);
                        gain(piece[to - 1], ab);
                    }
                    if (from + 2 < n) {
                        lose(b, piece[from + 2]);
                        gain(ab, piece[from + 2]);
                    }
                    piece[to] = ab;
                    from += 2;
                } else {
                    piece[to] = piece[from++];
                }
            }
            piece.resize(to);
        }
        std::sort(more_frequent.begin(), more_frequent.end());
        more_frequent.erase(std::unique(more_frequent.begin(), more_frequent.end()), more_frequent.end());
        for (uint64_t m : more_frequent) heap.push({pairs[m].count, m});
        if (progress) progress(tokens.size());
    }
}

// ---------------------------------------------------------------- WordPiece
// The words are what for_each_word finds; special tokens in the text do not count. Returns how many bytes are not
// UTF-8.
inline size_t count_words(const Tokenizer& rules, std::string_view text, WordCounts& counts) {
    auto word = [&](const char* w, size_t n) {
        if (!rules.too_long({w, n})) counts[std::string(w, n)]++;
    };
    return rules.for_each_word(text, word, [](int32_t) {});
}

// Learns `size` tokens: the five special ones, an alphabet, then pieces, each the union of the pair of neighbouring
// pieces that is most frequent within the words counted so far. Of equally frequent pairs the lexicographically
// greater is taken (first piece, then second, compared as vocab.txt has them). Alphabet: the 1000 most frequent
// characters (where `size` is small: (size - 5) / 2), each as the beginning and as the continuation of a word,
// where it occurs so. Words with other characters do not take part. Pairs that occur once are not merged, so a
// small text can give fewer than `size` tokens. The result depends on the counts only. progress(tokens so far) is
// called now and then.
inline Tokenizer learn_wordpiece(
    const WordCounts& counts, size_t size, bool lower_case, const std::function<void(size_t)>& progress = {}) {
    if (size < 32 || size > 1000000) fail_usage("expected a vocabulary of 32 to 1000000 tokens, found %zu", size);
    Tokenizer result(Tokenizer::WORDPIECE, lower_case);
    std::vector<std::string>& tokens = result.tokens;
    tokens.assign(Tokenizer::special_names, Tokenizer::special_names + 5);

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
        words, tokens, size, [&](int32_t a, int32_t b) { return token_id(tokens[a] + tokens[b].substr(2)); }, progress);
    result.build("the learned vocabulary");
    return result;
}

// ---------------------------------------------------------------- BPE
// The words of GPT-2's rules between special tokens. Returns how many bytes are not UTF-8.
inline size_t count_words(std::string_view text, WordCounts& counts) {
    const Steps gpt2{{{Step::GPT2}}};
    const size_t invalid = count_invalid(text);
    auto count = [&](const char* w, size_t n) { counts[std::string(w, n)]++; };
    for (size_t at; (at = text.find(Tokenizer::eot_name)) != text.npos;
        text.remove_prefix(at + strlen(Tokenizer::eot_name)))
        gpt2.split(text.substr(0, at), Steps::FIRST, count);
    gpt2.split(text, Steps::FIRST, count);
    return invalid;
}

// Learns `size` tokens: the 256 bytes in the order of GPT-2's vocabulary, what merge_pairs makes of them in the
// words counted so far, and <|endoftext|> as the last. The result depends on the counts only. progress(tokens so
// far) is called now and then.
inline Tokenizer learn_bpe(const WordCounts& counts, size_t size, const std::function<void(size_t)>& progress = {}) {
    if (size < 257 || size > 1000000)
        fail_usage("expected a vocabulary of 257 to 1000000 tokens (256 bytes, merges, %s), found %zu",
            Tokenizer::eot_name, size);
    Tokenizer b;
    std::unordered_map<std::string, int32_t> id_of;
    for (int32_t byte : byte_names.byte)
        if (byte >= 0) {
            id_of.emplace(std::string(1, (char)byte), (int32_t)b.tokens.size());
            b.tokens.emplace_back(1, (char)byte);
        }
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
    b.tokens.push_back(Tokenizer::eot_name);
    b.build("the learned vocabulary");
    return b;
}
