// lora.h: fine-tuning with low-rank adapters (common/ops/lora.cuh). Which matrices of a model have one, where they are
// in memory, and the files, which are PEFT's: adapter_config.json and adapter_model.safetensors.
#pragma once
#include <limits.h>

#include <set>

#include "common/base/cli.h"
#include "common/device/arena.h"
#include "common/ops/lora.cuh"
#include "common/train/model_dir.h"
#include "common/train/tensors_io.h"

struct LoraFlags {
    int64_t r = 0;  // 0: no adapters, all parameters are trained
    double alpha = 32, dropout = 0.05;
    std::string targets = "all";

    FlagGroup group() {
        return {"Low-rank adapters", "train",
            {{"lora-r", &r, between(0, 1024),
                 "rank of the adapters (LoRA) that are trained in place of the model; 0: the model is trained"},
                {"lora-alpha", &alpha, above(0), "what they add is multiplied by this / rank"},
                {"lora-dropout", &dropout, up_to(0, 1), "dropout of what they read"},
                {"lora-targets", &targets, "NAMES",
                    "which matrices have one: all of the layers, those of attention, or names: q_proj,v_proj"}}};
    }
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
        if (ends_with(module, "." + name)) return true;
    return false;
}

struct LoraTable {
    struct Module {
        size_t base;  // row of the model's table
        LoraShape shape;
    };
    std::vector<Module> modules;
    std::vector<ParamSpec> rows;       // what is trained, laid out: a and b of each module, and a head
    std::vector<std::string> targets;  // the modules' own names: q_proj, ...
    std::vector<std::string> saved;    // PEFT's modules_to_save: the modules of the head, which is trained in full
    size_t head_offset = 0;            // of its first parameter

    LoraTable() = default;
    // base: the model's table, laid out; the rows of head_layer are its end, the head. a begins as PEFT's does in size,
    // uniform there, normal here; b as zeros
    LoraTable(const std::vector<ParamSpec>& base, const LoraFlags& f, int64_t head_layer = INT_MAX) {
        const size_t r = (size_t)f.r;
        std::vector<std::string> all, others;  // the modules of the first layer; those of it and the head without one
        for (const ParamSpec& w : base)
            for (const std::string& name : w.names) {
                const std::string module = module_name(name);
                const bool in_layer = is_layer_matrix(w) && w.layer == 0;
                if (in_layer) all.push_back(module);
                if (w.layer >= head_layer || (in_layer && !is_target(module, f.targets))) others.push_back(module);
            }
        for (size_t i = 0; i < base.size(); i++) {
            const ParamSpec& w = base[i];
            if (!is_layer_matrix(w)) continue;
            const size_t in = w.transpose ? w.shape[0] : w.shape[1];
            LoraShape shape{(int)r, (float)(f.alpha / (double)r), {}};
            std::vector<std::string> a, b;
            std::vector<size_t> rows_b;
            for (size_t k = 0; k < w.names.size(); k++) {
                const std::string module = module_name(w.names[k]);
                if (!is_target(module, f.targets)) continue;
                // GPT-2 has two c_proj in a layer, BERT a dense in its head: PEFT has to know which is meant
                std::string own = module.substr(module.rfind('.') + 1);
                for (size_t dot = module.rfind('.');
                    std::any_of(others.begin(), others.end(), [&](auto& m) { return is_target(m, own); });
                    own = module.substr(dot + 1))
                    dot = module.rfind('.', dot - 1);
                if (!contains(targets, own)) targets.push_back(own);
                a.push_back(PEFT_PREFIX + module + ".lora_A.weight");
                b.push_back(PEFT_PREFIX + module + ".lora_B.weight");
                rows_b.push_back(w.elements(k) / in);
                shape.parts[shape.P++] = {(int)(w.begin(k) / in), (int)rows_b.back()};
            }
            if (shape.P == 0) continue;
            modules.push_back({i, shape});
            rows.push_back({a, {r, in}, {}, false, true, Init::normal, 1 / sqrt(3.0 * (double)in), w.layer});
            rows.push_back({b, {rows_b[0], r}, rows_b, false, true, Init::zeros, 0, w.layer});
        }
        // every name that was given is one of a matrix
        for (const std::string& target : split_list(f.targets))
            if (std::none_of(all.begin(), all.end(), [&](const std::string& m) { return is_target(m, target); }))
                fail_usage("--lora-targets %s: expected all, attention or names of this model's matrices, which are %s",
                    target.c_str(), name_list(all, 20).c_str());
        if (modules.empty()) fail_usage("--lora-targets: expected all, attention or names of matrices, found none");
        const size_t first = rows.size();
        for (ParamSpec w : base) {
            if (w.layer < head_layer) continue;
            for (std::string& name : w.names) {
                const std::string own = canonical_name(name), module = own.substr(0, own.find('.'));
                if (!contains(saved, module)) saved.push_back(module);
                name = PEFT_PREFIX + name;
            }
            rows.push_back(w);
        }
        layout(rows);
        if (first < rows.size()) head_offset = rows[first].offset;
    }
};

// ---------------------------------------------------------------- in a model
// The linear layers of a model, some of which have an adapter. A weight without one goes through the plain functions.
struct Adapters {
    struct Adapter {
        const real* weight;  // that it belongs to
        LoraShape shape;
        LoraTensors<real> w;
        LoraTensors<areal> g;
        real* u;  // (N, P r)
    };
    std::vector<Adapter> of;
    bool bf16_weights = false;               // weights that are given as real* are bf16, in host memory
    real *du = nullptr, *dropped = nullptr;  // (N, P r), (N, C), the widest

    // base: the model's parameters, by its table; params, grads: the adapters', by table.rows. What plan() took stays.
    void point(
        const LoraTable& table, const std::vector<ParamSpec>& model, const real* base, real* params, areal* grads) {
        of.resize(table.modules.size());
        for (size_t i = 0; i < of.size(); i++) {
            const auto& [row, shape] = table.modules[i];
            const size_t a = table.rows[2 * i].offset, b = table.rows[2 * i + 1].offset;
            of[i] = {base + model[row].offset, shape, {params + a, params + b}, {grads + a, grads + b}, of[i].u};
        }
    }
    // After point(). N: tokens; C: the widest input
    void plan(Arena& arena, size_t N, size_t C) {
        if (of.empty()) return;
        arena.region("adapters");
        size_t width = 0;
        for (Adapter& a : of) {
            arena.take(a.u, N * a.shape.width());
            width = std::max(width, (size_t)a.shape.width());
        }
        arena.take(du, N * width);
        arena.take(dropped, N * C);
    }
    // nullptr: the weight has none. The sites of adapters' dropout are numbers beyond those of a model's own.
    const Adapter* find(const real* weight, Dropout* drop = nullptr) const {
        for (size_t i = 0; i < of.size(); i++) {
            if (of[i].weight != weight) continue;
            if (drop) drop->site = 0x10000 + (uint32_t)i;
            return &of[i];
        }
        return nullptr;
    }

    // out(N,OC) = inp(N,C) weightᵀ + bias, and what its adapter adds. drop: of its input, whose site is set here
    void forward(
        real* out, const real* inp, const real* weight, const real* bias, int N, int C, int OC, Dropout drop) const {
        if (bf16_weights) cpu::matmul_forward(out, inp, bf16_matrix(weight), bias, N, C, OC);
        else device::matmul_forward(out, inp, weight, bias, N, C, OC);
        if (const Adapter* a = find(weight, &drop))
            lora_forward(out, a->u, dropped, inp, a->w, a->shape, N, C, OC, drop);
    }
    // dweight(OC,C) += doutᵀ inp, dbias(OC) += Σ dout, where they are wanted; the adapter's gradients and du
    void backward_weight(areal* dweight, areal* dbias, const real* dout, const real* inp, const real* weight,
        areal* scratch, int N, int C, int OC, Dropout drop) const {
        if (dweight) device::matmul_backward_weight(dweight, dbias, dout, inp, scratch, N, C, OC);
        if (const Adapter* a = find(weight, &drop))
            lora_backward_weight(a->g, du, dropped, dout, inp, (const real*)a->u, a->w, a->shape, N, C, OC, drop);
    }
    // After backward_weight of the same weight: dinp(N,C) = dout(N,OC) weight, with `add` on top of what it was, and
    // what comes through the adapter
    void backward_input(
        real* dinp, const real* dout, const real* weight, int N, int C, int OC, Dropout drop, bool add = false) const {
        device::matmul_backward_input(dinp, dout, weight, N, C, OC, add);
        if (const Adapter* a = find(weight, &drop))
            lora_backward_input(dinp, dropped, (const real*)du, a->w, a->shape, N, C, drop);
    }
};

// ---------------------------------------------------------------- files
// DIR/adapter_config.json and adapter_model.safetensors. base: the model that it belongs to, a directory or name;
// values: (total_count(table.rows))
template <class T> void save_adapter(const std::string& dir, const LoraTable& table, const LoraFlags& f,
    const std::string& base, bool conv1d, const T* values) {
    Json config, targets = Json::make_array({table.targets.begin(), table.targets.end()});
    const bool has_head = !table.saved.empty();
    if (has_head) config.set("modules_to_save", Json::make_array({table.saved.begin(), table.saved.end()}));
    config.set("peft_type", "LORA").set("task_type", has_head ? "SEQ_CLS" : "CAUSAL_LM");
    config.set("base_model_name_or_path", base).set("r", f.r);
    config.set("lora_alpha", f.alpha).set("lora_dropout", f.dropout).set("bias", "none").set("target_modules", targets);
    config.set("fan_in_fan_out", conv1d).set("inference_mode", true).set("use_rslora", false).set("use_dora", false);
    write_file_atomic(dir + "/adapter_config.json", dump_json(config, 2) + "\n");
    save_tensors(dir, table.rows, values, "adapter_model.safetensors");
}
// DIR/adapter_config.json
inline ConfigJson adapter_config(const std::string& dir) {
    const std::string path = dir + "/adapter_config.json";
    return {parse_json(read_file(path), path), path};
}
// Where the files of a model are: in the directory `path` or, of low-rank adapters, which `path` or `adapter` names,
// some beside them and the others with their model
struct ModelPaths {
    std::string adapter, weights;  // "": there are none

    explicit ModelPaths(const std::string& path, const std::string& adapter_path = "") {
        if (path.empty()) fail_usage("--model DIR is missing: a run directory or a model directory");
        if (!adapter_path.empty()) adapter = resolve_model_dir(adapter_path);
        if (!adapter.empty() && !is_adapter(adapter))
            fail("%s: expected adapters (adapter_config.json), found a model", adapter.c_str());
        weights = resolve_model_dir(path);
        if (!is_adapter(weights)) return;
        if (!adapter.empty()) fail_usage("--model %s: expected a model beside --adapter, found adapters", path.c_str());
        adapter = weights;  // of the model that it names
        const ConfigJson config = adapter_config(adapter);
        const Json* base = config.find("base_model_name_or_path");
        if (!base || base->s.empty())
            config.refuse("base_model_name_or_path", "a model", "name it with --model BASE --adapter " + adapter);
        if (!is_directory(base->s))
            fail(
                "%s: its model is %s, of which there is no directory here: get it (data/pretrained.py), and name it "
                "with --model BASE --adapter %s",
                config.where.c_str(), base->s.c_str(), adapter.c_str());
        weights = resolve_model_dir(base->s);
        if (is_adapter(weights)) config.refuse("base_model_name_or_path", "a model and no adapters");
    }
    std::string of(const std::string& file) const {
        return !adapter.empty() && exists(adapter + "/" + file) ? adapter : weights;
    }
};
// W += s b a for every adapter of PEFT's directory `dir`, of any rank and targets, which the file itself tells, and the
// modules that it holds in full; values (total_count(model)) of the model's table. What PEFT can do and we cannot is
// refused by its key.
template <class T> void merge_adapter(const std::string& dir, const std::vector<ParamSpec>& model, T* values) {
    const ConfigJson config = adapter_config(dir);
    auto text = [&](const char* key) { return config.find(key) ? config.find(key)->s : ""; };
    if (text("peft_type") != "LORA") config.refuse("peft_type", "\"LORA\"");
    for (const char* key : {"use_dora", "alpha_pattern", "lora_bias", "trainable_token_indices", "layer_replication",
             "alora_invocation_tokens"})
        if (const Json* v = config.find(key); v && (v->b || !v->o.empty() || !v->a.empty() || !v->s.empty() || v->d))
            config.refuse(key, "none");
    config.expects("bias", "none", "biases are not implemented");
    const std::string init = text("init_lora_weights");  // others change the model's own weights
    if (!init.empty() && init != "gaussian" && init != "eva" && init != "orthogonal")
        config.refuse("init_lora_weights", "true, gaussian, eva or orthogonal");
    const double alpha = config.number("lora_alpha", 1e-30, 1e30);
    const Json* rs = config.find("use_rslora");
    const SafeTensors file(dir + "/adapter_model.safetensors");
    std::set<std::string> known;  // tensors of the file
    for (const ParamSpec& w : model)
        for (size_t k = 0; k < w.names.size(); k++) {
            if (const TensorInfo* whole = w.transpose ? nullptr : file.find(PEFT_PREFIX + w.names[k])) {
                if (whole->shape != w.shape_of(k))
                    fail("%s: %s: expected shape %s, found %s", file.path.c_str(), whole->name.c_str(),
                        shape_text(w.shape_of(k)).c_str(), shape_text(whole->shape).c_str());
                file.read(*whole, values + w.offset + w.begin(k));
                known.insert(whole->name);
            }
            const std::string module = PEFT_PREFIX + module_name(w.names[k]);
            const TensorInfo *a = file.find(module + ".lora_A.weight"), *b = file.find(module + ".lora_B.weight");
            if (w.shape.size() != 2 || (!a && !b)) continue;
            const size_t in = w.transpose ? w.shape[0] : w.shape[1], out = w.elements(k) / in;
            const size_t r = a && !a->shape.empty() ? a->shape[0] : 0;
            if (r == 0 || a->shape != std::vector<size_t>{r, in} || !b || b->shape != std::vector<size_t>{out, r})
                fail("%s: %s: expected lora_A (r, %zu) and lora_B (%zu, r), found %s and %s", file.path.c_str(),
                    module.c_str(), in, out, a ? shape_text(a->shape).c_str() : "none",
                    b ? shape_text(b->shape).c_str() : "none");
            std::vector<float> va(r * in), vb(out * r);
            file.read(*a, va.data());
            file.read(*b, vb.data());
            const double scale = alpha / (rs && rs->b ? sqrt((double)r) : (double)r);
            T* weight = values + w.offset + w.begin(k);  // (out, in)
#pragma omp parallel for
            for (size_t o = 0; o < out; o++)
                for (size_t i = 0; i < in; i++) {
                    double sum = 0;
                    for (size_t j = 0; j < r; j++) sum += (double)vb[o * r + j] * va[j * in + i];
                    weight[o * in + i] = (T)((double)weight[o * in + i] + scale * sum);
                }
            known.insert({a->name, b->name});
        }
    for (const TensorInfo& t : file.tensors)
        if (!known.count(t.name))
            fail("%s: %s: expected an adapter of one of the model's matrices, found no such one", file.path.c_str(),
                t.name.c_str());
    if (known.empty()) fail("%s: expected adapters, found none", file.path.c_str());
}
