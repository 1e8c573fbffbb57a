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
inline std::string start_tuning(
    Cli& cli, TrainFlags& f, const LoraFlags& lora, std::pair<const char*, const char*> scripts) {
    prepare_flags(cli, f, {"train.bin"}, scripts);
    if (f.init.empty()) fail_usage("--init DIR is missing: %s", cli.find("init")->help.c_str());
    open_run_dir(f);
    const std::string last = f.out + "/last";
    const std::string init = resolve_model_dir(f.resume && exists(last) && !is_adapter(last) ? last : f.init);
    if (is_adapter(init))
        fail_usage("--init %s: expected a model, found adapters: make one of both: ./%s merge --model %s --out DIR",
            init.c_str(), cli.program.c_str(), init.c_str());
    if (lora.r > 0 && cli.given("dropout") && f.dropout > 0)
        fail_usage("--dropout: with --lora-r the model is frozen and its adapters have --lora-dropout");
    return init;
}

// The part of a fine-tuning Task that does not depend on the model: its parameters are trained or, with --lora-r, those
// of adapters, and perhaps a head, while the model's own are frozen.
template <class Model> struct TuneTask : RunTask<Model> {
    const LoraFlags& lora;
    std::string init;                      // the directory of the model that is tuned
    std::vector<ParamSpec> model_table{};  // of the model's parameters: opt's, or with adapters frozen, at `base`
    LoraTable adapters{};
    real* base = nullptr;
    uint64_t frozen = 0;  // a hash of its parameters, where there are adapters

    bool is_lora() const { return lora.r > 0; }
    // After set_up(). head_layer: as LoraTable's
    void set_up_adapters(int64_t head_layer = INT_MAX) {
        model_table = this->opt.table;
        if (!is_lora()) return;
        this->model.dropout = (float)lora.dropout;
        adapters = LoraTable(model_table, lora, head_layer);
        this->model.linear.point(adapters, model_table, nullptr, nullptr, nullptr);
        this->opt.table = adapters.rows;
        this->opt.n = total_count(adapters.rows);
    }
    void plan(Arena& arena) {
        RunTask<Model>::plan(arena);
        if (!is_lora()) return;
        arena.region("frozen parameters");
        arena.take(base, total_count(model_table));
        this->model.linear.point(adapters, model_table, base, this->opt.params, this->opt.grads);
    }
    void print_trained(const std::string& program) const {
        print_parameters(program, this->opt.table, this->f.verbose);
        if (is_lora())
            printf("low-rank adapters: these parameters are trained, the %s of the model are frozen\n",
                thousands((double)total_count(model_table)).c_str());
    }
    // The model before tuning, (total_count(model_table)), and adapters that change nothing yet
    void upload(const std::vector<areal>& values) {
        if (!is_lora()) return this->opt.upload(values);
        frozen = fnv1a(values.data(), values.size() * sizeof values[0]);
        upload_rounded(base, values);
        std::vector<areal> trained = initial_values(this->opt.table, this->opt.n, (uint64_t)this->f.seed);
        if (!adapters.saved.empty())  // the head is the end of both tables
            std::copy(values.end() - (trained.size() - adapters.head_offset), values.end(),
                trained.begin() + adapters.head_offset);
        this->opt.upload(trained);
    }
    void save_parameters(const std::string& dir, bool conv1d) const {
        if (!is_lora()) return this->opt.save(dir);
        const std::string model_dir = std::filesystem::absolute(init).lexically_normal();
        save_adapter(dir, adapters, lora, model_dir, conv1d, this->opt.values().data);
    }
    // rank and targets are in the table's fingerprint
    Json identity() const {
        const Json all = model_identity(this->model.config);
        return is_lora() ? Json(all).set("lora_alpha", lora.alpha).set("frozen", hex(frozen)) : all;
    }
};

// Writes the model that holds what the adapters of `model` add, too: write(dir) all its files but the parameters
template <class Write>
int merge_model(const ModelPaths& model, const std::vector<ParamSpec>& table, const std::string& out, Write write) {
    if (out.empty()) fail_usage("--out DIR is missing: a directory for the merged model");
    if (model.adapter.empty())
        fail_usage("--model %s: expected adapters, or --adapter DIR beside a model, found a model alone",
            model.weights.c_str());
    for (const char* end : {"", ".tmp", ".old"}) refuse_existing("--out", without_slash(out) + end);
    const std::vector<areal> values = load_values(model, table);
    save_directory(out, [&](const std::string& dir) {
        write(dir);
        save_tensors(dir, table, values.data());
    });
    printf("%s: the model %s with the adapters %s\n", out.c_str(), model.weights.c_str(), model.adapter.c_str());
    return EXIT_OK;
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
