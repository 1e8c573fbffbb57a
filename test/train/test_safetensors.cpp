// test_safetensors.cpp: reading, writing and refusing safetensors files; all half-precision numbers; mutated headers.
#include <doctest/doctest.h>
#include <math.h>
#include <sys/stat.h>

#include "common/train/safetensors.h"
#include "test/temp.h"
#include "test/tensors.h"

namespace {

std::string file_of(const std::string& header, const std::string& data) {
    uint64_t n = header.size();
    return std::string((char*)&n, 8) + header + data;
}
// The sign bit; std::signbit may take −0 for 0 where the tests are built with -fno-signed-zeros.
template <class T> int sign_of(const T* x) { return ((const unsigned char*)x)[sizeof(T) - 1] >> 7; }
// What opening the file says, "" if it is accepted.
std::string refusal(const std::string& path) {
    try {
        SafeTensors file(path);
        return "";
    } catch (const Error& e) {
        CHECK(e.code == EXIT_FAILED);
        CHECK(std::string(e.what()).find('\n') == std::string::npos);
        return e.what();
    }
}

}  // namespace

TEST_CASE("safetensors: what was written is read back") {
    TempDir dir;
    std::vector<double> d = {1.5, -2, 1e300};
    std::vector<float> f = {0, 1, 2, 3, 4, 5};
    std::vector<int32_t> i = {-1, 7};
    std::vector<bf16> b = {bf16(1.5f)};
    write_safetensors(dir / "x",
        {{"d", "F64", {3}, d.data()}, {"layer.f", "F32", {2, 3}, f.data()}, {"i", "I32", {2}, i.data()},
            {"none", "F32", {0, 4}, nullptr}, {"b", "BF16", {}, b.data()}},
        Json().set("step", "12"));
    std::string bytes = read_file(dir / "x");
    CHECK(bytes[0] % 8 == 0);  // the data is aligned
    CHECK(bytes.size() == 8 + (unsigned char)bytes[0] + 256 * (unsigned char)bytes[1] + 24 + 24 + 8 + 2);
    CHECK(entries_of(dir.path) == std::vector<std::string>{"x"});  // nothing is left beside it

    SafeTensors file(dir / "x");
    CHECK(file.tensors.size() == 5);
    const std::string sum = file.metadata.find("checksum")->s;
    CHECK(dump_json(file.metadata) == "{\"format\": \"pt\", \"checksum\": \"" + sum + "\", \"step\": \"12\"}");
    CHECK((sum.size() == 16 && sum != hex(0)));
    file.verify();
    const size_t key = bytes.find("checksum");
    for (size_t at = 8; at < bytes.size(); at++) {  // a bit that flipped, anywhere but in the header's length ...
        if (at >= key && at < key + 8) continue;    // ... and the word itself, whose loss harms nothing
        std::string damaged = bytes;
        damaged[at] ^= 1 << at % 8;
        write_bytes(dir / "damaged", damaged);
        CHECK_THROWS_AS(SafeTensors(dir / "damaged").verify(), Error);
    }
    remove((dir / "damaged").c_str());
    CHECK(file.find("layer") == nullptr);
    CHECK(file.find("b")->shape.empty());
    CHECK(read_tensor<double>(file, "d", {3}) == d);
    CHECK(read_tensor<float>(file, "layer.f", {2, 3}) == f);
    CHECK(read_tensor<double>(file, "layer.f", {2, 3}) == std::vector<double>(f.begin(), f.end()));
    CHECK(read_tensor<int32_t>(file, "i", {2}) == i);
    CHECK(read_tensor<float>(file, "b", {}) == std::vector<float>{1.5f});
    CHECK(read_tensor<float>(file, "none", {0, 4}).empty());
    CHECK_THROWS_WITH_AS(read_tensor<float>(file, "i", {2}), doctest::Contains("found I32"), Error);
    CHECK_THROWS_WITH_AS(write_safetensors(dir / "y", {{"b", "BF16", {1}, b.data()}, {"f", "F32", {6}, f.data()}}),
        doctest::Contains("wide types"), Error);
}

TEST_CASE("safetensors: every half-precision number, against the definition") {
    TempDir dir;
    std::vector<uint16_t> all(65536);
    for (int i = 0; i < 65536; i++) all[i] = i;
    write_safetensors(dir / "x", {{"half", "F16", {65536}, all.data()}, {"brain", "BF16", {65536}, all.data()}});
    SafeTensors file(dir / "x");
    for (const char* name : {"half", "brain"}) {
        std::vector<float> f = read_tensor<float>(file, name, {65536});
        std::vector<double> d = read_tensor<double>(file, name, {65536});
        int fraction_bits = *name == 'h' ? 10 : 7, exponent_bits = 15 - fraction_bits,
            bias = (1 << (exponent_bits - 1)) - 1, wrong = 0;
        for (int i = 0; i < 65536; i++) {
            int exponent = (i >> fraction_bits) & ((1 << exponent_bits) - 1), fraction = i & ((1 << fraction_bits) - 1);
            double sign = i >> 15 ? -1 : 1, one = 1 << fraction_bits;
            double x = exponent ? sign * ldexp(1 + fraction / one, exponent - bias)
                                : sign * ldexp(fraction / one, 1 - bias);
            if (exponent == (1 << exponent_bits) - 1) x = fraction ? NAN : sign * INFINITY;
            if (std::isnan(x)) wrong += !std::isnan(f[i]) || !std::isnan(d[i]);
            else wrong += f[i] != x || d[i] != x || sign_of(&f[i]) != (i >> 15) || sign_of(&d[i]) != (i >> 15);
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("safetensors: files that break a rule are refused with the reason") {
    TempDir dir;
    std::string path = dir / "x";
    auto refused = [&](const std::string& bytes) {
        write_bytes(path, bytes);
        std::string why = refusal(path);
        CHECK(has(why, path));  // the file is named
        return why;
    };
    auto one = [&](const std::string& entry, size_t bytes) {
        return refused(file_of("{\"w\":" + entry + "}", std::string(bytes, 'x')));
    };
    auto two = [&](const char* a, const char* b, size_t bytes) {
        std::string entry = "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":";
        return refused(file_of("{\"a\":" + entry + a + "},\"b\":" + entry + b + "}}", std::string(bytes, 'x')));
    };
    // the file
    CHECK(has(refusal(dir / "none"), "No such file"));
    CHECK(has(refusal(dir.path), "found a directory"));
    CHECK(has(refusal("/dev/null"), "a pipe or a device"));
    REQUIRE(mkfifo((dir / "pipe").c_str(), 0600) == 0);
    CHECK(has(refusal(dir / "pipe"), "a pipe or a device"));
    CHECK(has(refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), "git lfs pull"));
    CHECK(has(refused(""), "empty"));
    CHECK(has(refused("1234567"), "found 7 bytes"));
    if (geteuid() != 0) {
        chmod(path.c_str(), 0);
        CHECK(has(refusal(path), "Permission denied"));
        chmod(path.c_str(), 0600);
    }
    // the header
    CHECK(has(refused(std::string(8, '\0')), "begins with '{'"));
    CHECK(has(refused(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)), "18446744073709551615"));
    CHECK(has(refused(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10)), "at most 100000000"));  // 100,000,001
    CHECK(has(refused(std::string("\x00\xe1\xf5\x05\0\0\0\0{}", 10)), "cut off"));
    CHECK(has(refused(file_of(" {}", "")), "begins with '{'"));
    CHECK(has(refused(file_of("[]", "")), "begins with '{'"));
    CHECK(has(refused(file_of("{", "")), "JSON"));
    CHECK(has(refused(file_of("{} x", "")), "JSON"));
    CHECK(has(refused(file_of("{\"__metadata__\":{\"a\":1}}", "")), "expected a string"));
    CHECK(has(refused(file_of("{\"__metadata__\":[]}", "")), "object of strings"));
    CHECK(has(refused(file_of("{}", "x")), "belong to no tensor"));
    // an entry
    const char* good = "{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}";
    CHECK(has(one("3", 0), "expected a dtype"));
    CHECK(has(one("{}", 0), "expected a dtype"));
    CHECK(has(one("{\"dtype\":\"F32\"}", 0), "expected a shape"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[2,2]}", 0), "two data_offsets"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0]}", 0), "two data_offsets"));
    CHECK(has(
        one("{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}", 15), "found [0, 16]: the file is cut off"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[16,0]}", 16), "found [16, 0]"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[-16,0]}", 16),
        "expected an integer >= 0, found -16"));
    CHECK(has(
        one("{\"dtype\":\"F32\",\"shape\":[2,-2],\"data_offsets\":[0,16]}", 16), "expected an integer >= 0, found -2"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[2.0,2],\"data_offsets\":[0,16]}", 16), "expected an integer >= 0"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[NaN,2],\"data_offsets\":[0,16]}", 16), "JSON"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[\"2\",2],\"data_offsets\":[0,16]}", 16), "expected an integer >= 0"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,18446744073709551615]}", 16),
        "expected an integer >= 0"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,99999999999999999999999]}", 16),
        "expected an integer >= 0"));
    CHECK(
        has(one("{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}", 0), "fits in memory"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}", 0),
        "found 0"));  // × 4 = 2^64
    CHECK(has(one("{\"dtype\":\"F64\",\"shape\":[2,2],\"data_offsets\":[0,16]}", 16),
        "w: expected the bytes of F64 (2, 2), found 16"));
    CHECK(has(one("{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,16]}", 16),
        "w: expected the bytes of F32 (2, 3), found 16"));
    CHECK(has(one("{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}", 16), "dtype"));
    CHECK(
        has(one("{\"dtype\":\"Q7\",\"shape\":[2,2],\"data_offsets\":[0,16]}", 16), "expected a dtype of safetensors"));
    CHECK(has(
        one("{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}", 2), "expected the bytes of F4 (3), found 2"));
    CHECK(has(one("{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,4]}", 4), "expected the bytes of F6_E2M3"));
    // several
    CHECK(has(two("[4,8]", "[0,4]", 9), "expected 8 bytes of data, found 9"));
    CHECK(has(two("[0,4]", "[2,6]", 6), "b: expected its data at byte 4, found 2: it overlaps"));
    CHECK(has(two("[0,4]", "[0,4]", 4), "overlaps"));
    CHECK(has(two("[0,4]", "[5,9]", 9), "b: expected its data at byte 4, found 5: there is a hole"));
    CHECK(has(two("[4,8]", "[8,12]", 12), "a: expected its data at byte 0, found 4: there is a hole"));
    CHECK(has(two("[0,4]", "[4,8]", 9), "belong to no tensor"));
    CHECK(has(refused(file_of(std::string("{\"w\":") + good + ",\"w\":" + good + "}", std::string(16, 'x'))), "w"));
}

TEST_CASE("safetensors: odd files that keep the rules are accepted") {
    TempDir dir;
    write_bytes(dir / "empty", file_of("{}     ", ""));
    CHECK(refusal(dir / "empty") == "");
    write_bytes(dir / "unaligned",
        file_of("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", std::string("\0\0\x80\x3f", 4)));
    CHECK(read_tensor<double>(SafeTensors(dir / "unaligned"), "w", {1}) == std::vector<double>{1});
    // a type that we cannot read is an error only when it is read
    write_bytes(dir / "unread", file_of("{\"w\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", "xx"));
    SafeTensors file(dir / "unread");
    CHECK_THROWS_WITH_AS(read_tensor<float>(file, "w", {4}),
        doctest::Contains("w: expected F32, F16, BF16 or F64 numbers, found F4"), Error);
}

TEST_CASE("safetensors: a header takes a small multiple of its size") {
    TempDir dir;
    auto peak = [] {
        rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        return (size_t)usage.ru_maxrss * 1024;
    };
    std::string entries = "{\"__metadata__\":{\"format\":\"pt\"}", shape = "1", metadata;
    for (int i = 0; entries.size() < 10000000; i++)
        entries += format(",\"t%d\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}", i);
    while (shape.size() < 10000000) shape += ",1";
    while (metadata.size() < 10000000)
        metadata += format("%s\"%zu\":\"\"", metadata.empty() ? "" : ",", metadata.size());
    write_bytes(dir / "many", file_of(entries + "}", ""));
    write_bytes(
        dir / "deep", file_of("{\"w\":{\"dtype\":\"U8\",\"shape\":[" + shape + "],\"data_offsets\":[0,1]}}", "x"));
    write_bytes(dir / "meta", file_of("{\"__metadata__\":{" + metadata + "}}", ""));
    const size_t before = peak();
    CHECK(SafeTensors(dir / "many").tensors.size() > 100000);
    CHECK(has(refusal(dir / "deep"), "more than 100000 others"));
    CHECK(has(refusal(dir / "meta"), "more than 100000 others"));
#ifndef __SANITIZE_ADDRESS__             // which keeps what is freed, and surrounds what is not
    CHECK(peak() - before < 100000000);  // ten times the header
#else
    CHECK(before > 0);
#endif
}

TEST_CASE("safetensors: mutated files give an Error or a sound table, never a crash") {
    TempDir dir;
    std::string header =
        "{\"__metadata__\":{\"format\":\"pt\"},\"a.w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"b\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[24,32]},\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_"
        "offsets\":[32,40]}}";
    const char* pieces[] = {"0", "9", "-", "[", "]", "{", "}", ",", "\"", "1e400", "99999999999999999999", "4294967296",
        "null", "\\u0000", "\xff", "F64", "BF16", "\"shape\":[0]", "[[[[[[[["};
    uint64_t state = 1;
    auto random = [&](size_t n) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (size_t)(state >> 33) % n;
    };
    int accepted = 0, refused = 0;
    for (int round = 0; round < 2000; round++) {
        std::string h = header;
        for (size_t k = random(3); k < 3; k++) {
            size_t at = random(h.size()), kind = random(4);
            if (kind == 0) h[at] = (char)random(256);
            if (kind == 1) h.erase(at, 1 + random(8));
            if (kind == 2) h.insert(at, pieces[random(sizeof pieces / sizeof *pieces)]);
            if (kind == 3) h.insert(at, h.substr(random(h.size()), random(40)));
        }
        std::string bytes = file_of(h, std::string(40, '\1'));
        if (random(8) == 0) bytes[random(8)] = (char)random(256);
        if (random(8) == 0) bytes.resize(random(bytes.size()));
        write_bytes(dir / "x", bytes);
        try {
            SafeTensors file(dir / "x");
            accepted++;
            double sum = 0;
            for (const TensorInfo& t : file.tensors) {
                CHECK(file.data_start + t.end <= bytes.size());
                if (t.count > 1000) continue;  // of an unknown type
                std::vector<double> values(t.count);
                try {
                    file.read(t, values.data());
                } catch (const Error&) {}
                for (double v : values) sum += v;
            }
            CHECK(sum == sum);
        } catch (const Error&) {
            refused++;
        }
    }
    CHECK(accepted > 20);
    CHECK(refused > 500);
}

TEST_CASE("safetensors: a full disk is an error and leaves what was there") {
    TempDir dir;
    std::vector<float> small(4, 1), large(100000, 2);
    write_safetensors(dir / "x", {{"w", "F32", {4}, small.data()}});
    std::string why;
    try {
        FullDisk full(100000);
        write_safetensors(dir / "x", {{"w", "F32", {100000}, large.data()}});
    } catch (const Error& e) {
        why = e.what();
    }
    CHECK(has(why, "/x: File too large; the file that was there before is unchanged"));
    CHECK(entries_of(dir.path) == std::vector<std::string>{"x"});
    CHECK(read_tensor<float>(SafeTensors(dir / "x"), "w", {4}) == small);

    CHECK_THROWS_WITH_AS(write_safetensors(dir / "no/x", {{"w", "F32", {4}, small.data()}}),
        doctest::Contains("/no/x: No such file"), Error);
    {  // a file that is not closed leaves nothing
        AtomicFile out(dir / "y");
        out.write(small.data(), 8);
    }
    CHECK(entries_of(dir.path) == std::vector<std::string>{"x"});
}
