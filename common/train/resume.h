// resume.h: continuing a run where it stopped. --resume restores, from the run directory OUT:
//
//   the flags that are not given again                     config.json                       resume_flags()
//   the dimensions of the model                            last/config.json                  starting_model()
//   the parameters (fp32)                                  last/model.safetensors            restore_run()
//   the master weights (bf16, fp64), AdamW's m and v       last/training_state.safetensors   restore_run()
//   how far the run has come, the best validation          the same file's counters          Progress
//   the metrics of the steps that count                    metrics.jsonl                     MetricsLog::open()
//   the chosen algorithms of matrix products (GPU)         matmul_plans.jsonl                matmul_plans.h
//
// Nothing else has a state: the order of the data, masks, dropout and the learning rate follow from flags and step.
#pragma once
#include <cmath>

#include "common/data/batch.h"
#include "common/data/order.h"
#include "common/train/flags.h"
#include "common/train/optimizer.h"
#include "common/train/training_state.h"

// Takes the flags of the run in --out; those that would make it another run may not be changed.
inline void resume_flags(Cli& cli, const TrainFlags& f) {
    std::string path = f.out + "/config.json";
    if (!exists(path))
        fail("--resume: expected %s, found no such file: nothing was started in %s yet%s", path.c_str(), f.out.c_str(),
             nearest_entry(f.out).c_str());
    Json saved = parse_json(read_file(path), path);
    const Json* flags = saved.find("flags");
    if (!flags) fail("%s: expected \"flags\", found none: not written by this program", path.c_str());
    if (const Json* program = saved.find("program"); program && program->s != cli.program)
        fail("--resume: expected a run of %s, found one of %s in %s: ./%s --resume --out %s", cli.program.c_str(),
             program->s.c_str(), path.c_str(), program->s.c_str(), f.out.c_str());
    std::string free = " out data resume retune verbose steps epochs seeds patience eval-every eval-tokens log-every ";
    for (auto& [name, value] : flags->o) {
        const Flag* flag = cli.find(name);
        if (flag && flag->given && free.find(" " + name + " ") == std::string::npos &&
            dump_json(flag->json()) != dump_json(value))
            fail_usage(
                "--%s: the run in %s has %s, a resumed run keeps its flags (to train differently from here: --init "
                "%s/last --out ANOTHER)",
                flag->name.c_str(), f.out.c_str(), dump_json(value).c_str(), f.out.c_str());
    }
    Json rest = Json::make_object();
    for (auto& [name, value] : flags->o)
        if (name != "resume" && name != "retune" && name != "verbose" && name != "out") rest.set(name, value);
    cli.from_json(rest, path);
}

// To be called when f.steps is known, by --steps or --epochs, and before OUT/config.json is written anew.
inline void announce_new_length(const TrainFlags& f) {
    const std::string path = f.out + "/config.json";
    const Json saved = parse_json(read_file(path), path), *flags = saved.find("flags");
    const Json* steps = flags ? flags->find("steps") : nullptr;
    if (steps && steps->i != f.steps)
        printf(
            "the run had %lld steps and now has %lld: from here on the learning rate follows a schedule of that "
            "length\n",
            (long long)steps->i, (long long)f.steps);
}

// A counter of training_state.safetensors; `path` is that file, for errors.
inline const Json& find_counter(const Json& counters, const char* key, const std::string& path) {
    const Json* counter = counters.find(key);
    if (!counter) fail("%s: expected \"%s\" in its counters, found none: the file is damaged", path.c_str(), key);
    return *counter;
}

// How far a run has come.
struct Progress {
    int64_t step = 0;                                     // optimiser steps done
    Cursor cursor;                                        // the next sequence to train on
    double tokens = 0, seconds = 0;                       // trained so far
    double best_loss = INFINITY, best_score = -INFINITY;  // of the best validation
    int64_t best_step = -1;                               // −1: no validation yet
    int64_t evals_since_best = 0;

    Json to_json() const {
        return Json::make_object()
            .set("step", step)
            .set("next_sequence", cursor.next)
            .set("tokens", tokens)
            .set("seconds", seconds)
            .set("best_loss", best_loss)
            .set("best_score", best_score)
            .set("best_step", best_step)
            .set("stale", evals_since_best);
    }
    // From the counters in the file `path`
    static Progress from_json(const Json& counters, const std::string& path) {
        auto counter = [&](const char* key) -> const Json& { return find_counter(counters, key, path); };
        Progress p;
        p.step = counter("step").i;
        p.cursor.next = (uint64_t)counter("next_sequence").i;
        p.tokens = counter("tokens").d;
        p.seconds = counter("seconds").d;
        if (counter("best_loss").kind != Json::null) {
            p.best_loss = counter("best_loss").d;
            p.best_score = counter("best_score").d;
            p.best_step = counter("best_step").i;
        }
        p.evals_since_best = counter("stale").i;
        return p;
    }
    bool early_stop(const TrainFlags& f) const { return f.patience > 0 && evals_since_best >= f.patience; }
    bool finished(const TrainFlags& f) const { return step >= f.steps || early_stop(f); }
};

// model.safetensors holds every bit of fp32 parameters; of other types the master weights are saved as well.
constexpr bool MODEL_FILE_IS_EXACT = std::is_same_v<real, float>;

// Writes what restore_run() reads into the model directory `dir`, beside the model. identity: what the run trains on
// and what it trains (identity.h)
inline void save_run(const std::string& dir, const Optimizer& opt, const Progress& progress, const Json& identity) {
    std::vector<areal> m = opt.host_copy(opt.m), v = opt.host_copy(opt.v), master;
    if (!MODEL_FILE_IS_EXACT) master = opt.download();
    save_training_state(dir, opt.table, m.data(), v.data(), master.empty() ? nullptr : master.data(),
                        progress.to_json().set("identity", identity));
}
// Parameters, m and v of the run that was saved in `dir`; returns how far it had come. A run of another identity is
// refused.
inline Progress restore_run(const std::string& dir, Optimizer& opt, const Json& identity) {
    std::string path = dir + "/training_state.safetensors";
    std::vector<areal> m(opt.n), v(opt.n), master(opt.n);
    Json counters = load_training_state(dir, opt.table, m.data(), v.data(),
                                        MODEL_FILE_IS_EXACT ? nullptr : master.data());
    const Json& saved_identity = find_counter(counters, "identity", path);
    for (const auto& [key, value] : identity.o) {
        const Json* saved = saved_identity.find(key);
        if (!saved || dump_json(*saved) != dump_json(value))
            fail("%s: %s: it was trained with %s, this run has %s: give --data and --out of the same run", dir.c_str(),
                 key.c_str(), saved ? dump_json(*saved).c_str() : "none", dump_json(value).c_str());
    }
    if (MODEL_FILE_IS_EXACT) load_tensors(dir, opt.table, master.data()).refuse_missing(dir);
    opt.upload(master);
    device::copy_to_device(opt.m, m.data(), opt.n * sizeof(areal));
    device::copy_to_device(opt.v, v.data(), opt.n * sizeof(areal));
    device::device_sync();
    Progress progress = Progress::from_json(counters, path);
    printf("resumed %s at step %lld\n", dir.c_str(), (long long)progress.step);
    return progress;
}
