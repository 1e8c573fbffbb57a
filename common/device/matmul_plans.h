// matmul_plans.h: which of cuBLASLt's algorithms makes each matrix product, and a run's file of them. No CUDA.
//
// For one product cuBLASLt offers several algorithms; they differ in speed and in the order of summation, so in the
// last bits. A run times them once (gemm.cuh) and keeps the fastest in OUT/matmul_plans.jsonl, so that a resumed run
// has the same bits:
//   {"device": NAME, "cublaslt": VERSION, "plans": HOW MANY LINES FOLLOW, "hash": FNV-1a of them}
//   {"ta": ..., "m": ..., ..., "epilogue": NAME, "algorithm": 128 hex digits, or "separate", "us": MICROSECONDS}
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <tuple>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/json.h"

// What is done with a product c(m,n) before it is stored
enum class Epilogue {
    none,
    bias,           // c += bias(n)
    gelu,           // pre = c + bias(n), c = gelu(pre), the tanh form
    gelu_gradient,  // c *= gelu'(pre)
    bias_gradient,  // sum(m) = Σₖ op(a)
};
constexpr const char* EPILOGUE_NAMES[] = {"none", "bias", "gelu", "gelu_gradient", "bias_gradient"};

struct MatmulShape {   // c(m,n) = beta c + op(a) op(b), row-major
    bool ta, tb, add;  // add: beta is not 0
    int64_t m, n, k, lda, ldb, ldc;
    int64_t in_bytes, out_bytes;  // of an element of a and b, of c; 2: bf16, 4: fp32
    int64_t alignment;            // every pointer is a multiple of so many bytes; a power of two, at most 256
    Epilogue epilogue;
    auto all() const { return std::tie(ta, tb, add, m, n, k, lda, ldb, ldc, in_bytes, out_bytes, alignment, epilogue); }
    bool operator<(const MatmulShape& s) const { return all() < s.all(); }
};
struct MatmulPlan {
    // a cublasLtMatmulAlgo_t: plain data, good for the same GPU and version of the library
    std::array<unsigned char, 64> algorithm{};
    bool separate = false;  // no algorithm: the product without the epilogue, then a kernel of ours
    bool timed = false;     // else the first that cuBLASLt's heuristic names
    double us = 0;          // what it took
};

struct MatmulPlans {
    std::string path, device, library;  // path: of the file; "": none is kept
    std::map<MatmulShape, MatmulPlan> plans;

    // Reads the plans of the run that keeps them in `file`, if it has any. Those of another GPU or library, a damaged
    // file and `renew` leave none.
    void open(const std::string& file, const std::string& device_name, const std::string& library_version, bool renew) {
        path = file;
        device = device_name;
        library = library_version;
        plans.clear();
        if (!exists(path)) return;
        std::string why = format("%s: not read, as --retune says", path.c_str());
        try {
            if (!renew) return read();
        } catch (const Error& e) {
            why = e.what();
            plans.clear();
        }
        printf("%s: the matrix products are timed again, so the results may differ in their last bits\n", why.c_str());
    }
    MatmulPlan* find(const MatmulShape& s) {
        auto it = plans.find(s);
        return it == plans.end() ? nullptr : &it->second;
    }
    // A plan that was timed is in the file before the first result that it computes.
    MatmulPlan* add(const MatmulShape& s, const MatmulPlan& plan) {
        MatmulPlan* p = &(plans[s] = plan);
        if (plan.timed && !path.empty()) write_file_atomic(path, text());
        return p;
    }

private:
    static Json to_json(const MatmulShape& s, const MatmulPlan& plan) {
        std::string hex;
        for (unsigned char byte : plan.algorithm) hex += format("%02x", byte);
        Json line = Json::make_object();
        line.set("ta", s.ta).set("tb", s.tb).set("add", s.add);
        line.set("m", s.m).set("n", s.n).set("k", s.k);
        line.set("lda", s.lda).set("ldb", s.ldb).set("ldc", s.ldc);
        line.set("in_bytes", s.in_bytes).set("out_bytes", s.out_bytes).set("alignment", s.alignment);
        line.set("epilogue", EPILOGUE_NAMES[(int)s.epilogue]);
        return line.set("algorithm", plan.separate ? "separate" : hex).set("us", plan.us);
    }
    std::string text() const {
        std::string lines;
        int64_t count = 0;
        for (const auto& [shape, plan] : plans)
            if (plan.timed) {
                lines += dump_json(to_json(shape, plan)) + "\n";
                count++;
            }
        Json head = Json::make_object();
        head.set("device", device).set("cublaslt", library).set("plans", count);
        return dump_json(head.set("hash", hex(fnv1a(lines.data(), lines.size())))) + "\n" + lines;
    }
    // What it cannot make sense of is left out, and so the file is not what it would write.
    void read() {
        const std::string file = read_file(path);
        auto get = [](const Json& line, const char* key) {
            const Json* j = line.find(key);
            return j ? *j : Json();
        };
        size_t end = std::min(file.find('\n'), file.size());
        const Json head = parse_json(file.substr(0, end), path);
        const std::string of = get(head, "device").s, version = get(head, "cublaslt").s;
        if (of != device || version != library)
            fail("%s: made on %s with cuBLASLt %s, this is %s with %s", path.c_str(), of.c_str(), version.c_str(),
                device.c_str(), library.c_str());
        for (size_t begin = end + 1; begin < file.size(); begin = end + 1) {
            end = std::min(file.find('\n', begin), file.size());
            const Json line = parse_json(file.substr(begin, end - begin), path);
            MatmulShape s{};
            MatmulPlan plan;
            for (auto [key, value] : {std::pair{"ta", &s.ta}, {"tb", &s.tb}, {"add", &s.add}})
                *value = get(line, key).b;
            for (auto [key, value] :
                {std::pair{"m", &s.m}, {"n", &s.n}, {"k", &s.k}, {"lda", &s.lda}, {"ldb", &s.ldb}, {"ldc", &s.ldc},
                    {"in_bytes", &s.in_bytes}, {"out_bytes", &s.out_bytes}, {"alignment", &s.alignment}})
                *value = get(line, key).i;
            for (int i = 0; i < (int)std::size(EPILOGUE_NAMES); i++)
                if (get(line, "epilogue").s == EPILOGUE_NAMES[i]) s.epilogue = (Epilogue)i;
            const std::string algorithm = get(line, "algorithm").s;
            plan.separate = algorithm == "separate" && s.epilogue != Epilogue::none;
            for (size_t i = 0; 2 * i + 1 < algorithm.size() && i < plan.algorithm.size() && !plan.separate; i++)
                plan.algorithm[i] = (unsigned char)strtoul(algorithm.substr(2 * i, 2).c_str(), nullptr, 16);
            plan.us = get(line, "us").d;
            plan.timed = true;
            plans[s] = plan;
        }
        if (text() != file)
            fail(
                "%s: expected the lines that its first line tells of, found others: the file is damaged", path.c_str());
    }
};
