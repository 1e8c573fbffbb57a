// test_rouge.cpp: ROUGE-L, the stemmer and exact match. test/fixtures/rouge.jsonl holds what the Python package
// rouge-score says (written by test/hf/test_rouge.py, which compares many more with it through ROUGE_PAIRS); a few
// cases are worked out by hand.
#include "common/eval/exact_match.h"
#include "common/eval/rouge.h"
#include "common/text/line_reader.h"
#include "test/temp.h"

#include <cmath>
#include <set>

typedef std::vector<std::string> Texts;

// {"word", "stem"}, or {"answer", "reference", "p", "r", "f"}, or {"text", "normal"} on every line. p, r, f come from
// the same divisions in double, which this build may reorder: equal to 1e-14; one word more or less in common changes
// 1e-3.
static void check_file(const std::string& path) {
    LineReader lines(path);
    size_t wrong = 0, words = 0, pairs = 0, texts = 0;
    while (lines.next()) {
        Json j = parse_json(lines.line, path);
        bool right;
        if (const Json* word = j.find("word")) {
            right = porter::stem(word->s) == j.find("stem")->s;
            words++;
        } else if (const Json* text = j.find("text")) {
            right = normalize_answer(text->s) == j.find("normal")->s;
            texts++;
        } else {
            Rouge r = rouge_l(j.find("answer")->s, j.find("reference")->s);
            auto equal = [&](double x, const char* key) { return std::fabs(x - j.find(key)->d) < 1e-14; };
            right = equal(r.precision, "p") && equal(r.recall, "r") && equal(r.f, "f");
            pairs++;
        }
        if (!right && wrong++ < 5) MESSAGE(path, ", line ", lines.number, ": ", std::string(lines.line));
    }
    CHECK(wrong == 0);
    MESSAGE(path, ": ", words, " stems, ", pairs, " pairs, ", texts, " normal forms");
    CHECK(words + pairs + texts > 500);
}

TEST_CASE("rouge: as rouge-score says") {
    check_file("test/fixtures/rouge.jsonl");
    if (const char* more = getenv("ROUGE_PAIRS")) check_file(more);
}

TEST_CASE("rouge: by hand") {
    CHECK(rouge_words("It's 3.14, the FLIES cried!") == Texts{"it", "s", "3", "14", "the", "fli", "cri"});
    CHECK(rouge_words("flies cried", false) == Texts{"flies", "cried"});
    CHECK(rouge_words("die dies was") == Texts{"die", "die", "was"});  // up to three letters a word stays
    CHECK(rouge_words("").empty());
    CHECK(rouge_words(" \xff\xfe.. ").empty());
    CHECK(rouge_words("a\xff"
                      "b") == Texts{"a", "b"});
    CHECK(rouge_words("5 \u212a and \u0130stanbul, \u00e9t\u00e9") ==
          Texts{"5", "k", "and", "i", "stanbul", "t"});  // Kelvin sign, dotted I
    CHECK(longest_common({"1", "2", "3", "4", "5"}, {"2", "5", "3", "4"}) == 3);
    CHECK(longest_common({}, {"a"}) == 0);
    CHECK(longest_common({"a", "b"}, {"b", "a"}) == 1);
    Rouge r = rouge_l("the cat sat on a mat", "the cat lay on the mat .");  // the cat on mat: 4 of 6, 4 of 6
    CHECK(r.precision == 4.0 / 6);
    CHECK(r.recall == 4.0 / 6);
    CHECK(r.f == doctest::Approx(4.0 / 6).epsilon(1e-15));
    CHECK(rouge_l("testing", "tests").f == 1);
    CHECK(rouge_l("", "a").f == 0);
    CHECK(rouge_l("a", "").f == 0);
    CHECK(rouge_l("?", "!").f == 0);  // no words: 0, as rouge-score has it
    // the best of several
    CHECK(rouge_l("a good dog", Texts{"a cat", "one good dog", "dog"}) == doctest::Approx(2.0 / 3).epsilon(1e-15));
    CHECK(rouge_l("a good dog", Texts{}) == 0);
}

TEST_CASE("exact match: as Super-NaturalInstructions normalises") {
    CHECK(normalize_answer("  The\tanswer:  \u00a0YES!\n") == "the answer yes");
    CHECK(normalize_answer("don't - stop") == "dont stop");  // punctuation goes without a trace, its spaces are joined
    CHECK(normalize_answer("\u00c9T\u00c9 \u2013 \u4e2d\u3002") ==
          "\u00e9t\u00e9 \u2013 \u4e2d\u3002");  // only ASCII punctuation
    CHECK(normalize_answer("a\xff") == "a\ufffd");
    CHECK(exact_match("Positive.", {"negative", "positive"}));
    CHECK_FALSE(exact_match("positive because", {"positive"}));
    CHECK_FALSE(exact_match("", {"a"}));
    // a text of which nothing is left is compared as it is, which Super-NaturalInstructions does not do
    CHECK_FALSE(exact_match("", {"..."}));
    CHECK_FALSE(exact_match("-", {"+"}));
    CHECK_FALSE(exact_match("+", {"a"}));
    CHECK(exact_match(" + ", {"-", "+"}));
    CHECK(exact_match("-5", {"5"}));
    // strict: case and punctuation count, white space is joined
    CHECK_FALSE(exact_match("Positive", {"positive"}, true));
    CHECK_FALSE(exact_match("-5", {"5"}, true));
    CHECK(exact_match(" The  answer:\nYES! ", {"The answer: YES!"}, true));
    CHECK_FALSE(exact_match("a", {}));
}

// ---------------------------------------------------------------- Google's own reference files, where they are
// The other members of the family, only here: ROUGE-1, ROUGE-2 and the summary form of ROUGE-L (Lsum: texts by lines,
// union of subsequences)
static Rouge rouge_n(const std::string& answer, const std::string& reference, size_t n, bool stemmed) {
    auto grams = [&](const std::string& text) {
        Texts words = rouge_words(text, stemmed);
        std::multiset<Texts> all;
        for (size_t i = 0; i + n <= words.size(); i++) all.insert(Texts(words.begin() + i, words.begin() + i + n));
        return all;
    };
    auto a = grams(answer), r = grams(reference);
    size_t common = 0;
    for (auto g = a.begin(); g != a.end(); g = a.upper_bound(*g)) common += std::min(a.count(*g), r.count(*g));
    return rouge_of_counts(common, a.size(), r.size());
}
// places of a in one longest common subsequence of a and b; rouge-score walks the table from its end and prefers to go
// back in b
static std::set<size_t> common_places(const Texts& a, const Texts& b) {
    std::vector<std::vector<size_t>> t(a.size() + 1, std::vector<size_t>(b.size() + 1, 0));
    for (size_t i = 1; i <= a.size(); i++)
        for (size_t j = 1; j <= b.size(); j++)
            t[i][j] = a[i - 1] == b[j - 1] ? t[i - 1][j - 1] + 1 : std::max(t[i - 1][j], t[i][j - 1]);
    std::set<size_t> places;
    for (size_t i = a.size(), j = b.size(); i > 0 && j > 0;)
        if (a[i - 1] == b[j - 1]) {
            places.insert(--i);
            j--;
        } else if (t[i][j - 1] > t[i - 1][j]) j--;
        else i--;
    return places;
}
static Rouge rouge_lsum(const std::string& answer, const std::string& reference, bool stemmed) {
    auto lines = [&](const std::string& text) {
        std::vector<Texts> all;
        for (size_t at = 0, end; at < text.size(); at = end + 1) {
            end = std::min(text.find('\n', at), text.size());
            all.push_back(rouge_words(text.substr(at, end - at), stemmed));
        }
        return all;
    };
    std::vector<Texts> a = lines(answer), r = lines(reference);
    std::multiset<std::string> in_a, in_r;
    for (const Texts& l : a) in_a.insert(l.begin(), l.end());
    for (const Texts& l : r) in_r.insert(l.begin(), l.end());
    size_t na = in_a.size(), nr = in_r.size(), hits = 0;
    for (const Texts& l : r) {
        std::set<size_t> places;
        for (const Texts& m : a)
            for (size_t p : common_places(l, m)) places.insert(p);
        for (size_t p : places) {  // a word counts only as often as both sides have it
            auto x = in_a.find(l[p]), y = in_r.find(l[p]);
            if (x == in_a.end() || y == in_r.end()) continue;
            hits++;
            in_a.erase(x);
            in_r.erase(y);
        }
    }
    return rouge_of_counts(hits, na, nr);
}

TEST_CASE("rouge: Google's reference files") {
    const std::string dir = "../shared/data/reference/rouge/";
    if (!exists(dir + "expected.json")) {
        MESSAGE("SKIPPED: ", dir, " is not there");
        return;
    }
    Json expected = parse_json(read_file(dir + "expected.json"), dir + "expected.json");
    auto score = [](const std::string& type, const std::string& answer, const std::string& reference, bool stemmed) {
        return type == "rougeL"      ? rouge_l(answer, reference, stemmed)
               : type == "rougeLsum" ? rouge_lsum(answer, reference, stemmed)
                                     : rouge_n(answer, reference, type.back() - '0', stemmed);
    };
    auto check = [](const Rouge& r, const Json& x, double digits) {  // the file has so many digits
        CHECK(std::fabs(r.f - x.find("f")->d) < digits);
        if (!x.find("p")) return;
        CHECK(std::fabs(r.precision - x.find("p")->d) < digits);
        CHECK(std::fabs(r.recall - x.find("r")->d) < digits);
    };
    size_t checked = 0;
    for (const Json& x : expected.find("pairs")->a) {
        check(score(x.find("type")->s, x.find("prediction")->s, x.find("target")->s, false), x, 5e-5);
        checked++;
    }
    for (const Json& x : expected.find("files")->a) {
        const std::string& name = x.find("files")->s;  // "target.txt/prediction.txt line 0"
        size_t slash = name.find('/'), space = name.find(' ');
        std::string target = read_file(dir + name.substr(0, slash)),
                    answer = read_file(dir + name.substr(slash + 1, space == name.npos ? space : space - slash - 1));
        if (name.find(" line ") != name.npos) {
            auto line = [&](const std::string& text) {
                size_t at = name.back() == '0' ? 0 : text.find('\n') + 1;
                return text.substr(at, text.find('\n', at) - at);
            };
            target = line(target);
            answer = line(answer);
        }
        check(score(x.find("type")->s, answer, target, x.find("stem")->b), x, x.find("p") ? 5.1e-6 : 5.1e-4);
        checked++;
    }
    CHECK(checked == 13);
}

TEST_CASE("rouge: texts without a word for it") {
    CHECK(rouge_is_blind({"\u0434\u0430", "\u597d \u5417?"}));
    CHECK((!rouge_is_blind({"\u0434\u0430", "da"}) && !rouge_is_blind({"\u597d 7"})));
}
