// systems.h: what is evaluated on instructions: models, and two baselines that need none.
#pragma once
#include "common/base/hash.h"
#include "common/eval/instruct_test_set.h"
#include "common/eval/task_score.h"

// A model or a baseline, and how it answered
struct System {
    std::string name;
    std::vector<std::vector<TaskScore>> score;  // [set][task]
};

// What stands in one table
struct Comparison {
    System most_frequent, copy_input;  // the baselines
    System reference;                  // a model: before tuning, or the first of several
    std::vector<System> models;        // further models, which are compared with the reference

    std::vector<const System*> all() const {
        std::vector<const System*> systems = {&most_frequent, &copy_input, &reference};
        for (const System& model : models) systems.push_back(&model);
        return systems;
    }
};

// ---------------------------------------------------------------- baselines
// Answers with the input as it is.
inline System copy_input_baseline(const std::vector<TestSet>& sets) {
    System system{"copy the input", {}};
    for (const TestSet& set : sets) {
        auto& score = system.score.emplace_back(set.rows.size());
        for (size_t t = 0; t < set.rows.size(); t++)
            for (uint32_t s : set.rows[t]) {
                const InstructText row = parse_instruct_text(*set.file, s);
                score[t].add(row.input, row, set.strict);
            }
    }
    return system;
}

// Answers with a task's most frequent answer. For that the task's rows are drawn into two halves, and each half is
// answered with what is most frequent in the other: no row has a say in what it is answered with. The scores are means
// over 32 draws.
inline System most_frequent_baseline(const std::vector<TestSet>& sets) {
    constexpr int DRAWS = 32;
    System system{"most frequent answer", {}};
    for (const TestSet& set : sets) {
        auto& score = system.score.emplace_back(set.rows.size());
        for (size_t t = 0; t < set.rows.size(); t++) {
            const size_t n = set.rows[t].size();
            std::vector<InstructText> rows;
            // of each row's answers, as exact_match() tells them apart: normalized → one that normalizes to it
            std::vector<std::map<std::string, std::string>> answers(n);
            for (size_t i = 0; i < n; i++) {
                rows.push_back(parse_instruct_text(*set.file, set.rows[t][i]));
                for (const std::string& output : rows[i].outputs) {
                    std::string normalized = normalize_answer(output, set.strict);
                    answers[i].emplace(normalized.empty() ? normalize_answer(output, true) : normalized, output);
                }
            }
            std::vector<std::map<std::string, int>> given(n);  // to each row: answer → in how many of the draws
            for (int d = 0; d < DRAWS; d++) {
                const Permutation drawn(n, mix64(2, t, (uint64_t)d));
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
                        if (found.first > most) {
                            most = found.first;
                            most_frequent[half] = found.second;
                        }
                }
                for (size_t i = 0; i < n; i++) given[i][most_frequent[1 - drawn(i) % 2]]++;
            }
            for (size_t i = 0; i < n; i++) score[t].add_mean(given[i], DRAWS, rows[i], set.strict);
        }
    }
    return system;
}

// ---------------------------------------------------------------- scores in a file
inline std::string data_fingerprint(const TestSet& set) { return hex(set.file->header.content); }
// Each set's with the fingerprint of its rows: a run that is resumed need not answer again.
inline void write_scores(const std::string& path, const std::vector<TestSet>& sets, const System& system) {
    Json all = Json::make_object();
    for (size_t k = 0; k < sets.size(); k++) {
        Json scores = Json::make_array();
        for (const TaskScore& s : system.score[k]) scores.a.push_back(s.sums());
        all.set(sets[k].name, Json::make_object()
                                  .set("data", data_fingerprint(sets[k]))
                                  .set("strict", sets[k].strict)
                                  .set("scores", scores));
    }
    write_file_atomic(path, dump_json(all) + "\n");
}
// False if there is no such file, or it is not about these rows.
inline bool read_scores(const std::string& path, const std::vector<TestSet>& sets, System& system) {
    if (!exists(path)) return false;
    const Json all = parse_json(read_file(path), path);
    system.score.clear();
    for (const TestSet& set : sets) {
        const Json* saved = all.find(set.name);
        auto part = [&](const char* key) { return saved ? saved->find(key) : nullptr; };
        const Json *data = part("data"), *strict = part("strict"), *scores = part("scores");
        if (!data || data->s != data_fingerprint(set) || !strict || strict->b != set.strict || !scores ||
            scores->a.size() != set.rows.size())
            return false;
        auto& tasks = system.score.emplace_back(set.rows.size());
        for (size_t t = 0; t < set.rows.size(); t++)
            if (!tasks[t].read(scores->a[t]) || tasks[t].rows != (int64_t)set.rows[t].size()) return false;
    }
    return true;
}
