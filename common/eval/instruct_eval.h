// instruct_eval.h: evaluates a model on rows of instructions. The model is two functions: one answers prompts, the
// other says how likely given answers are.
#pragma once
#include <time.h>
#include <functional>

#include "common/eval/systems.h"

struct GeneratedAnswer {
    std::string text;
    std::string stop;  // why it ended: "end", "length" or "context"
};
struct AnsweringModel {
    size_t max_prompt;  // tokens of the longest prompt that can be answered
    // Answers every prompt (token ids) up to the token `end`. progress(i) is called while answer i is being written.
    std::function<std::vector<GeneratedAnswer>(const std::vector<std::vector<int>>& prompts, int end,
                                               const std::function<void(size_t)>& progress)>
        generate;
    // log p of each of these texts as the answer to a prompt, its end token included; none if a text does not fit into
    // the context
    std::function<std::vector<double>(const std::vector<int>& prompt, const std::vector<std::string>& answers, int end)>
        log_likelihoods;
};

// Which option is the most likely one, as a whole and per byte, and is it right? log_likelihoods: of the row's options;
// empty: one does not fit into the context, none is chosen, which is wrong. `line`, if given, tells the choice.
inline void score_options(TaskScore& score, const std::vector<double>& log_likelihoods, const InstructText& row,
                          Json* line) {
    score.add_options(row);
    if (log_likelihoods.empty()) {
        score.long_options++;
        return;
    }
    auto per_byte = [&](size_t k) { return log_likelihoods[k] / (double)std::max<size_t>(row.options[k].size(), 1); };
    size_t by_sum = 0, by_mean = 0;
    for (size_t k = 1; k < log_likelihoods.size(); k++) {
        if (log_likelihoods[k] > log_likelihoods[by_sum]) by_sum = k;
        if (per_byte(k) > per_byte(by_mean)) by_mean = k;
    }
    auto right = [&](size_t k) {
        return std::find(row.outputs.begin(), row.outputs.end(), row.options[k]) != row.outputs.end();
    };
    score.by_sum += right(by_sum);
    score.by_mean += right(by_mean);
    if (line) line->set("option", row.options[by_sum]).set("option_per_byte", row.options[by_mean]);
}

// What answers.jsonl says of a row
inline Json answer_line(const TestSet& set, size_t task, const std::string& prompt, const InstructText& row,
                        const GeneratedAnswer& answer) {
    Json outputs = Json::make_array();
    for (auto& output : row.outputs) outputs.a.push_back(output);
    return Json::make_object()
        .set("set", set.name)
        .set("task", set.file->tasks[task])
        .set("prompt", prompt)
        .set("outputs", outputs)
        .set("answer", answer.text)
        .set("stop", answer.stop)
        .set("exact", exact_match(answer.text, row.outputs, set.strict))
        .set("rouge_l", rouge_l(answer.text, row.outputs));
}

// Answers all rows and scores the answers, which are also written to `out` (or nullptr) as JSON lines.
inline System evaluate_on_instructions(const std::string& name, const std::vector<TestSet>& sets, const Bpe& bpe,
                                       const AnsweringModel& model, FILE* out) {
    System system{name, {}};
    size_t total = 0, done = 0;
    for (const TestSet& set : sets) total += set.count();
    time_t last_shown = time(nullptr);
    const bool terminal = isatty(2);
    for (const TestSet& set : sets) {
        std::vector<TaskScore>& score = system.score.emplace_back(set.rows.size());
        const ChatTemplate templ = ChatTemplate::from_json(set.file->templ, set.file->path);
        const std::vector<int> start = row_start(bpe, templ);
        const int end = end_token(bpe, templ);
        std::vector<std::vector<int>> prompts;
        std::vector<std::pair<size_t, uint32_t>> task_and_row;  // of each prompt
        for (size_t t = 0; t < set.rows.size(); t++)
            for (uint32_t s : set.rows[t]) {
                std::vector<int> ids = row_prompt(*set.file, s, start);
                if (ids.size() > model.max_prompt) {
                    score[t].add_too_long(parse_instruct_text(*set.file, s));
                    continue;
                }
                prompts.push_back(ids);
                task_and_row.push_back({t, s});
            }
        size_t begun = 0;
        std::vector<GeneratedAnswer> answers = model.generate(prompts, end, [&](size_t i) {
            begun = std::max(begun, i);
            if (!terminal || time(nullptr) == last_shown) return;  // once a second
            fprintf(stderr, "\r%s: %zu of %zu answers ", name.c_str(), done + begun, total);
            last_shown = time(nullptr);
        });
        const std::string space = templ.before_output(true).second;  // it belongs to the answer (chat_template.h)
        for (size_t i = 0; i < prompts.size(); i++) {
            auto [t, s] = task_and_row[i];
            const InstructText row = parse_instruct_text(*set.file, s);
            answers[i].text = trimmed(answers[i].text);
            score[t].add(answers[i].text, row, set.strict);
            Json line;
            if (out)
                line = answer_line(set, t,
                                   bpe.decode(prompts[i].data() + start.size(), prompts[i].size() - start.size()), row,
                                   answers[i]);
            if (!row.options.empty()) {
                std::vector<std::string> options = row.options;
                for (std::string& option : options) option = space + option;
                score_options(score[t], model.log_likelihoods(prompts[i], options, end), row, out ? &line : nullptr);
            }
            if (out && fprintf(out, "%s\n", dump_json(line).c_str()) < 0)
                fail("could not write the answers: %s", strerror(errno));
        }
        done += set.count();
    }
    if (terminal) fprintf(stderr, "\r%*s\r", 60, "");
    return system;
}
