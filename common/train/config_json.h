// config_json.h: what reading any model's config.json needs: numbers with bounds, keys with one allowed value, its
// type.
#pragma once
#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/json.h"
#include "common/base/text.h"

// Reads and checks one number of a config; where `preset` is given the key may be missing or null.
inline double config_number(const Json& config, const std::string& path, const char* key, double lo, double hi,
                            bool integer, const double* preset = nullptr) {
    const Json* j = config.find(key);
    if (preset && (!j || j->kind == Json::null)) return *preset;
    bool ok = j && (j->kind == Json::integer || (!integer && j->kind == Json::number)) && j->d >= lo && j->d <= hi;
    if (ok) return j->d;
    std::vector<std::string> keys;
    for (const auto& [name, value] : config.o) keys.push_back(name);
    fail("%s: %s: expected %s from %.10g to %.10g, found %s", path.c_str(), key, integer ? "an integer" : "a number",
         lo, hi, j ? dump_json(*j).c_str() : ("none" + nearest_hint(key, keys)).c_str());
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

// DIR/config.json of a model of one of these types; fails for any other
inline Json read_config(const std::string& dir, const std::vector<std::string>& model_types) {
    std::string path = dir + "/config.json";
    if (!exists(path))
        fail("%s: expected a model's config.json, found no such file%s", path.c_str(), nearest_entry(path).c_str());
    Json config = parse_json(read_file(path), path);
    const Json* type = config.find("model_type");
    if (!type && model_types[0] == "bert" && is_model_config(config))
        return config;     // as Google's small BERTs are published
    std::string expected;  // "gpt2" or "llama"
    for (const std::string& t : model_types) {
        if (type && type->s == t) return config;
        expected += (expected.empty() ? "\"" : " or \"") + t + "\"";
    }
    fail("%s: expected \"model_type\": %s, found %s", path.c_str(), expected.c_str(),
         type ? dump_json(*type).c_str() : "none");
}
