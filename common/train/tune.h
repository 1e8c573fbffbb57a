// tune.h: what the two fine-tuning programs do alike, as pretrain.h has it of the two for pretraining.
#pragma once
#include "common/train/pretrain.h"

inline TrainFlags tuning_flags(double warmup) {
    TrainFlags f;
    f.steps = 0;  // as many as --epochs say
    f.epochs = 3;
    f.warmup = warmup;
    f.beta2 = 0.999;
    f.eps = 1e-8;
    f.eval_every = 0;
    f.log_every = 25;
    return f;
}

// Checks the flags, makes --out and returns the directory of the model to start with: a resumed run finds all that it
// needs in last/, but adapters also need --init.
inline std::string start_tuning(Cli& cli, TrainFlags& f, std::pair<const char*, const char*> scripts) {
    prepare_flags(cli, f, {"train.bin"}, scripts);
    if (f.init.empty()) fail_usage("--init DIR is missing: %s", cli.find("init")->help.c_str());
    open_run_dir(f);
    const std::string last = f.out + "/last";
    return resolve_model_dir(f.resume && exists(last) && !is_adapter(last) ? last : f.init);
}

// The steps that --epochs are, and those between two validations if it is an epoch
inline void count_steps(Cli& cli, TrainFlags& f, double rows, int64_t batch) {
    const double rows_per_step = (double)(batch * f.accum);
    if (f.epochs > 0) f.steps = std::max<int64_t>(1, llround(f.epochs * rows / rows_per_step));
    if (f.steps == 0 && !cli.given("steps")) fail_usage("--epochs 0: expected more than 0, or --steps");
    if (f.eval_every == 0) f.eval_every = (int64_t)ceil(rows / rows_per_step);
}

// --out of an evaluation: no run, no model, and none of these files may be there.
inline void refuse_used_directory(const std::string& out, const std::vector<std::string>& names) {
    refuse_run(out, ", whose files this would overwrite:");
    refuse_existing("--out", out, names);
}
