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
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/base/cli.h"
#include "common/base/files.h"

struct BadRow : Error {
    size_t line;  // where it is
    BadRow(size_t line, const std::string& what) : Error(EXIT_FAILED, what), line(line) {}
};

// The rows that a program cannot use: told, counted and left out (--on-error skip), or the first ends it (stop).
struct BadRows {
    std::string on_error = "skip";
    size_t count = 0;
    static constexpr size_t shown = 5;

    void add(const std::string& error) {
        if (on_error == "stop") fail(error);
        if (++count <= shown) fprintf(stderr, "left out: %s\n", error.c_str());
    }
    // To be called when all else is done: exit code 1 if rows were left out. done: what the others became
    void finish(const std::string& done) const {
        if (count == 0) return;
        fail("%zu row%s left out%s; %s; --on-error stop ends at the first", count, count > 1 ? "s were" : " was",
            count > shown ? format(", of which the first %zu are named above", shown).c_str() : "", done.c_str());
    }
};

// The rows of an input that are answered line for line. One that cannot be is told, counted and answered by an empty
// line or an "error", and the exit code is 1 in the end, or it ends the program.
struct AnsweredRows : BadRows {
    std::vector<std::string> blank{};  // errors of blank rows, which are none if nothing but blank rows follows

    Flag flag() {
        return {"on-error", &on_error, "skip|stop",
            "what happens to rows that cannot be answered: they are named, counted and have an empty line or an "
            "\"error\" for an answer, and the exit code is 1 in the end; or the first of them ends it"};
    }
    // Every row in turn, then finish(). error: "" where it has none
    void row(const std::string& error, bool is_blank = false) {
        if (is_blank) return blank.push_back(error);
        for (const std::string& e : std::exchange(blank, {})) add(e);
        if (!error.empty()) add(error);
    }
};

// at most 40 bytes of a text, as a JSON string
inline std::string start_of(std::string_view s) {
    size_t n = std::min<size_t>(s.size(), 40);
    while (n < s.size() && n > 0 && (s[n] & 0xC0) == 0x80) n--;  // not within a character
    return dump_json(std::string(s.substr(0, n)));
}
// is it empty, or white space only?
inline bool blank(std::string_view s) { return s.find_first_not_of(" \t\r\n\v\f") == s.npos; }

// without the characters at both ends that `drops` takes
template <class Drops> std::string without_ends(std::string_view s, Drops drops) {
    const char *end = s.data() + s.size(), *first = end, *last = end;
    for (const char *p = s.data(), *at = p; p < end; at = p) {
        if (drops(next_code_point(p, end))) continue;
        first = std::min(first, at);
        last = p;
    }
    return std::string(first, last);
}
inline std::string trimmed(std::string_view s) {  // without the white space at both ends
    return without_ends(s, [](int32_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); });
}

struct LineReader {
    std::string path;
    std::string_view line;                         // the line that was read last, without its line break, ...
    std::string_view whole;                        // ... and with it
    size_t number = 0;                             // of this line, from 1
    size_t begin = 0;                              // the first line of the JSON object that was read last, ...
    size_t element = 0;                            // ... and its number in an array, from 1; 0: the file is no array
    size_t bytes = 0;                              // read so far
    bool keeping = false;                          // see keep()
    bool over_lines = false;                       // JSON: may an object have several lines, ...
    static constexpr size_t MAX_OBJECT = 1 << 26;  // ... of about so many bytes

    // open: standard input, to be read instead, which stays open
    explicit LineReader(const std::string& path, FILE* open = nullptr)
        : path(path), fd(open ? fileno(open) : open_regular(path, true)), owned(!open) {
        if (owned) unpack();
    }
    ~LineReader() {
        if (owned) close(fd);
        if (unpacked) pclose(unpacked);
    }
    LineReader(const LineReader&) = delete;
    LineReader& operator=(const LineReader&) = delete;

    // The next line, whatever its bytes are; false at the end of the file. `line` is without its "\n", the first
    // without a byte order mark; a file that is no text by its first line is refused. A signal that ends the wait for a
    // line (Ctrl-C in sft chat) gives an empty one.
    bool next_bytes() {
        line = whole = {};
        const size_t n = line_size();
        if (n == 0) return !ended;
        whole = std::string_view(buffer).substr(next_at, n);
        next_at += n;
        bytes += n;
        if (++number == 1) {
            const std::string found = not_text(std::string_view(buffer).substr(next_at - n));
            if (!found.empty()) fail("%s, line 1: expected UTF-8 text, found %s", path.c_str(), found.c_str());
            if (whole.substr(0, BYTE_ORDER_MARK.size()) == BYTE_ORDER_MARK) whole.remove_prefix(BYTE_ORDER_MARK.size());
        }
        line = whole;
        if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
        return true;
    }
    // The next line of a file of rows, whatever its bytes are. `line` is without "\n", "\r\n" or, if a "\r" in the
    // first line of the file has text after it, "\r"; the first is without a byte order mark.
    bool next_line() {
        if (!next_bytes()) return false;
        if (number == 1 && !cr_ends && whole.find_first_not_of("\r\n", whole.find('\r')) != whole.npos) {
            cr_ends = true;
            next_at = number = bytes = 0;
            return next_line();
        }
        line = whole.substr(0, whole.find_last_not_of("\r\n") + 1);
        return true;
    }
    bool next() {  // next_line(), of text
        if (!next_line()) return false;
        if (std::string what = text_fault(whole); !what.empty()) bad(number, what);
        return true;
    }
    // From keep() on lines are kept; rewind() goes back to where that was, so that they are read once more.
    void keep() {
        keeping = true;
        kept_at = next_at;
        kept_number = number;
    }
    void rewind() {
        keeping = false;
        bytes -= next_at - kept_at;
        next_at = kept_at;
        number = kept_number;
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
        if (!next_value()) return false;
        if (std::string what = text_fault(value); !what.empty()) bad(begin, what);
        if (value[value.find_first_not_of(" \t\r")] != '{')
            bad(begin, "expected a JSON object, found " + start_of(value));
        try {
            json = parse_json(value, element ? place(path, begin, element) + ": " : path + ", ", begin);
        } catch (const Error& e) {
            throw BadRow(begin, e.what());
        }
        return true;
    }
    // A value of that object as text, a number or a boolean as it was written, null as ""
    std::string text_of(const Json& value, const std::string& key) const {
        if (value.kind == Json::array || value.kind == Json::object)
            bad(begin,
                "expected a string, a number or a boolean for \"" + key + "\", found " + start_of(dump_json(value)));
        if (value.s.find('\0') != value.s.npos) bad(begin, "expected text in \"" + key + "\", found a NUL character");
        if (value.kind == Json::null) return "";
        return value.s.empty() && value.kind != Json::string ? dump_json(value) : value.s;
    }
    // "text" needed, found "label", "n"
    [[noreturn]] void bad_keys(const Json& json, const std::string& expected) const {
        std::string found;
        for (const auto& [name, v] : json.o) found += (found.empty() ? "" : ", ") + start_of(name);
        bad(begin, "expected " + expected + ", found " + (found.empty() ? "an empty object" : "the keys " + found));
    }

private:
    int fd;
    bool owned;                    // is fd closed in the end
    bool ended = false;            // was all of it read
    std::string buffer;            // the line, what was read after it, and before it what is kept
    size_t next_at = 0;            // where the next line begins in it
    size_t kept_at = 0;            // where that was in keep(), ...
    size_t kept_number = 0;        // ... after this line
    bool cr_ends = false;          // lines may end in "\r" alone
    bool begun = false;            // JSON: is it known what the file is
    bool in_array = false;         // JSON: are its values those of an array
    size_t at = 0;                 // JSON: what of the line was not read yet
    std::string value;             // JSON: the text of an object
    const char* packer = nullptr;  // the program that made a compressed file, ...
    FILE* unpacked = nullptr;      // ... and its output

    // The bytes of the next line with its line break; 0 at the end of the file, and where a signal ends the wait for it
    size_t line_size() {
        for (size_t n = 0;;) {  // bytes without a line break
            const size_t end = cr_ends ? buffer.find_first_of("\r\n", next_at + n) : buffer.find('\n', next_at + n);
            // a "\r" that was read last may be half of "\r\n"
            if (end < buffer.size() && (buffer[end] == '\n' || end + 1 < buffer.size()))
                return end - next_at + (buffer.compare(end, 2, "\r\n") == 0 ? 2 : 1);
            n = std::min(end, buffer.size()) - next_at;
            if (!read_more()) return ended ? buffer.size() - next_at : 0;
        }
    }
    void end_here() {  // nothing more is read
        ended = true;
        buffer.resize(next_at);
    }
    // false at the end of the file, and where a signal ends the wait
    bool read_more() {
        if (ended) return false;
        const size_t unused = keeping ? kept_at : next_at;
        buffer.erase(0, unused);
        next_at -= unused;
        kept_at -= unused;
        char block[1 << 16];
        const ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno != EINTR) fail("cannot read %s: %s", path.c_str(), strerror(errno));
        ended = n == 0;
        if (ended) end_unpacking();
        if (n > 0) buffer.append(block, n);
        return n > 0;
    }

    // JSON: the next value, or line that is one → `value`; false at the end of the file. Python writes NaN, Infinity
    // and -Infinity for values that are missing: they become null.
    bool next_value() {
        value.clear();
        bool quoted = false, object = false;
        for (size_t depth = 0;; at++) {
            while (at >= line.size()) {
                if (!value.empty() && (depth == 0 || !over_lines)) return true;
                if (!value.empty()) value += '\n';
                if (value.size() > MAX_OBJECT) end_here();
                quoted = false;  // no string has a line's end in it: this one is an error, but not of the next row
                at = 0;
                if (next_line()) continue;
                if (value.empty() && !in_array) return false;
                in_array = false;
                if (value.empty()) bad(number, "expected ] after the last row, found the end of the file");
                bad(begin,
                    format("expected a JSON object of at most %zu MB, found no end of what begins here: the rest "
                           "cannot be read",
                        MAX_OBJECT >> 20));
            }
            const char c = line[at];
            const bool opens = !quoted && (c == '{' || c == '['), closes = !quoted && (c == '}' || c == ']');
            if (value.empty()) {
                if (c == ' ' || c == '\t' || c == '\r' || (over_lines && c == ',')) continue;
                if (!begun) {
                    begun = true;
                    in_array = c == '[';
                    over_lines = in_array || line.substr(at) == "{";
                    if (in_array) continue;
                } else if (in_array && c == ']') {
                    in_array = false;
                    element = 0;
                    continue;
                }
                begin = number;
                element += in_array;
                object = c == '{';
                if (!over_lines) value.assign(line, 0, at);  // so that columns are those of the line
            } else if (over_lines && depth == 0 && !quoted && (closes || c == ',')) {
                return true;  // no object
            }
            const char* missing = nullptr;
            if (object && !quoted && (c == 'N' || c == 'I' || c == '-'))
                for (const char* name : {"NaN", "Infinity", "-Infinity"})
                    if (line.compare(at, strlen(name), name) == 0) missing = name;
            if (missing) {
                value += "null";
                at += strlen(missing) - 1;
                continue;
            }
            value += c;
            if (quoted && c == '\\' && at + 1 < line.size()) value += line[++at];
            else if (c == '"') quoted = !quoted;
            else if (opens) depth++;
            else if (closes && (depth == 0 || --depth == 0) && over_lines) return ++at;  // with 0 it closes nothing
        }
    }

    // If the file begins as what gzip, xz, bzip2 or zstd makes, it is read through that program.
    void unpack() {
        char begin[6] = {};
        if (pread(fd, begin, sizeof begin, 0) < 0) return;
        for (auto [magic, program] :
            {std::pair("\x1f\x8b", "gzip"), {"\3757zXZ", "xz"}, {"BZh", "bzip2"}, {"\x28\xb5\x2f\xfd", "zstd"}})
            if (strncmp(begin, magic, strlen(magic)) == 0) packer = program;
        if (!packer) return;
        fcntl(fd, F_SETFD, 0);  // so that the program has it, too
        unpacked = popen(format("%s -dc < /dev/fd/%d 2> /dev/null", packer, fd).c_str(), "re");
        if (!unpacked) fail("cannot read %s: %s", path.c_str(), strerror(errno));
        close(fd);
        owned = false;
        fd = fileno(unpacked);
    }
    void end_unpacking() {
        const int status = unpacked ? pclose(unpacked) : 0;
        unpacked = nullptr;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
            fail("cannot read %s: it was made by %s, which cannot be started: install it or unpack the file",
                path.c_str(), packer);
        if (status > 0)  // -1: whoever started this program has it ignore how its own end
            fail("cannot read %s: the compressed file is cut short or damaged", path.c_str());
    }
};

// All rows of an input, by next(row); and of JSON, an object a line, the blank lines among them, not those after the
// last. A Row has where and error.
template <class Row, class Next> std::vector<Row> read_rows(LineReader& lines, Next next) {
    std::vector<Row> rows;
    size_t line = 0;  // of the row before
    for (Row row; next(row); row = {}) {
        for (line++; !lines.over_lines && line < lines.number; line++) {
            Row empty;
            empty.where = format("%s, line %zu", lines.path.c_str(), line);
            empty.error = empty.where + ": expected a JSON object, found an empty line";
            rows.push_back(empty);
        }
        line = lines.number;
        rows.push_back(row);
    }
    return rows;
}
