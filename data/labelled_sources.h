// labelled_sources.h: texts with labels from several files, of any kind that data/tokenize reads:
//
//   a table, JSON  common/text/labelled_rows.h; with a label given (--class LABEL=FILE) all rows of the file have it,
//                  and it needs no column of labels
//   a folder       FOLDER/LABEL/*.txt: a text each; with a label given FOLDER/*.txt
//   another file   with a label given: a text a line
#pragma once
#include <filesystem>
#include <optional>

#include "common/text/labelled_rows.h"

struct LabelledSource {
    std::string path, label;  // label: of all its rows, "" if they have their own
    bool whole = false;       // is the file one text
    FILE* open = nullptr;     // standard input, to be read instead of `path`
};

// The rows of one source after the other
struct LabelledRows {
    LabelledColumns columns;
    std::vector<LabelledSource> sources{};

    LabelledRows(const std::vector<LabelledSource>& given, const LabelledColumns& columns) : columns(columns) {
        for (const LabelledSource& source : given) expand(source);
        open();
    }
    // The next row, good or with an error; false at the end
    bool next(LabelledRow& row) {
        while (!(file ? file->next(row) : next_text(row))) {
            if (at + 1 == sources.size()) return false;
            bytes_before = bytes();
            at++;
            open();
        }
        return true;
    }
    size_t bytes() const { return bytes_before + (file ? file->lines : *texts).bytes; }  // read so far

private:
    size_t at = 0, bytes_before = 0;     // the source that is read, and the bytes of those before it
    std::optional<LabelledFile> file{};  // it is a table or JSON, or ...
    std::optional<LineReader> texts{};   // ... texts, one a line or one in all
    bool whole_read = false;

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
    void open() {
        const LabelledSource& source = sources[at];
        file.reset();
        texts.reset();
        whole_read = false;
        if (source.whole || (!source.label.empty() && row_kind(source.path, source.open) == OTHER_ROWS))
            texts.emplace(source.path, source.open);
        else file.emplace(source.path, columns, source.label, source.open);
    }
    bool next_text(LabelledRow& row) {
        row = {};
        row.file = sources[at].path;
        try {
            if (!(sources[at].whole ? read_whole(row) : read_line(row))) return false;
            LabelledFile::check(row, columns, sources[at].label, *texts);
        } catch (const BadRow& e) {
            row = {"", "", "", false, e.line, 0, sources[at].path, e.what()};
        }
        return true;
    }
    bool read_line(LabelledRow& row) {
        do
            if (!texts->next()) return false;
        while (blank(texts->line));
        row.line = texts->number;
        row.text = texts->line;
        return true;
    }
    bool read_whole(LabelledRow& row) {
        if (whole_read) return false;
        whole_read = true;
        row.line = 1;
        std::string problem;
        for (; texts->next_line(); row.text += texts->whole)
            if (problem.empty()) problem = text_fault(texts->whole);
        if (!problem.empty()) texts->bad(1, problem);
        row.text.resize(row.text.find_last_not_of("\r\n") + 1);
        return true;
    }
};
