// pack_classify.h: data/tokenize pack --kind classify: files of labelled texts → a .bin, a sequence for each example;
// data/tokenize rows: the same rows for the scripts.
#pragma once
#include <charconv>
#include <cmath>
#include <set>
#include <unordered_map>

#include "common/base/text.h"
#include "common/data/classify_data.h"
#include "data/bin_writer.h"
#include "data/tokenize.h"

// "a,b,c", or the labels of a .bin
inline std::vector<std::string> given_labels(const std::string& given) {
    if (given.size() > 4 && given.compare(given.size() - 4, 4, ".bin") == 0) return BinFile(given, BIN_CLASSIFY).labels;
    std::vector<std::string> labels;
    std::set<std::string> different;
    for (size_t at = 0, end; at <= given.size(); at = end + 1) {
        end = std::min(given.find(',', at), given.size());
        labels.push_back(given.substr(at, end - at));
        if (labels.back().empty())
            fail_usage(
                "--labels: expected names with commas between them, found an empty name in \"%s\"", given.c_str());
        if (!different.insert(labels.back()).second)
            fail_usage("--labels: expected different names, found %s twice", labels.back().c_str());
    }
    if (labels.size() < 2)
        fail_usage("--labels: expected at least two names, or a .bin file, found only \"%s\"", given.c_str());
    return labels;
}

// Fails where all labels are numbers and one has a fraction, as 2.75: no classifier knows that it is near to 2.5.
inline void refuse_scores(const std::vector<std::string>& labels, const std::string& where) {
    std::vector<std::string> fractions;
    for (const std::string& label : labels) {
        char* end;
        const double x = strtod(label.c_str(), &end);
        if (*end || !std::isfinite(x)) return;
        if (x != std::floor(x)) fractions.push_back(label);
    }
    if (!fractions.empty())
        fail(
            "%s: expected classes, found the labels %s: this is a score, not a class, and regression is not supported: "
            "round the scores to a few classes (0 to 5), or cut them in two at a threshold; numbers that are classes "
            "are written with a letter (\"%s stars\")",
            where.c_str(), name_list(fractions).c_str(), fractions[0].c_str());
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

// "pos=good.txt" of --class, and the files whose rows have labels of their own
inline std::vector<LabelledSource> labelled_sources(const Options& o, const std::vector<std::string>& files) {
    std::vector<LabelledSource> sources;
    for (const std::string& file : files) sources.push_back({file, ""});
    for (const std::string& given : o.classes) {
        size_t equals = given.find('=');
        if (equals == given.npos || trimmed_label(given.substr(0, equals)).empty() || equals + 1 == given.size())
            fail_usage("--class: expected LABEL=FILE, found \"%s\"", given.c_str());
        sources.push_back({given.substr(equals + 1), trimmed_label(given.substr(0, equals))});
    }
    return sources;
}

// The rows of `sources` → o.out, and says on the console what became of them.
inline void pack_classify(Options o, const std::vector<LabelledSource>& sources) {
    std::vector<std::string> files, labels;
    for (const LabelledSource& source : sources) files.push_back(source.path);
    double total = total_size(files), start = omp_get_wtime();
    if (!o.labels.empty()) labels = given_labels(o.labels);
    std::string dir = tokenizer_dir(o.tokenizer);
    const Tokenizer tokenizer = Tokenizer::load(dir);
    if (tokenizer.role_id[CLS] < 0 || tokenizer.role_id[SEP] < 0)
        fail_usage(
            "--tokenizer %s: expected the tokenizer of an encoder for --kind classify, as finetune_cls needs it, found "
            "one without cls_token and sep_token",
            dir.c_str());
    tokenizer.check_encoder();
    LabelledRows in(sources, o.columns);
    if (labels.empty()) labels = o.columns.class_names();
    const bool labels_given = !labels.empty();
    make_directory_of(o.out);
    BinWriter out(o.out, BIN_CLASSIFY, tokenizer.size(), tokenizer.fingerprint());

    std::unordered_map<std::string, int32_t> number;  // of a label; without --labels first in the order of the file
    for (const std::string& name : labels) number.emplace(name, (int32_t)number.size());
    auto number_of = [&](const std::string& label) {
        auto [found, is_new] = number.emplace(label, (int32_t)number.size());
        if (is_new) labels.push_back(label);
        return found->second;
    };

    struct Example {
        LabelledRow row;
        std::vector<int32_t> ids;
        size_t second = 0, unknown = 0;
        std::string shown;
    };
    std::vector<Example> examples;  // of a block, the first n; the others are kept for their memory
    size_t unknown = 0, pairs = 0, longest = 0, cut = 0;
    double added = 0;  // tokens around texts
    const int64_t positions = longest_input(dir, "max_position_embeddings");
    const size_t max_len = positions ? std::min(CLASSIFY_MAX_LEN, positions) : CLASSIFY_MAX_LEN;
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
            e.unknown = std::count(e.ids.begin(), e.ids.end(), tokenizer.unk);
            append_shown(e.shown, e.row);
        }
        for (size_t i = 0; i < n; i++) {
            Example& e = examples[i];
            std::string& error = e.row.error;
            if (error.empty() && (e.second == 0 || (e.row.pair && e.second == e.ids.size())))
                error = e.row.where() + format(": expected a text in \"%s\", found only characters that give no token",
                                            (e.second == 0 ? o.columns.text : o.columns.text2).c_str());
            if (error.empty() && labels_given && !number.count(e.row.label))
                error = e.row.where() + ": expected one of the labels " + name_list(labels, 21) + ", found " +
                        e.row.label;
            if (!error.empty()) {
                o.bad_rows.add(error);
                continue;
            }
            out.append(e.ids.data(), e.ids.size());
            out.end_example(number_of(e.row.label), e.second, e.shown);
            unknown += e.unknown;
            pairs += e.row.pair;
            added += (double)tokenizer.added(e.row.pair);
            longest = std::max(longest, e.ids.size() + tokenizer.added(e.row.pair));
            cut += e.ids.size() + tokenizer.added(e.row.pair) > max_len;
        }
    }
    size_t S = out.label.size();
    if (S == 0) fail("%s: expected rows with a text and a label, found none", files[0].c_str());
    if (labels.size() < 2)
        fail(
            "%s: expected at least two different labels, found only %s; the labels of other data are given with "
            "--labels",
            files[0].c_str(), labels[0].c_str());
    refuse_scores(labels, files[0]);
    // order[place of a label in the .bin] = its number so far, and the other way round
    std::vector<int32_t> order(labels.size()), place(labels.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    if (!labels_given) order = sorted_labels(labels);
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
        "%s: %zu examples, %zu of them pairs, %zu tokens; with %s and %s %.1f an example, the longest has %zu; "
        "labels: %s; %.3f %% [UNK], in %.2f s (%.1f MB/s)\n",
        o.out.c_str(), S, pairs, (size_t)out.header.tokens, tokenizer.tokens[tokenizer.cls()].c_str(),
        tokenizer.tokens[tokenizer.sep()].c_str(), (out.header.tokens + added) / S, longest,
        name_list(counts, 21).c_str(), 100.0 * unknown / out.header.tokens, seconds, in.bytes() / seconds / 1e6);
    std::string limit = "finetune_cls --max-len N takes more";
    if (positions) limit += format(", up to the model's longest input of %lld", (long long)positions);
    if (positions && positions <= CLASSIFY_MAX_LEN) limit = "it is the model's longest input";
    if (cut)
        printf("%zu of them (%.1f %%) have more than %zu tokens and will be cut to that; %s\n", cut, 100.0 * cut / S,
            max_len, limit.c_str());
    warn_of_unknown(unknown, out.header.tokens, o.tokenizer);
    o.bad_rows.finish("the others are in " + o.out);
}

// The rows of `sources` as JSON lines on standard output, for the scripts; a row that cannot be used has only an error.
// objects: the objects of JSON files as they are, as rows of instructions begin
inline void print_rows(const Options& o, const std::vector<LabelledSource>& sources, bool objects) {
    auto print = [](Json row, const std::string& file, size_t line, size_t element) {
        row.set("file", file).set("line", (int64_t)line).set("where", LineReader::place(file, line, element));
        const std::string text = dump_json(row) + "\n";
        if (fwrite(text.data(), 1, text.size(), stdout) != text.size())
            fail("cannot write standard output: %s", strerror(errno));
    };
    auto error = [](const std::string& what) { return Json::make_object().set("error", what); };
    for (size_t i = 0; i < sources.size() && objects; i++) {
        LineReader lines(sources[i].path, sources[i].open);
        for (Json json;;) try {
                if (!lines.next_object(json)) break;
                print(Json::make_object().set("row", json), lines.path, lines.begin, lines.element);
            } catch (const BadRow& e) {
                print(error(e.what()), lines.path, e.line, lines.element);
            }
    }
    if (objects) return;
    LabelledRows in(sources, o.columns);
    for (LabelledRow row; in.next(row);) {
        Json json = Json::make_object().set("text", row.text).set("label", row.label);
        if (row.pair) json.set("text2", row.text2);
        print(row.error.empty() ? json : error(row.error), row.file, row.line, row.element);
    }
}
