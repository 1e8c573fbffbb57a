// line_reader.h: a file or standard input, line by line: as checked UTF-8 text, as raw bytes, or as JSON objects. A
// file that gzip, xz, bzip2 or zstd made is read through that program.
//
//   LineReader lines("train.jsonl");
//   for (Json row; lines.next_object(row);) ...
//
// What is wrong in a file is an error that begins with FILE, line N. If it costs no more than a row it is a BadRow: who
// catches it may read on, with the next row.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/json.h"
#include "common/base/text.h"
#include "common/base/unicode.h"

struct BadRow : Error {
    size_t line;  // where it is
    BadRow(size_t line, const std::string& what) : Error(EXIT_FAILED, what), line(line) {}
};

// The rows that a program cannot use: they are told, counted and left out (--on-error skip), or the first ends it
// (stop).
struct BadRows {
    std::string on_error = "skip";
    size_t count = 0;
    static constexpr size_t shown = 5;

    void add(const std::string& error) {
        if (on_error == "stop") fail("%s", error.c_str());
        if (++count <= shown) fprintf(stderr, "left out: %s\n", error.c_str());
    }
    // To be called when all else is done: exit code 1 if rows were left out. done: what the others became
    void finish(const std::string& done) const {
        if (count == 0) return;
        fail("%zu row%s left out%s; %s; --on-error stop ends at the first", count, count > 1 ? "s were" : " was",
             count > shown ? format(", of which the first %zu are named above", shown).c_str() : "", done.c_str());
    }
};

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
    std::string_view line;    // the line that was read last, without its line break, ...
    std::string_view whole;   // ... and with it
    size_t number = 0;        // of this line, from 1
    size_t begin = 0;         // the first line of the JSON object that was read last, ...
    size_t element = 0;       // ... and its number in an array, from 1; 0: the file is no array
    size_t bytes = 0;         // read so far
    bool keeping = false;     // see keep()
    bool over_lines = false;  // JSON: may an object have several lines

    // open: standard input, to be read instead, which stays open
    explicit LineReader(const std::string& path, FILE* open = nullptr) : path(path), file(open) {
        if (file) return;
        file = fdopen(open_regular(path, true), "rb");
        if (!file) fail("cannot read %s: %s", path.c_str(), strerror(errno));
        decompress();
    }

    ~LineReader() {
        free(buffer);
        if (file && file != stdin) fclose(file);
        if (child) waitpid(child, nullptr, 0);
    }
    LineReader(const LineReader&) = delete;
    LineReader& operator=(const LineReader&) = delete;

    // The next line, whatever its bytes are; false at the end of the file. `line` is without its "\n", the first
    // without a byte order mark; a file that is no text by its first line is refused. A signal that ends the wait for a
    // line (Ctrl-C in sft chat) gives an empty one.
    bool next_bytes() {
        line = whole = {};
        errno = 0;
        ssize_t n = 0;
        if (again_at < again.size()) {
            std::string_view rest = std::string_view(again).substr(again_at);
            size_t end = rest.find_first_of(cr_ends ? "\r\n" : "\n");
            if (end != rest.npos) end += rest.substr(end, 2) == "\r\n" ? 2 : 1;
            whole = rest.substr(0, end);
            again_at += whole.size();
        } else if ((n = getline(&buffer, &capacity, file)) >= 0) {
            whole = std::string_view(buffer, n);
            if (cr_ends) {
                read_again(whole);
                return next_bytes();
            }
            kept_from_again = false;
        } else if (errno == EINTR) {
            clearerr(file);
            return true;
        } else {
            if (!feof(file)) fail("cannot read %s: %s", path.c_str(), strerror(errno));
            end_decompressing();
            return false;
        }
        number++;
        bytes += whole.size();
        if (keeping) kept += whole;
        if (number == 1) {
            const std::string found = not_text(whole);
            if (!found.empty()) fail("%s, line 1: expected UTF-8 text, found %s", path.c_str(), found.c_str());
            if (whole.substr(0, BYTE_ORDER_MARK.size()) == BYTE_ORDER_MARK) whole.remove_prefix(BYTE_ORDER_MARK.size());
        }
        line = whole;
        if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
        return true;
    }
    // The next line of a file of rows, whatever its bytes are. `line` is without "\n", "\r\n" or, if the first line of
    // the file ends in "\r" alone, "\r"; the first is without a byte order mark.
    bool next_line() {
        if (!next_bytes()) return false;
        if (number == 1 && !cr_ends && has_cr_within(whole)) {
            const std::string_view all(buffer, bytes);  // with its byte order mark
            cr_ends = true;
            number = bytes = 0;
            kept.clear();
            read_again(all);
            return next_line();
        }
        line = whole;
        while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
        return true;
    }
    // Why these bytes are no text, UTF-8 without a NUL; "" if they are
    static std::string fault(std::string_view text) {
        if (memchr(text.data(), 0, text.size())) return "expected text, found a NUL byte";
        size_t at = invalid_utf8(text);
        if (at == text.npos) return "";
        return format("expected UTF-8, found the byte 0x%02x; convert the file first", (unsigned char)text[at]);
    }
    std::string fault() const { return fault(whole); }
    bool next() {  // next_line(), of text
        if (!next_line()) return false;
        if (std::string what = fault(); !what.empty()) bad(number, what);
        return true;
    }
    // From keep() on lines are kept; rewind() goes back to where that was, so that they are read once more.
    void keep() {
        keeping = true;
        kept.clear();
        kept_from_again = true;
    }
    void rewind(size_t to_number) {
        bytes -= kept.size();
        number = to_number;
        keeping = false;
        if (kept_from_again) again_at -= kept.size();
        else read_again(kept + again.substr(again_at));
    }
    std::string where() const { return place(path, number, element); }
    static std::string place(const std::string& path, size_t line, size_t element) {
        return path + (element ? format(", element %zu", element) : format(", line %zu", line));
    }
    [[noreturn]] void bad(size_t number, const std::string& what) const {
        throw BadRow(number, place(path, number, element) + ": " + what);
    }

    // The next JSON object; false at the end of the file. A file holds an object a line, blank lines among them; or, if
    // it begins with "[", one array of objects; or, if it begins with a line "{", objects of several lines.
    bool next_object(Json& json) {
        if (!over_lines) {
            const bool first = number == 0;
            do
                if (!next_line()) return false;
            while (line.find_first_not_of(" \t\r") == line.npos);
            at = line.find_first_not_of(" \t\r");
            in_array = first && line[at] == '[';
            over_lines = in_array || (first && line.substr(at) == "{");
            at += in_array;
        }
        begin = number;
        if (over_lines) {
            if (!next_value()) return false;
        } else {
            value.assign(line);
        }
        if (std::string what = fault(value); !what.empty()) bad(begin, what);
        const std::string start = format("%s, line %zu", path.c_str(), begin);
        if (value[value.find_first_not_of(" \t\r")] != '{')
            bad(begin, "expected a JSON object, found " + start_of(value));
        nan_to_null(value);
        try {
            json = parse_json(value, start);
        } catch (const Error& e) {
            std::string what = e.what();
            size_t after = start.size() + strlen(": line "), line = 0;  // the parser counts from the value's beginning
            if (what.compare(0, after, start + ": line ") == 0) {
                line = strtoul(what.c_str() + after, nullptr, 10);
                what = (element ? place(path, begin, element) + ": " : path + ", ") +
                       format("line %zu", begin + line - 1) + what.substr(what.find(',', after));
            }
            throw BadRow(begin, what);
        }
        return true;
    }
    // "text" needed, found "label", "n"
    [[noreturn]] void bad_keys(const Json& json, const std::string& expected) const {
        std::string found;
        for (const auto& [name, v] : json.o) found += (found.empty() ? "" : ", ") + start_of(name);
        bad(begin, "expected " + expected + ", found " + (found.empty() ? "an empty object" : "the keys " + found));
    }

private:
    std::string again;  // lines to read once more, from again_at on
    size_t again_at = 0;
    std::string kept;  // what was read since keep()
    bool kept_from_again = false;
    bool cr_ends = false;   // lines may end in "\r" alone
    bool in_array = false;  // JSON: is it an array
    size_t at = 0;          // JSON over lines: what of the line was not read yet
    std::string value;      // JSON: the text of an object
    pid_t child = 0;        // the program that decompresses

    void read_again(std::string_view lines) {
        kept_from_again &= kept.empty();
        again = std::string(lines);
        again_at = 0;
    }
    static bool has_cr_within(std::string_view line) {
        size_t at = line.find('\r');
        while (at != line.npos && (at + 1 == line.size() || line[at + 1] == '\r' || line[at + 1] == '\n'))
            at = line.find('\r', at + 1);
        return at != line.npos;
    }

    // JSON over lines: the next value → `value`; false at the end of the file
    bool next_value() {
        for (;; at++) {
            while (at >= line.size()) {
                at = 0;
                if (next_line()) continue;
                if (!in_array) return false;
                in_array = false;
                bad(number, "expected ] after the last row, found the end of the file");
            }
            if (in_array && line[at] == ']') {
                in_array = false;
                element = 0;
            } else if (!line[at] || !strchr(" \t\r,", line[at])) {
                break;
            }
        }
        begin = number;
        element += in_array;
        value.clear();
        bool quoted = false;
        for (size_t depth = 0;; at++) {
            while (at >= line.size()) {
                if (depth == 0 && !value.empty()) return true;  // no object
                value += '\n';
                at = 0;
                quoted = false;  // no string has a line's end in it: this one is an error, but not of the next row
                if (!next_line()) {
                    in_array = false;
                    bad(begin, "expected a JSON object, found no end of what begins here: the rest cannot be read");
                }
            }
            char c = line[at];
            if (quoted && c == '\\') {
                value += c;
                if (++at < line.size()) value += line[at];
                continue;
            }
            if (c == '"') quoted = !quoted;
            if (!quoted && (c == '{' || c == '[')) depth++;
            if (!quoted && (c == '}' || c == ']') && depth-- <= 1) {
                if (depth == 0 || value.empty()) value += line[at++];  // empty: it closes nothing
                break;
            }
            if (!quoted && c == ',' && depth == 0) break;
            value += c;
        }
        return true;
    }
    // Python writes NaN, Infinity and -Infinity for values that are missing.
    static void nan_to_null(std::string& json) {
        if (json.find("NaN") == json.npos && json.find("Infinity") == json.npos) return;
        std::string to;
        bool quoted = false;
        for (size_t i = 0, n; i < json.size(); i += n) {
            n = quoted && json[i] == '\\' ? 2 : 1;
            if (json[i] == '"') quoted = !quoted;
            const char* missing = nullptr;
            for (const char* name : {"NaN", "Infinity", "-Infinity"})
                if (!quoted && json.compare(i, strlen(name), name) == 0) missing = name;
            if (missing) n = strlen(missing);
            to += missing ? "null" : json.substr(i, n);
        }
        json = to;
    }

    // If the file begins as what gzip, xz, bzip2 or zstd makes, it is read through that program.
    void decompress() {
        char magic[6] = {};
        ssize_t n = pread(fileno(file), magic, 6, 0);
        const std::string_view begin(magic, n > 0 ? n : 0);
        const std::pair<std::string_view, const char*> known[] = {{"\x1f\x8b", "gzip"},
                                                                  {{"\xfd"
                                                                    "7zXZ\0",
                                                                    6},
                                                                   "xz"},
                                                                  {"BZh", "bzip2"},
                                                                  {"\x28\xb5\x2f\xfd", "zstd"}};
        for (const auto& [bytes, program] : known) {
            if (begin.substr(0, bytes.size()) != bytes) continue;
            int ends[2];
            if (pipe2(ends, O_CLOEXEC)) fail("cannot read %s: %s", path.c_str(), strerror(errno));
            posix_spawn_file_actions_t actions;
            posix_spawn_file_actions_init(&actions);
            posix_spawn_file_actions_adddup2(&actions, fileno(file), 0);
            posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
            posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
            const char* words[] = {program, "-dc", nullptr};
            int error = posix_spawnp(&child, program, &actions, nullptr, (char**)words, environ);
            posix_spawn_file_actions_destroy(&actions);
            close(ends[1]);
            fclose(file);
            file = fdopen(ends[0], "rb");
            if (error) {
                child = 0;
                fail("cannot read %s: it was made by %s, which cannot be started (%s): install it or unpack the file",
                     path.c_str(), program, strerror(error));
            }
            return;
        }
    }
    void end_decompressing() {
        int status = 0;
        if (child && waitpid(child, &status, 0) == child) {
            child = 0;
            if (status) fail("cannot read %s: the compressed file is cut short or damaged", path.c_str());
        }
    }
};
