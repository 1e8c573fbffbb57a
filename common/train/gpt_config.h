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
    std::string type = "gpt2";  // "model_type"
    bool llama = false;         // of this kind: llama, qwen2, qwen3, smollm3
    bool qkv_bias = true;       // of a Llama's kind: Qwen2 alone
    bool qk_norm = false;       // RMSNorm on each head of q and k: Qwen3
    bool tied = true;           // the output matrix is that of the embeddings
    RopeConfig rope;
    std::vector<int> no_rope;  // layers without RoPE: SmolLM3
    Json generation;           // generation_config.json, kept for what the user set there

    bool has_rope(int l) const { return llama && std::find(no_rope.begin(), no_rope.end(), l) == no_rope.end(); }
    bool ends(int token) const { return token == eot || std::find(stops.begin(), stops.end(), token) != stops.end(); }
};

// The models of Llama's kind and transformers' classes for them
struct LlamaType {
    const char *type, *architecture;
};
constexpr LlamaType LLAMA_TYPES[] = {{"llama", "LlamaForCausalLM"},
                                     {"qwen2", "Qwen2ForCausalLM"},
                                     {"qwen3", "Qwen3ForCausalLM"},
                                     {"smollm3", "SmolLM3ForCausalLM"}};

// ---------------------------------------------------------------- in
inline void read_gpt2(const Json& json, const std::string& path, GptConfig& c) {
    const Json* act = json.find("activation_function");
    if (!act || act->s != "gelu_pytorch_tanh")  // another name of the same function
        config_expects(json, path, "activation_function", "gelu_new",
                       "only the tanh form of GELU is implemented for GPT-2");
    config_expects(json, path, "scale_attn_weights", true,
                   "attention without the factor 1/sqrt(head size) is not implemented");
    config_expects(json, path, "scale_attn_by_inverse_layer_idx", false,
                   "a factor that depends on the layer is not implemented");
    config_expects(json, path, "add_cross_attention", false, "cross attention is not implemented");
    config_expects(json, path, "tie_word_embeddings", true, "an output matrix of its own is not implemented for GPT-2");
    auto required = [&](const char* key, double hi) { return (int64_t)config_number(json, path, key, 1, hi, true); };
    auto optional = [&](const char* key, double preset, double lo, double hi, bool integer) {
        return config_number(json, path, key, lo, hi, integer, &preset);
    };
    c.V = required("vocab_size", 1 << 30);
    c.T = required("n_positions", 1 << 24);
    c.C = required("n_embd", 1 << 20);
    c.L = required("n_layer", 10000);
    c.NH = c.NKV = required("n_head", 1 << 20);
    c.FF = (int64_t)optional("n_inner", 4 * (double)c.C, 1, 1 << 22, true);
    c.eot = (int64_t)optional("eos_token_id", (double)c.V - 1, 0, (double)c.V - 1, true);
    c.bos = (int64_t)optional("bos_token_id", (double)c.eot, 0, INT32_MAX, true);
    if (c.bos >= c.V) c.bos = c.eot;  // GPT-2's own, in a model of fewer tokens
    c.eps = optional("layer_norm_epsilon", c.eps, 1e-30, 0.1, false);
    c.dropout = optional("resid_pdrop", c.dropout, 0, 0.999, false);
    c.init_std = optional("initializer_range", c.init_std, 0, 10, false);
    if (c.C % c.NH)
        fail("%s: expected n_embd to be a multiple of n_head, found %lld and %lld", path.c_str(), (long long)c.C,
             (long long)c.NH);
    c.HS = c.C / c.NH;
}

// Of "rope_parameters", or as transformers wrote it before version 5: "rope_theta" and "rope_scaling", which goes first
inline RopeConfig read_rope(const Json& json, const std::string& path, double theta) {
    const Json* rope = json.find("rope_scaling");
    const bool none = !rope || rope->kind == Json::null || (rope->kind == Json::object && rope->o.empty());
    const char* key = none ? "rope_parameters" : "rope_scaling";
    const std::string where = path + ": " + key;
    RopeConfig r;
    r.theta = config_number(json, path, "rope_theta", 1, 1e15, false, &theta);
    const double all = 1;
    config_number(json, path, "partial_rotary_factor", 1, 1, false, &all);
    rope = json.find(key);
    if (!rope || rope->kind == Json::null) return r;
    const Json *type = rope->find("rope_type"), *old_type = rope->find("type");
    const std::string kind = type ? type->s : old_type ? old_type->s : "default";
    if (rope->kind != Json::object || (kind != "default" && kind != "llama3"))
        fail("%s: rope_type: expected \"default\" or \"llama3\", found %s: other kinds of RoPE are not implemented",
             where.c_str(), dump_json(*rope).c_str());
    const std::vector<std::string> known = {"rope_type",
                                            "type",
                                            "rope_theta",
                                            "factor",
                                            "low_freq_factor",
                                            "high_freq_factor",
                                            "original_max_position_embeddings",
                                            "partial_rotary_factor"};
    for (const auto& [name, value] : rope->o)
        if (std::find(known.begin(), known.end(), name) == known.end())
            fail("%s: %s: expected no such key, found %s: it is not implemented", where.c_str(), name.c_str(),
                 dump_json(value).c_str());
    r.theta = config_number(*rope, where, "rope_theta", 1, 1e15, false, &r.theta);
    config_number(*rope, where, "partial_rotary_factor", 1, 1, false, &all);
    if (kind == "default") return r;
    r.factor = config_number(*rope, where, "factor", 1, 1e6, false);
    r.low_freq_factor = config_number(*rope, where, "low_freq_factor", 1e-6, 1e6, false);
    r.high_freq_factor = config_number(*rope, where, "high_freq_factor", r.low_freq_factor * (1 + 1e-9), 1e6, false);
    r.original_context = config_number(*rope, where, "original_max_position_embeddings", 1, 1 << 30, true);
    return r;
}

// An id or a list of ids, each below V; none: missing or null
inline std::vector<int> read_ids(const Json& json, const std::string& path, const char* key, int64_t V) {
    const Json* ids = json.find(key);
    std::vector<int> list;
    if (!ids || ids->kind == Json::null) return list;
    for (const Json& id : ids->kind == Json::array ? ids->a : std::vector<Json>{*ids}) {
        if (id.kind != Json::integer || id.i < 0 || id.i >= V)
            fail("%s: %s: expected ids from 0 to %lld, found %s", path.c_str(), key, (long long)V - 1,
                 dump_json(*ids).c_str());
        list.push_back((int)id.i);
    }
    return list;
}

inline void read_llama(const Json& json, const std::string& path, GptConfig& c) {
    c.llama = true;
    c.qkv_bias = c.type == "qwen2";
    c.qk_norm = c.type == "qwen3";
    const bool smollm3 = c.type == "smollm3";
    config_expects(json, path, "hidden_act", "silu", "only SwiGLU is implemented");
    config_expects(json, path, "attention_bias", false, "biases of attention are implemented for Qwen2 alone");
    config_expects(json, path, "mlp_bias", false, "biases of the feed-forward part are not implemented");
    config_expects(json, path, "use_sliding_window", false, "attention within a window is not implemented");
    config_expects(json, path, "pretraining_tp", 1, "products in slices are not implemented");
    config_expects(json, path, "quantization_config", Json(), "take the model as it was before it was quantised");
    const Json* types = json.find("layer_types");
    if (types && types->kind != Json::null)
        for (const Json& type : types->kind == Json::array ? types->a : std::vector<Json>{*types})
            if (type.s != "full_attention")
                fail(
                    "%s: layer_types: expected \"full_attention\" for every layer, found %s: other kinds are not "
                    "implemented",
                    path.c_str(), dump_json(type).c_str());
    auto required = [&](const char* key, double hi) { return (int64_t)config_number(json, path, key, 1, hi, true); };
    auto optional = [&](const char* key, double preset, double lo, double hi, bool integer) {
        return config_number(json, path, key, lo, hi, integer, &preset);
    };
    c.V = required("vocab_size", 1 << 30);
    c.T = required("max_position_embeddings", 1 << 24);
    c.C = required("hidden_size", 1 << 20);
    c.L = required("num_hidden_layers", 10000);
    c.NH = required("num_attention_heads", 1 << 20);
    c.FF = required("intermediate_size", 1 << 22);
    // null: as many as heads; where the key is missing transformers has another default for every type
    c.NKV = c.type == "llama" || json.find("num_key_value_heads")
                ? (int64_t)optional("num_key_value_heads", (double)c.NH, 1, 1 << 20, true)
                : required("num_key_value_heads", 1 << 20);
    const double head_size = c.qk_norm && !json.find("head_dim") ? 128 : floor((double)c.C / (double)c.NH);
    c.HS = (int64_t)optional("head_dim", head_size, 1, 1 << 16, true);
    c.eps = optional("rms_norm_eps", 1e-6, 1e-30, 0.1, false);
    c.dropout = optional("attention_dropout", 0, 0, 0.999, false);
    c.init_std = optional("initializer_range", c.init_std, 0, 10, false);
    const Json* tied = json.find("tie_word_embeddings");
    if (tied && tied->kind != Json::boolean)
        fail("%s: tie_word_embeddings: expected true or false, found %s", path.c_str(), dump_json(*tied).c_str());
    c.tied = tied ? tied->b : smollm3;
    c.rope = read_rope(json, path, smollm3 ? 2e6 : 1e4);
    if (c.NH % c.NKV)
        fail("%s: expected num_attention_heads to be a multiple of num_key_value_heads, found %lld and %lld",
             path.c_str(), (long long)c.NH, (long long)c.NKV);
    if (c.HS % 2 || c.HS == 0) fail("%s: head_dim: expected an even number, found %lld", path.c_str(), (long long)c.HS);
    if (smollm3) {
        const Json* layers = json.find("no_rope_layers");
        const int64_t every = (int64_t)optional("no_rope_layer_interval", 4, 1, 1 << 20, true);
        const bool listed = layers && layers->kind != Json::null;
        auto is_flag = [](const Json& j) { return j.kind == Json::integer && (j.i == 0 || j.i == 1); };
        if (listed && ((int64_t)layers->a.size() < c.L || !std::all_of(layers->a.begin(), layers->a.end(), is_flag)))
            fail("%s: no_rope_layers: expected %lld times 0 or 1, found %s", path.c_str(), (long long)c.L,
                 dump_json(*layers).c_str());
        for (int l = 0; l < c.L; l++)
            if (listed ? layers->a[l].i == 0 : (l + 1) % every == 0) c.no_rope.push_back(l);
    }
    std::vector<int> pad = read_ids(json, path, "pad_token_id", c.V), bos = read_ids(json, path, "bos_token_id", c.V);
    c.pad = pad.empty() ? -1 : pad[0];
    c.bos = bos.empty() ? -1 : bos[0];
    c.stops = read_ids(json, path, "eos_token_id", c.V);
    const std::string file = path.substr(0, path.size() - strlen("config.json")) + "generation_config.json";
    if (exists(file)) {
        c.generation = parse_json(read_file(file), file);
        if (std::vector<int> ids = read_ids(c.generation, file, "eos_token_id", c.V); !ids.empty()) c.stops = ids;
    }
    c.eot = c.stops.empty() ? -1 : c.stops[0];
}

// Of the model in `dir`; fails where it needs what is not implemented.
inline GptConfig read_gpt_config(const std::string& dir) {
    std::vector<std::string> types = {"gpt2"};
    for (LlamaType t : LLAMA_TYPES) types.push_back(t.type);
    const std::string path = dir + "/config.json";
    const Json json = read_config(dir, types);
    GptConfig c;
    c.type = json.find("model_type")->s;
    c.type == "gpt2" ? read_gpt2(json, path, c) : read_llama(json, path, c);
    return c;
}

// ---------------------------------------------------------------- out
inline void write_gpt2(Json& json, const GptConfig& c) {
    json.set("vocab_size", c.V).set("n_positions", c.T).set("n_ctx", c.T);
    json.set("n_embd", c.C).set("n_layer", c.L).set("n_head", c.NH).set("n_inner", c.FF);
    json.set("activation_function", "gelu_new").set("layer_norm_epsilon", c.eps).set("initializer_range", c.init_std);
    json.set("resid_pdrop", c.dropout).set("embd_pdrop", c.dropout).set("attn_pdrop", c.dropout);
    json.set("scale_attn_weights", true).set("bos_token_id", c.bos < 0 || c.bos >= c.V ? c.eot : c.bos);
    json.set("eos_token_id", c.eot);
    json.set("tie_word_embeddings", true).set("use_cache", true);
}
// In the spelling that transformers of versions 4 and 5 read
inline void write_llama(Json& json, const GptConfig& c, const Json& eos) {
    auto id = [](int64_t i) { return i < 0 ? Json() : Json(i); };
    json.set("vocab_size", c.V).set("max_position_embeddings", c.T).set("hidden_size", c.C);
    json.set("num_hidden_layers", c.L).set("num_attention_heads", c.NH).set("num_key_value_heads", c.NKV);
    if (c.type != "qwen2" || c.NH * c.HS != c.C) json.set("head_dim", c.HS);  // transformers' Qwen2 has no such key
    json.set("intermediate_size", c.FF).set("hidden_act", "silu").set("rms_norm_eps", c.eps);
    json.set("initializer_range", c.init_std).set("attention_dropout", c.dropout);
    json.set("rope_theta", c.rope.theta).set("rope_scaling", Json());
    if (c.rope.factor != 1)
        json.set("rope_scaling", Json()
                                     .set("rope_type", "llama3")
                                     .set("factor", c.rope.factor)
                                     .set("low_freq_factor", c.rope.low_freq_factor)
                                     .set("high_freq_factor", c.rope.high_freq_factor)
                                     .set("original_max_position_embeddings", (int64_t)c.rope.original_context));
    if (c.type == "smollm3") {
        Json layers = Json::make_array();
        for (int l = 0; l < c.L; l++) layers.a.push_back((int)c.has_rope(l));
        json.set("no_rope_layers", layers);
    }
    json.set("bos_token_id", id(c.bos)).set("eos_token_id", eos).set("pad_token_id", id(c.pad));
    json.set("tie_word_embeddings", c.tied).set("use_cache", true);
}

// Writes DIR/config.json, and generation_config.json, without which transformers' generate() would not know where to
// stop.
inline void write_gpt_config(const std::string& dir, const GptConfig& c) {
    Json json = Json::make_object(), names = Json::make_array(), generation = c.generation, eos = c.eot;
    std::vector<int> ends = c.stops;
    if (std::find(ends.begin(), ends.end(), c.eot) == ends.end()) ends.insert(ends.begin(), (int)c.eot);
    if (ends.size() > 1) eos = Json::make_array();
    for (size_t i = 0; ends.size() > 1 && i < ends.size(); i++) eos.a.push_back(ends[i]);
    names.a.push_back("GPT2LMHeadModel");
    for (LlamaType t : LLAMA_TYPES)
        if (c.type == t.type) names.a[0] = t.architecture;
    json.set("architectures", names).set("model_type", c.type).set("dtype", "float32");
    c.llama ? write_llama(json, c, eos) : write_gpt2(json, c);
    write_file_atomic(dir + "/config.json", dump_json(json, 2) + "\n");
    if (generation.o.empty()) generation.set("_from_model_config", true);
    if (c.bos >= 0) generation.set("bos_token_id", c.bos < c.V ? c.bos : c.eot);
    generation.set("eos_token_id", eos);
    write_file_atomic(dir + "/generation_config.json", dump_json(generation, 2) + "\n");
}
