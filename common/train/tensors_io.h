// tensors_io.h: the parameters of a table, from and to the safetensors files of a model directory.
#pragma once
#include <algorithm>
#include <map>
#include <memory>

#include "common/base/text.h"
#include "common/train/parameters.h"
#include "common/train/safetensors.h"

// (rows, cols) → (cols, rows)
template <class From, class To> void transpose_copy(To* dst, const From* src, size_t rows, size_t cols) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) dst[j * rows + i] = (To)src[i * cols + j];
}

// ---------------------------------------------------------------- in
struct LoadReport {
    size_t loaded = 0;                 // tensors
    std::vector<std::string> missing;  // in the table, not in the file: their values in memory are as before
    std::vector<std::string> unused;   // in the file, parameters that the table has no place for (another head)
    std::vector<std::string> ignored;  // in the file, nothing to learn: buffers, copies of tied weights
    std::vector<std::string> names;    // all that are in the file

    // Only tensors whose names begin with one of `prefixes` (a head) may be missing.
    void refuse_missing(const std::string& dir, const std::vector<std::string>& prefixes = {}) const {
        std::vector<std::string> required;
        for (const std::string& name : missing)
            if (std::none_of(prefixes.begin(), prefixes.end(),
                             [&](const std::string& p) { return name.rfind(p, 0) == 0; }))
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
// "model." of Llama) or that of a wrapper ("module." of DataParallel, "_orig_mod." of torch.compile, "model." of a
// trainer; one in the other), and LayerNorm.weight/bias for LayerNorm.gamma/beta.
inline std::string canonical_name(std::string name) {
    size_t at = 0;
    for (bool found = true; found;) {
        found = false;
        for (const char* prefix : {"module.", "_orig_mod.", "model.", "bert.", "transformer."})
            if (name.compare(at, strlen(prefix), prefix) == 0) {
                at += strlen(prefix);
                found = true;
            }
    }
    name.erase(0, at);
    for (auto [old_end, new_end] :
         {std::pair{"LayerNorm.gamma", "LayerNorm.weight"}, std::pair{"LayerNorm.beta", "LayerNorm.bias"}}) {
        size_t n = strlen(old_end);
        if (name.size() >= n && name.compare(name.size() - n, n, old_end) == 0)
            name.replace(name.size() - n, n, new_end);
    }
    return name;
}
// Is it a tensor with nothing to learn, which older checkpoints hold: position numbers, causal masks?
inline bool is_buffer(const std::string& canonical) {
    auto ends = [&](const std::string& e) {
        return canonical.size() >= e.size() && canonical.compare(canonical.size() - e.size(), e.size(), e) == 0;
    };
    return canonical == "embeddings.position_ids" || ends(".attn.bias") || ends(".attn.masked_bias");
}

// The weights of a model directory: model.safetensors, or the shards that model.safetensors.index.json lists.
inline std::vector<std::unique_ptr<SafeTensors>> open_weights(const std::string& dir) {
    const char* d = dir.c_str();
    if (!exists(dir))
        fail("%s: expected a model directory, found nothing of that name%s", d, nearest_entry(dir).c_str());
    if (!is_directory(dir)) fail("%s: expected a model directory, found a file", d);
    std::vector<std::unique_ptr<SafeTensors>> files;
    std::string file = dir + "/model.safetensors", index = file + ".index.json", pickle = dir + "/pytorch_model.bin";
    if (!exists(file) && exists(dir + "/adapter_model.safetensors"))
        file = dir + "/adapter_model.safetensors";  // lora.h
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
        fail("%s: expected model.safetensors in this directory, found none%s", d, nearest_entry(file).c_str());
    }
    return files;
}

// The tensors of a directory beside the rows of a table: found by name, their shapes compared, nothing read yet.
struct MatchedTensors {
    struct Entry {
        const SafeTensors* file;
        const TensorInfo* info;
        bool used;
    };
    std::vector<std::unique_ptr<SafeTensors>> files;
    std::map<std::string, Entry> found;  // by canonical name
    LoadReport report;

    // Those named in `skip` count as missing, whatever the file holds.
    MatchedTensors(const std::string& dir, const std::vector<ParamSpec>& specs,
                   const std::vector<std::string>& skip = {})
        : files(open_weights(dir)) {
        for (auto& file : files)
            for (const TensorInfo& t : file->tensors)
                if (!found.insert({canonical_name(t.name), {file.get(), &t, false}}).second)
                    fail("%s: %s: is there a second time under another name", file->path.c_str(), t.name.c_str());
        tie(specs, "cls.predictions.decoder.weight", "embeddings.word_embeddings.weight", "cls.predictions.bias");
        tie(specs, "cls.predictions.decoder.bias", "cls.predictions.bias", "cls.predictions.bias");
        tie(specs, "lm_head.weight", "wte.weight", "wte.weight");
        tie(specs, "lm_head.weight", "embed_tokens.weight", "embed_tokens.weight");
        for (const ParamSpec& s : specs)
            for (size_t i = 0; i < s.names.size(); i++) {
                const std::string& name = s.names[i];
                auto f = found.find(canonical_name(name));
                if (f == found.end() || std::find(skip.begin(), skip.end(), name) != skip.end()) {
                    report.missing.push_back(name);
                    continue;
                }
                Entry& e = f->second;
                if (e.info->shape != s.shape_of(i))
                    fail("%s: %s: expected shape %s, as config.json says, found %s", e.file->path.c_str(),
                         e.info->name.c_str(), shape_text(s.shape_of(i)).c_str(), shape_text(e.info->shape).c_str());
                e.used = true;
                report.loaded++;
            }
        for (const auto& [name, e] : found) report.names.push_back(e.info->name);
        for (const auto& [name, e] : found)
            if (!e.used) (is_buffer(name) ? report.ignored : report.unused).push_back(e.info->name);
    }

private:
    // A tied weight: the copy is a second name of the original. Take it where the original is missing; where both are
    // there they have to be equal.
    void tie(const std::vector<ParamSpec>& specs, const char* copy, const char* original, const char* head) {
        bool head_used = false, tied = true;  // is the head that reads this copy in the table, and not the copy?
        for (const ParamSpec& s : specs)
            for (const std::string& name : s.names) {
                head_used |= canonical_name(name) == head;
                tied &= canonical_name(name) != copy;
            }
        auto c = found.find(copy), o = found.find(original);
        if (!head_used || !tied || c == found.end()) return;
        Entry& e = c->second;
        e.used = true;
        if (o == found.end()) {
            found[original] = e;
            return;
        }
        const Entry& w = o->second;
        if (e.info->dtype != w.info->dtype || e.info->shape != w.info->shape ||
            memcmp(e.file->data(*e.info), w.file->data(*w.info), e.info->end - e.info->begin) != 0)
            fail(
                "%s: %s: expected a copy of %s, since config.json does not say tie_word_embeddings false, found others",
                e.file->path.c_str(), e.info->name.c_str(), w.info->name.c_str());
        report.ignored.push_back(e.info->name);
    }
};

// Refuses a model directory whose config.json, from which the table was made, asks for other tensors than it holds: to
// be called before memory is taken. Those whose names begin with one of `prefixes` may be missing.
inline void check_tensors(const std::string& dir, const std::vector<ParamSpec>& specs,
                          const std::vector<std::string>& prefixes = {}, const std::vector<std::string>& skip = {}) {
    MatchedTensors(dir, specs, skip).report.refuse_missing(dir, prefixes);
}

// Reads the tensors of the table from directory `dir` into dst (total_count elements), wherever and in whatever
// spelling and type they are there.
template <class T>
LoadReport load_tensors(const std::string& dir, const std::vector<ParamSpec>& specs, T* dst,
                        const std::vector<std::string>& skip = {}) {
    MatchedTensors matched(dir, specs, skip);
    const std::vector<std::string>& missing = matched.report.missing;
    for (const ParamSpec& s : specs) {
        for (size_t i = 0; i < s.names.size(); i++) {
            if (std::find(missing.begin(), missing.end(), s.names[i]) != missing.end()) continue;
            const auto& [file, info, _] = matched.found.at(canonical_name(s.names[i]));
            T* to = dst + s.offset + s.begin(i);  // (elements)
            if (s.transpose) {
                std::vector<T> in(s.elements(i));
                file->read(*info, in.data());
                transpose_copy(to, in.data(), s.shape[0], s.shape[1]);
            } else {
                file->read(*info, to);
            }
        }
        std::fill(dst + s.offset + s.used(), dst + s.offset + s.count, T(0));
    }
    return matched.report;
}

// ---------------------------------------------------------------- out
// DIR/model.safetensors or another name, F32; called by what save_directory() (model_dir.h) fills a directory with.
// src: (total_count)
template <class T>
void save_tensors(const std::string& dir, const std::vector<ParamSpec>& specs, const T* src,
                  const char* name = "model.safetensors") {
    std::vector<TensorToWrite> list;
    for (const ParamSpec& s : specs)
        for (size_t i = 0; i < s.names.size(); i++) list.push_back({s.names[i], "F32", s.shape_of(i)});
    SafeTensorsWriter out(dir + "/" + name, list);
    std::vector<float> buffer;
    for (const ParamSpec& s : specs) {
        for (size_t i = 0; i < s.names.size(); i++) {
            buffer.resize(s.elements(i));
            const T* from = src + s.offset + s.begin(i);  // (elements)
            if (s.transpose) transpose_copy(buffer.data(), from, s.shape[1], s.shape[0]);
            else std::copy(from, from + buffer.size(), buffer.begin());
            out.write(buffer.data(), buffer.size() * sizeof(float));
        }
    }
    out.close();
}
