// task_score.h: how well the rows of one task of instructions were answered: exact match, ROUGE-L, right options, words
// quoted from the input; and the means over tasks.
#pragma once
#include <map>

#include "common/data/instruct_encoding.h"
#include "common/eval/exact_match.h"
#include "common/eval/intervals.h"
#include "common/eval/rouge.h"

// What stands in the first pair of double quotes: of `positive because of "good"` that is good; "" where there is none.
inline std::string quoted(const std::string& text) {
    size_t begin = text.find('"'), end = begin == text.npos ? begin : text.find('"', begin + 1);
    return end == text.npos ? "" : trimmed(text.substr(begin + 1, end - begin - 1));
}
// Is `word` in the text, not as a part of a longer one?
inline bool has_word(const std::string& text, const std::string& word) {
    auto letter = [&](size_t i) {
        return i < text.size() && (isalnum((unsigned char)text[i]) || (unsigned char)text[i] >= 128);
    };
    for (size_t at = word.empty() ? text.npos : text.find(word); at != text.npos; at = text.find(word, at + 1))
        if ((at == 0 || !letter(at - 1)) && !letter(at + word.size())) return true;
    return false;
}
// Does the reference quote a word of the input?
inline bool quotes_input(const InstructText& row) { return has_word(row.input, quoted(row.outputs[0])); }

// Sums over the rows of a task
struct TaskScore {
    int64_t rows = 0;
    double exact = 0, rouge = 0;
    int64_t with_options = 0;    // rows that have options to choose from
    int64_t by_sum = 0;          // of these, the right option has the largest Σ log p, ...
    int64_t by_mean = 0;         // ... or the largest per byte
    double chance = 0;           // Σ 1 / options
    int64_t quotes = 0;          // the reference quotes a word of the input
    double quotes_of_input = 0;  // of these, the answer does
    int64_t too_long = 0;        // the prompt fills the context: no answer, which is wrong
    int64_t rouge_blind = 0;     // no reference has a word for ROUGE-L: it is 0
    int64_t long_options = 0;    // not every option fits after the prompt: none is chosen, which is wrong

    void add(const std::string& answer, const InstructText& row, bool strict) {
        rows++;
        if (quotes_input(row)) {
            quotes++;
            quotes_of_input += has_word(row.input, quoted(answer));
        }
        exact += exact_match(answer, row.outputs, strict);
        rouge += rouge_l(answer, row.outputs);
        rouge_blind += rouge_is_blind(row.outputs);
    }
    // A row with several answers, each with the number of times that it was given, `times` together: their mean
    void add_mean(const std::map<std::string, int>& answers, int times, const InstructText& row, bool strict) {
        rows++;
        quotes += quotes_input(row);
        for (const auto& [answer, count] : answers) {
            TaskScore one;
            one.add(answer, row, strict);
            const double fraction = (double)count / times;
            exact += fraction * one.exact;
            rouge += fraction * one.rouge;
            quotes_of_input += fraction * one.quotes_of_input;
        }
    }
    // A row whose prompt fills the context
    void add_too_long(const InstructText& row) {
        rows++;
        too_long++;
        quotes += quotes_input(row);
        if (!row.options.empty()) add_options(row);
    }
    void add_options(const InstructText& row) {
        with_options++;
        chance += 1.0 / (double)row.options.size();
    }

    double mean_exact() const { return exact / (double)std::max<int64_t>(rows, 1); }
    double mean_rouge() const { return rouge / (double)std::max<int64_t>(rows, 1); }
    // of rows with options, and with quotes
    double option_accuracy() const { return (double)by_sum / (double)with_options; }
    double option_accuracy_per_byte() const { return (double)by_mean / (double)with_options; }
    double option_chance() const { return chance / (double)with_options; }
    double quote_rate() const { return quotes_of_input / (double)quotes; }

    // What results.json says of a task
    Json json() const {
        Json j = Json::make_object();
        j.set("rows", rows).set("exact_match", mean_exact()).set("rouge_l", mean_rouge());
        if (with_options)
            j.set("options", with_options)
                .set("option_accuracy", option_accuracy())
                .set("option_accuracy_per_byte", option_accuracy_per_byte())
                .set("option_chance", option_chance());
        if (quotes) j.set("quotes", quotes).set("quotes_of_input", quote_rate());
        if (rouge_blind) j.set("rouge_blind", rouge_blind);
        if (too_long) j.set("too_long", too_long);
        if (long_options) j.set("long_options", long_options);
        return j;
    }
    // All sums, to be read again by read(), which returns false if one is missing
    Json sums() const {
        return Json::make_object()
            .set("rows", rows)
            .set("exact", exact)
            .set("rouge", rouge)
            .set("with_options", with_options)
            .set("by_sum", by_sum)
            .set("by_mean", by_mean)
            .set("chance", chance)
            .set("quotes", quotes)
            .set("quotes_of_input", quotes_of_input)
            .set("too_long", too_long)
            .set("long_options", long_options)
            .set("rouge_blind", rouge_blind);
    }
    bool read(const Json& j) {
        for (auto [key, to] : {std::pair<const char*, int64_t*>{"rows", &rows},
                               {"with_options", &with_options},
                               {"by_sum", &by_sum},
                               {"by_mean", &by_mean},
                               {"quotes", &quotes},
                               {"too_long", &too_long},
                               {"long_options", &long_options},
                               {"rouge_blind", &rouge_blind}}) {
            const Json* value = j.find(key);
            if (!value && (to == &long_options || to == &rouge_blind)) continue;  // older files do not have them
            if (!value || value->kind != Json::integer) return false;
            *to = value->i;
        }
        for (auto [key, to] : {std::pair<const char*, double*>{"exact", &exact},
                               {"rouge", &rouge},
                               {"chance", &chance},
                               {"quotes_of_input", &quotes_of_input}}) {
            const Json* value = j.find(key);
            if (!value || (value->kind != Json::number && value->kind != Json::integer)) return false;
            *to = value->d;
        }
        return true;
    }
};

// The scores of a set, a number for each of its tasks that has such rows: every task's mean counts the same.
struct SetScores {
    std::vector<double> exact, rouge, options, options_per_byte, chance, quotes;
    int64_t too_long = 0, long_options = 0, rouge_blind = 0;  // rows: see TaskScore
    explicit SetScores(const std::vector<TaskScore>& tasks) {
        for (const TaskScore& s : tasks) {
            if (s.rows) {
                exact.push_back(s.mean_exact());
                rouge.push_back(s.mean_rouge());
            }
            if (s.with_options) {
                options.push_back(s.option_accuracy());
                options_per_byte.push_back(s.option_accuracy_per_byte());
                chance.push_back(s.option_chance());
            }
            if (s.quotes) quotes.push_back(s.quote_rate());
            too_long += s.too_long;
            long_options += s.long_options;
            rouge_blind += s.rouge_blind;
        }
    }
    static double mean(const std::vector<double>& x) { return mean_and_sd(x).first; }
};
