// interpreter.cpp: runs warps. A warp runs until it exits or waits at a barrier; the blocks of a grid run on all cores.
#include "test/emulator/interpreter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <mutex>

namespace emulator {
static std::string place_of(Dim d) {
    char text[48];
    snprintf(text, sizeof text, "(%u,%u,%u)", d.x, d.y, d.z);
    return text;
}
void Warp::fail(Fault fault, int lane, const std::string& what) const {
    const Kernel& k = block->kernel;
    uint32_t t = (uint32_t)(32 * index + lane), x = block->size.x, y = block->size.y;
    throw Error(fault, "kernel " + k.attributes.name + ", block " + place_of(block->index) + ", thread " +
                           place_of({t % x, t / x % y, t / x / y}) + ": " + what + "; " + k.module->name + ":" +
                           std::to_string(at->line) + ": " + source_line(*k.module, at->line));
}

// ---------------------------------------------------------------- memory
char* Warp::shared_place(uint64_t address, unsigned bytes, Access access, int lane) {
    SharedMemory& s = block->shared;
    uint64_t offset = address - SHARED_START;
    if (offset >= s.data.size() || bytes > s.data.size() - offset) {
        fail(Fault::address, lane,
            std::to_string(bytes) + " bytes at " + std::to_string((int64_t)offset) + " of " +
                std::to_string(s.data.size()) + " bytes of shared memory");
    }
    const char* wrong = nullptr;
    bool atomic = access == ATOMIC;  // atomics do not race with each other
    if (access & READ) wrong = s.read(offset, bytes, now(lane), options.uninitialised, options.shared_races && !atomic);
    if (!wrong && access & WRITE) wrong = s.write(offset, bytes, now(lane), options.shared_races && !atomic);
    if (wrong) fail(*wrong == 'r' && wrong[1] == 'a' ? Fault::race : Fault::uninitialised, lane, wrong);
    return s.data.data() + offset;
}
void Warp::places(const Inst& in, int i, unsigned bytes, Access access, uint32_t mask, char* place[32]) {
    const char* reg = operand(in, i);
    uint64_t addresses[32];
    Space where = in.space;
    for (int lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        uint64_t a = 0;
        memcpy(&a, reg + lane * in.target, (size_t)in.target);
        a += (uint64_t)in.imm;
        if (in.target == 4) a &= ~0u;
        if (a % bytes) {
            fail(Fault::misaligned, lane,
                "address " + std::to_string(a) + " is no multiple of " + std::to_string(bytes));
        }
        Space space = in.space;
        if (space == Space::generic) {
            space = a >= LOCAL_WINDOW ? Space::local : a >= SHARED_WINDOW ? Space::shared : Space::global;
            a &= SHARED_WINDOW - 1;
        }
        addresses[lane] = a;
        where = space;  // of all lanes, mostly
        if (space == Space::shared) place[lane] = shared_place(a, bytes, access, lane);
        else if (space == Space::global) {
            if (!last || !last->holds(a, bytes)) last = find_allocation(a);
            if (!last || !last->holds(a, bytes)) {
                char text[160];
                if (last)
                    snprintf(text, sizeof text, "%u bytes at 0x%llx end behind an allocation of %zu bytes at 0x%llx",
                        bytes, (unsigned long long)a, last->bytes, (unsigned long long)last->address);
                else
                    snprintf(
                        text, sizeof text, "%u bytes at 0x%llx lie in no allocation", bytes, (unsigned long long)a);
                fail(Fault::address, lane, text);
            }
            if (access & READ && options.uninitialised && !last->was_written(a, bytes))
                fail(Fault::uninitialised, lane, "reads global memory that nobody wrote");
            if (access & WRITE) last->mark(a, bytes);
            if (last->touched && options.global_races) {
                const char* wrong = last->touch(
                    a, bytes, block->kernel.global_unit, access & WRITE, access == ATOMIC, block->now);
                if (wrong) fail(Fault::race, lane, wrong);
            }
            place[lane] = last->at(a);
        } else if (space == Space::local) {
            size_t size = block->kernel.attributes.local;
            if (a + bytes > size) fail(Fault::address, lane, "outside its local memory");
            place[lane] = &block->local[(size_t)(32 * index + lane) * size + a];
        } else place[lane] = const_cast<char*>(block->params) + a;
    }
    count(where, addresses, bytes, mask);
}
void Warp::count(Space space, const uint64_t* addresses, unsigned bytes, uint32_t mask) {
    if (!block->traffic) return;
    Traffic& t = block->traffic[at - block->kernel.code.data()];
    if (space == Space::global) t.global(addresses, bytes, mask);
    if (space == Space::shared) t.shared(addresses, bytes, mask);
}
void Warp::need_lanes(uint32_t member_mask, uint32_t mask, int lane) const {
    if (!(member_mask >> lane & 1)) fail(Fault::barrier, lane, "the lane is not in its own member mask");
    uint32_t missing = member_mask & live & ~mask;
    if (!missing) return;
    char text[64];
    snprintf(text, sizeof text, "lanes 0x%08x of the member mask do not take part", missing);
    fail(Fault::barrier, lane, text);
}
void Warp::land(int newest, uint32_t mask) {
    auto lands = [&](const AsyncCopy& c) {
        if (!(mask >> c.lane & 1) || c.group + newest >= groups[c.lane]) return false;
        char* to = shared_place(c.to, c.bytes, WRITE, c.lane);
        memset(to, 0, c.bytes);
        if (c.from) memcpy(to, c.from, c.read);
        return true;
    };
    copies.erase(std::remove_if(copies.begin(), copies.end(), lands), copies.end());
}

// ---------------------------------------------------------------- a block
namespace {
void start(Warp& w, const Kernel& k) {
    w.registers.resize(k.register_bytes + 64);
    char* aligned = w.registers.data();
    w.base[0] = aligned + (64 - (uintptr_t)aligned % 64) % 64;
    w.base[1] = const_cast<char*>(k.constants.data());
    const Block& b = *w.block;
    for (const Special& s : k.specials) {
        for (uint32_t lane = 0; lane < 32; lane++) {
            uint32_t t = 32 * (uint32_t)w.index + lane, bit = 1u << lane;
            const uint32_t values[] = {t % b.size.x, t / b.size.x % b.size.y, t / b.size.x / b.size.y, b.size.x,
                b.size.y, b.size.z, b.index.x, b.index.y, b.index.z, b.grid.x, b.grid.y, b.grid.z, lane,
                (uint32_t)w.index, bit, bit - 1, bit | (bit - 1), ~(bit | (bit - 1)), ~(bit - 1), 0, 0};
            memcpy(w.base[0] + s.at + 4 * lane, &values[s.name], 4);
        }
    }
}

// Runs the warp until it waits at a barrier or has exited, or for `most` instructions: a warp may wait for another's
// store.
void run(Warp& w, Executed& executed, int most) {
    const Kernel& k = w.block->kernel;
    const Inst* code = k.code.data();
    while (most-- > 0) {
        Path& p = w.paths.back();
        if (p.pc == p.rpc || !p.mask) {
            w.paths.pop_back();
            if (w.paths.empty()) return;
            continue;
        }
        const Inst& in = code[p.pc];
        w.at = &in;
        uint32_t mask = p.mask;
        if (in.guard >= 0) mask &= *(const uint32_t*)(w.base[0] + in.guard) ^ in.negate;
        executed.warps[(size_t)p.pc]++;
        executed.lanes[(size_t)p.pc] += (uint64_t)__builtin_popcount(mask);
        switch (in.kind) {
            case Kind::plain:
                if (mask) in.run(w, in, mask);
                p.pc++;
                break;
            case Kind::branch:
                if (mask == p.mask) p.pc = in.target;
                else if (!mask) p.pc++;
                else {
                    uint32_t others = p.mask & ~mask;
                    int next = p.pc + 1;
                    if (p.rpc == in.rpc) p = {next, in.rpc, others};
                    else {
                        p.pc = in.rpc;
                        w.paths.push_back({next, in.rpc, others});
                    }
                    w.paths.push_back({in.target, in.rpc, mask});
                }
                break;
            case Kind::exit:
                p.pc++;
                w.live &= ~mask;
                for (Path& path : w.paths) path.mask &= ~mask;
                break;
            case Kind::barrier:
                if (mask != w.live || w.live != w.born) {
                    int lane = __builtin_ctz(w.born & ~mask);
                    w.fail(Fault::barrier, lane, "does not reach the barrier that others of its warp wait at");
                }
                p.pc++;
                w.waits = true;
                return;
        }
    }
}

void run_block(Block& b, std::vector<Warp>& warps, Executed& executed) {
    unsigned threads = b.size.x * b.size.y * b.size.z;
    for (size_t i = 0; i < warps.size(); i++) {
        Warp& w = warps[i];
        w.block = &b;
        w.index = (int)i;
        unsigned lanes = std::min(32u, threads - 32 * (unsigned)i);
        w.live = w.born = lanes == 32 ? ~0u : (1u << lanes) - 1;
        w.waits = false;
        w.epoch = 0;
        w.paths.assign(1, {0, -1, w.live});
        w.copies.clear();
        std::fill_n(w.groups, 32, 0);
        w.last = nullptr;
        start(w, b.kernel);
    }
    for (;;) {
        const Warp *done = nullptr, *waits = nullptr;
        for (Warp& w : warps) {
            if (!w.waits && !w.paths.empty()) run(w, executed, 1 << 20);
            if (w.waits) waits = &w;
            else if (w.paths.empty()) done = &w;
        }
        bool all = std::all_of(warps.begin(), warps.end(), [](const Warp& w) { return w.waits || w.paths.empty(); });
        if (!all) continue;
        if (waits && done) waits->fail(Fault::barrier, 0, "waits at a barrier that another warp never reaches");
        if (!waits) return;
        for (Warp& w : warps) {
            if (w.at->imm != waits->at->imm) waits->fail(Fault::barrier, 0, "another warp waits at another barrier");
            w.waits = false;
            w.epoch = 0;
        }
        if (b.shared.epoch == SharedMemory::LAST_EPOCH) b.shared.restart();
        else b.shared.epoch++;
    }
}

std::map<std::string, Counts> all_counts;
uint64_t all_lanes = 0, launches = 0;
}  // namespace
const std::map<std::string, Counts>& counts() { return all_counts; }
uint64_t lane_instructions() { return all_lanes; }

void launch(const Kernel* kernel, Dim grid, Dim size, size_t dynamic_shared, const void* const* args) {
    decode(*const_cast<Kernel*>(kernel));
    const Kernel& k = *kernel;
    auto refuse = [&](const std::string& what) {
        throw Error(Fault::launch, "kernel " + k.attributes.name + ": " + what);
    };
    uint64_t threads = (uint64_t)size.x * size.y * size.z, blocks = (uint64_t)grid.x * grid.y * grid.z;
    if (!threads || threads > (uint64_t)k.attributes.max_threads || size.z > 64)
        refuse("a block of " + place_of(size) + " threads; at most " + std::to_string(k.attributes.max_threads));
    if (!blocks || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) refuse("a grid of " + place_of(grid));
    if (k.attributes.static_shared + dynamic_shared > options.max_dynamic_shared)
        refuse(std::to_string(k.attributes.static_shared) + " + " + std::to_string(dynamic_shared) +
               " bytes of shared memory; at most " + std::to_string(options.max_dynamic_shared));
    std::vector<char> params(k.param_bytes + 16);
    for (size_t i = 0; i < k.params.size(); i++) memcpy(&params[k.params[i].offset], args[i], k.params[i].bytes);

    launches++;
    Executed total(k.code.size());
    uint64_t to_run = blocks_to_run(blocks);
    size_t bytes = dynamic_shared ? k.dynamic_offset + dynamic_shared : k.attributes.static_shared;
    std::exception_ptr error;
    uint64_t failed_block = UINT64_MAX;  // the first in order, so that the message is the same each time
    std::mutex mutex;
#pragma omp parallel
    {
        Executed executed(k.code.size());
        std::vector<Warp> warps((threads + 31) / 32);
#pragma omp for schedule(dynamic, 1) nowait
        for (uint64_t run = 0; run < to_run; run++) {
            uint64_t i = block_to_run(run, blocks, to_run);
            if (__atomic_load_n(&failed_block, __ATOMIC_RELAXED) < i) continue;
            try {
                Dim index{(uint32_t)(i % grid.x), (uint32_t)(i / grid.x % grid.y), (uint32_t)(i / grid.x / grid.y)};
                Block block{k, grid, size, index, SharedMemory(bytes, k.shared_unit),
                    std::vector<char>(threads * k.attributes.local), params.data(),
                    options.count ? executed.traffic.data() : nullptr};
                block.now = launches << 33 | (uint32_t)i;
                run_block(block, warps, executed);
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex);
                if (i < failed_block) failed_block = i, error = std::current_exception();
            }
        }
        std::lock_guard<std::mutex> lock(mutex);
        total.add(executed);
    }
    if (options.count) count_launch(k, grid, size, bytes, blocks, to_run, total);
    Counts& c = all_counts[k.attributes.name];
    c.launches++;
    c.blocks += to_run;
    for (size_t i = 0; i < k.code.size(); i++) {
        if (!total.warps[i]) continue;
        c.warp_instructions += total.warps[i];
        c.lane_instructions += total.lanes[i];
        c.by_opcode[k.opcodes[i]] += total.warps[i];
        all_lanes += total.lanes[i];
    }
    if (error) std::rethrow_exception(error);
}
}  // namespace emulator
