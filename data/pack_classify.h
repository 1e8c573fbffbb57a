// pack_classify.h: data/tokenize pack --kind classify: a file of labelled texts → a .bin, a sequence for each example.
#pragma once
#include <charconv>
#include <unordered_map>

#include "common/base/text.h"
#include "data/bin_writer.h"
#include "data/tokenize.h"

// "a,b,c", or the labels of a .bin
inline std::vector<std::string> given_labels(const std::string& given) {
    if (given.size() > 4 && given.compare(given.size() - 4, 4, ".bin") == 0) return BinFile(given, BIN_CLASSIFY).labels;
    std::vector<std::string> labels;
    for (size_t at = 0, end; at <= given.size(); at = end + 1) {
        end = std::min(given.find(',', at), given.size());
        labels.push_back(given.substr(at, end - at));
        if (labels.back().empty())
            fail_usage("--labels: expected names with commas between them, found an empty name in \"%s\"",
                       given.c_str());
        if (std::find(labels.begin(), labels.end() - 1, labels.back()) != labels.end() - 1)
            fail_usage("--labels: expected different names, found %s twice", labels.back().c_str());
    }
    if (labels.size() < 2)
        fail_usage("--labels: expected at least two names, or a .bin file, found only \"%s\"", given.c_str());
    return labels;
}

// The order of labels found in a file, as places in `names`: integers by their value, if all are, else by their bytes
inline std::vector<int32_t> sorted_labels(const std::vector<std::string>& names) {
    std::vector<int32_t> order(names.size());
    std::vector<int64_t> numbers(names.size(), 0);
    bool integers = true;
    for (size_t i = 0; i < names.size(); i++) {
        const char* end = names[i].data() + names[i].size();
        auto [p, error] = std::from_chars(names[i].data(), end, numbers[i]);
        integers &= p == end && error == std::errc();
        order[i] = i;
    }
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return integers && numbers[a] != numbers[b] ? numbers[a] < numbers[b] : names[a] < names[b];
    });
    return order;
}

// o.in → o.out, and says on the console what became of it.
inline void pack_classify(const Options& o) {
    double total = total_size({o.in}), start = omp_get_wtime();
    std::vector<std::string> labels;
    if (!o.labels.empty()) labels = given_labels(o.labels);
    std::string dir = tokenizer_dir(o.tokenizer);
    if (Bpe::is_in(dir))
        fail_usage(
            "--tokenizer %s: expected WordPiece (vocab.txt) for --kind classify, as finetune_cls needs it, found "
            "byte-level BPE",
            dir.c_str());
    WordPiece tokenizer = WordPiece::load(dir);
    LabelledFile in(o.in, o.columns, true);
    make_directory_of(o.out);
    BinWriter out(o.out, BIN_CLASSIFY, tokenizer.size(), tokenizer.fingerprint());

    std::unordered_map<std::string, int32_t> number;  // of a label; without --labels first in the order of the file
    for (const std::string& name : labels) number.emplace(name, (int32_t)number.size());
    auto number_of = [&](const LabelledRow& row) {
        auto found = number.find(row.label);
        if (found != number.end()) return found->second;
        if (!o.labels.empty())
            fail("%s, line %zu: expected one of the labels %s, found %s", o.in.c_str(), row.line,
                 name_list(labels, 21).c_str(), row.label.c_str());
        labels.push_back(row.label);
        return number[row.label] = labels.size() - 1;
    };

    struct Example {
        LabelledRow row;
        std::vector<int32_t> ids;
        size_t second = 0, unknown = 0;
        std::string shown;
    };
    std::vector<Example> examples;  // of a block, the first n; the others are kept for their memory
    size_t unknown = 0, pairs = 0, longest = 0;
    Progress progress("packing", total);
    for (size_t n = 1; n > 0; progress.update(in.bytes())) {
        n = 0;
        for (size_t begin = in.bytes(); in.bytes() - begin < 4 << 20; n++) {
            if (n == examples.size()) examples.emplace_back();
            if (!in.next(examples[n].row)) break;
        }
#pragma omp parallel for schedule(dynamic, 64)
        for (size_t i = 0; i < n; i++) {
            Example& e = examples[i];
            e.ids.clear();
            e.shown.clear();
            tokenizer.encode(e.row.text, e.ids);
            e.second = e.ids.size();
            if (e.row.pair) tokenizer.encode(e.row.text2, e.ids);
            e.unknown = std::count(e.ids.begin(), e.ids.end(), tokenizer.unk());
            append_shown(e.shown, e.row);
        }
        for (size_t i = 0; i < n; i++) {
            const Example& e = examples[i];
            if (e.second == 0 || (e.row.pair && e.second == e.ids.size()))
                fail("%s, line %zu: expected a text in \"%s\", found only characters that give no token", o.in.c_str(),
                     e.row.line, (e.second == 0 ? o.columns.text : o.columns.text2).c_str());
            out.append(e.ids.data(), e.ids.size());
            out.end_example(number_of(e.row), e.second, e.shown);
            unknown += e.unknown;
            pairs += e.row.pair;
            longest = std::max(longest, e.ids.size() + 2 + e.row.pair);
        }
    }
    size_t S = out.label.size();
    if (S == 0) fail("%s: expected rows with a text and a label, found none", o.in.c_str());
    if (labels.size() < 2)
        fail(
            "%s: expected at least two different labels, found only %s; the labels of other data are given with "
            "--labels",
            o.in.c_str(), labels[0].c_str());
    // order[place of a label in the .bin] = its number so far, and the other way round
    std::vector<int32_t> order(labels.size()), place(labels.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    if (o.labels.empty()) order = sorted_labels(labels);
    std::vector<size_t> count(labels.size());
    for (size_t i = 0; i < order.size(); i++) {
        place[order[i]] = i;
        out.labels.push_back(labels[order[i]]);
    }
    for (int32_t& label : out.label) count[label = place[label]]++;
    out.finish();

    double seconds = omp_get_wtime() - start;
    std::vector<std::string> counts;
    for (size_t i = 0; i < count.size(); i++)
        counts.push_back(format("%s %zu (%.1f %%)", out.labels[i].c_str(), count[i], 100.0 * count[i] / S));
    printf(
        "%s: %zu examples, %zu of them pairs, %zu tokens; with [CLS] and [SEP] %.1f an example, the longest has %zu; "
        "labels: %s; %.3f %% [UNK], in %.2f s (%.1f MB/s)\n",
        o.out.c_str(), S, pairs, (size_t)out.header.tokens, (out.header.tokens + 2.0 * S + pairs) / S, longest,
        name_list(counts, 21).c_str(), 100.0 * unknown / out.header.tokens, seconds, in.bytes() / seconds / 1e6);
    warn_of_unknown(unknown, out.header.tokens, o.tokenizer);
}
