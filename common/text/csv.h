// csv.h: the fields of a row of a CSV or TSV file.
//
//   TSV   a tab ends a field. No quoting: a quote is a letter.
//   CSV   RFC 4180: a comma (or ; or a tab) ends a field; "a field in quotes" may hold separators, line breaks and, as
//         "", quotes. A quote within a field that does not begin with one is a letter.
#pragma once
#include <vector>

#include "common/text/line_reader.h"

struct CsvFields {
    char separator;
    bool quotes;                    // false: TSV
    std::vector<std::string> text;  // the first `count` are those of the row; the others are kept for their memory
    size_t count = 0;
    size_t begin = 0;  // the row's first line

    explicit CsvFields(char separator = ',', bool quotes = true) : separator(separator), quotes(quotes) {}
    // The next row; false at the end of the file. A row that is no CSV is a BadRow and costs its first line only: what
    // its quotes took in with it is read once more, now as rows of one line, up to the line where the row went wrong.
    bool read(LineReader& lines) {
        caller_keeps = lines.keeping;
        if (!lines.next_line()) return false;
        begin = lines.number;
        count = 0;
        std::string problem = text_fault(lines.whole);  // told when the whole row was read
        size_t problem_at = begin;
        for (size_t at = 0;; at++) {  // at the beginning of a field
            std::string& field = add();
            if (quotes && at < lines.line.size() && lines.line[at] == '"') {
                at = read_quoted(lines, field, at + 1, problem, problem_at);
                const char* name = separator == ',' ? "comma" : separator == ';' ? "semicolon" : "tab";
                if (at < lines.line.size() && lines.line[at] != separator)
                    give_up(lines, format("expected a %s after the closing quote%s, found ", name,
                                       lines.number > begin ? format(" in line %zu", lines.number).c_str() : "") +
                                       start_of(lines.line.substr(at)));
            } else {
                size_t end = std::min(lines.line.find(separator, at), lines.line.size());
                field.assign(lines.line, at, end - at);
                at = end;
            }
            if (at == lines.line.size()) break;
        }
        lines.keeping = caller_keeps;
        if (!problem.empty()) lines.bad(problem_at, problem);
        return true;
    }

private:
    size_t single_before = 0;   // rows that begin before this line have one line
    bool caller_keeps = false;  // and rewinds

    std::string& add() {
        if (count == text.size()) text.emplace_back();
        text[count].clear();
        return text[count++];
    }
    [[noreturn]] void give_up(LineReader& lines, const std::string& what) {
        if (lines.number > begin && !caller_keeps) {
            single_before = lines.number;
            lines.rewind();
        }
        lines.bad(begin, what);
    }
    // at: after the opening quote. Returns the place after the closing one, in what is then the line.
    size_t read_quoted(LineReader& lines, std::string& field, size_t at, std::string& problem, size_t& problem_at) {
        for (;;) {
            size_t quote = lines.whole.find('"', at);
            field.append(lines.whole, at, quote - at);  // a quote that is not there: all of the line, with its break
            at = quote + 1;
            if (quote == lines.whole.npos) {
                if (begin < single_before) lines.bad(begin, "expected a closing quote in this line, found none");
                if (lines.number == begin && !caller_keeps) lines.keep();
                if (!lines.next_line()) {
                    lines.number++;  // all of the file was read
                    give_up(lines, "expected a closing quote, found the end of the file: a quote was opened here");
                }
                if (problem.empty()) {
                    problem = text_fault(lines.whole);
                    problem_at = lines.number;
                }
                at = 0;
            } else if (at < lines.whole.size() && lines.whole[at] == '"') {
                field += '"';
                at++;
            } else {
                return at;
            }
        }
    }
};

// Writes a text as one field of a TSV line: tabs, line breaks and other control characters (C0, DEL, C1, line and
// paragraph separator) become spaces.
inline void append_tsv_field(std::string& out, std::string_view text) {
    for (const char *p = text.data(), *end = p + text.size(), *start = p; p < end; start = p) {
        const int32_t c = (unsigned char)*p < 128 ? *p++ : next_code_point(p, end);
        const bool breaks = c < 32 || (c >= 127 && c < 160) || c == 0x2028 || c == 0x2029;
        if (breaks) out += ' ';
        else out.append(start, p);
    }
}
