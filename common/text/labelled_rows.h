// labelled_rows.h: texts with labels, one row after another, from a .tsv, .csv or .jsonl file of any size.
//
//   TSV     the first line names the columns. No quoting: a quote is a letter.
//   CSV     the first row names the columns. RFC 4180: "a field in quotes", "" for a quote in it, line breaks allowed
//   in it. JSONL   an object per line. Texts are strings; a label is a string, an integer or a boolean (written 3,
//   true).
//
// Columns come in any order, others are ignored. UTF-8, with or without a byte order mark; lines end in LF or CRLF;
// empty lines at the end are ignored (in JSONL anywhere), as is white space around labels and names of columns. An
// empty second text means that this row has only one. A column text2 may be missing, unless it was asked for by another
// name. Where no label is needed, it may be missing or empty. What is not so is an error that begins with FILE, line N.
//
//   LabelledFile in("train.tsv", {}, true);
//   for (LabelledRow row; in.next(row);) ...
#pragma once
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/json.h"
#include "common/base/unicode.h"

struct LabelledRow {
    std::string text, text2, label;
    bool pair = false, has_label = false;  // is there a text2, is there a label
    size_t line = 0;                       // where the row begins, from 1
};
struct LabelledColumns {
    std::string text = "text", text2 = "text2", label = "label";
};

// The text as one cell of a line: tabs, line breaks and other control characters become spaces.
inline void append_cell(std::string& out, std::string_view text) {
    const char *p = text.data(), *end = p + text.size(), *kept = p;  // out has what is before `kept`
    while (p < end) {
        const char* start = p;
        int32_t c = (unsigned char)*p < 128 ? *p++ : next_code_point(p, end);
        bool breaks = c < 32 || (c >= 127 && c < 160) || c == 0x2028 ||
                      c == 0x2029;  // C0, DEL, C1, line and paragraph separator
        if (!breaks) continue;
        out.append(kept, start) += ' ';
        kept = p;
    }
    out.append(kept, end);
}
// What predictions show of a row: its text; of a pair both, with a tab between them
inline void append_shown(std::string& out, const LabelledRow& row) {
    append_cell(out, row.text);
    if (row.pair) append_cell(out += '\t', row.text2);
}

// at most 40 bytes of a text, as a JSON string
inline std::string start_of(std::string_view s) {
    size_t n = std::min<size_t>(s.size(), 40);
    while (n < s.size() && n > 0 && (s[n] & 0xC0) == 0x80) n--;  // not within a character
    return dump_json(std::string(s.substr(0, n)));
}
inline std::string trimmed(const std::string& s) {
    size_t first = s.find_first_not_of(" \t\r\n\v\f");
    return first == s.npos ? "" : s.substr(first, s.find_last_not_of(" \t\r\n\v\f") + 1 - first);
}
inline bool blank(const std::string& s) { return s.find_first_not_of(" \t\r\n\v\f") == s.npos; }

// ---------------------------------------------------------------- lines
struct LineReader {
    std::string path;
    FILE* file = nullptr;
    char* buffer = nullptr;
    size_t capacity = 0;
    std::string_view line;   // as next() has left it: without its line break, ...
    std::string_view whole;  // ... and with it
    size_t number = 0;       // of this line, from 1
    size_t bytes = 0;        // read so far

    explicit LineReader(const std::string& path) : path(path) {
        if (is_directory(path)) fail("cannot read %s: expected a file, found a directory", path.c_str());
        file = fopen(path.c_str(), "rb");
        if (!file) fail("cannot read %s: %s", path.c_str(), strerror(errno));
    }
    LineReader(FILE* open, const std::string& name) : path(name), file(open) {}  // standard input, which stays open
    ~LineReader() {
        free(buffer);
        if (file && file != stdin) fclose(file);
    }
    LineReader(const LineReader&) = delete;
    LineReader& operator=(const LineReader&) = delete;

    bool next() {
        ssize_t n = getline(&buffer, &capacity, file);
        if (n < 0 && !feof(file)) fail("cannot read %s: %s", path.c_str(), strerror(errno));
        line = whole = {};
        if (n < 0) return false;
        number++;
        bytes += n;
        whole = std::string_view(buffer, n);
        if (number == 1 && whole.substr(0, 3) == "\xef\xbb\xbf") whole.remove_prefix(3);
        if (memchr(whole.data(), 0, whole.size())) bad(number, "expected text, found a NUL byte");
        size_t at = invalid_utf8(whole);
        if (at != whole.npos)
            bad(number,
                format("expected UTF-8, found the byte 0x%02x; convert the file first", (unsigned char)whole[at]));
        line = whole;
        if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        return true;
    }
    [[noreturn]] void bad(size_t number, const std::string& what) const {
        fail("%s, line %zu: %s", path.c_str(), number, what.c_str());
    }

    // The next line that is not blank, as a JSON object; false at the end of the file
    bool next_object(Json& json) {
        do
            if (!next()) return false;
        while (line.find_first_not_of(" \t\r") == line.npos);
        const std::string where = format("%s, line %zu", path.c_str(), number), line_1 = where + ": line 1, ";
        if (line[line.find_first_not_of(" \t\r")] != '{')
            bad(number, "expected a JSON object, found " + start_of(line));
        try {
            json = parse_json(line, where);
        } catch (const Error& e) {  // the parser's line is always 1 here
            std::string what = e.what();
            if (what.compare(0, line_1.size(), line_1) == 0) what.replace(0, line_1.size(), where + ", ");
            throw Error(e.code, what);
        }
        return true;
    }
    // "text" needed, found "label", "n"
    [[noreturn]] void bad_keys(const Json& json, const std::string& expected) const {
        std::string found;
        for (const auto& [name, v] : json.o) found += (found.empty() ? "" : ", ") + start_of(name);
        bad(number, "expected " + expected + ", found " + (found.empty() ? "an empty object" : "the keys " + found));
    }
};

// ---------------------------------------------------------------- rows
struct LabelledFile {
    enum Kind { TSV, CSV, JSONL } kind;
    LabelledColumns columns;
    bool need_label;
    LineReader lines;
    std::vector<std::string>
        fields;  // of the row read last; only the first n_fields are its own, the others are kept for their memory
    size_t n_fields = 0, width = 0;                  // width: fields in the header
    size_t text_at = 0, text2_at = 0, label_at = 0;  // columns; NONE: there is none
    static constexpr size_t NONE = (size_t)-1;

    LabelledFile(const std::string& path, const LabelledColumns& columns, bool need_label)
        : kind(kind_of(path)), columns(columns), need_label(need_label), lines(path) {
        if (columns.text == columns.text2 || columns.text == columns.label || columns.text2 == columns.label)
            fail_usage("expected three different columns, found text \"%s\", second text \"%s\", label \"%s\"",
                       columns.text.c_str(), columns.text2.c_str(), columns.label.c_str());
        if (kind != JSONL) read_header();
    }

    size_t bytes() const { return lines.bytes; }  // read so far

    // The next row, or false at the end of the file
    bool next(LabelledRow& row) {
        if (!(kind == JSONL ? read_json(row) : read_columns(row))) return false;
        for (const std::string* s : {&row.text, &row.text2, &row.label})
            if (s->find('\0') != s->npos)
                lines.bad(row.line, "expected text, found a NUL character");  // JSON can write one
        if (blank(row.text))
            lines.bad(row.line, format("expected a text in \"%s\", found nothing", columns.text.c_str()));
        row.pair = !blank(row.text2);
        row.label = trimmed(row.label);
        row.has_label = !row.label.empty();
        if (!row.pair) row.text2.clear();
        if (need_label && !row.has_label)
            lines.bad(row.line, format("expected a label in \"%s\", found nothing", columns.label.c_str()));
        for (unsigned char c : row.label)
            if (c < 32 || c == 127)
                lines.bad(row.line, "expected a label without control characters, found " + dump_json(row.label));
        return true;
    }

private:
    static Kind kind_of(const std::string& path) {
        auto ends = [&](std::string_view end) {
            return path.size() > end.size() && std::string_view(path).substr(path.size() - end.size()) == end;
        };
        if (ends(".tsv")) return TSV;
        if (ends(".csv")) return CSV;
        if (ends(".jsonl")) return JSONL;
        fail_usage("%s: expected a file that ends in .tsv, .csv or .jsonl", path.c_str());
    }
    // Is the row's second text optional? By its usual name it is.
    bool text2_may_be_missing() const { return columns.text2 == LabelledColumns().text2; }

    std::string& new_field() {
        if (n_fields == fields.size()) fields.emplace_back();
        fields[n_fields].clear();
        return fields[n_fields++];
    }

    void split_tsv() {
        n_fields = 0;
        std::string_view rest = lines.line;
        for (size_t tab; (tab = rest.find('\t')) != rest.npos; rest.remove_prefix(tab + 1))
            new_field().assign(rest.substr(0, tab));
        new_field().assign(rest);
    }

    // From the line read last; a field in quotes can go on in the lines behind it.
    void split_csv() {
        n_fields = 0;
        for (size_t at = 0;; at++) {  // at the beginning of a field
            std::string& field = new_field();
            if (at < lines.line.size() && lines.line[at] == '"')
                at = quoted_field(field, at + 1);
            else {
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
                          "expected a comma behind the closing quote, found " + start_of(lines.line.substr(at)));
        }
    }
    // From behind the opening quote; returns the place behind the closing one, in what is then the line.
    size_t quoted_field(std::string& field, size_t at) {
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

    void split() { kind == TSV ? split_tsv() : split_csv(); }

    void read_header() {
        if (!lines.next())
            lines.bad(1, format("expected a header with the column \"%s\", found an empty file", columns.text.c_str()));
        split();
        width = n_fields;
        std::string found;
        for (size_t i = 0; i < width; i++) found += (i ? ", " : "") + start_of(fields[i]);
        auto place = [&](const std::string& name, const char* flag, bool needed) {
            size_t at = NONE;
            for (size_t i = 0; i < width; i++) {
                if (trimmed(fields[i]) != name) continue;
                if (at != NONE) lines.bad(1, "expected the column \"" + name + "\" once, found it twice");
                at = i;
            }
            if (at == NONE && needed)
                lines.bad(1, "expected a column \"" + name + "\", found the columns " + found +
                                 "; another is named with " + flag);
            return at;
        };
        text_at = place(columns.text, "--text-column", true);
        text2_at = place(columns.text2, "--text2-column", !text2_may_be_missing());
        label_at = place(columns.label, "--label-column", need_label);
    }

    bool read_columns(LabelledRow& row) {
        if (!lines.next()) return false;
        if (lines.line.empty()) {  // all right if nothing but empty lines follows
            size_t empty = lines.number;
            while (lines.line.empty())
                if (!lines.next()) return false;
            lines.bad(empty, "expected a row, found an empty line with rows behind it");
        }
        row.line = lines.number;
        split();
        if (n_fields != width)
            lines.bad(row.line, format("expected %zu columns as in the header, found %zu", width, n_fields));
        row.text.swap(fields[text_at]);
        row.text2.clear();
        row.label.clear();
        if (text2_at != NONE) row.text2.swap(fields[text2_at]);
        if (label_at != NONE) row.label.swap(fields[label_at]);
        return true;
    }

    bool read_json(LabelledRow& row) {
        Json json;
        if (!lines.next_object(json)) return false;
        row.line = lines.number;
        auto get = [&](const std::string& key, bool needed, bool is_label, std::string& to) {
            to.clear();
            const Json* value = json.find(key);
            if (!value && needed) lines.bad_keys(json, "\"" + key + "\"");
            if (!value || (value->kind == Json::null && !needed)) return;
            if (value->kind == Json::string)
                to = value->s;
            else if (is_label && (value->kind == Json::integer || value->kind == Json::boolean))
                to = dump_json(*value);
            else
                lines.bad(row.line, "expected " +
                                        std::string(is_label ? "a string, an integer or a boolean" : "a string") +
                                        " for \"" + key + "\", found " + start_of(dump_json(*value)));
        };
        get(columns.text, true, false, row.text);
        get(columns.text2, !text2_may_be_missing(), false, row.text2);
        get(columns.label, need_label, true, row.label);
        return true;
    }
};
