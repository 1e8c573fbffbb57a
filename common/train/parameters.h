// parameters.h: the parameter table. One table of ParamSpecs per model is the single truth about its parameters: names
// in the checkpoint, shapes, place in memory, weight decay, initial values.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "common/base/errors.h"
#include "common/base/types.h"

constexpr int MAX_LAYERS = 128;  // of any model: its tables of pointers have so many

enum class Init { zeros, ones, normal };

struct ParamSpec {
    std::vector<std::string> names;  // in the checkpoint; several: one after the other in memory (query, key, value)
    std::vector<size_t> shape;       // of one of them, in the checkpoint
    std::vector<size_t> rows;        // shape[0] of each, where they differ (fewer heads of keys than of queries)
    bool transpose = false;          // GPT-2's Conv1D: [in, out] in the checkpoint, [out, in] in memory
    bool decay = false;              // weight decay
    Init init = Init::zeros;
    double std = 0;     // of Init::normal
    int layer = -1;     // −1: belongs to no layer
    size_t offset = 0;  // first element in memory, set by layout()
    size_t count = 0;   // elements in memory; beyond names × shape (a padded vocabulary) they are zero and never saved
    bool as_bf16 = false;  // kept as bf16, whatever the others are

    std::vector<size_t> shape_of(size_t i) const {  // of names[i]
        std::vector<size_t> s = shape;
        if (!rows.empty()) s[0] = rows[i];
        return s;
    }
    size_t elements(size_t i = 0) const {  // of names[i]
        size_t n = 1;
        for (size_t s : shape_of(i)) n *= s;
        return n;
    }
    size_t begin(size_t i) const {  // of names[i] in the tensor; of all names: its elements without padding
        size_t n = 0;
        for (size_t k = 0; k < i; k++) n += elements(k);
        return n;
    }
    size_t used() const { return begin(names.size()); }
    size_t room() const {  // its place in memory, in elements of the model's
        return round_up(as_bf16 ? ceil_div(count * sizeof(bf16), sizeof(real)) : count, PARAM_BLOCK);
    }
};

// Sets count (where 0) and offset of each row, a multiple of PARAM_BLOCK. Returns the elements of all, gaps included.
inline size_t layout(std::vector<ParamSpec>& specs) {
    size_t offset = 0;
    for (ParamSpec& s : specs) {
        size_t used = s.used();
        if (s.count == 0) s.count = used;
        if (s.count < used || (s.transpose && s.shape.size() != 2))
            fail("parameter table: %s: cannot be laid out", s.names[0].c_str());
        s.offset = offset;
        offset += s.room();
    }
    return offset;
}
// The elements of all tensors of a table that is laid out, gaps included
inline size_t total_count(const std::vector<ParamSpec>& specs) {
    return specs.empty() ? 0 : specs.back().offset + specs.back().room();
}

// Collects the rows of a table, each with the member of a struct of pointers that it belongs to.
template <class X> struct TableBuilder {
    double std;  // of Init::normal
    std::vector<ParamSpec> rows;
    std::vector<X**> members;
    bool bf16_matrices = false;  // which the members then point to, though they are X*
    bool biases = true;          // else linear() and layernorm() leave b as it is

    // count: elements in memory, where they are more than the names' (a padded vocabulary)
    void tensor(X*& p, std::vector<std::string> names, std::vector<size_t> shape, bool decay, Init init, int layer,
        size_t count = 0) {
        rows.push_back({names, shape, {}, false, decay, init, std, layer, 0, count});
        members.push_back(&p);
    }
    // a matrix (out, in) and its bias; several parts lie one after the other; out_memory: rows in memory, where more
    void linear(X*& w, X*& b, std::string prefix, std::vector<std::string> parts, size_t out, size_t in, int layer,
        size_t out_memory = 0) {
        std::vector<std::string> weights, bias_names;
        for (auto& part : parts) {
            weights.push_back(prefix + part + ".weight");
            bias_names.push_back(prefix + part + ".bias");
        }
        tensor(w, weights, {out, in}, true, Init::normal, layer, out_memory * in);
        if (biases) tensor(b, bias_names, {out}, false, Init::zeros, layer, out_memory);
    }
    // GPT-2's Conv1D: (in, out) in the checkpoint, (out, in) in memory; std: of its initial values
    void conv1d(X*& w, X*& b, std::string name, size_t out, size_t in, int layer, double std) {
        tensor(w, {name + ".weight"}, {in, out}, true, Init::normal, layer);
        rows.back().transpose = true;
        rows.back().std = std;
        tensor(b, {name + ".bias"}, {out}, false, Init::zeros, layer);
    }
    void layernorm(X*& w, X*& b, std::string name, size_t C, int layer) {
        tensor(w, {name + ".weight"}, {C}, false, Init::ones, layer);
        if (biases) tensor(b, {name + ".bias"}, {C}, false, Init::zeros, layer);
    }
    // Lays the table out and points the members into the array `base` (total_count(); nullptr: for the table alone)
    std::vector<ParamSpec> point(X* base) {
        for (ParamSpec& s : rows) s.as_bf16 = bf16_matrices && s.shape.size() == 2;
        layout(rows);
        for (size_t i = 0; i < rows.size(); i++) *members[i] = base ? base + rows[i].offset : nullptr;
        return rows;
    }
};

// "a.{query,key,value}.weight" for several names that differ in the middle
inline std::string joined_names(const std::vector<std::string>& names) {
    if (names.size() == 1) return names[0];
    const std::string &first = names[0], &last = names.back();
    const size_t differ = std::mismatch(first.begin(), first.end(), last.begin(), last.end()).first - first.begin();
    const size_t begin = first.rfind('.', differ) + 1, tail = first.size() - first.find('.', differ);
    std::string parts;
    for (const std::string& n : names) parts += (parts.empty() ? "" : ",") + n.substr(begin, n.size() - begin - tail);
    return first.substr(0, begin) + "{" + parts + "}" + first.substr(first.size() - tail);
}
