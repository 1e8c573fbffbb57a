// model_dir.h: model directories that Hugging Face transformers loads as they are, and the other way round.
//
//   DIR/config.json                   what kind of model, all dimensions     bert_config.h, gpt_config.h
//   DIR/model.safetensors             the parameters, F32                    tensors_io.h
//   DIR/training_state.safetensors    ours, only needed to resume            tensors_io.h
//   DIR/tokenizer files                                                      common/text/
#pragma once
#include <filesystem>

#include "common/train/config_json.h"

// fill(TMP) writes all files of a model directory into TMP = DIR.tmp, which then takes the place of DIR; other files of
// DIR are kept. If fill throws (a full disk), or the machine stops at any moment, DIR is the old one; what is left of
// TMP is removed by the next save.
template <class F> void save_directory(const std::string& path, F fill) {
    namespace fs = std::filesystem;
    const std::string dir = without_slash(path), tmp = dir + ".tmp";
    remove_tree(tmp);
    make_directories(tmp);
    std::error_code e;
    try {
        fill(tmp);
        // a model card, say, that somebody put beside the model
        for (fs::directory_iterator entry(dir, e), end; !e && entry != end; entry.increment(e)) {
            const fs::path target = tmp / entry->path().filename();
            if (fs::symlink_status(target).type() == fs::file_type::not_found)
                fs::copy(entry->path(), target, fs::copy_options::recursive | fs::copy_options::copy_symlinks, e);
            if (e) break;  // else increment() would forget it
        }
        if (e && exists(dir)) fail("cannot copy what is in " + dir + " to " + tmp + ": " + e.message());
        replace_directory(dir, tmp);
    } catch (...) {
        fs::remove_all(tmp, e);
        throw;
    }
}

// Low-rank adapters of a model, in PEFT's files (lora.h)
inline bool is_adapter(const std::string& dir) { return exists(dir + "/adapter_config.json"); }
// Does dir hold a model: its config.json, and weights? Or adapters
inline bool is_model_directory(const std::string& dir) {
    if (is_adapter(dir)) return true;
    if (!exists(dir + "/config.json") || is_directory(dir + "/config.json")) return false;
    bool weights = exists(dir + "/model.safetensors") || exists(dir + "/model.safetensors.index.json") ||
                   exists(dir + "/pytorch_model.bin");
    return weights && is_model_config(parse_json(read_file(dir + "/config.json"), dir + "/config.json"));
}
// Fails if the tokenizer of `dir` has ids that a model of vocabulary V does not know.
inline void check_vocabulary(const std::string& dir, size_t tokens, int64_t V) {
    if ((int64_t)tokens > V)
        fail("%s: the tokenizer has %zu tokens, the model's vocabulary %lld", dir.c_str(), tokens, (long long)V);
}
// DIR itself, or of a run directory DIR/best, else DIR/last. X.old stands in where X is missing: a save that was cut
// short left it, on a file system that cannot exchange two directories in one step.
inline std::string resolve_model_dir(const std::string& path) {
    std::string dir = without_slash(path);
    for (std::string d : {dir, dir + "/best", dir + "/last"}) {
        if (is_model_directory(d)) return d;
        if (!exists(d) && is_model_directory(d + ".old")) return d + ".old";
    }
    // Without a validation a run has no best/.
    const std::string last = ends_with("/" + dir, "/best") ? dir.substr(0, dir.size() - 4) + "last" : "";
    if (!is_directory(dir))
        fail(dir + ": expected a model directory, found " +
             (exists(dir)                                    ? "a file"
                 : !last.empty() && is_model_directory(last) ? "nothing of that name; there is " + last
                                                             : "nothing of that name" + nearest_entry(dir)));
    const bool config = exists(dir + "/config.json");
    fail(dir +
         ": expected config.json with a \"model_type\" and model.safetensors, here, in best/ or in last/, found " +
         (config ? "a config.json, but no model" : "no config.json") +
         nearest_entry(dir + (config ? "/model.safetensors" : "/config.json")));
}
