// arena.h: every buffer of a run in one allocation. A plan is a function that takes buffers from the arena in order:
// run it once to measure (all pointers come out as nullptr), allocate, and run it again to point.
//
//   auto plan = [&](Arena& a) { a.region("params"); a.take(params, n); a.region("activations"); a.take(x, N * C); };
//   Arena measure; plan(measure);                                   // measure.used bytes
//   Arena arena(device::device_alloc(measure.used)); plan(arena);   // the same order, now with memory
#pragma once
#include <string>
#include <vector>

#include "common/base/types.h"

struct Arena {
    char* base = nullptr;
    size_t used = 0;
    struct Region {
        std::string name;
        size_t bytes;
    };
    std::vector<Region> regions;

    explicit Arena(void* base = nullptr) : base((char*)base) {}
    // The buffers that follow belong to this region (a row of the memory table).
    void region(const std::string& name) { regions.push_back({name, 0}); }
    // n elements, aligned to 256 bytes
    template <class X> void take(X*& p, size_t n) {
        size_t bytes = round_up(n * sizeof(X), 256);
        p = base ? (X*)(base + used) : nullptr;
        used += bytes;
        if (!regions.empty()) regions.back().bytes += bytes;
    }
    // several buffers of n elements each
    template <class... X> void take_each(size_t n, X*&... p) { (take(p, n), ...); }
};
