// instruct_report.h: systems compared on sets of instructions, as tables for the console and as results.json. Every
// task's mean counts the same.
#pragma once
#include "common/base/text.h"
#include "common/eval/systems.h"

// By how much a model is better than the reference: mean and interval over the tasks of a set
struct Gain {
    Interval exact, rouge, option;
    bool has_options;

    Gain(const SetScores& model, const SetScores& reference, uint64_t seed)
        : exact(paired_bootstrap_interval(model.exact, reference.exact, seed)),
          rouge(paired_bootstrap_interval(model.rouge, reference.rouge, seed)),
          option{},
          has_options(!model.options.empty()) {
        if (has_options) option = paired_bootstrap_interval(model.options, reference.options, seed);
    }
    bool any_known() const { return exact.known || rouge.known || (has_options && option.known); }
};

// Every task's scores
inline void print_tasks(const TestSet& set, size_t k, const std::vector<const System*>& systems, int width) {
    for (size_t t = 0; t < set.rows.size(); t++) {
        if (set.rows[t].empty()) continue;
        printf("  %s (%zu rows)\n", visible(set.file->tasks[t]).c_str(), set.rows[t].size());
        for (const System* system : systems) {
            const TaskScore& s = system->score[k][t];
            printf("    %-*s  %7.1f %%    %7.3f", width - 2, system->name.c_str(), 100 * s.mean_exact(),
                   s.mean_rouge());
            if (s.with_options)
                printf("   right option %5.1f %% (per byte %5.1f %%)", 100 * s.option_accuracy(),
                       100 * s.option_accuracy_per_byte());
            if (s.quotes) printf("   quotes its input %5.1f %%", 100 * s.quote_rate());
            printf("\n");
        }
    }
}

inline void print_means(const std::vector<const System*>& systems, size_t k, int width) {
    for (const System* system : systems) {
        SetScores s(system->score[k]);
        auto percent = [](const std::vector<double>& x) { return 100 * SetScores::mean(x); };
        printf("  %-*s  %7.1f %%    %7.3f", width, system->name.c_str(), percent(s.exact), SetScores::mean(s.rouge));
        if (!s.options.empty())
            printf("   right option %5.1f %% (per byte %5.1f %%, chance %.1f %%)", percent(s.options),
                   percent(s.options_per_byte), percent(s.chance));
        if (!s.quotes.empty()) printf("   quotes its input %5.1f %%", percent(s.quotes));
        printf("\n");
    }
}

// What each model gains over the reference; an interval that is not known is "-".
inline void print_gains(const Comparison& systems, size_t k, size_t tasks, int width, uint64_t seed) {
    if (systems.models.empty()) return;
    const SetScores reference(systems.reference.score[k]);
    std::vector<Gain> gains;
    bool any_known = false;
    for (const System& model : systems.models) {
        gains.emplace_back(SetScores(model.score[k]), reference, seed);
        any_known |= gains.back().any_known();
    }
    auto range = [&](const Interval& i, const char* form, double unit) {
        if (!any_known) return std::string();
        return i.known ? format(form, unit * i.low, unit * i.high) : std::string(" (-)");
    };
    const char* interval = any_known   ? ", and the 95 % interval over tasks"
                           : tasks < 6 ? ""
                                       : "; no interval, since fewer than 4 tasks differ";
    printf("  minus %s, in points (ROUGE-L: 0 to 1)%s\n", systems.reference.name.c_str(), interval);
    for (size_t i = 0; i < gains.size(); i++) {
        const Gain& g = gains[i];
        printf("  %-*s  %+7.1f%s  %+8.3f%s", width, systems.models[i].name.c_str(), 100 * g.exact.mean,
               range(g.exact, " (%+.1f to %+.1f)", 100).c_str(), g.rouge.mean,
               range(g.rouge, " (%+.3f to %+.3f)", 1).c_str());
        if (g.has_options)
            printf("   right option %+.1f%s", 100 * g.option.mean, range(g.option, " (%+.1f to %+.1f)", 100).c_str());
        printf("\n");
    }
}

// A table for each set; each_task: of every task too, before the means.
inline void print_results(const std::vector<TestSet>& sets, const Comparison& systems, bool each_task, uint64_t seed) {
    const std::vector<const System*> all = systems.all();
    size_t longest = 20;
    for (const System* system : all) longest = std::max(longest, system->name.size() + 2);
    const int width = (int)longest;
    for (size_t k = 0; k < sets.size(); k++) {
        const TestSet& set = sets[k];
        size_t tasks = 0;
        for (auto& rows : set.rows) tasks += !rows.empty();
        if (!tasks) continue;
        std::string drawn = set.drawn_from > set.count() ? format(" of %s", thousands((double)set.drawn_from).c_str())
                                                         : "";
        printf("\n%s: %zu task%s, %s%s rows%s\n  %-*s  exact match   ROUGE-L, 0 to 1\n", set.name.c_str(), tasks,
               tasks == 1 ? "" : "s", thousands((double)set.count()).c_str(), drawn.c_str(),
               set.strict ? "; exact match counts case and punctuation" : "", width,
               each_task ? "" : "mean over tasks");
        if (each_task) {
            print_tasks(set, k, all, width);
            printf("  mean over tasks\n");
        }
        print_means(all, k, width);
        if (size_t n = SetScores(all.back()->score[k]).options.size(); n && n < tasks)
            printf("  (%zu of the tasks have options)\n", n);
        print_gains(systems, k, tasks, width, seed);
        int64_t too_long = 0, long_options = 0, rouge_blind = 0;
        for (const System* system : all) {
            SetScores s(system->score[k]);
            too_long = std::max(too_long, s.too_long);
            long_options = std::max(long_options, s.long_options);
            rouge_blind = std::max(rouge_blind, s.rouge_blind);
        }
        if (rouge_blind)
            printf(
                "  ROUGE-L is blind to %lld rows: their references have no word of a to z or 0 to 9; look at the exact "
                "match\n",
                (long long)rouge_blind);
        if (too_long) printf("  %lld prompts fill the model's context: no answer\n", (long long)too_long);
        if (long_options)
            printf("  %lld rows have an option that does not fit into the model's context: none is chosen\n",
                   (long long)long_options);
    }
}

// {set: {system: {exact_match, ..., tasks: {task: {...}}}}}
inline Json results_json(const std::vector<TestSet>& sets, const Comparison& systems, uint64_t seed) {
    auto interval = [](const Interval& i) {
        Json json = Json::make_object().set("mean", i.mean);
        if (i.known) json.set("low", i.low).set("high", i.high);
        return json;
    };
    Json all = Json::make_object();
    for (size_t k = 0; k < sets.size(); k++) {
        const SetScores reference(systems.reference.score[k]);
        auto system_json = [&](const System& system, bool compared) {
            Json tasks = Json::make_object();
            for (size_t t = 0; t < sets[k].rows.size(); t++)
                if (!sets[k].rows[t].empty()) tasks.set(sets[k].file->tasks[t], system.score[k][t].json());
            const SetScores s(system.score[k]);
            Json one = Json::make_object();
            one.set("exact_match", SetScores::mean(s.exact)).set("rouge_l", SetScores::mean(s.rouge));
            if (!s.options.empty())
                one.set("option_accuracy", SetScores::mean(s.options))
                    .set("option_accuracy_per_byte", SetScores::mean(s.options_per_byte))
                    .set("option_chance", SetScores::mean(s.chance));
            if (!s.quotes.empty()) one.set("quotes_of_input", SetScores::mean(s.quotes));
            if (compared && !s.exact.empty()) {
                const Gain gain(s, reference, seed);
                Json minus = Json::make_object();
                minus.set("exact_match", interval(gain.exact)).set("rouge_l", interval(gain.rouge));
                if (gain.has_options) minus.set("option_accuracy", interval(gain.option));
                one.set("minus_first_model", minus);
            }
            return one.set("tasks", tasks);
        };
        Json set = Json::make_object();
        for (const System* system : {&systems.most_frequent, &systems.copy_input, &systems.reference})
            set.set(system->name, system_json(*system, false));
        for (const System& model : systems.models) set.set(model.name, system_json(model, true));
        all.set(sets[k].name, set);
    }
    return all;
}
