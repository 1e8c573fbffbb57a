// test_instruct_rows.cpp: rows of instructions are read, or refused with their line.
#include "common/text/instruct_rows.h"

#include <random>

#include "test/text/instruct_rows.h"

namespace {
std::vector<InstructRow> read_rows(const std::string& text, bool need_output = true) {
    TempDir dir;
    write_bytes(dir / "x.jsonl", text);
    InstructFile in(dir / "x.jsonl", need_output);
    std::vector<InstructRow> rows;
    for (InstructRow row; in.next(row);) {
        if (!row.error.empty()) throw Error(EXIT_FAILED, row.error);
        rows.push_back(row);
    }
    return rows;
}
// of line 3, after a good row and an empty line
std::string row_error(const std::string& line, bool need_output = true) {
    std::string good = need_output ? "{\"prompt\": \"a\", \"completion\": \"b\"}\n\n" : "{\"prompt\": \"a\"}\n\n";
    std::string e = error_of([&] { read_rows(good + line + "\n", need_output); });
    if (e != "no error") CHECK(has(e, "x.jsonl, line 3"));
    CHECK(e.find('\n') == e.npos);
    return e;
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
    CHECK(has(row_error("{\"instruction\": {}, \"output\": \"b\"}"),
        "expected a string, a number or a boolean for \"instruction\", found \"{}\""));
    CHECK(has(row_error("{\"instruction\": \" \\t\", \"output\": \"b\"}"),
        "expected a text in \"instruction\", found nothing"));
    CHECK(has(row_error("{\"instruction\": \"a\", \"input\": [], \"output\": \"b\"}"),
        "expected a string, a number or a boolean for \"input\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": {\"b\": 3}}"),
        "expected a string, a number or a boolean for \"output\", found \"{\\\"b\\\": 3}\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": [\"b\", [3]]}"),
        "expected a string, a number or a boolean for \"output\", found \"[3]\""));
    CHECK(has(row_error("{\"instruction\": \"a\", \"output\": \"b\", \"task\": [3]}"),
        "expected a string, a number or a boolean for \"task\""));
    CHECK(has(row_error("{\"instruction\": null, \"output\": \"b\"}"), "expected \"instruction\", \"prompt\" or"));
    CHECK(has(row_error("{\"instruction\": NaN, \"output\": \"b\"}"), "expected \"instruction\", \"prompt\" or"));
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
    CHECK(has(
        row_error("{\"instruction\": \"a\", \"output\": \"b\", \"examples\": {}}"), "expected a list in \"examples\""));
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
                render(alpaca_template(), row, 2, true);
            }
        } catch (const Error&) {}
    }
    CHECK(read > 100);
}
