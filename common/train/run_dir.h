// run_dir.h: what is checked before anything takes time: the flags of a run, its data, and that --out is its alone.
#pragma once
#include <fcntl.h>
#include <sys/file.h>

#include "common/train/model_dir.h"
#include "common/train/resume.h"

// Takes the flags of a resumed run, and checks what every program needs. `files` have to be in --data; of the
// `scripts` the first makes them from a public source, the second from the user's own files.
inline void prepare_flags(Cli& cli, TrainFlags& f, std::vector<const char*> files,
                          std::pair<const char*, const char*> scripts) {
    if (f.resume && f.out.empty()) fail_usage("--resume: expected --out DIR, the run to continue");
    if (f.resume) resume_flags(cli, f);
    if (f.data.empty())
        fail_usage("--data DIR is missing: the folder with %s; %s --help says how to make one", files[0],
                   scripts.second);
    if (f.out.empty()) fail_usage("--out DIR is missing: where the run's checkpoints and metrics go");
    if (f.batch_tokens % 128)
        fail_usage("--batch-tokens: expected a multiple of 128, found %lld", (long long)f.batch_tokens);
    if (cli.given("steps") && cli.given("epochs"))
        fail_usage("--steps and --epochs both say how long to train: give one of them");
    if (cli.given("steps")) f.epochs = 0;  // also those of the run that is resumed
    for (const char* file : files)
        if (!exists(f.data + "/" + file))
            fail(
                "--data %s: expected %s there, found none: make it with %s --out %s, or of your own with %s FILE... "
                "--out %s%s",
                f.data.c_str(), file, scripts.first, f.data.c_str(), scripts.second, f.data.c_str(),
                nearest_entry(f.data + "/" + file).c_str());
    for (std::string* path : {&f.data, &f.init})  // config.json holds full paths, for a --resume from elsewhere
        if (char* full = realpath(path->c_str(), nullptr)) {
            *path = full;
            free(full);
        }
}

// Did a training program write this config.json? Other programs' may have a "program", too.
inline bool is_run_config(const std::string& path) {
    if (!exists(path) || is_directory(path)) return false;
    try {
        const Json config = parse_json(read_file(path), path);
        const Json *program = config.find("program"), *flags = config.find("flags");
        return program && program->kind == Json::string && flags && flags->find("resume");
    } catch (const Error&) {
        return false;  // no JSON
    }
}

// Makes --out ready for this process alone.
inline void open_run_dir(const TrainFlags& f) {
    const char* out = f.out.c_str();
    if (!f.resume && (exists(f.out + "/metrics.jsonl") || exists(f.out + "/last") || exists(f.out + "/best") ||
                      is_model_directory(f.out)))
        fail_usage("--out %s: a run or a model is there already; continue it with --resume or take another directory",
                   out);
    if (!f.resume) {
        // A run that was killed before its first checkpoint left a config.json of its own; no other file may be there.
        if (!is_run_config(f.out + "/config.json"))
            refuse_existing("--out", f.out, {"config.json", "last.tmp", "best.tmp", "last.old", "best.old"});
        refuse_existing("--out", f.out,
                        {"last", "best", "metrics.jsonl", "results.json", "predictions.tsv", "errors.tsv",
                         "answers.jsonl", "answers_before.jsonl"});  // also links that lead nowhere
    }
    make_directories(f.out);
    // A lock on the directory. It is released when the process ends, however it ends.
    int lock = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0) fail("--out %s: expected a directory: %s", out, strerror(errno));
    if (flock(lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        fail("--out %s: another process is training there", out);
}
