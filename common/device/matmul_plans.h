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

#include <algorithm>
#include <array>
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
    bool separate = false;   // no algorithm: the product without the epilogue, then a kernel of ours
    bool timed = false;      // else the first that cuBLASLt's heuristic names
    bool from_file = false;  // and not checked yet
    double us = 0;           // what it took
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
        if (plan.timed && !path.empty()) write();
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
    void write() const {
        std::string lines;
        int64_t count = 0;
        for (const auto& [shape, plan] : plans)
            if (plan.timed) {
                lines += dump_json(to_json(shape, plan)) + "\n";
                count++;
            }
        Json head = Json::make_object();
        head.set("device", device).set("cublaslt", library).set("plans", count).set("hash", hash(lines));
        write_file_atomic(path, dump_json(head) + "\n" + lines);
    }
    static std::string hash(const std::string& text) { return hex(fnv1a(text.data(), text.size())); }

    void read() {
        std::string text = read_file(path);
        size_t end = std::min(text.find('\n'), text.size()), begin = std::min(end + 1, text.size());
        Json head = parse_json(text.substr(0, end), path);
        auto get = [&](const Json& line, const char* key, Json::Kind kind) -> const Json& {
            const Json* j = line.find(key);
            const char* wanted = kind == Json::string    ? "a string"
                                 : kind == Json::boolean ? "true or false"
                                                         : "an integer";
            if (!j || j->kind != kind)
                fail("%s: %s: expected %s, found %s: the file is damaged", path.c_str(), key, wanted,
                    j ? dump_json(*j).c_str() : "none");
            return *j;
        };
        std::string lines = text.substr(begin);
        std::string of = get(head, "device", Json::string).s;
        std::string version = get(head, "cublaslt", Json::string).s;
        if (get(head, "hash", Json::string).s != hash(lines))
            fail("%s: expected lines with the hash that the first line names, found others: the file is damaged",
                path.c_str());
        if (of != device || version != library)
            fail("%s: made on %s with cuBLASLt %s, this is %s with %s", path.c_str(), of.c_str(), version.c_str(),
                device.c_str(), library.c_str());
        int64_t count = get(head, "plans", Json::integer).i;
        for (begin = 0; begin < lines.size(); begin = end + 1, count--) {
            end = std::min(lines.find('\n', begin), lines.size());
            Json line = parse_json(lines.substr(begin, end - begin), path);
            MatmulShape s;
            MatmulPlan plan;
            s.ta = get(line, "ta", Json::boolean).b;
            s.tb = get(line, "tb", Json::boolean).b;
            s.add = get(line, "add", Json::boolean).b;
            for (auto [key, value] :
                {std::pair{"m", &s.m}, {"n", &s.n}, {"k", &s.k}, {"lda", &s.lda}, {"ldb", &s.ldb}, {"ldc", &s.ldc},
                    {"in_bytes", &s.in_bytes}, {"out_bytes", &s.out_bytes}, {"alignment", &s.alignment}})
                *value = get(line, key, Json::integer).i;
            int epilogue = 0, kinds = sizeof EPILOGUE_NAMES / sizeof *EPILOGUE_NAMES;
            while (epilogue < kinds && get(line, "epilogue", Json::string).s != EPILOGUE_NAMES[epilogue]) epilogue++;
            const std::string& hex = get(line, "algorithm", Json::string).s;
            plan.separate = hex == "separate";
            bool digits = hex.size() == 2 * plan.algorithm.size() &&
                          hex.find_first_not_of("0123456789abcdef") == std::string::npos;
            if (epilogue == kinds || !(plan.separate || digits))
                fail("%s: expected an epilogue and an algorithm of ours, found %s: the file is damaged", path.c_str(),
                    dump_json(line).c_str());
            for (size_t i = 0; i < plan.algorithm.size() && !plan.separate; i++)
                plan.algorithm[i] = (unsigned char)std::stoul(hex.substr(2 * i, 2), nullptr, 16);
            if (const Json* us = line.find("us")) plan.us = us->d;
            s.epilogue = (Epilogue)epilogue;
            plan.timed = plan.from_file = true;
            plans[s] = plan;
        }
        if (count != 0)
            fail("%s: expected as many plans as its first line says, found another number: the file is damaged",
                path.c_str());
    }
};
