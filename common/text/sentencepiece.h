// sentencepiece.h: tokenizer.model, what the SentencePiece library writes, read as the tokenizer.json that transformers
// converts it to. The file is a protocol buffer: fields, each a number and a varint, 4 or 8 bytes, or so many bytes,
// which may hold fields again. Only models of type BPE have merges.
#pragma once
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/errors.h"
#include "common/base/json.h"
#include "common/base/unicode.h"

struct ProtoField {
    uint64_t number, value = 0;  // of a varint; of 4 bytes the bits of a float
    std::string_view bytes{};

    // Takes the next field off `from`; false at its end
    static bool next(std::string_view& from, ProtoField& f, const std::string& where) {
        auto varint = [&] {
            uint64_t x = 0;
            for (int shift = 0; shift < 64 && !from.empty(); shift += 7) {
                uint8_t byte = from[0];
                from.remove_prefix(1);
                x |= (uint64_t)(byte & 127) << shift;
                if (byte < 128) return x;
            }
            fail("%s: expected a SentencePiece model, found something else or a file that is cut off", where.c_str());
        };
        if (from.empty()) return false;
        uint64_t key = varint(), type = key & 7;
        f = {key >> 3};
        uint64_t n = type == 1 ? 8 : type == 5 ? 4 : 0;
        if (type == 0 || type == 2) f.value = varint();
        if (type == 2) n = f.value;
        if (f.number == 0 || type == 3 || type == 4 || type > 5 || n > from.size())
            fail("%s: expected a SentencePiece model, found something else or a file that is cut off", where.c_str());
        f.bytes = from.substr(0, n);
        from.remove_prefix(n);
        if (type == 5) memcpy(&f.value, f.bytes.data(), 4);
        return true;
    }
};

// The bytes of tokenizer.model → tokenizer.json. first_only: only the beginning of a text gets a space before it, not
// what follows a special token ("legacy": false in tokenizer_config.json). bos, eos: the tokens of these roles, or ""
inline Json read_sentencepiece(std::string_view bytes, const std::string& where, bool first_only, std::string& bos,
                               std::string& eos) {
    struct Piece {
        std::string text;
        float score = 0;
        uint64_t type = 1;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
    };
    std::vector<Piece> pieces;
    uint64_t model_type = 1;
    bool byte_fallback = false, dummy_prefix = true, remove_spaces = true, escape_spaces = true, suffix = false;
    std::string charsmap, rules, name;
    uint64_t bos_id = 1, eos_id = 2;
    for (ProtoField f; ProtoField::next(bytes, f, where);) {
        ProtoField g;
        std::string_view in = f.bytes;
        if (f.number == 1) {
            Piece p;
            while (ProtoField::next(in, g, where)) {
                if (g.number == 1) p.text = g.bytes;
                if (g.number == 2) memcpy(&p.score, &g.value, 4);
                if (g.number == 3) p.type = g.value;
            }
            if (p.text.empty() || invalid_utf8(p.text) != p.text.npos || !(p.score == p.score))
                fail("%s: expected a text and a score for piece %zu, found none", where.c_str(), pieces.size());
            pieces.push_back(std::move(p));
        }
        while (f.number == 2 && ProtoField::next(in, g, where)) {  // how it was trained
            if (g.number == 3) model_type = g.value;
            if (g.number == 24) suffix = g.value;
            if (g.number == 35) byte_fallback = g.value;
            if (g.number == 41) bos_id = g.value;  // −1: none
            if (g.number == 42) eos_id = g.value;
        }
        while (f.number == 3 && ProtoField::next(in, g, where)) {  // how a text is normalised
            if (g.number == 1) name = g.bytes;
            if (g.number == 2) charsmap = g.bytes;
            if (g.number == 3) dummy_prefix = g.value;
            if (g.number == 4) remove_spaces = g.value;
            if (g.number == 5) escape_spaces = g.value;
            if (g.number == 6) rules = g.bytes;
        }
    }
    const char* types[] = {"unknown", "unigram", "BPE", "word", "char"};
    if (pieces.empty() || model_type != 2)
        fail("%s: expected a SentencePiece model of type BPE, found %s", where.c_str(),
             pieces.empty() ? "no pieces" : types[model_type < 5 ? model_type : 0]);
    if (!charsmap.empty() || !rules.empty())
        fail("%s: expected the normalizer identity, found %s: its rules are not supported", where.c_str(),
             name.c_str());
    for (auto [set, rule] : {std::pair{remove_spaces, "remove_extra_whitespaces"},
                             {!escape_spaces, "escape_whitespaces = false"},
                             {suffix, "treat_whitespace_as_suffix"}})
        if (set) fail("%s: the rule %s is not supported", where.c_str(), rule);

    bos = bos_id < pieces.size() ? pieces[bos_id].text : "";
    eos = eos_id < pieces.size() ? pieces[eos_id].text : "";

    Json vocab = Json::make_object(), added = Json::make_array(), unk;
    std::unordered_map<std::string_view, int32_t> id_of;
    for (size_t id = 0; id < pieces.size(); id++) {
        const Piece& p = pieces[id];
        auto [same, is_new] = id_of.emplace(p.text, (int32_t)id);
        if (!is_new) fail("%s: the piece %s has two ids, %d and %zu", where.c_str(), p.text.c_str(), same->second, id);
        vocab.o.emplace_back(p.text, (int)id);
        if (p.type == 2) unk = p.text;
        if (p.type < 2 || p.type > 4) continue;
        Json token = Json().set("id", (int)id).set("content", p.text).set("single_word", false).set("lstrip", false);
        added.a.push_back(token.set("rstrip", false).set("normalized", false).set("special", p.type != 4));
    }
    // A piece can be made in several ways: every pair of pieces that gives it, in the order of its score
    struct Merge {
        float score;
        size_t left_bytes, left_chars, chars, id;
    };
    std::vector<Merge> found;
    for (size_t id = 0; id < pieces.size(); id++) {
        const std::string& t = pieces[id].text;
        if (pieces[id].type != 1 || t.size() > 1000) continue;
        size_t chars = 0;
        for (char c : t) chars += (c & 0xC0) != 0x80;
        for (size_t i = 1, n = 1; i < t.size(); i++) {
            if ((t[i] & 0xC0) == 0x80) continue;
            if (id_of.count(std::string_view(t).substr(0, i)) && id_of.count(std::string_view(t).substr(i)))
                found.push_back({pieces[id].score, i, n, chars, id});
            n++;
        }
    }
    std::stable_sort(found.begin(), found.end(), [](const Merge& a, const Merge& b) {
        if (a.score != b.score) return a.score > b.score;
        return a.left_chars != b.left_chars ? a.left_chars > b.left_chars : a.chars > b.chars;
    });
    Json merges = Json::make_array();
    for (const Merge& m : found) {
        Json pair = Json::make_array();
        pair.a = {pieces[m.id].text.substr(0, m.left_bytes), pieces[m.id].text.substr(m.left_bytes)};
        merges.a.push_back(pair);
    }

    auto rule = [](const char* type) { return Json().set("type", type); };
    auto replace = [&](const char* from, const char* to) {
        return rule("Replace").set("pattern", Json().set("String", from)).set("content", to);
    };
    Json model = rule("BPE"), all, normalizer, list = Json::make_array(), decoders = Json::make_array();
    model.set("dropout", Json()).set("unk_token", unk).set("continuing_subword_prefix", Json());
    model.set("end_of_word_suffix", Json()).set("fuse_unk", true).set("byte_fallback", byte_fallback);
    model.set("ignore_merges", false).set("vocab", vocab).set("merges", merges);
    if (dummy_prefix && !first_only) list.a.push_back(rule("Prepend").set("prepend", "\u2581"));
    list.a.push_back(replace(" ", "\u2581"));
    decoders.a = {replace("\u2581", " "), rule("ByteFallback"), rule("Fuse")};
    if (dummy_prefix) decoders.a.push_back(rule("Strip").set("content", " ").set("start", 1).set("stop", 0));
    all.set("version", "1.0").set("truncation", Json()).set("padding", Json()).set("added_tokens", added);
    all.set("normalizer", first_only ? Json() : rule("Sequence").set("normalizers", list));
    all.set("pre_tokenizer", first_only ? rule("Metaspace")
                                              .set("replacement", "\u2581")
                                              .set("prepend_scheme", dummy_prefix ? "first" : "never")
                                              .set("split", false)
                                        : Json());
    all.set("post_processor", Json()).set("decoder", rule("Sequence").set("decoders", decoders));
    return all.set("model", model);
}
