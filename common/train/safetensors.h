// safetensors.h: named tensors in a file.
//
//   8 bytes      N, little-endian, at most 100,000,000
//   N bytes      JSON: {"__metadata__": {"format": "pt", ...},
//                       "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//   the rest     data, row-major, little-endian; the tensors cover it without overlap and without holes
//
// A file that breaks a rule is refused with its name, the tensor's and what was found. Memory is little-endian, too.
#pragma once
#include <math.h>
#include <string.h>

#include <algorithm>
#include <set>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/text.h"
#include "common/base/types.h"

// Bits of one element of each type that the format has; 0 for another.
inline size_t dtype_bits(const std::string& dtype) {
    if (dtype == "F64" || dtype == "I64" || dtype == "U64" || dtype == "C64") return 64;
    if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 32;
    if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 16;
    if (dtype == "I8" || dtype == "U8" || dtype == "BOOL" || starts_with(dtype, "F8_E")) return 8;
    if (dtype == "F6_E2M3" || dtype == "F6_E3M2") return 6;
    return dtype == "F4" ? 4 : 0;
}
inline size_t dtype_size(const std::string& dtype) { return dtype_bits(dtype) / 8; }  // in bytes, of those we read
template <class T> const char* dtype_of() {
    if (std::is_same_v<T, double>) return "F64";
    if (std::is_same_v<T, float>) return "F32";
    return std::is_same_v<T, bf16> ? "BF16" : "unknown";
}

// IEEE half precision: 1 sign, 5 exponent (bias 15), 10 fraction bits
struct Half {
    uint16_t bits;
    operator float() const {
        const uint32_t magnitude = (bits & 0x7fffu) << 13;  // as a float too small by 2^(127 − 15)
        float f;
        memcpy(&f, &magnitude, 4);
        f *= 0x1p112f;
        if (f >= 65536) f = bits & 1023 ? NAN : INFINITY;  // exponent 31
        return copysignf(f, bits & 0x8000 ? -1.0f : 1.0f);
    }
};

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
    std::vector<TensorInfo> tensors;      // in the order of their data
    Json metadata = Json::make_object();  // strings
    size_t file_size = 0, data_start = 0;
    std::shared_ptr<const char> map;  // the whole file

    explicit SafeTensors(const std::string& path) : path(path), map(map_file(path, &file_size)) {
        if (file_size < 8)
            fail("%s: expected a safetensors file, found %zu bytes: it is empty or cut off", path.c_str(), file_size);
        parse_header();
    }

    const TensorInfo* find(const std::string& name) const {
        for (const TensorInfo& t : tensors)
            if (t.name == name) return &t;
        return nullptr;
    }
    // Of a file of ours: is every byte what was written? "checksum" in the metadata is that of the header, with zeros
    // in its place, and of the data, tensor by tensor.
    void verify() const {
        const Json* expected = metadata.find("checksum");
        if (!expected) return;
        std::string header(map.get() + 8, data_start - 8);
        const size_t at = header.find(expected->s);
        header.replace(std::min(at, header.size()), expected->s.size(), hex(0));
        uint64_t sum = checksum(header.data(), header.size());
        for (const TensorInfo& t : tensors) sum = checksum(data(t), t.end - t.begin, sum);
        if (hex(sum) != expected->s)
            fail(path + ": expected the checksum " + expected->s + ", found " + hex(sum) +
                 ": the file is damaged; go on from another one, by --init DIR --out ANOTHER");
    }
    // The bytes of a tensor; not aligned, so copy from them.
    const char* data(const TensorInfo& t) const { return map.get() + data_start + t.begin; }

    // The elements of a tensor, F64, F32, F16 or BF16, as float, double or bf16
    template <class T> void read(const TensorInfo& t, T* dst) const {
        const char* src = data(t);
        if (t.count == 0) return;
        if (t.dtype == dtype_of<T>()) memcpy(dst, src, t.count * sizeof(T));
        else if (t.dtype == "F32") convert<float, float>(src, dst, t.count);
        else if (t.dtype == "F64") convert<double, double>(src, dst, t.count);
        else if (t.dtype == "F16") convert<Half, float>(src, dst, t.count);
        else if (t.dtype == "BF16") convert<bf16, float>(src, dst, t.count);
        else fail(path + ": " + t.name + ": expected F32, F16, BF16 or F64 numbers, found " + t.dtype);
    }

private:
    template <class From, class Number, class T> static void convert(const char* src, T* dst, size_t n) {
        for (size_t i = 0; i < n; i++) {
            From x;
            memcpy(&x, src + i * sizeof(From), sizeof(From));
            dst[i] = (T)(Number)x;
        }
    }

    // header → tensors, metadata
    void parse_header() {
        uint64_t header_size;
        memcpy(&header_size, map.get(), 8);
        if (header_size > 100000000)
            fail("%s: expected a header of at most 100000000 bytes, found %llu: not a safetensors file", path.c_str(),
                (unsigned long long)header_size);
        if (header_size > file_size - 8)
            fail("%s: expected a header of %llu bytes, found %zu bytes after its length: the file is cut off",
                path.c_str(), (unsigned long long)header_size, file_size - 8);
        if (header_size == 0 || map.get()[8] != '{')
            fail("%s: expected a header that begins with '{': not a safetensors file", path.c_str());
        data_start = 8 + header_size;
        std::set<std::string> names;
        // one entry at a time: as a tree a header of 10 MB would take 870
        parse_json({map.get() + 8, header_size}, path, 0, [&](std::string& name, Json& entry) {
            if (!names.insert(name).second) fail("%s: %s is there twice", path.c_str(), name.c_str());
            if (name != "__metadata__") return tensors.push_back(parse_entry(name, entry));
            if (entry.kind != Json::object) fail("%s: __metadata__: expected an object of strings", path.c_str());
            for (const auto& [key, value] : entry.o)
                if (value.kind != Json::string) fail(path + ": __metadata__: " + key + ": expected a string");
            metadata = entry;
        });
        std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
            return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
        });
        size_t covered = 0;
        for (const TensorInfo& t : tensors) {
            if (t.begin != covered)
                fail("%s: %s: expected its data at byte %zu, found %zu: %s", path.c_str(), t.name.c_str(), covered,
                    t.begin, t.begin < covered ? "it overlaps the tensor before" : "there is a hole before it");
            covered = t.end;
        }
        if (covered != file_size - data_start)
            fail("%s: expected %zu bytes of data, found %zu: bytes that belong to no tensor", path.c_str(), covered,
                file_size - data_start);
    }

    TensorInfo parse_entry(const std::string& name, const Json& entry) const {
        auto expect = [&](bool good, const std::string& what) {
            if (!good) fail("%s: %s: expected %s", path.c_str(), name.c_str(), what.c_str());
        };
        const Json *dtype = entry.find("dtype"), *shape = entry.find("shape"), *offsets = entry.find("data_offsets");
        expect(dtype && dtype->kind == Json::string, "a dtype");
        expect(shape && shape->kind == Json::array, "a shape");
        expect(offsets && offsets->kind == Json::array && offsets->a.size() == 2, "two data_offsets");
        for (const Json* list : {shape, offsets})
            for (const Json& n : list->a)
                expect(n.kind == Json::integer && n.i >= 0,
                    "an integer >= 0, found " + dump_json(n) + ", in its shape and data_offsets");
        TensorInfo t;
        t.name = name;
        t.dtype = dtype->s;
        for (const Json& n : shape->a) t.shape.push_back((size_t)n.i);
        t.begin = (size_t)offsets->a[0].i;
        t.end = (size_t)offsets->a[1].i;
        const std::string shown = shape_text(t.shape);
        size_t bits, size = dtype_bits(t.dtype);
        expect(t.begin <= t.end && t.end <= file_size - data_start,
            format("data_offsets within the %zu bytes of data, found [%zu, %zu]: the file is cut off or damaged",
                file_size - data_start, t.begin, t.end));
        expect(checked_product(t.shape, &t.count), "a shape that fits in memory, found " + shown);
        expect(size, "a dtype of safetensors (F32, BF16, ...), found " + t.dtype);
        expect(checked_product({t.count, size}, &bits) && bits % 8 == 0 && bits / 8 == t.end - t.begin,
            format("the bytes of %s %s, found %zu", t.dtype.c_str(), shown.c_str(), t.end - t.begin));
        return t;
    }
};

// ---------------------------------------------------------------- writing
struct TensorToWrite {
    std::string name, dtype;
    std::vector<size_t> shape;
    const void* data = nullptr;
};
// extra: more for __metadata__; data(i): the bytes of the i-th tensor, which have to last until the next call
inline void write_safetensors(const std::string& path, const std::vector<TensorToWrite>& list, const Json& extra = {},
    const std::function<const void*(size_t)>& data = nullptr) {
    Json metadata;
    const std::string no_sum = hex(0);
    metadata.set("format", "pt").set("checksum", no_sum);
    for (const auto& [key, value] : extra.o) metadata.set(key, value);
    std::string header = "{\"__metadata__\":" + dump_json(metadata);
    std::vector<size_t> ends = {0};  // of the tensors' data
    for (const TensorToWrite& t : list) {
        size_t bytes, size = dtype_size(t.dtype), begin = ends.back();
        std::vector<size_t> factors = t.shape;
        factors.push_back(size);
        if (!size || !checked_product(factors, &bytes))
            fail(path + ": " + t.name + ": cannot write " + t.dtype + " " + shape_text(t.shape));
        if (begin % size) fail(path + ": " + t.name + ": wide types have to come first, so that all are aligned");
        header += "," + dump_json(t.name) +
                  format(":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", t.dtype.c_str(),
                      dump_json(Json::make_array({t.shape.begin(), t.shape.end()})).c_str(), begin, begin + bytes);
        ends.push_back(begin + bytes);
    }
    header += "}";
    header.resize(round_up(header.size(), 8), ' ');
    const uint64_t size = header.size();
    AtomicFile file(path);
    file.write(&size, 8);
    file.write(header.data(), size);
    uint64_t sum = checksum(header.data(), size);
    for (size_t i = 0; i < list.size(); i++) {
        const void* from = data ? data(i) : list[i].data;
        file.write(from, ends[i + 1] - ends[i]);
        sum = checksum(from, ends[i + 1] - ends[i], sum);
    }
    file.write_at(8 + header.find(no_sum), hex(sum));
    file.close();
}
