// test_matmul_plans.cpp: the file that keeps a run's plans of matrix products: it comes back as it went, and a wrong
// one leaves no plan and says why.
#include <doctest/doctest.h>

#include <algorithm>

#include "common/device/matmul_plans.h"
#include "test/temp.h"

namespace {

const std::string DEVICE = "NVIDIA H200", LIBRARY = "130002";

MatmulShape shape(int64_t m, Epilogue epilogue = Epilogue::none) {
    return {false, true, false, m, 2304, 768, 768, 768, 2304, 2, 2, 256, epilogue};
}
MatmulPlan plan(unsigned char first, bool timed = true) {
    MatmulPlan p;
    for (size_t i = 0; i < p.algorithm.size(); i++) p.algorithm[i] = (unsigned char)(first + 37 * i);
    p.timed = timed;
    p.us = 12.5;
    return p;
}
// What the program prints while f runs
template <class F> std::string printed(F f) {
    TempDir dir;
    std::string path = dir / "out";
    fflush(stdout);
    int old = dup(1);
    REQUIRE(freopen(path.c_str(), "w", stdout));
    f();
    fflush(stdout);
    REQUIRE(dup2(old, 1) == 1);
    close(old);
    return read_file(path);
}
// A file with three plans
void write_file(const std::string& path) {
    MatmulPlans p;
    p.open(path, DEVICE, LIBRARY, false);
    p.add(shape(8192, Epilogue::bias), plan(1));
    p.add(shape(1024), plan(2));
    MatmulPlan separate = plan(0);
    separate.separate = true;
    p.add(shape(1024, Epilogue::gelu), separate);
}
// What is said of a file, in which no plan is found
std::string refused(const std::string& path, const std::string& device = DEVICE, const std::string& library = LIBRARY,
    bool renew = false) {
    MatmulPlans p;
    std::string said = printed([&] { p.open(path, device, library, renew); });
    CHECK(p.plans.empty());
    CHECK(std::count(said.begin(), said.end(), '\n') == 1);
    CHECK(has(said, path));
    CHECK(has(said, "timed again"));
    // it is usable, and what it writes is sound
    p.add(shape(77), plan(9));
    MatmulPlans again;
    CHECK(printed([&] { again.open(path, device, library, false); }) == "");
    CHECK(again.plans.size() == 1);
    return said;
}
std::string with(std::string text, const std::string& from, const std::string& to) {
    size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}
// the same text with another first line, so that its hash fits
std::string hashed(const std::string& text) {
    size_t end = text.find('\n');
    std::string lines = text.substr(end + 1);
    Json head = parse_json(text.substr(0, end), "head");
    head.set("hash", format("%016llx", (unsigned long long)fnv1a(lines.data(), lines.size())));
    return dump_json(head) + "\n" + lines;
}

TEST_CASE("plans come back as they went") {
    TempDir dir;
    std::string path = dir / "matmul_plans.jsonl";
    write_file(path);
    MatmulPlans p;
    CHECK(printed([&] { p.open(path, DEVICE, LIBRARY, false); }) == "");
    REQUIRE(p.plans.size() == 3);
    MatmulPlan* found = p.find(shape(8192, Epilogue::bias));
    REQUIRE(found);
    CHECK(found->algorithm == plan(1).algorithm);
    CHECK((found->timed && !found->separate));
    CHECK(found->us == 12.5);
    CHECK(p.find(shape(1024))->algorithm == plan(2).algorithm);
    CHECK(p.find(shape(1024, Epilogue::gelu))->separate);
    // every part of the shape counts
    for (int i = 0; i < 13; i++) {
        MatmulShape s = shape(1024);
        int64_t* numbers[] = {&s.m, &s.n, &s.k, &s.lda, &s.ldb, &s.ldc, &s.in_bytes, &s.out_bytes, &s.alignment};
        if (i < 9) ++*numbers[i];
        bool* flags[] = {&s.ta, &s.tb, &s.add};
        if (i >= 9 && i < 12) *flags[i - 9] ^= true;
        if (i == 12) s.epilogue = Epilogue::bias_gradient;
        CHECK(!p.find(s));
        p.add(s, plan((unsigned char)(10 + i)));
    }
    MatmulPlans all;
    all.open(path, DEVICE, LIBRARY, false);
    REQUIRE(all.plans.size() == 16);
    for (const auto& [s, kept] : p.plans) CHECK(all.find(s)->algorithm == kept.algorithm);
}

TEST_CASE("only what was timed is kept, and only where a run keeps it") {
    TempDir dir;
    std::string path = dir / "matmul_plans.jsonl";
    MatmulPlans p;
    p.add(shape(5), plan(1));  // no file
    p.open(path, DEVICE, LIBRARY, false);
    CHECK(!p.find(shape(5)));  // a run has its own
    p.add(shape(1), plan(1, false));
    CHECK(!exists(path));
    p.add(shape(2), plan(2));
    MatmulPlans again;
    again.open(path, DEVICE, LIBRARY, false);
    CHECK(again.plans.size() == 1);
    CHECK(again.find(shape(2)));
}

TEST_CASE("a file that does not fit leaves no plan and says why") {
    TempDir dir;
    std::string path = dir / "matmul_plans.jsonl";
    write_file(path);
    const std::string good = read_file(path);
    auto refused_text = [&](const std::string& text) {
        write_bytes(path, text);
        return refused(path);
    };
    CHECK(has(refused(path, "NVIDIA A100", LIBRARY),
        "made on NVIDIA H200 with cuBLASLt 130002, this is NVIDIA A100 with 130002"));
    write_bytes(path, good);
    CHECK(has(refused(path, DEVICE, "120900"), "cuBLASLt 130002, this is NVIDIA H200 with 120900"));
    write_bytes(path, good);
    CHECK(has(refused(path, DEVICE, LIBRARY, true), "--retune"));
    CHECK(has(refused_text(""), path));
    CHECK(has(refused_text("\n\n"), path));
    CHECK(has(refused_text("a picture\n"), path));
    CHECK(has(refused_text(good.substr(0, good.find('\n') / 2)), path));
    CHECK(has(refused_text(good.substr(0, good.find('\n') + 1)), "damaged"));  // cut off after any line, or anywhere
    CHECK(has(refused_text(good.substr(0, good.size() - 1)), "damaged"));
    CHECK(has(refused_text(good.substr(0, good.size() - 200)), "not JSON"));
    CHECK(has(refused_text(with(good, "\"us\": 12.5", "\"us\": 11.5")), "damaged"));
    std::string digits = good.substr(good.find("\"algorithm\": \"") + 14, 128);
    CHECK(has(refused_text(hashed(with(good, digits, digits.substr(1)))), "damaged"));
    CHECK(has(refused_text(hashed(with(good, digits, "x" + digits.substr(1)))), "damaged"));
    CHECK(has(refused_text(hashed(with(good, "\"epilogue\": \"bias\"", "\"epilogue\": \"relu\""))), "damaged"));
    CHECK(has(refused_text(hashed(with(good, "\"n\": 2304", "\"n\": \"2304\""))), "damaged"));
    CHECK(has(refused_text(hashed(with(good, "\"ta\": false, ", ""))), "damaged"));
    CHECK(has(refused_text(hashed(with(good, digits, "separate"))), "damaged"));  // without an epilogue
    CHECK(has(refused_text(with(good, "\"plans\": 3", "\"plans\": 4")), "damaged"));
    CHECK(has(refused_text(hashed(with(good, "\"cublaslt\": \"130002\", ", ""))), "with cuBLASLt ,"));
}

TEST_CASE("a disk that is full leaves the old file") {
    TempDir dir;
    std::string path = dir / "matmul_plans.jsonl";
    write_file(path);
    std::string before = read_file(path);
    MatmulPlans p;
    p.open(path, DEVICE, LIBRARY, false);
    {
        FullDisk full(64);
        CHECK_THROWS_AS(p.add(shape(3), plan(3)), Error);
    }
    CHECK(read_file(path) == before);
}

}  // namespace
