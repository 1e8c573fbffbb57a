// bad_rows.h: rows of an input that cannot be answered: each is told with its place, counted, and the others go on. The
// program ends with exit code 1 then.
#pragma once
#include <stdio.h>

#include <algorithm>

#include "common/base/cli.h"

struct BadRows {
    std::string on_error = "skip";
    size_t rows = 0, count = 0;        // all, and those that are bad
    std::vector<std::string> blank{};  // errors of blank rows, which are none if nothing but blank rows follows

    Flag flag() {
        return {"on-error", &on_error, "skip|stop",
                "what a row does that cannot be answered: skip: it is told on standard error, has an empty line or an "
                "\"error\" for an answer, and the exit code is 1 in the end; stop: it ends the program"};
    }
    // Every row in turn. error: "FILE, line N: expected ..., found ..."; "": it has none
    void row(const std::string& error, bool is_blank) {
        rows++;
        if (is_blank) return blank.push_back(error);
        add_blank_rows();
        if (!error.empty()) add(error);
    }
    void add_blank_rows() {
        for (const std::string& error : blank) add(error);
        blank.clear();
    }
    // After the last row: the exit code
    int finish() const {
        if (count) fprintf(stderr, "%zu of %zu rows have no answer\n", count, rows);
        return count ? EXIT_FAILED : EXIT_OK;
    }

private:
    static constexpr size_t MOST_SHOWN = 20;
    void add(std::string what) {
        if (on_error == "stop") fail("%s", what.c_str());
        std::replace(what.begin(), what.end(), '\n', ' ');
        if (++count <= MOST_SHOWN) fprintf(stderr, "error: %s\n", what.c_str());
        if (count == MOST_SHOWN) fprintf(stderr, "(further rows are only counted)\n");
    }
};
