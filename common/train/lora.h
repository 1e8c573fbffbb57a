// lora.h: fine-tuning with low-rank adapters (common/ops/lora.cuh). Which matrices of a model have one, where they are
// in memory, and the files, which are PEFT's: adapter_config.json and adapter_model.safetensors.
#pragma once
#include <unordered_map>

#include "common/base/cli.h"
#include "common/device/arena.h"
#include "common/ops/lora.cuh"
#include "common/train/model_dir.h"
#include "common/train/tensors_io.h"

struct LoraFlags {
    int64_t r = 0;  // 0: no adapters, all parameters are trained
    double alpha = 32, dropout = 0.05;
    std::string targets = "all";
};

// ---------------------------------------------------------------- the table
constexpr const char* PEFT_PREFIX = "base_model.model.";

// The matrix of a layer that a parameter is, as PEFT's all-linear has them: no embeddings, no output matrix
inline bool is_layer_matrix(const ParamSpec& s) {
    return s.shape.size() == 2 && s.layer >= 0 && s.names[0].find(format(".%d.", s.layer)) != std::string::npos;
}
// "model.layers.0.self_attn.q_proj.weight" without ".weight"
inline std::string module_name(const std::string& weight) { return weight.substr(0, weight.rfind('.')); }
// targets: all, attention, or names of modules as in PEFT: "q_proj,v_proj"
inline bool is_target(const std::string& module, const std::string& targets) {
    if (targets == "all") return true;
    if (targets == "attention") return module.find("attn") != module.npos || module.find("attention") != module.npos;
    for (const std::string& name : split_list(targets))
        if (std::string end = "." + name;
            module.size() > end.size() && module.substr(module.size() - end.size()) == end)
            return true;
    return false;
}

struct LoraTable {
    struct Module {
        size_t base, a, b;  // rows of the model's table and of `rows`
        LoraShape shape;
    };
    std::vector<ParamSpec> rows;  // the adapters' parameters, laid out
    std::vector<Module> modules;
    std::vector<std::string> targets;  // the modules' own names: q_proj, ...

    LoraTable() = default;
    // base: the model's table, laid out. a begins as PEFT's does in size, uniform there, normal here; b as zeros
    LoraTable(const std::vector<ParamSpec>& base, const LoraFlags& f) {
        std::vector<std::string> all;  // the modules of the first layer
        for (const ParamSpec& w : base)
            for (const std::string& name : w.names)
                if (is_layer_matrix(w) && w.layer == 0) all.push_back(module_name(name));
        for (size_t i = 0; i < base.size(); i++) {
            const ParamSpec& w = base[i];
            if (!is_layer_matrix(w)) continue;
            ParamSpec a, b;
            LoraShape shape;
            const size_t in = w.transpose ? w.shape[0] : w.shape[1];
            for (size_t k = 0; k < w.names.size(); k++) {
                const std::string module = module_name(w.names[k]);
                if (!is_target(module, f.targets)) continue;
                // GPT-2 has two c_proj in a layer: where one alone is meant, PEFT has to know which
                std::string own = module.substr(module.rfind('.') + 1);
                if (std::any_of(all.begin(), all.end(),
                                [&](const std::string& m) { return is_target(m, own) && !is_target(m, f.targets); }))
                    own = module.substr(module.rfind('.', module.rfind('.') - 1) + 1);
                a.names.push_back(PEFT_PREFIX + module + ".lora_A.weight");
                b.names.push_back(PEFT_PREFIX + module + ".lora_B.weight");
                b.rows.push_back(w.elements(k) / in);
                shape.parts[shape.P++] = {(int)(w.begin(k) / in), (int)b.rows.back()};
                if (std::find(targets.begin(), targets.end(), own) == targets.end()) targets.push_back(own);
            }
            if (shape.P == 0) continue;
            shape.r = (int)f.r;
            shape.scale = (float)(f.alpha / (double)f.r);
            a.shape = {(size_t)f.r, in};
            b.shape = {b.rows[0], (size_t)f.r};
            a.init = Init::normal;
            a.std = 1 / sqrt(3.0 * (double)in);
            a.layer = b.layer = w.layer;
            a.decay = b.decay = true;
            modules.push_back({i, rows.size(), rows.size() + 1, shape});
            rows.push_back(a);
            rows.push_back(b);
        }
        // every name that was given is one of a matrix
        for (const std::string& target : split_list(f.targets))
            if (std::none_of(all.begin(), all.end(), [&](const std::string& m) { return is_target(m, target); }))
                fail_usage("--lora-targets %s: expected all, attention or names of this model's matrices, which are %s",
                           target.c_str(), name_list(all, 20).c_str());
        if (modules.empty()) fail_usage("--lora-targets: expected all, attention or names of matrices, found none");
        layout(rows);
    }
};

// ---------------------------------------------------------------- in a model
// The linear layers of a model, some of which have an adapter. A weight without one goes through the plain functions.
struct Adapters {
    struct Adapter {
        LoraShape shape;
        LoraTensors<real> w;
        LoraTensors<areal> g;
        real* u;          // (N, P r)
        uint32_t number;  // of its dropout
    };
    static constexpr uint32_t FIRST = 0x10000;    // of these numbers, beyond those of a model's own sites
    std::unordered_map<const real*, Adapter> of;  // by the weight that it belongs to
    real *du = nullptr, *dropped = nullptr;       // (N, P r), (N, C), the widest

    // base: where the model's parameters lie, by its table; params, grads: those of the adapters, by table.rows. Rooms
    // that plan() took stay.
    void point(const LoraTable& table, const std::vector<ParamSpec>& model, const real* base, real* params,
               areal* grads) {
        std::vector<real*> u(table.modules.size());
        for (const auto& [weight, a] : of) u[a.number - FIRST] = a.u;
        of.clear();
        for (size_t i = 0; i < table.modules.size(); i++) {
            const LoraTable::Module& m = table.modules[i];
            const size_t a = table.rows[m.a].offset, b = table.rows[m.b].offset;
            of[base + model[m.base].offset] = {
                m.shape, {params + a, params + b}, {grads + a, grads + b}, u[i], FIRST + (uint32_t)i};
        }
    }
    // After point(). N: tokens; C: the widest input
    void plan(Arena& arena, size_t N, size_t C) {
        if (of.empty()) return;
        arena.region("adapters");
        size_t width = 0;
        std::vector<Adapter*> in_order(of.size());
        for (auto& [weight, a] : of) in_order[a.number - FIRST] = &a;
        for (Adapter* a : in_order) {
            arena.take(a->u, N * a->shape.width());
            width = std::max(width, (size_t)a->shape.width());
        }
        arena.take(du, N * width);
        arena.take(dropped, N * C);
    }
    bool has(const real* weight) const { return of.count(weight); }
    const Adapter* find(const real* weight, Dropout& drop) const {
        auto found = of.empty() ? of.end() : of.find(weight);
        if (found == of.end()) return nullptr;
        drop.site = found->second.number;
        return &found->second;
    }

    // out(N,OC) = inp(N,C) weightᵀ + bias, and what its adapter adds. drop: of its input, whose site is set here
    void forward(real* out, const real* inp, const real* weight, const real* bias, int N, int C, int OC,
                 Dropout drop) const {
        device::matmul_forward(out, inp, weight, bias, N, C, OC);
        if (const Adapter* a = find(weight, drop))
            lora_forward(out, a->u, dropped, inp, a->w, a->shape, N, C, OC, drop);
    }
    // dweight(OC,C) += doutᵀ inp, dbias(OC) += Σ dout, where they are wanted; the adapter's gradients and du
    void backward_weight(areal* dweight, areal* dbias, const real* dout, const real* inp, const real* weight,
                         areal* scratch, int N, int C, int OC, Dropout drop) const {
        if (dweight) device::matmul_backward_weight(dweight, dbias, dout, inp, scratch, N, C, OC);
        if (const Adapter* a = find(weight, drop))
            lora_backward_weight(a->g, du, dropped, dout, inp, (const real*)a->u, a->w, a->shape, N, C, OC, drop);
    }
    // After backward_weight of the same weight: dinp(N,C) = dout(N,OC) weight, and what comes through the adapter
    void backward_input(real* dinp, const real* dout, const real* weight, int N, int C, int OC, Dropout drop) const {
        device::matmul_backward_input(dinp, dout, weight, N, C, OC);
        if (const Adapter* a = find(weight, drop))
            lora_backward_input(dinp, dropped, (const real*)du, a->w, a->shape, N, C, drop);
    }
};

// ---------------------------------------------------------------- files
// DIR/adapter_config.json and adapter_model.safetensors. base: the model that it belongs to, a directory or name; task:
// PEFT's, "CAUSAL_LM"; values: (total_count(table.rows))
template <class T>
void save_adapter(const std::string& dir, const LoraTable& table, const LoraFlags& f, const std::string& base,
                  const char* task, bool conv1d, const T* values) {
    Json targets = Json::make_array();
    for (const std::string& name : table.targets) targets.a.push_back(name);
    Json config;
    config.set("peft_type", "LORA").set("task_type", task).set("base_model_name_or_path", base).set("r", f.r);
    config.set("lora_alpha", f.alpha).set("lora_dropout", f.dropout).set("bias", "none").set("target_modules", targets);
    config.set("fan_in_fan_out", conv1d).set("inference_mode", true).set("use_rslora", false).set("use_dora", false);
    write_file_atomic(dir + "/adapter_config.json", dump_json(config, 2) + "\n");
    save_tensors(dir, table.rows, values, "adapter_model.safetensors");
}
// DIR itself, or of a run directory DIR/best, else DIR/last, which holds adapters
inline std::string resolve_adapter_dir(const std::string& path) {
    const std::string dir = resolve_model_dir(path);
    if (!is_adapter(dir)) fail("%s: expected adapters (adapter_config.json), found a model", dir.c_str());
    return dir;
}
// The directory of the model that an adapter belongs to, which adapter_config.json names
inline std::string adapter_base(const std::string& dir) {
    const std::string path = dir + "/adapter_config.json";
    const Json config = parse_json(read_file(path), path);
    const Json* base = config.find("base_model_name_or_path");
    if (!base || base->kind != Json::string || base->s.empty())
        fail("%s: expected base_model_name_or_path, found none: name the model with --model BASE --adapter %s",
             path.c_str(), dir.c_str());
    if (!is_directory(base->s))
        fail(
            "%s: its model is %s, of which there is no directory here: get it (data/pretrained.py), and name it with "
            "--model BASE --adapter %s",
            path.c_str(), base->s.c_str(), dir.c_str());
    const std::string found = resolve_model_dir(base->s);
    if (is_adapter(found)) fail("%s: expected a model as base_model_name_or_path, found adapters", path.c_str());
    return found;
}
// W += s b a for every adapter of PEFT's directory `dir`, of any rank and targets, which the file itself tells; values
// (total_count(model)) of the model's table. What PEFT can do and we cannot is refused by its key.
template <class T> void merge_adapter(const std::string& dir, const std::vector<ParamSpec>& model, T* values) {
    const std::string path = dir + "/adapter_config.json";
    const Json config = parse_json(read_file(path), path);
    auto refuse = [&](const char* key, const char* expected) {
        fail("%s: expected %s for %s, found %s", path.c_str(), expected, key, dump_json(*config.find(key)).c_str());
    };
    auto is_off = [](const Json& v) {
        return v.kind == Json::null || (v.kind == Json::boolean && !v.b) || (v.o.empty() && v.kind == Json::object) ||
               (v.kind == Json::array && v.a.empty());
    };
    if (const Json* type = config.find("peft_type"); !type || type->s != "LORA")
        fail("%s: expected peft_type LORA, found %s", path.c_str(), type ? dump_json(*type).c_str() : "none");
    for (const char* key : {"use_dora", "alpha_pattern", "modules_to_save", "lora_bias", "trainable_token_indices",
                            "layer_replication", "alora_invocation_tokens"})
        if (const Json* v = config.find(key); v && !is_off(*v)) refuse(key, "none");
    if (const Json* bias = config.find("bias"); bias && bias->s != "none") refuse("bias", "none");
    // others change the model's own weights
    if (const Json* init = config.find("init_lora_weights"); init && init->kind == Json::string)
        if (init->s != "gaussian" && init->s != "eva" && init->s != "orthogonal")
            refuse("init_lora_weights", "true, gaussian, eva or orthogonal");
    const Json *alpha = config.find("lora_alpha"), *rs = config.find("use_rslora");
    if (!alpha || !(alpha->d > 0)) fail("%s: expected a lora_alpha above 0, found none", path.c_str());
    const SafeTensors file(dir + "/adapter_model.safetensors");
    std::unordered_map<std::string, std::pair<const ParamSpec*, size_t>> weights;  // by module
    for (const ParamSpec& s : model)
        for (size_t k = 0; k < s.names.size(); k++)
            if (s.shape.size() == 2) weights[module_name(s.names[k])] = {&s, k};
    const std::string prefix = PEFT_PREFIX, end_a = ".lora_A.weight", end_b = ".lora_B.weight";
    auto ends = [](const std::string& s, const std::string& e) {
        return s.size() > e.size() && s.compare(s.size() - e.size(), e.size(), e) == 0;
    };
    size_t pairs = 0;
    for (const TensorInfo& t : file.tensors) {
        const std::string &name = t.name, *end = ends(name, end_a) ? &end_a : ends(name, end_b) ? &end_b : nullptr;
        std::string module = end && name.rfind(prefix, 0) == 0
                                 ? name.substr(prefix.size(), name.size() - prefix.size() - end->size())
                                 : "";
        auto found = weights.find(module);
        if (found == weights.end())
            fail("%s: %s: expected an adapter of one of the model's matrices, found no such matrix", file.path.c_str(),
                 name.c_str());
        const auto [s, k] = found->second;
        const size_t in = s->transpose ? s->shape[0] : s->shape[1], out = s->elements(k) / in;
        if (end == &end_b) continue;
        const TensorInfo* b = file.find(prefix + module + end_b);
        const size_t r = t.shape.empty() ? 0 : t.shape[0];
        if (r == 0 || t.shape != std::vector<size_t>{r, in} || !b || b->shape != std::vector<size_t>{out, r})
            fail("%s: %s: expected a (r, %zu) and lora_B (%zu, r), found %s and %s", file.path.c_str(), name.c_str(),
                 in, out, shape_text(t.shape).c_str(), b ? shape_text(b->shape).c_str() : "none");
        std::vector<float> va(r * in), vb(out * r);
        file.read(t, va.data());
        file.read(*b, vb.data());
        const double scale = alpha->d / (rs && rs->b ? sqrt((double)r) : (double)r);
        T* w = values + s->offset + s->begin(k);  // (out, in)
#pragma omp parallel for
        for (size_t o = 0; o < out; o++)
            for (size_t i = 0; i < in; i++) {
                double sum = 0;
                for (size_t j = 0; j < r; j++) sum += (double)vb[o * r + j] * va[j * in + i];
                w[o * in + i] = (T)((double)w[o * in + i] + scale * sum);
            }
        pairs++;
    }
    if (pairs == 0) fail("%s: expected adapters, found none", file.path.c_str());
}
