// json.cpp: json.h by nlohmann-json's parser.
#include "common/base/json.h"

#include <string.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/unicode.h"

const Json* Json::find(std::string_view key) const {
    for (const auto& [name, value] : o)
        if (name == key) return &value;
    return nullptr;
}

Json& Json::set(const std::string& key, Json value) {
    kind = object;
    for (auto& [name, old] : o)
        if (name == key) {
            old = std::move(value);
            return *this;
        }
    o.emplace_back(key, std::move(value));
    return *this;
}

namespace {

// An iterator that leaves a trace of how far the parser has read, because its events carry no position.
struct Reading {
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;
    const char* p;
    const char** furthest;
    const char& operator*() const { return *p; }
    Reading& operator++() {
        *furthest = ++p;
        return *this;
    }
    Reading operator++(int) {
        Reading old = *this;
        ++*this;
        return old;
    }
    bool operator==(const Reading& r) const { return p == r.p; }
    bool operator!=(const Reading& r) const { return p != r.p; }
};

// Receives the parser's events and builds the tree. `open` is the path from the root to the array or object being
// filled.
struct Builder {
    using json = nlohmann::json;
    static constexpr size_t max_depth = 200;

    Json root;
    std::vector<Json*> open;
    std::vector<std::unordered_set<std::string>> keys;  // one set for each of `open`
    std::string next_key, error;
    const std::function<void(std::string&, Json&)>* member = nullptr;  // for_each_member(): who gets the root's members
    size_t values = 0;                                                 // in the member so far

    bool refuse(const std::string& why) {
        error = why;
        return false;
    }

    Json* place(Json value) {
        values++;
        if (open.empty()) {
            root = std::move(value);
            return &root;
        }
        if (open.back()->kind == Json::array) {
            open.back()->a.push_back(std::move(value));
            return &open.back()->a.back();
        }
        open.back()->o.emplace_back(std::move(next_key), std::move(value));
        return &open.back()->o.back().second;
    }
    // After a value: is it a whole member of the root?
    bool done() {
        if (!member) return true;
        if (root.kind != Json::object) return refuse("expected an object");
        if (values > 100000) return refuse("a value with more than 100000 others in it");
        if (open.size() != 1 || root.o.empty()) return true;
        (*member)(root.o[0].first, root.o[0].second);
        root.o.clear();
        values = 0;
        return true;
    }
    bool enter(Json value) {
        if (open.size() >= max_depth) return refuse(format("nested deeper than %zu levels", max_depth));
        open.push_back(place(std::move(value)));
        keys.emplace_back();
        return true;
    }
    bool leave() {
        open.pop_back();
        keys.pop_back();
        return done();
    }

    bool null() {
        place(Json());
        return done();
    }
    bool boolean(bool x) {
        place(x);
        return done();
    }
    bool number_integer(int64_t x) {
        place(x);
        return done();
    }
    bool number_unsigned(uint64_t x) {
        place(x);
        return done();
    }
    bool number_float(double x, const std::string& written) {
        place(x)->s = written;  // to be written as it was read, whatever a double can hold
        return done();
    }
    bool string(std::string& x) {
        place(Json(x));
        return done();
    }
    bool binary(json::binary_t&) { return refuse("binary data"); }
    bool start_object(size_t) { return enter(Json::make_object()); }
    bool end_object() { return leave(); }
    bool start_array(size_t) { return enter(Json::make_array()); }
    bool end_array() { return leave(); }
    bool key(std::string& k) {
        if (!(member && open.size() == 1) && !keys.back().insert(k).second)
            return refuse("the key \"" + k.substr(0, 100) + "\" appears twice in one object");
        next_key = k;
        return true;
    }
    bool parse_error(size_t, const std::string&, const json::exception& e) {
        // "[json.exception…] parse error at line 1, column 2: what we want". The text may quote bytes that are not
        // printable.
        error = e.what();
        error.erase(0, error.find("] ") + 2);
        if (error.rfind("parse error at line", 0) == 0) error.erase(0, error.find(": ") + 2);
        for (char& c : error)
            if ((unsigned char)c < 32 || (unsigned char)c > 126) c = '?';
        if (error.size() > 200) error = error.substr(0, 200) + "...";
        return false;
    }
};

}  // namespace

static Json parse(Builder& builder, std::string_view text, const std::string& where) {
    const char *begin = text.data(), *end = begin + text.size(), *furthest = begin;
    if (nlohmann::json::sax_parse(Reading{begin, &furthest}, Reading{end, &furthest}, &builder))
        return std::move(builder.root);
    size_t line = 1 + std::count(begin, furthest, '\n'), column = 0;
    for (const char* p = furthest; p > begin && p[-1] != '\n'; p--) column++;
    const std::string found = not_text(text);
    if (!found.empty()) fail("%s: expected JSON, found %s", where.c_str(), found.c_str());
    fail("%s: line %zu, column %zu: this is not JSON as expected: %s", where.c_str(), line, column,
         builder.error.c_str());
}
Json parse_json(std::string_view text, const std::string& where) {
    Builder builder;
    return parse(builder, text, where);
}
void for_each_member(std::string_view text, const std::string& where,
                     const std::function<void(std::string& key, Json& value)>& member) {
    Builder builder;
    builder.member = &member;
    parse(builder, text, where);
}

static constexpr const char* AS_BYTES = "bytes:";

Json json_of_bytes(const std::string& bytes) {
    if (invalid_utf8(bytes) == bytes.npos && bytes.rfind(AS_BYTES, 0) != 0) return bytes;
    std::string text = AS_BYTES;
    for (unsigned char c : bytes) text += c > 32 && c < 127 && c != '%' ? std::string(1, (char)c) : format("%%%02X", c);
    return text;
}

std::string bytes_of_json(const std::string& text) {
    if (text.rfind(AS_BYTES, 0) != 0) return text;
    std::string bytes;
    for (size_t i = strlen(AS_BYTES); i < text.size(); i++) {
        unsigned number = 0;
        const char* digits = text.data() + i + 1;
        const bool coded = text[i] == '%' && i + 2 < text.size() &&
                           std::from_chars(digits, digits + 2, number, 16).ptr == digits + 2;
        bytes += coded ? (char)number : text[i];
        if (coded) i += 2;
    }
    return bytes;
}

static void dump_string(std::string& out, const std::string& s) {
    out += '"';
    const char *p = s.data(), *end = p + s.size();
    while (p < end) {
        unsigned char c = *p;
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
            p++;
        } else if (c == '\n') {
            out += "\\n";
            p++;
        } else if (c == '\t') {
            out += "\\t";
            p++;
        } else if (c == '\r') {
            out += "\\r";
            p++;
        } else if (c < 32 || c == 127) {
            out += format("\\u%04x", c);
            p++;
        } else if (c < 127) {
            out += c;
            p++;
        } else {
            int32_t cp = next_code_point(p, end);
            if (cp >= 0 && cp < 160) out += format("\\u%04x", cp);  // a terminal would obey it
            else append_utf8(out, cp < 0 ? 0xFFFD : cp);
        }
    }
    out += '"';
}

static void dump(std::string& out, const Json& v, int indent, int depth) {
    auto newline = [&](int d) {
        if (indent >= 0) {
            out += '\n';
            out.append((size_t)indent * d, ' ');
        }
    };
    switch (v.kind) {
        case Json::null: out += "null"; break;
        case Json::boolean: out += v.b ? "true" : "false"; break;
        case Json::integer:
            // an unsigned number above 2^63 has wrapped in i, d knows its sign
            out += v.i < 0 && v.d > 0 ? std::to_string((uint64_t)v.i) : std::to_string(v.i);
            break;
        case Json::number: {
            if (!v.s.empty()) {
                out += v.s;
                break;
            }
            if (!(v.d - v.d == 0)) {  // infinite or not a number
                out += "null";
                break;
            }
            char digits[40];
            std::string s(digits, std::to_chars(digits, digits + sizeof digits, v.d).ptr);
            if (s.find_first_of(".e") == s.npos) s += ".0";  // stays a floating-point number when it is read back
            out += s;
            break;
        }
        case Json::string: dump_string(out, v.s); break;
        case Json::array:
            out += '[';
            for (size_t i = 0; i < v.a.size(); i++) {
                if (i) out += indent >= 0 ? "," : ", ";
                newline(depth + 1);
                dump(out, v.a[i], indent, depth + 1);
            }
            if (!v.a.empty()) newline(depth);
            out += ']';
            break;
        case Json::object:
            out += '{';
            for (size_t i = 0; i < v.o.size(); i++) {
                if (i) out += indent >= 0 ? "," : ", ";
                newline(depth + 1);
                dump_string(out, v.o[i].first);
                out += ": ";
                dump(out, v.o[i].second, indent, depth + 1);
            }
            if (!v.o.empty()) newline(depth);
            out += '}';
            break;
    }
}

std::string dump_json(const Json& value, int indent) {
    std::string out;
    dump(out, value, indent, 0);
    return out;
}
