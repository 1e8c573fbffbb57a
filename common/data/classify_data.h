// classify_data.h: labelled texts of a .bin file as sequences of an encoder; the label is the target of [CLS].
#pragma once
#include <algorithm>
#include <unordered_map>

#include "common/base/rng.h"
#include "common/base/text.h"
#include "common/data/bin_file.h"
#include "common/text/tokenizer.h"

constexpr int64_t CLASSIFY_MAX_LEN = 128;  // tokens of the longest example, if finetune_cls is not told otherwise

// A text, or two, as the model reads them: [CLS] A [SEP], [CLS] A [SEP] B [SEP], <s> A </s></s> B </s>, with types 0
// and from B on pair_type; of at most T tokens: the longer segment is cut first (of equals B), at its end or, with
// truncation_side left, at its beginning. Was it cut?
inline bool join_segments(std::vector<int>& tokens, std::vector<int>& types, const int* a, size_t na, const int* b,
    size_t nb, const Tokenizer& tokenizer, size_t T) {
    const bool pair = nb > 0;
    const size_t around = tokenizer.added(pair), given_a = na, given_b = nb;
    if (T < around + 2)
        fail("the longest input, %zu tokens, has no room for a text: the tokenizer puts %zu tokens around it", T,
            around);
    while (na + nb > T - around) (nb >= na ? nb : na)--;
    if (tokenizer.cuts_left()) a += given_a - na, b += given_b - nb;
    tokens.clear();
    types.clear();
    for (int32_t id : pair ? tokenizer.pair : tokenizer.single) {
        const int* text = id == -1 ? a : id == -2 ? b : &id;
        tokens.insert(tokens.end(), text, text + (id == -1 ? na : id == -2 ? nb : 1));
        types.resize(tokens.size(), id == -2 ? tokenizer.pair_type : types.empty() ? 0 : types.back());
    }
    return na + nb < given_a + given_b;
}

// Some of the examples of a .bin file, in the form that fill_batch() takes: make(epoch, i) makes the i-th of them.
struct ClassifyData {
    const BinFile& file;
    const Tokenizer& tokenizer;
    size_t T;
    std::vector<int> label_id;    // of the file's labels among the model's
    std::vector<uint32_t> which;  // examples of the file
    std::vector<int> tokens, types, positions{0}, targets{0}, ids;

    ClassifyData(const BinFile& file, const Tokenizer& tokenizer, size_t T, const std::vector<std::string>& labels)
        : file(file), tokenizer(tokenizer), T(T) {
        tokenizer.check_encoder();
        std::unordered_map<std::string, int> places;
        for (size_t k = 0; k < labels.size(); k++) places[labels[k]] = (int)k;
        for (const std::string& name : file.labels) {
            auto place = places.find(name);
            if (place == places.end())
                fail(file.path + ": expected the labels of the training data (" + name_list(labels) + "), found \"" +
                     name + "\" as well" + nearest_hint(name, labels) + ": pack it with --labels and their train.bin");
            label_id.push_back(place->second);
        }
        for (size_t s = 0; s < file.sequences(); s++) which.push_back((uint32_t)s);
    }
    uint64_t sequences() const { return which.size(); }
    int label(uint64_t i) const { return label_id[file.label[which[i]]]; }
    bool make(uint64_t, uint64_t i) {  // was it cut?
        size_t s = which[i], n = file.length(s), na = file.second[s];
        ids.resize(n);
        for (size_t k = 0; k < n; k++) ids[k] = file.token(s, k);
        targets[0] = label(i);
        return join_segments(tokens, types, ids.data(), na, ids.data() + na, n - na, tokenizer, T);
    }
    size_t count_cut() const {
        size_t cut = 0;
        for (uint32_t s : which) cut += file.length(s) + tokenizer.added(file.pair(s)) > T;
        return cut;
    }
};

// The examples in an order by `seed` in which every stretch from the start holds the classes nearly as the whole does.
inline std::vector<uint32_t> stratified_order(const ClassifyData& data, int K, uint64_t seed) {
    uint64_t n = data.sequences();
    Permutation shuffled(n, mix64(seed, 0x5eed));
    std::vector<uint64_t> size(K, 0), rank(K, 0);
    for (uint64_t i = 0; i < n; i++) size[data.label(i)]++;
    std::vector<std::pair<double, uint32_t>> keys;
    for (uint64_t i = 0; i < n; i++) {
        int k = data.label(shuffled(i));
        keys.push_back({((double)rank[k]++ + 0.5) / (double)size[k], data.which[shuffled(i)]});
    }
    std::stable_sort(keys.begin(), keys.end(), [](auto& a, auto& b) { return a.first < b.first; });
    std::vector<uint32_t> order;
    for (auto& [key, s] : keys) order.push_back(s);
    return order;
}
