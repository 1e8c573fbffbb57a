// Added tokens, how they are cut out of a text, and every file that can name special tokens. That the cuts are those of
// Hugging Face's tokenizers is checked in test/hf/test_tokenizer.py.
#include <doctest/doctest.h>

#include "common/text/special_tokens.h"
#include "test/temp.h"

namespace {

template <class F> std::string error_of(F f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

// Flags as letters: s special, n normalized, l lstrip, r rstrip, w single_word. Ids count from 0.
AddedTokens make(const std::vector<std::pair<std::string, std::string>>& list) {
    AddedTokens added;
    for (const auto& [content, flags] : list) {
        AddedToken t;
        auto is = [&, f = flags](char c) { return f.find(c) != f.npos; };
        t.content = content;
        t.id = (int32_t)added.tokens.size();
        t.special = is('s');
        t.normalized = is('n');
        t.lstrip = is('l');
        t.rstrip = is('r');
        t.single_word = is('w');
        added.tokens.push_back(t);
    }
    return added;
}
std::string lower_ascii(std::string_view text) {
    std::string s(text);
    for (char& c : s) c = (char)tolower(c);
    return s;
}
// "(text)" and ids, in order
std::string cut(AddedTokens added, const std::string& text, bool specials_are_text = false) {
    added.build(lower_ascii);
    std::string out;
    added.split(
        text, specials_are_text,
        [](std::string_view s, std::string& room) -> std::string_view { return room = lower_ascii(s); },
        [&](std::string_view s) { out += "(" + std::string(s) + ")"; }, [&](int32_t id) { out += std::to_string(id); });
    return out;
}
}  // namespace

TEST_CASE("added tokens: the leftmost, then the longest") {
    AddedTokens a = make({{"<a>", "s"}, {"<a><b>", "s"}, {"b><", "s"}, {"<b>", "s"}});
    CHECK(cut(a, "") == "");
    CHECK(cut(a, "x") == "(x)");
    CHECK(cut(a, "x<a>y") == "(x)0(y)");
    CHECK(cut(a, "<a><b>") == "1");
    CHECK(cut(a, "<a><a><b><b>") == "013");
    CHECK(cut(a, "b><b>") == "2(b>)");  // not <b>, which begins later
    CHECK(cut(a, "<a") == "(<a)");
    CHECK(cut(make({}), "<a>") == "(<a>)");
    CHECK(cut(make({{"\u4e2d", ""}, {"[M]", "s"}}), "\u4e2d\u4e2d[M]") == "001");
}

TEST_CASE("added tokens: first in the text as it stands, then in what the normalizer makes of the rest") {
    AddedTokens a = make({{"Ab", ""}, {"Cd", "n"}, {"cd", ""}});
    CHECK(cut(a, "Ab ab CD Cd cD") == "0( ab )1( )1( )1");
    CHECK(cut(a, "cd") == "2");                                 // the first pass goes first
    CHECK(cut(make({{"X", "n"}, {"x", "ns"}}), "xX") == "00");  // the same after normalisation: the first
    CHECK(cut(make({{"ab", "n"}, {"b", ""}}), "ab") == "(a)1");
    CHECK_FALSE(make({{"ab", "s"}}).any_normalized);
    AddedTokens n = make({{"ab", "n"}});
    n.build(lower_ascii);
    CHECK(n.any_normalized);
    n.tokens[0].where = "f";
    CHECK(error_of([&] { n.build([](std::string_view) { return std::string(); }); }) ==
          "f: the added token \"ab\" is empty after normalisation");
}

TEST_CASE("added tokens: white space and words beside them") {
    CHECK(cut(make({{"M", "l"}}), "a \t\u00a0M M b") == "(a)00( b)");
    CHECK(cut(make({{"M", "r"}}), "a M \u3000\nM b") == "(a )00(b)");
    CHECK(cut(make({{"M", "lr"}}), " M M ") == "00");
    CHECK(cut(make({{"M", "l"}}), "\xffM") == "(\xff)0");  // no UTF-8, no white space
    AddedTokens w = make({{"M", "w"}});
    CHECK(cut(w, "M") == "0");
    CHECK(cut(w, "aM Mb M_ 1M \u00e9M") == "(am mb m_ 1m \u00e9m)");
    CHECK(cut(w, "-M-M.\u2014M") == "(-)0(-)0(.\u2014)0");
    CHECK(cut(w, "\u0301M") == "(\u0301m)");  // a mark is part of a word
    CHECK(cut(w, "\u2460M") == "(\u2460)0");  // a circled digit is not
    // what was found and is text is passed over: no shorter token in it
    CHECK(cut(make({{"MM", "w"}, {"M", ""}}), "aMM") == "(amm)");
    // white space that the token before has taken is no token any more
    CHECK(cut(make({{"M", "r"}, {" ", "l"}}), "M  x") == "0(x)");
}

TEST_CASE("added tokens: special ones stay text in what a user writes") {
    AddedTokens a = make({{"<s>", "s"}, {"<e>", ""}, {"</s>", "sn"}});
    CHECK(cut(a, "a<s>b<e></S>") == "(a)0(b)12");
    CHECK(cut(a, "a<s>b<e></S>", true) == "(a<s>b)1(</s>)");
}

TEST_CASE("added tokens: linear time") {
    std::string many(1 << 20, ' '), marks;
    for (int i = 0; i < 1 << 18; i++) marks += "< ";
    AddedTokens a = make({{"<x>", "lrsw"}, {"< <y>", "lrn"}});
    CHECK(cut(a, many + "<x>" + many) == "0");
    CHECK(cut(a, marks).size() == marks.size() + 2);
}

TEST_CASE("added tokens: ids") {
    auto number = [](AddedTokens a) {
        std::vector<std::string> tokens = {"a", "b"};
        a.number(
            2, [&](const std::string& t) { return t == "a"   ? 0
                                                  : t == "b" ? 1
                                                             : -1; },
            [&](const std::string& t) { tokens.push_back(t); });
        std::string s;
        for (const AddedToken& t : a.tokens) s += std::to_string(t.id) + tokens[t.id] + " ";
        return s;
    };
    AddedTokens a = make({{"x", ""}, {"b", ""}, {"y", ""}});
    for (AddedToken& t : a.tokens) t.id = -1;
    CHECK(number(a) == "2x 1b 3y ");
    a.tokens[0].id = 2;
    CHECK(number(a) == "2x 1b 3y ");
    a.tokens[0].id = 3;
    a.tokens[0].where = "f.json";
    CHECK(error_of([&] { number(a); }) == "f.json: the added token x has the id 3; expected 2, the first that is free");
    a.tokens[0].id = 2;
    a.tokens[1].id = 0;
    CHECK(has(error_of([&] { number(a); }), "the added token b has the id 0; expected 1, as in the vocabulary"));
}

// ---------------------------------------------------------------- the files
namespace {
struct Files {
    TempDir dir;
    Files& put(const std::string& name, const std::string& text) {
        write_bytes(dir / name, text);
        return *this;
    }
    SpecialTokens read() const { return SpecialTokens::read(TokenizerFiles::read(dir.path)); }
    // "content id flags" of all, in their order
    std::string list() const {
        std::string s;
        for (const AddedToken& t : read().added.tokens) {
            s += t.content + " " + std::to_string(t.id) + " " + (t.special ? "s" : "") + (t.normalized ? "n" : "");
            s += std::string(t.lstrip ? "l" : "") + (t.rstrip ? "r" : "") + (t.single_word ? "w" : "") + ", ";
        }
        return s;
    }
    std::string error() const {
        return error_of([&] { read(); });
    }
    // Ids that end a text, of a tokenizer with 9 tokens, of which <e> is 7
    std::string stops() const {
        TokenizerFiles f = TokenizerFiles::read(dir.path);
        SpecialTokens s = SpecialTokens::read(f);
        s.added.number(9, [](const std::string& t) { return t == "<e>" ? 7 : 0; }, [](const std::string&) {});
        std::string out;
        std::string error = error_of([&] { s.find_stops(f, 9); });
        for (int32_t id : s.stops) out += std::to_string(id) + " ";
        return error == "no error" ? out : error;
    }
};
const std::string one = R"({"id": 3, "content": "<x>", "single_word": false, "lstrip": true, "rstrip": false,
                          "normalized": false, "special": true})";
}  // namespace

TEST_CASE("special tokens: every place that names them") {
    CHECK(Files().list() == "");
    CHECK(Files().put("tokenizer.json", "{\"added_tokens\": [" + one + "]}").list() == "<x> 3 sl, ");
    CHECK(Files().put("tokenizer.json", "{\"added_tokens\": null}").list() == "");
    CHECK(Files().put("added_tokens.json", R"({"<b>": 5, "<a>": 4})").list() == "<a> 4 n, <b> 5 n, ");
    Files f;
    f.put("tokenizer_config.json",
        R"({"added_tokens_decoder": {"12": {"content": "<z>", "special": true},
                                              "3": {"content": "<y>", "rstrip": true}},
              "eos_token": "<e>", "bos_token": {"__type": "AddedToken", "content": "<b>", "lstrip": true},
              "pad_token": null, "add_bos_token": true, "image_token": "<i>", "additional_special_tokens": ["<p>"],
              "extra_special_tokens": {"video": "<v>"}})");
    CHECK(f.list() == "<y> 3 nr, <z> 12 s, <e> -1 s, <b> -1 sl, <i> -1 s, <p> -1 s, <v> -1 s, ");
    CHECK(f.read().roles[EOS] == "<e>");
    CHECK(f.read().roles[BOS] == "<b>");
    CHECK(f.read().roles[PAD] == "");
    f.put("special_tokens_map.json", R"({"eos_token": {"content": "<e>"}, "sep_token": "<q>"})");
    f.put("added_tokens.json", R"({"<p>": 14, "<n>": 13})");
    CHECK(f.list() == "<y> 3 nr, <z> 12 s, <n> 13 n, <p> 14 s, <e> -1 s, <b> -1 sl, <i> -1 s, <v> -1 s, <q> -1 s, ");
    SpecialTokens s = f.read();
    s.set_default(EOS, "<none>");
    s.set_default(MASK, "<m>");
    CHECK(s.roles[MASK] == "<m>");
    CHECK(s.added.find("<m>")->special);
    CHECK(s.added.find("<none>") == nullptr);
}

TEST_CASE("special tokens: contradictions are refused, with both files") {
    Files f;
    f.put("tokenizer.json", "{\"added_tokens\": [" + one + "]}");
    f.put("added_tokens.json", R"({"<x>": 3})");
    CHECK(f.error() == "no error");  // it says nothing about flags
    f.put("added_tokens.json", R"({"<x>": 4})");
    CHECK(has(f.error(), "added_tokens.json: the token <x> has the id 4, in "));
    CHECK(has(f.error(), "/tokenizer.json it is 3"));
    f.put("added_tokens.json", R"({"<y>": 3})");
    CHECK(has(f.error(), "added_tokens.json: the id 3 is that of <y>, in "));
    CHECK(has(f.error(), "/tokenizer.json that of <x>"));
    f.put("added_tokens.json", "{}");
    auto decoder = [&](const std::string& token) {
        return f.put("tokenizer_config.json", "{\"added_tokens_decoder\": {\"3\": " + token + "}}").error();
    };
    CHECK(decoder(one) == "no error");
    CHECK(has(decoder(R"({"content": "<x>", "special": true})"), "the token <x> has other flags"));
    CHECK(has(decoder(R"({"content": "<x>", "special": true})"), "/tokenizer.json"));
    CHECK(has(decoder(R"({"content": "<y>"})"), "the id 3 is that of <y>"));
    f.put("tokenizer_config.json", R"({"eos_token": "<x>"})");
    f.put("special_tokens_map.json", R"({"eos_token": "<y>"})");
    CHECK(has(f.error(), "special_tokens_map.json: eos_token is <y>, in "));
    CHECK(has(f.error(), "tokenizer_config.json it is <x>"));
}

TEST_CASE("special tokens: bad values are refused by name") {
    auto error = [](const char* name, const std::string& text) { return Files().put(name, text).error(); };
    auto added = [&](const std::string& token) {
        return error("tokenizer.json", "{\"added_tokens\": [" + token + "]}");
    };
    CHECK(has(error("tokenizer.json", "[]"), "tokenizer.json: expected a JSON object, found []"));
    CHECK(has(error("tokenizer.json", "{\"added_tokens\": {}}"), "expected a list for added_tokens, found {}"));
    CHECK(has(added("{\"content\": \"a\"}"), "expected an id in the added token"));
    CHECK(has(added("{\"id\": 1.5, \"content\": \"a\"}"), "expected an integer for id, found 1.5"));
    CHECK(has(added("{\"id\": -1, \"content\": \"a\"}"), "expected a token with a content and an id"));
    CHECK(has(added("{\"id\": 4294967297, \"content\": \"a\"}"), "expected a token with a content and an id"));
    CHECK(has(added("{\"id\": 1, \"content\": \"\"}"), "expected a token with a content and an id"));
    CHECK(has(added("{\"id\": 1, \"content\": \"a\", \"lstrip\": 1}"), "expected true or false for lstrip, found 1"));
    CHECK(has(added("{\"id\": 1, \"content\": \"a\", \"glue\": 1}"), "the key \"glue\": 1 is not known here"));
    CHECK(has(added("{\"id\": 1, \"content\": \"a\\nb\"}"), "expected a token on one line, found"));
    CHECK(added("{\"id\": 1, \"content\": \"a\\n\\n\"}") == "no error");
    CHECK(has(added("7"), "expected an id in the added token 7"));
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
        CHECK(has(error(name, "{\"eos_token\": 7}"), std::string(name) + ": eos_token: expected a token"));
        CHECK(has(error(name, "{\"eos_token\": false}"), ": eos_token: expected a token"));
        CHECK(has(error(name, "{\"eos_token\": {\"content\": \"a\", \"glue\": 1}}"), "the key \"glue\""));
        CHECK(has(error(name, "{\"additional_special_tokens\": [\"\"]}"), ": additional_special_tokens: expected a"));
    }
    for (const char* id : {"x", "", "3x", "-3", "99999999999"})
        CHECK(has(
            error("tokenizer_config.json", format("{\"added_tokens_decoder\": {\"%s\": {\"content\": \"a\"}}}", id)),
            "expected a token with a content and an id"));
    CHECK(has(error("added_tokens.json", "{\"a\": \"1\"}"), "added_tokens.json: expected a token with a content and"));
}

TEST_CASE("special tokens: what ends a generated text") {
    Files f;
    CHECK(f.stops() == "");
    f.put("special_tokens_map.json", R"({"eos_token": "<e>"})");
    CHECK(f.stops() == "7 ");
    f.put("config.json", R"({"eos_token_id": null})");
    CHECK(f.stops() == "7 ");
    f.put("config.json", R"({"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": -1})");
    CHECK(f.stops() == "2 ");
    f.put("generation_config.json", R"({"eos_token_id": [4, 3]})");
    CHECK(f.stops() == "4 3 ");
    f.put("generation_config.json", R"({"eos_token_id": 9})");
    CHECK(has(
        f.stops(), "generation_config.json: expected ids from 0 to 8, as the tokenizer has them, for eos_token_id"));
    f.put("generation_config.json", R"({"eos_token_id": [4, "3"]})");
    CHECK(has(f.stops(), "for eos_token_id, found \"3\""));
    f.put("generation_config.json", R"({"bos_token_id": 1.5})");
    CHECK(has(f.stops(), "for bos_token_id, found 1.5"));
}

TEST_CASE("tokenizer files: saved as they were") {
    Files f;
    for (const char* name : TokenizerFiles::names)
        f.put(name,
            std::string(name).find(".json") == std::string::npos ? format("bytes of\r\n%s", name) : "{ \"a\":1}\n");
    f.put("tokenizer_config.json", R"({"model_max_length": 100, "chat_template": "{{ x }}", "z": [1e30, "\u00e9"]})");
    f.put("model.safetensors", "");
    TokenizerFiles read = TokenizerFiles::read(f.dir.path);
    auto saved = [&](const char* name) { return read_file(f.dir / "out/" + name); };
    read.save(f.dir / "out", read.config, 200);
    for (const char* name : TokenizerFiles::names)
        if (name != std::string("tokenizer_config.json")) CHECK(saved(name) == read_file(f.dir / name));
    CHECK_FALSE(exists(f.dir / "out/model.safetensors"));
    auto config = [&] { return dump_json(parse_json(saved("tokenizer_config.json"), "saved")); };
    CHECK(config() == dump_json(read.config));
    read.save(f.dir / "out", read.config, 64);
    CHECK(has(config(), "\"model_max_length\": 64, \"chat_template\": \"{{ x }}\""));
    CHECK(
        has(error_of([&] { TokenizerFiles::read(f.dir / "none"); }), "expected a tokenizer directory, found nothing"));
}
