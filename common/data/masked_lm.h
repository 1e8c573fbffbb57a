// masked_lm.h: the sequences of masked-LM pretraining, and which of their tokens are to be predicted.
//
// A document's tokens in pieces, each a sequence of at most T tokens, never across documents. Pieces alternate between
//   [CLS] A [SEP]           T − 2 tokens of text
//   [CLS] A [SEP] B [SEP]   T − 3 tokens of text, B follows A, types 0 and 1, the cut drawn again in every epoch
// beginning with the one or the other by the document's number. In each, max(1, round(rate · n)) of the n tokens of
// text that are no special tokens become targets (Devlin et al. 2018): 80 % are replaced by [MASK], 10 % by any id of
// the vocabulary, 10 % stay.
#pragma once
#include <math.h>

#include <algorithm>

#include "common/base/rng.h"
#include "common/data/bin_file.h"

struct MaskedLmData {
    const BinFile& file;
    int T, V, cls, sep, mask, pad;
    double rate = 0.15;
    uint64_t seed = 0;
    bool whole_words = false;                            // all pieces of a word are chosen together (needs `continues`)
    std::vector<char> continues;                         // (V) is this id a continuation piece (##…)?
    std::vector<uint64_t> first;                         // (documents + 1) number of the first piece of each document
    std::vector<int> tokens, types, positions, targets;  // the sequence that make() made
    std::vector<std::pair<uint64_t, int>> drawn;

    template <class Tokenizer> MaskedLmData(const BinFile& file, int T, int V, const Tokenizer& tokenizer)
        : file(file), T(T), V(V), cls(tokenizer.cls()), sep(tokenizer.sep()), mask(tokenizer.mask()),
          pad(tokenizer.pad()) {
        if (T < 5) fail_usage("--max-len: expected at least 5, found %d", T);
        first.assign(1, 0);
        for (uint64_t d = 0; d < file.sequences(); d++) first.push_back(first.back() + pieces(d, file.length(d)));
        if (first.back() == 0) fail("%s: it has no tokens to train on", file.path.c_str());
    }
    uint64_t sequences() const { return first.back(); }
    // Piece k of document d begins at token begin(d, k): two neighbouring pieces hold 2T − 5 tokens.
    uint64_t begin(uint64_t d, uint64_t k) const {
        return k / 2 * (2 * (uint64_t)T - 5) + (k % 2 ? (d % 2 ? T - 3 : T - 2) : 0);
    }
    uint64_t pieces(uint64_t d, uint64_t n) const {
        uint64_t k = n / (2 * (uint64_t)T - 5) * 2;
        while (begin(d, k) < n) k++;
        return k;
    }
    // Makes sequence q of an epoch in tokens, types, positions, targets.
    void make(uint64_t epoch, uint64_t q) {
        uint64_t d = std::upper_bound(first.begin(), first.end(), q) - first.begin() - 1, k = q - first[d];
        uint64_t from = begin(d, k), to = std::min(begin(d, k + 1), file.length(d)), n = to - from;
        uint64_t key = mix64(seed, epoch, q);
        bool pair = (k + d) % 2 && n > 1;
        uint64_t cut = pair ? 1 + below(mix64(key, 1), n - 1) : n;  // tokens of A
        tokens.assign(1, cls);
        types.assign(1, 0);
        positions.clear();
        targets.clear();
        drawn.clear();
        for (uint64_t i = 0; i < n; i++) {
            if (i == cut) {
                tokens.push_back(sep);
                types.push_back(0);
            }
            int p = (int)tokens.size(), id = file.token(d, from + i);
            tokens.push_back(id);
            types.push_back(i >= cut);
            if (id == cls || id == sep || id == mask || id == pad) continue;  // written in the text: nothing to guess
            if (whole_words && !drawn.empty() && i != cut && continues[id])
                drawn.push_back({drawn.back().first, p});  // its word's draw
            else drawn.push_back({mix64(key, 2, p), p});
        }
        tokens.push_back(sep);
        types.push_back(pair);
        if (!drawn.empty()) choose(key, std::max(1, (int)lround(rate * (double)drawn.size())));
    }

private:
    // The positions with the smallest draws become targets; of whole words, those that still fit (at least one word).
    void choose(uint64_t key, int want) {
        if (!whole_words) {
            std::nth_element(drawn.begin(), drawn.begin() + want - 1, drawn.end());
            drawn.resize(want);
        } else {
            std::sort(drawn.begin(), drawn.end());
            size_t kept = 0;
            for (size_t i = 0, end; i < drawn.size() && (int)kept < want; i = end) {
                for (end = i; end < drawn.size() && drawn[end].first == drawn[i].first; end++) {}
                if (kept > 0 && kept + (end - i) > (size_t)want) continue;
                for (size_t j = i; j < end; j++) drawn[kept++] = drawn[j];
            }
            drawn.resize(kept);
        }
        std::sort(drawn.begin(), drawn.end(), [](auto& a, auto& b) { return a.second < b.second; });
        for (auto& [draw, p] : drawn) {
            positions.push_back(p);
            targets.push_back(tokens[p]);
            double u = uniform(mix64(key, 3, p));
            if (u < 0.8) tokens[p] = mask;
            else if (u < 0.9) tokens[p] = (int)below(mix64(key, 4, p), V);
        }
    }
};
