// train.h: what every training program shares: flags, schedule, the optimiser's memory, the loop with validation,
// checkpoints and resume, the console and metrics.jsonl. A program brings a Task (see train() at the end).
#pragma once
#include <fcntl.h>
#include <omp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/time.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <memory>

#include "common/base/cli.h"
#include "common/data/dataloader.h"
#include "common/device/arena.h"
#include "common/ops/adamw.cuh"
#include "common/train/checkpoint.h"

inline double seconds_now() {
    timeval t;
    gettimeofday(&t, nullptr);
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

// ---------------------------------------------------------------- flags
struct TrainFlags {
    std::string data, out, init;
    bool resume = false, retune = false, overfit = false, recompute = false;
    int64_t steps = 1000, batch_tokens = 4096, accum = 1, seed = 1, eval_every = 100, eval_tokens = 65536,
            log_every = 1, patience = 0;
    double epochs = 0, lr = 0, warmup = 0.06, final_lr = 0, decay_share = 0.2, weight_decay = 0.01, beta1 = 0.9,
           beta2 = 0.98, eps = 1e-6, clip = 1, dropout = 0.1;
    std::string schedule = "linear";

    // A program may take some out (without()) and say of others what they mean to it (describe()).
    std::vector<FlagGroup> groups() {
        return {{"Run",
                 "train",
                 {{"data", &data, "DIR", "train.bin, val.bin and the tokenizer, as data/*.py make them"},
                  {"out", &out, "DIR", "run directory: best/, last/, metrics.jsonl, config.json"},
                  {"init", &init, "DIR",
                   "go on from this model directory (ours or Hugging Face's) instead of from scratch"},
                  {"resume", &resume, "go on where the run in --out stopped, bit for bit"},
                  {"retune", &retune,
                   "with --resume on a GPU: time the matrix products anew (after a change of driver, say); the last "
                   "bits may then differ"},
                  {"seed", &seed, at_least(0), "of initialisation, order, masks and dropout"}}},
                {"Training",
                 "train",
                 {{"steps", &steps, at_least(steps ? 1 : 0),
                   steps ? "optimiser steps" : "optimiser steps, instead of --epochs"},
                  {"epochs", &epochs, between(0, 1e6),
                   steps ? "instead of --steps: passes over the data; 0: use --steps" : "passes over the data"},
                  {"batch-tokens", &batch_tokens, between(128, 1 << 22), "tokens of a micro-batch, a multiple of 128"},
                  {"accum", &accum, between(1, 1 << 20), "micro-batches of an optimiser step"},
                  {"lr", &lr, at_least(0),
                   "peak learning rate; 0: by the width, 1e-3 up to 256, 5e-4 up to 512, 2e-4 up to 768, 1e-4"},
                  {"schedule", &schedule, "linear|cosine|constant|wsd",
                   "of the learning rate after the warmup; wsd: constant, then down in the last part"},
                  {"warmup", &warmup, at_least(0), "rising from 0: a number of steps, or below 1 a share of them"},
                  {"final-lr", &final_lr, between(0, 1), "where the schedule ends, as a share of --lr"},
                  {"decay-share", &decay_share, between(0, 1), "wsd: share of the steps in which the rate falls"},
                  {"weight-decay", &weight_decay, at_least(0), "AdamW, on matrices and embeddings"},
                  {"beta1", &beta1, up_to(0, 1), "AdamW"},
                  {"beta2", &beta2, up_to(0, 1), "AdamW"},
                  {"eps", &eps, above(0), "AdamW"},
                  {"clip", &clip, at_least(0), "largest norm of the gradient; 0: no clipping"},
                  {"dropout", &dropout, between(0, 0.999), "of embeddings, attention and both branches of every layer"},
                  {"recompute", &recompute,
                   "compute what LayerNorms and GELU gave again in the backward pass instead of keeping it: less "
                   "memory, a little more time"},
                  {"overfit-one-batch", &overfit,
                   "repeat the first step's batches without dropout: the loss must fall to almost nothing"}}},
                {"Validation",
                 "train",
                 {{"eval-every", &eval_every, at_least(0),
                   "steps from one validation to the next, each writes last/ and, if it is the best, best/; 0: only at "
                   "the end"},
                  {"eval-tokens", &eval_tokens, at_least(0),
                   "tokens of val.bin to validate on, the same ones each time; 0: all"},
                  {"log-every", &log_every, at_least(1), "steps from one line on the console to the next"}}}};
    }
    // Makes --out ready for this process alone, before anything takes time.
    void open_run() const {
        if (!resume && (exists(out + "/metrics.jsonl") || exists(out + "/last") || exists(out + "/best") ||
                        is_model_directory(out)))
            fail_usage("--out %s: a run or a model is there already; go on with --resume or take another directory",
                       out.c_str());
        make_directories(out);
        int lock = open(out.c_str(),
                        O_RDONLY | O_DIRECTORY |
                            O_CLOEXEC);  // a lock on the directory, released when the process ends, however it does
        if (lock < 0) fail("--out %s: expected a directory: %s", out.c_str(), strerror(errno));
        if (flock(lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
            fail("--out %s: another process is training there", out.c_str());
    }
};

// The dimensions of a new model: those of a --size of the program, or each given by itself.
struct SizeFlags {
    struct Size {
        const char* name;
        int64_t L, C;
    };
    std::vector<Size> sizes;
    int64_t max_len, layers = 0, width = 0, heads = 0, inner = 0, positions = 0;
    std::string size = "mini";
    double init_std = 0.02;

    FlagGroup group(int most_layers, int least_len, const char* max_len_help, const char* positions_help) {
        std::string names, dimensions;
        for (const Size& s : sizes) {
            names += (names.empty() ? "" : "|") + std::string(s.name);
            dimensions += format("%s%lld/%lld", dimensions.empty() ? "" : ", ", (long long)s.L, (long long)s.C);
        }
        return {
            "Model",
            "train",
            {{"size", &size, names.c_str(), (dimensions + " layers/width").c_str()},
             {"layers", &layers, between(0, most_layers), "0: of the size"},
             {"width", &width, between(0, 1 << 16), "channels, 0: of the size"},
             {"heads", &heads, between(0, 1 << 12), "0: width / 64"},
             {"inner", &inner, between(0, 1 << 18), "width of the feed-forward part; 0: 4 x width"},
             {"max-len", &max_len, between(least_len, 1 << 16), max_len_help},
             {"init-std", &init_std, between(0.001, 1), "standard deviation of the initial matrices and embeddings"},
             {"positions", &positions, between(0, 1 << 16), positions_help}}};
    }
    template <class Config>
    Config config() const {
        Config c;
        for (const Size& s : sizes)
            if (size == s.name) {
                c.L = s.L;
                c.C = s.C;
            }
        if (layers) c.L = layers;
        if (width) c.C = width;
        if (!heads && c.C % 64)
            fail_usage("--width: expected a multiple of 64 (or --heads as well), found %lld", (long long)c.C);
        c.NH = heads ? heads : c.C / 64;
        c.FF = inner ? inner : 4 * c.C;
        c.T = positions ? positions : max_len;
        c.init_std = init_std;
        if (c.C % c.NH)
            fail_usage("--heads: expected a divisor of the width %lld, found %lld", (long long)c.C, (long long)c.NH);
        if (int64_t HS = c.C / c.NH; HS != 32 && HS != 64 && HS != 128)
            fail_usage("--heads: expected heads of 32, 64 or 128 channels, found %lld / %lld = %lld", (long long)c.C,
                       (long long)c.NH, (long long)HS);
        return c;
    }
    static void refuse_with_init(Cli& cli) {
        for (const char* flag : {"size", "layers", "width", "heads", "inner", "positions"})
            if (cli.given(flag)) fail_usage("--%s: with --init the dimensions are those of the model", flag);
    }
    void check_max_len(int64_t T, int64_t batch_tokens) const {
        if (max_len > T)
            fail_usage("--max-len: the model has %lld positions, found %lld", (long long)T, (long long)max_len);
        if (max_len > batch_tokens)
            fail_usage("--batch-tokens: expected at least --max-len %lld, found %lld", (long long)max_len,
                       (long long)batch_tokens);
    }
};

inline const char* EXIT_CODES_TEXT =
    "\nExit codes: 0 done, 1 failed, 2 the command line makes no sense, 3 the loss was not finite, 130 stopped by "
    "Ctrl-C or SIGTERM (the first finishes\n"
    "the step and saves, a second one stops at once). OMP_NUM_THREADS sets the number of CPU threads; it changes no "
    "result.\n";

// Learning rate of step `step` (from 0) of `steps`: a linear warmup, then the schedule down to final_lr · lr.
inline double learning_rate(const TrainFlags& f, int64_t step) {
    double warmup = f.warmup < 1 ? f.warmup * (double)f.steps : f.warmup;
    if ((double)step < warmup) return f.lr * (double)(step + 1) / (warmup + 1);
    double t = std::min(
        1.0, ((double)step - warmup) / std::max(1.0, (double)f.steps - warmup));  // 0 → 1 over the rest of the run
    double share = 1;
    if (f.schedule == "linear") share = 1 - t;
    if (f.schedule == "cosine") share = 0.5 * (1 + cos(M_PI * t));
    if (f.schedule == "wsd") {
        double begin = 1 - f.decay_share;
        double from = std::max(0.0, (begin * (double)f.steps - warmup) / std::max(1.0, (double)f.steps - warmup));
        share = t <= from ? 1 : (1 - t) / (1 - from);
    }
    return f.lr * (f.final_lr + (1 - f.final_lr) * share);
}

// ---------------------------------------------------------------- parameters in memory
// The parameters and all that the optimiser keeps for them; arrays of n elements in device memory.
struct Optimizer {
    std::vector<Spec> table;
    size_t n = 0;
    real* params = nullptr;
    areal *grads = nullptr, *m = nullptr, *v = nullptr, *master = nullptr;  // master: only where real is bf16
    float *lr_factor = nullptr, *decay = nullptr;                           // (n / PARAM_BLOCK)
    double* norm_scratch = nullptr;                                         // (NORM_CHUNKS)
    StepStats* stats = nullptr;
    AdamWStep* hyper = nullptr;  // (1 + Upload::SLOTS)

    static constexpr bool has_master = !std::is_same_v<real, areal>;

    void plan(Arena& arena) {
        arena.region("parameters");
        arena.take(params, n);
        arena.region("gradients");
        arena.take(grads, n);
        arena.region(has_master ? "AdamW m, v, master" : "AdamW m, v");
        arena.take(m, n);
        arena.take(v, n);
        if (has_master) arena.take(master, n);
        arena.take(lr_factor, n / PARAM_BLOCK);
        arena.take(decay, n / PARAM_BLOCK);
        arena.take(norm_scratch, NORM_CHUNKS);
        arena.take(stats, 1);
        arena.take(hyper, 1 + device::Upload::SLOTS);
    }
    // Sets parameters (and masters) from host memory.
    void upload(const std::vector<areal>& values) {
        std::vector<real> rounded(n);
        for (size_t i = 0; i < n; i++) rounded[i] = values[i];
        device::copy_to_device(params, rounded.data(), n * sizeof(real));
        if (has_master) device::copy_to_device(master, values.data(), n * sizeof(areal));
        device::device_sync();
    }
    std::vector<areal> download() const { return host_copy(has_master ? master : (const areal*)(const void*)params); }
    std::vector<areal> host_copy(const areal* array) const {
        std::vector<areal> values(n);
        device::copy_to_host(values.data(), array, n * sizeof(areal));
        return values;
    }
    void save(const std::string& dir) const { save_tensors(dir, table, download().data()); }
    void load(const std::string& dir) {  // the parameters of the model in `dir`, all of them
        std::vector<areal> values(n);
        load_tensors(dir, table, values.data()).refuse_missing(dir);
        upload(values);
    }
    // lr_factor(spec): what the learning rate of a tensor is multiplied with
    template <class F>
    void set_blocks(double weight_decay, F lr_factor_of) {
        std::vector<float> factors(n / PARAM_BLOCK, 1.0f), decays(n / PARAM_BLOCK, 0.0f);
        for (const Spec& s : table)
            for (size_t b = s.offset / PARAM_BLOCK; b < ceil_div(s.offset + s.count, PARAM_BLOCK); b++) {
                factors[b] = lr_factor_of(s);
                decays[b] = s.decay ? (float)weight_decay : 0.0f;
            }
        device::copy_to_device(lr_factor, factors.data(), factors.size() * sizeof(float));
        device::copy_to_device(decay, decays.data(), decays.size() * sizeof(float));
        device::device_sync();
    }
    void zero_gradients() {
        device::device_zero(grads, n * sizeof(areal));
        device::device_zero(stats, offsetof(StepStats, failed));  // a failure stays
    }
    static AdamWStep step_values(const TrainFlags& f, int64_t step) {
        return {learning_rate(f, step),
                f.beta1,
                f.beta2,
                f.eps,
                1 - pow(f.beta1, (double)step + 1),
                1 - pow(f.beta2, (double)step + 1),
                f.clip};
    }
    // After the step's gradients are complete, with *hyper. Nothing changes if loss or norm is not finite, or was not
    // in a step before.
    void update() {
        device::norm_squared(stats, grads, norm_scratch, n);
        device::adamw_update(params, master, m, v, grads, stats, hyper, ParamBlocks{lr_factor, decay}, n);
    }
    void update(const TrainFlags& f, int64_t step) {  // the same at once, with the values of this step: for tests
        AdamWStep h = step_values(f, step);
        device::copy_to_device(hyper, &h, sizeof h);
        update();
    }
};

// Initial values by the table: N(0, std), zeros or ones, each element from (seed, its tensor's name and its index)
// alone.
inline std::vector<areal> initial_values(const std::vector<Spec>& table, size_t n, uint64_t seed) {
    std::vector<areal> values(n, areal(0));
    for (const Spec& s : table) {
        size_t each = s.piece();
        for (size_t k = 0; k < s.names.size(); k++) {
            uint64_t key = mix64(seed);
            for (char c : s.names[k]) key = mix64(key, (uint8_t)c);
            areal* p = &values[s.offset + k * each];
#pragma omp parallel for
            for (size_t i = 0; i < each; i++)
                p[i] = s.init == Init::normal ? (areal)(float)(s.std * normal(mix64(key, i)))
                                              : areal(s.init == Init::ones);
        }
    }
    return values;
}

// ---------------------------------------------------------------- the machine's peak
// FLOP/s of dense matrix products at this precision; 0 where it is not known. GPU: the data sheet. CPU: the best of
// some products.
inline double peak_flops() {
#ifdef __CUDACC__
    std::string name = device::device_name();
    struct Row {
        const char* part;
        double bf16, fp32;
    };
    for (Row r : {Row{"H200", 989e12, 67e12}, Row{"H100 PCIe", 756e12, 51e12}, Row{"H100", 989e12, 67e12},
                  Row{"A100", 312e12, 19.5e12}, Row{"L40S", 362e12, 91.6e12}, Row{"4090", 165e12, 82.6e12}})
        if (name.find(r.part) != std::string::npos) return sizeof(real) == 2 ? r.bf16 : r.fp32;
    return 0;
#elif defined(SHIM)
    return 0;
#else
    constexpr int n = 384;
    double best = 0;
#pragma omp parallel
    {
        std::vector<real> a(n * n, real(0.5f)), b(n * n, real(0.25f)), c(n * n, real(0.0f));
        for (int i = 0; i < 20; i++) {
#pragma omp barrier
            double t = omp_get_wtime();
            cpu::gemm(false, true, n, n, n, a.data(), n, b.data(), n, real(0.0f), c.data(), n);
#pragma omp barrier
            t = omp_get_wtime() - t;
#pragma omp single
            best = std::max(best, 2.0 * n * n * n * omp_get_num_threads() / t);
        }
    }
    return best;
#endif
}

// ---------------------------------------------------------------- console
inline std::string duration(double s) {  // 42s, 3m10s, 2h05m
    if (s < 60) return format("%.0fs", s);
    if (s < 3600) return format("%dm%02ds", (int)s / 60, (int)s % 60);
    return format("%dh%02dm", (int)(s / 3600), (int)s / 60 % 60);
}
inline std::string thousands(double x) {  // 12,345
    std::string s = format("%.0f", x);
    for (int i = (int)s.size() - 3; i > (s[0] == '-'); i -= 3) s.insert(i, ",");
    return s;
}
// "a.{query,key,value}.weight" for several names that differ in the middle
inline std::string joined_names(const std::vector<std::string>& names) {
    if (names.size() == 1) return names[0];
    size_t head = 0, tail = 0;
    auto same = [&](auto at) {
        for (const std::string& n : names)
            if (at(n) != at(names[0])) return false;
        return true;
    };
    while (same([&](const std::string& n) { return n[head]; })) head++;
    while (same([&](const std::string& n) { return n[n.size() - 1 - tail]; })) tail++;
    while (tail > 0 && names[0][names[0].size() - tail] != '.') tail--;  // whole parts: query, key, value
    std::string s;
    for (const std::string& n : names) s += (s.empty() ? "{" : ",") + n.substr(head, n.size() - head - tail);
    return names[0].substr(0, head) + s + "}" + names[0].substr(names[0].size() - tail);
}
inline const char* precision() { return sizeof(real) == 8 ? "fp64" : sizeof(real) == 4 ? "fp32" : "bf16"; }
inline void print_machine(const char* program) {
    printf("%s on %s, %s%s\n", program, device::device_name().c_str(), precision(),
           device_is_host ? format(", %d threads", omp_get_max_threads()).c_str() : "");
}
inline void print_parameter_table(const std::vector<Spec>& table) {
    printf("\n%-64s %-15s %s\n", "parameters", "shape", "number");
    size_t total = 0;
    for (const Spec& s : table) {
        size_t n = s.names.size();
        std::string shape;
        for (size_t d : s.shape) {
            n *= d;
            shape += (shape.empty() ? "" : " x ") + std::to_string(d);
        }
        if (s.names.size() > 1) shape = std::to_string(s.names.size()) + " x " + shape;
        total += n;
        if (s.layer <= 0 || s.layer == table.back().layer)
            printf("  %-62s %-15s %s\n", joined_names(s.names).c_str(), shape.c_str(), thousands((double)n).c_str());
        else if (s.layer == 1 && &s > &table[0] && (&s)[-1].layer == 0)
            printf("  ... and the same for every other layer\n");
    }
    printf("  %-78s %s\n", "total", thousands((double)total).c_str());
}

// ---------------------------------------------------------------- memory
// The device's memory for a run: prints the table, and fails where it does not fit. `flag` decides how much it is, in
// steps of `unit` up to `most`; plan_model(arena, value) takes what the model would need with that value, and returns
// its batch's shape.
template <class Task, class PlanModel>
void* run_memory(Task& task, const char* flag, int64_t unit, int64_t most, PlanModel plan_model) {
    Arena measure;
    task.plan(measure);
    size_t here = measure.used, device = device::device_memory();
    size_t copies = device_is_host ? 3 * task.opt.n * sizeof(areal)
                                   : 0;  // of parameters, m and v at a save; elsewhere they are not on the device
    auto largest = [&](auto fits) {      // the value for which fits(bytes of device memory); 0: none
        int64_t low = 0, high = most / unit + 1;  // low · unit fits
        while (high - low > 1) {
            int64_t mid = (low + high) / 2;
            Arena arena;
            Optimizer opt = task.opt;
            opt.plan(arena);
            BatchShape shape = plan_model(arena, mid * unit);
            (fits(arena.used + shape.device_bytes()) ? low : high) = mid;
        }
        return low * unit;
    };
    auto advice = [&](int64_t value) {
        if (value == 0) return std::string("take shorter sequences or a smaller model");
        return format("take %s %lld or less (and --accum for the same step)", flag, (long long)value);
    };
    int64_t low = largest([&](size_t bytes) { return bytes + copies <= device; });
    if (copies) {
        measure.regions.push_back({"copies at a save", copies});
        measure.used += copies;
    }
    printf("\nmemory                MiB\n");
    for (const Arena::Region& r : measure.regions) printf("  %-18s %7.1f\n", r.name.c_str(), (double)r.bytes / 1048576);
    printf("  %-18s %7.1f of %.0f on %s; largest %s that fits: %s\n\n", "total", (double)measure.used / 1048576,
           (double)device / 1048576, device::device_name().c_str(), flag,
           low ? thousands((double)low).c_str() : "none");
    if (measure.used > device)
        fail("the run needs %.1f MiB of memory, the device has %.1f MiB: %s", (double)measure.used / 1048576,
             (double)device / 1048576, advice(low).c_str());
    auto get = [](size_t bytes) -> void* {  // nullptr: there is not so much
        try {
            return device::device_alloc(bytes);
        } catch (const OutOfMemory&) {
            return nullptr;
        }
    };
    if (void* memory = get(here)) return memory;
    // Another process took it meanwhile, or a limit is set that we do not see: what can be had is found by trying.
    low = largest([&](size_t bytes) {
        void* p = get(bytes);
        if (p) device::device_free(p, bytes);
        return p != nullptr;
    });
    fail("could not get %.1f MiB of memory, though the device said that it has %.1f MiB: %s", (double)here / 1048576,
         (double)device / 1048576, advice(low).c_str());
}
inline void refuse_not_finite(const std::vector<Spec>& table, const std::vector<areal>& values,
                              const std::string& dir) {
    for (const Spec& s : table)
        for (size_t i = s.offset; i < s.offset + s.count; i++)
            if (!std::isfinite(values[i]))
                throw Error(EXIT_NOT_FINITE, format("%s: %s: expected finite numbers, found %g: the file is damaged, "
                                                    "or its training went wrong: take another model",
                                                    dir.c_str(), joined_names(s.names).c_str(), (double)values[i]));
}
// For asking: memory for the parameters, and for what plan_rest(arena) takes; then the parameters of the model in
// `dir`. point(base) points the model's tensors into `base` and returns their table. Whoever keeps what is returned
// keeps the memory.
template <class Point, class PlanRest>
[[nodiscard]] std::shared_ptr<void> load_parameters(const std::string& dir, Point point, PlanRest plan_rest) {
    std::vector<Spec> table = point(nullptr);
    std::vector<areal> values(total_count(table));
    load_tensors(dir, table, values.data()).refuse_missing(dir);
    refuse_not_finite(table, values, dir);
    real* params = nullptr;
    auto plan = [&](Arena& arena) {
        arena.region("parameters");
        arena.take(params, values.size());
        plan_rest(arena);
    };
    Arena measure;
    plan(measure);
    if (measure.used > device::device_memory())
        fail("%s: the model needs %.1f MiB of memory, the device has %.1f MiB", dir.c_str(),
             (double)measure.used / 1048576, (double)device::device_memory() / 1048576);
    std::shared_ptr<void> memory(device::device_alloc(measure.used),
                                 [bytes = measure.used](void* p) { device::device_free(p, bytes); });
    Arena arena(memory.get());
    plan(arena);
    point(params);
    std::vector<real> rounded(values.begin(), values.end());
    device::copy_to_device(params, rounded.data(), rounded.size() * sizeof(real));
    device::device_sync();
    return memory;
}

// ---------------------------------------------------------------- signals
inline volatile sig_atomic_t interrupted = 0;
inline void on_signal(int) {  // the first finishes the step and saves, the second stops at once
    if (interrupted) _exit(EXIT_INTERRUPTED);
    interrupted = 1;
    const char text[] = "\nfinishing the step, then saving; once more to stop at once\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;  // nobody to tell
}

// ---------------------------------------------------------------- metrics.jsonl
struct Metrics {
    std::string path;
    FILE* file = nullptr;
    // Opens for appending; on resume drops the lines of steps after `step`, which will be made again. Is the file
    // empty?
    bool open(const std::string& p, bool resume, int64_t step) {
        path = p;
        std::string kept;
        if (resume && exists(path)) {
            std::string text = read_file(path);
            for (size_t at = 0, end; at < text.size(); at = end + 1) {
                end = text.find('\n', at);
                if (end == std::string::npos) break;  // a line that was cut off
                std::string line = text.substr(at, end - at);
                const Json j = parse_json(line, path);
                const Json* s = j.find("step");
                if (s && s->i <= step) kept += line + "\n";
            }
        }
        write_file_atomic(path, kept);
        file = fopen(path.c_str(), "a");
        if (!file) fail("%s: could not open it for writing: %s", path.c_str(), strerror(errno));
        return kept.empty();
    }
    void add(const Json& line) {
        std::string s = dump_json(line) + "\n";
        if (fwrite(s.data(), 1, s.size(), file) != s.size() || fflush(file))
            fail("%s: could not write: %s", path.c_str(), strerror(errno));
    }
    ~Metrics() {
        if (file) fclose(file);
    }
};

// ---------------------------------------------------------------- validation
struct Eval {
    double loss = 0, accuracy = 0;    // means over `targets`
    double sum = 0;                   // of the losses
    uint64_t targets = 0;             // 0: there is nothing to validate on, the last model is the one to take
    std::string name = "validation";  // what it is called on the console
    double score = 0;    // the best model is the one with the largest, among equals that with the smallest loss
    std::string report;  // for the console, without a line's end
    std::string table;   // below it, if there is one, with its line ends
    Json numbers = Json::make_object();  // more keys for metrics.jsonl
};

// Which sequence of the validation data is the i-th: a random order that never changes, as fill_batch() with seed 0
// draws it.
template <class Data>
uint64_t validation_order(const Data& data, uint64_t i) {
    return Permutation(data.sequences(), mix64(0, 0))(i);
}

// How many of them are validated on: the first ones that hold so many tokens together (0: all).
template <class Data>
uint64_t validation_sequences(Data& data, int64_t tokens) {
    uint64_t count = 0;
    for (double sum = 0; count < data.sequences() && (tokens == 0 || sum < (double)tokens); count++) {
        data.make(0, validation_order(data, count));
        sum += (double)data.tokens.size();
    }
    return count;
}

// A task's mean loss over so many sequences, without dropout; on_batch(its targets) is called for each batch.
template <class Task, class Data>
Eval mean_loss(Task& task, Data& data, uint64_t sequences,
               const std::function<void(const std::vector<int>&)>& on_batch = nullptr) {
    float dropout = task.model.dropout;
    task.model.dropout = 0;
    device::device_zero(task.opt.stats, sizeof(StepStats));
    Eval e;
    Cursor cursor;
    while (cursor.next < sequences) {
        fill_batch(task.builder, data, cursor, 0, true, sequences);
        e.targets += task.builder.targets.size();
        if (on_batch) on_batch(task.builder.targets);
        Batch batch = task.builder.finish(task.host.data(), StepCounters{}, 1);
        task.model.forward(to_device(batch, task.shape, task.block, task.host.data()), task.opt.stats);
    }
    StepStats stats;
    device::copy_to_host(&stats, task.opt.stats, sizeof stats);
    task.model.dropout = dropout;
    e.sum = stats.loss;
    e.loss = stats.loss / (double)e.targets;
    e.accuracy = stats.correct / (double)e.targets;
    e.score = -e.loss;
    return e;
}

// Mean loss of guessing every target of the validation by how frequent it is in the training data: what a model that
// reads no context reaches. end: a token that stands behind every document; -1: none does
template <class Data>
double unigram_loss(const BinFile& train, int end, int64_t V, Data& val, uint64_t sequences) {
    std::vector<double> count(V, 1.0);  // add-one smoothing
    double total = (double)V, loss = 0, targets = 0;
    size_t limit = 20000000;  // tokens to count: enough for the estimate
    for (size_t d = 0; d < train.sequences() && limit > 0; d++) {
        for (size_t i = 0; i < train.length(d) && limit > 0; i++, limit--) {
            count[train.token(d, i)]++;
            total++;
        }
        if (end >= 0) {
            count[end]++;
            total++;
        }
    }
    for (uint64_t q = 0; q < sequences; q++) {
        val.make(0, validation_order(val, q));
        for (int t : val.targets) {
            loss -= log(count[t] / total);
            targets++;
        }
    }
    return loss / targets;
}

// ---------------------------------------------------------------- do data, tokenizer and model belong together?
inline void check_vocabulary(const std::string& dir, size_t tokens, int64_t V) {
    if ((int64_t)tokens > V)
        fail("%s: the tokenizer has %zu tokens, the model's vocabulary %lld", dir.c_str(), tokens, (long long)V);
}
// Pretraining: --data with its files, and the model to go on from
template <class Tokenizer>
void check_text(const BinFile& file, const Tokenizer& tokenizer, const std::string& data) {
    file.require_tokenizer(tokenizer.fingerprint(), data);
    if (file.vocab() != tokenizer.tokens.size())
        fail("%s: expected a vocabulary of %zu tokens, as %s has, found %zu: the file is damaged, pack it again",
             file.path.c_str(), tokenizer.tokens.size(), data.c_str(), file.vocab());
}
template <class Tokenizer>
void check_init(const std::string& init, int64_t V, const Tokenizer& tokenizer, const std::string& data) {
    if ((int64_t)tokenizer.tokens.size() > V)
        fail(
            "%s: its vocabulary has %lld tokens, that of %s %zu: pack the data with the model's tokenizer (--tokenizer "
            "%s)",
            init.c_str(), (long long)V, data.c_str(), tokenizer.tokens.size(), init.c_str());
    if (Tokenizer::load(init).fingerprint() != tokenizer.fingerprint())
        fail("%s: %s was packed with another tokenizer: make it anew with --tokenizer %s", init.c_str(), data.c_str(),
             init.c_str());
}

// What a resumed run has to share (train() asks each task for it): the model's sizes, and of data and tokenizer the
// fingerprints
inline std::string hex(uint64_t fingerprint) { return format("%016llx", (unsigned long long)fingerprint); }
template <class Config>
Json model_identity(const Config& c) {
    return Json::make_object()
        .set("precision", precision())
        .set("V", c.V)
        .set("T", c.T)
        .set("L", c.L)
        .set("C", c.C)
        .set("NH", c.NH)
        .set("FF", c.FF);
}
template <class Config>
Json pretraining_identity(const Config& c, uint64_t tokenizer, const BinFile& train, const BinFile& val) {
    return model_identity(c)
        .set("tokenizer", hex(tokenizer))
        .set("train_tokens", (int64_t)train.tokens())
        .set("train_documents", (int64_t)train.sequences())
        .set("train_data", hex(train.header.content))
        .set("val_data", hex(val.header.content));
}

// ---------------------------------------------------------------- the loop
// On --resume: takes the flags of the run in --out; those that would make it another run may not be given anew.
inline void resume_flags(Cli& cli, const TrainFlags& f) {
    std::string path = f.out + "/config.json";
    if (!exists(path))
        fail("--resume: expected %s, found no such file: nothing was started in %s yet", path.c_str(), f.out.c_str());
    Json saved = parse_json(read_file(path), path);
    const Json* flags = saved.find("flags");
    if (!flags) fail("%s: expected \"flags\", found none: not written by this program", path.c_str());
    if (const Json* program = saved.find("program"); program && program->s != cli.program)
        fail("--resume: expected a run of %s, found one of %s in %s: ./%s --resume --out %s", cli.program.c_str(),
             program->s.c_str(), path.c_str(), program->s.c_str(), f.out.c_str());
    std::string free = " out data resume retune steps epochs seeds patience eval-every eval-tokens log-every ";
    for (auto& [name, value] : flags->o) {
        const Flag* flag = cli.find(name);
        if (flag && flag->given && free.find(" " + name + " ") == std::string::npos &&
            dump_json(flag->json()) != dump_json(value))
            fail_usage(
                "--%s: the run in %s has %s, a resumed run keeps its flags (to go on differently: --init %s/last --out "
                "ANOTHER)",
                name.c_str(), f.out.c_str(), dump_json(value).c_str(), f.out.c_str());
    }
    const Json* steps = flags->find("steps");
    if (steps && cli.given("steps") && steps->i != f.steps)
        printf(
            "the run had %lld steps and now has %lld: from here on the learning rate follows a schedule of that "
            "length\n",
            (long long)steps->i, (long long)f.steps);
    Json rest = Json::make_object();
    for (auto& [name, value] : flags->o)
        if (name != "resume" && name != "retune" && name != "out") rest.set(name, value);
    cli.from_json(rest, path);
}

// Before anything else: takes the flags of a resumed run, and checks what every program needs. `files` have to be in
// --data; `scripts` make them of a public source and of the user's own data.
inline void prepare_flags(Cli& cli, TrainFlags& f, std::vector<const char*> files,
                          std::pair<const char*, const char*> scripts) {
    if (f.resume && f.out.empty()) fail_usage("--resume: expected --out DIR, the run to go on with");
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
                "--out %s",
                f.data.c_str(), file, scripts.first, f.data.c_str(), scripts.second, f.data.c_str());
    for (std::string* path : {&f.data, &f.init})  // for a --resume from elsewhere
        if (char* full = realpath(path->c_str(), nullptr)) {
            *path = full;
            free(full);
        }
}

// Trains. A Task brings what differs from program to program:
//   Optimizer opt; BatchShape shape; char* block;  parameters; capacities of a micro-batch, and its place in device
//   memory BatchBuilder builder                           one that knows shape and filler int fill(BatchBuilder&,
//   Cursor&)               collects the next micro-batch in the order of this run; the number of sequences void
//   forward_backward(const Batch&, StepStats*) Eval evaluate()                                on the validation data
//   void save_model(const std::string& dir)        writes the files of a model directory
//   double flops(double tokens, double targets, double mean_length)   work of so many tokens, forward and backward
//   float lr_factor(const Spec&)                   of the learning rate; 0: the tensor stays as it is
//   Json identity()                                what a resumed run has to share: sizes, fingerprints of data and
//   tokenizer void set_dropout(double p)
// sample(steps done), if given, comes after every sample_every-th step and its validation.
//
// A GPU works while the host goes on: it hands over a step, then collects the next one's batches, and reads a step's
// figures when they are there, at the latest when it has handed over the one behind it. Else the host waits only where
// it is more than a batch ahead, and where a new shape is timed. Validation, checkpoints, samples and the end wait for
// all that is under way.
template <class Task>
int train(Task& task, Cli& cli, TrainFlags& f, double unigram_loss, int64_t sample_every = 0,
          const std::function<void(int64_t)>& sample = nullptr) {
    Optimizer& opt = task.opt;
    std::string last = f.out + "/last", best_dir = f.out + "/best";
    int64_t step = 0, best_step = -1;
    Cursor cursor;
    double best = INFINITY, best_score = -INFINITY, tokens_seen = 0, trained_s = 0;
    int64_t stale = 0;  // validations since the best one
    opt.set_blocks(f.weight_decay, [&](const Spec& s) { return task.lr_factor(s); });
    device::open_tuning_cache(f.out + "/matmul_plans.jsonl",
                              f.retune);  // for a finished run too: its model may have answers to give

    if (f.resume) {
        std::string from = resolve_model_dir(last);
        std::vector<areal> m(opt.n), v(opt.n), master(opt.n);
        constexpr bool exact = std::is_same_v<real, float>;  // model.safetensors holds every bit of the parameters
        Json state = load_training_state(from, opt.table, m.data(), v.data(), exact ? nullptr : master.data());
        auto counter = [&](const char* key) -> const Json& {
            const Json* j = state.find(key);
            if (!j)
                fail("%s/training_state.safetensors: expected \"%s\" in its counters, found none: the file is damaged",
                     from.c_str(), key);
            return *j;
        };
        const Json identity = task.identity();
        for (const auto& [key, value] : identity.o) {
            const Json* saved = counter("identity").find(key);
            if (!saved || dump_json(*saved) != dump_json(value))
                fail("%s: %s: it was trained with %s, this run has %s: give --data and --out of the same run",
                     from.c_str(), key.c_str(), saved ? dump_json(*saved).c_str() : "none", dump_json(value).c_str());
        }
        if (exact) load_tensors(from, opt.table, master.data()).refuse_missing(from);
        opt.upload(master);
        device::copy_to_device(opt.m, m.data(), opt.n * sizeof(areal));
        device::copy_to_device(opt.v, v.data(), opt.n * sizeof(areal));
        device::device_sync();
        step = counter("step").i;
        cursor.next = (uint64_t)counter("next_sequence").i;
        tokens_seen = counter("tokens").d;
        trained_s = counter("seconds").d;
        if (counter("best_loss").kind != Json::null) {
            best = counter("best_loss").d;
            best_score = counter("best_score").d;
            best_step = counter("best_step").i;
        }
        stale = counter("stale").i;
        printf("resumed %s at step %lld\n", from.c_str(), (long long)step);
        if (step >= f.steps || (f.patience > 0 && stale >= f.patience)) {
            printf("the run is finished: step %lld of %lld; %s with a larger number goes on\n", (long long)step,
                   (long long)f.steps,
                   step < f.steps ? "--patience"
                   : f.epochs > 0 ? "--epochs"
                                  : "--steps");
            return EXIT_OK;
        }
    }
    Json run = Json::make_object();
    run.set("program", cli.program).set("flags", cli.to_json()).set("identity", task.identity());
    write_file_atomic(f.out + "/config.json", dump_json(run, 2) + "\n");
    auto save = [&](const std::string& dir, bool with_state) {
        save_directory(dir, [&](const std::string& tmp) {
            task.save_model(tmp);
            if (!with_state) return;
            Json state = Json::make_object();
            state.set("step", step)
                .set("next_sequence", cursor.next)
                .set("tokens", tokens_seen)
                .set("seconds", trained_s);
            state.set("best_loss", best)
                .set("best_score", best_score)
                .set("best_step", best_step)
                .set("stale", stale)
                .set("identity", task.identity());
            std::vector<areal> m = opt.host_copy(opt.m), v = opt.host_copy(opt.v), master;
            if (!std::is_same_v<real, float>) master = opt.download();
            save_training_state(tmp, opt.table, m.data(), v.data(), master.empty() ? nullptr : master.data(), state);
        });
    };
    if (!f.resume)
        save(last, true);  // a full disk shows now, and a run that is killed before its first validation can be resumed
    Metrics metrics;
    if (metrics.open(f.out + "/metrics.jsonl", f.resume, step))
        metrics.add(Json::make_object().set("step", 0).set("unigram_loss", unigram_loss));  // nan: null

    auto validate = [&] {
        Eval e = task.evaluate();
        if (e.targets == 0) return save(last, true);
        if (!std::isfinite(e.loss))
            throw Error(EXIT_NOT_FINITE, format("step %lld: the validation loss (%g) is not finite; %s holds the "
                                                "checkpoint before: go on with --init %s --out "
                                                "ANOTHER and a smaller --lr or --clip",
                                                (long long)step, e.loss, last.c_str(), last.c_str()));
        bool better = e.score > best_score || (e.score == best_score && e.loss < best);
        stale = better ? 0 : stale + 1;
        if (better) {
            best = e.loss;
            best_score = e.score;
            best_step = step;
        }
        printf("step %lld | %s: %s%s\n%s", (long long)step, e.name.c_str(), e.report.c_str(),
               better ? " | best so far" : "", e.table.c_str());
        fflush(stdout);
        Json line = Json::make_object();
        line.set("step", step)
            .set("tokens", tokens_seen)
            .set("val_loss", e.loss)
            .set("val_accuracy", e.accuracy)
            .set("val_targets", e.targets);
        for (auto& [key, value] : e.numbers.o) line.set(key, value);
        metrics.add(line);
        if (better) save(best_dir, false);  // first: last/ says that it is there
        save(last, true);
    };

    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (f.overfit) task.set_dropout(0);
    double peak = peak_flops();
    if (peak > 0)
        printf("peak of matrix products: %.0f GFLOP/s; \"of peak\" below counts the model's FLOPs against it\n\n",
               peak / 1e9);

    std::vector<BatchBuilder> micro(f.accum, task.builder);
    device::Upload batches(task.block, task.shape.plan(nullptr, nullptr)), hyper(opt.hyper, sizeof(AdamWStep));
    device::Graphs graphs;
    device::Readback<StepStats> figures;
    struct Queued {  // a step that was handed to the device
        Cursor before;
        double begin, tokens, targets, weight, sequences, filler;
    };
    std::deque<Queued> under_way;   // `step` of them are done; these are behind it
    int64_t queued = step;          // steps handed over
    double step_s = 0;              // of recent steps, smoothed
    double computed = 0, used = 0;  // tokens with and without filler
    double reported = 0;            // when the step before was done
    auto report = [&] {             // of the oldest step under way: waits for its figures
        Queued s = under_way.front();
        under_way.pop_front();
        StepStats stats = figures.take();
        double loss = stats.loss / s.weight, norm = sqrt(stats.norm2), now = seconds_now(),
               seconds = std::max(1e-6, now - std::max(s.begin, reported));
        reported = now;
        if (!std::isfinite(loss) || !std::isfinite(norm)) {
            std::vector<areal> values = opt.download();  // what came behind this step has changed nothing either
            bool sound = std::all_of(values.begin(), values.end(), [](areal x) {
                return std::isfinite(x);
            });  // else the checkpoint before is worth more
            cursor = s.before;
            if (sound) save(last, true);
            throw Error(EXIT_NOT_FINITE,
                        format("step %lld: the loss (%g) or the norm of the gradient (%g) is not finite; no parameter "
                               "was changed, %s holds the "
                               "%s: go on with --init %s --out ANOTHER and a smaller --lr or --clip",
                               (long long)step + 1, loss, norm, last.c_str(),
                               sound ? "model before this step"
                                     : "checkpoint before, as the parameters themselves are not finite",
                               last.c_str()));
        }
        double lr = learning_rate(f, step);
        step++;
        tokens_seen += s.tokens;
        trained_s += seconds;
        used += s.tokens;
        computed += s.tokens + s.filler;
        step_s = step_s == 0 ? seconds : 0.9 * step_s + 0.1 * seconds;
        double speed = task.flops(s.tokens, s.targets, s.tokens / s.sequences) / seconds;
        if (peak > 0 && device_is_host) peak = std::max(peak, speed);  // the probe may have met a busy moment
        double share = peak > 0 ? speed / peak : 0;
        if (step % f.log_every == 0 || step == f.steps) {
            printf("step %lld/%lld | loss %.4f | lr %.2e | norm %.3f | %s tokens/s%s | %s left\n", (long long)step,
                   (long long)f.steps, loss, lr, norm, thousands(s.tokens / seconds).c_str(),
                   peak > 0 ? format(" | %.0f %% of peak", 100 * share).c_str() : "",
                   duration(step_s * (double)(f.steps - step)).c_str());
            fflush(stdout);
        }
        Json line = Json::make_object();
        line.set("step", step)
            .set("loss", loss)
            .set("accuracy", stats.correct / s.targets)
            .set("lr", lr)
            .set("norm", norm)
            .set("tokens", tokens_seen);
        line.set("tokens_per_s", s.tokens / seconds);
        if (peak > 0) line.set("of_peak", share);
        metrics.add(line);
    };
    while (queued < f.steps) {
        // the whole step's micro-batches, to know the number of its targets before it starts
        if (f.overfit) cursor.next = 0;
        Queued s{cursor, seconds_now(), 0, 0, 0, 0, 0};
        for (BatchBuilder& b : micro) {
            s.sequences += task.fill(b, cursor);
            s.tokens += (double)b.tokens.size();
            s.targets += (double)b.targets.size();
            s.weight += b.weight();
        }
        if (s.targets == 0)
            fail("step %lld: none of its %.0f tokens can be a target: is the text made of special tokens?",
                 (long long)queued + 1, s.tokens);
        opt.zero_gradients();
        uint64_t token0 = 0;
        s.filler = -s.tokens;
        for (BatchBuilder& b : micro) {
            StepCounters counters{(uint64_t)f.seed, (uint64_t)queued, token0};
            token0 += b.tokens.size();
            Batch batch = on_device(b.finish(batches.next(), counters, 1 / s.weight), task.shape, task.block);
            batches.send();
            s.filler += batch.N;
            device::enable_autotune(
                true);  // of these shapes a run computes thousands; not those of a validation or a sample
            graphs.run(batch.sizes(), [&] { task.forward_backward(batch, opt.stats); });
            device::enable_autotune(false);
        }
        *(AdamWStep*)hyper.next() = Optimizer::step_values(f, queued);
        hyper.send();
        graphs.run({}, [&] { opt.update(); });
        figures.send(opt.stats);
        under_way.push_back(s);
        queued++;
        bool due = queued == f.steps || (f.eval_every > 0 && queued % f.eval_every == 0),
             sample_due = sample_every > 0 && queued % sample_every == 0;
        while (!under_way.empty() && (under_way.size() > 1 || due || sample_due || interrupted || figures.ready()))
            report();
        if (due) validate();  // before the run may stop: nothing would make up for it
        if (sample_due) sample(step);
        bool enough = f.patience > 0 && stale >= f.patience;
        if (enough && step < f.steps) printf("no better model in %lld validations: stopped early\n", (long long)stale);
        if (enough) break;
        if (interrupted) {
            while (!under_way.empty()) report();
            if (!due) save(last, true);
            printf("stopped at step %lld; go on with --resume --out %s\n", (long long)step, f.out.c_str());
            return EXIT_INTERRUPTED;
        }
    }
    if (computed > used) printf("%.1f %% of the computed tokens were filler\n", 100 * (1 - used / computed));
    printf("\n%s tokens in %s of training", thousands(tokens_seen).c_str(), duration(trained_s).c_str());
    if (best_step >= 0)
        printf("; best model: step %lld, validation loss %.4f%s\nmodels: %s (best), %s (last)\n", (long long)best_step,
               best, std::isfinite(unigram_loss) ? format(" (guessing by frequency: %.4f)", unigram_loss).c_str() : "",
               best_dir.c_str(), last.c_str());
    else
        printf("\nmodel: %s\n", last.c_str());
    return EXIT_OK;
}
