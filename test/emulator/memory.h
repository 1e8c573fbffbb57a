// memory.h: which memory of the device there is, which bytes of it were written, and in shared memory by which thread.
#pragma once
#include <stdint.h>
#include <string.h>

#include <atomic>
#include <vector>

#include "test/emulator/emulator.h"

namespace emulator {
struct Allocation {
    uint64_t address;
    size_t bytes;
    char* data;
    uint8_t* written;  // 1 for each byte that was; nullptr: managed memory counts as written
    // For each unit who wrote and who read it last, with options.global_races; else nullptr.
    // A record: launch 31 bits | by atomics alone 1 | block 32, all ones for several
    std::atomic<uint64_t>* touched;

    bool holds(uint64_t a, size_t n) const { return a - address < bytes && n <= bytes - (a - address); }
    char* at(uint64_t a) const { return data + (a - address); }
    bool was_written(uint64_t a, size_t n) const {
        if (!written) return true;
        const uint8_t* w = written + (a - address);
        size_t i = 0;
        for (; i + 8 <= n; i += 8) {
            uint64_t eight;
            memcpy(&eight, w + i, 8);
            if (eight != 0x0101010101010101) return false;
        }
        for (; i < n; i++)
            if (!w[i]) return false;
        return true;
    }
    void mark(uint64_t a, size_t n) const {
        if (written) memset(written + (a - address), 1, n);
    }
    // Two accesses of two blocks of a launch, one of them a write, are a race: nothing orders blocks. Atomics are none
    // with each other. Returns nullptr, or what is wrong; `now` is the launch and the block.
    const char* touch(uint64_t a, size_t n, unsigned unit, bool writes, bool atomic, uint64_t now) const;
};
const Allocation* find_allocation(uint64_t address);  // nullptr: in none

// The shared memory of a block, and for each unit of it who wrote and who read it last. Two accesses of two threads,
// one of them a write, are a race unless something orders them: a barrier of the block in between, or one of the warp
// if both threads are of that warp. (The order in which the interpreter happens to run them says nothing.)
struct SharedMemory {
    // A record: thread 10 bits | the warp's epoch 10 | the block's epoch 10 | several threads of the warp 1 | of the
    // block 1
    static constexpr uint32_t LAST_EPOCH = 1023, OF_WARP = 1u << 30, OF_BLOCK = 1u << 31;
    std::vector<char> data;
    std::vector<uint32_t> writer, reader;  // 0: nobody. A block's epoch is never 0 while it runs
    unsigned unit;                         // bytes of a record
    uint32_t epoch = 1;                    // barriers of the block until now, plus 1

    SharedMemory(size_t bytes, unsigned unit_bytes) : data(bytes), writer(bytes / unit_bytes + 1), unit(unit_bytes) {
        reader.resize(writer.size());
    }
    void restart();  // forgets the order, not what was written: before an epoch overflows, and for the next block
    static bool unordered(uint32_t before, uint32_t now) {
        if (((before ^ now) >> 20 & 1023) || !before) return false;      // another epoch of the block
        if (before & OF_BLOCK || (before ^ now) >> 5 & 31) return true;  // another warp
        if ((before ^ now) >> 10 & 1023) return false;                   // another epoch of the warp
        return before & OF_WARP || (before ^ now) & 31;
    }
    // Each returns nullptr, or what is wrong. `now` is the thread with its epochs.
    const char* read(size_t offset, size_t bytes, uint32_t now, bool uninitialised, bool races);
    const char* write(size_t offset, size_t bytes, uint32_t now, bool races);
    void forget(size_t offset, size_t bytes);  // as if nobody had written it
};
}  // namespace emulator
