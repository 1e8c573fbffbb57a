// shim_memory.h: memory and copies (device.cuh), uploads, readbacks and graphs (pipeline.cuh) of the shim. Device
// memory is out of the host's reach ("Two memories" in shim.h); what a GPU would do wrong is refused.
#pragma once
#include <map>
#include <vector>

#include "test/device/shim.h"

namespace gpu {
inline void* device_alloc(size_t bytes) {
    shim::refuse_in_graph("device_alloc");
    void* p = mmap(nullptr, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        fail("could not get %.1f MiB of memory: take a smaller batch or a smaller model", bytes / 1048576.0);
    shim::add_allocation(p, bytes);
    return p;
}
inline void device_free(void* p, size_t bytes) {
    shim::remove_allocation(p);
    munmap(p, bytes + 1);
}
inline void copy_to_device(void* device, const void* host, size_t bytes) {
    shim::refuse_in_graph("copy_to_device");
    shim::require_range("copy_to_device", device, bytes);
    shim::require_host("copy_to_device", host);
    shim::AtWork at_work;
    memcpy(device, host, bytes);
}
inline void copy_to_host(void* host, const void* device, size_t bytes) {
    shim::refuse_in_graph("copy_to_host");
    shim::require_host("copy_to_host", host);
    shim::require_range("copy_to_host", device, bytes);
    shim::AtWork at_work;
    memcpy(host, device, bytes);
}
inline void device_sync() { shim::refuse_in_graph("device_sync"); }
inline void device_zero(void* p, size_t bytes) {
    shim::record("device_zero", 1, 1, 0, p, bytes);
    shim::require_range("device_zero", p, bytes);
    shim::AtWork at_work;
    memset(p, 0, bytes);
}
inline std::string device_name() {
    return shim::host_may_touch ? "shim (the GPU's kernels, on the CPU)"
                                : "shim (the GPU's kernels, on the CPU, in a memory of their own)";
}

struct Upload {
    std::vector<char> block;
    char* to;
    Upload(void* to, size_t bytes) : block(bytes), to((char*)to) {}
    char* next() {
        shim::refuse_in_graph("Upload");
        return block.data();
    }
    void send() {
        shim::refuse_in_graph("Upload");
        shim::require_range("Upload", to, block.size());
        shim::AtWork at_work;
        memcpy(to, block.data(), block.size());
    }
};
template <class X> struct Readback {
    X slot[2];
    unsigned sent = 0, taken = 0;
    void send(const X* from) {
        shim::refuse_in_graph("Readback");
        shim::require_range("Readback", from, sizeof(X));
        shim::AtWork at_work;
        slot[sent++ % 2] = *from;
    }
    bool ready() const { return false; }  // as late as it may be
    X take() {
        shim::refuse_in_graph("Readback");
        return slot[taken++ % 2];
    }
};
// Runs the body every time, and fails if it launches anything else than the first time this key came: then a captured
// graph would do the wrong thing.
struct Graphs {
    std::map<std::vector<int>, std::vector<shim::Launch> > graphs;
    template <class F> void run(const std::vector<int>& key, F body) {
        std::vector<shim::Launch> launches;
        shim::recorder = &launches;
        try {
            body();
        } catch (...) {
            shim::recorder = nullptr;
            throw;
        }
        shim::recorder = nullptr;
        auto [first, is_new] = graphs.try_emplace(key, launches);
        if (!is_new) shim::require_same(first->second, launches);
    }
};
}  // namespace gpu
