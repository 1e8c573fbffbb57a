// model_dir.h: model directories that Hugging Face transformers loads as they are, and the other way round.
//
//   DIR/config.json                   what kind of model, all dimensions     bert_config.h, gpt_config.h
//   DIR/model.safetensors             the parameters, F32                    tensors_io.h
//   DIR/training_state.safetensors    ours, only needed to resume            training_state.h
//   DIR/tokenizer files                                                      common/text/
#pragma once
#include <filesystem>

#include "common/train/config_json.h"

// "runs/x//" → "runs/x"
inline std::string without_slash(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path;
}

// Copies what is in `from` and not in `to`: a model card, say, that somebody put beside a model.
inline void copy_missing(const std::string& from, const std::string& to) {
    namespace fs = std::filesystem;
    if (!is_directory(from)) return;
    for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
        const fs::path target = to / entry.path().filename();
        std::error_code e;
        if (fs::symlink_status(target).type() == fs::file_type::not_found)
            fs::copy(entry.path(), target, fs::copy_options::recursive | fs::copy_options::copy_symlinks, e);
        if (e) fail("cannot copy %s to %s: %s", entry.path().c_str(), target.c_str(), e.message().c_str());
    }
}

// fill(TMP) writes all files of a model directory into TMP = DIR.tmp, which then takes the place of DIR; other files of
// DIR are kept. If fill throws (a full disk), or the machine stops at any moment, DIR is the old one; what is left of
// TMP is removed by the next save.
template <class F> void save_directory(const std::string& path, F fill) {
    std::string dir = without_slash(path), tmp = dir + ".tmp";
    std::error_code e;
    std::filesystem::remove_all(tmp, e);
    if (e) fail("%s: cannot remove: %s", tmp.c_str(), e.message().c_str());
    make_directories(tmp);
    try {
        fill(tmp);
        copy_missing(dir, tmp);
        replace_directory(dir, tmp);
    } catch (...) {
        std::filesystem::remove_all(tmp, e);
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
// DIR itself, or of a run directory DIR/best, else DIR/last. X.old stands in where X is missing: a save that was cut
// short left it, on a file system that cannot exchange two directories in one step.
inline std::string resolve_model_dir(const std::string& path) {
    std::string dir = without_slash(path);
    for (std::string d : {dir, dir + "/best", dir + "/last"}) {
        if (is_model_directory(d)) return d;
        if (!exists(d) && is_model_directory(d + ".old")) return d + ".old";
    }
    // Without a validation a run has no best/.
    const std::string last = std::filesystem::path(dir).filename() == "best" ? dir.substr(0, dir.size() - 4) + "last"
                                                                             : "";
    if (!is_directory(dir))
        fail("%s: expected a model directory, found %s", dir.c_str(),
             exists(dir)                                 ? "a file"
             : !last.empty() && is_model_directory(last) ? ("nothing of that name; there is " + last).c_str()
                                                         : ("nothing of that name" + nearest_entry(dir)).c_str());
    const bool config = exists(dir + "/config.json");
    fail("%s: expected config.json with a \"model_type\" and model.safetensors, here, in best/ or in last/, found %s%s",
         dir.c_str(), config ? "a config.json, but no model" : "no config.json",
         nearest_entry(dir + (config ? "/model.safetensors" : "/config.json")).c_str());
}
