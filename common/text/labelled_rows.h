// labelled_rows.h: texts with labels, one row after another. It is the one reader of such rows: the programs, the
// scripts (by data/tokenize rows) and the baselines take what it gives.
//
//   .csv .tsv      a table; the first row names the columns, or with --no-header they are called 1, 2, 3 ...; a comma,
//   ;
//                  or tab ends a field, whichever gives the columns that are asked for; quoting: csv.h
//   .jsonl .json   an object a line, or an array of objects; a text or a label may also be a number or a boolean, and
//   is
//                  then as it was written
//   a folder       FOLDER/LABEL/*.txt: a text each
//   with a label given (--class LABEL=FILE), all rows of the file have it: .csv, .tsv and .jsonl as above, without a
//                  column of labels; of a folder each *.txt is a text; of any other file each line
//
// Endings are in any case, and .gz, .xz, .bz2 or .zst may follow. Columns come in any order, others are ignored; their
// names are compared without the spaces around them and, where none is equal, without regard to case. UTF-8, with or
// without a byte order mark; lines end in LF, CRLF or CR; empty lines at the end are ignored (in JSON anywhere). Spaces
// and invisible characters around labels are taken off. An empty value, null, NaN and "nan" (as Python prints it) are
// missing: the second text and what no column is needed for may be. A column text2 may be missing, unless it was named
// on the command line; the last fields of a row may be, if nothing reads them.
//
// A row that cannot be used has an error, and the next can be read; the file itself (no such column, damaged) ends it.
//
//   LabelledRows in("train.tsv", {}, true);
//   for (LabelledRow row; in.next(row);)
//       if (!row.error.empty()) bad_rows.add(row.error);
#pragma once
#include <filesystem>
#include <memory>

#include "common/base/cli.h"
#include "common/text/characters.h"
#include "common/text/csv.h"

struct LabelledRow {
    std::string text, text2, label;
    bool pair = false, has_label = false;  // is there a text2, is there a label
    size_t line = 0, element = 0;          // where the row begins, from 1; its number in a JSON array, else 0 ...
    std::string file;                      // ... in this file
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
        return {
            {"text-column|text", &text, "NAME", "name of the column with the text"},
            {"text2-column|text2", &text2, "NAME", "name of the column with the second text, where there is one"},
            {"label-column|label", &label, "NAME", "name of the column with the label"},
            {"header", &header, "the first row names the columns; --no-header: they are called 1, 2, 3 ..."},
            {"classes", &classes, "FILE", "the names of the classes, one a line, for labels that are their numbers"},
            {"first-class", &first_class, between(0, 1), "the number of the first of --classes"}};
    }
};
struct LabelledSource {
    std::string path, label;  // label: of all its rows, "" if they have their own
    bool whole = false;       // is the file one text
    FILE* open = nullptr;     // standard input, to be read instead of `path`
};

// The texts of a row as fields of a TSV line: what predictions show
inline void append_shown(std::string& out, const LabelledRow& row) {
    append_tsv_field(out, row.text);
    if (row.pair) append_tsv_field(out += '\t', row.text2);
}

inline bool is_invisible(int32_t c) {  // spaces, controls, zero-width characters, marks of direction
    return is_space(c) || c < 32 || (c >= 127 && c < 160) || (c >= 0x200B && c <= 0x200F) || c == 0x2060 || c == 0xFEFF;
}
// without the invisible characters at both ends
inline std::string trimmed_label(std::string_view s) {
    const char *begin = s.data(), *end = begin + s.size(), *first = end, *last = begin;
    for (const char* p = begin; p < end;) {
        const char* at = p;
        if (is_invisible(next_code_point(p, end))) continue;
        first = std::min(first, at);
        last = p;
    }
    return first < last ? std::string(first, last) : "";
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
// "reviews.CSV.gz" → ".csv"
inline std::string row_ending(std::string path) {
    std::transform(path.begin(), path.end(), path.begin(), [](unsigned char c) { return tolower(c); });
    for (const char* compressed : {".gz", ".xz", ".bz2", ".zst"})
        if (size_t n = strlen(compressed); path.size() > n && path.compare(path.size() - n, n, compressed) == 0)
            path.resize(path.size() - n);
    return std::filesystem::path(path).extension();
}

// The rows of one source
struct LabelledFile {
    LabelledSource source;
    LabelledColumns columns;
    bool need_label;
    const std::vector<std::string>& classes;
    LineReader lines;
    enum Kind { TABLE, JSON, LINES, WHOLE } kind;
    CsvFields fields;                                // of the row read last
    size_t width = 0;                                // fields of the header
    size_t text_at = 0, text2_at = 0, label_at = 0;  // columns; NONE: there is none
    bool row_read = false;                           // WHOLE: the only one
    size_t blank_before = 0;                         // blank lines before this one have rows after them
    static constexpr size_t NONE = (size_t)-1;

    LabelledFile(const LabelledSource& source, const LabelledColumns& columns, bool need_label,
                 const std::vector<std::string>& classes)
        : source(source),
          columns(columns),
          need_label(need_label && source.label.empty()),
          classes(classes),
          lines(source.path, source.open),
          kind(find_kind()) {
        if (kind == TABLE) read_header();
    }

    // The next row, good or with an error; false at the end of the file
    bool next(LabelledRow& row) {
        row.file = source.path;
        row.element = 0;
        row.error.clear();
        try {
            bool found = kind == TABLE   ? read_table(row)
                         : kind == JSON  ? read_json(row)
                         : kind == LINES ? read_text_line(row)
                                         : read_whole(row);
            if (!found) return false;
            check(row);
        } catch (const BadRow& e) {
            row.line = e.line;
            row.element = lines.element;
            row.error = e.what();
            for (std::string* s : {&row.text, &row.text2, &row.label}) s->clear();
            row.pair = row.has_label = false;
        }
        return true;
    }

private:
    Kind find_kind() {
        const std::string ending = row_ending(source.path);
        if (source.whole) return WHOLE;
        if (ending == ".csv" || ending == ".tsv" || ending == ".tab") return TABLE;
        if (ending == ".jsonl" || ending == ".json" || ending == ".ndjson") return JSON;
        if (ending == ".parquet" && source.open) return JSON;  // data/lib/rows.py makes it of that
        if (!source.label.empty()) return LINES;
        fail_usage(
            "%s: expected a file that ends in .tsv, .csv or .jsonl (perhaps with .gz, .xz, .bz2 or .zst after it)%s",
            source.path.c_str(), ending == ".parquet" ? "; Parquet is read by data/classify.py" : "");
    }
    // Is the row's second text optional? By its default name it is.
    bool text2_may_be_missing() const { return columns.text2 == LabelledColumns().text2; }

    void check(LabelledRow& row) const {
        for (std::string* s : {&row.text, &row.text2, &row.label}) {
            // JSON can write a NUL
            if (s->find('\0') != s->npos) lines.bad(row.line, "expected text, found a NUL character");
            if (*s == "nan" || *s == "NaN") s->clear();
        }
        if (has_no_text(row.text)) no_text(row, columns.text, row.text);
        row.pair = !trimmed_label(row.text2).empty();
        if (!row.pair) row.text2.clear();
        if (row.pair && has_no_text(row.text2)) no_text(row, columns.text2, row.text2);
        row.label = source.label.empty() ? trimmed_label(row.label) : source.label;
        row.has_label = !row.label.empty();
        if (need_label && !row.has_label)
            lines.bad(row.line, format("expected a label in \"%s\", found nothing", columns.label.c_str()));
        if (visible(row.label) != row.label)
            lines.bad(row.line, "expected a label without control characters, found " + dump_json(row.label));
        if (!classes.empty() && row.has_label && source.label.empty()) name_class(row);
    }
    [[noreturn]] void no_text(const LabelledRow& row, const std::string& column, const std::string& found) const {
        lines.bad(row.line, format("expected a text in \"%s\", found %s", column.c_str(),
                                   blank(found) ? "nothing" : "only characters that give no token"));
    }
    // A number becomes the name of its class.
    void name_class(LabelledRow& row) const {
        if (std::find(classes.begin(), classes.end(), row.label) != classes.end()) return;
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

    bool read_text_line(LabelledRow& row) {
        do
            if (!lines.next()) return false;
        while (blank(std::string(lines.line)));
        row.line = lines.number;
        row.text = lines.line;
        row.text2.clear();
        return true;
    }
    bool read_whole(LabelledRow& row) {
        if (row_read) return false;
        row_read = true;
        row.line = 1;
        row.text.clear();
        row.text2.clear();
        std::string problem;
        for (; lines.next_line(); row.text += lines.whole)
            if (problem.empty()) problem = lines.fault();
        if (!problem.empty()) lines.bad(1, problem);
        row.text.resize(row.text.find_last_not_of("\r\n") + 1);
        return true;
    }

    // ---------------------------------------------------------------- tables
    // The place of a column; NONE if there is none. error: what is wrong, if that is
    size_t place(const std::string& name, const char* flag, bool needed, std::string& error) const {
        std::string found;
        for (bool exact : {true, false}) {
            size_t at = NONE;
            for (size_t i = 0; i < width; i++) {
                const std::string column = columns.header ? trimmed_label(fields.text[i]) : std::to_string(i + 1);
                if (exact && i < 20) found += (i ? ", " : "") + start_of(fields.text[i]);
                if (exact ? column != name : strcasecmp(column.c_str(), name.c_str()) != 0) continue;
                if (at != NONE) error = "expected the column \"" + name + "\" once, found it twice";
                at = i;
            }
            if (at != NONE) return at;
        }
        if (!needed) return NONE;
        error = "expected a column \"" + name + "\", found the columns " + found + "; another is named with " + flag;
        if (columns.header) error += ", and where no line names them they are counted with --no-header";
        return NONE;
    }
    // Where the columns are, by the first row; "" or what is wrong
    std::string find_columns() {
        std::string error;
        width = fields.count;
        label_at = source.label.empty() ? place(columns.label, "--label-column", need_label, error) : NONE;
        text2_at = place(columns.text2, "--text2-column", !text2_may_be_missing(), error);
        text_at = place(columns.text, "--text-column", true, error);
        return error.empty() ? "" : format("%s, line %zu: ", source.path.c_str(), fields.begin) + error;
    }
    // The separator and the columns, by the first row. Where no row names the columns: the separator that gives most of
    // the first hundred rows as many fields as the first.
    void read_header() {
        const bool csv = row_ending(source.path) == ".csv";
        std::string error, problem;  // the problem with the separator that gives most columns
        size_t most = 0, most_equal = 0;
        char best = 0;
        auto use = [&](char separator) {
            fields = CsvFields(separator, csv || separator != '\t');
            lines.keep();
        };
        auto read = [&] {
            error.clear();
            try {
                return fields.read(lines);
            } catch (const BadRow& e) {
                error = e.what();
                return true;
            }
        };
        for (char separator : std::string(csv ? ",;\t" : "\t,;")) {
            use(separator);
            if (!read())
                fail("%s, line 1: expected a header with the column \"%s\", found an empty file", source.path.c_str(),
                     columns.text.c_str());
            if (error.empty()) error = find_columns();
            if (error.empty() && columns.header) {
                lines.keeping = false;
                return;
            }
            if (!error.empty() && (problem.empty() || width > most)) problem = error;
            most = std::max(most, width);
            if (size_t equal = error.empty(); equal) {
                for (size_t n = 0; n < 100 && read(); n++) equal += error.empty() && fields.count == width;
                if (equal > most_equal) best = separator;
                most_equal = std::max(most_equal, equal);
            }
            lines.rewind(0);
        }
        if (!best) fail("%s", problem.c_str());
        use(best);
        read();
        find_columns();
        lines.rewind(0);
    }
    bool read_table(LabelledRow& row) {
        if (!fields.read(lines)) return false;
        row.line = fields.begin;
        if (fields.count == 1 && blank(fields.text[0])) {  // all right if nothing but empty lines follows
            if (row.line >= blank_before) {
                lines.keep();
                do
                    if (!lines.next_line()) return false;
                while (blank(std::string(lines.line)));
                blank_before = lines.number;
                lines.rewind(row.line);
            }
            lines.bad(row.line, "expected a row, found an empty line with rows after it");
        }
        size_t needed = std::max(text_at, need_label ? label_at : 0) + 1;
        if (fields.count > width || fields.count < needed)
            lines.bad(row.line, format("expected %zu columns as in the %s, found %zu", width,
                                       columns.header ? "header" : "first row", fields.count));
        row.text.swap(fields.text[text_at]);
        row.text2.clear();
        row.label.clear();
        if (text2_at < fields.count) row.text2.swap(fields.text[text2_at]);
        if (label_at < fields.count) row.label.swap(fields.text[label_at]);
        return true;
    }

    // ---------------------------------------------------------------- JSON
    bool read_json(LabelledRow& row) {
        Json json;
        if (!lines.next_object(json)) return false;
        row.line = lines.begin;
        row.element = lines.element;
        auto get = [&](const std::string& key, bool needed, std::string& to) {
            to.clear();
            const Json* value = json.find(key);
            for (auto i = json.o.begin(); !value && i != json.o.end(); i++)
                if (strcasecmp(i->first.c_str(), key.c_str()) == 0) value = &i->second;
            if (!value && needed) lines.bad_keys(json, "\"" + key + "\"");
            if (!value || value->kind == Json::null) return;
            if (value->kind == Json::array || value->kind == Json::object)
                lines.bad(row.line, "expected a string, a number or a boolean for \"" + key + "\", found " +
                                        start_of(dump_json(*value)));
            to = value->s.empty() && value->kind != Json::string ? dump_json(*value) : value->s;
        };
        get(columns.text, true, row.text);
        get(columns.text2, !text2_may_be_missing(), row.text2);
        row.label.clear();
        if (source.label.empty()) get(columns.label, need_label, row.label);
        return true;
    }
};

// The rows of one source after the other: files; folders with a folder of texts for each class
struct LabelledRows {
    LabelledColumns columns;
    bool need_label;
    std::vector<std::string> classes{};  // --classes
    std::vector<LabelledSource> sources{};
    std::unique_ptr<LabelledFile> file{};
    size_t at = 0, bytes_before = 0;

    LabelledRows(const std::vector<LabelledSource>& given, const LabelledColumns& c, bool need_label)
        : columns(c), need_label(need_label) {
        if (c.text == c.text2 || c.text == c.label || c.text2 == c.label)
            fail_usage("expected three different columns, found text \"%s\", second text \"%s\", label \"%s\"",
                       c.text.c_str(), c.text2.c_str(), c.label.c_str());
        auto is_number = [](const std::string& s) {
            return s.find_first_not_of("0123456789") == s.npos && s[0] != '0';
        };
        if (!c.header && (!is_number(c.text) || (!is_number(c.label) && need_label && given[0].label.empty())))
            fail_usage(
                "--no-header: expected the numbers of the columns, --text-column N --label-column N, found \"%s\" "
                "and \"%s\"",
                c.text.c_str(), c.label.c_str());
        if (!c.classes.empty()) {
            LineReader lines(c.classes);
            while (lines.next())
                if (!blank(std::string(lines.line))) classes.push_back(trimmed_label(lines.line));
            if (classes.empty())
                fail("%s: expected the names of the classes, one a line, found none", c.classes.c_str());
        }
        for (const LabelledSource& source : given) expand(source);
        open();
    }
    LabelledRows(const std::string& path, const LabelledColumns& columns, bool need_label)
        : LabelledRows(std::vector<LabelledSource>{{path, ""}}, columns, need_label) {}

    // The next row, good or with an error; false at the end
    bool next(LabelledRow& row) {
        while (at < sources.size()) {
            if (file->next(row)) return true;
            bytes_before += file->lines.bytes;
            if (++at < sources.size()) open();
        }
        return false;
    }
    size_t bytes() const { return bytes_before + (at < sources.size() ? file->lines.bytes : 0); }  // read so far

private:
    void open() { file = std::make_unique<LabelledFile>(sources[at], columns, need_label, classes); }
    static std::vector<std::string> entries(const std::string& folder) {  // sorted, without hidden ones
        std::vector<std::string> paths;
        for (const auto& entry : std::filesystem::directory_iterator(folder))
            if (entry.path().filename().string()[0] != '.') paths.push_back(entry.path());
        std::sort(paths.begin(), paths.end());
        return paths;
    }
    void add_texts(const std::string& folder, const std::string& label) {
        for (const std::string& path : entries(folder))
            if (row_ending(path) == ".txt" && !is_directory(path)) sources.push_back({path, label, true});
    }
    void expand(const LabelledSource& source) {
        const size_t before = sources.size();
        if (source.open || !is_directory(source.path)) sources.push_back(source);
        else if (!source.label.empty()) add_texts(source.path, source.label);
        else
            for (const std::string& path : entries(source.path))
                if (is_directory(path)) add_texts(path, trimmed_label(path.substr(path.rfind('/') + 1)));
        if (sources.size() == before)
            fail("%s: expected texts %s*.txt in this folder, found none", source.path.c_str(),
                 source.label.empty() ? "LABEL/" : "");
    }
};
