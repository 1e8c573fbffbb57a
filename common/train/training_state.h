// training_state.h: what a model directory holds beside the model, so that a run can be resumed: AdamW's m and v,
// master weights, counters.
#pragma once
#include "common/base/hash.h"
#include "common/train/parameters.h"
#include "common/train/safetensors.h"

// A number for a parameter table; state of another one is refused.
inline std::string layout_fingerprint(const std::vector<ParamSpec>& specs) {
    uint64_t hash = fnv1a("", 0);
    for (const ParamSpec& s : specs)
        for (size_t i = 0; i < s.names.size(); i++) {
            std::string row = format("%s %s %zu %zu;", s.names[i].c_str(), shape_text(s.shape_of(i)).c_str(), s.offset,
                                     s.count);
            hash = fnv1a(row.data(), row.size(), hash);
        }
    return hex(hash);
}

// DIR/training_state.safetensors: m, v and, where the master weights are not the parameters themselves, master (else
// nullptr), total_count elements each; `counters` is the program's own: step, loader position, best loss, ... Bits come
// back as they went.
template <class T>
void save_training_state(const std::string& dir, const std::vector<ParamSpec>& specs, const T* m, const T* v,
                         const T* master, const Json& counters) {
    std::vector<TensorToWrite> list = {{"m", dtype_of<T>(), {total_count(specs)}, m},
                                       {"v", dtype_of<T>(), {total_count(specs)}, v}};
    if (master) list.push_back({"master", dtype_of<T>(), {total_count(specs)}, master});
    write_safetensors(dir + "/training_state.safetensors", list,
                      {{"layout", layout_fingerprint(specs)}, {"counters", dump_json(counters)}});
}
template <class T>
Json load_training_state(const std::string& dir, const std::vector<ParamSpec>& specs, T* m, T* v, T* master) {
    std::string path = dir + "/training_state.safetensors";
    if (!exists(path))
        fail("%s: expected the state of the optimiser, found no such file: start from this model with --init instead%s",
             path.c_str(), nearest_entry(path).c_str());
    SafeTensors file(path);
    const std::string *fingerprint = file.find_metadata("layout"), *counters = file.find_metadata("counters");
    if (!fingerprint || !counters)
        fail("%s: expected \"layout\" and \"counters\" in __metadata__, found none: not written by this program",
             path.c_str());
    if (*fingerprint != layout_fingerprint(specs))
        fail("%s: expected the state of this model, found that of another size or version of the program",
             path.c_str());
    auto read = [&](const char* name, T* dst) {
        const TensorInfo* t = dst ? file.find(name) : nullptr;
        if (dst && !t)
            fail("%s: expected a tensor %s, found none: written with another PRECISION%s", path.c_str(), name,
                 file.hint(name).c_str());
        if (dst && (t->dtype != dtype_of<T>() || t->count != total_count(specs)))
            fail("%s: %s: expected %zu numbers %s, found %zu %s: written with another PRECISION", path.c_str(), name,
                 total_count(specs), dtype_of<T>(), t->count, t->dtype.c_str());
        if (dst) file.read(*t, dst);
    };
    read("m", m);
    read("v", v);
    read("master", master);
    return parse_json(*counters, path + ": counters");
}
