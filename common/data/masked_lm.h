// masked_lm.h: the sequences of masked-LM pretraining, and which of their tokens are to be predicted.
//
// A document's tokens in pieces, each a sequence of at most T tokens, never across documents. Pieces alternate between
//   [CLS] A [SEP]           T − 2 tokens of text
//   [CLS] A [SEP] B [SEP]   T − 3 tokens of text, B follows A, types 0 and 1, the cut drawn again in every epoch
// beginning with the one or the other by the document's number; what stands around texts is the tokenizer's affair. In
// each, max(1, round(rate · n)) of the n tokens of text that are no special tokens become targets (Devlin et al. 2018):
// 80 % are replaced by [MASK], 10 % by any id of the tokenizer, 10 % stay.
#pragma once
#include <math.h>

#include <algorithm>

#include "common/base/rng.h"
#include "common/data/bin_file.h"
#include "common/text/tokenizer.h"

struct MaskedLmData {
    const BinFile& file;
    const Tokenizer& tokenizer;
    const int T;
    const int64_t two;  // tokens of text in two neighbouring pieces
    double rate = 0.15;
    uint64_t seed = 0;
    bool whole_words = false;                            // all pieces of a word are chosen together
    std::vector<int32_t> special;                        // not to be guessed
    std::vector<uint64_t> first{0};                      // (documents + 1) number of the first piece of each document
    std::vector<int> tokens, types, positions, targets;  // the sequence that make() made
    std::vector<std::pair<uint64_t, int>> drawn;

    MaskedLmData(const BinFile& file, int T, const Tokenizer& tokenizer)
        : file(file), tokenizer(tokenizer), T(T), two(2 * T - (int)(tokenizer.added(false) + tokenizer.added(true))) {
        tokenizer.check_encoder();
        special = {tokenizer.cls(), tokenizer.sep(), tokenizer.mask(), tokenizer.pad()};
        const int least = (int)tokenizer.added(true) + 2;
        if (T < least) fail_usage("--max-len: expected at least %d, found %d", least, T);
        for (uint64_t d = 0; d < file.sequences(); d++) first.push_back(first.back() + pieces(d, file.length(d)));
        if (first.back() == 0) fail("%s: it has no tokens to train on", file.path.c_str());
    }
    uint64_t sequences() const { return first.back(); }
    // Piece k of document d begins at token begin(d, k)
    uint64_t begin(uint64_t d, uint64_t k) const { return k / 2 * two + (k % 2 ? T - tokenizer.added(d % 2) : 0); }
    uint64_t pieces(uint64_t d, uint64_t n) const {
        uint64_t k = n / two * 2;
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
        for (std::vector<int>* list : {&tokens, &types, &positions, &targets}) list->clear();
        drawn.clear();
        for (int32_t part : pair ? tokenizer.pair : tokenizer.single) {
            if (part >= 0) tokens.push_back(part);
            const uint64_t start = part == -2 ? cut : 0, end = part >= 0 ? start : part == -1 ? cut : n;
            for (uint64_t i = start; i < end; i++) {
                const int p = (int)tokens.size(), id = file.token(d, from + i);
                tokens.push_back(id);
                if (contains(special, id)) continue;  // written in the text: nothing to guess
                if (whole_words && !drawn.empty() && i != start && tokenizer.is_continuation(id))
                    drawn.push_back({drawn.back().first, p});  // its word's draw
                else drawn.push_back({mix64(key, 2, p), p});
            }
            types.resize(tokens.size(), part == -2 ? tokenizer.pair_type : types.empty() ? 0 : types.back());
        }
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
            if (u < 0.8) tokens[p] = tokenizer.mask();
            else if (u < 0.9) tokens[p] = (int)below(mix64(key, 4, p), tokenizer.size());
        }
    }
};
