// gpt_config.h: the dimensions of a decoder, and its config.json as Hugging Face transformers reads and writes it: of a
// GPT-2, and of Llama and the models that are built like it.
#pragma once
#include <algorithm>

#include "common/ops/rope.cuh"
#include "common/train/config_json.h"

struct GptConfig {
    int64_t V = 50257, T = 1024, C = 768, L = 12, NH = 12, FF = 3072;  // T: the context
    int64_t NKV = 12, HS = 64;  // heads of keys and values, each of which NH / NKV heads of queries share; head size
    int64_t eot = 50256;        // the id of <|endoftext|>, or what else ends a text
    int64_t bos = 50256, pad = -1;  // the id of what begins a text, of padding; −1: none
    std::vector<int> stops;         // more ids that end a text
    double eps = 1e-5, dropout = 0.1, init_std = 0.02;

    // Where the models differ. A Llama is a GPT-2 with RMSNorm, RoPE and SwiGLU for LayerNorm, learned positions and
    // GELU, and without biases.
    std::string type = "gpt2";   // "model_type"
    bool llama = false;          // of this kind: llama, qwen2, qwen3, smollm3
    bool qkv_bias = true;        // GPT-2; of a Llama's kind: Qwen2 alone
    bool qk_norm = false;        // RMSNorm on each head of q and k: Qwen3
    bool tied = true;            // the output matrix is that of the embeddings
    bool bf16_matrices = false;  // on a CPU, without training: matrices are kept as bf16, all else as real
    RopeConfig rope;
    std::vector<int> no_rope;  // layers without RoPE: SmolLM3
    Json generation;           // generation_config.json, kept for what the user set there

    bool has_rope(int l) const { return llama && !contains(no_rope, l); }
    bool ends(int token) const { return token == eot || contains(stops, token); }
};

// The models and transformers' classes for them
constexpr std::pair<const char*, const char*> GPT_TYPES[] = {{"gpt2", "GPT2LMHeadModel"}, {"llama", "LlamaForCausalLM"},
    {"qwen2", "Qwen2ForCausalLM"}, {"qwen3", "Qwen3ForCausalLM"}, {"smollm3", "SmolLM3ForCausalLM"}};

// ---------------------------------------------------------------- in
// What is GPT-2's alone
inline void read_gpt2(const ConfigJson& json, GptConfig& c) {
    const Json* act = json.find("activation_function");
    if (!act || act->s != "gelu_pytorch_tanh")  // another name of the same function
        json.expects("activation_function", "gelu_new", "only the tanh form of GELU is implemented for GPT-2");
    json.expects("scale_attn_weights", true, "attention without the factor 1/sqrt(head size) is not implemented");
    json.expects("scale_attn_by_inverse_layer_idx", false, "a factor that depends on the layer is not implemented");
    json.expects("add_cross_attention", false, "cross attention is not implemented");
    json.expects("tie_word_embeddings", true, "an output matrix of its own is not implemented for GPT-2");
    c.NKV = c.NH;
    c.eot = json.integer("eos_token_id", 0, c.V - 1, c.V - 1);
    c.bos = json.integer("bos_token_id", 0, INT32_MAX, c.eot);
    if (c.bos >= c.V) c.bos = c.eot;  // GPT-2's own, in a model of fewer tokens
    json.expects_multiple("n_embd", c.C, "n_head", c.NH);
    c.HS = c.C / c.NH;
}

// Of "rope_parameters", or as transformers wrote it before version 5: "rope_theta" and "rope_scaling", which goes first
inline RopeConfig read_rope(const ConfigJson& json, double theta) {
    RopeConfig r;
    r.theta = json.number("rope_theta", 1, 1e15, theta);
    json.number("partial_rotary_factor", 1, 1, 1);
    const Json* old = json.find("rope_scaling");
    const bool none = !old || (old->kind == Json::object && old->o.empty());
    const char* key = none ? "rope_parameters" : "rope_scaling";
    if (!json.find(key)) return r;
    const ConfigJson rope{*json.find(key), json.where + ": " + key};
    const Json *type = rope.json.find("rope_type"), *old_type = rope.json.find("type");
    const std::string kind = type ? type->s : old_type ? old_type->s : "default";
    if (rope.json.kind != Json::object || (kind != "default" && kind != "llama3"))
        fail("%s: rope_type: expected \"default\" or \"llama3\", found %s: other kinds of RoPE are not implemented",
            rope.where.c_str(), dump_json(rope.json).c_str());
    const std::vector<std::string> known = {"rope_type", "type", "rope_theta", "factor", "low_freq_factor",
        "high_freq_factor", "original_max_position_embeddings", "partial_rotary_factor"};
    for (const auto& [name, value] : rope.json.o)
        if (!contains(known, name)) rope.refuse(name, "no such key", "it is not implemented");
    r.theta = rope.number("rope_theta", 1, 1e15, r.theta);
    rope.number("partial_rotary_factor", 1, 1, 1);
    if (kind == "default") return r;
    r.factor = rope.number("factor", 1, 1e6);
    r.low_freq_factor = rope.number("low_freq_factor", 1e-6, 1e6);
    r.high_freq_factor = rope.number("high_freq_factor", r.low_freq_factor * (1 + 1e-9), 1e6);
    r.original_context = (double)rope.integer("original_max_position_embeddings", 1, 1 << 30);
    return r;
}

// An id or a list of ids, each below V
inline std::vector<int> read_ids(const ConfigJson& json, const char* key, int64_t V) {
    std::vector<int> ids;
    for (const Json& id : json.list(key)) {
        if (id.kind != Json::integer || id.i < 0 || id.i >= V)
            json.refuse(key, format("ids from 0 to %lld", (long long)V - 1));
        ids.push_back((int)id.i);
    }
    return ids;
}

// What is of Llama's kind alone
inline void read_llama(const ConfigJson& json, GptConfig& c) {
    c.qkv_bias = c.type == "qwen2";
    c.qk_norm = c.type == "qwen3";
    const bool smollm3 = c.type == "smollm3";
    json.expects("hidden_act", "silu", "only SwiGLU is implemented");
    json.expects("attention_bias", false, "biases of attention are implemented for Qwen2 alone");
    json.expects("mlp_bias", false, "biases of the feed-forward part are not implemented");
    json.expects("use_sliding_window", false, "attention within a window is not implemented");
    json.expects("pretraining_tp", 1, "products in slices are not implemented");
    json.expects("quantization_config", Json(), "take the model as it was before it was quantised");
    for (const Json& type : json.list("layer_types"))
        if (type.s != "full_attention")
            fail(json.where + ": layer_types: expected \"full_attention\" for every layer, found " + dump_json(type) +
                 ": other kinds are not implemented");
    // null: as many as heads; where the key is missing transformers has another default for every type
    const bool has_default = c.type == "llama" || json.json.find("num_key_value_heads");
    c.NKV = json.integer("num_key_value_heads", 1, 1 << 20, has_default ? std::optional(c.NH) : std::nullopt);
    json.expects_multiple("num_attention_heads", c.NH, "num_key_value_heads", c.NKV);
    c.HS = json.integer("head_dim", 1, 1 << 16, c.qk_norm && !json.json.find("head_dim") ? 128 : c.C / c.NH);
    if (c.HS % 2 || c.HS == 0)
        fail("%s: head_dim: expected an even number, found %lld", json.where.c_str(), (long long)c.HS);
    const Json* tied = json.json.find("tie_word_embeddings");
    if (tied && tied->kind != Json::boolean) json.refuse("tie_word_embeddings", "true or false");
    c.tied = tied ? tied->b : smollm3;
    c.rope = read_rope(json, smollm3 ? 2e6 : 1e4);
    if (smollm3) {
        const Json* layers = json.find("no_rope_layers");
        const int64_t every = json.integer("no_rope_layer_interval", 1, 1 << 20, 4);
        auto is_flag = [](const Json& j) { return j.kind == Json::integer && (j.i == 0 || j.i == 1); };
        if (layers && ((int64_t)layers->a.size() < c.L || !std::all_of(layers->a.begin(), layers->a.end(), is_flag)))
            json.refuse("no_rope_layers", format("%lld times 0 or 1", (long long)c.L));
        for (int l = 0; l < c.L; l++)
            if (layers ? layers->a[l].i == 0 : (l + 1) % every == 0) c.no_rope.push_back(l);
    }
    auto first = [](const std::vector<int>& ids) { return ids.empty() ? -1 : ids[0]; };
    c.pad = first(read_ids(json, "pad_token_id", c.V));
    c.bos = first(read_ids(json, "bos_token_id", c.V));
    c.stops = read_ids(json, "eos_token_id", c.V);
    const std::string file = json.where.substr(0, json.where.size() - strlen("config.json")) + "generation_config.json";
    if (exists(file)) {
        c.generation = parse_json(read_file(file), file);
        if (std::vector<int> ids = read_ids({c.generation, file}, "eos_token_id", c.V); !ids.empty()) c.stops = ids;
    }
    c.eot = first(c.stops);
}

// Of the model in `dir`; fails where it needs what is not implemented.
inline GptConfig read_gpt_config(const std::string& dir) {
    std::vector<std::string> types;
    for (auto [type, architecture] : GPT_TYPES) types.push_back(type);
    const ConfigJson json = read_config(dir, types);
    GptConfig c;
    c.type = json.find("model_type")->s;
    c.llama = c.type != "gpt2";
    auto key = [&](const char* gpt2, const char* llama) { return c.llama ? llama : gpt2; };
    c.V = json.integer("vocab_size", 1, 1 << 30);
    c.T = json.integer(key("n_positions", "max_position_embeddings"), 1, 1 << 24);
    c.C = json.integer(key("n_embd", "hidden_size"), 1, 1 << 20);
    c.L = json.integer(key("n_layer", "num_hidden_layers"), 1, MAX_LAYERS);
    c.NH = json.integer(key("n_head", "num_attention_heads"), 1, 1 << 20);
    c.FF = c.llama ? json.integer("intermediate_size", 1, 1 << 22) : json.integer("n_inner", 1, 1 << 22, 4 * c.C);
    c.eps = json.number(key("layer_norm_epsilon", "rms_norm_eps"), 1e-30, 0.1, c.llama ? 1e-6 : 1e-5);
    c.dropout = json.number(key("resid_pdrop", "attention_dropout"), 0, 0.999, c.llama ? 0 : 0.1);
    c.init_std = json.number("initializer_range", 0, 10, c.init_std);
    c.llama ? read_llama(json, c) : read_gpt2(json, c);
    if (!c.llama || !device_is_host) json.expects_head_size(c.HS);
    return c;
}

// ---------------------------------------------------------------- out
inline void write_gpt2(Json& json, const GptConfig& c) {
    json.set("vocab_size", c.V).set("n_positions", c.T).set("n_ctx", c.T);
    json.set("n_embd", c.C).set("n_layer", c.L).set("n_head", c.NH).set("n_inner", c.FF);
    json.set("activation_function", "gelu_new").set("layer_norm_epsilon", c.eps).set("initializer_range", c.init_std);
    json.set("resid_pdrop", c.dropout).set("embd_pdrop", c.dropout).set("attn_pdrop", c.dropout);
    json.set("scale_attn_weights", true).set("bos_token_id", c.bos < 0 || c.bos >= c.V ? c.eot : c.bos);
    json.set("eos_token_id", c.eot).set("tie_word_embeddings", true).set("use_cache", true);
}
// In the spelling that transformers of versions 4 and 5 read
inline void write_llama(Json& json, const GptConfig& c, const Json& eos) {
    auto id = [](int64_t i) { return i < 0 ? Json() : Json(i); };
    json.set("vocab_size", c.V).set("max_position_embeddings", c.T).set("hidden_size", c.C);
    json.set("num_hidden_layers", c.L).set("num_attention_heads", c.NH).set("num_key_value_heads", c.NKV);
    if (c.type != "qwen2" || c.NH * c.HS != c.C) json.set("head_dim", c.HS);  // transformers' Qwen2 has no such key
    json.set("intermediate_size", c.FF).set("hidden_act", "silu").set("rms_norm_eps", c.eps);
    json.set("initializer_range", c.init_std).set("attention_dropout", c.dropout);
    Json scaling;  // null: none
    if (c.rope.factor != 1) {
        scaling.set("rope_type", "llama3").set("factor", c.rope.factor).set("low_freq_factor", c.rope.low_freq_factor);
        scaling.set("high_freq_factor", c.rope.high_freq_factor);
        scaling.set("original_max_position_embeddings", (int64_t)c.rope.original_context);
    }
    json.set("rope_theta", c.rope.theta).set("rope_scaling", scaling);
    if (c.type == "smollm3") {
        Json layers = Json::make_array();
        for (int l = 0; l < c.L; l++) layers.a.push_back((int)c.has_rope(l));
        json.set("no_rope_layers", layers);
    }
    json.set("bos_token_id", id(c.bos)).set("eos_token_id", eos).set("pad_token_id", id(c.pad));
    json.set("tie_word_embeddings", c.tied).set("use_cache", true);
}

// What ends a text: a number, or a list of them
inline Json text_ends(const GptConfig& c) {
    std::vector<int> ends = c.stops;
    if (!contains(ends, (int)c.eot)) ends.insert(ends.begin(), (int)c.eot);
    return ends.size() > 1 ? Json::make_array({ends.begin(), ends.end()}) : Json(c.eot);
}
// Writes DIR/generation_config.json, by which transformers' generate() knows where to stop.
inline void write_generation_config(const std::string& dir, const GptConfig& c) {
    Json json = c.generation;
    if (json.o.empty()) json.set("_from_model_config", true);
    if (c.bos >= 0) json.set("bos_token_id", c.bos < c.V ? c.bos : c.eot);
    json.set("eos_token_id", text_ends(c));
    write_file_atomic(dir + "/generation_config.json", dump_json(json, 2) + "\n");
}
// Writes DIR/config.json and generation_config.json.
inline void write_gpt_config(const std::string& dir, const GptConfig& c) {
    Json json, names = Json::make_array();
    for (auto [type, architecture] : GPT_TYPES)
        if (c.type == type) names.a.push_back(architecture);
    json.set("architectures", names).set("model_type", c.type).set("dtype", "float32");
    c.llama ? write_llama(json, c, text_ends(c)) : write_gpt2(json, c);
    write_file_atomic(dir + "/config.json", dump_json(json, 2) + "\n");
    write_generation_config(dir, c);
}
