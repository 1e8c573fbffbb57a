// special_tokens.h: the files of a tokenizer's directory, and every place in them that can name special tokens:
//
//   tokenizer.json            added_tokens: content, id, flags. (What its post_processor adds, the tokenizer looks at.)
//   tokenizer_config.json     added_tokens_decoder: id → content, flags; bos_token, eos_token … x_token, as text or
//                             as an object with flags; extra_special_tokens, additional_special_tokens
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
#include "common/base/text.h"
#include "common/text/added_tokens.h"

// ---------------------------------------------------------------- a value of a file, or what it says
// The member `key` of `from`; nullptr where it is missing or null. Of another kind than `kind` it is refused.
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
        if (!contains(known, std::string_view(key)))
            fail("%s: the key \"%s\": %.60s is not known here; expected only keys that tokenizers of this kind have",
                where.c_str(), key.c_str(), dump_json(value).c_str());
}

[[noreturn]] inline void refuse_rule(const std::string& where, const Json& rule, const std::string& expected) {
    fail("%s: expected %s, found %.200s: tokenizers with this rule are not supported", where.c_str(), expected.c_str(),
        dump_json(rule).c_str());
}

// ---------------------------------------------------------------- the files
struct TokenizerFiles {
    // data/lib/tokenizer.py has the same list
    static constexpr const char* names[] = {"vocab.txt", "vocab.json", "encoder.json", "tokenizer.json",
        "tokenizer.model", "merges.txt", "vocab.bpe", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja"};
    std::string dir;
    // name → content, of those that are there; of text without its byte order mark
    std::vector<std::pair<std::string, std::string>> bytes;
    // parsed; null where the file is missing. `all` is tokenizer.json
    Json all, config, special_map, added, model, generation;

    static TokenizerFiles read(const std::string& dir) {
        TokenizerFiles f;
        f.dir = dir;
        if (!is_directory(dir))
            fail("%s: expected a tokenizer directory, found %s", dir.c_str(), exists(dir) ? "a file" : "nothing");
        for (const char* name : names)
            if (const std::string path = f.path(name); exists(path))
                f.bytes.emplace_back(name, name == std::string("tokenizer.model") ? read_file(path) : read_text(path));
        for (auto [name, to] : {std::pair{"tokenizer.json", &f.all}, {"tokenizer_config.json", &f.config},
                 {"special_tokens_map.json", &f.special_map}, {"added_tokens.json", &f.added},
                 {"config.json", &f.model}, {"generation_config.json", &f.generation}}) {
            const std::string path = f.path(name), *text = f.find(name);
            if (text || exists(path)) *to = parse_json(text ? *text : read_file(path), path);
            if (to->kind != Json::object && to->kind != Json::null)
                fail("%s: expected a JSON object, found %.60s", path.c_str(), dump_json(*to).c_str());
        }
        return f;
    }
    const std::string* find(std::string_view name) const {  // the content of a file; nullptr: not there
        for (const auto& [n, content] : bytes)
            if (n == name) return &content;
        return nullptr;
    }
    std::string path(const char* name) const { return dir + "/" + name; }
    // The lines of a text, without \n or \r\n
    static std::vector<std::string_view> lines(std::string_view text) {
        std::vector<std::string_view> out;
        for (size_t end; !text.empty(); text.remove_prefix(std::min(end + 1, text.size()))) {
            end = std::min(text.find('\n'), text.size());
            out.push_back(text.substr(0, end));
            if (ends_with(out.back(), "\r")) out.back().remove_suffix(1);
        }
        return out;
    }

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

// ---------------------------------------------------------------- tokenizer.json
// {"token": id, …} → the tokens, in the order of their ids
inline std::vector<std::string> read_vocab(const Json& vocab, const std::string& where) {
    if (vocab.kind != Json::object || vocab.o.empty())
        fail("%s: expected a JSON object {\"token\": id, ...}, found %.60s", where.c_str(), dump_json(vocab).c_str());
    std::vector<std::string> tokens(vocab.o.size());
    for (const auto& [token, id] : vocab.o) {
        if (token.empty())
            fail("%s: expected a token for the id %s, found an empty one", where.c_str(), dump_json(id).c_str());
        if (id.kind != Json::integer || id.i < 0 || (size_t)id.i >= tokens.size() || !tokens[id.i].empty())
            fail("%s: expected the ids 0 to %zu once each, found %s for the token %s", where.c_str(), tokens.size() - 1,
                dump_json(id).c_str(), token.c_str());
        tokens[id.i] = token;
    }
    return tokens;
}
// Are they the same, whatever the order of keys?
inline bool same_json(const Json& x, const Json& y) {
    if (x.kind != y.kind || x.o.size() != y.o.size()) return false;
    for (const auto& [key, value] : x.o)
        if (const Json* other = y.find(key); !other || !same_json(value, *other)) return false;
    if (x.kind == Json::array) return std::equal(x.a.begin(), x.a.end(), y.a.begin(), y.a.end(), same_json);
    return x.kind == Json::object || dump_json(x) == dump_json(y);
}

// ---------------------------------------------------------------- what they name
enum Role : int { BOS, EOS, UNK, SEP, PAD, CLS, MASK };
constexpr const char* role_names[] = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

struct SpecialTokens {
    AddedTokens added;
    std::string roles[7];        // the content of each Role; "": none
    std::vector<int32_t> stops;  // ids that end a generated text; set by find_stops()

    // What a tokenizer's kind has where no file names one; before added.number()
    void set_default(Role role, const char* content) {
        std::string& r = roles[role];
        if (r.empty()) r = content;
        if (!added.find(r)) added.tokens.push_back({r, -1, true, false, false, false, false, role_names[role]});
    }

    static SpecialTokens read(const TokenizerFiles& f) {
        SpecialTokens s;
        std::unordered_map<std::string, size_t> place;  // content → where in added.tokens
        std::unordered_map<int32_t, size_t> with_id;
        auto add = [&](const AddedToken& t, bool has_flags) {
            auto [it, is_new] = place.try_emplace(t.content, s.added.tokens.size());
            if (is_new) s.added.tokens.push_back(t);
            AddedToken& old = s.added.tokens[it->second];
            if (old.id >= 0 && t.id >= 0 && old.id != t.id)
                fail("%s: the token %s has the id %d, in %s it is %d", t.where.c_str(), t.content.c_str(), t.id,
                    old.where.c_str(), old.id);
            if (old.id < 0) old.id = t.id;
            if (has_flags && old.flags() != t.flags())
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
        AddedTokens with_flags, without;
        if (const Json* decoder = json_member(f.config, config, "added_tokens_decoder", Json::object))
            for (const auto& [id, token] : decoder->o) {
                char* end;
                const long long number = strtoll(id.c_str(), &end, 10);
                with_flags.tokens.push_back(read_token(token, config, id.empty() || *end ? -1 : number));
            }
        for (const AddedToken& t : with_flags.by_id()) add(t, true);  // in the order of transformers

        // roles, and special tokens without one; added below, after those that have an id
        std::vector<AddedToken> named;
        std::unordered_set<std::string> special;
        for (auto [json, file] : {std::pair{&f.config, config}, {&f.special_map, f.path("special_tokens_map.json")}}) {
            auto add_name = [&, file = file](const std::string& key, const Json& token) {
                named.push_back(read_token(token, file + ": " + key, -1, true));
                special.insert(named.back().content);
            };
            for (const auto& [key, value] : json->o) {
                const size_t i = std::find(role_names, role_names + 7, key) - role_names;
                const bool is_token = key.size() > 6 && ends_with(key, "_token");
                if (!is_token || value.kind == Json::null || (i == 7 && value.kind == Json::boolean)) continue;
                add_name(key, value);
                if (i == 7) continue;
                const std::string& content = named.back().content;
                if (!s.roles[i].empty() && s.roles[i] != content)
                    fail("%s: %s is %s, in %s it is %s", file.c_str(), key.c_str(), content.c_str(), config.c_str(),
                        s.roles[i].c_str());
                s.roles[i] = content;
            }
            for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
                if (const Json* value = json->find(key)) {
                    for (const Json& token : value->a) add_name(key, token);
                    for (const auto& [name, token] : value->o) add_name(key, token);
                }
        }
        for (const auto& [content, id] : f.added.o) {
            AddedToken t = read_token(content, f.path("added_tokens.json"), id.kind == Json::integer ? id.i : -1);
            t.special = special.count(content);
            t.normalized = !t.special;
            without.tokens.push_back(t);
        }
        for (const AddedToken& t : without.by_id()) add(t, false);
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
        const int32_t eos = added.id_of(roles[EOS]);
        if (stops.empty() && eos >= 0) stops.push_back(eos);
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
        refuse_unknown_keys(
            json, where, {"id", "content", "special", "normalized", "lstrip", "rstrip", "single_word", "__type"});
        if (t.content.empty() || id != t.id || (id < 0 && !named))
            fail("%s: expected a token with a content and an id, found %.60s", where.c_str(), dump_json(json).c_str());
        const size_t line = t.content.find_last_not_of(" \t\r\n");  // files are read in parts that end with lines
        if (line != t.content.npos && t.content.find('\n') < line)
            fail("%s: expected a token on one line, found %.60s", where.c_str(), dump_json(json).c_str());
        return t;
    }
};
