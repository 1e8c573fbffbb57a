// interpreter.h: a warp and its block while they run.
#pragma once
#include <stdint.h>

#include <vector>

#include "test/emulator/count.h"
#include "test/emulator/memory.h"
#include "test/emulator/ptx.h"

namespace emulator {
struct Block {
    const Kernel& kernel;
    Dim grid, size, index;
    SharedMemory shared;
    std::vector<char> local;  // of all its threads, one after another
    const char* params;
    Traffic* traffic;  // of each instruction, or nullptr
    uint64_t now = 0;  // as Allocation::touch() wants it
};

// Lanes that run together until `rpc`, where the entry below goes on with all of them.
struct Path {
    int pc, rpc;
    uint32_t mask;
};
struct AsyncCopy {  // of cp.async: in flight
    uint32_t to;
    const char* from;  // nullptr: zeros
    int lane, group;
    unsigned bytes, read;  // what lies behind `read` becomes 0
};

struct Warp {
    Block* block;
    int index;           // in its block
    char* base[2];       // of registers and of constants
    uint32_t live;       // lanes that have not exited
    uint32_t born;       // lanes that there are: not all 32 in the last warp of a block
    uint32_t epoch = 0;  // barriers of the warp since the last one of the block
    bool waits = false;
    std::vector<Path> paths;
    std::vector<AsyncCopy> copies;
    int groups[32] = {};  // cp.async groups that each lane has committed
    const Inst* at = nullptr;
    const Allocation* last = nullptr;  // the allocation that the last access was in
    std::vector<char> registers;

    char* operand(const Inst& in, int i) const {
        int32_t o = in.op[i];
        return base[o < 0] + (o & ~CONSTANT);
    }
    uint32_t& predicate(const Inst& in, int i) const { return *(uint32_t*)operand(in, i); }
    uint32_t now(int lane) const {  // as SharedMemory wants it
        return (uint32_t)(32 * index + lane) | epoch << 10 | block->shared.epoch << 20;
    }
    [[noreturn]] void fail(Fault fault, int lane, const std::string& what) const;
    // Checks an access of `bytes` by each lane of the mask at the address operand `i`, and finds its place.
    enum Access { READ = 1, WRITE = 2, ATOMIC = 3 };
    void places(const Inst& in, int i, unsigned bytes, Access, uint32_t mask, char* place[32]);
    void count(Space, const uint64_t* addresses, unsigned bytes, uint32_t mask);  // the memory that an access needs
    char* shared_place(uint64_t address, unsigned bytes, Access, int lane);
    void need_lanes(uint32_t member_mask, uint32_t mask, int lane) const;
    void land(int newest, uint32_t mask);  // copies of cp.async, but for the `newest` groups
};
}  // namespace emulator
