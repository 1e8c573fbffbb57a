// test_answered_rows.cpp: an answer for each line, and what is told of lines that have none.
#include "common/text/line_reader.h"

#include <doctest/doctest.h>

#include "test/temp.h"

struct Row {
    std::string where, error;
    Json json;
};
// The rows of a file of JSON: "a" for {"id": "a"}, "!" for an error, "" for an empty line
static std::vector<std::string> rows_of(const std::string& text) {
    TempDir temp;
    write_bytes(temp / "rows.jsonl", text);
    LineReader lines(temp / "rows.jsonl");
    std::vector<std::string> found;
    const std::vector<Row> rows = read_rows<Row>(lines, [&](Row& row) {
        try {
            return lines.next_object(row.json);
        } catch (const BadRow& e) {
            row.error = e.what();
            return true;
        }
    });
    for (const Row& row : rows) {
        const bool empty = row.error.find("found an empty line") != row.error.npos;
        found.push_back(empty ? "" : !row.error.empty() ? "!" : row.json.find("id")->s);
    }
    return found;
}

TEST_CASE("answered rows: a row for every line") {
    const std::string a = "{\"id\": \"a\"}\n", b = "{\"id\": \"b\"}";
    using Rows = std::vector<std::string>;
    CHECK(rows_of("") == Rows{});
    CHECK(rows_of(a + b) == Rows{"a", "b"});
    CHECK(rows_of("\n \n" + a + "\n" + b + "\n\n\t\n") == Rows{"", "", "a", "", "b"});  // none after the last row
    CHECK(rows_of(a + "{\n\xff\n\n" + b) == Rows{"a", "!", "!", "", "b"});
    CHECK(rows_of("\n\n") == Rows{});
    CHECK(rows_of("[\n\n" + a + ",\n\n" + b + "]\n\n") == Rows{"a", "b"});  // one array: lines are no rows
}

TEST_CASE("answered rows: blank ones at the end are no error") {
    auto bad = [](std::vector<std::pair<const char*, bool>> list, const char* on_error = "skip") {
        AnsweredRows rows;
        rows.on_error = on_error;
        for (auto [error, blank] : list) rows.row(error, blank);
        return rows.count;
    };
    CHECK(bad({{"", false}, {"", false}}) == 0);
    CHECK(bad({{"", false}, {"empty", true}, {"empty", true}}) == 0);
    CHECK(bad({{"empty", true}, {"", false}, {"wrong", false}, {"empty", true}}) == 2);
    CHECK(bad({{"", false}, {"empty", true}}, "stop") == 0);
    CHECK_THROWS_WITH(bad({{"empty", true}, {"", false}}, "stop"), "empty");
    AnsweredRows rows;
    rows.finish("none");
    rows.row("wrong");
    CHECK_THROWS_WITH(rows.finish("the others are there"),
        "1 row was left out; the others are there; --on-error stop ends at the first");
}
