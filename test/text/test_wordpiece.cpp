// WordPiece: the rules one by one, learning, directories, and what it needs of common/base (JSON, UTF-8, files).
// Whether the ids equal transformers' is checked in test/hf/test_tokenizer.py.
#include <doctest/doctest.h>
#include <unistd.h>

#include <random>

#include "common/text/tokenizer.h"
#include "data/learn.h"
#include "test/temp.h"

namespace {

Tokenizer make(std::vector<std::string> pieces, bool lower_case = true) {
    Tokenizer w(Tokenizer::WORDPIECE, lower_case);
    w.tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    w.tokens.insert(w.tokens.end(), pieces.begin(), pieces.end());
    w.build("test");
    return w;
}

// the words of a text, joined by |
std::string words(const std::string& text, bool lower_case = true) {
    Tokenizer w = make({}, lower_case);
    std::string out;
    w.for_each_word(
        text, [&](const char* p, size_t n) { out += std::string(p, n) + "|"; },
        [&](int32_t id) { out += w.tokens[id] + "|"; });
    return out;
}

// the pieces of a text, joined by spaces
std::string pieces(const Tokenizer& w, const std::string& text) {
    std::string out;
    for (int32_t id : w.encode(text)) out += (out.empty() ? "" : " ") + w.tokens[id];
    return out;
}

// what an error says, or "no error"
template <class F> std::string error_of(F f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}
}  // namespace

TEST_CASE("words: white space, punctuation, controls, case") {
    CHECK(words("") == "");
    CHECK(words(" \t\r\n ") == "");
    CHECK(words("Hello,  World!") == "hello|,|world|!|");
    CHECK(words("Hello", false) == "Hello|");
    CHECK(words("a-b_c$d~e") == "a|-|b|_|c|$|d|~|e|");
    CHECK(words(std::string("a\0b\x01"
                            "c\x7f"
                            "d",
              7)) == "abcd|");                                               // controls vanish
    CHECK(words("a\u200db\ufeff c\u00a0d\u3000e\u2028f") == "ab|c|d|e|f|");  // Cf vanishes, all white space separates
    CHECK(words("a\vb\fc") == "abc|");  // these are controls to BERT, not white space
    CHECK(words("\u00bfqu\u00e9?\u2014\u3002") == "\u00bf|que|?|\u2014|\u3002|");  // Unicode punctuation
    CHECK(words("\ufffd") == "");
}

TEST_CASE("words: accents, lower case, CJK") {
    CHECK(words("\u00c9t\u00c9 \u0130I\u0131 \u1e9e \u00df") == "ete|ii\u0131|\u00df|\u00df|");
    CHECK(words("\u00c9t\u00e9", false) == "\u00c9t\u00e9|");     // cased keeps accents
    CHECK(words("\u03a3\u0391\u03a3") == "\u03c3\u03b1\u03c3|");  // no special final sigma
    CHECK(words("e\u0301\u0323x") == "ex|");
    CHECK(words("\u4e2d\u6587ab\u3400") == "\u4e2d|\u6587|ab|\u3400|");
    CHECK(words("\u30ab\u30bf\u304b") == "\u30ab\u30bf\u304b|");  // kana are words
    CHECK(words("\uac01") == "\u1100\u1161\u11a8|");              // NFD takes Hangul apart
    CHECK(words("\uf900x") == "\u8c48|x|");
    CHECK(words("\u1fefa") == "`|a|");  // becomes punctuation by NFD
    CHECK(words("\U0001f600a") == "\U0001f600a|");
}

TEST_CASE("words: canonical order of marks that are kept") {
    std::vector<int32_t> text = {
        'a', 0x302e, 0x1d165, 0x5b0, 'b', 0x323, 0x301, 0x302};  // classes 224 216 10, then 220 230 230
    reorder_combining(text);
    CHECK(text == std::vector<int32_t>{'a', 0x5b0, 0x1d165, 0x302e, 'b', 0x323, 0x301, 0x302});
}

TEST_CASE("words: special tokens in the text") {
    CHECK(words("a[MASK]b [CLS][SEP]") == "a|[MASK]|b|[CLS]|[SEP]|");
    CHECK(words("[mask] [MASK [ MASK] [[PAD]]") == "[|mask|]|[|mask|[|mask|]|[|[PAD]|]|");
    CHECK(words("\u00c9[UNK]\u0301") == "e|[UNK]|");
}

TEST_CASE("words: bytes that are not UTF-8 are dropped and counted") {
    Tokenizer w = make({"ab"});
    std::vector<int32_t> ids;
    CHECK(w.encode("a\xff"
                   "b \xc3",
              ids) == 2);
    CHECK(ids == std::vector<int32_t>{5});
    CHECK(w.encode("\xed\xa0\x80", ids) == 3);      // a surrogate
    CHECK(w.encode("\xc0\x80", ids) == 2);          // overlong
    CHECK(w.encode("\xf4\x90\x80\x80", ids) == 4);  // above U+10FFFF
    CHECK(ids.size() == 1);
    CHECK(invalid_utf8("ab\u00e9\xff") == 4);
    CHECK(invalid_utf8("ab\u00e9") == std::string::npos);
    CHECK(invalid_utf8("\xe4\xb8") == 0);
}

TEST_CASE("encode: longest match from the left") {
    Tokenizer w = make({"un", "##aff", "##able", "##a", "##f", "u", "##n", "a", "##ffab", ",", "\u00e9", "##\u00e9"});
    CHECK(pieces(w, "unaffable") == "un ##aff ##able");
    CHECK(pieces(w, "Un, a") == "un , a");
    CHECK(pieces(w, "unb") == "[UNK]");  // no way on: all of the word is unknown, not its end only
    CHECK(pieces(w, "unb un") == "[UNK] un");
    CHECK(pieces(w, "affable") == "[UNK]");  // greedy: a ##f ##f ##able would do, but ##ffab is longer
    CHECK(pieces(w, "b") == "[UNK]");
    CHECK(pieces(w, "##a") == "[UNK] [UNK] a");  // '#' is punctuation
    CHECK(pieces(make({"\u00e9", "##\u00e9"}, false), "\u00e9\u00e9") == "\u00e9 ##\u00e9");
}

TEST_CASE("encode: a word of more than 100 code points is [UNK]") {
    Tokenizer w = make({"a", "##a", "\u4e00", "\u0436", "##\u0436"});
    CHECK(w.encode(std::string(100, 'a')).size() == 100);
    CHECK(w.encode(std::string(101, 'a')) == std::vector<int32_t>{w.unk});
    CHECK(w.encode(std::string(100000, 'a')) == std::vector<int32_t>{w.unk});
    std::string zh;
    for (int i = 0; i < 100; i++) zh += "\u0436";
    CHECK(w.encode(zh).size() == 100);
    CHECK(w.encode(zh + "\u0436") == std::vector<int32_t>{w.unk});
}

TEST_CASE("decode") {
    Tokenizer w = make({"un", "##aff", "##able", ",", "!", "'", "##", "it"});
    auto decoded = [&](const std::vector<int32_t>& ids) { return w.decode(ids); };
    CHECK(decoded({}) == "");
    CHECK(decoded({5, 6, 7, 8, 5, 9}) == "unaffable, un!");
    CHECK(decoded({6, 7}) == "##affable");
    CHECK(decoded({2, 5, 4, 3}) == "[CLS] un [MASK] [SEP]");
    CHECK(has(error_of([&] { decoded({99}); }), "cannot decode id 99: the vocabulary has ids 0 to 12"));
    CHECK(has(error_of([&] { decoded({-1}); }), "cannot decode id -1"));
    CHECK(w.is_continuation(6));
    CHECK_FALSE(w.is_continuation(5));
    CHECK_FALSE(w.is_continuation(11));  // the token ## itself
}

TEST_CASE("learn: most frequent pair first, ties to the greater pair") {
    // ab 5 times, ac 5 times, ad 3 times: (a,##c) before (a,##b), then (a,##d)
    WordCounts counts = {{"ab", 5}, {"ac", 5}, {"ad", 3}, {"xyz", 4}};
    Tokenizer w = learn_wordpiece(counts, 32, true);
    std::vector<std::string> expected = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "x", "##b", "##c", "##d",
        "##y", "##z", "ac", "ab", "xy", "xyz", "ad"};
    CHECK(w.tokens == expected);
    CHECK(pieces(w, "XYZ ab acd") == "xyz ab ac ##d");
}

TEST_CASE("learn: repeated pieces overlap; pairs seen once are not merged; rare characters drop their words") {
    Tokenizer w = learn_wordpiece({{"aaaa", 3}, {"bc", 1}}, 32, true);
    // (##a,##a) counts twice a word, (a,##a) once
    CHECK(w.tokens[9] == "##aa");
    CHECK(std::count(w.tokens.begin(), w.tokens.end(), "bc") == 0);
    CHECK(std::count(w.tokens.begin(), w.tokens.end(), "aaaa") == 1);

    WordCounts many;  // an alphabet of at most (size - 5) / 2 characters
    for (int c = 0; c < 100; c++) {
        std::string word;
        append_utf8(word, 0x430 + c % 32 + (c / 32) * 0x400);
        many[word] = 1000 - c;
    }
    CHECK(learn_wordpiece(many, 64, true).size() == 5 + 29);
}

// The same by the book: count all pairs again for every merge
static std::vector<std::string> learn_slowly(const WordCounts& counts, std::vector<std::string> tokens, size_t size) {
    std::vector<std::pair<std::vector<std::string>, int64_t>> all;
    for (const auto& [word, n] : counts) {
        std::vector<std::string> p;
        for (char c : word) p.push_back((p.empty() ? "" : "##") + std::string(1, c));
        all.push_back({p, n});
    }
    while (tokens.size() < size) {
        std::unordered_map<std::string, std::pair<int64_t, std::pair<std::string, std::string>>> pairs;
        for (auto& [p, n] : all)
            for (size_t i = 0; i + 1 < p.size(); i++) {
                auto& entry = pairs[p[i] + " " + p[i + 1]];
                entry.first += n;
                entry.second = {p[i], p[i + 1]};
            }
        std::pair<int64_t, std::pair<std::string, std::string>> best = {1, {}};
        for (auto& [key, entry] : pairs) best = std::max(best, entry);
        if (best.first < 2) break;
        auto [a, b] = best.second;
        std::string ab = a + b.substr(2);
        if (std::find(tokens.begin(), tokens.end(), ab) == tokens.end()) tokens.push_back(ab);
        for (auto& [p, n] : all)
            for (size_t i = 0; i + 1 < p.size(); i++)
                if (p[i] == a && p[i + 1] == b) {
                    p[i] = ab;
                    p.erase(p.begin() + i + 1);
                }
    }
    return tokens;
}

TEST_CASE("learn: equals the slow definition on random words") {
    std::mt19937 rng(1);
    for (int round = 0; round < 20; round++) {
        WordCounts counts;
        for (int i = 0; i < 60; i++) {
            std::string word;
            for (int n = 1 + rng() % 9; n > 0; n--) word += "abc"[rng() % (round % 2 ? 3 : 2)];
            counts[word] += 1 + rng() % 4;
        }
        Tokenizer fast = learn_wordpiece(counts, 70, true);
        std::vector<std::string> alphabet;  // specials and single characters
        for (const std::string& t : fast.tokens)
            if (t[0] == '[' || t.size() == 1 || (t.size() == 3 && t[0] == '#')) alphabet.push_back(t);
        CHECK(fast.tokens == learn_slowly(counts, alphabet, 70));
    }
}

TEST_CASE("directories: what is saved is loaded; flags; fingerprint") {
    TempDir s;
    Tokenizer w = make({"h\u00e9", "##\u00e9", "\"", "\\", "he"}, false);
    w.save(s / "a");
    Tokenizer v = Tokenizer::load(s / "a");
    CHECK(v.tokens == w.tokens);
    CHECK(v.normalizer.steps[0].lower_case == false);
    CHECK(v.normalizer.steps[0].strip_accents == false);
    CHECK(v.fingerprint() == w.fingerprint());
    CHECK(pieces(v, "h\u00e9\u00e9") == "h\u00e9 ##\u00e9");

    remove((s / "a/vocab.txt").c_str());  // tokenizer.json alone is enough
    CHECK(Tokenizer::load(s / "a").fingerprint() == w.fingerprint());
    remove((s / "a/tokenizer_config.json").c_str());
    CHECK(Tokenizer::load(s / "a").fingerprint() == w.fingerprint());

    make_directories(s / "stock");  // vocab.txt alone is lower-case; lines may end in \r\n
    write_file_atomic(s / "stock/vocab.txt", "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\nhe");
    v = Tokenizer::load(s / "stock");
    CHECK(v.normalizer.steps[0].lower_case);
    CHECK(pieces(v, "H\u00c9") == "he");
    uint64_t before = v.fingerprint();
    write_file_atomic(s / "stock/tokenizer_config.json", "{\"do_lower_case\": true, \"strip_accents\": false}");
    v = Tokenizer::load(s / "stock");
    CHECK(v.fingerprint() != before);
    CHECK(pieces(v, "H\u00c9") == "[UNK]");
    v.save(s / "b");
    CHECK(Tokenizer::load(s / "b").fingerprint() == v.fingerprint());
    CHECK(make({"ab", "c"}).fingerprint() != make({"a", "bc"}).fingerprint());
}

TEST_CASE("directories: bad ones") {
    TempDir s;
    auto load = [&](const std::string& vocab, const std::string& config = "") {
        make_directories(s / "d");
        write_file_atomic(s / "d/vocab.txt", vocab);
        if (!config.empty()) write_file_atomic(s / "d/tokenizer_config.json", config);
        return error_of([&] { Tokenizer::load(s / "d"); });
    };
    const std::string good = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n";
    CHECK(load(good) == "no error");
    CHECK(has(load(good + "a\n"), "vocab.txt: line 7: the token a stands in line 6 already"));
    CHECK(has(load(good + "\nb\n"), "line 7: expected a token, found an empty line"));
    CHECK(has(load(good + "\xff\n"), "line 7: expected UTF-8"));
    CHECK(has(load("a\nb\n"), "expected the token [PAD], found none"));
    CHECK(has(load(""), "expected the token [PAD], found none"));
    CHECK(has(load(good, "{\"do_lower_case\": 1}"), "expected true or false for do_lower_case, found 1"));
    CHECK(has(load(good, "{\"do_lower_case\": tru}"), "tokenizer_config.json: line 1, column"));
    CHECK(has(error_of([&] { Tokenizer::load(s / "none"); }), "expected a tokenizer directory, found nothing"));
    CHECK(has(error_of([&] { Tokenizer::load(s / "d/vocab.txt"); }), "expected a tokenizer directory, found a file"));
    make_directories(s / "e");
    CHECK(has(error_of([&] { Tokenizer::load(s / "e"); }),
        "expected tokenizer.json, vocab.txt, or vocab.json and merges.txt, found none"));
    write_file_atomic(s / "e/tokenizer.json", "{\"model\": {\"type\": \"Unigram\", \"vocab\": {}}}");
    CHECK(has(error_of([&] { Tokenizer::load(s / "e"); }),
        "expected a model of type BPE or WordPiece with a vocab, found Unigram"));
    write_file_atomic(
        s / "e/tokenizer.json", "{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0, \"b\": 2}}}");
    CHECK(
        has(error_of([&] { Tokenizer::load(s / "e"); }), "expected the ids 0 to 1 once each, found 2 for the token b"));
}

// ---------------------------------------------------------------- rules of tokenizer.json
namespace {
const std::vector<std::string> vocabulary = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "b", "##b", "A",
    "e", "##e", "\u00e9", "!", "!!", "1", "##1", ".", "#", "##!"};

// A whole tokenizer.json of these tokens; `with` replaces or adds top-level keys, `model` those of the model
Json tokenizer_json(const std::string& with = "{}", const std::string& model = "{}") {
    Json all = parse_json(R"({"version": "1.0", "truncation": {"max_length": 4}, "padding": null, "added_tokens": [
        {"id": 4, "content": "[MASK]", "single_word": false, "lstrip": true, "rstrip": false, "normalized": false,
         "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [
                           {"type": "Replace", "pattern": {"String": "x"}, "content": "a"},
            {"type": "NFC"},
            {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
             "lowercase": false}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
            {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Digits", "individual_digits": true},
            {"type": "BertPreTokenizer"}]},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 1}}], "special_tokens": {
            "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens":
            ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {}}})",
        "tokenizer_json");
    Json m = *all.find("model"), vocab = Json::make_object();
    for (size_t id = 0; id < vocabulary.size(); id++) vocab.set(vocabulary[id], (int)id);
    m.set("vocab", vocab);
    for (const auto& [key, value] : parse_json(model, "model").o) m.set(key, value);
    all.set("model", m);
    for (const auto& [key, value] : parse_json(with, "with").o) all.set(key, value);
    return all;
}
// the pieces of a text by this tokenizer.json, or what the error says
std::string with_rules(const Json& all, const std::string& text, const std::string& config = "{}") {
    TempDir d;
    write_bytes(d / "tokenizer.json", dump_json(all));
    write_bytes(d / "tokenizer_config.json", config);
    std::string out;
    std::string error = error_of([&] { out = pieces(Tokenizer::load(d.path), text); });
    return error == "no error" ? out : error;
}
std::string normalized_by(const std::string& rule, const std::string& text) {
    return with_rules(
        tokenizer_json("{\"normalizer\": " + rule + ", \"pre_tokenizer\": {\"type\": \"WhitespaceSplit\"}}"), text);
}
std::string cut_by(const std::string& rule, const std::string& text) {
    return with_rules(tokenizer_json("{\"normalizer\": null, \"pre_tokenizer\": " + rule + "}"), text);
}
}  // namespace

TEST_CASE("rules: normalizers") {
    CHECK(with_rules(tokenizer_json(), "A x\u00e9 !!! 11 a.b [MASK]") == "a [UNK] ! ! ! 1 1 a . b [MASK]");
    CHECK(normalized_by("null", "A e\u0301 \u00e9 \u00c9") == "A [UNK] \u00e9 [UNK]");
    CHECK(normalized_by("{\"type\": \"Lowercase\"}", "A \u00c9") == "a \u00e9");
    CHECK(normalized_by("{\"type\": \"NFC\"}", "e\u0301") == "\u00e9");
    CHECK(normalized_by("{\"type\": \"NFD\"}", "\u00e9") == "[UNK]");
    CHECK(normalized_by("{\"type\": \"NFKC\"}", "\uff41\u2460 \ufb00") == "a ##1 [UNK]");
    CHECK(normalized_by("{\"type\": \"StripAccents\"}", "e\u0301\u0903\u20dd") == "e");  // Mn, Mc, Me
    CHECK(normalized_by("{\"type\": \"NFD\"}", "\u1112\u1161") == "[UNK]");
    CHECK(normalized_by("{\"type\": \"Replace\", \"pattern\": {\"String\": \"!a\"}, \"content\": \"!\"}", "!a!a!aa") ==
          "!! ##! ##a");
    CHECK(normalized_by("{\"type\": \"BertNormalizer\", \"clean_text\": false, \"handle_chinese_chars\": true, "
                        "\"strip_accents\": true, \"lowercase\": false}",
              "A\u00e9\x01 \u00e9") == "[UNK] e");
}

TEST_CASE("rules: pre-tokenizers") {
    CHECK(cut_by("{\"type\": \"BertPreTokenizer\"}", "a!! ab") == "a ! ! a ##b");
    CHECK(cut_by("{\"type\": \"Whitespace\"}", "a!! ab11") == "a !! a ##b ##1 ##1");
    CHECK(cut_by("{\"type\": \"WhitespaceSplit\"}", "a!! ##a ##!") == "a ##! ##! ##a ##!");
    CHECK(cut_by("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Whitespace\"}, {\"type\": \"Digits\", "
                 "\"individual_digits\": true}]}",
              "a11b") == "a 1 1 b");
    CHECK(
        cut_by("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Punctuation\", \"behavior\": \"Isolated\"}, "
               "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}]}]}",
            "a!!b 11") == "a ! ! b 1 ##1");
    CHECK(cut_by("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, {\"type\": \"Whitespace\"}]}",
              "a11b") == "a 1 ##1 b");
}

TEST_CASE("rules: the model") {
    auto model = [](const std::string& keys, const std::string& text) {
        return with_rules(tokenizer_json("{}", keys), text);
    };
    CHECK(
        has(model("{\"max_input_chars_per_word\": 3}", "a"), "model: max_input_chars_per_word: expected 100, found 3"));
    CHECK(
        has(model("{\"continuing_subword_prefix\": \"#\"}", "a"), "continuing_subword_prefix: expected \"##\", found"));
    CHECK(model("{\"unk_token\": \"b\"}", "z b") == "b b");
    const Json berts = parse_json(R"({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                                      "strip_accents": null, "lowercase": true})",
        "");
    Json fast = tokenizer_json(R"({"pre_tokenizer": {"type": "BertPreTokenizer"}})").set("normalizer", berts);
    CHECK(with_rules(fast, std::string(100, 'A')).size() == 1 + 99 * 4);
    CHECK(with_rules(fast, std::string(101, 'A')) == "[UNK]");
    CHECK(with_rules(fast, "A", "{\"do_lower_case\": false}") == "A");  // has the last word, as in transformers
    CHECK(with_rules(fast, "A", "{\"do_lower_case\": false, \"tokenizer_class\": \"PreTrainedTokenizerFast\"}") == "a");
}

TEST_CASE("rules: what is not known is refused by name") {
    const std::string normalizers[] = {R"({"type": "Nmt"})", R"({"type": "Prepend", "prepend": "a"})",
        R"({"type": "Precompiled"})", R"({"type": "Strip", "strip_left": true, "strip_right": true})",
        R"({"type": "NFC, NFD"})", R"({})", R"({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""})",
        R"({"type": "Replace", "pattern": {"String": ""}, "content": "a"})",
        R"({"type": "Replace", "pattern": {"String": "\n"}, "content": "a"})",
        R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "ByteLevel"}]})"};
    for (const std::string& rule : normalizers) CHECK(has(normalized_by(rule, "a"), "tokenizer.json: normalizer: "));
    std::string many;
    for (int i = 0; i < 33; i++) many += R"({"type": "Digits"}, )";
    const std::string cuts[] = {"null", R"({"type": "Metaspace"})", R"({"type": "ByteLevel"})", R"({"type": "Split"})",
        R"({"type": "Punctuation", "behavior": "Isolated"})",  // would make words of several lines
        R"({"type": "Sequence", "pretokenizers": []})",
        R"({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "Punctuation", "behavior":
            "MergedWithNext"}]})",
        R"({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "Punctuation", "behavior":
            "Contiguous"}]})",
        R"({"type": "Sequence", "pretokenizers": [)" + many + R"({"type": "Whitespace"}]})"};
    for (const std::string& rule : cuts) CHECK(has(cut_by(rule, "a"), "tokenizer.json: pre_tokenizer: "));

    auto with = [](const std::string& keys, const std::string& config = "{}") {
        return with_rules(tokenizer_json(keys), "a", config);
    };
    CHECK(with("{}") == "a");
    // what stands around texts: [CLS] A [SEP] and [CLS] A [SEP] B [SEP], and nothing else
    auto post = [&](const std::string& from, const std::string& to, const std::string& config = "{}") {
        std::string text = dump_json(*tokenizer_json().find("post_processor"));
        REQUIRE(text.find(from) != text.npos);
        return with("{\"post_processor\": " + text.replace(text.find(from), from.size(), to) + "}", config);
    };
    const std::string a = R"({"Sequence": {"id": "A", "type_id": 0}})",
                      s = R"({"SpecialToken": {"id": "[SEP]", "type_id": 0}})";
    const std::string c = R"({"SpecialToken": {"id": "[CLS]", "type_id": 0}})", pair = "\"pair\": [" + c + ", " + a;
    CHECK(post("A", "A") == "a");
    CHECK(post(pair + ", " + s +
                   R"(, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}])",
              "\"pair\": []") == "a");
    for (auto [from, to] : {std::pair{c + ", ", std::string()}, {", " + s, ""}, {", " + s, ", " + s + ", " + s},
             {c + ", " + a, a + ", " + c}, {s, c}, {pair, "\"pair\": [" + a},
             {s, R"({"SpecialToken": {"id": "[UNK]", "type_id": 0}})"},
             {"\"B\", \"type_id\": 1", "\"B\", \"type_id\": 0"}, {"\"ids\": [3]", "\"ids\": [5]"},
             {"\"ids\": [3]", "\"ids\": [3, 3]"}, {"\"ids\": [3]", "\"ids\": []"}})
        CHECK(has(post(from, to), "tokenizer.json: post_processor: expected {\"type\": \"TemplateProcessing\""));
    CHECK(has(with(R"({"post_processor": {"type": "RobertaProcessing"}})"), "post_processor: expected {"));
    CHECK(with(R"({"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}})") == "a");
    CHECK(with(R"({"post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]}})") == "a");
    CHECK(has(with(R"({"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 3]}})"),
        "post_processor: expected {"));
    CHECK(has(with(R"({"post_processor": {"type": "BertProcessing", "sep": ["a", 5], "cls": ["[CLS]", 2]}})",
                  R"({"sep_token": "[SEP]"})"),
        "post_processor: expected {"));
    for (const char* keys : {"{\"unk_token\": \"none\"}", "{\"unk_token\": 3}", "{\"type\": \"Unigram\"}"})
        CHECK(has(with_rules(tokenizer_json("{}", keys), "a"), "tokenizer.json: expected "));
    for (const char* config : {R"({"do_basic_tokenize": false})", R"({"never_split": ["a"]})",
             R"({"split_special_tokens": true})", R"({"strip_accents": "yes"})", R"({"unk_token": "b"})"})
        CHECK(has(with_rules(tokenizer_json(R"({"normalizer": {"type": "BertNormalizer"}})"), "a", config),
            config[2] == 'u' ? "expected b, which is unk_token" : "tokenizer_config.json: "));
}

TEST_CASE("rules: an unknown key in any object is refused, or there is nothing to obey there") {
    int refused = 0;
    std::function<void(Json&, const Json&, const std::string&)> visit = [&](Json& here, const Json& all,
                                                                            const std::string& path) {
        for (size_t i = 0; i < here.a.size(); i++) visit(here.a[i], all, path);
        for (size_t i = 0; i < here.o.size(); i++) visit(here.o[i].second, all, path + "/" + here.o[i].first);
        if (here.kind != Json::object || path == "/model/vocab") return;  // there a key is a token
        here.o.emplace_back("glue", 7);
        const std::string result = with_rules(all, "a");
        here.o.pop_back();
        bool harmless = path.find("/truncation") == 0 || path.find("/decoder") == 0;
        if (harmless) {
            CHECK(result == "a");
        } else {
            if (path.find("/pattern") != path.npos) CHECK(has(result, "expected a pattern"));
            else if (path.find("/post_processor") == 0) CHECK(has(result, "post_processor: expected {"));
            else CHECK((has(result, "\"glue\": 7") && has(result, "is not known here")));
            refused++;
        }
    };
    Json all = tokenizer_json();
    visit(all, all, "");
    CHECK(refused > 25);
}

TEST_CASE("directories: added tokens, special tokens by other names, saved whole") {
    TempDir d;
    write_bytes(d / "vocab.txt", "\ufeff<pad>\n[UNK]\n<s>\n</s>\n<mask>\na\nb\n##b\ne\n");
    write_bytes(d / "added_tokens.json", R"({"[E1]": 9, "<s2>": 10})");
    write_bytes(d / "special_tokens_map.json",
        R"({"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "additional_special_tokens": ["<s2>"],
                    "mask_token": {"content": "<mask>", "lstrip": true, "normalized": true}})");
    write_bytes(d / "tokenizer_config.json",
        R"({"tokenizer_class": "MPNetTokenizer", "chat_template": "x", "model_max_length": 7})");
    Tokenizer w = Tokenizer::load(d.path);
    CHECK(w.size() == 11);
    CHECK(w.cls() == 2);
    CHECK(w.sep() == 3);
    CHECK(w.mask() == 4);
    CHECK(w.pad() == 0);
    CHECK(pieces(w, "A[e1]b <MASK><s2>ab[MASK]") == "a [E1] b <mask> <s2> a ##b [UNK] [UNK] [UNK]");
    w.save(d / "b", 100);
    CHECK(read_file(d / "b/vocab.txt") == read_text(d / "vocab.txt"));  // without the byte order mark
    CHECK(read_file(d / "b/special_tokens_map.json") == read_file(d / "special_tokens_map.json"));
    Json config = parse_json(read_file(d / "b/tokenizer_config.json"), "saved");
    CHECK(config.find("chat_template")->s == "x");
    CHECK(config.find("tokenizer_class")->s == "MPNetTokenizer");
    CHECK(config.find("model_max_length")->i == 7);
    Tokenizer v = Tokenizer::load(d / "b");
    CHECK(v.fingerprint() == w.fingerprint());
    CHECK(pieces(v, "A[e1]b <MASK><s2>ab") == "a [E1] b <mask> <s2> a ##b");
    v.save(d / "c", 100, true);
    CHECK(parse_json(read_file(d / "c/tokenizer_config.json"), "saved").find("model_max_length")->i == 100);
    CHECK(read_file(d / "c/tokenizer.json") == read_file(d / "b/tokenizer.json"));

    make_directories(d / "other");  // rules that transformers must not replace by those of BertTokenizer
    write_bytes(d / "other/tokenizer.json", dump_json(tokenizer_json()));
    write_bytes(d / "other/tokenizer_config.json", R"({"tokenizer_class": "BertTokenizer"})");
    Tokenizer::load(d / "other").save(d / "e");
    config = parse_json(read_file(d / "e/tokenizer_config.json"), "saved");
    CHECK(config.find("tokenizer_class")->s == "PreTrainedTokenizerFast");
    CHECK(config.find("do_lower_case") == nullptr);
    CHECK(read_file(d / "e/tokenizer.json") == read_file(d / "other/tokenizer.json"));

    write_bytes(d / "tokenizer_config.json", R"({"tokenizer_class": "BertJapaneseTokenizer"})");
    CHECK(
        has(error_of([&] { Tokenizer::load(d.path); }), "the rules of the tokenizer_class BertJapaneseTokenizer are"));
    write_bytes(d / "tokenizer_config.json", R"({"cls_token": "<none>"})");
    CHECK(has(error_of([&] { Tokenizer::load(d.path); }), "special_tokens_map.json: cls_token is <s>, in "));
    write_bytes(d / "b/vocab.txt", "<pad>\n[UNK]\n<s>\n</s>\n<mask>\na\nc\n##b\ne\n");
    CHECK(has(error_of([&] { Tokenizer::load(d / "b"); }), "b/vocab.txt: the token 6 is c, in "));
}

TEST_CASE("fingerprint: all that decides about ids") {
    auto of = [](const std::string& with, const std::string& model = "{}") {
        TempDir d;
        write_bytes(d / "tokenizer.json", dump_json(tokenizer_json(with, model)));
        return Tokenizer::load(d.path).fingerprint();
    };
    std::vector<uint64_t> all = {of("{}"), of("{\"normalizer\": null}"), of("{\"normalizer\": {\"type\": \"NFC\"}}"),
        of("{\"pre_tokenizer\": {\"type\": \"Whitespace\"}}"), of("{\"added_tokens\": []}"),
        of("{\"added_tokens\": [{\"id\": 4, \"content\": \"[MASK]\", \"special\": true}]}"),
        of("{\"added_tokens\": [{\"id\": 5, \"content\": \"a\", \"special\": true}]}"),
        of("{}", "{\"unk_token\": \"a\"}")};
    CHECK(of("{\"truncation\": null, \"decoder\": null}") == all[0]);
    std::sort(all.begin(), all.end());
    CHECK(std::unique(all.begin(), all.end()) == all.end());
}

// ---------------------------------------------------------------- JSON, UTF-8, files
TEST_CASE("JSON: values in and out") {
    const std::string text =
        "{\"b\": [1, -2.5, 1e+300, true, null, \"\\u00e9\\n\\\"\"], \"a\": {}, \"n\": 18446744073709551615, \"m\": "
        "-9223372036854775808}";
    Json j = parse_json(text, "test");
    CHECK(j.o[0].first == "b");  // the order of the file
    CHECK(j.find("b")->a[0].i == 1);
    CHECK(j.find("b")->a[0].d == 1.0);
    CHECK(j.find("b")->a[5].s == "\u00e9\n\"");
    CHECK(j.find("none") == nullptr);
    CHECK(dump_json(j) ==
          "{\"b\": [1, -2.5, 1e+300, true, null, \"\u00e9\\n\\\"\"], \"a\": {}, \"n\": 18446744073709551615, \"m\": "
          "-9223372036854775808}");
    CHECK(dump_json(parse_json(dump_json(j, 2), "test")) == dump_json(j));
    CHECK(dump_json(Json(1.0)) == "1.0");
    CHECK(dump_json(Json(0.1)) == "0.1");
    CHECK(dump_json(Json(INFINITY)) == "null");
    CHECK(dump_json(Json("a\xff\x01")) == "\"a\ufffd\\u0001\"");
    CHECK(dump_json(Json::make_array(), 2) == "[]");
    Json k;
    k.set("x", 1).set("y", "z").set("x", 2);
    CHECK(dump_json(k) == "{\"x\": 2, \"y\": \"z\"}");
}

TEST_CASE("JSON: what is refused, and where it stands") {
    auto error = [](const std::string& text) { return error_of([&] { parse_json(text, "f.json"); }); };
    CHECK(has(error(""), "f.json: line 1, column 0: this is not JSON as expected"));
    CHECK(has(error("{\"a\": 1,\n \"a\": 2}"),
        "f.json: line 2, column 4: this is not JSON as expected: the key \"a\" appears twice"));
    CHECK(has(error("[1, 2"), "column 5"));
    CHECK(has(error("[1] x"), "f.json: line 1, column 5"));
    CHECK(has(error("{\"a\": NaN}"), "invalid literal"));
    CHECK(has(error("[1e999]"), "f.json: line 1"));
    CHECK(has(error("\"\xff\""), "ill-formed UTF-8"));
    CHECK(has(error("\"\\ud800\""), "surrogate"));
    CHECK(has(error("'a'"), "f.json"));
    CHECK(error(std::string(200, '[') + std::string(200, ']')) == "no error");
    CHECK(has(error(std::string(201, '[') + std::string(201, ']')), "nested deeper than 200"));
    CHECK(has(error(std::string(1000000, '[')), "nested deeper than 200"));
}

TEST_CASE("files: atomic writing, replacing directories") {
    TempDir s;
    write_file_atomic(s / "f", "one");
    write_file_atomic(s / "f", std::string("t\0o", 3));
    CHECK(read_file(s / "f") == std::string("t\0o", 3));
    CHECK(has(error_of([&] { write_file_atomic(s / "none/f", "x"); }), "No such file"));
    {
        FullDisk full(2);
        CHECK(has(error_of([&] { write_file_atomic(s / "f", "full"); }), "File too large"));
    }
    CHECK(entries_of(s.path) == std::vector<std::string>{"f"});  // nothing is left beside it
    make_directories(s / "a/b/c");
    make_directories(s / "a/b/c");
    CHECK(is_directory(s / "a/b/c"));
    CHECK(has(error_of([&] { make_directories(s / "f/x"); }), "cannot make the directory"));
    make_directories(s / "new/sub");
    write_file_atomic(s / "new/sub/x", "new");
    replace_directory(s / "fresh", s / "new");
    CHECK(read_file(s / "fresh/sub/x") == "new");
    write_file_atomic(s / "a/b/old", "old");
    replace_directory(s / "a", s / "fresh");
    CHECK(read_file(s / "a/sub/x") == "new");
    CHECK_FALSE(exists(s / "fresh"));
    CHECK_FALSE(exists(s / "a/b"));
    CHECK(has(error_of([&] { replace_directory(s / "f", s / "a"); }), "expected a directory, found a file"));
}

// ---------------------------------------------------------------- fuzz: no crash, and errors are Error
static void mutate(std::string& text, std::mt19937& rng) {
    for (int n = 1 + rng() % 4; n > 0 && !text.empty(); n--) {
        size_t at = rng() % text.size();
        switch (rng() % 4) {
            case 0: text[at] = rng(); break;
            case 1: text.erase(at, 1 + rng() % 8); break;
            case 2: text.insert(at, text.substr(rng() % text.size(), rng() % 16)); break;
            case 3: text.resize(at); break;
        }
    }
}

TEST_CASE("fuzz: JSON") {
    std::mt19937 rng(2);
    const std::string valid =
        "{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"[PAD]\": 0, \"\\u00e9\": 1}}, \"x\": [1, 2.5e-3, true, "
        "null, -7, \"a\\tb\"]}";
    int accepted = 0;
    for (int i = 0; i < 20000; i++) {
        std::string text = valid;
        mutate(text, rng);
        try {
            std::string once = dump_json(parse_json(text, "fuzz"));
            CHECK(dump_json(parse_json(once, "fuzz")) == once);  // what we write we read back
            accepted++;
        } catch (const Error&) {}
    }
    CHECK(accepted > 100);
}

TEST_CASE("fuzz: text") {
    std::mt19937 rng(3);
    Tokenizer lower = make({"a", "##a", "b", "##b", "\u4e2d", "\u00e9", ",", "["}),
              cased = make({"a", "##A", "\u00e9"}, false);
    const std::string seed = "aAb \u00c9a\u0301\u4e2d[MASK]\u200d\U0001f600, [SEP]\u0130\u03a3\u1fef\uac01 ##a b\t\r\n";
    for (int i = 0; i < 20000; i++) {
        std::string text = seed + seed.substr(rng() % seed.size());
        mutate(text, rng);
        for (const Tokenizer* w : {&lower, &cased}) {
            std::vector<int32_t> ids = w->encode(text);
            std::vector<int32_t> apart;  // cutting at white space changes nothing
            size_t cut = text.find(' ');
            w->encode(text.substr(0, cut), apart);
            if (cut != text.npos) w->encode(text.substr(cut), apart);
            CHECK(ids == apart);
            CHECK(invalid_utf8(w->decode(ids)) == std::string::npos);
        }
    }
}

TEST_CASE("fuzz: tokenizer directories") {
    TempDir s;
    std::mt19937 rng(4);
    make({"a", "##a", "b", "\u00e9"}).save(s.path);
    for (const char* name : {"/vocab.txt", "/tokenizer_config.json", "/tokenizer.json"}) {
        const std::string valid = read_file(s.path + std::string(name));
        for (int i = 0; i < 400; i++) {
            std::string bytes = valid;
            mutate(bytes, rng);
            write_bytes(s.path + std::string(name), bytes);
            try {
                Tokenizer::load(s.path).encode("a \u00e9 aa");
            } catch (const Error&) {}
        }
        remove((s.path + std::string(name)).c_str());
    }
}
