// answered_rows.h: rows of an input that are answered line for line. One that cannot be is told, counted and answered
// by an empty line or an "error", and the exit code is 1 in the end (--on-error skip), or it ends the program (stop).
#pragma once
#include "common/base/cli.h"
#include "common/text/line_reader.h"

struct AnsweredRows : BadRows {
    std::vector<std::string> blank{};  // errors of blank rows, which are none if nothing but blank rows follows

    Flag flag() {
        return {"on-error", &on_error, "skip|stop",
            "what happens to rows that cannot be answered: they are named, counted and have an empty line or an "
            "\"error\" for an answer, and the exit code is 1 in the end; or the first of them ends it"};
    }
    // Every row in turn, then finish(). error: "" where it has none
    void row(const std::string& error, bool is_blank = false) {
        if (is_blank) return blank.push_back(error);
        for (const std::string& e : std::exchange(blank, {})) add(e);
        if (!error.empty()) add(error);
    }
};

// All rows of an input, by next(row); and of JSON, an object a line, the blank lines among them, not those after the
// last. A Row has where and error.
template <class Row, class Next> std::vector<Row> read_rows(LineReader& lines, Next next) {
    std::vector<Row> rows;
    size_t line = 0;  // of the row before
    for (Row row; next(row); row = {}) {
        for (line++; !lines.over_lines && line < lines.number; line++) {
            Row empty;
            empty.where = format("%s, line %zu", lines.path.c_str(), line);
            empty.error = empty.where + ": expected a JSON object, found an empty line";
            rows.push_back(empty);
        }
        line = lines.number;
        rows.push_back(row);
    }
    return rows;
}
