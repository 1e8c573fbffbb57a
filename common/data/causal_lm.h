// causal_lm.h: the windows of text of decoder pretraining.
//
// A document d0 … d(n−1) is read as <|endoftext|> d0 … d(n−1), and every token predicts the next one, the last token
// <|endoftext|>: n + 1 tokens with n + 1 targets. A sequence is a window of at most T of them, and the target of its
// last token is the token that follows in the document. In training the windows of a longer document begin at an offset
// drawn again in every epoch, so that no token is always first in its window; validation cuts at multiples of T.
#pragma once
#include <algorithm>

#include "common/base/rng.h"
#include "common/data/bin_file.h"

struct CausalLmData {
    const BinFile& file;
    int T, eot, bos;  // what ends a document, and what begins one: of GPT-2 the same
    uint64_t seed = 0;
    bool draw_offsets = false;
    std::vector<uint64_t> first{0};                      // (documents + 1) number of the first window of each document
    std::vector<int> tokens, types, positions, targets;  // the sequence that make() made

    CausalLmData(const BinFile& file, int T, int eot, int bos) : file(file), T(T), eot(eot), bos(bos) {
        for (uint64_t d = 0; d < file.sequences(); d++) first.push_back(first.back() + windows(file.length(d) + 1));
        if (first.back() == 0) fail("%s: it has no tokens to train on", file.path.c_str());
    }
    uint64_t sequences() const { return first.back(); }
    // Of a document of n tokens with its <|endoftext|>; an empty document has none. A drawn offset makes one more, and
    // its last one may then be empty.
    uint64_t windows(uint64_t n) const { return n <= 1 ? 0 : n <= (uint64_t)T ? 1 : ceil_div(n, T) + 1; }
    // Makes sequence q of an epoch in tokens, types, positions, targets.
    void make(uint64_t epoch, uint64_t q) {
        uint64_t d = std::upper_bound(first.begin(), first.end(), q) - first.begin() - 1;  // its document
        uint64_t k = q - first[d], n = file.length(d) + 1;
        // tokens of the document's first window
        uint64_t head = draw_offsets ? 1 + below(mix64(seed, epoch, d), T) : T;
        uint64_t from = k == 0 ? 0 : std::min(n, head + (k - 1) * T);
        uint64_t to = first[d + 1] - first[d] == 1 ? n : std::min(n, head + k * T);
        tokens.clear();
        targets.clear();
        for (uint64_t i = from; i < to; i++) {
            tokens.push_back(i == 0 ? bos : file.token(d, i - 1));
            targets.push_back(i + 1 == n ? eot : file.token(d, i));
        }
        types.assign(tokens.size(), 0);
        positions.resize(tokens.size());
        for (size_t i = 0; i < positions.size(); i++) positions[i] = (int)i;
    }
};
