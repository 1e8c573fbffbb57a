// memory.cpp: allocations, and the order of accesses to shared memory.
#include "test/emulator/memory.h"

#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>

namespace emulator {
static std::map<uint64_t, Allocation>& allocations() {  // built before the first module registers its variables
    static std::map<uint64_t, Allocation> all;
    return all;
}
static std::string hexadecimal(uint64_t address) {
    char text[32];
    snprintf(text, sizeof text, "0x%llx", (unsigned long long)address);
    return text;
}
static Options from_environment() {
    Options o;
    o.count = getenv("EMULATOR_COUNTS");
    if (const char* sample = getenv("EMULATOR_SAMPLE")) {
        o.sample = strtoull(sample, nullptr, 10);
        o.uninitialised = o.shared_races = false;
    }
    const char* checks = getenv("EMULATOR_CHECKS");
    std::string word;
    for (const char* p = checks ? checks : "";; p++) {
        if (*p && *p != ',') {
            word += *p;
            continue;
        }
        bool on = word.compare(0, 3, "no-") != 0;
        std::string name = on ? word : word.substr(3);
        if (name == "uninitialised") o.uninitialised = on;
        else if (name == "shared-races") o.shared_races = on;
        else if (name == "global-races") o.global_races = on;
        else if (!name.empty()) throw Error(Fault::unsupported, "EMULATOR_CHECKS knows no '" + word + "'");
        word.clear();
        if (!*p) return o;
    }
}
Options options = from_environment();

// two records for each byte: a kernel may write single ones
static size_t touched_bytes(size_t bytes) { return 2 * sizeof(uint64_t) * std::max<size_t>(bytes, 1); }
void register_allocation(uint64_t address, size_t bytes, char* data, bool managed) {
    uint8_t* written = managed || options.sample ? nullptr : (uint8_t*)calloc(std::max<size_t>(bytes, 1), 1);
    void* touched = nullptr;
    if (options.global_races) {  // address space; of memory only what is touched
        touched = mmap(
            nullptr, touched_bytes(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (touched == MAP_FAILED) throw Error(Fault::unsupported, "global-races: no address space left");
    }
    allocations()[address] = {address, bytes, data, written, (std::atomic<uint64_t>*)touched};
}
void unregister_allocation(uint64_t address) {
    auto found = allocations().find(address);
    if (found == allocations().end()) throw Error(Fault::address, hexadecimal(address) + " is no allocation");
    free(found->second.written);
    if (found->second.touched) munmap((void*)found->second.touched, touched_bytes(found->second.bytes));
    allocations().erase(found);
}
const Allocation* find_allocation(uint64_t address) {
    auto next = allocations().upper_bound(address);
    if (next == allocations().begin()) return nullptr;
    const Allocation& a = (--next)->second;
    return a.holds(address, 0) ? &a : nullptr;
}
bool is_device_address(uint64_t address) { return find_allocation(address); }
char* access(uint64_t address, size_t bytes, bool writes) {
    const Allocation* a = find_allocation(address);
    std::string range = std::to_string(bytes) + " bytes at " + hexadecimal(address);
    if (!a) throw Error(Fault::address, range + " lie in no allocation");
    if (!a->holds(address, bytes))
        throw Error(Fault::address, range + " end behind the allocation of " + std::to_string(a->bytes) + " bytes at " +
                                        hexadecimal(a->address));
    if (writes) a->mark(address, bytes);
    else if (options.uninitialised && !a->was_written(address, bytes))
        throw Error(Fault::uninitialised, "of the " + range + " some were never written");
    return a->at(address);
}

const char* Allocation::touch(uint64_t a, size_t n, unsigned unit, bool writes, bool atomic, uint64_t now) const {
    constexpr uint64_t SEVERAL = UINT32_MAX, BY_ATOMICS = 1ull << 32;
    auto by_others = [&](uint64_t record) { return !((record ^ now) >> 33) && (uint32_t)(record ^ now); };
    for (size_t i = (a - address) / unit; i <= (a - address + n - 1) / unit; i++) {
        std::atomic<uint64_t>&wrote = touched[2 * i], &read = touched[2 * i + 1];
        std::atomic<uint64_t>& record = writes ? wrote : read;
        uint64_t before = record, next;
        do {
            next = by_others(before) ? now | SEVERAL : now;
            bool first = (before ^ now) >> 33;
            if (atomic && (first || before & BY_ATOMICS)) next |= BY_ATOMICS;
        } while (next != before && !record.compare_exchange_weak(before, next));
        // blocks run at the same time: each has left its record before it looks at the other one
        if (writes && by_others(before) && !(atomic && before & BY_ATOMICS))
            return "race: writes global memory that another block wrote";
        if (writes && by_others(read)) return "race: writes global memory that another block read";
        if (!writes && by_others(wrote)) return "race: reads global memory that another block wrote";
    }
    return nullptr;
}

void SharedMemory::restart() {
    for (std::vector<uint32_t>* records : {&writer, &reader})
        for (uint32_t& r : *records)
            if (r) r = 1;  // a thread of epoch 0: before all
    epoch = 1;
}
const char* SharedMemory::read(size_t offset, size_t bytes, uint32_t now, bool uninitialised, bool races) {
    for (size_t i = offset / unit; i <= (offset + bytes - 1) / unit; i++) {
        if (uninitialised && !writer[i]) return "reads shared memory that nobody wrote";
        if (!races) continue;
        if (unordered(writer[i], now))
            return "race: reads shared memory that another thread wrote since the last barrier";
        uint32_t old = reader[i];
        if (unordered(old, now)) {
            // several readers: remember of how many warps
            bool same_warp = !(old & OF_BLOCK) && !((old ^ now) >> 5 & 31);
            reader[i] = now | (same_warp ? OF_WARP : OF_BLOCK);
        } else if (!(old & OF_BLOCK && !((old ^ now) >> 20 & 1023))) {
            bool same_thread = !((old ^ now) & ~OF_WARP);
            reader[i] = now | (same_thread ? old & OF_WARP : 0);
        }
    }
    return nullptr;
}
const char* SharedMemory::write(size_t offset, size_t bytes, uint32_t now, bool races) {
    for (size_t i = offset / unit; i <= (offset + bytes - 1) / unit; i++) {
        if (races && unordered(writer[i], now))
            return "race: writes shared memory that another thread wrote since the last barrier";
        if (races && unordered(reader[i], now))
            return "race: writes shared memory that another thread read since the last barrier";
        writer[i] = now;
    }
    return nullptr;
}
void SharedMemory::forget(size_t offset, size_t bytes) {
    for (size_t i = offset / unit; i <= (offset + bytes - 1) / unit; i++) writer[i] = 0;
}
}  // namespace emulator
