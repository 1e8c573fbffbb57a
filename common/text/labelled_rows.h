// labelled_rows.h: texts with labels, one row after another, from a .tsv, .csv or .jsonl file of any size.
//
//   TSV, CSV   the first row names the columns; what a field is: csv.h
//   JSONL      an object per line; texts are strings; a label is a string, an integer or a boolean (written 3, true)
//
// Columns come in any order, others are ignored. UTF-8, with or without a byte order mark; lines end in LF or CRLF;
// empty lines at the end are ignored (in JSONL anywhere), as is white space around labels and names of columns. An
// empty second text means that this row has only one. A column text2 may be missing, unless it was named on the command
// line. Where no label is needed, it may be missing or empty. All else is an error that begins with FILE, line N.
//
//   LabelledFile in("train.tsv", {}, true);
//   for (LabelledRow row; in.next(row);) ...
#pragma once
#include "common/text/csv.h"

struct LabelledRow {
    std::string text, text2, label;
    bool pair = false, has_label = false;  // is there a text2, is there a label
    size_t line = 0;                       // where the row begins, from 1
};
struct LabelledColumns {
    std::string text = "text", text2 = "text2", label = "label";
};

// The texts of a row as fields of a TSV line: what predictions show
inline void append_shown(std::string& out, const LabelledRow& row) {
    append_tsv_field(out, row.text);
    if (row.pair) append_tsv_field(out += '\t', row.text2);
}

struct LabelledFile {
    enum Kind { TSV, CSV, JSONL } kind;
    LabelledColumns columns;
    bool need_label;
    LineReader lines;
    CsvFields fields;                                // of the row read last
    size_t width = 0;                                // fields in the header
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
            // JSON can write a NUL
            if (s->find('\0') != s->npos) lines.bad(row.line, "expected text, found a NUL character");
        if (blank(row.text))
            lines.bad(row.line, format("expected a text in \"%s\", found nothing", columns.text.c_str()));
        row.pair = !blank(row.text2);
        row.label = trimmed(row.label);
        row.has_label = !row.label.empty();
        if (!row.pair) row.text2.clear();
        if (need_label && !row.has_label)
            lines.bad(row.line, format("expected a label in \"%s\", found nothing", columns.label.c_str()));
        if (visible(row.label) != row.label)
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
    // Is the row's second text optional? By its default name it is.
    bool text2_may_be_missing() const { return columns.text2 == LabelledColumns().text2; }

    void read_fields() { kind == TSV ? fields.read_tsv(lines) : fields.read_csv(lines); }

    void read_header() {
        if (!lines.next())
            lines.bad(1, format("expected a header with the column \"%s\", found an empty file", columns.text.c_str()));
        read_fields();
        width = fields.count;
        std::string found;
        for (size_t i = 0; i < width; i++) found += (i ? ", " : "") + start_of(fields.text[i]);
        auto place = [&](const std::string& name, const char* flag, bool needed) {
            size_t at = NONE;
            for (size_t i = 0; i < width; i++) {
                if (trimmed(fields.text[i]) != name) continue;
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
            lines.bad(empty, "expected a row, found an empty line with rows after it");
        }
        row.line = lines.number;
        read_fields();
        if (fields.count != width)
            lines.bad(row.line, format("expected %zu columns as in the header, found %zu", width, fields.count));
        row.text.swap(fields.text[text_at]);
        row.text2.clear();
        row.label.clear();
        if (text2_at != NONE) row.text2.swap(fields.text[text2_at]);
        if (label_at != NONE) row.label.swap(fields.text[label_at]);
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
