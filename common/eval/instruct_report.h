// instruct_report.h: systems compared on sets of instructions, as tables for the console and as results.json. Every
// task's mean counts the same. The systems are two baselines, then models, of which the first is the reference that the
// others are compared with: the model before tuning.
#pragma once
#include "common/eval/instruct_eval.h"

constexpr size_t REFERENCE = 2;

// By how much a model is better than the reference in exact match, ROUGE-L and, where rows have them, right options:
// mean and interval over the tasks of a set; nothing if there are none.
inline std::vector<Interval> gains(const std::vector<TaskScore>& model, const std::vector<TaskScore>& reference) {
    std::vector<Interval> all;
    for (int m : {EXACT, ROUGE, OPTION})
        if (const auto values = of_tasks(METRICS[m], model); !values.empty())
            all.push_back(paired_bootstrap_interval(values, of_tasks(METRICS[m], reference), 1));
    return all;
}

// A line of the table: means over these tasks, or of one of them
inline void print_scores(const std::string& name, const std::vector<TaskScore>& tasks, bool chance) {
    auto percent = [&](int metric) { return 100 * task_mean(METRICS[metric], tasks); };
    auto some_have = [&](int metric) { return !of_tasks(METRICS[metric], tasks).empty(); };
    printf("%s  %7.1f %%    %7.3f", name.c_str(), percent(EXACT), task_mean(METRICS[ROUGE], tasks));
    if (some_have(OPTION))
        printf("   right option %5.1f %% (per byte %5.1f %%%s)", percent(OPTION), percent(OPTION_PER_BYTE),
            chance ? format(", chance %.1f %%", percent(CHANCE)).c_str() : "");
    if (some_have(QUOTES)) printf("   quotes its input %5.1f %%", percent(QUOTES));
    printf("\n");
}

// What each further model gains over the reference; an interval that is not known is "-".
inline void print_gains(const std::vector<System>& systems, size_t k, size_t tasks, int width) {
    std::vector<std::vector<Interval>> all;  // [model][metric]
    bool any_known = false;
    for (size_t i = REFERENCE + 1; i < systems.size(); i++) {
        all.push_back(gains(systems[i].score[k], systems[REFERENCE].score[k]));
        for (const Interval& gain : all.back()) any_known |= gain.known;
    }
    if (all.empty()) return;
    printf("  minus %s, in points (ROUGE-L: 0 to 1)%s\n", systems[REFERENCE].name.c_str(),
        any_known   ? ", and the 95 % interval over tasks"
        : tasks < 6 ? ""
                    : "; no interval, since fewer than 4 tasks differ");
    const char* means[] = {"  %+7.1f", "  %+8.3f", "   right option %+.1f"};
    const char* ranges[] = {" (%+.1f to %+.1f)", " (%+.3f to %+.3f)", " (%+.1f to %+.1f)"};
    for (size_t i = 0; i < all.size(); i++) {
        printf("  %-*s", width, systems[REFERENCE + 1 + i].name.c_str());
        for (size_t m = 0; m < all[i].size(); m++) {
            const Interval& gain = all[i][m];
            const double unit = m == 1 ? 1 : 100;
            printf(means[m], unit * gain.mean);
            if (gain.known) printf(ranges[m], unit * gain.low, unit * gain.high);
            else if (any_known) printf(" (-)");
        }
        printf("\n");
    }
}

// A table for each set; each_task: of every task too, before the means.
inline void print_results(const std::vector<TestSet>& sets, const std::vector<System>& systems, bool each_task) {
    int width = 20;
    for (const System& system : systems) width = std::max(width, (int)system.name.size() + 2);
    for (size_t k = 0; k < sets.size(); k++) {
        const TestSet& set = sets[k];
        const size_t tasks = of_tasks(METRICS[EXACT], systems[REFERENCE].score[k]).size();
        if (!tasks) continue;
        std::string drawn = set.drawn_from > set.rows.size() ? " of " + thousands((double)set.drawn_from) : "";
        printf("\n%s: %zu task%s, %s%s rows%s\n  %-*s  exact match   ROUGE-L, 0 to 1\n", set.name.c_str(), tasks,
            tasks == 1 ? "" : "s", thousands((double)set.rows.size()).c_str(), drawn.c_str(),
            set.strict ? "; exact match counts case and punctuation" : "", width, each_task ? "" : "mean over tasks");
        for (size_t t = 0; each_task && t < set.file->tasks.size(); t++) {
            const double rows = systems[REFERENCE].score[k][t].rows;
            if (rows == 0) continue;
            printf("  %s (%.0f rows)\n", visible(set.file->tasks[t]).c_str(), rows);
            for (const System& system : systems)
                print_scores(format("    %-*s", width - 2, system.name.c_str()), {system.score[k][t]}, false);
        }
        if (each_task) printf("  mean over tasks\n");
        for (const System& system : systems)
            print_scores(format("  %-*s", width, system.name.c_str()), system.score[k], true);
        if (size_t n = of_tasks(METRICS[OPTION], systems.back().score[k]).size(); n && n < tasks)
            printf("  (%zu of the tasks have options)\n", n);
        print_gains(systems, k, tasks, width);
        const std::pair<ScoreSum, const char*> notes[] = {
            {&TaskScore::rouge_blind,
                "  ROUGE-L is blind to %.0f rows: their references have no word of a to z or 0 to 9; look at the exact "
                "match\n"},
            {&TaskScore::too_long, "  %.0f prompts fill the model's context: no answer\n"},
            {&TaskScore::long_options,
                "  %.0f rows have an option that does not fit into the model's context: none is chosen\n"}};
        for (const auto& [sum, note] : notes) {
            double most = 0;  // of all systems
            for (const System& system : systems) {
                double rows = 0;
                for (const TaskScore& task : system.score[k]) rows += task.*sum;
                most = std::max(most, rows);
            }
            if (most > 0) printf(note, most);
        }
    }
}

// {set: {system: {exact_match, ..., tasks: {task: {...}}}}}
inline Json results_json(const std::vector<TestSet>& sets, const std::vector<System>& systems) {
    auto task_json = [](const TaskScore& s) {
        Json json;
        for (const Metric& m : METRICS)
            if (s.*m.rows > 0) json.set(m.rows_name, (int64_t)(s.*m.rows)).set(m.name, s.*m.sum / s.*m.rows);
        for (const auto& [name, sum] : {std::pair{"rouge_blind", &TaskScore::rouge_blind},
                 {"too_long", &TaskScore::too_long}, {"long_options", &TaskScore::long_options}})
            if (s.*sum > 0) json.set(name, (int64_t)(s.*sum));
        return json;
    };
    Json all = Json::make_object();
    for (size_t k = 0; k < sets.size(); k++) {
        Json of_set = Json::make_object();
        for (size_t i = 0; i < systems.size(); i++) {
            const std::vector<TaskScore>& score = systems[i].score[k];
            Json one = Json::make_object(), minus = Json::make_object(), tasks = Json::make_object();
            for (const Metric& m : METRICS)
                if (!of_tasks(m, score).empty()) one.set(m.name, task_mean(m, score));
            const auto gained = i > REFERENCE ? gains(score, systems[REFERENCE].score[k]) : std::vector<Interval>();
            for (size_t m = 0; m < gained.size(); m++) {
                const Interval& gain = gained[m];
                Json interval = Json::make_object().set("mean", gain.mean);
                if (gain.known) interval.set("low", gain.low).set("high", gain.high);
                minus.set(METRICS[m].name, interval);
            }
            if (!gained.empty()) one.set("minus_first_model", minus);
            for (size_t t = 0; t < score.size(); t++)
                if (score[t].rows > 0) tasks.set(sets[k].file->tasks[t], task_json(score[t]));
            of_set.set(systems[i].name, one.set("tasks", tasks));
        }
        all.set(sets[k].name, of_set);
    }
    return all;
}
