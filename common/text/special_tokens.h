// special_tokens.h: the files of a tokenizer directory, and one reading of every place that can name special tokens:
//
//   tokenizer.json            added_tokens: content, id, flags. (What its post_processor adds, the tokenizer looks at.)
//   tokenizer_config.json     added_tokens_decoder: id → content, flags; bos_token, eos_token … x_token, as text or as
//   an
//                             object with flags; extra_special_tokens, additional_special_tokens
//   special_tokens_map.json   the same but added_tokens_decoder
//   added_tokens.json         content → id; special are those that another place names so
//   generation_config.json, config.json    eos_token_id, a number or a list; bos_token_id
//
// The files must agree about the id of a token, about the flags that added_tokens and added_tokens_decoder give it, and
// about which token is bos_token, eos_token …: a contradiction is refused, with both files. A token that is named and
// stands in no vocabulary gets the next free id, as transformers gives it.
//
// What ends a generated text is what it is in transformers: eos_token_id of generation_config.json; without it that of
// config.json; without both eos_token. These may differ: config.json and the tokenizer of an instruction-tuned model
// often name what ended texts in pretraining, generation_config.json what ends an answer. They are no contradiction. An
// id that the tokenizer does not have is one. pad_token_id is the model's affair, and nothing here is padded.
#pragma once
#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/json.h"
#include "common/text/added_tokens.h"

// ---------------------------------------------------------------- a value of a file, or what it says about another
// kind The member `key` of `from`; nullptr where it is missing or null. Of another kind than `kind` it is refused.
inline const Json* json_member(const Json& from, const std::string& where, const char* key, Json::Kind kind) {
    const char* names[] = {"null", "true or false", "an integer", "a number", "a string", "a list", "an object"};
    const Json* value = from.find(key);
    if (!value || value->kind == Json::null) return nullptr;
    if (value->kind != kind)
        fail("%s: expected %s for %s, found %.60s", where.c_str(), names[kind], key, dump_json(*value).c_str());
    return value;
}
inline bool json_flag(const Json& from, const std::string& where, const char* key, bool otherwise) {
    const Json* value = json_member(from, where, key, Json::boolean);
    return value ? value->b : otherwise;
}
inline std::string json_text(const Json& from, const std::string& where, const char* key, const char* otherwise = "") {
    const Json* value = json_member(from, where, key, Json::string);
    return value ? value->s : otherwise;
}
// Refuses a key that is not among `known`: a rule that nobody here obeys
inline void refuse_unknown_keys(const Json& object, const std::string& where, std::vector<std::string_view> known) {
    for (const auto& [key, value] : object.o)
        if (std::find(known.begin(), known.end(), key) == known.end())
            fail("%s: the key \"%s\": %.60s is not known here; expected only keys that tokenizers of this kind have",
                 where.c_str(), key.c_str(), dump_json(value).c_str());
}

// ---------------------------------------------------------------- the files
struct TokenizerFiles {
    // data/lib/tokenizer.py has the same list
    static constexpr const char* names[] = {
        "vocab.txt",          "vocab.json", "encoder.json",          "tokenizer.json",          "tokenizer.model",
        "merges.txt",         "vocab.bpe",  "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "chat_template.jinja"};
    std::string dir;
    std::vector<std::pair<std::string, std::string>>
        bytes;  // name → content, of those that are there; of text without its byte order mark
    // parsed; null where the file is missing. `all` is tokenizer.json
    Json all, config, special_map, added, model, generation;

    static TokenizerFiles read(const std::string& dir) {
        TokenizerFiles f;
        f.dir = dir;
        if (!is_directory(dir))
            fail("%s: expected a tokenizer directory, found %s", dir.c_str(), exists(dir) ? "a file" : "nothing");
        for (const char* name : names)
            if (const std::string path = dir + "/" + name; exists(path))
                f.bytes.emplace_back(name, name == std::string("tokenizer.model") ? read_file(path) : read_text(path));
        auto parse = [&](const char* name, Json& to) {
            const std::string path = dir + "/" + name, *text = f.find(name);
            if (text) to = parse_json(*text, path);
            if (!text && exists(path)) to = parse_json(read_file(path), path);  // not the tokenizer's: not kept
            if (to.kind != Json::object && to.kind != Json::null)
                fail("%s: expected a JSON object, found %.60s", path.c_str(), dump_json(to).c_str());
        };
        parse("tokenizer.json", f.all);
        parse("tokenizer_config.json", f.config);
        parse("special_tokens_map.json", f.special_map);
        parse("added_tokens.json", f.added);
        parse("config.json", f.model);
        parse("generation_config.json", f.generation);
        return f;
    }
    const std::string* find(std::string_view name) const {  // the content of a file; nullptr: not there
        for (const auto& [n, content] : bytes)
            if (n == name) return &content;
        return nullptr;
    }
    std::string path(const char* name) const { return dir + "/" + name; }

    // Writes the files as they were read, byte for byte, but `config` as tokenizer_config.json, in which
    // model_max_length becomes `max_len` where it is missing or more.
    void save(const std::string& to, Json config, int max_len) const {
        make_directories(to);
        for (const auto& [name, content] : bytes)
            if (name != "tokenizer_config.json") write_file_atomic(to + "/" + name, content);
        const Json* old = config.find("model_max_length");
        if (!old || !(old->d <= max_len)) config.set("model_max_length", max_len);
        write_file_atomic(to + "/tokenizer_config.json", dump_json(config, 2) + "\n");
    }
};

// ---------------------------------------------------------------- what they name
struct SpecialTokens {
    static constexpr const char* role_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                 "pad_token", "cls_token", "mask_token"};
    AddedTokens added;
    std::string roles[7];        // contents, in the order of the names; "": none
    std::vector<int32_t> stops;  // ids that end a generated text; set by find_stops()

    // The content of a role; "": none
    std::string& role(std::string_view name) {
        size_t i = std::find(role_names, role_names + 7, name) - role_names;
        if (i == 7) fail("%.60s is no name of a special token", std::string(name).c_str());
        return roles[i];
    }
    // What a tokenizer's kind has where no file names one; before added.number()
    void set_default(std::string_view name, const char* content) {
        std::string& r = role(name);
        if (r.empty()) r = content;
        if (added.find(r)) return;
        AddedToken t;
        t.content = r;
        t.special = true;
        t.normalized = false;
        t.where = name;
        added.tokens.push_back(t);
    }

    static SpecialTokens read(const TokenizerFiles& f) {
        SpecialTokens s;
        std::unordered_map<std::string, size_t> place;  // content → where in added.tokens
        std::unordered_map<int32_t, size_t> with_id;
        auto add = [&](AddedToken t, bool has_flags) {
            auto [it, is_new] = place.try_emplace(t.content, s.added.tokens.size());
            if (is_new) s.added.tokens.push_back(t);
            AddedToken& old = s.added.tokens[it->second];
            if (old.id >= 0 && t.id >= 0 && old.id != t.id)
                fail("%s: the token %s has the id %d, in %s it is %d", t.where.c_str(), t.content.c_str(), t.id,
                     old.where.c_str(), old.id);
            if (old.id < 0) old.id = t.id;
            if (has_flags && !old.same_flags(t))
                fail("%s: the token %s has other flags (special, normalized, lstrip, rstrip, single_word) than in %s",
                     t.where.c_str(), t.content.c_str(), old.where.c_str());
            auto other = with_id.try_emplace(t.id, it->second).first;
            if (t.id >= 0 && other->second != it->second)
                fail("%s: the id %d is that of %s, in %s that of %s", t.where.c_str(), t.id, t.content.c_str(),
                     s.added.tokens[other->second].where.c_str(), s.added.tokens[other->second].content.c_str());
        };

        const std::string all = f.path("tokenizer.json"), config = f.path("tokenizer_config.json");
        if (const Json* list = json_member(f.all, all, "added_tokens", Json::array))
            for (const Json& token : list->a) {
                const Json* id = json_member(token, all, "id", Json::integer);
                if (!id) fail("%s: expected an id in the added token %.60s", all.c_str(), dump_json(token).c_str());
                add(read_token(token, all, id->i), true);
            }
        if (const Json* decoder = json_member(f.config, config, "added_tokens_decoder", Json::object)) {
            std::vector<AddedToken> sorted;  // by id, as transformers adds them
            for (const auto& [id, token] : decoder->o) {
                char* end;
                long long number = strtoll(id.c_str(), &end, 10);
                if (id.empty() || *end) number = -1;
                sorted.push_back(read_token(token, config, number));
            }
            add_sorted(sorted, [&](const AddedToken& t) { add(t, true); });
        }

        // roles, and special tokens without one; added below, after those that have an id
        std::vector<AddedToken> named;
        for (auto [json, file] : {std::pair{&f.config, config}, {&f.special_map, f.path("special_tokens_map.json")}}) {
            for (const auto& [key, value] : json->o) {
                size_t i = std::find(role_names, role_names + 7, key) - role_names;
                bool is_token = key.size() > 6 && key.compare(key.size() - 6, 6, "_token") == 0;
                if (!is_token || value.kind == Json::null || (i == 7 && value.kind == Json::boolean)) continue;
                AddedToken t = read_token(value, file + ": " + key, -1, true);
                if (i < 7 && !s.roles[i].empty() && s.roles[i] != t.content)
                    fail("%s: %s is %s, in %s it is %s", file.c_str(), key.c_str(), t.content.c_str(), config.c_str(),
                         s.roles[i].c_str());
                if (i < 7) s.roles[i] = t.content;
                named.push_back(t);
            }
            for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
                if (const Json* value = json->find(key)) {
                    for (const Json& token : value->a) named.push_back(read_token(token, file + ": " + key, -1, true));
                    for (const auto& [name, token] : value->o)
                        named.push_back(read_token(token, file + ": " + key, -1, true));
                }
        }
        const std::string added = f.path("added_tokens.json");
        std::unordered_set<std::string> special;
        for (const AddedToken& t : named) special.insert(t.content);
        std::vector<AddedToken> sorted;
        for (const auto& [content, id] : f.added.o) {
            AddedToken t = read_token(content, added, id.kind == Json::integer ? id.i : -1);
            t.special = special.count(content);
            t.normalized = !t.special;
            sorted.push_back(t);
        }
        add_sorted(sorted, [&](const AddedToken& t) { add(t, false); });
        for (const AddedToken& t : named) add(t, false);
        return s;
    }

    // After added.number(): `stops`. Refuses ids that a tokenizer of `size` tokens does not have.
    void find_stops(const TokenizerFiles& f, size_t size) {
        stops.clear();
        for (auto [json, file] : {std::pair{&f.generation, "generation_config.json"}, {&f.model, "config.json"}})
            for (const char* key : {"eos_token_id", "bos_token_id"}) {
                const Json* value = json->find(key);
                if (!value || value->kind == Json::null) continue;
                bool found = !stops.empty() || key[0] == 'b';  // somewhere else already
                for (const Json& id : value->kind == Json::array ? value->a : std::vector<Json>{*value}) {
                    if (id.kind != Json::integer || id.i < 0 || (size_t)id.i >= size)
                        fail("%s: expected ids from 0 to %zu, as the tokenizer has them, for %s, found %.60s",
                             f.path(file).c_str(), size - 1, key, dump_json(id).c_str());
                    if (!found) stops.push_back((int32_t)id.i);
                }
            }
        const AddedToken* eos = added.find(role("eos_token"));
        if (stops.empty() && eos) stops.push_back(eos->id);
    }

private:
    // A token as text or as an object; flags that are not given are those of a Python AddedToken. named: a special one,
    // without an id
    static AddedToken read_token(const Json& json, const std::string& where, int64_t id, bool named = false) {
        AddedToken t;
        t.where = where;
        t.id = (int32_t)id;
        t.special = named || json_flag(json, where, "special", false);
        t.normalized = json_flag(json, where, "normalized", !t.special);
        t.lstrip = json_flag(json, where, "lstrip", false);
        t.rstrip = json_flag(json, where, "rstrip", false);
        t.single_word = json_flag(json, where, "single_word", false);
        t.content = json.kind == Json::string ? json.s : json_text(json, where, "content");
        refuse_unknown_keys(json, where,
                            {"id", "content", "special", "normalized", "lstrip", "rstrip", "single_word", "__type"});
        if (t.content.empty() || id != t.id || (id < 0 && !named))
            fail("%s: expected a token with a content and an id, found %.60s", where.c_str(), dump_json(json).c_str());
        const size_t line = t.content.find_last_not_of(" \t\r\n");  // files are read in parts that end with lines
        if (line != t.content.npos && t.content.find('\n') < line)
            fail("%s: expected a token on one line, found %.60s", where.c_str(), dump_json(json).c_str());
        return t;
    }
    template <class Add> static void add_sorted(std::vector<AddedToken>& tokens, Add add) {
        std::stable_sort(tokens.begin(), tokens.end(), [](auto& a, auto& b) { return a.id < b.id; });
        for (const AddedToken& t : tokens) add(t);
    }
};
