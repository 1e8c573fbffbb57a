// resume.h: the run directory OUT: what is checked before anything takes time, and continuing a run where it stopped.
// --resume restores:
//
//   the flags that are not given again                     config.json                       resume_flags()
//   the dimensions of the model                            last/config.json                  starting_model()
//   the parameters (fp32)                                  last/model.safetensors            restore_run()
//   the master weights (bf16, fp64), AdamW's m and v       last/training_state.safetensors   restore_run()
//   how far the run has come, the best validation          the same file's counters          Progress
//   the metrics of the steps that count                    metrics.jsonl                     RunLog::kept_lines()
//   the chosen algorithms of matrix products (GPU)         matmul_plans.jsonl                matmul_plans.h
//
// Nothing else has a state: the order of the data, masks, dropout and the learning rate follow from flags and step.
#pragma once
#include <fcntl.h>
#include <sys/file.h>

#include "common/data/batch.h"
#include "common/train/model_dir.h"
#include "common/train/optimizer.h"

// Takes the flags of the run in --out; those that would make it another run may not be changed.
inline void resume_flags(Cli& cli, const TrainFlags& f) {
    std::string path = f.out + "/config.json";
    if (!exists(path))
        fail("--resume: expected " + path + ", found no such file: nothing was started in " + f.out + " yet" +
             nearest_entry(f.out));
    Json saved = parse_json(read_file(path), path);
    const Json* flags = saved.find("flags");
    if (!flags) fail(path + ": expected \"flags\", found none: not written by this program");
    if (const Json* program = saved.find("program"); program && program->s != cli.program)
        fail("--resume: expected a run of %s, found one of %s in %s: ./%s --resume --out %s", cli.program.c_str(),
            program->s.c_str(), path.c_str(), program->s.c_str(), f.out.c_str());
    const std::vector<std::string> free = {"out", "data", "resume", "retune", "verbose", "steps", "epochs", "seeds",
        "patience", "eval-every", "eval-tokens", "log-every"};
    for (auto& [name, value] : flags->o) {
        const Flag* flag = cli.find(name);
        if (flag && flag->given && !contains(free, name) && dump_json(flag->json()) != dump_json(value))
            fail_usage("--" + flag->name() + ": the run in " + f.out + " has " + dump_json(value) +
                       ", a resumed run keeps its flags (to train differently from here: --init " + f.out +
                       "/last --out ANOTHER)");
    }
    for (const char* name : {"out", "resume", "retune", "verbose"})
        cli.find(name)->given = true;  // of this start alone
    cli.from_json(*flags, path);
}

// Takes the flags of a resumed run, and checks what every program needs. `files` have to be in --data; of the
// `scripts` the first makes them from a public source, the second from the user's own files.
inline void prepare_flags(
    Cli& cli, TrainFlags& f, std::vector<const char*> files, std::pair<const char*, const char*> scripts) {
    if (f.resume && f.out.empty()) fail_usage("--resume: expected --out DIR, the run to continue");
    if (f.resume) resume_flags(cli, f);
    if (f.data.empty())
        fail_usage(
            "--data DIR is missing: the folder with %s; %s --help says how to make one", files[0], scripts.second);
    if (f.out.empty()) fail_usage("--out DIR is missing: where the run's checkpoints and metrics go");
    if (f.batch_tokens % 128)
        fail_usage("--batch-tokens: expected a multiple of 128, found %lld", (long long)f.batch_tokens);
    if (cli.given("steps") && cli.given("epochs"))
        fail_usage("--steps and --epochs both say how long to train: give one of them");
    if (cli.given("steps")) f.epochs = 0;  // also those of the run that is resumed
    for (const char* file : files)
        if (!exists(f.data + "/" + file))
            fail("--data " + f.data + ": expected " + file + " there, found none: make it with " + scripts.first +
                 " --out " + f.data + ", or of your own with " + scripts.second + " FILE... --out " + f.data +
                 nearest_entry(f.data + "/" + file));
    for (std::string* path : {&f.data, &f.init})  // config.json holds full paths, for a --resume from elsewhere
        if (char* full = realpath(path->c_str(), nullptr)) {
            *path = full;
            free(full);
        }
}

// Refuses --out where a run or a model is
inline void refuse_run(const std::string& out, const char* advice) {
    if (exists(out + "/metrics.jsonl") || exists(out + "/last") || exists(out + "/best") || is_model_directory(out))
        fail_usage("--out " + out + ": a run or a model is there already" + advice + " take another directory");
}

// What a run writes to --out beside last/ and best/, config.json first; each begins as NAME.tmp. and eight letters
inline const std::vector<std::string> RUN_FILES = {"config.json", "metrics.jsonl", "results.json", "predictions.tsv",
    "errors.tsv", "answers.jsonl", "answers_before.jsonl"};

// Makes --out ready for this process alone.
inline void open_run_dir(const TrainFlags& f) {
    if (!f.resume) {
        refuse_run(f.out, "; continue it with --resume or");
        // A config.json with flags is of a run that was killed before its first checkpoint; no other may be there.
        const std::string config = f.out + "/config.json";
        const std::string text = exists(config) && !is_directory(config) ? read_file(config) : "";
        const bool ours = text.find("\"flags\": {") != text.npos && text.find("\"resume\": ") != text.npos;
        if (!ours) refuse_existing("--out", f.out, {"config.json", "last.tmp", "best.tmp", "last.old", "best.old"});
        refuse_existing("--out", f.out, {"last", "best"});  // also links that lead nowhere
        refuse_existing("--out", f.out, {RUN_FILES.begin() + (ours ? 1 : 0), RUN_FILES.end()});
    }
    make_directories(f.out);
    // A lock on the directory. It is released when the process ends, however it ends.
    int lock = open(f.out.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0) fail("--out " + f.out + ": expected a directory: " + strerror(errno));
    if (flock(lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        fail("--out " + f.out + ": another process is training there");
    for (const char* name : {"/last", "/best"}) {  // what a save left that was cut off
        remove_tree(f.out + name + ".tmp");
        if (exists(f.out + name)) remove_tree(f.out + name + ".old");
        else rename((f.out + name + ".old").c_str(), (f.out + name).c_str());  // if that is there
    }
    std::error_code e;
    for (std::filesystem::directory_iterator entry(f.out, e), end; !e && entry != end; entry.increment(e)) {
        const std::string name = entry->path().filename();
        const size_t at = name.find(".tmp.");
        if (at != name.npos && name.size() == at + 13 && contains(RUN_FILES, name.substr(0, at)))
            unlink(entry->path().c_str());
    }
}

// How far a run has come.
struct Progress {
    int64_t step = 0;                                     // optimiser steps done
    Cursor cursor;                                        // the next sequence to train on
    double tokens = 0, seconds = 0;                       // trained so far
    double best_loss = INFINITY, best_score = -INFINITY;  // of the best validation
    int64_t best_step = -1;                               // −1: no validation yet
    int64_t evals_since_best = 0;

    template <class Self, class F> static void for_each(Self& p, F f) {  // f(name of the counter, member)
        f("step", p.step);
        f("next_sequence", p.cursor.next);
        f("tokens", p.tokens);
        f("seconds", p.seconds);
        f("best_loss", p.best_loss);
        f("best_score", p.best_score);
        f("best_step", p.best_step);
        f("stale", p.evals_since_best);
    }
    Json to_json() const {
        Json counters;
        for_each(*this, [&](const char* key, auto x) { counters.set(key, x); });
        return counters;
    }
    // From the counters in the file `path`; what is infinite is null there.
    static Progress from_json(const Json& counters, const std::string& path) {
        const ConfigJson json{counters, path, "the file is damaged"};
        Progress p;
        for_each(p, [&](const char* key, auto& x) {
            const bool best = !strncmp(key, "best", 4);
            if (!counters.find(key)) json.refuse(key, "a counter");
            if constexpr (!std::is_same_v<decltype(x), double&>) x = json.integer(key, best ? -1 : 0, 1ll << 59);
            else x = best ? json.number(key, -1e18, 1e18, x) : json.number(key, 0, 1e18);
        });
        return p;
    }
    bool early_stop(const TrainFlags& f) const { return f.patience > 0 && evals_since_best >= f.patience; }
    bool finished(const TrainFlags& f) const { return step >= f.steps || early_stop(f); }
};

// What of a model may not change in a resumed run
template <class Config> Json model_identity(const Config& c) {
    Json identity;
    identity.set("precision", precision()).set("V", c.V).set("T", c.T).set("L", c.L);
    return identity.set("C", c.C).set("NH", c.NH).set("FF", c.FF);
}

// model.safetensors holds every bit of fp32 parameters; of other types the master weights are saved as well.
constexpr bool MODEL_FILE_IS_EXACT = std::is_same_v<real, float>;

// Writes what restore_run() reads into the model directory `dir`, beside the model. identity: a Task's identity()
inline void save_run(const std::string& dir, const Optimizer& opt, const Progress& progress, const Json& identity) {
    const Optimizer::HostView m = opt.on_host(opt.m), v = opt.on_host(opt.v);
    const Optimizer::HostView master = MODEL_FILE_IS_EXACT ? Optimizer::HostView{} : opt.values();
    save_training_state(dir, opt.table, m.data, v.data, master.data, progress.to_json().set("identity", identity));
}
// Parameters, m and v of the run saved in `dir`; returns how far it had come. A run of another identity is refused.
inline Progress restore_run(const std::string& dir, Optimizer& opt, const Json& identity) {
    std::string path = dir + "/training_state.safetensors";
    std::vector<areal> m(device_is_host ? 0 : opt.n), v(m.size()), master(opt.n);
    Json counters = load_training_state(dir, opt.table, device_is_host ? opt.m : m.data(),
        device_is_host ? opt.v : v.data(), MODEL_FILE_IS_EXACT ? nullptr : master.data());
    const Json* saved_identity = counters.find("identity");
    for (const auto& [key, value] : identity.o) {
        const Json* saved = saved_identity ? saved_identity->find(key) : nullptr;
        if (!saved || dump_json(*saved) != dump_json(value))
            fail(dir + ": " + key + ": it was trained with " + (saved ? dump_json(*saved) : "none") +
                 ", this run has " + dump_json(value) + ": give --data and --out of the same run");
    }
    for (const char* name : {"/model.safetensors", "/adapter_model.safetensors"})
        if (exists(dir + name)) SafeTensors(dir + name).verify();
    if (MODEL_FILE_IS_EXACT) load_tensors(dir, opt.table, master.data()).refuse_missing(dir);
    opt.upload(master);
    if (!device_is_host) {
        device::copy_to_device(opt.m, m.data(), opt.n * sizeof(areal));
        device::copy_to_device(opt.v, v.data(), opt.n * sizeof(areal));
    }
    device::device_sync();
    Progress progress = Progress::from_json(counters, path);
    printf("resumed %s at step %lld\n", dir.c_str(), (long long)progress.step);
    return progress;
}
