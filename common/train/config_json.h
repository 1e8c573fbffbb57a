// config_json.h: a config.json as it is read: numbers with bounds, allowed values; refusals name file, key and value.
#pragma once
#include <optional>

#include "common/base/files.h"
#include "common/base/json.h"
#include "common/base/text.h"
#include "common/train/parameters.h"

struct ConfigJson {
    Json json;
    std::string where;     // the file; of an object in it also its key
    std::string advice{};  // of a refusal that has no reason of its own

    const Json* find(const char* key) const {  // nullptr: missing or null
        const Json* j = json.find(key);
        return j && j->kind != Json::null ? j : nullptr;
    }
    [[noreturn]] void refuse(const std::string& key, const std::string& expected, std::string why = "") const {
        if (why.empty()) why = advice;
        std::vector<std::string> keys;
        for (const auto& [name, value] : json.o) keys.push_back(name);
        const Json* found = json.find(key);
        fail(where + ": " + key + ": expected " + expected + ", found " +
             (found ? dump_json(*found) : "none" + nearest_hint(key, keys)) + (why.empty() ? "" : ": " + why));
    }
    // The key must be missing or have this value; `why` says what the other values would need.
    void expects(const char* key, const Json& value, const char* why) const {
        const Json* j = find(key);
        if (j && dump_json(*j) != dump_json(value)) refuse(key, dump_json(value), why);
    }
    void expects_multiple(const char* key, int64_t n, const char* of, int64_t divisor) const {
        if (n % divisor)
            fail("%s: expected %s to be a multiple of %s, found %lld and %lld", where.c_str(), key, of, (long long)n,
                (long long)divisor);
    }
    // What the kernels of attention take
    void expects_head_size(int64_t HS) const {
        if (HS != 32 && HS != 64 && HS != 128)
            fail("%s: expected heads of 32, 64 or 128 channels, found %lld", where.c_str(), (long long)HS);
    }
    // Where there is a preset the key may be missing or null.
    double number(const char* key, double lo, double hi, std::optional<double> preset = {}, bool whole = false) const {
        const Json* j = find(key);
        if (!j && preset) return *preset;
        if (j && (j->kind == Json::integer || (!whole && j->kind == Json::number)) && j->d >= lo && j->d <= hi)
            return j->d;
        refuse(key, format("%s from %.10g to %.10g", whole ? "an integer" : "a number", lo, hi));
    }
    int64_t integer(const char* key, int64_t lo, int64_t hi, std::optional<int64_t> preset = {}) const {
        return (int64_t)number(key, (double)lo, (double)hi, preset, true);
    }
    // The values of a list, or one value; none: missing or null
    std::vector<Json> list(const char* key) const {
        const Json* j = find(key);
        return !j ? std::vector<Json>() : j->kind == Json::array ? j->a : std::vector<Json>{*j};
    }
};

// Is this a model's config.json? A run's has neither key; some early uploads of BERT have no model_type.
inline bool is_model_config(const Json& config) {
    return config.find("model_type") || config.find("num_attention_heads");
}

// DIR/config.json of a model of one of these types; fails for any other
inline ConfigJson read_config(const std::string& dir, const std::vector<std::string>& model_types) {
    const std::string path = dir + "/config.json";
    if (!exists(path)) fail(path + ": expected a model's config.json, found no such file" + nearest_entry(path));
    const ConfigJson config{parse_json(read_file(path), path), path};
    const Json* type = config.json.find("model_type");
    if (!type && model_types[0] == "bert" && is_model_config(config.json))
        return config;     // as Google's small BERTs are published
    std::string expected;  // "gpt2" or "llama"
    for (const std::string& t : model_types) {
        if (type && type->s == t) return config;
        expected += (expected.empty() ? "\"" : " or \"") + t + "\"";
    }
    fail(path + ": expected \"model_type\": " + expected + ", found " + (type ? dump_json(*type) : "none"));
}
