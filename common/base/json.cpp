// json.cpp: json.h by nlohmann-json's parser.
#include "common/base/json.h"

#include <string.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <streambuf>
#include <unordered_set>

#include "common/base/files.h"
#include "common/base/text.h"

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

// What the parser reads, which knows how far it has read, because its events carry no position.
struct Reading : std::streambuf {
    explicit Reading(std::string_view text) {
        char* begin = const_cast<char*>(text.data());
        setg(begin, begin, begin + text.size());
    }
    size_t read() const { return gptr() - eback(); }
};

// Builds the tree from the parser's events. `open` is the path from the root to the array or object being filled.
struct Builder {
    using json = nlohmann::json;
    static constexpr size_t max_depth = 200;

    Json root;
    std::vector<Json*> open;
    std::vector<std::unordered_set<std::string>> keys;  // one set for each of `open`
    std::string next_key, error;
    const EachMember* each = nullptr;  // who gets the root's members
    size_t values = 0;                 // in the member so far

    bool refuse(const std::string& why) {
        error = why;
        return false;
    }

    Json* place(Json value) {
        Json* to = &root;
        if (!open.empty() && open.back()->kind == Json::array) to = &open.back()->a.emplace_back();
        else if (!open.empty()) to = &open.back()->o.emplace_back(std::move(next_key), Json()).second;
        *to = std::move(value);
        values++;
        return to;
    }
    // After a value: is it a whole member of the root?
    bool done() {
        if (!each) return true;
        if (root.kind != Json::object) return refuse("expected an object");
        if (values > 100000) return refuse("a value with more than 100000 others in it");
        if (open.size() != 1 || root.o.empty()) return true;
        (*each)(root.o[0].first, root.o[0].second);
        root.o.clear();
        values = 0;
        return true;
    }
    bool add(Json value) {
        place(std::move(value));
        return done();
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

    bool null() { return add(Json()); }
    bool boolean(bool x) { return add(x); }
    bool number_integer(int64_t x) { return add(x); }
    bool number_unsigned(uint64_t x) { return add(x); }
    bool number_float(double x, const std::string& written) {
        place(x)->s = written;  // to be written as it was read, whatever a double can hold
        return done();
    }
    bool string(std::string& x) { return add(x); }
    bool binary(json::binary_t&) { return refuse("binary data"); }
    bool start_object(size_t) { return enter(Json::make_object()); }
    bool end_object() { return leave(); }
    bool start_array(size_t) { return enter(Json::make_array()); }
    bool end_array() { return leave(); }
    bool key(std::string& k) {
        if (!(each && open.size() == 1) && !keys.back().insert(k).second)
            return refuse("the key \"" + k.substr(0, 100) + "\" appears twice in one object");
        next_key = k;
        return true;
    }
    bool parse_error(size_t, const std::string&, const json::exception& e) {
        // "[json.exception…] parse error at line 1, column 2: what we want", which may quote unprintable bytes
        error = e.what();
        error.erase(0, error.find("] ") + 2);
        if (starts_with(error, "parse error at line")) error.erase(0, error.find(": ") + 2);
        for (char& c : error)
            if ((unsigned char)c < 32 || (unsigned char)c > 126) c = '?';
        if (error.size() > 200) error = error.substr(0, 200) + "...";
        return false;
    }
};

}  // namespace

Json parse_json(std::string_view text, const std::string& where, size_t first_line, const EachMember& each) {
    Builder builder;
    if (each) builder.each = &each;
    Reading reading(text);
    std::istream stream(&reading);
    if (nlohmann::json::sax_parse(stream, &builder)) return std::move(builder.root);
    const std::string_view read = text.substr(0, reading.read());
    const size_t line = std::max<size_t>(first_line, 1) + std::count(read.begin(), read.end(), '\n');
    const size_t column = read.size() - (read.rfind('\n') + 1);
    const std::string at = (first_line ? where : where + ": ") + format("line %zu", line), found = not_text(text);
    if (!found.empty()) fail((first_line ? at : where) + ": expected JSON, found " + found);
    fail(at + format(", column %zu: this is not JSON as expected: ", column) + builder.error);
}

static constexpr const char* AS_BYTES = "bytes:";

Json json_of_bytes(const std::string& bytes) {
    if (invalid_utf8(bytes) == bytes.npos && !starts_with(bytes, AS_BYTES)) return bytes;
    std::string text = AS_BYTES;
    for (unsigned char c : bytes) text += c > 32 && c < 127 && c != '%' ? std::string(1, (char)c) : format("%%%02X", c);
    return text;
}

std::string bytes_of_json(const std::string& text) {
    if (!starts_with(text, AS_BYTES)) return text;
    std::string bytes;
    for (size_t i = strlen(AS_BYTES); i < text.size(); i++) {
        const std::string digits = text.substr(i + 1, 2);
        const bool coded = text[i] == '%' && digits.size() == 2 && isxdigit(digits[0]) && isxdigit(digits[1]);
        bytes += coded ? (char)std::stoi(digits, nullptr, 16) : text[i];
        if (coded) i += 2;
    }
    return bytes;
}

static void dump_string(std::string& out, const std::string& s) {
    out += '"';
    for (const char *p = s.data(), *end = p + s.size(); p < end;) {
        const int32_t c = next_code_point(p, end);
        if (c == '"' || c == '\\') out.append({'\\', (char)c});
        else if (c == '\n') out += "\\n";
        else if (c == '\t') out += "\\t";
        else if (c == '\r') out += "\\r";
        else if (c >= 0 && (c < 32 || (c > 126 && c < 160))) out += format("\\u%04x", c);  // a terminal would obey it
        else append_utf8(out, c < 0 ? 0xFFFD : c);
    }
    out += '"';
}

static void dump(std::string& out, const Json& v, int indent, int depth) {
    auto list = [&](char open, size_t n, char close, auto item) {  // item(i) adds the i-th of n
        auto newline = [&](int d) {
            if (indent >= 0) out += "\n" + std::string((size_t)indent * d, ' ');
        };
        out += open;
        for (size_t i = 0; i < n; i++) {
            if (i) out += indent >= 0 ? "," : ", ";
            newline(depth + 1);
            item(i);
        }
        if (n) newline(depth);
        out += close;
    };
    if (v.kind == Json::null) out += "null";
    if (v.kind == Json::boolean) out += v.b ? "true" : "false";
    if (v.kind == Json::integer)  // an unsigned number above 2^63 has wrapped in i, d knows its sign
        out += v.i < 0 && v.d > 0 ? std::to_string((uint64_t)v.i) : std::to_string(v.i);
    if (v.kind == Json::number && !v.s.empty()) out += v.s;
    else if (v.kind == Json::number && !std::isfinite(v.d)) out += "null";
    else if (v.kind == Json::number) {
        char digits[40];
        const std::string s(digits, std::to_chars(digits, digits + sizeof digits, v.d).ptr);
        out += s.find_first_of(".e") == s.npos ? s + ".0" : s;  // stays a floating-point number when it is read back
    }
    if (v.kind == Json::string) dump_string(out, v.s);
    if (v.kind == Json::array) list('[', v.a.size(), ']', [&](size_t i) { dump(out, v.a[i], indent, depth + 1); });
    if (v.kind == Json::object)
        list('{', v.o.size(), '}', [&](size_t i) {
            dump_string(out, v.o[i].first);
            out += ": ";
            dump(out, v.o[i].second, indent, depth + 1);
        });
}

std::string dump_json(const Json& value, int indent) {
    std::string out;
    dump(out, value, indent, 0);
    return out;
}
