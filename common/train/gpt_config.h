// gpt_config.h: the dimensions of a GPT-2, and its config.json as Hugging Face transformers reads and writes it.
#pragma once
#include "common/train/config_json.h"

struct GptConfig {
    int64_t V = 50257, T = 1024, C = 768, L = 12, NH = 12, FF = 3072;  // T: the context
    int64_t eot = 50256;                                               // the id of <|endoftext|>
    double eps = 1e-5, dropout = 0.1, init_std = 0.02;
};

// Of the model in `dir`; fails where it needs what is not implemented.
inline GptConfig read_gpt_config(const std::string& dir) {
    std::string path = dir + "/config.json";
    Json json = read_config(dir, "gpt2");
    const Json* act = json.find("activation_function");
    if (!act || act->s != "gelu_pytorch_tanh")  // another name of the same function
        config_expects(json, path, "activation_function", "gelu_new",
                       "only the tanh form of GELU is implemented for GPT-2");
    config_expects(json, path, "scale_attn_weights", true,
                   "attention without the factor 1/sqrt(head size) is not implemented");
    config_expects(json, path, "scale_attn_by_inverse_layer_idx", false,
                   "a factor that depends on the layer is not implemented");
    config_expects(json, path, "add_cross_attention", false, "cross attention is not implemented");
    config_expects(json, path, "tie_word_embeddings", true, "an output matrix of its own is not implemented");
    auto required = [&](const char* key, double hi) { return (int64_t)config_number(json, path, key, 1, hi, true); };
    auto optional = [&](const char* key, double preset, double lo, double hi, bool integer) {
        return config_number(json, path, key, lo, hi, integer, &preset);
    };
    GptConfig c;
    c.V = required("vocab_size", 1 << 30);
    c.T = required("n_positions", 1 << 24);
    c.C = required("n_embd", 1 << 20);
    c.L = required("n_layer", 10000);
    c.NH = required("n_head", 1 << 20);
    c.FF = (int64_t)optional("n_inner", 4 * (double)c.C, 1, 1 << 22, true);
    c.eot = (int64_t)optional("eos_token_id", (double)c.V - 1, 0, (double)c.V - 1, true);
    c.eps = optional("layer_norm_epsilon", c.eps, 1e-30, 0.1, false);
    c.dropout = optional("resid_pdrop", c.dropout, 0, 0.999, false);
    c.init_std = optional("initializer_range", c.init_std, 0, 10, false);
    if (c.C % c.NH)
        fail("%s: expected n_embd to be a multiple of n_head, found %lld and %lld", path.c_str(), (long long)c.C,
             (long long)c.NH);
    return c;
}

// Writes DIR/config.json, and generation_config.json, without which transformers' generate() would not know where to
// stop.
inline void write_gpt_config(const std::string& dir, const GptConfig& c) {
    Json json = Json::make_object(), names = Json::make_array(), generation = Json::make_object();
    names.a.push_back("GPT2LMHeadModel");
    json.set("architectures", names).set("model_type", "gpt2").set("dtype", "float32");
    json.set("vocab_size", c.V).set("n_positions", c.T).set("n_ctx", c.T);
    json.set("n_embd", c.C).set("n_layer", c.L).set("n_head", c.NH).set("n_inner", c.FF);
    json.set("activation_function", "gelu_new").set("layer_norm_epsilon", c.eps).set("initializer_range", c.init_std);
    json.set("resid_pdrop", c.dropout).set("embd_pdrop", c.dropout).set("attn_pdrop", c.dropout);
    json.set("scale_attn_weights", true).set("bos_token_id", c.eot).set("eos_token_id", c.eot);
    json.set("tie_word_embeddings", true).set("use_cache", true);
    write_file_atomic(dir + "/config.json", dump_json(json, 2) + "\n");
    generation.set("_from_model_config", true).set("bos_token_id", c.eot).set("eos_token_id", c.eot);
    write_file_atomic(dir + "/generation_config.json", dump_json(generation, 2) + "\n");
}
