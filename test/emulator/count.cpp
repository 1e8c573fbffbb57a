// count.cpp: the costs of a launch. Pipes and their instructions after the CUDA C++ programming guide and what ptxas
// 13.0 makes of PTX for sm_90 (dev/results/predicted.md compares the two).
#include "test/emulator/count.h"

#include <stdio.h>
#include <stdlib.h>

#include <algorithm>

#include "test/emulator/ptx.h"

namespace emulator {
const char* const PIPE_NAMES[PIPES] = {"fma", "imad", "alu", "fp64", "mufu", "lsu", "tensor", "control"};
Cost last_cost;

// ---------------------------------------------------------------- instructions
namespace {
bool starts(const std::string& s, const char* prefix) { return s.rfind(prefix, 0) == 0; }
bool has(const std::string& s, const char* part) { return s.find(part) != std::string::npos; }
Machine of(Pipe pipe, double n = 1) {
    Machine m;
    m.pipe[pipe] = n;
    return m;
}
Machine of(double fma, double alu, double mufu, double control = 0) {
    Machine m;
    m.pipe[FMA] = fma;
    m.pipe[ALU] = alu;
    m.pipe[MUFU] = mufu;
    m.pipe[CONTROL] = control;
    return m;
}
}  // namespace
Machine machine_code(const std::string& o) {
    std::string base = o.substr(0, o.find('.')), type = o.substr(std::min(o.rfind('.'), o.size()));
    if (o.find(' ') != std::string::npos) type = type.substr(0, type.find(' '));
    bool f32 = type == ".f32", f64 = type == ".f64", wide = has(type, "64");
    double words = wide ? 2 : 1;  // an integer of 64 bits is two of 32

    if (starts(o, "ld.param") || base == "cvta" || base == "activemask") return {};
    if (base == "mov") return {};
    if (base == "ld" || base == "st" || base == "atom" || base == "red" || base == "ldmatrix" || base == "shfl")
        return of(LSU);
    if (starts(o, "cp.async.c") && !has(o, "commit")) return of(LSU);
    if (base == "cp") return of(CONTROL);
    if (base == "mma") return of(TENSOR);
    if (base == "bra" || base == "ret" || base == "exit" || base == "bar" || base == "barrier" || base == "membar" ||
        base == "fence" || base == "trap")
        return of(CONTROL);
    if (base == "ex2" || base == "lg2" || base == "rcp" || base == "rsqrt" || base == "sqrt" || base == "sin" ||
        base == "cos" || base == "tanh") {
        if (f64) return of(FP64, 10);
        if (has(o, ".ftz") || base == "tanh" || base == "sin" || base == "cos") return of(0, 0, 1);
        if (has(o, ".approx")) return of(2, 1, 1);                // a denormal is scaled before and after
        return base == "sqrt" ? of(5, 2, 1, 1) : of(2, 2, 1, 1);  // rounded; a branch to what is rare
    }
    if (base == "div" && f32) return has(o, ".rn") ? of(7, 1, 1, 2) : of(3, 2, 1);
    if (f64 && base != "setp" && base != "selp" && base != "cvt") return of(FP64, base == "div" ? 12 : 1);
    if (base == "div" || base == "rem") return wide ? of(0, 60, 2, 4) : of(0, 14, 1);
    if (base == "add" || base == "sub" || base == "fma") {
        if (f32) return of(FMA);
        return of(ALU, words);
    }
    if (base == "mul" || base == "mad") {
        if (f32) return of(FMA);
        return of(IMAD, has(o, ".wide") ? 1 : wide ? 3 : 1);
    }
    if (base == "popc" || base == "clz" || base == "brev" || base == "bfind") return of(MUFU);
    if (base == "vote") return of(ALU);
    if (base == "neg" && (f32 || f64)) return {};  // a modifier of an operand
    if (base == "abs" && (f32 || f64)) return {};
    if (base == "cvt") {
        std::string from = type, to = o.substr(3);
        bool to_wide = has(to.substr(0, to.size() - from.size()), "64");
        if (wide || to_wide) return has(o, ".f64") ? of(FP64) : of(ALU);
        return of(ALU);
    }
    if (type == ".pred") return of(ALU);
    return of(ALU, words);  // logic, shifts, comparisons, selections, minima, fields of bits
}

// ---------------------------------------------------------------- memory
void Traffic::global(const uint64_t* address, unsigned each, uint32_t mask) {
    uint64_t sorted[32], sectors_of[64], lines_of[64];
    int n = 0, s = 0, l = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) sorted[n++] = address[i];
    if (!n) return;
    if (!std::is_sorted(sorted, sorted + n)) std::sort(sorted, sorted + n);
    for (int i = 0; i < n; i++) {  // an access is aligned to its size, so that it lies in one sector
        if (!i || sorted[i] != sorted[i - 1]) bytes += each;
        if (!s || sectors_of[s - 1] != sorted[i] / 32) sectors_of[s++] = sorted[i] / 32;
        if (!l || lines_of[l - 1] != sorted[i] / 128) lines_of[l++] = sorted[i] / 128;
    }
    sectors += (uint64_t)s;
    lines += (uint64_t)l;
    low = std::min(low, sorted[0]);
    high = std::max(high, sorted[n - 1] + each);
}
// 32 banks of 4 bytes give a word each in a wavefront; lanes that want the same word share it. Of 8 bytes half of the
// lanes go together, of 16 a quarter.
void Traffic::shared(const uint64_t* address, unsigned each, uint32_t mask) {
    int together = each == 16 ? 8 : each == 8 ? 16 : 32;
    for (int first = 0; first < 32; first += together) {
        uint64_t words[32], in_bank[32] = {}, most = 0;
        int n = 0;
        for (int i = first; i < first + together; i++)
            for (unsigned word = 0; mask >> i & 1 && word < std::max(each / 4, 1u); word++)
                words[n++] = address[i] / 4 + word;
        if (!n) continue;
        if (!std::is_sorted(words, words + n)) std::sort(words, words + n);
        n = (int)(std::unique(words, words + n) - words);
        for (int i = 0; i < n; i++) most = std::max(most, ++in_bank[words[i] % 32]);
        wavefronts += most;
        least++;
    }
}
void Traffic::add(const Traffic& t) {
    bytes += t.bytes;
    sectors += t.sectors;
    lines += t.lines;
    wavefronts += t.wavefronts;
    least += t.least;
    low = std::min(low, t.low);
    high = std::max(high, t.high);
}
Executed::Executed(size_t n) : warps(n), lanes(n), traffic(options.count ? n : 0) {}
void Executed::add(const Executed& e) {
    for (size_t i = 0; i < warps.size(); i++) {
        warps[i] += e.warps[i];
        lanes[i] += e.lanes[i];
        if (!traffic.empty()) traffic[i].add(e.traffic[i]);
    }
}

// ---------------------------------------------------------------- a launch
namespace {
// Bytes that all blocks together want of memory, if each is fetched once. What the blocks that ran wanted is scaled to
// all of them; but an instruction wants no more than lies between its first and its last address, and all together no
// more than the union of these ranges: blocks that read the same keys find them in the L2 cache. The ranges of a sample
// end before those of the grid: of n blocks, one in each n-th part of it, the first and the last are (1 - 1/n) of the
// grid apart.
double from_memory(const std::vector<const Traffic*>& all, uint64_t blocks, uint64_t ran) {
    double sum = 0, together = 0;
    std::vector<std::pair<uint64_t, uint64_t>> ranges;
    for (const Traffic* t : all) {
        uint64_t low = t->low / 32 * 32, high = (t->high + 31) / 32 * 32, of_a_block = 32 * t->sectors / ran;
        if (ran > 1 && ran < blocks && high - low > of_a_block) high += (high - low - of_a_block) / (ran - 1);
        sum += std::min(32.0 * (double)t->sectors * (double)blocks / (double)ran, (double)(high - low));
        ranges.push_back({low, high});
    }
    std::sort(ranges.begin(), ranges.end());
    uint64_t end = 0;
    for (auto [low, high] : ranges) {
        if (high > end) together += (double)(high - std::max(low, end));
        end = std::max(end, high);
    }
    return std::min(sum, together);
}
std::string numbers(std::initializer_list<double> values) {
    std::string s;
    for (double v : values) {
        char text[32];
        snprintf(text, sizeof text, "%s%.15g", s.empty() ? "" : ", ", v);
        s += text;
    }
    return "[" + s + "]";
}
}  // namespace
void count_launch(
    const Kernel& k, Dim grid, Dim block, size_t shared, uint64_t blocks, uint64_t ran, const Executed& executed) {
    Cost c;
    c.kernel = k.attributes.name;
    c.grid = grid;
    c.block = block;
    c.shared = shared;
    c.blocks = blocks;
    c.ran = ran;
    std::vector<const Traffic*> loads, stores;
    std::string lines;  // [first, last, warps]: runs of lines of the PTX that were executed as often as each other
    int first = 0, last = 0;
    uint64_t times = 0;
    auto end_run = [&] {
        if (times) lines += (lines.empty() ? "" : ", ") + numbers({(double)first, (double)last, (double)times});
    };
    for (size_t i = 0; i < k.code.size(); i++) {
        const Traffic& t = executed.traffic[i];
        if (executed.warps[i] != times) end_run(), first = k.code[i].line, times = executed.warps[i];
        last = k.code[i].line;
        if (!executed.warps[i]) continue;
        Machine m = machine_code(k.opcodes[i]);
        for (int p = 0; p < PIPES; p++) c.pipe[p] += m.pipe[p] * (double)executed.warps[i];
        c.shared_wavefronts += t.wavefronts;
        c.shared_least += t.least;
        if (!t.sectors) continue;
        bool load = starts(k.opcodes[i], "ld.") || starts(k.opcodes[i], "cp.");
        (load ? loads : stores).push_back(&t);
        (load ? c.loads : c.stores).add(t);
        if (!starts(k.opcodes[i], "cp.")) c.l1_lines += t.lines;
    }
    end_run();
    c.memory_read = from_memory(loads, blocks, ran);
    c.memory_written = from_memory(stores, blocks, ran);
    std::string pipes;
    for (int p = 0; p < PIPES; p++)
        pipes += (p ? ", \"" : "\"") + std::string(PIPE_NAMES[p]) + "\": " + numbers({c.pipe[p]});
    auto traffic = [](const Traffic& t) { return numbers({(double)t.bytes, (double)t.sectors, (double)t.lines}); };
    log_line(
        "{\"kernel\": \"" + c.kernel + "\", \"grid\": " + numbers({(double)grid.x, (double)grid.y, (double)grid.z}) +
        ", \"threads\": " + std::to_string(block.x * block.y * block.z) + ", \"shared\": " + std::to_string(shared) +
        ", \"blocks\": " + std::to_string(blocks) + ", \"ran\": " + std::to_string(ran) + ", \"pipes\": {" + pipes +
        "}, \"loads\": " + traffic(c.loads) + ", \"stores\": " + traffic(c.stores) +
        ", \"wavefronts\": " + numbers({(double)c.shared_wavefronts, (double)c.shared_least}) + ", \"l1_lines\": " +
        std::to_string(c.l1_lines) + ", \"memory\": " + numbers({c.memory_read, c.memory_written}) +
        ", \"entry\": " + std::to_string(k.line) + ", \"lines\": [" + lines + "]}");
    last_cost = std::move(c);
}

uint64_t blocks_to_run(uint64_t blocks) { return options.sample ? std::min(blocks, options.sample) : blocks; }
uint64_t block_to_run(uint64_t i, uint64_t blocks, uint64_t run) {
    if (run == blocks) return i;
    // one of each `run`-th part of the grid, not always the same of it: grids have periods
    uint64_t begin = i * blocks / run, end = (i + 1) * blocks / run;
    uint64_t hash = (i + 1) * 0x9e3779b97f4a7c15;
    return begin + (hash >> 32) % (end - begin);
}
void log_line(const std::string& json) {
    static FILE* file = [] {
        const char* path = getenv("EMULATOR_COUNTS");
        FILE* f = path ? fopen(path, "w") : nullptr;
        if (path && !f) throw Error(Fault::unsupported, std::string("EMULATOR_COUNTS: cannot write ") + path);
        return f;
    }();
    if (file) fprintf(file, "%s\n", json.c_str()), fflush(file);
}
}  // namespace emulator
