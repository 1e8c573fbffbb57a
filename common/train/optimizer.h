// optimizer.h: the learning rate of a step; parameters, gradients and AdamW's m and v in device memory; initial values.
#pragma once
#include "common/base/rng.h"
#include "common/device/arena.h"
#include "common/device/pipeline.cuh"
#include "common/ops/adamw.cuh"
#include "common/train/flags.h"
#include "common/train/tensors_io.h"

// Learning rate of step `step` (from 0): a linear warmup, then the schedule, which falls to final_lr_fraction · lr.
inline double learning_rate(const TrainFlags& f, int64_t step) {
    double warmup = f.warmup < 1 ? f.warmup * (double)f.steps : f.warmup;
    if ((double)step < warmup) return f.lr * (double)(step + 1) / (warmup + 1);
    double rest = std::max(1.0, (double)f.steps - warmup);
    double t = std::min(1.0, ((double)step - warmup) / rest);  // 0 → 1 over the rest of the run
    double fraction = 1;                                       // 1 → 0
    if (f.schedule == "linear") fraction = 1 - t;
    if (f.schedule == "cosine") fraction = 0.5 * (1 + cos(M_PI * t));
    if (f.schedule == "wsd") {
        double begin = 1 - f.decay_fraction;
        double from = std::max(0.0, (begin * (double)f.steps - warmup) / rest);
        fraction = t <= from ? 1 : (1 - t) / (1 - from);
    }
    return f.lr * (f.final_lr_fraction + (1 - f.final_lr_fraction) * fraction);
}

inline void upload_rounded(real* to, const std::vector<areal>& values) {
    std::vector<real> rounded;
    if constexpr (!std::is_same_v<real, areal>) rounded.assign(values.begin(), values.end());
    const void* from = rounded.empty() ? (const void*)values.data() : rounded.data();
    device::copy_to_device(to, from, values.size() * sizeof(real));
    device::device_sync();
}

// The parameters and all that the optimiser keeps for them; arrays of n elements in device memory.
struct Optimizer {
    std::vector<ParamSpec> table;
    size_t n = 0;
    real* params = nullptr;                              // (n)
    areal *grads = nullptr, *m = nullptr, *v = nullptr;  // (n)
    areal* master = nullptr;                             // (n) only where real is bf16
    float *lr_factor = nullptr, *decay = nullptr;        // (n / PARAM_BLOCK)
    double* norm_scratch = nullptr;                      // (NORM_CHUNKS)
    StepStats* stats = nullptr;
    AdamWStep* hyper = nullptr;

    static constexpr bool has_master = !std::is_same_v<real, areal>;

    void plan(Arena& arena) {
        arena.region("parameters");
        arena.take(params, n);
        arena.region("gradients");
        arena.take(grads, n);
        arena.region(has_master ? "AdamW m, v, master" : "AdamW m, v");
        arena.take_each(n, m, v);
        if (has_master) arena.take(master, n);
        arena.take_each(n / PARAM_BLOCK, lr_factor, decay);
        arena.take(norm_scratch, NORM_CHUNKS);
        arena.take(stats, 1);
        arena.take(hyper, 1);
    }
    // Sets parameters (and masters) from host memory.
    void upload(const std::vector<areal>& values) {
        upload_rounded(params, values);
        if (has_master) device::copy_to_device(master, values.data(), n * sizeof(areal));
        device::device_sync();
    }
    // An array for the host to read: on a CPU the array itself, until it changes
    struct HostView {
        std::vector<areal> copy;
        const areal* data;  // (n)
    };
    HostView on_host(const areal* array /* (n) */) const {
        if (device_is_host) return {{}, array};
        std::vector<areal> values(n);
        device::copy_to_host(values.data(), array, n * sizeof(areal));
        const areal* data = values.data();
        return {std::move(values), data};
    }
    // The parameters, of bf16 ones the master weights
    HostView values() const {
        return on_host(has_master ? master : (const areal*)(const void*)params);  // without masters real is areal
    }
    void save(const std::string& dir) const { save_tensors(dir, table, values().data); }
    void load(const std::string& dir) {  // the parameters of the model in `dir`, all of them
        std::vector<areal> values(n);
        load_tensors(dir, table, values.data()).refuse_missing(dir);
        upload(values);
    }
    // The blocks' factors of the learning rate, lr_factor_of(spec of the tensor), and their weight decay
    template <class F> void set_blocks(double weight_decay, F lr_factor_of) {
        std::vector<float> factors(n / PARAM_BLOCK, 1.0f), decays(n / PARAM_BLOCK, 0.0f);
        for (const ParamSpec& s : table)
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
        const double t = (double)step + 1;
        return {learning_rate(f, step), f.beta1, f.beta2, f.eps, 1 - pow(f.beta1, t), 1 - pow(f.beta2, t), f.clip};
    }
    // Clips gradients, updates m, v, parameters and masters by *hyper; nothing if a loss or norm was ever not finite
    void update() {
        device::norm_squared(stats, grads, norm_scratch, n);
        device::adamw_update(params, master, m, v, grads, stats, hyper, ParamBlocks{lr_factor, decay}, n);
    }
};

// Initial values by the table: N(0, std), zeros or ones, each element by (seed, its tensor's name, its index) alone.
inline std::vector<areal> initial_values(const std::vector<ParamSpec>& table, size_t n, uint64_t seed) {
    std::vector<areal> values(n, areal(0));
    for (const ParamSpec& s : table)
        for (size_t k = 0; k < s.names.size(); k++) {
            uint64_t key = mix64(seed);
            for (char c : s.names[k]) key = mix64(key, (uint8_t)c);
            const size_t each = s.elements(k);
            areal* p = &values[s.offset + s.begin(k)];  // (each)
#pragma omp parallel for
            for (size_t i = 0; i < each; i++)
                p[i] = s.init == Init::normal ? (areal)(float)(s.std * normal(mix64(key, i)))
                                              : areal(s.init == Init::ones);
        }
    return values;
}
