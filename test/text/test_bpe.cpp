// Byte-level BPE: the rules one by one, encoding and learning beside their slow definitions, directories good and bad.
// Whether the ids equal transformers' is checked in test/hf/test_bpe.py.
#include <doctest/doctest.h>
#include <unistd.h>

#include <random>
#include <thread>

#include "common/text/tokenizer.h"
#include "data/learn.h"
#include "test/temp.h"

namespace {

typedef std::vector<std::pair<std::string, std::string>> Pairs;

std::unordered_map<std::string, int32_t> ids_of_tokens(const Tokenizer& b) {
    std::unordered_map<std::string, int32_t> id_of;
    for (size_t id = 0; id < b.tokens.size(); id++) id_of.emplace(b.tokens[id], id);
    return id_of;
}
// The bytes, what the pairs make, <|endoftext|>
Tokenizer make(const Pairs& pairs) {
    Tokenizer b;
    for (int32_t byte : byte_names.byte)
        if (byte >= 0) b.tokens.emplace_back(1, (char)byte);
    for (const auto& [left, right] : pairs) {
        auto id_of = ids_of_tokens(b);
        b.merges.push_back({id_of.at(left), id_of.at(right)});
        if (!id_of.count(left + right)) b.tokens.push_back(left + right);
    }
    b.tokens.push_back(Tokenizer::eot_name);
    b.build("test");
    return b;
}

// the words of a text, joined by |
std::string words(const Steps& steps, const std::string& text, Steps::Place place = Steps::FIRST) {
    std::string out;
    steps.split(text, place, [&](const char* w, size_t n) { out += std::string(w, n) + "|"; });
    return out;
}
std::string words(const std::string& text) { return words({{{Step::GPT2}}}, text); }

// the pieces of a text, joined by |
std::string pieces(const Tokenizer& b, const std::string& text) {
    std::string out;
    for (int32_t id : b.encode(text)) out += b.tokens[id] + "|";
    return out;
}

template <class F> std::string error_of(F f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

// The definition: of all pairs of neighbours that were learned merge the one that was learned first, the leftmost of
// them
std::vector<int32_t> encode_slowly(const Tokenizer& b, const std::string& word) {
    std::vector<int32_t> p;
    for (char c : word) p.push_back(b.byte_id[(uint8_t)c]);
    auto id_of = ids_of_tokens(b);
    for (;;) {
        size_t best = b.merges.size(), at = 0;
        for (size_t i = 0; i + 1 < p.size(); i++) {
            size_t rank = std::find(b.merges.begin(), b.merges.end(), std::make_pair(p[i], p[i + 1])) -
                          b.merges.begin();
            if (rank < best) {
                best = rank;
                at = i;
            }
        }
        if (best == b.merges.size()) return p;
        p[at] = id_of.at(b.tokens[p[at]] + b.tokens[p[at + 1]]);
        p.erase(p.begin() + at + 1);
    }
}

std::string random_bytes(std::mt19937& rng, size_t n) {
    std::string s(n, 0);
    for (char& c : s) c = (char)rng();
    return s;
}
}  // namespace

TEST_CASE("BPE words: letters, numbers, the rest, each with one space before it") {
    CHECK(words("") == "");
    CHECK(words("Hello World 12ab!?") == "Hello| World| 12|ab|!?|");
    CHECK(words("a  b") == "a| | b|");
    CHECK(words("a   b") == "a|  | b|");
    CHECK(words(" a") == " a|");
    CHECK(words("a_b-c") == "a|_|b|-|c|");
    CHECK(words("x=1.5%") == "x|=|1|.|5|%|");
    CHECK(words(" ...\"a") == " ...\"|a|");
    CHECK(words("\u00e9t\u00e9 \u4e2d\u6587 \u0661\u00b2\u2167") ==
          "\u00e9t\u00e9| \u4e2d\u6587| \u0661\u00b2\u2167|");  // L*; N* are digits, superscripts, Roman
    CHECK(words("e\u0301a") == "e|\u0301|a|");                  // a mark is no letter
    CHECK(words("1\u0661!") == "1\u0661|!|");                   // a digit of another script
    CHECK(words("a\U0001f600\u200db") == "a|\U0001f600\u200d|b|");
}

TEST_CASE("BPE words: contractions are case-sensitive, only after no space, and nowhere else") {
    CHECK(words("I'll we've it's don't I'm you're he'd") == "I|'ll| we|'ve| it|'s| don|'t| I|'m| you|'re| he|'d|");
    CHECK(words("IT'S I'LL") == "IT|'|S| I|'|LL|");
    CHECK(words("'sx 's") == "'s|x| '|s|");
    CHECK(words("''s") == "''|s|");  // a run of punctuation takes both
    CHECK(words("a'xs'") == "a|'|xs|'|");
    CHECK(words("'") == "'|");
    CHECK(words("'l") == "'|l|");
}

TEST_CASE("BPE words: white space leaves its last character to what follows") {
    CHECK(words("a\n\nb") == "a|\n|\n|b|");
    CHECK(words("a\n\n b") == "a|\n\n| b|");
    CHECK(words("a\t b") == "a|\t| b|");
    CHECK(words("a \tb") == "a| |\t|b|");  // a tab does not join a word
    CHECK(words("a\u00a0\u00a0b") == "a|\u00a0|\u00a0|b|");
    CHECK(words("a \u3000\n") == "a| \u3000\n|");  // at the end all of it is one word
    CHECK(words("  ") == "  |");
    CHECK(words("a\n ") == "a|\n |");
    CHECK(words("a\x1c\x85"
                "b") == "a|\x1c\x85|b|");  // U+001C is no white space to GPT-2; 0x85 alone is not UTF-8
    CHECK(words("a\u180e\u200bb") == "a|\u180e\u200b|b|");
}

TEST_CASE("BPE words: cutting behind a letter or digit before white space changes nothing") {
    std::mt19937 rng(5);
    const char* parts[] = {"a", "b'", "'s", " ", "\n", "\r\n", "\t", "1", "23", "\u00e9", "\u3000", "!", "\xff"};
    const std::vector<std::vector<Step>> kinds = {{{Step::GPT2}}, {{Step::DIGITS}, {Step::GPT2}}, {{Step::LLAMA3}},
        {{Step::QWEN2}}, {{Step::PREFIX, "", " "}, {Step::GPT2}}};
    for (int i = 0; i < 3000; i++) {
        std::string text;
        for (int n = rng() % 12; n > 0; n--) text += parts[rng() % 13];
        const Steps steps{kinds[i % kinds.size()]};
        for (size_t cut = 1; cut < text.size(); cut++) {
            if (!isalnum((uint8_t)text[cut - 1]) || !strchr(" \t\r\n", text[cut])) continue;
            CHECK(words(steps, text.substr(0, cut)) + words(steps, text.substr(cut), Steps::GOES_ON) ==
                  words(steps, text));
        }
    }
}

TEST_CASE("BPE words: Llama 3 and Qwen2: contractions in any case, line ends, digits") {
    const Steps llama3{{{Step::LLAMA3}}}, qwen2{{{Step::QWEN2}}};
    auto both = [&](const std::string& text) {
        CHECK(words(llama3, text) == words(qwen2, text));
        return words(llama3, text);
    };
    CHECK(words(llama3, "in 12345 1") == "in| |123|45| |1|");
    CHECK(words(qwen2, "in 12345 1") == "in| |1|2|3|4|5| |1|");
    CHECK(words(llama3, "\u0661\u00b2\u2167\u0661") == "\u0661\u00b2\u2167|\u0661|");
    CHECK(both("It'S I'LL we'Ve 'x") == "It|'S| I|'LL| we|'Ve| '|x|");
    CHECK(both("it'\u017f a'") == "it|'\u017f| a|'|");  // the long s is an s in any case
    CHECK(both("''s") == "''|s|");
    CHECK(both("(a .b\tc -d\u00a0e") == "(a| .|b|\tc| -|d|\u00a0e|");  // a character before letters is theirs
    CHECK(both("a!\n\nb .\r\n\n c") == "a|!\n\n|b| .\r\n\n| c|");
    CHECK(both("a\nb\n\n  c") == "a|\n|b|\n\n| | c|");
    CHECK(both("a \n \n\t b") == "a| \n \n|\t| b|");
    CHECK(both("a   b") == "a|  | b|");
    CHECK(both("a  1") == "a| | |1|");
    CHECK(both("a \t") == "a| \t|");
    CHECK(both("\n a") == "\n| a|");
    CHECK(both(".\xff\xff \xff"
               "ab \xff") == ".\xff\xff| \xff|ab| \xff|");
    CHECK(both("\xff"
               "ab") ==
          "\xff"
          "ab|");
}

TEST_CASE("BPE words: digits apart, a space before, SentencePiece's marks") {
    const Steps smollm2{{{Step::DIGITS}, {Step::GPT2}}}, runs{{{Step::DIGIT_RUNS}, {Step::GPT2}}};
    CHECK(words(smollm2, "in 123  4a") == "in| |1|2|3|  |4|a|");  // the space before a digit stays by itself
    CHECK(words(runs, "in 123  4a") == "in| |123|  |4|a|");
    const Steps prefix{{{Step::PREFIX, "", " "}, {Step::GPT2}}};
    CHECK(words(prefix, "a b") == " a| b|");
    CHECK(words(prefix, " a b") == " a| b|");
    CHECK(words(prefix, "\ta") == " |\t|a|");
    CHECK(words(prefix, "a", Steps::GOES_ON) == "a|");  // the text began before
    CHECK(words(prefix, "") == "");
    const Steps marks{{{Step::REPLACE, " ", "▁"}, {Step::PREFIX, "", "▁"}, {Step::CUT_BEFORE, "▁"}}};
    CHECK(words(marks, "a  b c") == "▁a|▁|▁b|▁c|");
    CHECK(words(marks, " a") == "▁a|");
}

static std::string nfc(const std::string& text) { return normal_form(text, false, true); }

TEST_CASE("NFC: marks are composed, in canonical order; other bytes stay") {
    CHECK(nfc("e\u0301") == "\u00e9");
    CHECK(nfc("q\u0307\u0323") == "q\u0323\u0307");
    CHECK(nfc("I\u0328\u20da\u0307") == "\u012e\u20da\u0307");  // blocked by nothing, then by the same class
    CHECK(nfc("\u012e\u20da\u0307") == "\u012e\u20da\u0307");
    CHECK(nfc("\u212b\u1100\u1161\u11a8") == "\u00c5\uac01");
    CHECK(nfc("a\xff\u0301\xc3 e\xcc") == "a\xff\u0301\xc3 e\xcc");
    CHECK(nfc("\u0958") == "\u0915\u093c");  // never composed
    CHECK(nfc("") == "");
    CHECK(nfc("plain \u00e9\u4e2d") == "plain \u00e9\u4e2d");
}

TEST_CASE("BPE: bytes as printable characters") {
    CHECK(byte_names.name("a b\n") == "a\u0120b\u010a");
    CHECK(byte_names.name(std::string("\0\x7f\xa0\xad\xff", 5)) ==
          "\u0100\u0121\u0142\u0143\u00ff");  // the first, 34th, 67th and last of the 68, and one that stays
    std::string all, back;
    for (int i = 0; i < 256; i++) all += (char)i;
    CHECK(byte_names.bytes(byte_names.name(all), back));
    CHECK(back == all);
    for (const char* bad : {" ", "\u00ad", "\u0144", "\xff", "a\n"}) CHECK_FALSE(byte_names.bytes(bad, back));
    std::vector<int> order;
    std::copy_if(byte_names.byte, std::end(byte_names.byte), std::back_inserter(order), [](int b) { return b >= 0; });
    CHECK(order.size() == 256);
    CHECK(order[0] == '!');  // as in GPT-2's encoder.json
    CHECK(order[94] == 0xa1);
    CHECK(order[188] == 0);
    CHECK(order[220] == ' ');
    CHECK(order[255] == 0xad);
}

TEST_CASE("BPE encode: the pair that was learned first, the leftmost of several") {
    Tokenizer b = make({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "a"}, {"aa", "aa"}, {" ", "ab"}, {"a", "bc"}});
    CHECK(pieces(b, "abc") == "abc|");  // (b,c) before (a,b)
    CHECK(pieces(b, "ab") == "ab|");
    CHECK(pieces(b, "aaa") == "aaa|");
    CHECK(pieces(b, "aaaa") == "aaaa|");     // aa aa, then (aa,aa); (aa,a) is nowhere
    CHECK(pieces(b, "aaaaa") == "aa|aaa|");  // aa aa a: (aa,a) was learned before (aa,aa)
    CHECK(pieces(b, "ab ab") == "ab| ab|");
    CHECK(pieces(b, "x ab") == "x| ab|");
    CHECK(b.encode("").empty());
}

TEST_CASE("BPE encode: equals the slow definition on random words and merges, also when the cache of words overflows") {
    std::mt19937 rng(1);
    for (int round = 0; round < 30; round++) {
        std::vector<std::string> known = {"a", "b", "c"};
        Pairs pairs;
        while (pairs.size() < 25) {
            std::pair<std::string, std::string> pair = {known[rng() % known.size()], known[rng() % known.size()]};
            if (pair.first.size() + pair.second.size() > 8 ||
                std::find(pairs.begin(), pairs.end(), pair) != pairs.end())
                continue;
            pairs.push_back(pair);
            known.push_back(pair.first + pair.second);
        }
        Tokenizer b = make(pairs);
        for (int i = 0; i < 300; i++) {
            std::string word;
            for (int n = 1 + rng() % (i % 10 ? 12 : 90); n > 0; n--)
                word += "abc"[rng() % 3];  // beyond 64 bytes no cache
            CHECK(b.encode(word) == encode_slowly(b, word));
            CHECK(b.encode(word) == encode_slowly(b, word));  // from the cache
        }
    }
    Tokenizer b = make({{"1", "2"}, {"12", "3"}});
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 100000; i++) {  // more words than the cache holds
            std::string word = std::to_string(123000000 + i);
            std::vector<int32_t> ids = b.encode(word);
            CHECK(b.decode(ids) == word);
            CHECK(b.tokens[ids[0]] == "123");
        }
}

TEST_CASE("BPE encode: a word of a million letters takes no million squared") {
    Tokenizer b = make({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}});
    CHECK(b.encode(std::string(1 << 20, 'a')).size() == 1 << 17);
    CHECK(b.encode(std::string(1 << 20, ' ')).size() == 1 << 20);
}

TEST_CASE("BPE: any bytes come back; bytes that are not UTF-8 are counted") {
    std::mt19937 rng(2);
    Tokenizer b = make(
        {{"\xff", "\xfe"}, {"\xe4", "\xb8"}, {"\xe4\xb8", "\xad"}, {" ", " "}, {std::string(1, 0), "a"}});
    for (int i = 0; i < 3000; i++) {
        std::string text = random_bytes(rng, rng() % 60) + (i % 3 ? "\u4e2d <|endoftext|>" : "");
        CHECK(b.decode(b.encode(text)) == text);
        CHECK(b.decode(b.encode(text, SPECIALS_AS_TEXT)) == text);
    }
    std::vector<int32_t> ids;
    CHECK(b.encode("a\xff\xfe"
                   "b",
              ids) == 2);
    CHECK(b.encode(" \xc3 \xed\xa0\x80", ids) == 4);
    CHECK(b.encode(" a\u4e2d \xff", ids) == 1);
    CHECK(pieces(b, "\xff\xfe") == "\xff\xfe|");
    CHECK(has(error_of([&] { b.decode({262}); }), "cannot decode id 262: the vocabulary has ids 0 to 261"));
    CHECK(has(error_of([&] { b.decode({-1}); }), "cannot decode id -1"));
    std::vector<int32_t> half = b.encode("\u00e9");
    half.pop_back();
    CHECK(b.decode(half) == "\xc3");  // half a character is half a character
}

TEST_CASE("BPE: <|endoftext|> is a token only where special tokens are asked for, and ends the text before it") {
    Tokenizer b = make({{" ", " "}});
    int32_t e = b.eot();
    CHECK(e == 257);
    CHECK(b.encode("<|endoftext|>") == std::vector<int32_t>{e});
    CHECK(b.encode("<|endoftext|>", SPECIALS_AS_TEXT).size() == 13);
    CHECK(pieces(b, "a<|endoftext|><|endoftext|>b") == "a|<|endoftext|>|<|endoftext|>|b|");
    CHECK(pieces(b, "a  <|endoftext|>") == "a|  |<|endoftext|>|");  // both spaces in one word, as at the end of a text
    CHECK(b.encode("<|endoftext>").size() == 12);
    CHECK(b.decode({e}) == "<|endoftext|>");
}

TEST_CASE("BPE encode: several threads, two tokenizers in turn") {
    Tokenizer one = make({{"a", "b"}, {"ab", "c"}}), two = make({{"b", "c"}, {"a", "bc"}});
    std::vector<std::thread> threads;
    std::vector<int> wrong(3, 0);
    for (int t = 0; t < 3; t++)
        threads.emplace_back([&, t] {
            for (int i = 0; i < 2000; i++) {
                const Tokenizer& b = i % 2 ? one : two;
                wrong[t] += pieces(b, "ab abcx") != (i % 2 ? "ab| |abc|x|" : "a|b| |abc|x|");
            }
        });
    for (std::thread& t : threads) t.join();
    CHECK(wrong == std::vector<int>{0, 0, 0});
}

TEST_CASE("BPE learn: most frequent pair first, ties to the greater pair of byte strings") {
    // ab 5 times, ac 5 times, and bytes from 128 on are greater than ASCII
    Tokenizer b = learn_bpe({{"ab", 5}, {"ac", 5}, {"\u00e9", 5}, {"xyz", 4}, {"q", 9}, {"pp", 1}}, 1000);
    std::vector<std::string> expected = {"\u00e9", "ac", "ab", "yz", "xyz"};
    CHECK(std::vector<std::string>(b.tokens.begin() + 256, b.tokens.end() - 1) == expected);
    CHECK(b.eot() == 261);
    CHECK(pieces(b, "xyzab") == "xyz|ab|");
    CHECK(learn_bpe({{"ab", 5}, {"ac", 5}}, 258).tokens[256] == "ac");
    CHECK(learn_bpe({{"ab", 5}}, 257).merges.empty());  // single bytes and <|endoftext|>
    CHECK(learn_bpe({{"ab", 5}}, 257).encode("ab\n").size() == 3);
    CHECK(has(error_of([] { learn_bpe({{"ab", 5}}, 256); }), "expected a vocabulary of 257 to 1000000 tokens"));
}

TEST_CASE("BPE learn: what is counted") {
    WordCounts counts;
    CHECK(count_words("a a<|endoftext|>a \xff", counts) == 1);
    CHECK(counts == WordCounts{{"a", 2}, {" a", 1}, {" \xff", 1}});
}

// The same by the book: count all pairs again for every merge
static Pairs learn_slowly(const WordCounts& counts, size_t merges) {
    std::vector<std::pair<std::vector<std::string>, int64_t>> all;
    for (const auto& [word, n] : counts) {
        std::vector<std::string> p;
        for (char c : word) p.emplace_back(1, c);
        all.push_back({p, n});
    }
    Pairs found;
    while (found.size() < merges) {
        std::vector<std::pair<int64_t, std::pair<std::string, std::string>>> pairs;
        for (auto& [p, n] : all)
            for (size_t i = 0; i + 1 < p.size(); i++) {
                auto at = std::find_if(pairs.begin(), pairs.end(),
                    [&, &p = p](auto& e) { return e.second.first == p[i] && e.second.second == p[i + 1]; });
                if (at == pairs.end()) at = pairs.insert(at, {0, {p[i], p[i + 1]}});
                at->first += n;
            }
        if (pairs.empty()) break;
        auto best = *std::max_element(pairs.begin(), pairs.end());
        if (best.first < 2) break;
        found.push_back(best.second);
        for (auto& [p, n] : all)
            for (size_t i = 0; i + 1 < p.size(); i++)
                if (p[i] == best.second.first && p[i + 1] == best.second.second) {
                    p[i] += p[i + 1];
                    p.erase(p.begin() + i + 1);
                }
    }
    return found;
}

TEST_CASE("BPE learn: equals the slow definition on random words") {
    std::mt19937 rng(3);
    const std::string letters = "ab\xc3\xa9 ";
    for (int round = 0; round < 20; round++) {
        WordCounts counts;
        for (int i = 0; i < 60; i++) {
            std::string word;
            for (int n = 1 + rng() % 9; n > 0; n--) word += letters[rng() % (2 + round % 4)];
            counts[word] += 1 + rng() % 4;
        }
        Tokenizer fast = learn_bpe(counts, 257 + 30);
        Pairs found;
        for (auto [left, right] : fast.merges) found.push_back({fast.tokens[left], fast.tokens[right]});
        CHECK(found == learn_slowly(counts, found.size()));
        CHECK(found.size() >= 20);
    }
}

TEST_CASE("BPE directories: what is saved is loaded, by all names; fingerprint") {
    TempDir s;
    Tokenizer b = make({{"#", "#"}, {" ", "\""}, {"\\", "n"}, {"\xff", std::string(1, 0)}, {"a", "b"}, {"b", "c"},
        {"ab", "c"}, {"a", "bc"}});
    CHECK(b.size() == 256 + 7 + 1);  // "abc" by two ways
    b.save(s / "a");
    auto same = [&](const std::string& dir) {
        Tokenizer c = Tokenizer::load(dir);
        return c.tokens == b.tokens && c.merges == b.merges && c.fingerprint() == b.fingerprint() &&
               c.eot() == b.eot() && c.model == Tokenizer::BPE;
    };
    CHECK(same(s / "a"));
    auto move_file = [&](const char* from, const char* to) {
        REQUIRE(rename((s / from).c_str(), (s / to).c_str()) == 0);
    };
    make_directories(s / "stock");
    move_file("a/vocab.json", "stock/encoder.json");
    CHECK(has(error_of([&] { Tokenizer::load(s / "stock"); }), "expected merges.txt or vocab.bpe beside"));
    move_file("a/merges.txt", "stock/vocab.bpe");
    CHECK(same(s / "stock"));
    CHECK(same(s / "a"));  // tokenizer.json alone

    Json json = parse_json(read_file(s / "a/tokenizer.json"), "test");
    Json model = *json.find("model"), merges = Json::make_array();
    for (const Json& pair : model.find("merges")->a)
        merges.a.push_back(pair.a[0].s + " " + pair.a[1].s);  // as older versions write it
    Json vocab = *model.find("vocab");
    vocab.o.pop_back();  // <|endoftext|> among the added tokens only
    json.set("model", model.set("merges", merges).set("vocab", vocab));
    write_file_atomic(s / "a/tokenizer.json", dump_json(json));
    remove((s / "a/tokenizer_config.json").c_str());
    CHECK(same(s / "a"));
    // whether <|endoftext|> goes before a prompt: false where nothing is said, and what was saved
    Tokenizer begins = Tokenizer::load(s / "a");
    CHECK(!begins.add_bos);
    for (bool add : {true, false}) {
        begins.add_bos = add;
        begins.save(s / "begins");
        CHECK((same(s / "begins") && Tokenizer::load(s / "begins").add_bos == add));
    }

    std::string text = read_file(s / "stock/vocab.bpe"), crlf;  // \r\n, no version, no line's end at the end
    for (char c : text.substr(text.find('\n') + 1)) crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
    write_file_atomic(s / "stock/vocab.bpe", crlf.substr(0, crlf.size() - 2));
    CHECK(same(s / "stock"));

    CHECK(make({{"a", "b"}, {"b", "c"}}).fingerprint() != make({{"b", "c"}, {"a", "b"}}).fingerprint());
    CHECK(make({{"a", "b"}}).fingerprint() != make({}).fingerprint());
    Tokenizer other = make({{"a", "b"}, {"b", "c"}});
    const uint64_t before = other.fingerprint();
    std::swap(other.merges[0], other.merges[1]);  // the same tokens
    CHECK(other.fingerprint() != before);
    std::swap(other.merges[0], other.merges[1]);
    other.tokens[65][0] ^= 1;  // the same merges and lengths
    CHECK(other.fingerprint() != before);
    Tokenizer first = b;  // <|endoftext|> may be any id
    std::swap(first.tokens[0], first.tokens.back());
    for (auto& [left, right] : first.merges)
        for (int32_t* id : {&left, &right}) *id = *id == 0 ? (int32_t)b.size() - 1 : *id;
    first.special.added.tokens[0].id = -1;
    first.build("test");
    CHECK(first.eot() == 0);
    CHECK(first.fingerprint() != b.fingerprint());
    first.save(s / "first");
    CHECK(Tokenizer::load(s / "first").fingerprint() == first.fingerprint());
    CHECK(pieces(first, "!abc<|endoftext|>") == pieces(b, "!abc<|endoftext|>"));
}

TEST_CASE("BPE directories: bad ones") {
    TempDir s;
    make({{"a", "b"}, {"ab", "c"}}).save(s / "good");
    const std::string vocab = read_file(s / "good/vocab.json"), merges = read_file(s / "good/merges.txt");
    const Json all = parse_json(read_file(s / "good/tokenizer.json"), "test");
    auto replaced = [](std::string text, const std::string& from, const std::string& to) {
        REQUIRE(text.find(from) != text.npos);
        return text.replace(text.find(from), from.size(), to);
    };
    auto load = [&](const std::string& v, const std::string& m) {
        make_directories(s / "d");
        write_file_atomic(s / "d/vocab.json", v);
        write_file_atomic(s / "d/merges.txt", m);
        return error_of([&] { Tokenizer::load(s / "d"); });
    };
    CHECK(load(vocab, merges) == "no error");
    CHECK(has(load("[1]", merges), "vocab.json: expected a JSON object"));
    CHECK(has(load(vocab.substr(0, 100), merges), "vocab.json: line 1, column"));
    CHECK(has(load("", merges), "vocab.json: line 1, column 0"));
    CHECK(has(load(replaced(vocab, "\"a\": 64", "\"a\": 65"), merges),
        "expected the ids 0 to 258 once each, found 65 for the token b"));
    CHECK(has(load(replaced(vocab, "\"a\": 64", "\"a\": 64.5"), merges), "found 64.5 for the token a"));
    CHECK(has(load(replaced(vocab, "\"a\": 64", "\"a\": -1"), merges), "found -1 for the token a"));
    CHECK(has(load(replaced(vocab, "\"a\":", "\"a b\":"), merges),
        "printable characters in the token of id 64, found \"a b\""));
    CHECK(has(load(replaced(vocab, "\"z\":", "\"zz\":"), merges),
        "found none for 0x7a (z): this is no byte-level vocabulary"));
    CHECK(has(load(replaced(vocab, "\"a\":", "\"\":"), merges), "expected a token for the id 64, found an empty one"));
    CHECK(has(load(replaced(vocab, "\"a\": 64", "\"b\": 64"), merges), "the key \"b\" appears twice"));
    CHECK(has(load(replaced(vocab, "<|endoftext|>", "end"), merges), "expected the token <|endoftext|>, found none"));
    CHECK(has(load(vocab, merges + "a\n"),
        "merges.txt, line 4: expected two tokens of the vocabulary with a space between them, found \"a\", \"\""));
    CHECK(has(load(vocab, merges + "a b c\n"), "line 4: expected two tokens"));
    CHECK(has(load(vocab, merges + "a  b\n"), "line 4: expected two tokens"));
    CHECK(has(load(vocab, merges + "xy z\n"),
        "line 4: expected two tokens of the vocabulary with a space between them, found \"xy\", \"z\""));
    CHECK(has(load(vocab, merges + "\nb c\n"), "line 4: expected two tokens"));
    CHECK(has(
        load(vocab, merges + "b c\n"), "line 4: expected the pair b c to make a token, found no bc in the vocabulary"));
    CHECK(has(load(vocab, merges + "a b\n"), "line 4: the pair a b stands in"));
    CHECK(has(load(vocab, merges + "a b\n"), "line 2 already"));
    CHECK(has(load(vocab, merges + "<|endoftext|> a\n"),
        "line 4: expected the pair <|endoftext|> a to make a token, found no <|endoftext|>a in the vocabulary"));
    CHECK(has(load(vocab, merges + "\xff b\n"), "line 4: expected UTF-8, found the byte 0xff"));
    CHECK(has(error_of([&] { Tokenizer::load(s / "none"); }), "expected a tokenizer directory, found nothing"));
    CHECK(has(error_of([&] { Tokenizer::load(s / "d/vocab.json"); }), "expected a tokenizer directory, found a file"));
    make_directories(s / "e");
    CHECK(has(error_of([&] { Tokenizer::load(s / "e"); }),
        "expected tokenizer.json, vocab.txt, or vocab.json and merges.txt, found none"));
    write_file_atomic(s / "e/tokenizer.model", "");
    CHECK(has(error_of([&] { Tokenizer::load(s / "e"); }),
        "beside tokenizer.model, found none; make it with: data/pretrained.py"));
    remove((s / "e/tokenizer.model").c_str());

    // tokenizer.json
    auto load_all = [&](Json json) {
        write_file_atomic(s / "e/tokenizer.json", dump_json(json));
        return error_of([&] { Tokenizer::load(s / "e"); });
    };
    auto with = [&](const char* part, const char* key, Json value) {
        Json j = all, p = *all.find(part);
        return j.set(part, p.set(key, value));
    };
    auto top = [&](const char* key, const char* value) {
        Json j = all;
        return j.set(key, parse_json(value, "test"));
    };
    CHECK(load_all(all) == "no error");
    CHECK(has(load_all(with("model", "type", "Unigram")),
        "expected a model of type BPE or WordPiece with a vocab, found Unigram"));
    CHECK(has(load_all(with("model", "merges", "a b")), "model: expected a list for merges, found"));
    Json list = Json::make_array();
    list.a = {"a b", Json(5)};
    CHECK(has(load_all(with("model", "merges", list)), "merge 2: expected two tokens"));
    CHECK(has(load_all(Json(5)), "tokenizer.json: expected a JSON object, found 5"));
    CHECK(has(load_all(Json(all).set("a", 5)), "tokenizer.json: the key \"a\": 5 is not known here"));
    // rules that are not obeyed are refused by name
    CHECK(has(load_all(with("model", "end_of_word_suffix", "</w>")),
        "model: end_of_word_suffix: expected none, found \"</w>\""));
    CHECK(has(load_all(with("model", "continuing_subword_prefix", "##")), "model: continuing_subword_prefix"));
    CHECK(has(load_all(with("model", "dropout", 0.1)), "model: dropout: expected none, found 0.1"));
    CHECK(load_all(with("model", "dropout", 0.0)) == "no error");
    CHECK(has(load_all(with("model", "new", 1)), "model: the key \"new\": 1 is not known here"));
    CHECK(has(load_all(with("model", "unk_token", "[UNK]")), "the unk_token [UNK] is not in the vocabulary"));
    for (const char* key : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
        CHECK(has(load_all(top(key, R"({"type": "New"})")), format("%s: expected", key).c_str()));
        CHECK(has(load_all(top(key, R"({"type": "Sequence"})")), format("%s: expected", key).c_str()));
    }
    for (const char* rule : {R"({"type": "NFKC"})", R"({"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"})",
             R"({"type": "Replace", "pattern": {"String": ""}, "content": "b"})"})
        CHECK(has(load_all(top("normalizer", rule)), format("normalizer: expected").c_str()));
    for (const char* rule :
        {R"({"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Isolated", "invert": false})",
            R"({"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": false})",
            R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})",
            R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]})"})
        CHECK(has(load_all(top("pre_tokenizer", rule)), "pre_tokenizer: expected"));
    CHECK(has(load_all(with("pre_tokenizer", "new", 1)), "pre_tokenizer: the key \"new\""));
    Json split = parse_json(R"({"type": "Split", "behavior": "Isolated", "invert": false})", "test");
    split.set("pattern", Json().set("Regex", known_regexes[1].second));
    Json rules = Json::make_array(), both = all;
    rules.a = {split, *all.find("pre_tokenizer")};
    auto in_sequence = [&](const Json& first) {
        rules.a[0] = first;
        return load_all(both.set("pre_tokenizer", Json().set("type", "Sequence").set("pretokenizers", rules)));
    };
    CHECK(in_sequence(split) == "no error");
    CHECK(has(in_sequence(Json(split).set("behavior", "Removed")), "expected a Split, Isolated"));
    CHECK(has(in_sequence(Json(split).set("invert", true)), "expected a Split, Isolated"));
    CHECK(has(load_all(top("decoder", R"({"type": "Metaspace", "replacement": "▁"})")), "decoder: expected ByteLevel"));
    for (const char* rule : {R"({"type": "TemplateProcessing", "single": [], "special_tokens": {}})",
             R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}], "special_tokens": {}})",
             R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "A"}}],
              "special_tokens": {"x": {"ids": [259]}}})",
             R"({"type": "BertProcessing", "cls": ["a", 0], "sep": ["a", 1]})"})
        CHECK(has(load_all(top("post_processor", rule)), "post_processor: expected"));
    CHECK(has(load_all(top("added_tokens", R"([{"id": 300, "content": "<pad>"}])")),
        "the added token <pad> has the id 300; expected 259"));
    CHECK(has(load_all(top("pre_tokenizer", "null")), "expected byte_fallback or an unk_token, found none"));

    auto config = [&](const char* text) {
        write_file_atomic(s / "e/tokenizer_config.json", text);
        return load_all(all);
    };
    CHECK(has(config(R"({"add_prefix_space": true})"), "tokenizer_config.json: add_prefix_space: expected false"));
    CHECK(has(config(R"({"split_special_tokens": true})"), "split_special_tokens: expected false"));
    write_file_atomic(s / "d/merges.txt", merges);
    write_file_atomic(s / "d/tokenizer_config.json", R"({"tokenizer_class": "CLIPTokenizer"})");
    CHECK(has(load(vocab, merges), "expected GPT2Tokenizer, Qwen2Tokenizer or RobertaTokenizer where there is no"));

    write_file_atomic(s / "good/vocab.txt", "a");  // WordPiece's
    CHECK(has(
        error_of([&] { Tokenizer::load(s / "good"); }), "expected a model of type WordPiece with a vocab, found BPE"));
}

// A tokenizer.json whose words are of characters: the vocabulary has names, the merges, <0x00> … where fallback
Json sentencepiece_json(const Pairs& pairs, bool fallback) {
    Json vocab = Json::make_object(), merges = Json::make_array(), model, all;
    auto add = [&](const std::string& name) {
        if (!vocab.find(name)) vocab.set(name, (int)vocab.o.size());
    };
    for (const char* name : {"<unk>", "<s>", "</s>", "▁", "a", "b", "c", "é"}) add(name);
    for (int b = 0; fallback && b < 256; b++) add(format("<0x%02X>", b));
    for (const auto& [left, right] : pairs) {
        Json pair = Json::make_array();
        pair.a = {left, right};
        merges.a.push_back(pair);
        add(left + right);
    }
    model.set("type", "BPE").set("unk_token", "<unk>").set("fuse_unk", true).set("byte_fallback", fallback);
    all.set("normalizer", parse_json(R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})",
                              "test"));
    all.set("added_tokens", parse_json(R"([{"id": 1, "content": "<s>", "special": true, "normalized": false},
        {"id": 2, "content": "</s>", "special": true, "normalized": false}])",
                                "test"));
    all.set("decoder", parse_json(R"({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})",
                           "test"));
    return all.set("model", model.set("vocab", vocab).set("merges", merges));
}

TEST_CASE("BPE: SentencePiece's kind: marks, byte fallback, the space before a text") {
    TempDir s;
    const Pairs pairs = {{"a", "b"}, {"▁", "ab"}, {"▁", "▁"}, {"▁▁", "ab"}};
    write_file_atomic(s / "tokenizer.json", dump_json(sentencepiece_json(pairs, true)));
    write_file_atomic(
        s / "tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true})");
    Tokenizer b = Tokenizer::load(s.path);
    CHECK((b.eot() == 2 && b.bos() == 1 && b.add_bos && b.cuts_before_marks));
    CHECK(pieces(b, "ab ab") == "▁ab|▁ab|");
    CHECK(pieces(b, " ab") == "▁|▁ab|");  // a mark goes before every text; (▁, ab) was learned before (▁, ▁)
    CHECK(pieces(b, "é€\n") == "▁|é|<0xE2>|<0x82>|<0xAC>|<0x0A>|");
    CHECK(pieces(b, "<s>ab</s>c") == "<s>|▁ab|</s>|▁|c|");
    CHECK(b.encode("</s>", SPECIALS_AS_TEXT).size() == 5);
    std::vector<int32_t> ids;
    b.encode(" ab", ids, SPECIALS_AS_TEXT, Steps::GOES_ON);  // no second space where a text goes on
    CHECK(ids == std::vector<int32_t>{b.id_of("▁ab")});
    for (std::string text : {"ab  c", "é€ \xff\n", "", "  "}) CHECK(b.decode(b.encode(text)) == text);
    ids = b.encode("<s>ab ab</s>");
    CHECK(b.decode(ids) == "<s> ab ab</s>");
    CHECK(b.decode(ids.data(), ids.size(), true, true) == "ab ab");
    std::string streamed;  // one by one, as they are generated
    ids = b.encode("ab € c");
    for (size_t i = 0; i < ids.size(); i++) streamed += b.decode(&ids[i], 1, i == 0);
    CHECK(streamed == "ab € c");
    // an added token that is looked for after normalisation is what stands there: "▁cc"
    Json with_added = sentencepiece_json(pairs, true), added = *with_added.find("added_tokens");
    added.a.push_back(
        Json().set("id", (int)b.size()).set("content", "cc").set("special", false).set("normalized", true));
    write_file_atomic(s / "tokenizer.json", dump_json(with_added.set("added_tokens", added)));
    const Tokenizer c = Tokenizer::load(s.path);
    CHECK(pieces(c, "a cc bcc") == "▁|a|cc|▁|b|c|c|");
    CHECK(c.decode(c.encode("a cc bcc")) == "a cc bcc");
    // a merge beyond a mark: no cut there
    write_file_atomic(s / "tokenizer.json", dump_json(sentencepiece_json({{"a", "▁"}, {"a▁", "b"}}, true)));
    b = Tokenizer::load(s.path);
    CHECK(!b.cuts_before_marks);
    CHECK(pieces(b, "a ba") == "▁|a▁b|a|");
    write_file_atomic(s / "tokenizer.json", dump_json(sentencepiece_json(pairs, false)));
    b = Tokenizer::load(s.path);
    CHECK(pieces(b, "xyab\nx") == "▁|<unk>|ab|<unk>|");  // unknown characters in a row are one
    Json json = sentencepiece_json(pairs, false);
    auto load = [&](const char* key, const char* value) {
        Json changed = json;
        write_file_atomic(s / "tokenizer.json", dump_json(changed.set(key, parse_json(value, "test"))));
        return error_of([&] { Tokenizer::load(s.path); });
    };
    CHECK(has(load("decoder", "null"), "decoder: expected Metaspace or Replace, which make spaces of ▁"));
    CHECK(has(load("decoder", R"({"type": "ByteLevel"})"), "decoder: expected Metaspace, or a Sequence"));
    CHECK(has(load("decoder", R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})"), "decoder: expected"));
    CHECK(has(load("model", R"({"byte_fallback": true, "vocab": {"a": 0, "<s>": 1, "</s>": 2}, "merges": []})"),
        "expected a token for each of the 256 bytes, found none for 0xff"));
}

TEST_CASE("BPE: added tokens, and what never comes out of a text") {
    TempDir s;
    make({{"a", "b"}, {"<", "x"}, {"<x", ">"}}).save(s.path);
    Json json = parse_json(read_file(s / "tokenizer.json"), "test");
    Json added = *json.find("added_tokens"), model = *json.find("model");
    added.a.push_back(parse_json(R"({"id": 258, "content": "<x>", "special": true, "normalized": false})", "test"));
    added.a.push_back(parse_json(R"({"id": 260, "content": "ü ü", "special": false, "normalized": false})", "test"));
    model.set("ignore_merges", true);
    json.set("added_tokens", added).set("model", model).set("post_processor", Json());
    json.set(
        "pre_tokenizer", parse_json(R"({"type": "ByteLevel", "use_regex": false, "add_prefix_space": false})", "test"));
    write_file_atomic(s / "tokenizer.json", dump_json(json));
    write_file_atomic(s / "tokenizer_config.json", R"({"eos_token": "<x>", "bos_token": null, "chat_template": "T"})");
    write_file_atomic(s / "chat_template.jinja", "{{ T }}");
    Tokenizer b = Tokenizer::load(s.path);
    CHECK((b.eot() == 258 && b.bos() == 258 && !b.add_bos && b.size() == 261));
    CHECK(pieces(b, "ab<x>ü üab") == "ab|<x>|ü ü|ab|");
    CHECK(b.encode("<x>", SPECIALS_AS_TEXT) == std::vector<int32_t>{b.id_of("<x"), b.id_of(">")});
    CHECK(b.encode("ü ü", SPECIALS_AS_TEXT) == std::vector<int32_t>{260});  // not special: a token in any text
    CHECK(b.decode({258, 260}) == "<x>ü ü");
    // saved whole: bytes of other files, keys of the configuration
    b.save(s / "saved", 64);
    CHECK(read_file(s / "saved/tokenizer.json") == read_file(s / "tokenizer.json"));
    CHECK(read_file(s / "saved/chat_template.jinja") == "{{ T }}");
    Json config = parse_json(read_file(s / "saved/tokenizer_config.json"), "test");
    CHECK((config.find("chat_template")->s == "T" && config.find("eos_token")->s == "<x>"));
    CHECK(config.find("tokenizer_class")->s == "PreTrainedTokenizerFast");  // GPT2Tokenizer has rules of its own
    CHECK(Tokenizer::load(s / "saved").fingerprint() == b.fingerprint());
    b.add_bos = true;
    b.save(s / "begins");
    Tokenizer begins = Tokenizer::load(s / "begins");
    CHECK(
        (begins.add_bos && begins.single == std::vector<int32_t>{258, -1} && begins.fingerprint() == b.fingerprint()));
    // all that decides about ids is in the fingerprint
    auto changed = [&](const char* key, Json value) {
        Json other = json;
        write_file_atomic(s / "tokenizer.json", dump_json(other.set(key, value)));
        return Tokenizer::load(s.path).fingerprint() != b.fingerprint();
    };
    CHECK(changed("model", model.set("ignore_merges", false)));
    CHECK(changed("normalizer", Json().set("type", "NFC")));
    CHECK(changed("pre_tokenizer", parse_json(R"({"type": "ByteLevel", "add_prefix_space": false})", "test")));
    CHECK(changed("added_tokens", [&] {
        Json list = added;
        list.a[1].set("lstrip", true);
        return list;
    }()));
    CHECK(!changed("version", "1.1"));
    // what the post-processor puts around a text
    auto around = [&](const char* rule) {
        Json other = json;
        write_file_atomic(s / "tokenizer.json", dump_json(other.set("post_processor", parse_json(rule, "test"))));
        Tokenizer c = Tokenizer::load(s.path);
        return std::make_pair(c.single, c.pair);
    };
    typedef std::vector<int32_t> Ids;
    CHECK(around(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single":
        [{"SpecialToken": {"id": "p", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
         {"SpecialToken": {"id": "q", "type_id": 0}}], "pair": [], "special_tokens": {
        "p": {"id": "p", "ids": [3, 4], "tokens": []}, "q": {"id": "q", "ids": [5], "tokens": []}}}]})") ==
          std::make_pair(Ids{3, 4, -1, 5}, Ids{}));
    // no eos_token: only who asks is told
    write_file_atomic(s / "tokenizer_config.json", "{}");
    added.a.erase(added.a.begin());
    json.set("added_tokens", added);
    write_file_atomic(s / "tokenizer.json", dump_json(json));
    b = Tokenizer::load(s.path);
    CHECK(has(error_of([&] { b.eot(); }), "expected an eos_token, found none"));
}

// Byte-level BPE of an encoder: RoBERTa's names or ModernBERT's, and what stands around texts
TEST_CASE("BPE: encoders: <s> A </s></s> B </s>, [CLS] A [SEP] B [SEP]; <mask> takes the space before it") {
    TempDir s;
    make({{"a", "b"}, {" ", "ab"}, {" ", "a"}}).save(s / "gpt2");
    typedef std::vector<int32_t> Ids;
    Json all = parse_json(read_file(s / "gpt2/tokenizer.json"), "test");
    auto encoder = [&](const std::string& dir, const std::vector<const char*>& names, const Json& post) {
        Json added = Json::make_array(), config = Json().set("tokenizer_class", "PreTrainedTokenizerFast");
        for (size_t i = 0; i < names.size(); i++)
            added.a.push_back(Json()
                    .set("id", (int)(260 + i))
                    .set("content", names[i])
                    .set("special", true)
                    .set("normalized", false)
                    .set("lstrip", i == 3));
        const char* roles[] = {"cls_token", "sep_token", "pad_token", "mask_token"};
        for (int i = 0; i < 4; i++) config.set(roles[i], names[i]);
        make_directories(s / dir);
        write_file_atomic(
            s / (dir + "/tokenizer.json"), dump_json(Json(all).set("added_tokens", added).set("post_processor", post)));
        write_file_atomic(s / (dir + "/tokenizer_config.json"), dump_json(config));
        return error_of([&] { Tokenizer::load(s / dir).check_encoder(); });
    };
    const Json roberta = parse_json(R"({"type": "RobertaProcessing", "sep": ["</s>", 261], "cls": ["<s>", 260],
        "trim_offsets": true, "add_prefix_space": false})",
        "test");
    REQUIRE(encoder("r", {"<s>", "</s>", "<pad>", "<mask>"}, roberta) == "no error");
    Tokenizer r = Tokenizer::load(s / "r");
    CHECK((r.cls() == 260 && r.sep() == 261 && r.pad() == 262 && r.mask() == 263));
    CHECK((r.single == Ids{260, -1, 261} && r.pair == Ids{260, -1, 261, 261, -2, 261}));
    CHECK((r.added(false) == 2 && r.added(true) == 4));
    CHECK(pieces(r, "ab <mask> ab<s>") == "ab|<mask>| ab|<s>|");
    CHECK(r.encode("<mask>", SPECIALS_AS_TEXT).size() == 6);
    for (const char* begins : {" a", " ab"}) CHECK_FALSE(r.is_continuation(r.id_of(begins)));
    CHECK(r.is_continuation(r.id_of("ab")));
    r.save(s / "saved");
    CHECK(read_file(s / "saved/tokenizer.json") == read_file(s / "r/tokenizer.json"));

    const Json modern = parse_json(
        R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}], "pair":
        [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [260], "tokens": ["[CLS]"]},
        "[SEP]": {"id": "[SEP]", "ids": [261], "tokens": ["[SEP]"]}}})",
        "test");
    REQUIRE(encoder("m", {"[CLS]", "[SEP]", "[PAD]", "[MASK]"}, modern) == "no error");
    CHECK(Tokenizer::load(s / "m").pair == Ids{260, -1, 261, -2, 261});

    // what encoders cannot read with
    const std::vector<const char*> names = {"[CLS]", "[SEP]", "[PAD]", "[MASK]"};
    CHECK(has(encoder("x", names, Json()), "post_processor: expected tokens before a text, and before a pair"));
    CHECK(has(encoder("x", names, Json(modern).set("pair", Json::make_array())), "post_processor: expected tokens"));
    CHECK(has(error_of([&] { Tokenizer::load(s / "gpt2").check_encoder(); }), "expected a cls_token, found none"));
    auto bad = [&](const char* key, const char* value) {
        return encoder("x", names, Json(roberta).set(key, parse_json(value, "test")));
    };
    for (const char* value : {"null", R"(["a"])", R"(["a", -1])", R"(["a", 264])", R"(["a", 1.5])"})
        CHECK(has(bad("cls", value), "post_processor: expected"));
    CHECK(has(bad("glue", "1"), "the key \"glue\""));
    const Json twice = Json().set("type", "Sequence").set("processors", Json::make_array({roberta, modern}));
    CHECK(has(encoder("x", names, twice), "post_processor: expected one rule that adds tokens"));

    // vocab.json and merges.txt alone: by the class, or by the model's config.json, RoBERTa's
    make_directories(s / "stock");
    Json vocab = parse_json(read_file(s / "gpt2/vocab.json"), "test");
    vocab.o.pop_back();  // <|endoftext|>
    for (const char* name : {"<s>", "</s>", "<pad>", "<unk>", "<mask>"}) vocab.set(name, (int)vocab.o.size());
    write_file_atomic(s / "stock/vocab.json", dump_json(vocab));
    write_file_atomic(s / "stock/merges.txt", read_file(s / "gpt2/merges.txt"));
    CHECK(has(error_of([&] { Tokenizer::load(s / "stock"); }), "expected the token <|endoftext|>, found none"));
    for (const char* name : {"config.json", "tokenizer_config.json"}) {
        const bool model = name[0] == 'c';
        write_file_atomic(s / ("stock/" + std::string(name)),
            model ? R"({"model_type": "roberta"})" : R"({"tokenizer_class": "RobertaTokenizer"})");
        Tokenizer t = Tokenizer::load(s / "stock");
        t.check_encoder();
        CHECK((t.cls() == 259 && t.sep() == 260 && t.pad() == 261 && t.mask() == 263 && t.eot() == 260));
        CHECK(t.pair == Ids{259, -1, 260, 260, -2, 260});
        CHECK(pieces(t, "ab <mask> ab") == "ab|<mask>| ab|");
        t.save(s / "stock_saved");
        const Tokenizer u = Tokenizer::load(s / "stock_saved");
        CHECK((u.pair == t.pair && u.fingerprint() == t.fingerprint() && u.mask() == t.mask()));
        CHECK(pieces(u, "ab <mask> ab") == "ab|<mask>| ab|");
        remove((s / "stock/config.json").c_str());
    }
    write_file_atomic(s / "stock/tokenizer_config.json",
        R"({"tokenizer_class": "RobertaTokenizer", "mask_token": {"content": "<mask>", "lstrip": false}})");
    CHECK(pieces(Tokenizer::load(s / "stock"), "ab <mask>") == "ab| |<mask>|");
}

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

TEST_CASE("fuzz: BPE directories: no crash, and errors are Error; what loads encodes and decodes") {
    TempDir s;
    std::mt19937 rng(4);
    make({{"a", "b"}, {"ab", "c"}, {" ", "a"}, {"\xc3", "\xa9"}}).save(s.path);
    int loaded = 0, refused = 0;
    const std::string all = read_file(s / "tokenizer.json");
    remove((s / "tokenizer.json").c_str());  // it would be read alone
    for (const char* name : {"/vocab.json", "/merges.txt", "/tokenizer_config.json", "/tokenizer.json"}) {
        if (!strcmp(name, "/tokenizer.json")) write_bytes(s / "tokenizer.json", all);
        const std::string file = s.path + std::string(name), valid = read_file(file);
        for (int i = 0; i < 400; i++) {
            std::string bytes = valid;
            mutate(bytes, rng);
            write_bytes(file, bytes);
            try {
                Tokenizer b = Tokenizer::load(s.path);
                CHECK(b.decode(b.encode("abc a \u00e9<|endoftext|>\xff")) == "abc a \u00e9<|endoftext|>\xff");
                loaded++;
            } catch (const Error&) {
                refused++;
            }
        }
        write_bytes(file, valid);
    }
    CHECK(loaded > 50);  // some 100; another compiler draws in another order
    CHECK(refused > 100);
}
