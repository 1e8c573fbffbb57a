// json.h: JSON as one plain struct. json.cpp alone includes nlohmann-json, which costs nvcc 7 s a file.
#pragma once
#include <stdint.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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
    explicit Json(Kind empty) : kind(empty) {}
    static Json make_array(std::vector<Json> items = {}) {
        Json j(array);
        j.a = std::move(items);
        return j;
    }
    static Json make_object() { return Json(object); }

    const Json* find(std::string_view key) const;   // nullptr if this is no object or has no such key
    Json& set(const std::string& key, Json value);  // add or replace; returns *this
};

// text → value; `where` (a file name) begins the error message, which names line and column; first_line: where the text
// begins in the file, if it is a part of one ("FILE, " or "FILE, element 2: "). Duplicate keys, NaN, invalid UTF-8,
// nesting deeper than 200 and anything after the value are refused. each(key, value): for a text that is one object and
// may be large, it takes one member after the other, and none is kept; it notices a key that is there twice. One value
// may then hold at most 100,000 others.
typedef std::function<void(std::string& key, Json& value)> EachMember;
Json parse_json(
    std::string_view text, const std::string& where, size_t first_line = 0, const EachMember& each = nullptr);
// Any bytes, as a file's name may be, ↔ a JSON string: UTF-8 as it is; other bytes as "bytes:caf%E9", with every byte
// that is not printable ASCII, and %, by its number. So a name that begins with "bytes:" is written in this way, too.
Json json_of_bytes(const std::string& bytes);
std::string bytes_of_json(const std::string& text);
// value → text; indent < 0: one line. Doubles print with as many digits as are needed to read them back; a double that
// is not finite prints as null. Invalid UTF-8 in strings becomes U+FFFD.
std::string dump_json(const Json& value, int indent = -1);
