// pair_merging.h: how WordPiece and BPE learn a vocabulary: the most frequent pair of neighbouring pieces becomes one,
// again and again.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <functional>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

struct CountedWord {
    std::vector<int32_t> pieces;  // ids of tokens
    int64_t count;
};

// Merges, until there are `size` tokens, the pair of neighbouring pieces that is most frequent within the words. Of
// equally frequent pairs the lexicographically greater is taken (first piece, then second, by their bytes in `tokens`).
// Pairs that occur once are not merged, so few words can give fewer than `size` tokens. join(a, b) returns the id of
// what a and b become, a new token or one that is there already.
template <class Join>
void merge_pairs(std::vector<CountedWord>& words, const std::vector<std::string>& tokens, size_t size, Join join,
                 const std::function<void(size_t)>& progress) {
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
