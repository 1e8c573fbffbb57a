// bert_config.h: the dimensions of a BERT, and its config.json as Hugging Face transformers reads and writes it.
#pragma once
#include "common/train/config_json.h"

struct BertConfig {
    int64_t V = 30522, T = 512, C = 768, L = 12, NH = 12, FF = 3072, types = 2, pad_id = 0;  // T: the longest sequence
    double eps = 1e-12, dropout = 0.1, attention_dropout = 0.1, init_std = 0.02;
};

// Of the model in `dir`; fails where it needs what is not implemented.
inline BertConfig read_bert_config(const std::string& dir) {
    const ConfigJson json = read_config(dir, {"bert"});
    json.expects("hidden_act", "gelu", "only the erf form of GELU is implemented for BERT");
    json.expects("position_embedding_type", "absolute", "relative positions are not implemented");
    json.expects("is_decoder", false, "a causal BERT is not implemented");
    json.expects("add_cross_attention", false, "cross attention is not implemented");
    BertConfig c;
    c.V = json.integer("vocab_size", 1, 1 << 30);
    c.T = json.integer("max_position_embeddings", 5, 1 << 24);
    c.C = json.integer("hidden_size", 1, 1 << 20);
    c.L = json.integer("num_hidden_layers", 1, MAX_LAYERS);
    c.NH = json.integer("num_attention_heads", 1, 1 << 20);
    c.FF = json.integer("intermediate_size", 1, 1 << 22);
    c.types = json.integer("type_vocab_size", 1, 1 << 20, c.types);
    c.pad_id = json.integer("pad_token_id", 0, c.V - 1, c.pad_id);
    c.eps = json.number("layer_norm_eps", 1e-30, 0.1, c.eps);
    c.dropout = json.number("hidden_dropout_prob", 0, 0.999, c.dropout);
    c.attention_dropout = json.number("attention_probs_dropout_prob", 0, 0.999, c.attention_dropout);
    c.init_std = json.number("initializer_range", 0, 10, c.init_std);
    json.expects_multiple("hidden_size", c.C, "num_attention_heads", c.NH);
    json.expects_head_size(c.C / c.NH);
    return c;
}

// Writes DIR/config.json. extra: more keys, for a classifier id2label, label2id, problem_type.
inline void write_bert_config(const std::string& dir, const BertConfig& c,
    const std::string& architecture = "BertForMaskedLM", const Json& extra = {}) {
    Json json = Json().set("architectures", Json::make_array({architecture}));
    json.set("model_type", "bert").set("dtype", "float32");
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
