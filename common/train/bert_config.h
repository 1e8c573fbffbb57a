// bert_config.h: the dimensions of an encoder, and its config.json as Hugging Face transformers reads and writes it: of
// BERT and the models that are built like it (DistilBERT, RoBERTa), and of ModernBERT (Warner et al. 2024), which Ettin
// is too. The names of their tensors.
#pragma once
#include <algorithm>

#include "common/ops/rope.cuh"
#include "common/ops/sequences.h"
#include "common/train/config_json.h"

// What comes before the last matrix of a head, after its first one: masked LM and ModernBERT's classifier | BERT's |
// RoBERTa's | DistilBERT's
enum class Head { gelu_norm, tanh, dropout_tanh, relu };

struct BertConfig {
    int64_t V = 30522, T = 512, C = 768, L = 12, NH = 12, FF = 3072, types = 2, pad_id = 0;  // T: the longest sequence
    int64_t classes = 0;  // of a classifier; 0: it is a masked LM
    double eps = 1e-12, dropout = 0.1, attention_dropout = 0.1, init_std = 0.02;

    // Where the models differ. A ModernBERT is a BERT with norms at the beginning of the branches, RoPE and GeGLU for
    // learned positions and GELU, most layers within a window, and without biases and types.
    std::string type = "bert";              // "model_type"
    bool modern = false;                    // of this kind: modernbert
    int64_t bos = -1, eos = -1;             // the ids of what begins and ends a text; −1: config.json has none
    int64_t first_position = 0;             // of a sequence; RoBERTa: 2
    int64_t window = 64, global_every = 3;  // layer l sees so far to each side, or everything where global_every | l
    RopeConfig global_rope{160000}, local_rope{10000};
    bool mean_pooling = false;  // a classifier reads the mean over a text, not its first token

    int64_t K() const { return classes ? classes : V; }  // what its head puts out
    int64_t Kp() const { return (int64_t)round_up(K(), classes ? 8 : 64); }
    Head head() const {
        if (!classes || modern) return Head::gelu_norm;
        return type == "roberta" ? Head::dropout_tanh : type == "distilbert" ? Head::relu : Head::tanh;
    }
    int last_type() const { return type == "roberta" ? 0 : 1; }  // of a pair's second text
    bool takes_pairs() const { return types == 0 || types > last_type(); }
    bool is_local(int l) const { return modern && l % global_every; }
    Reach reach(int l) const { return is_local(l) ? Reach{(int)window, (int)window} : ALL_KEYS; }
};

// The models, transformers' classes for them, and how they call their tensors: each of the names is that of a matrix
// or a norm, with .weight and mostly .bias after it
struct BertType {
    const char *type, *architecture;         // + "ForMaskedLM"
    const char* base;                        // before all names of the encoder
    const char *head, *head_norm, *decoder;  // masked LM; of the decoder its bias
    const char *pooler, *classifier;
    // embeddings, of BERT
    const char *words = "embeddings.word_embeddings", *positions = "embeddings.position_embeddings";
    const char *types = "embeddings.token_type_embeddings", *norm = "embeddings.LayerNorm";
    // a layer, of BERT; before these names stand that of all layers and its number
    const char* layers = "encoder.layer";
    std::vector<std::string> qkv = {"attention.self.query", "attention.self.key", "attention.self.value"};
    const char *attention = "attention.output.dense", *norm1 = "attention.output.LayerNorm";
    const char *fc = "intermediate.dense", *projection = "output.dense", *norm2 = "output.LayerNorm";
};
inline const std::vector<BertType> BERT_TYPES = {
    {"bert", "Bert", "bert.", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm",
        "cls.predictions", "bert.pooler.dense", "classifier"},
    {"distilbert", "DistilBert", "distilbert.", "vocab_transform", "vocab_layer_norm", "vocab_projector",
        "pre_classifier", "classifier", "embeddings.word_embeddings", "embeddings.position_embeddings", "",
        "embeddings.LayerNorm", "transformer.layer", {"attention.q_lin", "attention.k_lin", "attention.v_lin"},
        "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"},
    {"roberta", "Roberta", "roberta.", "lm_head.dense", "lm_head.layer_norm", "lm_head", "classifier.dense",
        "classifier.out_proj"},
    {"modernbert", "ModernBert", "model.", "head.dense", "head.norm", "decoder", "head.dense", "classifier",
        "embeddings.tok_embeddings", "", "", "embeddings.norm", "layers", {"attn.Wqkv"}, "attn.Wo", "mlp_norm",
        "mlp.Wi", "mlp.Wo", "attn_norm"},
};
inline const BertType& bert_type(const std::string& type) {
    return *std::find_if(BERT_TYPES.begin(), BERT_TYPES.end(), [&](const BertType& t) { return t.type == type; });
}

// ---------------------------------------------------------------- in
// What is ModernBERT's alone, in the spelling of transformers 4 or 5
inline void read_modern_bert(const ConfigJson& json, BertConfig& c) {
    for (const char* key : {"norm_bias", "attention_bias", "mlp_bias", "classifier_bias"})
        json.expects(key, false, "these biases are not implemented for ModernBERT");
    json.expects("decoder_bias", true, "a masked-LM head without a bias is not implemented");
    json.expects("classifier_activation", "gelu", "another head is not implemented");
    json.expects("tie_word_embeddings", true, "an output matrix of its own is not implemented for ModernBERT");
    const Json* pooling = json.find("classifier_pooling");
    c.mean_pooling = pooling && pooling->s == "mean";
    if (!c.mean_pooling) json.expects("classifier_pooling", "cls", "only \"cls\" and \"mean\" are implemented");
    c.window = json.integer("local_attention", 1, 1 << 24, 128) / 2;
    c.global_every = json.integer("global_attn_every_n_layers", 1, 1 << 20, 3);
    auto kind = [](bool local) { return local ? "sliding_attention" : "full_attention"; };
    const std::vector<Json> kinds = json.list("layer_types");
    for (int64_t l = 1; l < (int64_t)kinds.size() + 1 && !kinds.empty(); l++)  // the second layer with all of its keys
        if (c.global_every = l; l == (int64_t)kinds.size() || kinds[l].s == kind(false)) break;
    for (int64_t l = 0; l < (int64_t)kinds.size(); l++)
        if (kinds[l].s != kind(c.is_local((int)l)) || (int64_t)kinds.size() != c.L)
            json.refuse("layer_types", format("%lld, \"%s\" for every n-th from the first on, else \"%s\"",
                                           (long long)c.L, kind(false), kind(true)));
    json.expects("rope_scaling", Json(), "other kinds of RoPE are not implemented for ModernBERT");
    const Json* all = json.find("rope_parameters");
    if (all && !all->o.empty() && !all->find(kind(false)) && !all->find(kind(true)))
        json.refuse("rope_parameters", format("those of \"%s\" and of \"%s\"", kind(false), kind(true)));
    for (bool local : {false, true}) {
        double& theta = (local ? c.local_rope : c.global_rope).theta;
        const char* key = local ? "local_rope_theta" : "global_rope_theta";
        const Json *given = json.json.find(key), *own = all ? all->find(kind(local)) : nullptr;
        theta = json.number(key, 1, 1e15, local && given && given->kind == Json::null ? c.global_rope.theta : theta);
        if (!own) continue;
        const ConfigJson rope{*own, json.where + ": rope_parameters: " + kind(local)};
        rope.expects("rope_type", "default", "other kinds of RoPE are not implemented for ModernBERT");
        theta = rope.number("rope_theta", 1, 1e15, theta);
    }
}

// Of the model in `dir`; fails where it needs what is not implemented.
inline BertConfig read_bert_config(const std::string& dir) {
    std::vector<std::string> names;
    for (const BertType& t : BERT_TYPES) names.push_back(t.type);
    const ConfigJson json = read_config(dir, names);
    BertConfig c;
    if (const Json* type = json.find("model_type")) c.type = type->s;
    c.modern = c.type == "modernbert";
    const bool distil = c.type == "distilbert", roberta = c.type == "roberta";
    auto key = [&](const char* bert, const char* distilbert, const char* modern) {
        return c.modern ? modern : distil ? distilbert : bert;
    };
    json.expects(key("hidden_act", "activation", "hidden_activation"), "gelu",
        "only the erf form of GELU is implemented for BERT");
    if (!c.modern) json.expects("position_embedding_type", "absolute", "relative positions are not implemented");
    json.expects("is_decoder", false, "a causal BERT is not implemented");
    json.expects("add_cross_attention", false, "cross attention is not implemented");
    json.expects("quantization_config", Json(), "take the model as it was before it was quantised");
    c.V = json.integer("vocab_size", 1, 1 << 30);
    c.T = json.integer("max_position_embeddings", 5, 1 << 24);
    c.C = json.integer(key("hidden_size", "dim", "hidden_size"), 1, 1 << 20);
    c.L = json.integer(key("num_hidden_layers", "n_layers", "num_hidden_layers"), 1, MAX_LAYERS);
    c.NH = json.integer(key("num_attention_heads", "n_heads", "num_attention_heads"), 1, 1 << 20);
    c.FF = json.integer(key("intermediate_size", "hidden_dim", "intermediate_size"), 1, 1 << 22);
    c.types = distil || c.modern ? 0 : json.integer("type_vocab_size", 1, 1 << 20, c.types);
    c.pad_id = json.integer("pad_token_id", 0, c.V - 1, roberta ? 1 : c.pad_id);
    for (auto [id, name] : {std::pair{&c.bos, "bos_token_id"}, {&c.eos, "eos_token_id"}})
        *id = json.integer(name, -1, c.V - 1, -1);
    if (!distil) c.eps = json.number(key("layer_norm_eps", "", "norm_eps"), 1e-30, 0.1, c.modern ? 1e-5 : c.eps);
    c.dropout = json.number(key("hidden_dropout_prob", "dropout", "mlp_dropout"), 0, 0.999, c.modern ? 0 : c.dropout);
    c.attention_dropout = json.number(key("attention_probs_dropout_prob", "attention_dropout", "attention_dropout"), 0,
        0.999, c.modern ? 0 : c.attention_dropout);
    c.init_std = json.number("initializer_range", 0, 10, c.init_std);
    if (roberta) {  // the padding's place and those before it are nobody's
        c.first_position = c.pad_id + 1;
        c.T -= c.first_position;
        if (c.T < 5) json.refuse("max_position_embeddings", format("at least %lld", (long long)c.first_position + 5));
    }
    if (c.modern) read_modern_bert(json, c);
    json.expects_multiple("hidden_size", c.C, "num_attention_heads", c.NH);
    json.expects_head_size(c.C / c.NH);
    return c;
}

// ---------------------------------------------------------------- out
// Writes DIR/config.json. task: what the class of transformers is for; extra: more keys, for a classifier id2label,
// label2id, problem_type.
inline void write_bert_config(
    const std::string& dir, const BertConfig& c, const std::string& task = "ForMaskedLM", const Json& extra = {}) {
    Json json = Json().set("architectures", Json::make_array({bert_type(c.type).architecture + task}));
    json.set("model_type", c.type).set("dtype", "float32");
    json.set("vocab_size", c.V).set("max_position_embeddings", c.T + c.first_position);
    json.set("initializer_range", c.init_std).set("pad_token_id", c.pad_id).set("tie_word_embeddings", true);
    if (c.bos >= 0) json.set("bos_token_id", c.bos);
    if (c.eos >= 0) json.set("eos_token_id", c.eos);
    if (c.type == "distilbert") {
        json.set("dim", c.C).set("n_layers", c.L).set("n_heads", c.NH).set("hidden_dim", c.FF);
        json.set("activation", "gelu").set("dropout", c.dropout).set("attention_dropout", c.attention_dropout);
        json.set("seq_classif_dropout", c.dropout).set("sinusoidal_pos_embds", false);
    } else {
        json.set("hidden_size", c.C).set("num_hidden_layers", c.L).set("num_attention_heads", c.NH);
        json.set("intermediate_size", c.FF);
    }
    if (c.modern) {
        json.set("hidden_activation", "gelu").set("norm_eps", c.eps).set("local_attention", 2 * c.window);
        json.set("global_attn_every_n_layers", c.global_every).set("global_rope_theta", c.global_rope.theta);
        json.set("local_rope_theta", c.local_rope.theta).set("attention_dropout", c.attention_dropout);
        for (const char* key : {"embedding_dropout", "mlp_dropout", "classifier_dropout"}) json.set(key, c.dropout);
        for (const char* key : {"norm_bias", "attention_bias", "mlp_bias", "classifier_bias"}) json.set(key, false);
        json.set("classifier_pooling", c.mean_pooling ? "mean" : "cls");
        if (c.bos >= 0 && c.eos >= 0) json.set("cls_token_id", c.bos).set("sep_token_id", c.eos);
    } else if (c.type != "distilbert") {
        json.set("type_vocab_size", c.types).set("hidden_act", "gelu").set("layer_norm_eps", c.eps);
        json.set("position_embedding_type", "absolute");
        json.set("hidden_dropout_prob", c.dropout).set("attention_probs_dropout_prob", c.attention_dropout);
        json.set("classifier_dropout", Json()).set("is_decoder", false).set("use_cache", true);
    }
    for (const auto& [key, value] : extra.o) json.set(key, value);
    write_file_atomic(dir + "/config.json", dump_json(json, 2) + "\n");
}
