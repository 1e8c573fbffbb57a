// labelled_rows.h: texts with labels, one row of a file after another. It is the one reader of such rows: the programs,
// the scripts (by data/tokenize rows) and the baselines take what it gives. Several files, and other kinds:
// data/labelled_sources.h.
//
//   .csv .tsv      a table; the first row names the columns, or with --no-header they are called 1, 2, 3 ...; comma,
//                  semicolon or tab ends a field, whichever gives the columns that are asked for; quoting: csv.h
//   .jsonl .json   an object a line, or an array of objects; a number or a boolean is a text as it was written
//
// Endings are in any case, and .gz, .xz, .bz2 or .zst may follow. Columns come in any order, others are ignored; their
// names are compared without the spaces around them and, where none is equal, without regard to case. UTF-8, with or
// without a byte order mark; lines end in LF, CRLF or CR; empty lines at the end are ignored (in JSON anywhere). Spaces
// and invisible characters around labels are taken off. An empty value, null, NaN and "nan" (as Python prints it) are
// missing: the second text may be. A column text2 may be missing, unless it was named on the command line; the last
// fields of a row may be, if nothing reads them.
//
// A row that cannot be used has an error, and the next can be read; the file itself (no such column, damaged) ends it.
#pragma once
#include <filesystem>
#include <set>

#include "common/base/cli.h"
#include "common/base/unicode.h"
#include "common/text/csv.h"

inline bool is_invisible(int32_t c) {  // spaces, controls, zero-width characters, marks of direction
    return is_space(c) || c < 32 || (c >= 127 && c < 160) || (c >= 0x200B && c <= 0x200F) || c == 0x2060 || c == 0xFEFF;
}
inline std::string trimmed_label(std::string_view s) { return without_ends(s, is_invisible); }

struct LabelledRow {
    std::string text, text2, label;
    bool pair = false;             // is there a text2
    size_t line = 0, element = 0;  // where the row begins, from 1; its number in a JSON array, else 0 ...
    std::string file;              // ... in this file
    std::string error;  // "": the row is good; else "FILE, line N: expected ..., found ...", and it has no text

    std::string where() const { return LineReader::place(file, line, element); }
};
// How to find text and label: the flags that all who read labelled rows have
struct LabelledColumns {
    std::string text = "text", text2 = "text2", label = "label";
    bool header = true;
    std::string classes{};    // a file that names the classes, or ""
    int64_t first_class = 0;  // the number of the first of them

    std::vector<Flag> flags() {
        return {{"text-column|text", &text, "NAME", "name of the column with the text"},
            {"text2-column|text2", &text2, "NAME", "name of the column with the second text, where there is one"},
            {"label-column|label", &label, "NAME", "name of the column with the label"},
            {"header", &header, "the first row names the columns; --no-header: they are called 1, 2, 3 ..."},
            {"classes", &classes, "FILE", "the names of the classes, one a line, for labels that are their numbers"},
            {"first-class", &first_class, between(0, 1), "the number of the first of --classes"}};
    }
    std::vector<std::string> class_names() const {
        std::vector<std::string> names;
        if (classes.empty()) return names;
        LineReader lines(classes);
        while (lines.next())
            if (!blank(lines.line)) names.push_back(trimmed_label(lines.line));
        if (names.empty()) fail("%s: expected the names of the classes, one a line, found none", classes.c_str());
        return names;
    }
};
// The texts of a row as fields of a TSV line: what predictions show
inline void append_shown(std::string& out, const LabelledRow& row) {
    append_tsv_field(out, row.text);
    if (row.pair) append_tsv_field(out += '\t', row.text2);
}

// Has it nothing but spaces, controls, marks and replacement characters, of which no tokenizer makes a token?
inline bool has_no_text(std::string_view s) {
    for (const char *p = s.data(), *end = p + s.size(); p < end;) {
        int32_t c = next_code_point(p, end);
        if (c > 32 && c < 127) return false;
        int kind = category(c) >> 8;
        if (c != 0xFFFD && kind != 'C' && kind != 'Z' && kind != 'M') return false;
    }
    return true;
}
inline bool is_missing(std::string_view s) { return s == "nan" || s == "NaN"; }  // as Python prints it
// "reviews.CSV.gz" → ".csv"
inline std::string row_ending(std::string path) {
    std::transform(path.begin(), path.end(), path.begin(), [](unsigned char c) { return tolower(c); });
    std::filesystem::path name = path;
    for (const char* compressed : {".gz", ".xz", ".bz2", ".zst"})
        if (name.extension() == compressed) name.replace_extension();
    return name.extension();
}

enum RowKind { TABLE, JSON_ROWS, OTHER_ROWS };
inline RowKind row_kind(const std::string& path, bool piped) {
    const std::string ending = row_ending(path);
    if (ending == ".csv" || ending == ".tsv" || ending == ".tab") return TABLE;
    if (ending == ".jsonl" || ending == ".json" || ending == ".ndjson") return JSON_ROWS;
    return ending == ".parquet" && piped ? JSON_ROWS : OTHER_ROWS;  // data/lib/rows.py makes it of that
}

// The rows of a table or of JSON
struct LabelledFile {
    LabelledColumns columns;
    std::string label;  // of all rows; "": they have their own
    LineReader lines;
    RowKind kind;

    // open: standard input, to be read instead of `path`
    LabelledFile(const std::string& path, const LabelledColumns& c, const std::string& label = "", FILE* open = nullptr)
        : columns(c), label(label), lines(path, open), kind(row_kind(path, open)), classes(c.class_names()),
          known(classes.begin(), classes.end()) {
        if (kind == OTHER_ROWS)
            fail_usage(
                "%s: expected a file that ends in .tsv, .csv or .jsonl (perhaps with .gz, .xz, .bz2 or .zst after "
                "it)%s",
                path.c_str(), row_ending(path) == ".parquet" ? "; Parquet is read by data/classify.py" : "");
        if (c.text == c.text2 || c.text == c.label || c.text2 == c.label)
            fail_usage("expected three different columns, found text \"%s\", second text \"%s\", label \"%s\"",
                c.text.c_str(), c.text2.c_str(), c.label.c_str());
        int64_t n;
        auto is_number = [&](const std::string& s) { return read_number(s, at_least(1), &n); };
        if (!c.header && (!is_number(c.text) || (!is_number(c.label) && label.empty())))
            fail_usage("--no-header: expected the numbers of the columns, --text-column N --label-column N, found \"" +
                       c.text + "\" and \"" + c.label + "\"");
        if (kind == TABLE) read_header();
    }

    // The next row, good or with an error; false at the end of the file
    bool next(LabelledRow& row) {
        row = {};
        row.file = lines.path;
        try {
            if (!(kind == TABLE ? read_table(row) : read_json(row))) return false;
            row.element = lines.element;
            check(row, columns, label, lines);
            if (label.empty()) check_label(row);
        } catch (const BadRow& e) {
            row = {"", "", "", false, e.line, lines.element, lines.path, e.what()};
        }
        return true;
    }
    // Of a row that was read: the texts, and how its label is written. label: as above
    static void check(
        LabelledRow& row, const LabelledColumns& columns, const std::string& label, const LineReader& lines) {
        for (std::string* s : {&row.text, &row.text2, &row.label})
            if (is_missing(*s)) s->clear();
        auto require_text_in = [&](const std::string& column, const std::string& found) {
            if (has_no_text(found))
                lines.bad(row.line, format("expected a text in \"%s\", found %s", column.c_str(),
                                        blank(found) ? "nothing" : "only characters that give no token"));
        };
        require_text_in(columns.text, row.text);
        row.pair = !trimmed_label(row.text2).empty();
        if (row.pair) require_text_in(columns.text2, row.text2);
        else row.text2.clear();
        row.label = label.empty() ? trimmed_label(row.label) : label;
        if (visible(row.label) != row.label)
            lines.bad(row.line, "expected a label without control characters, found " + dump_json(row.label));
    }

private:
    std::vector<std::string> classes;    // the names of --classes, ...
    std::set<std::string> known;         // ... by which they are found
    CsvFields fields{};                  // of a table: a row, ...
    size_t width = 0;                    // ... of so many columns, ...
    size_t text_at, text2_at, label_at;  // ... at these places, or NONE
    size_t blank_before = 0;             // blank rows before this line have rows after them
    static constexpr size_t NONE = (size_t)-1;

    // Is the row's second text optional? By its default name it is.
    bool text2_may_be_missing() const { return columns.text2 == LabelledColumns().text2; }
    // Is it there? A number becomes the name of its class.
    void check_label(LabelledRow& row) const {
        if (row.label.empty()) lines.bad(row.line, "expected a label in \"" + columns.label + "\", found nothing");
        if (classes.empty() || known.count(row.label)) return;
        char* end = nullptr;
        long long n = strtoll(row.label.c_str(), &end, 10), last = columns.first_class + (long long)classes.size() - 1;
        if (*end) lines.bad(row.line, "expected a class of " + columns.classes + ", found " + start_of(row.label));
        if (n < columns.first_class || n > last)
            fail(
                "%s: expected a class from %lld to %lld as %s has them, found %lld; the number of the first class is "
                "--first-class",
                row.where().c_str(), (long long)columns.first_class, last, columns.classes.c_str(), n);
        row.label = classes[n - columns.first_class];
    }

    // ---------------------------------------------------------------- tables
    // Reads the first row and finds the columns by it; "" or what is wrong
    std::string find_columns() {
        try {
            if (!fields.read(lines))
                fail("%s, line 1: expected a header with the column \"%s\", found an empty file", lines.path.c_str(),
                    columns.text.c_str());
        } catch (const BadRow& e) {
            return e.what();
        }
        width = fields.count;
        std::vector<std::string> names;
        for (size_t i = 0; i < width; i++)
            names.push_back(columns.header ? trimmed_label(fields.text[i]) : std::to_string(i + 1));
        std::string error;
        auto place = [&](const std::string& name, const char* flag, bool needed) {
            for (auto compare : {strcmp, strcasecmp}) {
                size_t found = NONE;
                for (size_t i = 0; i < width; i++) {
                    if (compare(names[i].c_str(), name.c_str()) != 0) continue;
                    if (found != NONE) error = "expected the column \"" + name + "\" once, found it twice";
                    found = i;
                }
                if (found != NONE) return found;
            }
            if (!needed) return NONE;
            error = "expected a column \"" + name + "\", found the columns ";
            for (size_t i = 0; i < std::min<size_t>(width, 20); i++)
                error += (i ? ", " : "") + start_of(fields.text[i]);
            error += std::string("; another is named with ") + flag;
            if (columns.header) error += ", and where no line names them they are counted with --no-header";
            return NONE;
        };
        label_at = label.empty() ? place(columns.label, "--label-column", true) : NONE;
        text2_at = place(columns.text2, "--text2-column", !text2_may_be_missing());
        text_at = place(columns.text, "--text-column", true);
        return error.empty() ? "" : format("%s, line %zu: ", lines.path.c_str(), fields.begin) + error;
    }
    // The separator and the columns, by the first row. Where no row names the columns: the separator that gives most of
    // the first hundred rows as many fields as the first.
    void read_header() {
        const bool csv = row_ending(lines.path) == ".csv";
        std::string problem;  // with the separator that gives most columns
        size_t most = 0, most_equal = 0;
        char best = 0;
        auto begin_with = [&](char separator) {
            fields = CsvFields(separator, csv || separator != '\t');
            lines.keep();
            return find_columns();
        };
        for (char separator : std::string(csv ? ",;\t" : "\t,;")) {
            const std::string error = begin_with(separator);
            size_t equal = error.empty();
            if (equal && columns.header) {
                lines.keeping = false;
                return;
            }
            if (!equal && (problem.empty() || width > most)) problem = error;
            most = std::max(most, width);
            for (size_t n = 0; n < 100 && equal; n++) try {
                    if (!fields.read(lines)) break;
                    equal += fields.count == width;
                } catch (const BadRow&) {}
            if (equal > most_equal) best = separator;
            most_equal = std::max(most_equal, equal);
            lines.rewind();
        }
        if (!best) fail(problem);
        begin_with(best);
        lines.rewind();
    }
    bool read_table(LabelledRow& row) {
        if (!fields.read(lines)) return false;
        row.line = fields.begin;
        if (fields.count == 1 && blank(fields.text[0])) {  // all right if nothing but empty lines follows
            if (row.line >= blank_before) {
                lines.keep();
                do
                    if (!lines.next_line()) return false;
                while (blank(lines.line));
                blank_before = lines.number;
                lines.rewind();
            }
            lines.bad(row.line, "expected a row, found an empty line with rows after it");
        }
        size_t needed = std::max(text_at, label.empty() ? label_at : 0) + 1;
        if (fields.count > width || fields.count < needed)
            lines.bad(row.line, format("expected %zu columns as in the %s, found %zu", width,
                                    columns.header ? "header" : "first row", fields.count));
        row.text.swap(fields.text[text_at]);
        if (text2_at < fields.count) row.text2.swap(fields.text[text2_at]);
        if (label_at < fields.count) row.label.swap(fields.text[label_at]);
        return true;
    }

    // ---------------------------------------------------------------- JSON
    bool read_json(LabelledRow& row) {
        Json json;
        if (!lines.next_object(json)) return false;
        row.line = lines.begin;
        auto get = [&](const std::string& key, bool needed, std::string& to) {
            const Json* value = json.find(key);
            for (auto i = json.o.begin(); !value && i != json.o.end(); i++)
                if (strcasecmp(i->first.c_str(), key.c_str()) == 0) value = &i->second;
            if (!value && needed) lines.bad_keys(json, "\"" + key + "\"");
            if (value) to = lines.text_of(*value, key);
        };
        get(columns.text, true, row.text);
        get(columns.text2, !text2_may_be_missing(), row.text2);
        if (label.empty()) get(columns.label, true, row.label);
        return true;
    }
};
