// test_instruct_rows.cpp: rows of instructions are read or refused with their line; templates, pieces, the supervised
// spans, what is too long.
#include "common/text/instruct_rows.h"
#include "test/temp.h"

#include <random>

namespace {
typedef std::vector<std::string> Texts;

template <class F>
std::string error_of(F f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}
std::vector<InstructRow> read_rows(const std::string& text, bool need_output = true) {
    TempDir dir;
    write_bytes(dir / "x.jsonl", text);
    InstructFile in(dir / "x.jsonl", need_output);
    std::vector<InstructRow> rows;
    for (InstructRow row; in.next(row);) rows.push_back(row);
    return rows;
}
std::string row_error(const std::string& line,
                      bool need_output = true) {  // line 3, behind a good row and an empty line
    std::string good = need_output ? "{\"prompt\": \"a\", \"completion\": \"b\"}\n\n" : "{\"prompt\": \"a\"}\n\n";
    std::string e = error_of([&] { read_rows(good + line + "\n", need_output); });
    if (e != "no error") CHECK(has(e, "x.jsonl, line 3"));
    CHECK(e.find('\n') == e.npos);
    return e;
}
// The 256 bytes, some words, the end: enough of a vocabulary
Bpe small_bpe() {
    Bpe b;
    for (int i = 0; i < 256; i++) b.tokens.push_back(std::string(1, (char)i));
    auto merge = [&](const std::string& left, const std::string& right) {
        auto id = [&](const std::string& t) {
            return (int32_t)(std::find(b.tokens.begin(), b.tokens.end(), t) - b.tokens.begin());
        };
        b.merges.push_back({id(left), id(right)});
        b.tokens.push_back(left + right);
    };
    merge("e", "s");
    merge("y", "es");
    merge(" ", "yes");
    merge("n", "o");
    merge(" ", "no");
    b.tokens.push_back(Bpe::eot_name);
    b.build("test", [](size_t i) { return std::to_string(i); });
    return b;
}
InstructRow row_of(const std::string& instruction, const std::string& input, const std::string& output) {
    InstructRow row;
    row.turns = {{instruction, input, output}};
    row.outputs = {output};
    row.where = "x.jsonl, line 1";
    return row;
}
std::string joined(const std::vector<Piece>& pieces) {
    std::string s;
    for (const Piece& p : pieces) s += p.answer ? "[" + p.text + "]" : p.text;
    return s;
}
Template from_text(const std::string& text, const std::string& name = "mine.txt") {
    TempDir dir;
    write_bytes(dir / name, text);
    return Template::load(dir / name);
}
}  // namespace

TEST_CASE("instruct: the three forms of a row") {
    auto rows = read_rows(
        "\xef\xbb\xbf{\"instruction\": \"do\", \"input\": \"it\", \"output\": \"done\", \"task\": \" lists/first \", "
        "\"id\": 7}\r\n\n"
        "{\"prompt\": \"p\", \"completion\": \"c\", \"task\": null}\n"
        "{\"instruction\": \"i\", \"input\": \" \\n\", \"output\": [\"x\", \" \", \"y\"], \"options\": [\"x\", \"y\", "
        "\"z\"], \"examples\": [{\"input\": \"a\", \"output\": \"b\"}, {\"output\": \"c\"}]}\n"
        "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": \"u\"}, "
        "{\"role\": \"assistant\", \"content\": \"a\"}, "
        "{\"role\": \"user\", \"content\": \"v\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n"
        "{\"instruction\": \"nothing to learn\", \"output\": \"\"}\n{\"instruction\": \"nor here\", \"output\": []}");
    REQUIRE(rows.size() == 6);
    CHECK((rows[0].task == "lists/first" && rows[0].turns[0].instruction == "do" && rows[0].turns[0].input == "it" &&
           rows[0].turns[0].output == "done"));
    CHECK(rows[0].outputs == Texts{"done"});
    CHECK(has(rows[1].where, "x.jsonl, line 3"));
    CHECK((rows[1].task.empty() && rows[1].turns[0].instruction == "p" && rows[1].turns[0].input.empty() &&
           rows[1].outputs == Texts{"c"}));
    CHECK((rows[2].turns[0].input.empty() && rows[2].outputs == Texts{"x", "y"} &&
           rows[2].options == Texts{"x", "y", "z"}));
    REQUIRE(rows[2].examples.size() == 2);
    CHECK((rows[2].examples[0].input == "a" && rows[2].examples[0].output == "b" && rows[2].examples[1].input.empty()));
    CHECK((rows[3].system == "s" && rows[3].turns.size() == 2 && rows[3].turns[0].instruction == "u" &&
           rows[3].turns[0].output == "a"));
    CHECK((rows[3].turns[1].instruction == "v" && rows[3].turns[1].output == "b" && rows[3].outputs == Texts{"b"}));
    CHECK((rows[4].outputs.empty() && rows[5].outputs.empty()));
    // rows to be answered
    rows = read_rows(
        "{\"instruction\": \"i\"}\n{\"prompt\": \"p\", \"completion\": null}\n{\"messages\": [{\"role\": \"user\", "
        "\"content\": \"u\"}]}\n",
        false);
    REQUIRE(rows.size() == 3);
    CHECK((rows[0].outputs.empty() && rows[1].outputs.empty() && rows[2].turns[0].instruction == "u"));
    CHECK(read_rows("").empty());
}

TEST_CASE("instruct: bad rows") {
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\""), "line 3, column"));
    CHECK(has(row_error("{\"instruction\": \"a\", \"instruction\": \"b\", \"output\": \"\"}"), "appears twice"));
    CHECK(has(row_error("[1, 2]"), "expected a JSON object, found \"[1, 2]\""));
    CHECK(has(row_error("\"text\""), "expected a JSON object"));
    CHECK(has(row_error("{\"instruction\": \"\xff\", \"output\": \"b\"}"), "expected UTF-8, found the byte 0xff"));
    CHECK(has(row_error("{\"instruction\": \"\\ud800\", \"output\": \"b\"}"), "this is not JSON"));
    CHECK(has(row_error("{\"instruction\": \"a\\u0000b\", \"output\": \"b\"}"), "found a NUL character"));
    CHECK(has(row_error("{}"), "expected \"instruction\", \"prompt\" or \"messages\", found an empty object"));
    CHECK(has(row_error("{\"text\": \"a\"}"),
              "expected \"instruction\", \"prompt\" or \"messages\", found the keys \"text\""));
    CHECK(has(row_error("{\"prompt\": \"a\", \"instruction\": \"b\", \"output\": \"c\"}"), "expected one of"));
    CHECK(has(row_error("{\"instruction\": \"a\"}"), "expected \"output\", found the keys \"instruction\""));
    CHECK(has(row_error("{\"prompt\": \"a\", \"output\": \"b\"}"), "expected \"completion\""));
    CHECK(has(row_error("{\"instruction\": 1, \"output\": \"b\"}"),
              "expected a string for \"instruction\", found \"1\""));
    CHECK(has(row_error("{\"instruction\": \" \\t\", \"output\": \"b\"}"),
              "expected a text in \"instruction\", found nothing"));
    CHECK(has(row_error("{\"instruction\": \"a\", \"input\": [], \"output\": \"b\"}"),
              "expected a string for \"input\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": 3}"), "expected a string for \"output\", found \"3\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": null}"),
              "expected a string for \"output\", found \"null\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": [\"b\", 3]}"),
              "expected a string for \"output\", found \"3\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"task\": 3}"), "expected a string for \"task\""));
    CHECK(
        has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"task\": \" \"}"), "expected a name in \"task\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"task\": \"x\\ny\"}"),
              "expected a task without control characters"));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"options\": \"b\"}"),
              "expected a list of strings for \"options\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"options\": [\"b\"]}"),
              "expected at least two options, found 1"));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"options\": [\"b\", \"b\"]}"),
              "expected different options, found \"b\" twice"));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"options\": [\"b\", \"\"]}"),
              "expected texts in \"options\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"options\": [\"c\", \"d\"]}"),
              "expected one of the options as output, found \"b\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"examples\": {}}"),
              "expected a list in \"examples\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"examples\": [\"x\"]}"),
              "expected examples {\"input\": ..., \"output\": ...}, found"));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"examples\": [{\"input\": \"x\"}]}"),
              "expected examples {\"input\""));
    CHECK(has(
        row_error("{\"instruction\": \"a\", \"output\": \"b\", \"examples\": [{\"input\": \"x\", \"output\": \"\"}]}"),
        "expected an \"output\" in every example"));
    CHECK(has(row_error("{\"messages\": []}"), "expected a list of messages"));
    CHECK(has(row_error("{\"messages\": \"hi\"}"), "expected a list of messages"));
    CHECK(has(row_error("{\"messages\": [\"hi\"]}"), "message 1: expected {\"role\""));
    CHECK(has(row_error("{\"messages\": [{\"role\": \"user\"}]}"), "expected \"content\""));
    auto message = [](const std::string& role, const std::string& content) {
        return "{\"role\": \"" + role + "\", \"content\": \"" + content + "\"}";
    };
    auto messages = [&](const Texts& list) {
        std::string s;
        for (const std::string& m : list) s += (s.empty() ? "" : ", ") + m;
        return row_error("{\"messages\": [" + s + "]}");
    };
    const std::string user = message("user", "hi"), assistant = message("assistant", "yes");
    CHECK(messages({user, assistant}) == "no error");
    CHECK(has(messages({message("robot", "hi"), assistant}), "message 1: expected the role user, found \"robot\""));
    CHECK(has(messages({assistant}), "message 1: expected the role user, found \"assistant\""));
    CHECK(has(messages({user, user, assistant}), "message 2: expected the role assistant, found \"user\""));
    CHECK(has(messages({user, message("system", "s"), assistant}),
              "message 2: expected the role assistant, found \"system\""));
    CHECK(
        has(messages({user}), "expected messages that end with the assistant's, found the last of the role \"user\""));
    CHECK(has(messages({message("system", "s")}), "expected messages that end with the assistant's"));
    CHECK(has(messages({message("user", " "), assistant}), "message 1: expected a text"));
    CHECK(has(messages({user, message("assistant", ""), user, assistant}), "message 2: expected a text"));
    CHECK(messages({user, message("assistant", "")}) == "no error");  // nothing to learn: counted by pack
    CHECK(has(error_of([] { InstructFile in("/", true); }), "found a directory"));
    CHECK(has(error_of([] { InstructFile in("/nowhere.jsonl", true); }), "No such file"));
}

TEST_CASE("fuzz: rows of instructions") {
    std::mt19937 rng(5);
    const std::string good =
        "{\"instruction\": \"a\", \"input\": \"b\", \"output\": [\"c\"], \"task\": \"t\", \"options\": [\"c\", \"d\"], "
        "\"examples\": [{\"input\": \"x\", \"output\": \"y\"}]}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}\n";
    int read = 0;
    for (int i = 0; i < 2000; i++) {
        std::string text = good;
        for (int n = 1 + rng() % 2; n > 0; n--) text[rng() % text.size()] = "\"{}[],: \\ua0\xff\0n"[rng() % 15];
        try {
            for (const InstructRow& row : read_rows(text)) {
                read++;
                CHECK(!row.turns.empty());
                render(Template::alpaca(), row, 2, true);
            }
        } catch (const Error&) {}
    }
    CHECK(read > 100);
}

TEST_CASE("instruct: templates") {
    // Alpaca's own text, as in its repository
    CHECK(joined(render(Template::alpaca(), row_of("Add.", "1 2", "3"), 0, true)) ==
          "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
          "response that appropriately completes the request.\n\n"
          "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:[3]");
    CHECK(joined(render(Template::alpaca(), row_of("Say hi.", "", "hi"), 0, true)) ==
          "Below is an instruction that describes a task. Write a response that appropriately completes the "
          "request.\n\n### Instruction:\nSay hi.\n\n### Response:[hi]");
    CHECK(joined(render(Template::short_one(), row_of("add", "1 2", "3"), 0, true)) ==
          "add\n1 2\nanswer :[ 3]");  // the space is the answer's
    CHECK(joined(render(Template::short_one(), row_of("add", "", "3"), 0, true)) == "add\nanswer :[ 3]");
    CHECK(Template::answer_of(" 3") == "3");
    CHECK(Template::answer_of("3") == "3");
    // what is put in is not looked at again
    CHECK(joined(render(Template::short_one(), row_of("{input}{output}", "{instruction}", "{input}"), 0, true)) ==
          "{input}{output}\n{instruction}\nanswer :[ {input}]");
    // a file of the user's: without an input its line goes, too
    Template t = from_text("Q: {instruction}\n\n  {input}\nA: {output}\r\n\n");
    CHECK((t.name == "mine" && t.text == "Q: {instruction}\n\n  {input}\nA: {output}" &&
           t.without_input == "Q: {instruction}\n\nA: {output}"));
    CHECK(from_text("{input} {instruction}\n{output}").without_input == " {instruction}\n{output}");
    CHECK(from_text("{\"a\": {instruction}}{output}").text ==
          "{\"a\": {instruction}}{output}");  // other braces are text
    // and back from its JSON, with the same fingerprint; another text, another fingerprint
    Template back = Template::from_json(parse_json(dump_json(t.json()), "t"), "t");
    CHECK((back.text == t.text && back.example == t.example && back.fingerprint() == t.fingerprint()));
    CHECK(from_text(dump_json(t.json(), 2), "template.json").fingerprint() == t.fingerprint());
    CHECK(t.fingerprint() != Template::alpaca().fingerprint());
    // how many worked examples are shown travels with it and is no part of what it is known by; files without it say
    // none
    Template shown = t;
    shown.shots = 2;
    CHECK((Template::from_json(shown.json(), "t").shots == 2 && shown.fingerprint() == t.fingerprint()));
    Json old =
        Json().set("name", t.name).set("text", t.text).set("without_input", t.without_input).set("example", t.example);
    CHECK((Template::from_json(old, "t").shots == 0 && template_fingerprint(old) == t.fingerprint()));
    for (Json bad : {Json(-1), Json(3), Json(1.0), Json("1")})
        CHECK(has(error_of([&] { Template::from_json(t.json().set("shots", bad), "t"); }),
                  "t: expected \"shots\" from 0 to 2, found"));

    CHECK(has(error_of([] { from_text("{instruction}"); }), "expected a template with {output}, found none"));
    CHECK(has(error_of([] { from_text("{output}"); }), "expected a template with {instruction}, found none"));
    CHECK(has(error_of([] { from_text(""); }), "expected a template with {instruction}, found none"));
    CHECK(has(error_of([] { from_text("{instruction}{output}."); }),
              "expected {output} at the end of the template, found \".\" behind it"));
    CHECK(has(error_of([] { from_text("{instruction}{output} {output}"); }),
              "expected a template with one {output}, found two"));
    CHECK(has(error_of([] { from_text("{instruction}{instruction}{output}"); }),
              "expected a template with one {instruction}, found two"));
    CHECK(has(error_of([] { from_text("{instruction}{answer}{output}"); }), "found {answer} in it"));
    CHECK(has(error_of([] { from_text("{instruction}<|endoftext|>{output}"); }),
              "expected a template without <|endoftext|>"));
    CHECK(has(error_of([] { from_text("{instruction}\xff{output}"); }), "expected UTF-8, found the byte 0xff"));
    CHECK(has(error_of([] { from_text("{\"name\": \"x\"}", "t.json"); }), "found no \"text\""));
    CHECK(has(error_of([] { from_text("{\"name\": 1}", "t.json"); }), "found something else than a string"));
    CHECK(has(error_of([] {
                  from_text(
                      "{\"name\": \"t\", \"text\": \"{instruction} {input} {output}\", \"without_input\": "
                      "\"{instruction}\\n{output}\", \"example\": \"\"}",
                      "t.json");
              }),
              "expected a space before {output} with and without input, or none in both"));
    // a row without input: without its paragraph, its line, or it alone
    CHECK(from_text("A\n\n### Input:\n{input}\n\n{instruction}\n{output}").without_input ==
          "A\n\n{instruction}\n{output}");
    CHECK(from_text("Q: {instruction}\nInput: {input}\nA: {output}").without_input == "Q: {instruction}\nA: {output}");
    CHECK(from_text("Q: {instruction}\n\nInput: {input}\nA: {output}").without_input ==
          "Q: {instruction}\n\nA: {output}");
    CHECK(from_text("Q: {instruction}\r\n\r\nInput:\r\n{input}\r\n\r\nA: {output}\r\n").without_input ==
          "Q: {instruction}\n\nA: {output}");
    CHECK(Template::without_its_part("\n{input} -> {output}") ==
          "\n -> {output}");  // of an example: the next one stays on its own line
    CHECK(Template::without_its_part("\n\nInput: {input}\nOutput: {output}") == "\n\nOutput: {output}");
    CHECK(Template::without_its_part("\n\n\n{input}\n\n{output}") == "\n\n{output}");
    CHECK(from_text("{input}\n\n{instruction}\n{output}").without_input == "{instruction}\n{output}");
    CHECK(from_text("In: {input}\n{instruction}\n{output}").without_input == "{instruction}\n{output}");
    CHECK(from_text("{instruction} about {input}\n{output}").without_input == "{instruction} about\n{output}");
    CHECK(from_text("{instruction}\n\n{input}{output}").without_input == "{instruction}\n\n{output}");
    CHECK(from_text("{instruction}\n\n{input} {output}").without_input == "{instruction}\n\n {output}");
    CHECK(from_text("{instruction}: {output}").without_input == "{instruction}: {output}");
    CHECK(from_text("{instruction}: {output}").example == "");
    CHECK(has(error_of([] { Template::load("alpacca"); }),
              "--template: expected alpaca, short or a file, found alpacca"));
    CHECK(has(error_of([&] { render(from_text("{instruction}{output}"), row_of("a", "b", "c"), 0, true); }),
              "x.jsonl, line 1: expected a template with {input}, since this row has one"));
}

TEST_CASE("instruct: worked examples, conversations, prompts to be answered") {
    InstructRow row = row_of("first?", "c d", "c");
    row.examples = {{"a b", "a"}, {"e f", "e"}};
    const Template t = Template::short_one();
    CHECK(joined(render(t, row, 0, true)) == "first?\nc d\nanswer :[ c]");
    CHECK(joined(render(t, row, 1, true)) == "first?\na b\nanswer : a\nc d\nanswer :[ c]");
    CHECK(joined(render(t, row, 2, true)) == "first?\na b\nanswer : a\ne f\nanswer : e\nc d\nanswer :[ c]");
    CHECK(joined(render(t, row, 9, true)) == joined(render(t, row, 2, true)));
    CHECK(joined(render(t, row, 1, false)) == "first?\na b\nanswer : a\nc d\nanswer :");
    row.examples = {{" ", "a"}};  // without an input
    CHECK(joined(render(t, row, 1, true)) == "first?\nanswer : a\nc d\nanswer :[ c]");
    CHECK(has(joined(render(Template::alpaca(), row, 1, true)),
              "### Instruction:\nfirst?\n\n### Example response:\na\n\n### Input:\nc d\n\n### Response:[c]"));
    Template plain = Template::short_one();
    plain.example.clear();
    CHECK(joined(render(plain, row, 0, true)) == "first?\nc d\nanswer :[ c]");
    CHECK(has(error_of([&] { render(plain, row, 1, true); }), "x.jsonl, line 1: expected a template with \"example\""));
    row = row_of("u", "", "a");
    row.turns.push_back({"v", "", "b"});
    row.system = "s";
    CHECK(joined(render(t, row, 0, true)) == "s\n\nu\nanswer :[ a]v\nanswer :[ b]");
    CHECK(joined(render(t, row, 0, false)) == "s\n\nu\nanswer :[ a]v\nanswer :");
}

TEST_CASE("instruct: what is learned is known by construction") {
    const Bpe bpe = small_bpe();
    const int32_t yes = 258, eot = bpe.eot();
    REQUIRE(bpe.tokens[yes] == " yes");
    RenderedRow r;
    auto encode = [&](const InstructRow& row) { encode_pieces(bpe, render(Template::short_one(), row, 0, true), r); };
    encode(row_of("a", "", "yes"));
    CHECK(r.ids == std::vector<int32_t>{'a', '\n', 'a', 'n', 's', 'w', 'e', 'r', ' ', ':', yes, eot});
    REQUIRE(r.spans.size() == 1);
    CHECK((r.spans[0].begin == 10 && r.spans[0].end == 12 && r.supervised() == 2));
    // the end token stands in each answer, and only there: the same text in a row is text
    encode(row_of("<|endoftext|>", "<|endoftext|>", "<|endoftext|>"));
    CHECK(std::count(r.ids.begin(), r.ids.end(), eot) == 1);
    CHECK(r.ids.back() == eot);
    CHECK(bpe.decode(r.ids) == "<|endoftext|>\n<|endoftext|>\nanswer : <|endoftext|><|endoftext|>");
    // a conversation: two answers, two ends
    InstructRow row = row_of("u", "", "yes");
    row.turns.push_back({"v", "", "no"});
    encode(row);
    REQUIRE(r.spans.size() == 2);
    CHECK(bpe.decode(std::vector<int32_t>(r.ids.begin() + r.spans[0].begin, r.ids.begin() + r.spans[0].end)) ==
          " yes<|endoftext|>");
    CHECK(bpe.decode(std::vector<int32_t>(r.ids.begin() + r.spans[1].begin, r.ids.begin() + r.spans[1].end)) ==
          " no<|endoftext|>");
    CHECK(r.spans[1].end == r.ids.size());
    // a prompt to be answered is, token for token, the beginning of the row that was learned
    std::mt19937 rng(3);
    for (int i = 0; i < 500; i++) {
        auto text = [&] {
            std::string s = "x";
            for (int n = rng() % 12; n > 0; n--)
                s += Texts{" yes", "no", "e", "s", " ", "\n", "<|endoftext|>", "\u00e9", ":", "'s"}[rng() % 10];
            return s;
        };
        InstructRow any = row_of(text(), rng() % 2 ? text() : "", text());
        if (rng() % 3 == 0) any.turns.push_back({text(), "", text()});
        any.examples = {{text(), text()}};
        for (const Template& t : {Template::short_one(), Template::alpaca()}) {
            RenderedRow whole, prompt;
            encode_pieces(bpe, render(t, any, i % 3, true), whole);
            encode_pieces(bpe, render(t, any, i % 3, false), prompt);
            REQUIRE(prompt.ids.size() == whole.spans.back().begin);
            CHECK(std::equal(prompt.ids.begin(), prompt.ids.end(), whole.ids.begin()));
            CHECK(whole.ids[whole.spans.back().end - 1] == eot);
            size_t ends = 0;
            for (int32_t id : whole.ids) ends += id == eot;
            CHECK(ends == any.turns.size());
        }
    }
}

TEST_CASE("instruct: rows that are too long") {
    const Bpe bpe = small_bpe();
    const Template t = Template::short_one();
    RenderedRow r;
    InstructRow row = row_of("pick", "one \u00e9\u00e9\u00e9 two",
                             "yes");  // pick \n 14 bytes \n answer : 2 tokens and the end
    row.examples = {{"q", "no"}, {"w", "no"}};
    auto fit = [&](const InstructRow& any, size_t shots, size_t max_len, bool truncate) {
        return render_row(bpe, t, any, shots, true, max_len, truncate, r);
    };
    CHECK((fit(row, 0, 0, false).fits && r.ids.size() == 30));
    CHECK((fit(row, 0, 30, false).fits && !fit(row, 0, 30, true).cut()));
    CHECK_FALSE(fit(row, 0, 29, false).fits);
    CHECK(r.ids.size() == 30);  // what there would have been, for the message
    // first examples go, ...
    size_t with_two = (fit(row, 2, 0, true), r.ids.size());
    Shortened s = fit(row, 2, with_two - 1, true);
    CHECK((s.fits && s.examples && !s.input && has(bpe.decode(r.ids), "q\nanswer : no\none")));
    s = fit(row, 2, 30, true);
    CHECK((s.fits && s.examples && !s.input &&
           bpe.decode(r.ids) == "pick\none \u00e9\u00e9\u00e9 two\nanswer : yes<|endoftext|>"));
    // ... then the end of the input, never within a character, never the answer or its end
    for (size_t max_len = 17; max_len < 30; max_len++) {
        s = fit(row, 0, max_len, true);
        CHECK((s.fits && s.input && !s.examples && r.ids.size() <= max_len && r.ids.size() + 2 > max_len));
        CHECK(bpe.decode(r.ids) ==
              "pick\n" + row.turns[0].input.substr(0, s.input_bytes) + "\nanswer : yes<|endoftext|>");
        CHECK(r.supervised() == 2);
        CHECK(r.ids.back() == bpe.eot());
        CHECK(invalid_utf8(bpe.decode(r.ids)) == std::string::npos);
    }
    for (size_t max_len : {1, 15, 16})
        CHECK_FALSE(fit(row, 0, max_len, true).fits);  // one character of the input has to stay
    CHECK_FALSE(fit(row_of("a long instruction", "", "yes"), 0, 20, true).fits);  // no instruction is cut
    CHECK_FALSE(fit(row_of("a", "input", "a long answer, which stays as it is"), 0, 20, true).fits);
    // of a conversation the earliest turns
    InstructRow talk = row_of("first", "", "yes");
    talk.turns.push_back({"second", "", "no"});
    talk.turns.push_back({"third", "", "yes"});
    s = fit(talk, 0, 35, true);
    CHECK((s.fits && s.turns && !s.input &&
           bpe.decode(r.ids) == "second\nanswer : no<|endoftext|>third\nanswer : yes<|endoftext|>"));
    CHECK(r.spans.size() == 2);
}

TEST_CASE("instruct: the text of a row in a .bin, and showing it") {
    TempDir dir;
    const Bpe bpe = small_bpe();
    InstructRow row = row_of("is it?", "so", "yes"), plain = row_of("say no", "", "no");
    row.outputs = {"yes", "Yes \"!\""};
    row.options = {"yes", "Yes \"!\"", "no"};
    BinWriter out(dir / "x.bin", BIN_INSTRUCT, bpe.size(), bpe.fingerprint());
    out.templ = Template::short_one().json();
    out.tasks = {"all"};
    RenderedRow r;
    for (const InstructRow& any : {row, plain}) {
        encode_pieces(bpe, render(Template::short_one(), any, 0, true), r);
        out.append(r.ids.data(), r.ids.size());
        out.end_row(0, r.spans, dump_instruct_text(any));
    }
    out.append(r.ids.data(), r.ids.size());
    out.end_row(0, r.spans, "{\"input\": 1}");
    out.finish();
    BinFile file(dir / "x.bin", BIN_INSTRUCT);
    InstructText text = parse_instruct_text(file, 0);
    CHECK((text.input == "so" && text.outputs == row.outputs && text.options == row.options));
    text = parse_instruct_text(file, 1);
    CHECK((text.input == "say no" && text.outputs == Texts{"no"} && text.options.empty()));
    CHECK(has(error_of([&] { parse_instruct_text(file, 2); }),
              "x.bin, text of row 2: expected \"input\" and \"outputs\", found {\"input\": 1}"));
    CHECK(Template::from_json(file.templ, file.path).fingerprint() == file.header.templ);
    CHECK(show_row(file, bpe, 0) ==
          "---- row 1 of 3, task all, 20 tokens, 2 supervised\nis it?\nso\nanswer :\u27e6 yes<|endoftext|>\u27e7\n");
}
