// tensors_io.h: the parameters of a table, and what AdamW keeps for them, from and to a model directory's safetensors.
#pragma once
#include <map>

#include "common/train/parameters.h"
#include "common/train/safetensors.h"

// (rows, cols) → (cols, rows)
template <class From, class To> void transpose_copy(To* dst, const From* src, size_t rows, size_t cols) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) dst[j * rows + i] = (To)src[i * cols + j];
}

// values(total_count(from)) as they lie in memory by the table `to`, that of the same model with matrices as bf16
template <class T> std::vector<T> pack_bf16(
    const std::vector<ParamSpec>& from, const std::vector<ParamSpec>& to, const std::vector<T>& values) {
    std::vector<T> packed(total_count(to));
    for (size_t i = 0; i < to.size(); i++) {
        const T *v = &values[from[i].offset], *end = v + from[i].count;
        if (!to[i].as_bf16) std::copy(v, end, &packed[to[i].offset]);
        for (bf16* at = (bf16*)(void*)&packed[to[i].offset]; to[i].as_bf16 && v < end; at++, v++) {
            const bf16 rounded((float)*v);
            memcpy((void*)at, (const void*)&rounded, sizeof rounded);
        }
    }
    return packed;
}

// ---------------------------------------------------------------- in
struct LoadReport {
    size_t loaded = 0;                 // tensors
    std::vector<std::string> missing;  // in the table, not in the file: their values in memory are as before
    std::vector<std::string> unused;   // in the file, without a place in the table (another head); no buffers
    std::vector<std::string> names;    // all that are in the file

    // Only tensors whose names begin with one of `prefixes` (a head) may be missing.
    void refuse_missing(const std::string& dir, const std::vector<std::string>& prefixes = {}) const {
        std::vector<std::string> required;
        for (const std::string& name : missing)
            if (std::none_of(prefixes.begin(), prefixes.end(), [&](auto& prefix) { return starts_with(name, prefix); }))
                required.push_back(name);
        if (required.empty()) return;
        fail("%s: expected the tensor%s %s, found none of that name%s", dir.c_str(), required.size() > 1 ? "s" : "",
            name_list(required).c_str(), nearest_hint(required[0], unused.empty() ? names : unused).c_str());
    }
    // Says what was loaded; what may be missing keeps its initial values.
    void announce(const std::string& dir, const std::vector<std::string>& prefixes) const {
        refuse_missing(dir, prefixes);
        printf("%s: loaded %zu tensors", dir.c_str(), loaded);
        if (!missing.empty()) printf("; newly initialised: %s", name_list(missing).c_str());
        if (!unused.empty()) printf("; not used here: %s", name_list(unused).c_str());
        printf("\n");
    }
};

// The one name for all spellings: without what stands before it, the model's own name ("bert.", "transformer.",
// "model." of Llama and ModernBERT) or that of a wrapper ("module." of DataParallel, "_orig_mod." of torch.compile,
// "model." of a trainer; one in the other), and LayerNorm.weight/bias for LayerNorm.gamma/beta.
inline std::string canonical_name(std::string name) {
    for (bool found = true; found;) {
        found = false;
        for (std::string_view prefix :
            {"module.", "_orig_mod.", "model.", "bert.", "distilbert.", "roberta.", "transformer."})
            if (starts_with(name, prefix)) {
                name.erase(0, prefix.size());
                found = true;
            }
    }
    for (auto [old_end, new_end] : {std::pair{"gamma", "weight"}, std::pair{"beta", "bias"}})
        if (ends_with(name, std::string("LayerNorm.") + old_end)) name.replace(name.rfind('.') + 1, name.npos, new_end);
    return name;
}
// Is it a tensor with nothing to learn, which older checkpoints hold: position numbers, causal masks?
inline bool is_buffer(const std::string& canonical) {
    return canonical == "embeddings.position_ids" || ends_with(canonical, ".attn.bias") ||
           ends_with(canonical, ".attn.masked_bias");
}

// The weights of a model directory: model.safetensors, or the shards that model.safetensors.index.json lists.
inline std::vector<SafeTensors> open_weights(const std::string& dir) {
    if (!exists(dir)) fail(dir + ": expected a model directory, found nothing of that name" + nearest_entry(dir));
    if (!is_directory(dir)) fail(dir + ": expected a model directory, found a file");
    std::string file = dir + "/model.safetensors", index = file + ".index.json", pickle = dir + "/pytorch_model.bin";
    if (!exists(file) && exists(dir + "/adapter_model.safetensors"))
        file = dir + "/adapter_model.safetensors";  // lora.h
    if (exists(file)) return {SafeTensors(file)};
    if (!exists(index) && exists(pickle))
        fail(dir +
             ": expected model.safetensors, found only pytorch_model.bin; convert it: python3 "
             "data/convert_weights.py " +
             dir);
    if (!exists(index)) fail(dir + ": expected model.safetensors in this directory, found none" + nearest_entry(file));
    const Json json = parse_json(read_file(index), index), *names = json.find("weight_map");
    if (!names || names->kind != Json::object || names->o.empty())
        fail("%s: expected an object \"weight_map\" of tensor names and files", index.c_str());
    std::vector<SafeTensors> files;
    std::set<std::string> seen;
    for (const auto& [name, shard] : names->o) {
        if (shard.s.empty() || shard.s.find('/') != std::string::npos)
            fail(index + ": " + name + ": expected the name of a file beside it");
        if (seen.insert(shard.s).second) files.emplace_back(dir + "/" + shard.s);
    }
    return files;
}

// Reads the tensors of the table from directory `dir` into dst (total_count elements), wherever and in whatever
// spelling and type they are there; dst nullptr: only finds them and compares their shapes. Those named in `skip` count
// as missing, whatever the file holds.
template <class T> LoadReport load_tensors(
    const std::string& dir, const std::vector<ParamSpec>& specs, T* dst, const std::vector<std::string>& skip = {}) {
    struct Entry {
        const SafeTensors* file;
        const TensorInfo* info;
        bool used;
    };
    const std::vector<SafeTensors> files = open_weights(dir);
    std::map<std::string, Entry> found;  // by canonical name
    std::set<std::string> wanted;        // canonical names of the table
    LoadReport report;
    for (const SafeTensors& file : files)
        for (const TensorInfo& t : file.tensors)
            if (!found.insert({canonical_name(t.name), {&file, &t, false}}).second)
                fail("%s: %s: is there a second time under another name", file.path.c_str(), t.name.c_str());
    for (const ParamSpec& s : specs)
        for (const std::string& name : s.names) wanted.insert(canonical_name(name));
    // A tied weight: the copy is a second name of the original. Take it where the original is missing; where both are
    // there they have to be equal. Not where the table lacks the head that reads the copy, or has the copy itself.
    auto tie = [&](const std::string& copy, const std::string& original, const char* head) {
        auto c = found.find(copy), o = found.find(original);
        if (!wanted.count(head) || wanted.count(copy) || c == found.end()) return;
        Entry& e = c->second;
        e.used = true;
        if (o == found.end()) {
            found[original] = e;
            return;
        }
        const Entry& w = o->second;
        if (e.info->dtype != w.info->dtype || e.info->shape != w.info->shape ||
            memcmp(e.file->data(*e.info), w.file->data(*w.info), e.info->end - e.info->begin) != 0)
            fail(e.file->path + ": " + e.info->name + ": expected a copy of " + w.info->name +
                 ", found others: an output matrix of its own is not implemented for this config.json");
    };
    for (auto [decoder, bias, words] : {std::tuple{"cls.predictions.decoder", "cls.predictions.bias", "word"},
             {"lm_head.decoder", "lm_head.bias", "word"}, {"vocab_projector", "vocab_projector.bias", "word"},
             {"decoder", "decoder.bias", "tok"}}) {
        tie(decoder + std::string(".weight"), std::string("embeddings.") + words + "_embeddings.weight", bias);
        tie(decoder + std::string(".bias"), bias, bias);
    }
    tie("lm_head.weight", "wte.weight", "wte.weight");
    tie("lm_head.weight", "embed_tokens.weight", "embed_tokens.weight");
    for (const ParamSpec& s : specs) {
        for (size_t i = 0; i < s.names.size(); i++) {
            auto f = found.find(canonical_name(s.names[i]));
            if (f == found.end() || contains(skip, s.names[i])) {
                report.missing.push_back(s.names[i]);
                continue;
            }
            auto& [file, info, used] = f->second;
            if (info->shape != s.shape_of(i))
                fail("%s: %s: expected shape %s, as config.json says, found %s", file->path.c_str(), info->name.c_str(),
                    shape_text(s.shape_of(i)).c_str(), shape_text(info->shape).c_str());
            used = true;
            report.loaded++;
            if (!dst) continue;
            T* to = dst + s.offset + s.begin(i);  // (elements)
            std::vector<T> in(s.transpose ? s.elements(i) : 0);
            file->read(*info, s.transpose ? in.data() : to);
            if (s.transpose) transpose_copy(to, in.data(), s.shape[0], s.shape[1]);
        }
        if (dst) std::fill(dst + s.offset + s.used(), dst + s.offset + s.count, T(0));
    }
    for (const auto& [name, e] : found) {
        report.names.push_back(e.info->name);
        if (!e.used && !is_buffer(name)) report.unused.push_back(e.info->name);
    }
    return report;
}

// Refuses a model directory whose config.json, from which the table was made, asks for other tensors than it holds: to
// be called before memory is taken. Those whose names begin with one of `prefixes` may be missing.
inline void check_tensors(const std::string& dir, const std::vector<ParamSpec>& specs,
    const std::vector<std::string>& prefixes = {}, const std::vector<std::string>& skip = {}) {
    load_tensors<float>(dir, specs, nullptr, skip).refuse_missing(dir, prefixes);
}

// ---------------------------------------------------------------- out
// DIR/model.safetensors or another name, F32; called by what save_directory() (model_dir.h) fills a directory with.
// src: (total_count)
template <class T> void save_tensors(
    const std::string& dir, const std::vector<ParamSpec>& specs, const T* src, const char* name = "model.safetensors") {
    std::vector<TensorToWrite> list;
    std::vector<std::pair<const ParamSpec*, size_t>> tensors;
    for (const ParamSpec& s : specs)
        for (size_t i = 0; i < s.names.size(); i++) {
            list.push_back({s.names[i], "F32", s.shape_of(i)});
            tensors.push_back({&s, i});
        }
    std::vector<float> buffer;
    write_safetensors(dir + "/" + name, list, {}, [&](size_t k) {
        const auto& [s, i] = tensors[k];
        const T* from = src + s->offset + s->begin(i);  // (elements)
        buffer.assign(from, from + s->elements(i));
        if (s->transpose) transpose_copy(buffer.data(), from, s->shape[1], s->shape[0]);
        return buffer.data();
    });
}

// ---------------------------------------------------------------- a resumed run's
// A number for a parameter table; state of another one is refused.
inline std::string layout_fingerprint(const std::vector<ParamSpec>& specs) {
    std::string rows;
    for (const ParamSpec& s : specs)
        for (size_t i = 0; i < s.names.size(); i++)
            rows += format("%s %s %zu %zu;", s.names[i].c_str(), shape_text(s.shape_of(i)).c_str(), s.offset, s.count);
    return hex(fnv1a(rows.data(), rows.size()));
}

// DIR/training_state.safetensors: m, v and, where the master weights are not the parameters themselves, master (else
// nullptr), total_count elements each; counters: step, loader position, best loss, ... Bits come back as they went.
template <class T> void save_training_state(const std::string& dir, const std::vector<ParamSpec>& specs, const T* m,
    const T* v, const T* master, const Json& counters) {
    std::vector<TensorToWrite> list;
    for (auto [name, values] : {std::pair{"m", m}, {"v", v}, {"master", master}})
        if (values) list.push_back({name, dtype_of<T>(), {total_count(specs)}, values});
    write_safetensors(dir + "/training_state.safetensors", list,
        Json().set("layout", layout_fingerprint(specs)).set("counters", dump_json(counters)));
}
template <class T>
Json load_training_state(const std::string& dir, const std::vector<ParamSpec>& specs, T* m, T* v, T* master) {
    const std::string path = dir + "/training_state.safetensors";
    if (!exists(path))
        fail("%s: expected the state of the optimiser, found no such file: start from this model with --init instead%s",
            path.c_str(), nearest_entry(path).c_str());
    const SafeTensors file(path);
    file.verify();
    const Json *layout = file.metadata.find("layout"), *counters = file.metadata.find("counters");
    if (!layout || !counters)
        fail(path + ": expected \"layout\" and \"counters\" in __metadata__, found none: not written by this program");
    if (layout->s != layout_fingerprint(specs))
        fail(path + ": expected the state of this model, found that of another size or version of the program");
    for (auto [name, values] : {std::pair{"m", m}, {"v", v}, {"master", master}}) {
        if (!values) continue;
        const TensorInfo* t = file.find(name);
        if (!t) fail("%s: expected a tensor %s, found none: written with another PRECISION", path.c_str(), name);
        if (t->dtype != dtype_of<T>() || t->count != total_count(specs))
            fail("%s: %s: expected %zu numbers %s, found %zu %s: written with another PRECISION", path.c_str(), name,
                total_count(specs), dtype_of<T>(), t->count, t->dtype.c_str());
        file.read(*t, values);
    }
    return parse_json(counters->s, path + ": counters");
}
