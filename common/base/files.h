// files.h: JSON, Unicode and files, as plain structs and functions.
// files.cpp implements it and is the only file that includes nlohmann-json and utf8proc (a JSON header costs nvcc 7 s
// per file).
#pragma once
#include <stdint.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

// ---------------------------------------------------------------- JSON
struct Json {
    enum Kind { null, boolean, integer, number, string, array, object } kind = null;
    bool b = false;
    int64_t i = 0;
    double d = 0;                                 // set for integers as well
    std::string s;                                // of a number that was read: as it was written
    std::vector<Json> a;                          // array
    std::vector<std::pair<std::string, Json>> o;  // object, keys in the order of the file

    Json() {}
    Json(bool x) : kind(boolean), b(x) {}
    Json(int x) : kind(integer), i(x), d(x) {}
    Json(int64_t x) : kind(integer), i(x), d((double)x) {}
    Json(uint64_t x) : kind(integer), i((int64_t)x), d((double)x) {}
    Json(double x) : kind(number), d(x) {}
    Json(const char* x) : kind(string), s(x) {}
    Json(const std::string& x) : kind(string), s(x) {}
    static Json make_array() {
        Json j;
        j.kind = array;
        return j;
    }
    static Json make_object() {
        Json j;
        j.kind = object;
        return j;
    }

    const Json* find(std::string_view key) const;   // nullptr if this is no object or has no such key
    Json& set(const std::string& key, Json value);  // add or replace; returns *this
};

// text → value; `where` (a file name) begins the error message, which names line and column. Duplicate keys, NaN,
// invalid UTF-8, nesting deeper than 200 and anything after the value are refused.
Json parse_json(std::string_view text, const std::string& where);
// value → text; indent < 0: one line. Doubles print with as many digits as are needed to read them back; a double that
// is not finite prints as null. Invalid UTF-8 in strings becomes U+FFFD.
std::string dump_json(const Json& value, int indent = -1);

// ---------------------------------------------------------------- Unicode (utf8proc)
// Reads the code point at p (p < end), moves p behind it; −1 and one byte further if the bytes are not UTF-8.
int32_t next_code_point(const char*& p, const char* end);
void append_utf8(std::string& out, int32_t code_point);
// General category as two letters in one number, e.g. category(cp) == CATEGORY('M','n')
constexpr int CATEGORY(char a, char b) { return a << 8 | b; }
int category(int32_t code_point);
int32_t lower(int32_t code_point);  // simple lower-case mapping
void append_lower(std::vector<int32_t>& out,
                  int32_t code_point);  // full lower-case mapping (one code point may become two)
void append_nfd(std::vector<int32_t>& out,
                int32_t code_point);  // canonical decomposition of one code point, not reordered
int combining_class(int32_t code_point);
// Byte offset of the first byte that is not part of valid UTF-8, or npos.
size_t invalid_utf8(std::string_view text);

// ---------------------------------------------------------------- files
std::string read_file(const std::string& path);  // fails with the path and the system's reason
bool exists(const std::string& path);
bool is_directory(const std::string& path);
void make_directories(const std::string& path);  // like mkdir -p
// Writes to a new file PATH.tmp, fsync, rename: PATH is the old file or the new one, never half of one.
void write_file_atomic(const std::string& path, std::string_view bytes);
// Opens a new file for reading and writing, at `path` or, where that name is taken, at path.1, path.2 ... (then set in
// `path`): nothing that is there is touched, and no link to a file is followed. Returns its descriptor, or −1 with
// errno set.
int create_file(std::string& path);
// Of a program's output: refuses (exit code 2) to write a file that is an input, by whatever name, compared by device
// and inode.
void refuse_input(const std::string& flag, const std::string& output, const std::vector<std::string>& inputs);
// Refuses (exit code 2) to write a file that is there already; of a directory, one of the names in it.
void refuse_existing(const std::string& flag, const std::string& path, const std::vector<std::string>& names = {""});
void sync_directory_of(const std::string& path);  // after a rename: the name itself reaches the disk
// Replaces directory `path` by the finished directory `from` (same file system): fsyncs everything in it, then
// exchanges the names.
void replace_directory(const std::string& path, const std::string& from);
