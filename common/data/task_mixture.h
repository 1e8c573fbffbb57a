// task_mixture.h: which rows of instructions an epoch of training holds: shares of tasks, weights, caps, tasks held out
#pragma once
#include <math.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/base/cli.h"
#include "common/base/rng.h"
#include "common/data/bin_file.h"

// ---------------------------------------------------------------- names of tasks
// "family/name" → "family"; a task that names no family is one of its own
inline std::string family_of(const std::string& task) { return task.substr(0, task.find('/')); }
// Is this task, "family/name", among those that a list names, by all of it, its family or its name? (So does
// data/instructions.py --holdout.)
inline bool named_in(const std::string& task, const std::string& list) {
    std::string family = family_of(task), name = task.substr(task.find('/') + 1);
    for (const std::string& n : split_list(list))
        if (n == task || n == family || n == name) return true;
    return false;
}
// --weights "name=2,family=0.5" → a weight for each task: the product of all that name it; others have 1
inline std::vector<double> task_weights(const std::vector<std::string>& tasks, const std::string& weights) {
    std::vector<double> weight(tasks.size(), 1.0);
    for (const std::string& item : split_list(weights)) {
        size_t equal = item.rfind('=');
        double value = 0;
        if (equal == item.npos || !read_number(item.substr(equal + 1), at_least(0), &value))
            fail_usage("--weights: expected NAME=NUMBER with commas between, found \"%s\"", item.c_str());
        const std::string name = item.substr(0, equal);
        bool found = false;
        for (size_t t = 0; t < tasks.size(); t++)
            if (named_in(tasks[t], name)) {
                weight[t] *= value;
                found = true;
            }
        if (!found)
            fail_usage("--weights: expected tasks or families of the training data, found \"" + name +
                       "\"; there are " + name_list(tasks, 20));
    }
    return weight;
}

// ---------------------------------------------------------------- the mixture
// An epoch holds take[t] rows of task t, as many together as there are rows, a task's rows beyond the cap not counted
// (of --mix size without a cap and weights: every row once). Which of a task's rows these are continues from epoch to
// epoch: none comes a second time before all have come once.
struct TaskMixture {
    const BinFile& file;
    std::vector<std::vector<uint32_t>> rows;  // of each task
    std::vector<uint64_t> take;               // (tasks) rows of an epoch
    std::vector<uint64_t> first;              // (tasks + 1) rows of an epoch that belong to the tasks before
    uint64_t seed = 0;

    explicit TaskMixture(const BinFile& file) : file(file), rows(file.tasks.size()), take(rows.size()) {
        for (size_t s = 0; s < file.sequences(); s++) rows[file.task[s]].push_back((uint32_t)s);
        mix(std::vector<double>(rows.size(), 1.0), "size", 0);
    }
    uint64_t rows_per_epoch() const { return first.back(); }

    // Shares of tasks: weight · min(rows, cap) of "size", weight of "equal", 0 without rows (Raffel et al. 2019, 3.5.2)
    void mix(const std::vector<double>& weights, const std::string& how, uint64_t cap) {
        size_t n = rows.size();
        uint64_t total = 0, taken = 0;
        std::vector<double> share(n, 0.0);
        double sum = 0;
        for (size_t t = 0; t < n; t++) {
            uint64_t have = rows[t].size(), counted = cap ? std::min(cap, have) : have;
            total += counted;
            if (have > 0) share[t] = weights[t] * (how == "equal" ? 1.0 : (double)counted);
            sum += share[t];
        }
        if (sum == 0) total = 0;  // all weights are
        // the largest remainders are rounded up, so that the sum is exact
        std::vector<std::pair<double, size_t>> remainder;
        for (size_t t = 0; t < n; t++) {
            double exact = total ? (double)total * share[t] / sum : 0;
            take[t] = (uint64_t)exact;
            taken += take[t];
            remainder.push_back({(double)take[t] - exact, t});
        }
        std::sort(remainder.begin(), remainder.end());
        for (size_t i = 0; taken < total; i++, taken++) take[remainder[i].second]++;
        first.assign(1, 0);
        for (size_t t = 0; t < n; t++) first.push_back(first.back() + take[t]);
    }
    // The q-th row of an epoch, as a row of the file
    uint32_t row(uint64_t epoch, uint64_t q) const {
        size_t t = std::upper_bound(first.begin(), first.end(), q) - first.begin() - 1, n = rows[t].size();
        uint64_t at = epoch * take[t] + (q - first[t]);  // of all rows of this task that were ever taken
        return rows[t][Permutation(n, mix64(seed, t, at / n))(at % n)];
    }

    // Takes the tasks that the list names out of the mixture, and rows of other tasks that ask the same question, in
    // any of their turns: returns how many of these there are. mix() comes after it.
    size_t hold_out(const std::string& list) {
        auto question = [&](uint32_t s, size_t k) {  // the tokens before answer k
            std::vector<int32_t> ids;
            for (size_t i = 0; i < file.span(s, k).begin; i++) ids.push_back(file.token(s, i));
            return ids;
        };
        std::set<std::vector<int32_t>> held_out;
        for (size_t t = 0; t < rows.size(); t++)
            if (named_in(file.tasks[t], list)) {
                for (uint32_t s : rows[t]) held_out.insert(question(s, file.spans(s) - 1));
                rows[t].clear();
            }
        if (held_out.empty()) return 0;
        auto asks_the_same = [&](uint32_t s) {
            for (size_t k = 0; k < file.spans(s); k++)
                if (held_out.count(question(s, k))) return true;
            return false;
        };
        size_t count = 0;
        for (auto& task : rows) {
            auto same = std::remove_if(task.begin(), task.end(), asks_the_same);
            count += task.end() - same;
            task.erase(same, task.end());
        }
        return count;
    }

    // How many rows are longer than `tokens`
    size_t longer_than(size_t tokens) const {
        size_t count = 0;
        for (auto& task : rows)
            for (uint32_t s : task) count += file.length(s) > tokens;
        return count;
    }
};

// Tasks, their rows and their shares of an epoch; of more than 40 tasks their families
inline void print_mixture(const TaskMixture& mixture, const std::string& holdout, const std::vector<double>& weights) {
    const BinFile& file = mixture.file;
    const auto& tasks = file.tasks;
    struct Line {
        std::string name;
        size_t tasks = 0, held_out = 0;
        uint64_t rows = 0, take = 0, supervised = 0, tokens = 0;
    };
    const bool families = tasks.size() > 40;
    std::vector<Line> lines;
    std::map<std::string, size_t> line_of;
    size_t width = 4, used = 0;
    const uint64_t all = mixture.rows_per_epoch();
    for (size_t t = 0; t < tasks.size(); t++) {
        std::string name = families ? family_of(tasks[t]) : tasks[t];
        auto [at, is_new] = line_of.emplace(name, lines.size());
        if (is_new) lines.push_back({name});
        Line& line = lines[at->second];
        line.tasks++;
        line.held_out += named_in(tasks[t], holdout);
        line.rows += mixture.rows[t].size();
        line.take += mixture.take[t];
        for (uint32_t s : mixture.rows[t]) {
            line.tokens += file.length(s);
            for (size_t k = 0; k < file.spans(s); k++) line.supervised += file.span(s, k).end - file.span(s, k).begin;
        }
        used += mixture.take[t] > 0;
    }
    for (Line& line : lines) {
        if (line.tasks > 1)
            line.name += format(" (%zu tasks%s)", line.tasks,
                line.held_out && line.rows ? format(", %zu held out", line.held_out).c_str() : "");
        width = std::max(width, line.name.size());
    }
    printf("mixture: %s rows of %zu task%s an epoch\n", thousands((double)all).c_str(), used, used == 1 ? "" : "s");
    printf("  %-*s      rows   an epoch   share   answer tokens\n", (int)width, families ? "family" : "task");
    for (size_t i = 0; i < lines.size(); i++) {
        const Line& line = lines[i];
        if (i == 30 && lines.size() > 40) {
            printf("  ... and %zu more %s\n", lines.size() - 30, families ? "families" : "tasks");
            break;
        }
        if (line.rows == 0) {
            printf("  %-*s  %s\n", (int)width, line.name.c_str(), line.held_out ? "held out" : "no rows");
            continue;
        }
        printf("  %-*s  %8s   %8s  %5.1f %%  %5.1f %% of %s\n", (int)width, line.name.c_str(),
            thousands((double)line.rows).c_str(), thousands((double)line.take).c_str(),
            100 * (double)line.take / (double)std::max<uint64_t>(all, 1),
            100 * (double)line.supervised / (double)line.tokens, thousands((double)line.tokens).c_str());
    }
    for (size_t t = 0; t < tasks.size(); t++)
        if (mixture.take[t] == 0 && weights[t] > 0 && !mixture.rows[t].empty())
            printf(
                "warning: %s: its share is too small for one row an epoch, so none of its %zu rows is learned; give it "
                "more --weights\n",
                tasks[t].c_str(), mixture.rows[t].size());
}
