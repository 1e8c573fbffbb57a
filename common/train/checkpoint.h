// checkpoint.h: model directories that Hugging Face transformers loads as they are, and the other way round.
//
//   DIR/config.json                   what kind of model, all dimensions
//   DIR/model.safetensors             the parameters, F32, under the names of transformers
//   DIR/training_state.safetensors    ours: AdamW's m and v, master weights, counters; only needed to resume
//   DIR/tokenizer files               see tokenizer.h
//
// One table of Specs per model is the single truth about its parameters: names, shapes, place in memory, decay, init.
#pragma once
#include <errno.h>
#include <math.h>

#include <filesystem>
#include <map>
#include <memory>

#include "common/base/common.h"
#include "common/base/files.h"
#include "common/train/safetensors.h"

// ---------------------------------------------------------------- the parameter table
enum class Init { zeros, ones, normal };

struct Spec {
    std::vector<std::string> names;  // in the checkpoint; several: one after the other in memory (query, key, value)
    std::vector<size_t> shape;       // of one of them, in the checkpoint
    bool transpose = false;          // GPT-2's Conv1D: [in, out] in the checkpoint, [out, in] in memory
    bool decay = false;              // weight decay
    Init init = Init::zeros;
    double std = 0;     // of Init::normal
    int layer = -1;     // −1: belongs to no layer
    size_t offset = 0;  // first element in memory, set by layout()
    size_t count =
        0;  // elements in memory; more than names × shape (a padded vocabulary): the rest is zero and is never saved

    size_t piece() const {  // elements of one checkpoint tensor
        size_t n = 1;
        for (size_t s : shape) n *= s;
        return n;
    }
};

// Sets count (where it is 0) and offset of each row: in order, each at a multiple of PARAM_BLOCK elements. Returns the
// elements of all, gaps included.
inline size_t layout(std::vector<Spec>& specs) {
    size_t offset = 0;
    for (Spec& s : specs) {
        size_t used = s.names.size() * s.piece();
        if (s.count == 0) s.count = used;
        if (s.count < used || (s.transpose && s.shape.size() != 2))
            fail("parameter table: %s: cannot be laid out", s.names[0].c_str());
        s.offset = offset;
        offset += round_up(s.count, PARAM_BLOCK);
    }
    return offset;
}
inline size_t total_count(const std::vector<Spec>& specs) {
    return specs.empty() ? 0 : specs.back().offset + round_up(specs.back().count, PARAM_BLOCK);
}

// Collects the rows of a table, each with the member of a struct of pointers that it belongs to.
template <class X>
struct TableBuilder {
    double std;  // of Init::normal
    std::vector<Spec> rows;
    std::vector<X**> members;

    // count: elements in memory, where they are more than the names' (a padded vocabulary)
    void tensor(X*& p, std::vector<std::string> names, std::vector<size_t> shape, bool decay, Init init, int layer,
                size_t count = 0) {
        Spec s;
        s.names = names;
        s.shape = shape;
        s.decay = decay;
        s.init = init;
        s.std = std;
        s.layer = layer;
        s.count = count;
        rows.push_back(s);
        members.push_back(&p);
    }
    // a matrix (out, in) and its bias; several parts lie behind each other, as one matrix; out_memory: rows in memory,
    // where they are more
    void linear(X*& w, X*& b, std::string prefix, std::vector<std::string> parts, size_t out, size_t in, int layer,
                size_t out_memory = 0) {
        std::vector<std::string> weights, biases;
        for (auto& part : parts) {
            weights.push_back(prefix + part + ".weight");
            biases.push_back(prefix + part + ".bias");
        }
        tensor(w, weights, {out, in}, true, Init::normal, layer, out_memory * in);
        tensor(b, biases, {out}, false, Init::zeros, layer, out_memory);
    }
    // GPT-2's Conv1D: (in, out) in the checkpoint, (out, in) in memory; std: of its initial values
    void conv1d(X*& w, X*& b, std::string name, size_t out, size_t in, int layer, double std) {
        tensor(w, {name + ".weight"}, {in, out}, true, Init::normal, layer);
        rows.back().transpose = true;
        rows.back().std = std;
        tensor(b, {name + ".bias"}, {out}, false, Init::zeros, layer);
    }
    void layernorm(X*& w, X*& b, std::string name, size_t C, int layer) {
        tensor(w, {name + ".weight"}, {C}, false, Init::ones, layer);
        tensor(b, {name + ".bias"}, {C}, false, Init::zeros, layer);
    }
    // Lays the table out and points the members into the array at `base` (total_count() elements; nullptr: only the
    // table is wanted).
    std::vector<Spec> point(X* base) {
        layout(rows);
        for (size_t i = 0; i < rows.size(); i++) *members[i] = base ? base + rows[i].offset : nullptr;
        return rows;
    }
};

// (rows, cols) → (cols, rows)
template <class From, class To>
void transpose_copy(To* dst, const From* src, size_t rows, size_t cols) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) dst[j * rows + i] = (To)src[i * cols + j];
}

// "a, b, c and 9 more"; up to `most` in full
inline std::string name_list(const std::vector<std::string>& names, size_t most = 4) {
    std::string s;
    size_t shown = names.size() <= most ? names.size() : most - 1;
    for (size_t i = 0; i < shown; i++) s += (i ? ", " : "") + names[i];
    return shown < names.size() ? s + format(" and %zu more", names.size() - shown) : s;
}

// ---------------------------------------------------------------- tensors in
struct LoadReport {
    size_t loaded = 0;  // tensors
    std::vector<std::string>
        missing;  // in the table, not in the file: their memory is untouched; the caller makes them new or refuses
    std::vector<std::string> unused;   // in the file, parameters that the table has no place for (another head)
    std::vector<std::string> ignored;  // in the file, nothing to learn: buffers, copies of tied weights
    void refuse_missing(const std::string& dir) const {
        if (!missing.empty())
            fail("%s: expected the tensor%s %s, found none of that name", dir.c_str(), missing.size() > 1 ? "s" : "",
                 name_list(missing).c_str());
    }
    // Says what was loaded. Only tensors whose names begin with one of `prefixes` (a head) may be missing and are made
    // new.
    void announce(const std::string& dir, const std::vector<std::string>& prefixes) const {
        if (loaded == 0) fail("%s: no tensor of this model in it", dir.c_str());
        LoadReport incomplete;
        for (const std::string& name : missing)
            if (std::none_of(prefixes.begin(), prefixes.end(),
                             [&](const std::string& p) { return name.rfind(p, 0) == 0; }))
                incomplete.missing.push_back(name);
        incomplete.refuse_missing(dir);
        printf("%s: loaded %zu tensors", dir.c_str(), loaded);
        if (!missing.empty()) printf("; made new: %s", name_list(missing).c_str());
        if (!unused.empty()) printf("; not used here: %s", name_list(unused).c_str());
        printf("\n");
    }
};

// The one name for all spellings: without "bert." or "transformer.", LayerNorm.weight/bias for LayerNorm.gamma/beta.
inline std::string canonical_name(std::string name) {
    for (std::string prefix : {"bert.", "transformer."})
        if (name.rfind(prefix, 0) == 0) {
            name.erase(0, prefix.size());
            break;
        }
    for (auto [old_end, new_end] :
         {std::pair{"LayerNorm.gamma", "LayerNorm.weight"}, std::pair{"LayerNorm.beta", "LayerNorm.bias"}}) {
        size_t n = strlen(old_end);
        if (name.size() >= n && name.compare(name.size() - n, n, old_end) == 0)
            name.replace(name.size() - n, n, new_end);
    }
    return name;
}
inline bool is_buffer(const std::string& canonical) {
    auto ends = [&](const std::string& e) {
        return canonical.size() >= e.size() && canonical.compare(canonical.size() - e.size(), e.size(), e) == 0;
    };
    return canonical == "embeddings.position_ids" || ends(".attn.bias") || ends(".attn.masked_bias");
}

// The weights of a model directory: model.safetensors, or the shards that model.safetensors.index.json lists.
inline std::vector<std::unique_ptr<SafeTensors>> open_weights(const std::string& dir) {
    const char* d = dir.c_str();
    if (!exists(dir)) fail("%s: expected a model directory, found nothing of that name", d);
    if (!is_directory(dir)) fail("%s: expected a model directory, found a file", d);
    std::vector<std::unique_ptr<SafeTensors>> files;
    std::string file = dir + "/model.safetensors", index = file + ".index.json", pickle = dir + "/pytorch_model.bin";
    if (exists(file)) {
        files.push_back(std::make_unique<SafeTensors>(file));
    } else if (exists(index)) {
        const Json json = parse_json(read_file(index), index), *names = json.find("weight_map");
        if (!names || names->kind != Json::object || names->o.empty())
            fail("%s: expected an object \"weight_map\" of tensor names and files", index.c_str());
        std::map<std::string, bool> seen;
        for (const auto& [name, shard] : names->o) {
            if (shard.s.empty() || shard.s.find('/') != std::string::npos)
                fail("%s: %s: expected the name of a file beside it", index.c_str(), name.c_str());
            if (!seen[shard.s]) files.push_back(std::make_unique<SafeTensors>(dir + "/" + shard.s));
            seen[shard.s] = true;
        }
    } else if (exists(pickle)) {
        fail(
            "%s: expected model.safetensors, found only pytorch_model.bin; convert it: python3 data/convert_weights.py "
            "%s",
            d, d);
    } else {
        fail("%s: expected model.safetensors in this directory, found none", d);
    }
    return files;
}

// Reads the tensors of the table from directory `dir` into dst (total_count elements), wherever and in whatever
// spelling and type they are there. Those named in `skip` count as missing, whatever the file holds.
template <class T>
LoadReport load_tensors(const std::string& dir, const std::vector<Spec>& specs, T* dst,
                        const std::vector<std::string>& skip = {}) {
    struct Entry {
        const SafeTensors* file;
        const TensorInfo* info;
        bool used;
    };
    auto files = open_weights(dir);
    std::map<std::string, Entry> found;  // by canonical name
    for (auto& file : files)
        for (const TensorInfo& t : file->tensors)
            if (!found.insert({canonical_name(t.name), {file.get(), &t, false}}).second)
                fail("%s: %s: is there a second time under another name", file->path.c_str(), t.name.c_str());

    LoadReport report;
    // A tied weight: the copy is a second name of the original. Take it where the original is missing; where both are
    // there they have to be equal.
    auto tie = [&](const char* copy, const char* original, const char* head) {
        bool head_used = false;  // is the head that reads this copy in the table?
        for (const Spec& s : specs)
            for (const std::string& name : s.names) head_used |= canonical_name(name) == head;
        auto c = found.find(copy), o = found.find(original);
        if (!head_used || c == found.end()) return;
        Entry& e = c->second;
        e.used = true;
        if (o == found.end()) {
            found[original] = e;
            return;
        }
        const Entry& w = o->second;
        size_t bytes = e.info->end - e.info->begin;
        if (e.info->dtype != w.info->dtype || e.info->shape != w.info->shape ||
            memcmp(e.file->data(*e.info), w.file->data(*w.info), bytes) != 0)
            fail("%s: %s: expected a copy of %s, found other values: an output matrix of its own is not supported",
                 e.file->path.c_str(), e.info->name.c_str(), w.info->name.c_str());
        report.ignored.push_back(e.info->name);
    };
    tie("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight", "cls.predictions.bias");
    tie("cls.predictions.decoder.bias", "cls.predictions.bias", "cls.predictions.bias");
    tie("lm_head.weight", "wte.weight", "wte.weight");

    for (const Spec& s : specs) {
        size_t piece = s.piece();
        for (size_t i = 0; i < s.names.size(); i++) {
            auto f = found.find(canonical_name(s.names[i]));
            if (f == found.end() || std::find(skip.begin(), skip.end(), s.names[i]) != skip.end()) {
                report.missing.push_back(s.names[i]);
                continue;
            }
            Entry& e = f->second;
            if (e.info->shape != s.shape)
                fail("%s: %s: expected shape %s, as config.json says, found %s", e.file->path.c_str(),
                     e.info->name.c_str(), shape_text(s.shape).c_str(), shape_text(e.info->shape).c_str());
            T* to = dst + s.offset + i * piece;
            if (s.transpose) {
                std::vector<T> in(piece);
                e.file->read(*e.info, in.data());
                transpose_copy(to, in.data(), s.shape[0], s.shape[1]);
            } else {
                e.file->read(*e.info, to);
            }
            e.used = true;
            report.loaded++;
        }
        size_t used = s.names.size() * piece;
        std::fill(dst + s.offset + used, dst + s.offset + s.count, T(0));
    }
    for (const auto& [name, e] : found)
        if (!e.used) (is_buffer(name) ? report.ignored : report.unused).push_back(e.info->name);
    return report;
}

// ---------------------------------------------------------------- tensors out
// DIR/model.safetensors, F32; inside the fill of save_directory() below.
template <class T>
void save_tensors(const std::string& dir, const std::vector<Spec>& specs, const T* src) {
    std::vector<TensorToWrite> list;
    for (const Spec& s : specs)
        for (const std::string& name : s.names) list.push_back({name, "F32", s.shape});
    SafeTensorsWriter out(dir + "/model.safetensors", list);
    std::vector<float> buffer;
    for (const Spec& s : specs) {
        buffer.resize(s.piece());
        for (size_t i = 0; i < s.names.size(); i++) {
            const T* from = src + s.offset + i * s.piece();
            if (s.transpose)
                transpose_copy(buffer.data(), from, s.shape[1], s.shape[0]);
            else
                std::copy(from, from + buffer.size(), buffer.begin());
            out.write(buffer.data(), buffer.size() * sizeof(float));
        }
    }
    out.close();
}

// "runs/x//" → "runs/x"
inline std::string without_slash(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path;
}

// fill(TMP) writes all files of a model directory into TMP = DIR.tmp, which then takes the place of DIR. If fill throws
// (a full disk), or the machine stops at any moment, DIR is the old one; what is left of TMP is removed by the next
// save.
template <class F>
void save_directory(const std::string& path, F fill) {
    std::string dir = without_slash(path), tmp = dir + ".tmp";
    std::error_code e;
    std::filesystem::remove_all(tmp, e);
    if (e) fail("%s: cannot remove: %s", tmp.c_str(), e.message().c_str());
    make_directories(tmp);
    try {
        fill(tmp);
        replace_directory(dir, tmp);
    } catch (...) {
        std::filesystem::remove_all(tmp, e);
        throw;
    }
}

// ---------------------------------------------------------------- training state
// A number for a parameter table; state of another one is refused.
inline std::string layout_fingerprint(const std::vector<Spec>& specs) {
    uint64_t hash = fnv1a("", 0);
    for (const Spec& s : specs)
        for (const std::string& name : s.names) {
            std::string row = format("%s %s %zu %zu;", name.c_str(), shape_text(s.shape).c_str(), s.offset, s.count);
            hash = fnv1a(row.data(), row.size(), hash);
        }
    return format("%016llx", (unsigned long long)hash);
}

// DIR/training_state.safetensors: m, v and, where the master weights are not the parameters themselves, master (else
// nullptr), total_count elements each; `counters` is the program's own: step, loader position, best loss, ... Bits come
// back as they went.
template <class T>
void save_training_state(const std::string& dir, const std::vector<Spec>& specs, const T* m, const T* v,
                         const T* master, const Json& counters) {
    std::vector<TensorToWrite> list = {{"m", dtype_of<T>(), {total_count(specs)}, m},
                                       {"v", dtype_of<T>(), {total_count(specs)}, v}};
    if (master) list.push_back({"master", dtype_of<T>(), {total_count(specs)}, master});
    write_safetensors(dir + "/training_state.safetensors", list,
                      {{"layout", layout_fingerprint(specs)}, {"counters", dump_json(counters)}});
}
template <class T>
Json load_training_state(const std::string& dir, const std::vector<Spec>& specs, T* m, T* v, T* master) {
    std::string path = dir + "/training_state.safetensors";
    if (!exists(path))
        fail("%s: expected the state of the optimiser, found no such file: start from this model with --init instead",
             path.c_str());
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
        if (dst && !t) fail("%s: expected a tensor %s, found none: written with another PRECISION", path.c_str(), name);
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

// ---------------------------------------------------------------- BERT's config.json
struct BertConfig {
    int64_t V = 30522, T = 512, C = 768, L = 12, NH = 12, FF = 3072, types = 2, pad_id = 0;  // T: the longest sequence
    double eps = 1e-12, dropout = 0.1, attention_dropout = 0.1, init_std = 0.02;
};

// Reads and checks one number of a config; where `preset` is given the key may be missing or null.
inline double config_number(const Json& config, const std::string& path, const char* key, double lo, double hi,
                            bool integer, const double* preset = nullptr) {
    const Json* j = config.find(key);
    if (preset && (!j || j->kind == Json::null)) return *preset;
    bool ok = j && (j->kind == Json::integer || (!integer && j->kind == Json::number)) && j->d >= lo && j->d <= hi;
    if (!ok)
        fail("%s: %s: expected %s from %.10g to %.10g, found %s", path.c_str(), key,
             integer ? "an integer" : "a number", lo, hi, j ? dump_json(*j).c_str() : "none");
    return j->d;
}
// The key must be missing or have this value; `why` says what the other values would need.
inline void config_expects(const Json& config, const std::string& path, const char* key, const Json& value,
                           const char* why) {
    const Json* j = config.find(key);
    if (j && j->kind != Json::null && dump_json(*j) != dump_json(value))
        fail("%s: %s: expected %s, found %s: %s", path.c_str(), key, dump_json(value).c_str(), dump_json(*j).c_str(),
             why);
}

// Is this a model's config.json? A run's has neither key; some early uploads of BERT have no model_type.
inline bool is_model_config(const Json& config) {
    return config.find("model_type") || config.find("num_attention_heads");
}

inline Json read_config(const std::string& dir, const std::string& model_type) {
    std::string path = dir + "/config.json";
    if (!exists(path)) fail("%s: expected a model's config.json, found no such file", path.c_str());
    Json config = parse_json(read_file(path), path);
    const Json* type = config.find("model_type");
    if (!type && model_type == "bert" && is_model_config(config))
        return config;  // as Google's small BERTs are published
    if (!type || type->s != model_type)
        fail("%s: expected \"model_type\": \"%s\", found %s", path.c_str(), model_type.c_str(),
             type ? dump_json(*type).c_str() : "none");
    return config;
}

inline BertConfig read_bert_config(const std::string& dir) {
    std::string path = dir + "/config.json";
    Json json = read_config(dir, "bert");
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

// `extra`: more keys, for a classifier id2label, label2id, problem_type.
inline void write_bert_config(const std::string& dir, const BertConfig& c,
                              const std::string& architecture = "BertForMaskedLM", const Json& extra = {}) {
    Json json = Json::make_object(), names = Json::make_array();
    names.a.push_back(architecture);
    json.set("architectures", names).set("model_type", "bert").set("dtype", "float32");
    json.set("vocab_size", c.V).set("max_position_embeddings", c.T).set("type_vocab_size", c.types);
    json.set("hidden_size", c.C)
        .set("num_hidden_layers", c.L)
        .set("num_attention_heads", c.NH)
        .set("intermediate_size", c.FF);
    json.set("hidden_act", "gelu")
        .set("layer_norm_eps", c.eps)
        .set("position_embedding_type", "absolute")
        .set("initializer_range", c.init_std);
    json.set("hidden_dropout_prob", c.dropout)
        .set("attention_probs_dropout_prob", c.attention_dropout)
        .set("classifier_dropout", Json());
    json.set("pad_token_id", c.pad_id).set("tie_word_embeddings", true).set("is_decoder", false).set("use_cache", true);
    for (const auto& [key, value] : extra.o) json.set(key, value);
    write_file_atomic(dir + "/config.json", dump_json(json, 2) + "\n");
}

// ---------------------------------------------------------------- GPT-2's config.json
struct GptConfig {
    int64_t V = 50257, T = 1024, C = 768, L = 12, NH = 12, FF = 3072,
            eot = 50256;  // T: the context; eot: the id of <|endoftext|>
    double eps = 1e-5, dropout = 0.1, init_std = 0.02;
};

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

// Also generation_config.json, without which transformers' generate() would not know where to stop.
inline void write_gpt_config(const std::string& dir, const GptConfig& c) {
    Json json = Json::make_object(), names = Json::make_array(), generation = Json::make_object();
    names.a.push_back("GPT2LMHeadModel");
    json.set("architectures", names).set("model_type", "gpt2").set("dtype", "float32");
    json.set("vocab_size", c.V)
        .set("n_positions", c.T)
        .set("n_ctx", c.T)
        .set("n_embd", c.C)
        .set("n_layer", c.L)
        .set("n_head", c.NH)
        .set("n_inner", c.FF);
    json.set("activation_function", "gelu_new").set("layer_norm_epsilon", c.eps).set("initializer_range", c.init_std);
    json.set("resid_pdrop", c.dropout).set("embd_pdrop", c.dropout).set("attn_pdrop", c.dropout);
    json.set("scale_attn_weights", true)
        .set("bos_token_id", c.eot)
        .set("eos_token_id", c.eot)
        .set("tie_word_embeddings", true)
        .set("use_cache", true);
    write_file_atomic(dir + "/config.json", dump_json(json, 2) + "\n");
    generation.set("_from_model_config", true).set("bos_token_id", c.eot).set("eos_token_id", c.eot);
    write_file_atomic(dir + "/generation_config.json", dump_json(generation, 2) + "\n");
}

// ---------------------------------------------------------------- finding a model
// Does dir hold a model: its config.json, and weights?
inline bool is_model_directory(const std::string& dir) {
    if (!exists(dir + "/config.json") || is_directory(dir + "/config.json")) return false;
    bool weights = exists(dir + "/model.safetensors") || exists(dir + "/model.safetensors.index.json") ||
                   exists(dir + "/pytorch_model.bin");
    return weights && is_model_config(parse_json(read_file(dir + "/config.json"), dir + "/config.json"));
}
// DIR itself, or of a run directory DIR/best, else DIR/last. X.old stands in where X is missing: a save that was cut
// short left it, on a file system that cannot exchange two directories in one step.
inline std::string resolve_model_dir(const std::string& path) {
    std::string dir = without_slash(path);
    for (std::string d : {dir, dir + "/best", dir + "/last"}) {
        if (is_model_directory(d)) return d;
        if (!exists(d) && is_model_directory(d + ".old")) return d + ".old";
    }
    if (!is_directory(dir))
        fail("%s: expected a model directory, found %s", dir.c_str(), exists(dir) ? "a file" : "nothing of that name");
    fail("%s: expected config.json with a \"model_type\" and model.safetensors, here, in best/ or in last/, found %s",
         dir.c_str(), exists(dir + "/config.json") ? "a config.json, but no model" : "no config.json");
}
