// bert_config.h: the dimensions of a BERT, and its config.json as Hugging Face transformers reads and writes it.
#pragma once
#include "common/train/config_json.h"

struct BertConfig {
    int64_t V = 30522, T = 512, C = 768, L = 12, NH = 12, FF = 3072, types = 2, pad_id = 0;  // T: the longest sequence
    double eps = 1e-12, dropout = 0.1, attention_dropout = 0.1, init_std = 0.02;
};

// Of the model in `dir`; fails where it needs what is not implemented.
inline BertConfig read_bert_config(const std::string& dir) {
    std::string path = dir + "/config.json";
    Json json = read_config(dir, {"bert"});
    config_expects(json, path, "hidden_act", "gelu", "only the erf form of GELU is implemented for BERT");
    config_expects(json, path, "position_embedding_type", "absolute", "relative positions are not implemented");
    config_expects(json, path, "is_decoder", false, "a causal BERT is not implemented");
    config_expects(json, path, "add_cross_attention", false, "cross attention is not implemented");
    auto required = [&](const char* key, double hi) { return (int64_t)config_number(json, path, key, 1, hi, true); };
    auto optional = [&](const char* key, double preset, double lo, double hi, bool integer) {
        return config_number(json, path, key, lo, hi, integer, &preset);
    };
    BertConfig c;
    c.V = required("vocab_size", 1 << 30);
    c.T = required("max_position_embeddings", 1 << 24);
    c.C = required("hidden_size", 1 << 20);
    c.L = required("num_hidden_layers", 10000);
    c.NH = required("num_attention_heads", 1 << 20);
    c.FF = required("intermediate_size", 1 << 22);
    c.types = (int64_t)optional("type_vocab_size", c.types, 1, 1 << 20, true);
    c.pad_id = (int64_t)optional("pad_token_id", c.pad_id, 0, (double)c.V - 1, true);
    c.eps = optional("layer_norm_eps", c.eps, 1e-30, 0.1, false);
    c.dropout = optional("hidden_dropout_prob", c.dropout, 0, 0.999, false);
    c.attention_dropout = optional("attention_probs_dropout_prob", c.attention_dropout, 0, 0.999, false);
    c.init_std = optional("initializer_range", c.init_std, 0, 10, false);
    if (c.C % c.NH)
        fail("%s: expected hidden_size to be a multiple of num_attention_heads, found %lld and %lld", path.c_str(),
             (long long)c.C, (long long)c.NH);
    return c;
}

// Writes DIR/config.json. extra: more keys, for a classifier id2label, label2id, problem_type.
inline void write_bert_config(const std::string& dir, const BertConfig& c,
                              const std::string& architecture = "BertForMaskedLM", const Json& extra = {}) {
    Json json = Json::make_object(), names = Json::make_array();
    names.a.push_back(architecture);
    json.set("architectures", names).set("model_type", "bert").set("dtype", "float32");
    json.set("vocab_size", c.V).set("max_position_embeddings", c.T).set("type_vocab_size", c.types);
    json.set("hidden_size", c.C).set("num_hidden_layers", c.L);
    json.set("num_attention_heads", c.NH).set("intermediate_size", c.FF);
    json.set("hidden_act", "gelu").set("layer_norm_eps", c.eps);
    json.set("position_embedding_type", "absolute").set("initializer_range", c.init_std);
    json.set("hidden_dropout_prob", c.dropout).set("attention_probs_dropout_prob", c.attention_dropout);
    json.set("classifier_dropout", Json());
    json.set("pad_token_id", c.pad_id).set("tie_word_embeddings", true).set("is_decoder", false).set("use_cache", true);
    for (const auto& [key, value] : extra.o) json.set(key, value);
    write_file_atomic(dir + "/config.json", dump_json(json, 2) + "\n");
}
