// files.cpp: JSON by nlohmann-json, Unicode by utf8proc, files by POSIX. The interface and its promises are in files.h.
#include "common/base/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "common/base/common.h"

// ---------------------------------------------------------------- JSON
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

    bool refuse(const std::string& why) {
        error = why;
        return false;
    }

    Json* place(Json value) {
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
    bool enter(Json value) {
        if (open.size() >= max_depth) return refuse(format("nested deeper than %zu levels", max_depth));
        open.push_back(place(std::move(value)));
        keys.emplace_back();
        return true;
    }
    bool leave() {
        open.pop_back();
        keys.pop_back();
        return true;
    }

    bool null() {
        place(Json());
        return true;
    }
    bool boolean(bool x) {
        place(x);
        return true;
    }
    bool number_integer(int64_t x) {
        place(x);
        return true;
    }
    bool number_unsigned(uint64_t x) {
        place(x);
        return true;
    }
    bool number_float(double x, const std::string& written) {
        place(x)->s = written;  // to be written as it was read, whatever a double can hold
        return true;
    }
    bool string(std::string& x) {
        place(Json(x));
        return true;
    }
    bool binary(json::binary_t&) { return refuse("binary data"); }
    bool start_object(size_t) { return enter(Json::make_object()); }
    bool end_object() { return leave(); }
    bool start_array(size_t) { return enter(Json::make_array()); }
    bool end_array() { return leave(); }
    bool key(std::string& k) {
        if (!keys.back().insert(k).second)
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

Json parse_json(std::string_view text, const std::string& where) {
    Builder builder;
    const char *begin = text.data(), *end = begin + text.size(), *furthest = begin;
    if (nlohmann::json::sax_parse(Reading{begin, &furthest}, Reading{end, &furthest}, &builder))
        return std::move(builder.root);
    size_t line = 1 + std::count(begin, furthest, '\n'), column = 0;
    for (const char* p = furthest; p > begin && p[-1] != '\n'; p--) column++;
    fail("%s: line %zu, column %zu: this is not JSON as expected: %s", where.c_str(), line, column,
         builder.error.c_str());
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
            append_utf8(out, cp < 0 ? 0xFFFD : cp);
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
            if (!(v.d - v.d == 0)) {
                out += "null";
                break;
            }  // infinite or not a number
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

// ---------------------------------------------------------------- Unicode
int32_t next_code_point(const char*& p, const char* end) {
    int32_t cp;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t*)p, std::min<ptrdiff_t>(end - p, 4), &cp);
    p += n > 0 ? n : 1;
    return n > 0 ? cp : -1;
}

void append_utf8(std::string& out, int32_t code_point) {
    utf8proc_uint8_t bytes[4];
    out.append((const char*)bytes, utf8proc_encode_char(code_point, bytes));
}

int category(int32_t code_point) {
    const char* two = utf8proc_category_string(code_point);
    return CATEGORY(two[0], two[1]);
}

int32_t lower(int32_t code_point) { return utf8proc_tolower(code_point); }

// U+0130 (I with a dot above) is the only code point whose lower case is two code points in every context and language.
void append_lower(std::vector<int32_t>& out, int32_t code_point) {
    if (code_point == 0x130)
        out.insert(out.end(), {'i', 0x307});
    else
        out.push_back(lower(code_point));
}

void append_nfd(std::vector<int32_t>& out, int32_t code_point) {
    utf8proc_int32_t parts[32];
    int boundary_state = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(code_point, parts, 32, UTF8PROC_DECOMPOSE, &boundary_state);
    if (n < 1 || n > 32)
        out.push_back(code_point);
    else
        out.insert(out.end(), parts, parts + n);
}

int combining_class(int32_t code_point) { return utf8proc_get_property(code_point)->combining_class; }

size_t invalid_utf8(std::string_view text) {
    const char *p = text.data(), *end = p + text.size();
    while (p < end) {
        const char* at = p;
        if ((unsigned char)*p < 128)
            p++;
        else if (next_code_point(p, end) < 0)
            return at - text.data();
    }
    return std::string_view::npos;
}

// ---------------------------------------------------------------- files
std::string read_file(const std::string& path) {
    if (is_directory(path)) fail("cannot read %s: expected a file, found a directory", path.c_str());
    FILE* f = fopen(path.c_str(), "rb");
    if (!f) fail("cannot read %s: %s", path.c_str(), strerror(errno));
    std::string bytes;
    struct stat st;
    if (fstat(fileno(f), &st) == 0 && st.st_size > 0) bytes.reserve(st.st_size + 1);
    char block[1 << 16];
    size_t n;
    while ((n = fread(block, 1, sizeof block, f)) > 0) bytes.append(block, n);
    int error = ferror(f) ? errno : 0;
    fclose(f);
    if (error) fail("cannot read %s: %s", path.c_str(), strerror(error));
    return bytes;
}

bool exists(const std::string& path) {
    struct stat st;
    return stat(path.c_str(), &st) == 0;
}

bool is_directory(const std::string& path) {
    struct stat st;
    return stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

void make_directories(const std::string& path) {
    for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
        std::string part = path.substr(0, slash);
        if (mkdir(part.c_str(), 0777) != 0 && !is_directory(part))
            fail("cannot make the directory %s: %s", part.c_str(),
                 errno == EEXIST || errno == ENOTDIR ? "there is a file of that name" : strerror(errno));
        if (slash == path.npos) return;
    }
}

// The directory that holds `path`: after a rename its own entry must reach the disk, too.
static std::string parent_of(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    size_t slash = path.rfind('/');
    return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

static void sync_path(const std::string& path) {
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail("cannot open %s: %s", path.c_str(), strerror(errno));
    int error = fsync(fd) == 0 || errno == EINVAL || errno == EROFS
                    ? 0
                    : errno;  // some file systems cannot sync a directory
    close(fd);
    if (error) fail("cannot write %s to the disk: %s", path.c_str(), strerror(error));
}

void sync_directory_of(const std::string& path) { sync_path(parent_of(path)); }

int create_file(std::string& path) {
    const std::string wanted = path;
    struct stat st;
    if (stat(path.c_str(), &st) == 0 && S_ISCHR(st.st_mode))
        return open(path.c_str(), O_WRONLY | O_CLOEXEC);  // /dev/full, in tests: no file is lost there
    for (int n = 1;; n++) {
        int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
        path = wanted + "." + std::to_string(n);
    }
}

void refuse_input(const std::string& flag, const std::string& output, const std::vector<std::string>& inputs) {
    struct stat out, in;
    if (stat(output.c_str(), &out) != 0) return;
    for (const std::string& input : inputs)
        if (stat(input.c_str(), &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            fail_usage("%s %s: expected another file than the input %s, which this would overwrite", flag.c_str(),
                       output.c_str(), input.c_str());
}

void refuse_existing(const std::string& flag, const std::string& path, const std::vector<std::string>& names) {
    struct stat st;
    for (const std::string& name : names) {
        const std::string file = name.empty() ? path : path + "/" + name;
        if (lstat(file.c_str(), &st) == 0)
            fail_usage("%s %s: expected no %s, which this would overwrite, found one; remove it or take another %s",
                       flag.c_str(), path.c_str(), file.c_str(), flag.c_str());
    }
}

void write_file_atomic(const std::string& path, std::string_view bytes) {
    std::string tmp = path + ".tmp";
    int fd = create_file(tmp);
    if (fd < 0) fail("cannot write %s: %s", tmp.c_str(), strerror(errno));
    int error = 0;
    for (size_t done = 0; done < bytes.size() && !error;) {
        ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
        if (n > 0)
            done += n;
        else if (errno != EINTR)
            error = errno;
    }
    if (!error && fsync(fd) != 0) error = errno;
    if (close(fd) != 0 && !error) error = errno;
    if (!error && rename(tmp.c_str(), path.c_str()) != 0) error = errno;
    if (error) {
        unlink(tmp.c_str());
        fail("cannot write %s: %s; the file that was there before is unchanged", path.c_str(), strerror(error));
    }
    sync_directory_of(path);
}

// Calls f(path of the entry) for all that is in `dir`, then returns
template <class F>
static void for_each_entry(const std::string& dir, F f) {
    DIR* d = opendir(dir.c_str());
    if (!d) fail("cannot read the directory %s: %s", dir.c_str(), strerror(errno));
    std::vector<std::string> names;
    while (dirent* entry = readdir(d))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) names.push_back(entry->d_name);
    closedir(d);
    for (const std::string& name : names) f(dir + "/" + name);
}

static bool is_real_directory(const std::string& path) {  // and no link to one: never follow those
    struct stat st;
    return lstat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

static void sync_tree(const std::string& path) {
    if (is_real_directory(path)) for_each_entry(path, sync_tree);
    if (exists(path)) sync_path(path);
}

static void remove_tree(const std::string& path) {
    if (is_real_directory(path)) for_each_entry(path, remove_tree);
    if (remove(path.c_str()) != 0) fail("cannot remove %s: %s", path.c_str(), strerror(errno));
}

void replace_directory(const std::string& path, const std::string& from) {
    if (!is_directory(from)) fail("cannot move %s to %s: it is no directory", from.c_str(), path.c_str());
    if (exists(path) && !is_directory(path))
        fail("cannot replace %s: expected a directory, found a file", path.c_str());
    sync_tree(from);
    if (!exists(path)) {
        if (rename(from.c_str(), path.c_str()) != 0)
            fail("cannot rename %s to %s: %s", from.c_str(), path.c_str(), strerror(errno));
        return sync_directory_of(path);
    }
    constexpr unsigned exchange = 2;  // RENAME_EXCHANGE: both names change hands in one step
    if (syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), exchange) == 0) {
        sync_directory_of(path);
        return remove_tree(from);
    }
    if (errno != EINVAL && errno != ENOSYS)
        fail("cannot rename %s to %s: %s", from.c_str(), path.c_str(), strerror(errno));
    // This file system cannot exchange. For a moment the old directory is at PATH.old and nothing at PATH.
    std::string old = path + ".old";
    if (exists(old)) remove_tree(old);
    if (rename(path.c_str(), old.c_str()) != 0)
        fail("cannot rename %s to %s: %s", path.c_str(), old.c_str(), strerror(errno));
    if (rename(from.c_str(), path.c_str()) != 0) {
        int error = errno;
        rename(old.c_str(), path.c_str());
        fail("cannot rename %s to %s: %s", from.c_str(), path.c_str(), strerror(error));
    }
    sync_directory_of(path);
    remove_tree(old);
}
