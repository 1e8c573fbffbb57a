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
    double rows = 0, exact = 0, rouge = 0;
    double with_options = 0;     // rows that have options to choose from
    double by_sum = 0;           // of these, the right option has the largest Σ log p, ...
    double by_mean = 0;          // ... or the largest per byte
    double chance = 0;           // Σ 1 / options
    double quotes = 0;           // the reference quotes a word of the input
    double quotes_of_input = 0;  // of these, the answer does
    double too_long = 0;         // the prompt fills the context: no answer, which is wrong
    double rouge_blind = 0;      // no reference has a word for ROUGE-L: it is 0
    double long_options = 0;     // not every option fits after the prompt: none is chosen, which is wrong

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
};
typedef double TaskScore::* ScoreSum;

// A metric of a task: a sum over those of its rows that have it / their number
struct Metric {
    const char *name, *rows_name;
    ScoreSum sum, rows;
};
enum { EXACT, ROUGE, OPTION, OPTION_PER_BYTE, CHANCE, QUOTES };
constexpr Metric METRICS[] = {{"exact_match", "rows", &TaskScore::exact, &TaskScore::rows},
    {"rouge_l", "rows", &TaskScore::rouge, &TaskScore::rows},
    {"option_accuracy", "options", &TaskScore::by_sum, &TaskScore::with_options},
    {"option_accuracy_per_byte", "options", &TaskScore::by_mean, &TaskScore::with_options},
    {"option_chance", "options", &TaskScore::chance, &TaskScore::with_options},
    {"quotes_of_input", "quotes", &TaskScore::quotes_of_input, &TaskScore::quotes}};

// The metric of each task that has it
inline std::vector<double> of_tasks(const Metric& m, const std::vector<TaskScore>& tasks) {
    std::vector<double> values;
    for (const TaskScore& s : tasks)
        if (s.*m.rows > 0) values.push_back(s.*m.sum / s.*m.rows);
    return values;
}
// Its mean over tasks: each counts the same, however many rows it has.
inline double task_mean(const Metric& m, const std::vector<TaskScore>& tasks) {
    return mean_and_sd(of_tasks(m, tasks)).first;
}
