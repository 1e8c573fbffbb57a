// memory.h: the one allocation of device memory that a run, or a loaded model, lives in.
#pragma once
#include <cmath>
#include <memory>

#include "common/data/dataloader.h"
#include "common/device/arena.h"
#include "common/train/optimizer.h"
#include "common/train/tensors_io.h"

// The device's memory for a run: prints the table, and fails where it does not fit. `flag` decides how much it is, in
// steps of `unit` up to `most`; plan_model(arena, value) takes what the model would need with that value, and returns
// its batch's shape.
template <class Task, class PlanModel>
void* allocate_run(Task& task, const char* flag, int64_t unit, int64_t most, PlanModel plan_model) {
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
inline void refuse_not_finite(const std::vector<ParamSpec>& table, const std::vector<areal>& values,
                              const std::string& dir) {
    for (const ParamSpec& s : table)
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
    std::vector<ParamSpec> table = point(nullptr);
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
