// memory.h: what a program says before it trains, and the one allocation of device memory of a run or a loaded model.
#pragma once
#include <omp.h>

#include <functional>

#include "common/data/batch.h"
#include "common/train/lora.h"
#include "common/train/optimizer.h"

constexpr double MiB = 1 << 20;

// The machine, and how many parameters; verbose: names, shapes and sizes, of the layers only the first and what is
// after the last.
inline void print_parameters(const std::string& program, const std::vector<ParamSpec>& table, bool verbose) {
    printf("%s on %s, %s%s\n", program.c_str(), device::device_name().c_str(), precision(),
        device_is_host ? format(", %d threads", omp_get_max_threads()).c_str() : "");
    size_t total = 0, tensors = 0;
    if (verbose) printf("\n%-64s %-15s %s\n", "parameters", "shape", "number");
    for (const ParamSpec& s : table) {
        total += s.used();
        tensors += s.names.size();
        std::string shape;
        for (size_t i = 0; i < s.shape.size(); i++) {
            shape += (i ? " x " : "") + std::to_string(s.shape[i]);
            for (size_t k = 1; i == 0 && k < s.rows.size(); k++) shape += "+" + std::to_string(s.rows[k]);
        }
        if (s.names.size() > 1 && s.rows.empty()) shape = std::to_string(s.names.size()) + " x " + shape;
        if (!verbose) continue;
        if (s.layer <= 0 || s.layer == table.back().layer)
            printf("  %-62s %-15s %s\n", joined_names(s.names).c_str(), shape.c_str(), thousands(s.used()).c_str());
        else if (s.layer == 1 && &s > &table[0] && (&s)[-1].layer == 0)
            printf("  ... and the same for every other layer\n");
    }
    if (verbose) printf("  %-78s %s\n", "total", thousands((double)total).c_str());
    else printf("%s parameters in %zu tensors (--verbose lists them)\n", thousands((double)total).c_str(), tensors);
}

// Allocates the device memory of a run, all that task.plan() takes: prints it (--verbose: as a table), and fails where
// there is not enough, naming the largest value of `flag`, in steps of `unit` up to `max`, that fits: batches have
// task.shape_for(value) with it, and task.set_shape() makes plan() take room for them. value: its variable, which the
// task may read, too
template <class Task> void* allocate_run(Task& task, const char* flag, int64_t& value, int64_t unit, int64_t max) {
    Arena measure;
    task.plan(measure);
    const size_t available = device::device_memory();
    const BatchShape shape = task.shape;
    const int64_t given = value;
    int64_t low = 0, high = max / unit + 1;  // low · unit fits
    while (high - low > 1) {
        int64_t mid = (low + high) / 2;
        Arena arena;
        value = mid * unit;
        task.set_shape(task.shape_for(value));
        task.plan(arena);
        (arena.used <= available ? low : high) = mid;
    }
    task.set_shape(shape);
    value = given;
    const int64_t largest = low * unit;  // 0: none
    if (task.f.verbose) printf("\nmemory                MiB\n");
    for (const Arena::Region& r : measure.regions)
        if (task.f.verbose) printf("  %-18s %7.1f\n", r.name.c_str(), (double)r.bytes / MiB);
    printf("%s%.1f of %.0f MiB on %s; largest %s that fits: %s\n\n",
        task.f.verbose ? "  total              " : "memory: ", (double)measure.used / MiB, (double)available / MiB,
        device::device_name().c_str(), flag, largest ? thousands((double)largest).c_str() : "none");
    if (measure.used > available)
        fail("the run needs %.1f MiB of memory, the device has %.1f MiB: %s", (double)measure.used / MiB,
            (double)available / MiB,
            largest ? format("take %s %lld or less (and --accum for the same step)", flag, (long long)largest).c_str()
                    : "take shorter sequences or a smaller model");
    return device::device_alloc(measure.used);
}

// Fails if a parameter is infinite or not a number. values: (total_count(table)), from the model directory `dir`
inline void refuse_not_finite(
    const std::vector<ParamSpec>& table, const std::vector<areal>& values, const std::string& dir) {
    for (const ParamSpec& s : table)
        for (size_t i = s.offset; i < s.offset + s.count; i++)
            if (!std::isfinite(values[i]))
                throw Error(EXIT_NOT_FINITE, format("%s: %s: expected finite numbers, found %g: the file is damaged, "
                                                    "or its training went wrong: take another model",
                                                 dir.c_str(), joined_names(s.names).c_str(), (double)values[i]));
}

// The parameters of a model by its table, with what low-rank adapters add
inline std::vector<areal> load_values(const ModelPaths& model, const std::vector<ParamSpec>& table) {
    const char* dir = model.weights.c_str();
    std::vector<std::string> added;  // tensors that the adapters bring along
    if (!model.adapter.empty())
        for (const TensorInfo& t : SafeTensors(model.adapter + "/adapter_model.safetensors").tensors)
            if (starts_with(t.name, PEFT_PREFIX)) added.push_back(t.name.substr(strlen(PEFT_PREFIX)));
    check_tensors(dir, table, added);
    std::vector<areal> values(total_count(table));
    load_tensors(dir, table, values.data()).refuse_missing(dir, added);
    refuse_not_finite(table, values, dir);
    if (model.adapter.empty()) return values;
    merge_adapter(model.adapter, table, values.data());
    refuse_not_finite(table, values, model.adapter);
    return values;
}

// For inference: allocates memory for the parameters, and for what plan_rest(arena) takes, and loads the parameters of
// a model. point(base) points the model's tensors into `base` and returns their table. change(table, values) may change
// them before. The memory lives as long as what is returned.
template <class Point, class PlanRest> [[nodiscard]] std::shared_ptr<void> load_parameters(const ModelPaths& model,
    Point point, PlanRest plan_rest,
    const std::function<void(const std::vector<ParamSpec>&, std::vector<areal>&)>& change = nullptr) {
    const std::string& dir = model.weights;
    std::vector<ParamSpec> table = point(nullptr);
    std::vector<areal> values = load_values(model, table);
    if (change) change(table, values);
    real* params = nullptr;  // (total_count)
    auto plan = [&](Arena& arena) {
        arena.region("parameters");
        arena.take(params, values.size());
        plan_rest(arena);
    };
    Arena measure;
    plan(measure);
    if (measure.used > device::device_memory())
        fail("%s: the model needs %.1f MiB of memory, the device has %.1f MiB", dir.c_str(), (double)measure.used / MiB,
            (double)device::device_memory() / MiB);
    std::shared_ptr<void> memory(
        device::device_alloc(measure.used), [bytes = measure.used](void* p) { device::device_free(p, bytes); });
    Arena arena(memory.get());
    plan(arena);
    point(params);
    upload_rounded(params, values);
    return memory;
}
