// classification_report.h: what a classifier made of examples: a line and a table, JSON, and files of all predictions.
#pragma once
#include <algorithm>

#include "common/base/files.h"
#include "common/base/json.h"
#include "common/base/text.h"
#include "common/eval/intervals.h"
#include "common/eval/metrics.h"

struct ClassificationReport {
    std::vector<std::string> labels, shown;  // shown: as they are printed
    ConfusionMatrix confusion;
    double loss = 0;  // Σ −log p[gold]
    explicit ClassificationReport(const std::vector<std::string>& labels)
        : labels(labels), confusion(labels.size() <= 10000 ? (int)labels.size() : 0) {
        if (labels.size() > 10000)  // whose confusion matrix takes 0.8 GB
            fail("expected at most 10000 classes to report on, found %zu; predict takes more", labels.size());
        for (const std::string& label : labels) shown.push_back(visible(label));
    }

    // probabilities: (K). Returns the prediction.
    int add(int gold, const double* probabilities) {
        int best = (int)(std::max_element(probabilities, probabilities + confusion.K) - probabilities);
        confusion.add(gold, best);
        loss -= std::log(std::max(probabilities[gold], 1e-300));
        return best;
    }
    double mean_loss() const { return loss / (double)std::max<int64_t>(1, confusion.total()); }
    std::pair<double, double> interval() const {  // of the accuracy
        return wilson_interval((double)confusion.correct(), (double)confusion.total());
    }
    std::string line() const {
        auto [low, high] = interval();
        return format(
            "loss %.4f | accuracy %.2f %% (95 %% interval %.2f to %.2f, n = %lld; always the most frequent class: %.2f "
            "%%) | macro F1 %.4f | MCC %.4f",
            mean_loss(), 100 * confusion.accuracy(), 100 * low, 100 * high, (long long)confusion.total(),
            100 * confusion.majority_accuracy(), confusion.macro_f1(), confusion.mcc());
    }
    // What makes its accuracy worth little; "": nothing
    std::string warning() const {
        const int64_t n = confusion.total();
        const int most = confusion.majority();
        if (n == 0) return "";
        if (confusion.gold(most) == n)
            return format("all %lld examples are \"%s\": no accuracy here shows that the model tells classes apart",
                (long long)n, labels[most].c_str());
        for (int k = 0; k < confusion.K; k++)
            if (confusion.predicted(k) == n)
                return "the model takes every example for \"" + labels[k] + "\": it does not tell the classes apart";
        auto [low, high] = interval();
        if (low > confusion.majority_accuracy()) return "";
        return format(
            "the accuracy of %.2f %% is not shown to be better than that of always answering \"%s\", %.2f %%: the "
            "95 %% interval begins at %.2f",
            100 * confusion.accuracy(), labels[most].c_str(), 100 * confusion.majority_accuracy(), 100 * low);
    }
    // Precision, recall and F1 of each class; the confusion matrix, of more than 10 classes the 10 most frequent
    // mistakes
    std::string table() const {
        const int K = confusion.K;
        const bool matrix = K <= 10;
        size_t width = 5;
        for (const std::string& label : shown) width = std::max(width, std::min<size_t>(label.size(), 24));
        auto column = [&](int k) { return (int)std::max<size_t>(6, std::min<size_t>(shown[k].size(), 24)); };
        std::string s = format("  %-*s  precision  recall      F1       n", (int)width, "class");
        if (matrix) s += "   taken for:";
        for (int k = 0; matrix && k < K; k++) s += format(" %*.24s", column(k), shown[k].c_str());
        for (int k = 0; k < K; k++) {
            s += format("\n  %-*.24s     %.4f  %.4f  %.4f  %6lld", (int)width, shown[k].c_str(), confusion.precision(k),
                confusion.recall(k), confusion.f1(k), (long long)confusion.gold(k));
            if (matrix) s += "             ";
            for (int j = 0; matrix && j < K; j++) s += format(" %*lld", column(j), (long long)confusion.at(k, j));
        }
        if (matrix) return s;
        std::vector<std::pair<int64_t, int>> wrong;  // −count, place in the matrix
        for (int i = 0; i < (int)confusion.count.size(); i++)
            if (i / K != i % K && confusion.count[i] > 0) wrong.push_back({-confusion.count[i], i});
        std::sort(wrong.begin(), wrong.end());
        for (size_t i = 0; i < wrong.size() && i < 10; i++)
            s += format("\n  %s taken for %s: %lld times", shown[wrong[i].second / K].c_str(),
                shown[wrong[i].second % K].c_str(), (long long)-wrong[i].first);
        return s;
    }
    Json json() const {
        auto [low, high] = interval();
        Json classes = Json::make_object(), matrix = Json::make_array();
        for (int k = 0; k < confusion.K; k++) {
            Json& row = matrix.a.emplace_back(Json::make_array());
            for (int j = 0; j < confusion.K; j++) row.a.push_back(confusion.at(k, j));
            Json& one = classes.o.emplace_back(labels[k], Json::make_object()).second;
            one.set("precision", confusion.precision(k)).set("recall", confusion.recall(k));
            one.set("f1", confusion.f1(k)).set("n", confusion.gold(k));
        }
        Json json;
        json.set("n", confusion.total()).set("loss", mean_loss()).set("accuracy", confusion.accuracy());
        json.set("interval", Json::make_array({low, high})).set("majority_class", labels[confusion.majority()]);
        json.set("majority_accuracy", confusion.majority_accuracy()).set("macro_f1", confusion.macro_f1());
        return json.set("mcc", confusion.mcc()).set("classes", classes).set("confusion", matrix);
    }
};

// Of the validations that chose the epoch, all on the same n examples: can they tell the epochs apart? "": they can.
// Epochs differ by a few points, so nothing is said where the interval is no wider than 10.
inline std::string doubtful_choice(const std::vector<double>& accuracies, int64_t n) {
    if (accuracies.size() < 2) return "";
    const double best = *std::max_element(accuracies.begin(), accuracies.end());
    auto [low, high] = wilson_interval(best * (double)n, (double)n);
    const double from = low;
    const long within = std::count_if(accuracies.begin(), accuracies.end(), [&](double x) { return x >= from; }) - 1;
    if (within == 0 || high - low <= 0.1) return "";
    return format(
        "the dev split is too small to choose an epoch: the best accuracy in it, %.2f %% of n = %lld, has the 95 %% "
        "interval %.2f to %.2f, which holds %ld of the %zu other validations; take a larger --dev-split, or 0 for the "
        "last epoch",
        100 * best, (long long)n, 100 * low, 100 * high, within, accuracies.size() - 1);
}

// OUT/predictions.tsv: text, [text2], gold, prediction, a probability for each class, set, row (which example of the
// set, from 1); OUT/errors.tsv: the mistakes, the most confident first.
struct PredictionFiles {
    std::vector<std::string> labels;
    struct Row {
        std::string shown, rest;  // rest: the fields after the text
        double confidence;
        bool wrong;
    };
    std::vector<Row> rows{};

    // shown: the text, of a pair both with a tab between them; probabilities: (K)
    void add(std::string_view shown, int gold, int prediction, const double* probabilities, const std::string& set,
        size_t number) {
        std::string rest = "\t" + visible(labels[gold]) + "\t" + visible(labels[prediction]);
        for (size_t k = 0; k < labels.size(); k++) rest += format("\t%.6f", probabilities[k]);
        rest += "\t" + set + format("\t%zu\n", number);
        rows.push_back({std::string(shown), rest, probabilities[prediction], gold != prediction});
    }
    void write(const std::string& out) {
        auto is_pair = [](const Row& r) { return r.shown.find('\t') != r.shown.npos; };
        const bool pairs = std::any_of(rows.begin(), rows.end(), is_pair);
        std::string header = pairs ? "text\ttext2\tgold\tprediction" : "text\tgold\tprediction";
        for (const std::string& label : labels) header += "\tp(" + visible(label) + ")";
        auto write_rows = [&](const char* name, bool all) {
            std::string text = header + "\tset\trow\n";
            for (const Row& r : rows)
                if (all || r.wrong) text += r.shown + (pairs && !is_pair(r) ? "\t" : "") + r.rest;
            write_file_atomic(out + name, text);
        };
        write_rows("/predictions.tsv", true);
        std::stable_sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.confidence > b.confidence; });
        write_rows("/errors.tsv", false);
    }
};
