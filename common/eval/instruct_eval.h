// instruct_eval.h: which rows of instructions are answered, and how models, and two baselines that need none, answer.
#pragma once
#include <time.h>

#include <filesystem>
#include <functional>
#include <tuple>

#include "common/base/rng.h"
#include "common/eval/task_score.h"

// ---------------------------------------------------------------- rows
// A set of rows that is reported on
struct TestSet {
    std::string name;
    const BinFile* file;
    std::vector<uint32_t> rows;  // by task, of each in the file's order
    bool strict;                 // exact match counts case and punctuation
    size_t drawn_from;           // rows that these were drawn from
};
// Of each task (for which chosen(task) is true) at most `rows_per_task` rows (0: all), drawn always the same.
inline TestSet draw_test_set(const std::string& name, const BinFile& file, int64_t rows_per_task, bool strict,
    const std::function<bool(const std::string&)>& chosen = nullptr) {
    TestSet set{name, &file, {}, strict, 0};
    std::vector<std::vector<uint32_t>> rows(file.tasks.size());
    for (size_t s = 0; s < file.sequences(); s++)
        if (!chosen || chosen(file.tasks[file.task[s]])) rows[file.task[s]].push_back((uint32_t)s);
    for (size_t t = 0; t < rows.size(); t++) {
        const size_t n = rows[t].size(), drawn = rows_per_task ? std::min(n, (size_t)rows_per_task) : n;
        const Permutation order(n, mix64(1, t));
        for (size_t i = 0; i < drawn; i++) set.rows.push_back(rows[t][order(i)]);
        std::sort(set.rows.end() - (ptrdiff_t)drawn, set.rows.end());
        set.drawn_from += n;
    }
    return set;
}

// DATA/test.bin and DATA/test_NAME.bin, sorted
inline std::vector<std::string> test_files(const std::string& dir) {
    std::vector<std::string> files;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
        const std::string name = entry.path().stem();
        if (entry.path().extension() == ".bin" && (name == "test" || (starts_with(name, "test_") && name.size() > 5)))
            files.push_back(dir + "/" + name + ".bin");
    }
    if (error) fail("cannot read the directory %s: %s", dir.c_str(), error.message().c_str());
    std::sort(files.begin(), files.end());
    return files;
}

// ---------------------------------------------------------------- models
// A model or a baseline, and how it answered
struct System {
    std::string name;
    std::vector<std::vector<TaskScore>> score;  // [set][task]
};

// Which option is the most likely one, as a whole and per byte, and is it right? log_likelihoods: of the row's options;
// empty: one does not fit into the context, none is chosen, which is wrong. `line` tells the choice.
inline void score_options(
    TaskScore& score, const std::vector<double>& log_likelihoods, const InstructText& row, Json& line) {
    score.add_options(row);
    if (log_likelihoods.empty()) {
        score.long_options++;
        return;
    }
    std::vector<double> per_byte;
    for (size_t k = 0; k < row.options.size(); k++)
        per_byte.push_back(log_likelihoods[k] / (double)std::max<size_t>(row.options[k].size(), 1));
    auto largest = [&](const std::vector<double>& x) {
        return row.options[std::max_element(x.begin(), x.end()) - x.begin()];
    };
    const std::string by_sum = largest(log_likelihoods), by_mean = largest(per_byte);
    score.by_sum += contains(row.outputs, by_sum);
    score.by_mean += contains(row.outputs, by_mean);
    line.set("option", by_sum).set("option_per_byte", by_mean);
}

// Answers all rows and scores the answers, which are also written to the file `path` (or nowhere, if it is empty) as
// JSON lines. A Model has its tokenizer bpe, and
//   max_prompt()                           tokens of the longest prompt that can be answered
//   generate(prompts, end, progress)       an answer to every prompt (token ids), up to the token `end`: its tokens and
//                                          the `stop` that stop_name() names; progress(i) is called while i is written
//   log_likelihoods(prompt, answers, end)  log p of each of these texts as the answer to a prompt, `end` included; none
//                                          if a text does not fit into the context
template <class Model> System evaluate_on_instructions(
    const std::string& name, const std::vector<TestSet>& sets, Model& model, const std::string& path) {
    const Tokenizer& bpe = model.bpe;
    System system{name, {}};
    std::string lines;
    size_t total = 0, done = 0;
    for (const TestSet& set : sets) total += set.rows.size();
    time_t last_shown = time(nullptr);
    const bool terminal = isatty(2);
    for (const TestSet& set : sets) {
        set.file->require_unchanged();
        std::vector<TaskScore>& score = system.score.emplace_back(set.file->tasks.size());
        const ChatTemplate templ = ChatTemplate::from_json(set.file->templ, set.file->path);
        const std::vector<int> start = row_start(bpe, templ);
        const int end = end_token(bpe, templ);
        std::vector<std::vector<int>> prompts;
        std::vector<uint32_t> row_of;  // each prompt
        for (uint32_t s : set.rows) {
            std::vector<int> ids = row_prompt(*set.file, s, start);
            if (ids.size() > model.max_prompt()) {
                score[set.file->task[s]].add_too_long(parse_instruct_text(*set.file, s));
                continue;
            }
            prompts.push_back(ids);
            row_of.push_back(s);
        }
        size_t begun = 0;
        const auto answers = model.generate(prompts, end, [&](size_t i) {
            begun = std::max(begun, i);
            if (!terminal || time(nullptr) == last_shown) return;  // once a second
            fprintf(stderr, "\r%s: %zu of %zu answers ", name.c_str(), done + begun, total);
            last_shown = time(nullptr);
        });
        const std::string space = templ.before_output(true).second;  // it belongs to the answer (chat_template.h)
        for (size_t i = 0; i < prompts.size(); i++) {
            const int t = set.file->task[row_of[i]];
            const InstructText row = parse_instruct_text(*set.file, row_of[i]);
            const std::string answer = trimmed(bpe.decode(answers[i].tokens.data(), answers[i].tokens.size()));
            score[t].add(answer, row, set.strict);
            Json line, outputs = Json::make_array({row.outputs.begin(), row.outputs.end()});
            const std::string prompt = bpe.decode(prompts[i].data() + start.size(), prompts[i].size() - start.size());
            line.set("set", set.name).set("task", set.file->tasks[t]).set("prompt", prompt).set("outputs", outputs);
            line.set("answer", answer).set("stop", stop_name(answers[i].stop));
            line.set("exact", exact_match(answer, row.outputs, set.strict));
            line.set("rouge_l", rouge_l(answer, row.outputs));
            if (!row.options.empty()) {
                std::vector<std::string> options = row.options;
                for (std::string& option : options) option = space + option;
                score_options(score[t], model.log_likelihoods(prompts[i], options, end), row, line);
            }
            if (!path.empty()) lines += dump_json(line) + "\n";
        }
        done += set.rows.size();
    }
    if (terminal) fprintf(stderr, "\r%*s\r", 60, "");
    if (!path.empty()) write_file_atomic(path, lines);
    return system;
}

// ---------------------------------------------------------------- baselines
// Answers with the input as it is.
inline System copy_input_baseline(const std::vector<TestSet>& sets) {
    System system{"copy the input", {}};
    for (const TestSet& set : sets) {
        auto& score = system.score.emplace_back(set.file->tasks.size());
        for (uint32_t s : set.rows) {
            const InstructText row = parse_instruct_text(*set.file, s);
            score[set.file->task[s]].add(row.input, row, set.strict);
        }
    }
    return system;
}

// Answers with a task's most frequent answer: its rows are drawn into two halves, each answered with what is most
// frequent in the other, so that no row has a say in its own answer. The scores are means over 32 draws.
inline System most_frequent_baseline(const std::vector<TestSet>& sets) {
    constexpr int DRAWS = 32;
    System system{"most frequent answer", {}};
    for (const TestSet& set : sets) {
        auto& score = system.score.emplace_back(set.file->tasks.size());
        for (size_t from = 0, n; from < set.rows.size(); from += n) {
            const int t = set.file->task[set.rows[from]];
            for (n = 1; from + n < set.rows.size() && set.file->task[set.rows[from + n]] == t; n++) {}
            std::vector<InstructText> rows;
            // of each row's answers, as exact_match() tells them apart: normalized → one that normalizes to it
            std::vector<std::map<std::string, std::string>> answers(n);
            for (size_t i = 0; i < n; i++) {
                rows.push_back(parse_instruct_text(*set.file, set.rows[from + i]));
                for (const std::string& output : rows[i].outputs) {
                    std::string normalized = normalize_answer(output, set.strict);
                    answers[i].emplace(normalized.empty() ? normalize_answer(output, true) : normalized, output);
                }
            }
            std::vector<std::map<std::string, int>> given(n);  // to each row: answer → in how many of the draws
            for (int d = 0; d < DRAWS; d++) {
                const Permutation drawn(n, mix64(2, (uint64_t)t, (uint64_t)d));
                // of each half: normalized answer → in how many rows, and one of its spellings
                std::map<std::string, std::pair<size_t, std::string>> count[2];
                for (size_t i = 0; i < n; i++)
                    for (const auto& [normalized, output] : answers[i]) {
                        auto& [rows_with_it, spelling] = count[drawn(i) % 2][normalized];
                        if (rows_with_it++ == 0) spelling = output;
                    }
                std::string most_frequent[2];
                for (int half : {0, 1}) {
                    size_t most = 0;
                    for (const auto& [normalized, found] : count[half])
                        if (found.first > most) std::tie(most, most_frequent[half]) = found;
                }
                for (size_t i = 0; i < n; i++) given[i][most_frequent[1 - drawn(i) % 2]]++;
            }
            for (size_t i = 0; i < n; i++)
                for (const auto& [answer, count] : given[i]) {
                    TaskScore one;
                    one.add(answer, rows[i], set.strict);
                    for (ScoreSum sum : {&TaskScore::rows, &TaskScore::exact, &TaskScore::rouge, &TaskScore::quotes,
                             &TaskScore::quotes_of_input})
                        score[t].*sum += one.*sum * count / DRAWS;
                }
        }
    }
    return system;
}
