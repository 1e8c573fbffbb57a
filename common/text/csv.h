// csv.h: the fields of a row of a CSV or TSV file.
//
//   TSV   a tab ends a field. No quoting: a quote is a letter.
//   CSV   RFC 4180: a comma ends a field; "a field in quotes" may hold commas, line breaks and, as "", quotes
#pragma once
#include <vector>

#include "common/text/line_reader.h"

struct CsvFields {
    std::vector<std::string> text;  // the first `count` are those of the row; the others are kept for their memory
    size_t count = 0;

    std::string& add() {
        if (count == text.size()) text.emplace_back();
        text[count].clear();
        return text[count++];
    }
    void read_tsv(const LineReader& lines) {  // from the line that was read last
        count = 0;
        std::string_view rest = lines.line;
        for (size_t tab; (tab = rest.find('\t')) != rest.npos; rest.remove_prefix(tab + 1))
            add().assign(rest.substr(0, tab));
        add().assign(rest);
    }
    // From the line that was read last; a field in quotes may continue in the lines after it, which are then read.
    void read_csv(LineReader& lines) {
        count = 0;
        for (size_t at = 0;; at++) {  // at the beginning of a field
            std::string& field = add();
            if (at < lines.line.size() && lines.line[at] == '"') {
                at = read_quoted(lines, field, at + 1);
            } else {
                size_t end = std::min(lines.line.find_first_of(",\"", at), lines.line.size());
                field.assign(lines.line, at, end - at);
                at = end;
                if (at < lines.line.size() && lines.line[at] == '"')
                    lines.bad(lines.number,
                              "expected quotes around the whole field, found one inside: " + start_of(field + "\""));
            }
            if (at == lines.line.size()) return;
            if (lines.line[at] != ',')
                lines.bad(lines.number,
                          "expected a comma after the closing quote, found " + start_of(lines.line.substr(at)));
        }
    }

private:
    // at: after the opening quote. Returns the place after the closing one, in what is then the line.
    static size_t read_quoted(LineReader& lines, std::string& field, size_t at) {
        size_t opened = lines.number;
        for (;;) {
            size_t quote = lines.whole.find('"', at);
            field.append(lines.whole, at, quote - at);  // a quote that is not there: all of the line, with its break
            at = quote + 1;
            if (quote == lines.whole.npos) {
                if (!lines.next())
                    lines.bad(opened, "expected a closing quote, found the end of the file: a quote was opened here");
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

// Writes a text as one field of a TSV line: tabs, line breaks and other control characters become spaces.
inline void append_tsv_field(std::string& out, std::string_view text) {
    const char *p = text.data(), *end = p + text.size(), *kept = p;  // out has what is before `kept`
    while (p < end) {
        const char* start = p;
        int32_t c = (unsigned char)*p < 128 ? *p++ : next_code_point(p, end);
        // C0, DEL, C1, line and paragraph separator
        bool breaks = c < 32 || (c >= 127 && c < 160) || c == 0x2028 || c == 0x2029;
        if (!breaks) continue;
        out.append(kept, start) += ' ';
        kept = p;
    }
    out.append(kept, end);
}
