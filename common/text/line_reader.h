// line_reader.h: a file or standard input, line by line: as checked UTF-8 text, as raw bytes, or as JSON objects. What
// is wrong in a file is an error that begins with FILE, line N.
//
//   LineReader lines("train.jsonl");
//   for (Json row; lines.next_object(row);) ...
#pragma once
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/json.h"
#include "common/base/unicode.h"

// at most 40 bytes of a text, as a JSON string
inline std::string start_of(std::string_view s) {
    size_t n = std::min<size_t>(s.size(), 40);
    while (n < s.size() && n > 0 && (s[n] & 0xC0) == 0x80) n--;  // not within a character
    return dump_json(std::string(s.substr(0, n)));
}
// without the white space at both ends
inline std::string trimmed(const std::string& s) {
    size_t first = s.find_first_not_of(" \t\r\n\v\f");
    return first == s.npos ? "" : s.substr(first, s.find_last_not_of(" \t\r\n\v\f") + 1 - first);
}
// is it empty, or white space only?
inline bool blank(const std::string& s) { return s.find_first_not_of(" \t\r\n\v\f") == s.npos; }

struct LineReader {
    std::string path;
    FILE* file = nullptr;
    char* buffer = nullptr;
    size_t capacity = 0;
    std::string_view line;   // the line that was read last, without its line break, ...
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

    // The next line, whatever its bytes are; false at the end of the file. `line` is without its "\n", the first
    // without a byte order mark; a file that is no text by its first line is refused. A signal that ends the wait for a
    // line (Ctrl-C in sft chat) gives an empty one.
    bool next_bytes() {
        line = whole = {};
        errno = 0;
        ssize_t n = getline(&buffer, &capacity, file);
        if (n < 0 && errno == EINTR) {
            clearerr(file);
            return true;
        }
        if (n < 0 && !feof(file)) fail("cannot read %s: %s", path.c_str(), strerror(errno));
        if (n < 0) return false;
        number++;
        bytes += n;
        whole = std::string_view(buffer, n);
        if (number == 1) {
            const std::string found = not_text(whole);
            if (!found.empty()) bad(1, "expected UTF-8 text, found " + found);
            if (whole.substr(0, BYTE_ORDER_MARK.size()) == BYTE_ORDER_MARK) whole.remove_prefix(BYTE_ORDER_MARK.size());
        }
        line = whole;
        if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
        return true;
    }
    // The next line of text: UTF-8 without a NUL. `line` is without "\n" or "\r\n".
    bool next() {
        if (!next_bytes()) return false;
        require_text(whole, path, number);
        line = whole;
        if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        return true;
    }
    std::string where() const { return format("%s, line %zu", path.c_str(), number); }
    [[noreturn]] void bad(size_t number, const std::string& what) const {
        fail("%s, line %zu: %s", path.c_str(), number, what.c_str());
    }

    // of a JSON array, or an object with its keys on lines of their own
    static constexpr const char* ONE_A_LINE =
        "; JSON lines have an object a line: jq -c 'if type == \"array\" then .[] else . end' FILE writes them";

    // The next line that is not blank, as a JSON object; false at the end of the file
    bool next_object(Json& json) {
        do
            if (!next()) return false;
        while (line.find_first_not_of(" \t\r") == line.npos);
        const std::string at = where(), line_1 = at + ": line 1, ";
        if (line[line.find_first_not_of(" \t\r")] != '{')
            bad(number, "expected a JSON object, found " + start_of(line) + ONE_A_LINE);
        try {
            json = parse_json(line, at);
        } catch (const Error& e) {  // the parser's line is always 1 here
            std::string what = e.what();
            if (what.compare(0, line_1.size(), line_1) == 0) what.replace(0, line_1.size(), at + ", ");
            if (what.find("unexpected end of input") != what.npos) what += ONE_A_LINE;
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
