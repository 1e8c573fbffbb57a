// safetensors.h: named tensors in a file.
//
//   8 bytes      N, little-endian, at most 100,000,000
//   N bytes      JSON: {"__metadata__": {"format": "pt", ...},
//                       "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//   the rest     data, row-major, little-endian; the tensors cover it without overlap and without holes
//
// A file that breaks a rule is refused with its name, the tensor's name and what was found. Numbers are taken to be
// little-endian in memory too.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/json.h"
#include "common/base/text.h"
#include "common/base/types.h"

// Bits of one element of each type that the format has; 0 for another.
inline size_t dtype_bits(const std::string& dtype) {
    if (dtype == "F64" || dtype == "I64" || dtype == "U64" || dtype == "C64") return 64;
    if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 32;
    if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 16;
    if (dtype == "I8" || dtype == "U8" || dtype == "BOOL" || dtype.rfind("F8_E", 0) == 0) return 8;
    if (dtype == "F6_E2M3" || dtype == "F6_E3M2") return 6;
    return dtype == "F4" ? 4 : 0;
}
inline size_t dtype_size(const std::string& dtype) { return dtype_bits(dtype) / 8; }  // in bytes, of those we read
template <class T> const char* dtype_of() {
    if (std::is_same_v<T, double>) return "F64";
    if (std::is_same_v<T, float>) return "F32";
    if (std::is_same_v<T, bf16>) return "BF16";
    if (std::is_same_v<T, int64_t>) return "I64";
    return std::is_same_v<T, int32_t> ? "I32" : "unknown";
}

// IEEE half precision: 1 sign, 5 exponent (bias 15), 10 fraction bits
inline float half_to_float(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 1023;
    uint32_t bits;
    float f = fraction * (1.0f / 16777216);  // exponent 0: fraction * 2^-24
    memcpy(&bits, &f, 4);
    if (exponent == 31) bits = 0x7f800000 | fraction << 13;                       // infinity, NaN
    else if (exponent) bits = (uint32_t)(exponent + 112) << 23 | fraction << 13;  // 112 = 127 - 15
    bits |= (uint32_t)(h & 0x8000) << 16;
    memcpy(&f, &bits, 4);
    return f;
}

inline std::string shape_text(const std::vector<size_t>& shape) {  // "(61, 64)"
    std::string s = "(";
    for (size_t i = 0; i < shape.size(); i++) s += (i ? ", " : "") + std::to_string(shape[i]);
    return s + ")";
}

// a * b * c * ...; false if that does not fit in 63 bits
inline bool checked_product(const std::vector<size_t>& factors, size_t* product) {
    *product = 1;
    for (size_t f : factors)
        if (__builtin_mul_overflow(*product, f, product) || *product > INT64_MAX) return false;
    return true;
}

struct TensorInfo {
    std::string name, dtype;
    std::vector<size_t> shape;
    size_t count = 0;           // elements
    size_t begin = 0, end = 0;  // bytes, from the start of the data
};

// ---------------------------------------------------------------- reading
struct SafeTensors {
    std::string path;
    std::vector<TensorInfo> tensors;  // in the order of names
    std::vector<std::pair<std::string, std::string>> metadata;
    const unsigned char* map = nullptr;  // the whole file
    size_t file_size = 0, data_start = 0;

    explicit SafeTensors(const std::string& path) : path(path) {
        open_file();
        try {
            parse_header();
        } catch (...) {
            munmap((void*)map, file_size);
            throw;
        }
    }
    ~SafeTensors() { munmap((void*)map, file_size); }
    SafeTensors(const SafeTensors&) = delete;
    SafeTensors& operator=(const SafeTensors&) = delete;

    const TensorInfo* find(const std::string& name) const {
        auto t = std::lower_bound(tensors.begin(), tensors.end(), name,
                                  [](const TensorInfo& a, const std::string& b) { return a.name < b; });
        return t != tensors.end() && t->name == name ? &*t : nullptr;
    }
    std::string hint(const std::string& name) const {  // "; nearest: " and the name that is most like this one
        std::vector<std::string> names;
        for (const TensorInfo& t : tensors) names.push_back(t.name);
        return nearest_hint(name, names);
    }
    // Value of a key in __metadata__, or nullptr.
    const std::string* find_metadata(const std::string& key) const {
        for (auto& [k, v] : metadata)
            if (k == key) return &v;
        return nullptr;
    }
    // The bytes of a tensor; not aligned, so copy from them.
    const unsigned char* data(const TensorInfo& t) const { return map + data_start + t.begin; }

    // Elements [first, first+n) of a tensor as T: F64, F32, F16 and BF16 as float or double, I64 and I32 as integers
    // that hold them.
    template <class T> void read(const TensorInfo& t, T* dst, size_t first, size_t n) const {
        if (first > t.count || n > t.count - first)
            fail("%s: %s: elements %zu to %zu of %zu", path.c_str(), t.name.c_str(), first, first + n, t.count);
        if (n == 0) return;
        const unsigned char* src = data(t) + first * dtype_size(t.dtype);
        if (t.dtype == dtype_of<T>()) memcpy(dst, src, n * sizeof(T));
        else if (std::is_integral_v<T>) {
            if (t.dtype != "I32" || sizeof(T) < 4)
                fail("%s: %s: expected %s, found %s", path.c_str(), t.name.c_str(), dtype_of<T>(), t.dtype.c_str());
            convert<int32_t>(src, dst, n, [](int32_t x) { return (T)x; });
        } else if (t.dtype == "F32") convert<float>(src, dst, n, [](float x) { return (T)x; });
        else if (t.dtype == "F64") convert<double>(src, dst, n, [](double x) { return (T)x; });
        else if (t.dtype == "F16") convert<uint16_t>(src, dst, n, [](uint16_t x) { return (T)half_to_float(x); });
        else if (t.dtype == "BF16") convert<bf16>(src, dst, n, [](bf16 x) { return (T)(float)x; });
        else
            fail("%s: %s: expected F32, F16, BF16 or F64 numbers, found %s", path.c_str(), t.name.c_str(),
                 t.dtype.c_str());
    }
    template <class T> void read(const TensorInfo& t, T* dst) const { read(t, dst, 0, t.count); }

    // Reads a tensor that must be there and have this shape.
    template <class T> std::vector<T> read(const std::string& name, const std::vector<size_t>& shape) const {
        const TensorInfo* t = find(name);
        if (!t) fail("%s: expected a tensor %s, found none%s", path.c_str(), name.c_str(), hint(name).c_str());
        if (t->shape != shape)
            fail("%s: %s: expected shape %s, found %s", path.c_str(), name.c_str(), shape_text(shape).c_str(),
                 shape_text(t->shape).c_str());
        std::vector<T> values(t->count);
        read(*t, values.data());
        return values;
    }

private:
    template <class From, class T, class F> static void convert(const unsigned char* src, T* dst, size_t n, F f) {
        for (size_t i = 0; i < n; i++) {
            From x;
            memcpy(&x, src + i * sizeof(From), sizeof(From));
            dst[i] = f(x);
        }
    }

    void open_file() {
        int fd = open_regular(path);
        struct stat st;
        file_size = fstat(fd, &st) == 0 ? st.st_size : 0;
        void* p = file_size >= 8 ? mmap(nullptr, file_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
        int reason = errno;
        close(fd);
        if (file_size < 8)
            fail("%s: expected a safetensors file, found %zu bytes: it is empty or cut off", path.c_str(), file_size);
        if (p == MAP_FAILED) fail("%s: cannot map %zu bytes: %s", path.c_str(), file_size, strerror(reason));
        map = (const unsigned char*)p;
    }

    // header → tensors, metadata
    void parse_header() {
        uint64_t header_size;
        memcpy(&header_size, map, 8);
        if (header_size > 100000000)
            fail("%s: expected a header of at most 100000000 bytes, found %llu: not a safetensors file", path.c_str(),
                 (unsigned long long)header_size);
        if (header_size > file_size - 8)
            fail("%s: expected a header of %llu bytes, found %zu bytes after its length: the file is cut off",
                 path.c_str(), (unsigned long long)header_size, file_size - 8);
        if (header_size == 0 || map[8] != '{')
            fail("%s: expected a header that begins with '{': not a safetensors file", path.c_str());
        data_start = 8 + header_size;
        // one entry at a time: as a tree a header of 10 MB would take 870
        for_each_member(std::string_view((const char*)map + 8, header_size), path, [&](std::string& name, Json& entry) {
            if (name == "__metadata__") parse_metadata(entry);
            else tensors.push_back(parse_entry(name, entry));
        });

        std::vector<const TensorInfo*> by_offset;
        for (const TensorInfo& t : tensors) by_offset.push_back(&t);
        std::sort(by_offset.begin(), by_offset.end(), [](const TensorInfo* a, const TensorInfo* b) {
            return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
        });
        size_t covered = 0;
        for (const TensorInfo* t : by_offset) {
            if (t->begin != covered)
                fail("%s: %s: expected its data at byte %zu, found %zu: %s", path.c_str(), t->name.c_str(), covered,
                     t->begin, t->begin < covered ? "it overlaps the tensor before" : "there is a hole before it");
            covered = t->end;
        }
        if (covered != file_size - data_start)
            fail("%s: expected %zu bytes of data, found %zu: bytes that belong to no tensor", path.c_str(), covered,
                 file_size - data_start);

        std::sort(tensors.begin(), tensors.end(),
                  [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
        for (size_t i = 1; i < tensors.size(); i++)
            if (tensors[i].name == tensors[i - 1].name)
                fail("%s: %s is there twice", path.c_str(), tensors[i].name.c_str());
    }

    void parse_metadata(const Json& entry) {
        if (entry.kind != Json::object) fail("%s: __metadata__: expected an object of strings", path.c_str());
        for (const auto& [key, value] : entry.o) {
            if (value.kind != Json::string) fail("%s: __metadata__: %s: expected a string", path.c_str(), key.c_str());
            metadata.emplace_back(key, value.s);
        }
    }

    TensorInfo parse_entry(const std::string& name, const Json& entry) const {
        const char *file = path.c_str(), *tensor = name.c_str();
        const Json *dtype = entry.find("dtype"), *shape = entry.find("shape"), *offsets = entry.find("data_offsets");
        if (!dtype || dtype->kind != Json::string) fail("%s: %s: expected a dtype", file, tensor);
        if (!shape || shape->kind != Json::array) fail("%s: %s: expected a shape", file, tensor);
        if (!offsets || offsets->kind != Json::array || offsets->a.size() != 2)
            fail("%s: %s: expected two data_offsets", file, tensor);
        TensorInfo t;
        t.name = name;
        t.dtype = dtype->s;
        for (const Json& n : shape->a) t.shape.push_back(parse_size(n, name, "shape"));
        t.begin = parse_size(offsets->a[0], name, "data_offsets");
        t.end = parse_size(offsets->a[1], name, "data_offsets");
        if (t.begin > t.end || t.end > file_size - data_start)
            fail(
                "%s: %s: expected data_offsets within the %zu bytes of data, found [%zu, %zu]: the file is cut off or "
                "damaged",
                file, tensor, file_size - data_start, t.begin, t.end);
        if (!checked_product(t.shape, &t.count))
            fail("%s: %s: expected a shape that fits in memory, found %s", file, tensor, shape_text(t.shape).c_str());
        size_t bits, size = dtype_bits(t.dtype);
        if (!size)
            fail("%s: %s: expected a dtype of safetensors (F32, BF16, ...), found %s", file, tensor, t.dtype.c_str());
        if (!checked_product({t.count, size}, &bits) || bits % 8 || bits / 8 != t.end - t.begin)
            fail("%s: %s: expected the bytes of %s %s, found %zu", file, tensor, t.dtype.c_str(),
                 shape_text(t.shape).c_str(), t.end - t.begin);
        return t;
    }
    size_t parse_size(const Json& n, const std::string& name, const char* what) const {
        if (n.kind != Json::integer || n.i < 0)
            fail("%s: %s: %s: expected an integer >= 0, found %s", path.c_str(), name.c_str(), what,
                 dump_json(n).c_str());
        return (size_t)n.i;
    }
};

// ---------------------------------------------------------------- writing
struct TensorToWrite {
    std::string name, dtype;
    std::vector<size_t> shape;
    const void* data = nullptr;  // for write_safetensors
};

// Writes a file beside PATH piece by piece: the header first, then with write() the data of the tensors in the order of
// the list; close() makes it PATH. An error (a full disk shows in write, fsync or close) throws and removes that file;
// PATH is then what it was before.
struct SafeTensorsWriter {
    std::string path, tmp;
    size_t expected = 0, written = 0;  // bytes of data

    SafeTensorsWriter(const std::string& path, const std::vector<TensorToWrite>& list,
                      const std::vector<std::pair<std::string, std::string>>& extra = {})
        : path(path), tmp(path + ".tmp") {
        std::string header = make_header(list, extra);
        fd = create_file(tmp);
        if (fd < 0) fail("%s: cannot create: %s", tmp.c_str(), strerror(errno));
        uint64_t size = header.size();
        try {
            put(&size, 8);
            put(header.data(), size);
        } catch (...) {
            discard();
            throw;
        }
    }
    ~SafeTensorsWriter() {
        if (fd >= 0) discard();
    }
    SafeTensorsWriter(const SafeTensorsWriter&) = delete;
    SafeTensorsWriter& operator=(const SafeTensorsWriter&) = delete;

    void write(const void* data, size_t bytes) {
        put(data, bytes);
        written += bytes;
    }
    void close() {
        if (written != expected)
            fail("%s: expected %zu bytes of data to write, found %zu", path.c_str(), expected, written);
        int error = fsync(fd) == 0 ? 0 : errno;
        if (::close(fd) != 0 && !error) error = errno;
        fd = -1;
        if (!error && rename(tmp.c_str(), path.c_str()) != 0) error = errno;
        if (error) {
            unlink(tmp.c_str());
            fail("%s: cannot write: %s", path.c_str(), strerror(error));
        }
        sync_directory_of(path);
    }

private:
    int fd = -1;

    std::string make_header(const std::vector<TensorToWrite>& list,
                            const std::vector<std::pair<std::string, std::string>>& extra) {
        Json metadata = Json::make_object();
        metadata.set("format", "pt");
        for (auto& [key, value] : extra) metadata.set(key, value);
        std::string s = "{\"__metadata__\":" + dump_json(metadata);
        for (const TensorToWrite& t : list) {
            size_t bytes, size = dtype_size(t.dtype);
            std::vector<size_t> factors = t.shape;
            factors.push_back(size);
            if (!size || !checked_product(factors, &bytes))
                fail("%s: %s: cannot write %s %s", path.c_str(), t.name.c_str(), t.dtype.c_str(),
                     shape_text(t.shape).c_str());
            if (expected % size)
                fail("%s: %s: wide types have to come first, so that all are aligned", path.c_str(), t.name.c_str());
            Json shape = Json::make_array();
            for (size_t n : t.shape) shape.a.push_back((uint64_t)n);
            s += "," + dump_json(t.name) +
                 format(":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", t.dtype.c_str(),
                        dump_json(shape).c_str(), expected, expected + bytes);
            expected += bytes;
        }
        s += "}";
        s.resize(round_up(s.size(), 8), ' ');
        return s;
    }
    void put(const void* data, size_t bytes) {
        for (const char* p = (const char*)data; bytes > 0;) {
            ssize_t n = ::write(fd, p, std::min(bytes, (size_t)1 << 30));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail("%s: cannot write: %s", tmp.c_str(), strerror(n < 0 ? errno : ENOSPC));
            p += n;
            bytes -= n;
        }
    }
    void discard() {
        ::close(fd);
        fd = -1;
        unlink(tmp.c_str());
    }
};

// All at once. extra: more pairs for __metadata__
inline void write_safetensors(const std::string& path, const std::vector<TensorToWrite>& list,
                              const std::vector<std::pair<std::string, std::string>>& extra = {}) {
    SafeTensorsWriter out(path, list, extra);
    for (const TensorToWrite& t : list) {
        size_t count = 1;
        for (size_t n : t.shape) count *= n;
        out.write(t.data, count * dtype_size(t.dtype));
    }
    out.close();
}
