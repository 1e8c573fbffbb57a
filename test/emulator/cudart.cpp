// cudart.cpp: a stand-in for the CUDA runtime (libcudart.so), with the toolkit's own name, types and symbols, so that
// an executable that nvcc linked with -cudart shared runs on a machine without a GPU. Kernels are interpreted
// (emulator.h); everything here follows the "CUDA Runtime API" reference manual, by its section numbers:
//   6.1 devices   6.3 errors   6.4 streams   6.5 events   6.7 launches   6.10 memory   6.30 graphs
//
// A stream is a queue, and what is in it runs as late as the manual allows: when the host waits for it, for an event
// behind it, or frees memory. So a program that forgets to wait reads what was there before, every time.
// CUDA_LAUNCH_BLOCKING=1 runs everything at once, as on a GPU.
//
// EMULATOR_DEVICE=h200 (the default), h100, a100, or none; EMULATOR_MEMORY=BYTES in place of the device's own;
// EMULATOR_PTX=FILE in place of the executable's PTX, to try what another one would do.
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "test/emulator/count.h"
#include "test/emulator/emulator.h"
#include "test/emulator/runtime.h"

namespace emulator {
void say(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("emulator: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}
}  // namespace emulator
using emulator::say;

namespace {
std::recursive_mutex mutex;  // held in every function of the runtime
thread_local cudaError_t last_error = cudaSuccess;
cudaError_t sticky = cudaSuccess;  // a kernel failed: the context is lost, and every later call says so

// ---------------------------------------------------------------- the device
struct Device {
    const char* name;
    int major, minor, multiprocessors;
    int shared_per_block, shared_per_multiprocessor;  // bytes; the first is what a kernel may opt in to
    int l2, clock_khz, memory_bus_bits;
    size_t memory;  // bytes
};
constexpr int SHARED_WITHOUT_OPT_IN = 48 << 10, RESERVED_SHARED = 1 << 10;
constexpr int MAX_THREADS = 1024, MAX_BLOCK_Z = 64, MAX_GRID_X = 0x7fffffff, MAX_GRID_YZ = 65535;
constexpr int REGISTERS = 65536, THREADS_PER_MULTIPROCESSOR = 2048, BLOCKS_PER_MULTIPROCESSOR = 32;
// CUDA C++ programming guide, "Compute Capabilities"; data sheets
const Device H200 = {"NVIDIA H200 (emulated)", 9, 0, 132, 227 << 10, 228 << 10, 60 << 20, 1980000, 6144, 150754820096};
const Device H100 = {"NVIDIA H100 (emulated)", 9, 0, 132, 227 << 10, 228 << 10, 50 << 20, 1980000, 5120, 85899345920};
const Device A100 = {"NVIDIA A100 (emulated)", 8, 0, 108, 163 << 10, 164 << 10, 40 << 20, 1410000, 5120, 85899345920};

const Device* device() {  // nullptr: there is none
    static const Device* chosen = [] {
        const char* name = getenv("EMULATOR_DEVICE");
        if (!name || !strcmp(name, "h200")) return &H200;
        if (!strcmp(name, "h100")) return &H100;
        if (!strcmp(name, "a100")) return &A100;
        if (strcmp(name, "none"))
            say("EMULATOR_DEVICE=%s: expected h200, h100, a100 or none: there is no device", name);
        return (const Device*)nullptr;
    }();
    return chosen;
}
size_t total_memory() {
    static const char* bytes = getenv("EMULATOR_MEMORY");
    return bytes ? strtoull(bytes, nullptr, 10) : device()->memory;
}

// ---------------------------------------------------------------- work, streams and events
struct Op {
    std::function<void()> work;
    std::vector<std::shared_ptr<Op>> after;  // what has to be done before
    double ns = 0;
    bool done = false;
};
typedef std::shared_ptr<Op> OpPtr;
struct Capture {
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    cudaStream_t origin;
    std::vector<OpPtr> ops;
    bool invalid = false;
};
}  // namespace
struct CUstream_st {
    bool blocking = true;  // it waits for the legacy stream, and the legacy stream for it
    OpPtr last;
    std::shared_ptr<Capture> capture;  // the one that it is part of
    std::vector<OpPtr> capture_last;   // … and what its next operation will come after
};
struct CUevent_st {
    bool timing;
    OpPtr op;                          // nullptr: not recorded
    std::shared_ptr<double> at;        // ns of the device's clock
    std::shared_ptr<Capture> capture;  // of the last record, if it was captured
    std::vector<OpPtr> captured_after;
};
struct CUgraph_st {
    std::vector<OpPtr> ops;  // in the order of capture, which is one that dependencies allow
};
struct CUgraphExec_st {
    std::shared_ptr<const std::vector<OpPtr>> ops;
};

namespace {
CUstream_st legacy_stream;
std::set<CUstream_st*> streams;  // but the legacy one
std::set<CUevent_st*> events;
std::vector<std::shared_ptr<Capture>> captures;
std::deque<OpPtr> queue;              // all that is not done, in the order in which the host gave it
double device_clock = 0;              // ns
constexpr size_t MOST_QUEUED = 1024;  // then a launch waits, as on a GPU
constexpr double LAUNCH_NS = 2000;
constexpr double LANES_PER_NS = 132 * 128 * 1.98 / 4;  // a guess: a quarter of the most

CUstream_st* thread_stream() {
    struct Own : CUstream_st {
        Own() { streams.insert(this); }
        ~Own() {
            std::lock_guard<std::recursive_mutex> lock(mutex);
            streams.erase(this);
        }
    };
    static thread_local Own own;
    return &own;
}
CUstream_st* resolve(cudaStream_t handle) {  // nullptr: no stream
    if (handle == nullptr || handle == cudaStreamLegacy) return &legacy_stream;
    if (handle == cudaStreamPerThread) return thread_stream();
    return streams.count(handle) ? handle : nullptr;
}

// 6.3: what a GPU would say of a kernel that does this
cudaError_t error_of(emulator::Fault fault) {
    switch (fault) {
        case emulator::Fault::address: return cudaErrorIllegalAddress;
        case emulator::Fault::misaligned: return cudaErrorMisalignedAddress;
        case emulator::Fault::unsupported: return cudaErrorIllegalInstruction;
        default: return cudaErrorLaunchFailure;  // a GPU does not see most of these: compute-sanitizer does
    }
}
void run_alone(Op& op) {
    if (!sticky) {
        device_clock += op.ns;
        try {
            op.work();
        } catch (const emulator::Error& error) {
            sticky = error_of(error.fault);
            say("%s", error.what());
        }
    }
    op.done = true;
    op.after.clear();
}
// Runs what `op` needs and then `op`; with `steps`, at most so many of them.
void finish(const OpPtr& op, int steps = -1) {
    std::vector<OpPtr> stack;
    if (op && !op->done) stack.push_back(op);
    while (!stack.empty() && steps != 0) {
        OpPtr top = stack.back();
        bool waits = false;
        for (const OpPtr& before : top->after)
            if (!before->done) {
                stack.push_back(before);
                waits = true;
                break;
            }
        if (waits) continue;
        stack.pop_back();
        if (top->done) continue;
        run_alone(*top);
        steps--;
    }
}
void finish_all() {
    while (!queue.empty()) {
        OpPtr op = queue.front();
        queue.pop_front();
        finish(op);
    }
}
// 6.30, cudaThreadExchangeStreamCaptureMode: calls that may not be made by a thread that captures
bool unsafe_now() {
    for (auto& c : captures)
        if (c->mode == cudaStreamCaptureModeGlobal ||
            (c->mode == cudaStreamCaptureModeThreadLocal && c->thread == std::this_thread::get_id())) {
            c->invalid = true;
            return true;
        }
    return false;
}
// The legacy stream waits for all blocking streams, so that it cannot be used while one of them is captured.
bool implicit_dependency(CUstream_st* stream) {
    if (stream != &legacy_stream) return false;
    bool found = false;
    for (auto s : streams)
        if (s->blocking && s->capture) found = s->capture->invalid = true;
    return found;
}
// Puts an operation behind what is in the stream. Its host memory is read or written when it runs.
cudaError_t push(CUstream_st* stream, const OpPtr& op) {
    if (implicit_dependency(stream)) return cudaErrorStreamCaptureImplicit;
    if (stream->capture) {
        if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
        op->after = stream->capture_last;
        stream->capture_last = {op};
        stream->capture->ops.push_back(op);
        return cudaSuccess;
    }
    auto add = [&](const OpPtr& before) {
        if (before && !before->done) op->after.push_back(before);
    };
    add(stream->last);
    if (stream == &legacy_stream) {
        for (auto s : streams)
            if (s->blocking) add(s->last);
    } else if (stream->blocking) add(legacy_stream.last);
    stream->last = op;
    while (!queue.empty() && (queue.front()->done || queue.size() >= MOST_QUEUED)) {
        finish(queue.front());
        queue.pop_front();
    }
    queue.push_back(op);
    static const char* at_once = getenv("CUDA_LAUNCH_BLOCKING");
    if (at_once && !strcmp(at_once, "1")) finish(op);
    return sticky;
}
OpPtr make_op(double ns, std::function<void()> work) {
    OpPtr op = std::make_shared<Op>();
    op->work = std::move(work);
    op->ns = ns;
    return op;
}

// Every function of the runtime that can fail is the body of a call of this one. 6.3: the error is kept for
// cudaGetLastError(); that of a kernel stays.
template <class Body> cudaError_t api(Body body) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    cudaError_t error = sticky ? sticky : device() == nullptr ? cudaErrorNoDevice : body();
    if (sticky) error = sticky;
    if (error != cudaSuccess) last_error = error;
    return error;
}

// ---------------------------------------------------------------- memory
// Device memory is one file, mapped twice: where the program sees it no access is allowed, so that a host that touches
// it dies as on a machine with a GPU; the emulator reads and writes the other mapping. Managed memory may be touched in
// both. Addresses are never used again.
constexpr size_t SPACE = (size_t)1 << 40, PAGE = 2 << 20;
struct Space {
    int file = -1;
    char *seen = nullptr, *data = nullptr;
    size_t used = PAGE;
};
struct Allocation {
    size_t bytes, mapped;
};
std::map<char*, Allocation> allocations;  // of device memory, by the address that the program has
std::map<char*, size_t> pinned;           // of the host's: bytes
size_t allocated = 0;

Space& space() {
    static Space s = [] {
        Space s;
        s.file = memfd_create("device memory", 0);
        if (s.file < 0 || ftruncate(s.file, SPACE) != 0) return s;
        s.seen = (char*)mmap(nullptr, SPACE, PROT_NONE, MAP_SHARED | MAP_NORESERVE, s.file, 0);
        s.data = (char*)mmap(nullptr, SPACE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s.file, 0);
        if (s.seen == MAP_FAILED || s.data == MAP_FAILED) s.used = SPACE;
        return s;
    }();
    return s;
}
// The allocation that holds [p, p + bytes), or nullptr
const Allocation* find_device(const void* p, size_t bytes) {
    auto after = allocations.upper_bound((char*)p);
    if (after == allocations.begin()) return nullptr;
    auto it = std::prev(after);
    bool inside = (char*)p + bytes <= it->first + it->second.bytes;
    return inside && (char*)p < it->first + it->second.mapped ? &it->second : nullptr;
}
bool is_device(const void* p) { return (char*)p >= space().seen && (char*)p < space().seen + SPACE; }
bool is_pinned(const void* p) {
    auto after = pinned.upper_bound((char*)p);
    return after != pinned.begin() && (char*)p < std::prev(after)->first + std::prev(after)->second;
}
cudaError_t allocate(void** to, size_t bytes, bool managed) {
    if (!to) return cudaErrorInvalidValue;
    *to = nullptr;
    if (unsafe_now()) return cudaErrorStreamCaptureUnsupported;
    if (bytes == 0) return cudaSuccess;
    // each is at least 2 MiB from the next, so that an index that is a little off meets no other allocation
    size_t mapped = (bytes + PAGE - 1) / PAGE * PAGE;
    Space& s = space();
    if (bytes > total_memory() - allocated || mapped + PAGE > SPACE - s.used) return cudaErrorMemoryAllocation;
    char* p = s.seen + s.used;
    if (managed && mprotect(p, mapped, PROT_READ | PROT_WRITE) != 0) return cudaErrorMemoryAllocation;
    s.used += mapped + PAGE;
    allocated += mapped;
    allocations[p] = {bytes, mapped};
    // managed memory is one mapping to all, so that the checks need not look for the other
    emulator::register_allocation((uint64_t)p, bytes, managed ? p : p - s.seen + s.data, managed);
    *to = p;
    return cudaSuccess;
}
cudaError_t release(void* p) {
    if (unsafe_now()) return cudaErrorStreamCaptureUnsupported;
    finish_all();  // kernels that use it may still be in a queue
    if (sticky || !p) return sticky;
    auto it = allocations.find((char*)p);
    if (it == allocations.end()) return cudaErrorInvalidValue;
    Space& s = space();
    emulator::unregister_allocation((uint64_t)p);
    mprotect(it->first, it->second.mapped, PROT_NONE);
    fallocate(s.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, it->first - s.seen, it->second.mapped);
    allocated -= it->second.mapped;
    allocations.erase(it);
    return cudaSuccess;
}
char* readable(const void* p, size_t bytes) { return emulator::access((uint64_t)p, bytes, false); }
char* writable(void* p, size_t bytes) { return emulator::access((uint64_t)p, bytes, true); }
constexpr double BUS_NS = 1 / 50.0, DEVICE_NS = 2 / 3500.0;  // for a byte over PCI express, and within the device

// 6.10, and "API synchronization behavior": what a copy waits for
cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, CUstream_st* stream, bool wait) {
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (bytes == 0) return cudaSuccess;
    if (!to || !from) return cudaErrorInvalidValue;
    bool to_device = is_device(to), from_device = is_device(from);
    if (kind != cudaMemcpyDefault) {
        bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
        bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
        if (wants_to != to_device || wants_from != from_device) return cudaErrorInvalidValue;
    }
    if ((to_device && !find_device(to, bytes)) || (from_device && !find_device(from, bytes)))
        return cudaErrorInvalidValue;
    double ns = LAUNCH_NS + (double)bytes * (to_device && from_device ? DEVICE_NS : BUS_NS);
    bool staged = to_device && !from_device && !is_pinned(from) && !stream->capture;
    std::shared_ptr<std::vector<char>> staging;
    if (staged) staging = std::make_shared<std::vector<char>>((char*)from, (char*)from + bytes);
    OpPtr op = make_op(ns, [=] {
        const char* source = staging ? staging->data() : from_device ? readable(from, bytes) : (const char*)from;
        memmove(to_device ? writable(to, bytes) : (char*)to, source, bytes);
        emulator::log_line("{\"copy\": " + std::to_string(bytes) + ", \"to\": " + (to_device ? "1" : "0") +
                           ", \"from\": " + (from_device ? "1}" : "0}"));
    });
    if (cudaError_t error = push(stream, op)) return error;
    bool to_pageable = !to_device && !is_pinned(to);
    if (!stream->capture && (wait || to_pageable)) finish(op);
    return sticky;
}
cudaError_t fill(void* to, int value, size_t bytes, CUstream_st* stream) {
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (bytes == 0) return cudaSuccess;
    if (!find_device(to, bytes)) return cudaErrorInvalidValue;
    return push(stream, make_op(LAUNCH_NS + (double)bytes * DEVICE_NS / 2, [=] {
        emulator::log_line("{\"fill\": " + std::to_string(bytes) + "}");
        if (!emulator::options.sample || bytes <= 1 << 20) memset(writable(to, bytes), value, bytes);
    }));
}

// ---------------------------------------------------------------- kernels
struct FatBinary {
    std::string name;                      // of the executable, and which of its files
    std::string ptx;                       // for the newest architecture that the device has
    std::string why;                       // there is none
    std::map<std::string, int> registers;  // of a thread of each kernel, by the machine code for the same architecture
    emulator::Module* module = nullptr;    // nullptr: not loaded yet
};
}  // namespace
struct CUkern_st {  // what a cudaKernel_t points to
    FatBinary* binary;
    std::string name;
    const emulator::Kernel* kernel = nullptr;  // nullptr: not looked up yet
    int dynamic_shared = -1;                   // what cudaFuncSetAttribute() allowed; -1: nothing
};
namespace {
std::map<const void*, CUkern_st> kernels;  // by the address of the host's stub

// "sm_90" or "sm_90a" → 90
int target_of(const std::string& ptx) {
    size_t at = ptx.find(".target sm_");
    return at == std::string::npos ? 0 : atoi(ptx.c_str() + at + 11);
}
// How many registers a thread needs is in the machine code (an ELF file) alone: in .nv.info an entry of 12 bytes, 4 (a
// value of a symbol), 0x2f (REGCOUNT), 8 (bytes behind it), the symbol, the registers. Not documented, but printed by
// cuobjdump --dump-elf.
void read_registers(const char* elf, std::map<std::string, int>& registers) {
    Elf64_Ehdr file;
    memcpy(&file, elf, sizeof file);
    std::vector<Elf64_Shdr> sections(file.e_shnum);
    memcpy(sections.data(), elf + file.e_shoff, sections.size() * sizeof sections[0]);
    const Elf64_Shdr* symbols = nullptr;
    for (const Elf64_Shdr& s : sections)
        if (s.sh_type == SHT_SYMTAB) symbols = &s;
    for (const Elf64_Shdr& s : sections) {
        const char* at = elf + s.sh_offset;
        if (!symbols || strcmp(elf + sections[file.e_shstrndx].sh_offset + s.sh_name, ".nv.info")) continue;
        for (const char* end = at + s.sh_size; at + 12 <= end;) {
            uint8_t format = (uint8_t)at[0], attribute = (uint8_t)at[1];
            uint16_t bytes;
            uint32_t value[2];
            memcpy(&bytes, at + 2, 2);
            memcpy(value, at + 4, sizeof value);
            if (format == 4 && attribute == 0x2f && bytes == 8) {
                Elf64_Sym symbol;
                memcpy(&symbol, elf + symbols->sh_offset + value[0] * sizeof symbol, sizeof symbol);
                registers[elf + sections[symbols->sh_link].sh_offset + symbol.st_name] = (int)value[1];
            }
            at += format == 4 ? 4 + bytes : 4;
        }
    }
}
// The layout of a fat binary is not documented; it is that of crt/fatbinary (the wrapper) and what nvcc 12 and 13
// write: a header of 16 bytes, and entries, each with a header of its own.
FatBinary* read_fat_binary(const void* wrapper) {
    struct Wrapper {
        uint32_t magic, version;
        const char* data;
        void* file;
    };
    struct Header {
        uint32_t magic;
        uint16_t version, size;
        uint64_t bytes;
    };
    struct Entry {
        uint16_t kind, version;
        uint32_t header;   // bytes
        uint64_t payload;  // bytes
        uint32_t compressed, options;
        uint16_t minor, major;
        uint32_t architecture;
    };
    constexpr uint32_t WRAPPER = 0x466243b1, MAGIC = 0xba55ed50;
    constexpr int PTX = 1, MACHINE_CODE = 2;
    static int count = 0;
    FatBinary* binary = new FatBinary;
    binary->name = std::string(program_invocation_short_name) + "#" + std::to_string(++count) + ".ptx";
    const char* p = ((const Wrapper*)wrapper)->data;
    Header header;
    memcpy(&header, p, sizeof header);
    if (((const Wrapper*)wrapper)->magic != WRAPPER || header.magic != MAGIC) {
        binary->why = "a fat binary of an unknown format";
        return binary;
    }
    int best = 0, best_code = 0, wanted = device() ? device()->major * 10 + device()->minor : 0;
    bool compressed = false;
    for (const char *at = p + header.size, *end = at + header.bytes; at < end;) {
        Entry entry;
        memcpy(&entry, at, sizeof entry);
        int architecture = (int)entry.architecture;
        if (entry.kind == MACHINE_CODE && architecture > best_code && architecture <= wanted &&
            !memcmp(at + entry.header, ELFMAG, SELFMAG)) {
            best_code = architecture;
            binary->registers.clear();
            read_registers(at + entry.header, binary->registers);
        }
        if (entry.kind == PTX) {
            std::string text(at + entry.header, strnlen(at + entry.header, entry.payload));
            int target = target_of(text);
            compressed |= target == 0;
            if (target > best && target <= wanted) {
                best = target;
                binary->ptx = text;
            }
        }
        at += entry.header + entry.payload;
    }
    if (const char* path = getenv("EMULATOR_PTX")) {
        std::ifstream file(path);
        binary->ptx.assign(std::istreambuf_iterator<char>(file), {});
        binary->name = path;
        best = wanted;
    }
    if (!best)
        binary->why = compressed ? "its PTX is compressed: build with nvcc --no-compress"
                                 : "it has no PTX that this device can run: build with code=compute_80 or compute_90";
    return binary;
}
// Reads a kernel's PTX at its first use.
cudaError_t load(CUkern_st& k) {
    if (k.kernel) return cudaSuccess;
    if (!k.binary->why.empty()) {
        say("%s: %s", k.name.c_str(), k.binary->why.c_str());
        return cudaErrorNoKernelImageForDevice;
    }
    try {
        if (!k.binary->module) k.binary->module = emulator::load_module(k.binary->ptx, k.binary->name);
        k.kernel = emulator::find_kernel(k.binary->module, k.name);
        emulator::options.max_dynamic_shared = (size_t)device()->shared_per_block;
    } catch (const emulator::Error& error) {
        say("%s", error.what());
        return cudaErrorInvalidPtx;
    }
    return k.kernel ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}
CUkern_st* kernel_of(const void* stub) {
    auto it = kernels.find(stub);
    return it == kernels.end() ? nullptr : &it->second;
}
cudaError_t launch(CUkern_st* k, dim3 grid, dim3 block, void** arguments, size_t shared, CUstream_st* stream) {
    if (!k) return cudaErrorInvalidDeviceFunction;
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (cudaError_t error = load(*k)) return error;
    // "Technical specifications per compute capability"
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (threads == 0 || block.x > MAX_THREADS || block.y > MAX_THREADS || block.z > MAX_BLOCK_Z ||
        threads > MAX_THREADS)
        return cudaErrorInvalidConfiguration;
    if (!grid.x || !grid.y || !grid.z || grid.x > MAX_GRID_X || grid.y > MAX_GRID_YZ || grid.z > MAX_GRID_YZ)
        return cudaErrorInvalidConfiguration;
    const emulator::Attributes& kernel = emulator::attributes(k->kernel);
    if (threads > (uint64_t)kernel.max_threads) return cudaErrorInvalidValue;
    size_t allowed = k->dynamic_shared >= 0 ? (size_t)k->dynamic_shared : SHARED_WITHOUT_OPT_IN - kernel.static_shared;
    if (shared > allowed) return cudaErrorInvalidValue;
    // registers are handed out to warps, 256 at a time
    int registers = k->binary->registers[k->name];
    if ((threads + 31) / 32 * ((registers * 32 + 255) / 256 * 256) > REGISTERS) return cudaErrorLaunchOutOfResources;
    // the kernel runs later, so its arguments are copied
    std::vector<std::vector<char>> values;
    for (size_t i = 0; i < kernel.param_bytes.size(); i++)
        values.emplace_back((char*)arguments[i], (char*)arguments[i] + kernel.param_bytes[i]);
    return push(stream, make_op(LAUNCH_NS, [k, grid, block, shared, values] {
        std::vector<const void*> pointers;
        for (const std::vector<char>& value : values) pointers.push_back(value.data());
        uint64_t before = emulator::lane_instructions();
        emulator::launch(k->kernel, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared, pointers.data());
        device_clock += (double)(emulator::lane_instructions() - before) / LANES_PER_NS;
    }));
}
struct Configuration {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
};
thread_local std::vector<Configuration> configurations;
}  // namespace

cudaError_t emulator::enqueue(cudaStream_t stream, double ns, std::function<void()> work) {
    return api([&] {
        CUstream_st* s = resolve(stream);
        return s ? push(s, make_op(ns, std::move(work))) : cudaErrorInvalidResourceHandle;
    });
}

namespace emulator {
int unsupported(const char* function) {  // stubs.cpp
    say("%s is not supported by the emulator", function);
    return api([] { return cudaErrorNotSupported; });
}
}  // namespace emulator

// ---------------------------------------------------------------- what the code that nvcc writes calls
extern "C" {
void** __cudaRegisterFatBinary(void* wrapper) { return (void**)read_fat_binary(wrapper); }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}  // at exit, in an order that nobody controls: kernels stay
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFunction(
    void** binary, const char* stub, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
    kernels[stub] = {(FatBinary*)binary, name};
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
    configurations.push_back({grid, block, shared, stream});
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
    if (configurations.empty()) return cudaErrorMissingConfiguration;
    Configuration c = configurations.back();
    configurations.pop_back();
    *grid = c.grid;
    *block = c.block;
    *shared = c.shared;
    *(cudaStream_t*)stream = c.stream;
    return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stub) {
    *kernel = kernel_of(stub);
    return *kernel ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}
cudaError_t __cudaLaunchKernel(
    cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) {
    return api([&] { return launch(kernel, grid, block, arguments, shared, resolve(stream)); });
}
cudaError_t cudaLaunchKernel(
    const void* stub, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) {
    return api([&] { return launch(kernel_of(stub), grid, block, arguments, shared, resolve(stream)); });
}

// ---------------------------------------------------------------- 6.7 functions
cudaError_t cudaFuncSetAttribute(const void* stub, cudaFuncAttribute attribute, int value) {
    return api([&] {
        CUkern_st* k = kernel_of(stub);
        if (!k) return cudaErrorInvalidDeviceFunction;
        if (cudaError_t error = load(*k)) return error;
        switch (attribute) {
            case cudaFuncAttributeMaxDynamicSharedMemorySize:
                if (value < 0 ||
                    value + emulator::attributes(k->kernel).static_shared > (size_t)device()->shared_per_block)
                    return cudaErrorInvalidValue;
                k->dynamic_shared = value;
                return cudaSuccess;
            case cudaFuncAttributePreferredSharedMemoryCarveout:  // a hint
                return value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue;
            default: return cudaErrorInvalidValue;
        }
    });
}
cudaError_t cudaFuncGetName(const char** name, const void* stub) {
    return api([&] {
        CUkern_st* k = kernel_of(stub);
        if (!name || !k) return name ? cudaErrorInvalidDeviceFunction : cudaErrorInvalidValue;
        *name = k->name.c_str();
        return cudaSuccess;
    });
}

// ---------------------------------------------------------------- 6.3 errors
#define ERRORS(X)                                                                                                     \
    X(cudaSuccess, "no error")                                                                                        \
    X(cudaErrorInvalidValue, "invalid argument")                                                                      \
    X(cudaErrorMemoryAllocation, "out of memory")                                                                     \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                                                \
    X(cudaErrorMissingConfiguration, "__global__ function call is not configured")                                    \
    X(cudaErrorInvalidDeviceFunction, "invalid device function")                                                      \
    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                                        \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                                               \
    X(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device")                    \
    X(cudaErrorInvalidPtx, "a PTX JIT compilation failed")                                                            \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                                      \
    X(cudaErrorNotReady, "device not ready")                                                                          \
    X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                                            \
    X(cudaErrorLaunchOutOfResources, "too many resources requested for launch")                                       \
    X(cudaErrorMisalignedAddress, "misaligned address")                                                               \
    X(cudaErrorIllegalInstruction, "an illegal instruction was encountered")                                          \
    X(cudaErrorAssert, "device-side assert triggered")                                                                \
    X(cudaErrorLaunchFailure, "unspecified launch failure")                                                           \
    X(cudaErrorNotSupported, "operation not supported")                                                               \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")                          \
    X(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture")                   \
    X(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences")                 \
    X(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began")                        \
    X(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                                           \
    X(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream")                     \
    X(cudaErrorStreamCaptureImplicit, "operation would make the legacy stream depend on a capturing blocking stream") \
    X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream")              \
    X(cudaErrorStreamCaptureWrongThread, "attempt to terminate a thread-local capture sequence from another thread")  \
    X(cudaErrorUnknown, "unknown error")
const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
#define TEXT(name, text) \
    case name: return text;
        ERRORS(TEXT)
#undef TEXT
        default: return "unrecognized error code";
    }
}
const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
#define NAME(name, text) \
    case name: return #name;
        ERRORS(NAME)
#undef NAME
        default: return "unrecognized error code";
    }
}
cudaError_t cudaGetLastError() {
    cudaError_t error = last_error;
    last_error = sticky;
    return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }

// ---------------------------------------------------------------- 6.1 devices
cudaError_t cudaGetDeviceCount(int* count) {
    if (count) *count = device() != nullptr;
    return api([&] { return count ? cudaSuccess : cudaErrorInvalidValue; });
}
cudaError_t cudaGetDevice(int* number) {
    return api([&] {
        if (!number) return cudaErrorInvalidValue;
        *number = 0;
        return cudaSuccess;
    });
}
cudaError_t cudaSetDevice(int number) {
    return api([&] { return number == 0 ? cudaSuccess : cudaErrorInvalidDevice; });
}
cudaError_t cudaDeviceSynchronize() {
    return api([&] {
        if (!captures.empty()) {
            for (auto& c : captures) c->invalid = true;
            return cudaErrorStreamCaptureUnsupported;
        }
        finish_all();
        return sticky;
    });
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int number) {
    return api([&] {
        if (!value) return cudaErrorInvalidValue;
        if (number != 0) return cudaErrorInvalidDevice;
        const Device& d = *device();
        const std::map<int, int> attributes = {{cudaDevAttrMaxThreadsPerBlock, MAX_THREADS},
            {cudaDevAttrMaxBlockDimX, MAX_THREADS}, {cudaDevAttrMaxBlockDimY, MAX_THREADS},
            {cudaDevAttrMaxBlockDimZ, MAX_BLOCK_Z}, {cudaDevAttrMaxGridDimX, MAX_GRID_X},
            {cudaDevAttrMaxGridDimY, MAX_GRID_YZ}, {cudaDevAttrMaxGridDimZ, MAX_GRID_YZ},
            {cudaDevAttrMaxSharedMemoryPerBlock, SHARED_WITHOUT_OPT_IN},
            {cudaDevAttrMaxSharedMemoryPerBlockOptin, d.shared_per_block},
            {cudaDevAttrMaxSharedMemoryPerMultiprocessor, d.shared_per_multiprocessor},
            {cudaDevAttrReservedSharedMemoryPerBlock, RESERVED_SHARED}, {cudaDevAttrWarpSize, 32},
            {cudaDevAttrMaxRegistersPerBlock, REGISTERS}, {cudaDevAttrMaxRegistersPerMultiprocessor, REGISTERS},
            {cudaDevAttrMaxThreadsPerMultiProcessor, THREADS_PER_MULTIPROCESSOR},
            {cudaDevAttrMaxBlocksPerMultiprocessor, BLOCKS_PER_MULTIPROCESSOR},
            {cudaDevAttrMultiProcessorCount, d.multiprocessors}, {cudaDevAttrClockRate, d.clock_khz},
            {cudaDevAttrL2CacheSize, d.l2}, {cudaDevAttrGlobalMemoryBusWidth, d.memory_bus_bits},
            {cudaDevAttrComputeCapabilityMajor, d.major}, {cudaDevAttrComputeCapabilityMinor, d.minor},
            {cudaDevAttrManagedMemory, 1}, {cudaDevAttrConcurrentManagedAccess, 1}, {cudaDevAttrUnifiedAddressing, 1},
            {cudaDevAttrConcurrentKernels, 1}, {cudaDevAttrAsyncEngineCount, 3}};
        auto it = attributes.find(attribute);
        if (it == attributes.end()) {
            say("cudaDeviceGetAttribute: attribute %d is not supported by the emulator", (int)attribute);
            return cudaErrorNotSupported;
        }
        *value = it->second;
        return cudaSuccess;
    });
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int number) {
    return api([&] {
        if (!p) return cudaErrorInvalidValue;
        if (number != 0) return cudaErrorInvalidDevice;
        const Device& d = *device();
        memset(p, 0, sizeof *p);
        snprintf(p->name, sizeof p->name, "%s", d.name);
        p->totalGlobalMem = total_memory();
        p->sharedMemPerBlock = SHARED_WITHOUT_OPT_IN;
        p->sharedMemPerBlockOptin = (size_t)d.shared_per_block;
        p->sharedMemPerMultiprocessor = (size_t)d.shared_per_multiprocessor;
        p->reservedSharedMemPerBlock = RESERVED_SHARED;
        p->regsPerBlock = p->regsPerMultiprocessor = REGISTERS;
        p->warpSize = 32;
        p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = MAX_THREADS;
        p->maxThreadsDim[2] = MAX_BLOCK_Z;
        p->maxGridSize[0] = MAX_GRID_X;
        p->maxGridSize[1] = p->maxGridSize[2] = MAX_GRID_YZ;
        p->maxThreadsPerMultiProcessor = THREADS_PER_MULTIPROCESSOR;
        p->maxBlocksPerMultiProcessor = BLOCKS_PER_MULTIPROCESSOR;
        p->major = d.major;
        p->minor = d.minor;
        p->multiProcessorCount = d.multiprocessors;
        p->l2CacheSize = d.l2;
        p->memoryBusWidth = d.memory_bus_bits;
        p->asyncEngineCount = 3;
        p->concurrentKernels = p->unifiedAddressing = p->managedMemory = p->concurrentManagedAccess = 1;
        return cudaSuccess;
    });
}
cudaError_t cudaRuntimeGetVersion(int* version) {
    return api([&] {
        if (!version) return cudaErrorInvalidValue;
        *version = CUDART_VERSION;
        return cudaSuccess;
    });
}
cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }

// ---------------------------------------------------------------- 6.10 memory
cudaError_t cudaMalloc(void** p, size_t bytes) {
    return api([&] { return allocate(p, bytes, false); });
}
cudaError_t cudaMallocManaged(void** p, size_t bytes, unsigned flags) {
    return api([&] {
        bool good = bytes && (flags == cudaMemAttachGlobal || flags == cudaMemAttachHost);
        return good ? allocate(p, bytes, true) : cudaErrorInvalidValue;
    });
}
cudaError_t cudaFree(void* p) {
    return api([&] { return release(p); });
}
cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) {
    return api([&] {
        if (!p) return cudaErrorInvalidValue;
        if (unsafe_now()) return cudaErrorStreamCaptureUnsupported;
        *p = nullptr;
        if (bytes == 0) return cudaSuccess;
        if (posix_memalign(p, 4096, bytes) != 0) return cudaErrorMemoryAllocation;
        pinned[(char*)*p] = bytes;
        return cudaSuccess;
    });
}
cudaError_t cudaMallocHost(void** p, size_t bytes) { return cudaHostAlloc(p, bytes, cudaHostAllocDefault); }
cudaError_t cudaFreeHost(void* p) {
    return api([&] {
        if (unsafe_now()) return cudaErrorStreamCaptureUnsupported;
        finish_all();
        if (!p) return cudaSuccess;
        if (!pinned.erase((char*)p)) return cudaErrorInvalidValue;
        free(p);
        return cudaSuccess;
    });
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    return api([&] {
        if (!free || !total) return cudaErrorInvalidValue;
        *total = total_memory();
        *free = *total - std::min(allocated, *total);
        return cudaSuccess;
    });
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    return api([&] { return copy(to, from, bytes, kind, &legacy_stream, true); });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    return api([&] { return copy(to, from, bytes, kind, resolve(stream), false); });
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
    return api([&] { return fill(to, value, bytes, &legacy_stream); });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
    return api([&] { return fill(to, value, bytes, resolve(stream)); });
}

// ---------------------------------------------------------------- 6.4 streams
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    return api([&] {
        if (!stream || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
        *stream = new CUstream_st;
        (*stream)->blocking = flags != cudaStreamNonBlocking;
        streams.insert(*stream);
        return cudaSuccess;
    });
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    return api([&] {
        if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread || !streams.erase(stream))
            return cudaErrorInvalidResourceHandle;
        if (stream->capture) stream->capture->invalid = true;
        delete stream;  // what is in it still runs
        return cudaSuccess;
    });
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return api([&] {
        CUstream_st* s = resolve(stream);
        if (!s) return cudaErrorInvalidResourceHandle;
        if (implicit_dependency(s)) return cudaErrorStreamCaptureImplicit;
        if (s->capture) {
            s->capture->invalid = true;
            return cudaErrorStreamCaptureUnsupported;
        }
        finish(s->last);
        return sticky;
    });
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return api([&] {
        CUstream_st* s = resolve(stream);
        if (!s) return cudaErrorInvalidResourceHandle;
        if (implicit_dependency(s)) return cudaErrorStreamCaptureImplicit;
        if (s->capture) {
            s->capture->invalid = true;
            return cudaErrorStreamCaptureUnsupported;
        }
        if (!s->last || s->last->done) return cudaSuccess;
        finish(s->last, 1);  // who asks often enough is told that it is done
        return cudaErrorNotReady;
    });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    return api([&] {
        CUstream_st* s = resolve(stream);
        if (!s || !events.count(event)) return cudaErrorInvalidResourceHandle;
        if (flags != 0) return cudaErrorInvalidValue;
        if (!event->op) return cudaSuccess;  // it was never recorded
        if (event->capture && (!s->capture || s->capture == event->capture)) {
            // a fork, or the join of one
            if (std::find(captures.begin(), captures.end(), event->capture) == captures.end())
                return cudaErrorCapturedEvent;
            if (s == &legacy_stream) return cudaErrorStreamCaptureImplicit;
            if (!s->capture) s->capture_last.clear();
            s->capture = event->capture;
            for (const OpPtr& op : event->captured_after) s->capture_last.push_back(op);
            return cudaSuccess;
        }
        if (s->capture) {
            s->capture->invalid = true;
            return event->capture ? cudaErrorStreamCaptureMerge : cudaErrorStreamCaptureIsolation;
        }
        OpPtr op = make_op(0, [] {});
        cudaError_t error = push(s, op);
        if (!event->op->done) op->after.push_back(event->op);
        return error;
    });
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
    if (!function) return api([] { return cudaErrorInvalidValue; });
    return emulator::enqueue(stream, LAUNCH_NS, [=] { function(data); });
}

// ---------------------------------------------------------------- 6.5 events
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    return api([&] {
        if (!event || flags & ~(cudaEventBlockingSync | cudaEventDisableTiming)) return cudaErrorInvalidValue;
        *event = new CUevent_st;
        (*event)->timing = !(flags & cudaEventDisableTiming);
        events.insert(*event);
        return cudaSuccess;
    });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    return api([&] {
        if (!events.erase(event)) return cudaErrorInvalidResourceHandle;
        delete event;
        return cudaSuccess;
    });
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return api([&] {
        CUstream_st* s = resolve(stream);
        if (!s || !events.count(event)) return cudaErrorInvalidResourceHandle;
        auto at = std::make_shared<double>(0);
        OpPtr op = make_op(0, [at] { *at = device_clock; });
        if (s->capture && s->capture->invalid) return cudaErrorStreamCaptureInvalidated;
        if (!s->capture)  // in a capture it is no node, only a place that others may come after
            if (cudaError_t error = push(s, op)) return error;
        event->op = op;
        event->at = at;
        event->capture = s->capture;
        event->captured_after = s->capture_last;
        return cudaSuccess;
    });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    return api([&] {
        if (!events.count(event)) return cudaErrorInvalidResourceHandle;
        if (event->capture) return cudaErrorCapturedEvent;
        if (!event->op || event->op->done) return cudaSuccess;
        finish(event->op, 1);
        return cudaErrorNotReady;
    });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return api([&] {
        if (!events.count(event)) return cudaErrorInvalidResourceHandle;
        if (event->capture) {
            event->capture->invalid = true;
            return cudaErrorCapturedEvent;
        }
        finish(event->op);
        return sticky;
    });
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
    return api([&] {
        if (!ms) return cudaErrorInvalidValue;
        for (cudaEvent_t e : {begin, end}) {
            if (!events.count(e) || !e->op || !e->timing) return cudaErrorInvalidResourceHandle;
            if (e->capture) return cudaErrorCapturedEvent;
        }
        if (!begin->op->done || !end->op->done) return cudaErrorNotReady;
        *ms = (float)((*end->at - *begin->at) * 1e-6);
        return cudaSuccess;
    });
}

// ---------------------------------------------------------------- 6.30 graphs
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    return api([&] {
        CUstream_st* s = resolve(stream);
        if (!s) return cudaErrorInvalidResourceHandle;
        if (s == &legacy_stream) return cudaErrorStreamCaptureUnsupported;
        if (s->capture) return cudaErrorIllegalState;
        s->capture = std::make_shared<Capture>(Capture{mode, std::this_thread::get_id(), s, {}, false});
        s->capture_last.clear();
        captures.push_back(s->capture);
        return cudaSuccess;
    });
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    return api([&] {
        CUstream_st* s = resolve(stream);
        if (!s || !graph) return s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle;
        *graph = nullptr;
        std::shared_ptr<Capture> c = s->capture;
        if (!c) return cudaErrorIllegalState;
        if (c->origin != s) {
            c->invalid = true;
            return cudaErrorStreamCaptureUnmatched;
        }
        if (c->mode != cudaStreamCaptureModeRelaxed && c->thread != std::this_thread::get_id())
            return cudaErrorStreamCaptureWrongThread;
        // every operation has to come before the end of the stream where the capture began
        std::set<Op*> joined;
        std::vector<OpPtr> todo = s->capture_last;
        while (!todo.empty()) {
            OpPtr op = todo.back();
            todo.pop_back();
            if (joined.insert(op.get()).second) todo.insert(todo.end(), op->after.begin(), op->after.end());
        }
        for (auto other : streams)
            if (other->capture == c) {
                other->capture = nullptr;
                other->capture_last.clear();
            }
        captures.erase(std::find(captures.begin(), captures.end(), c));
        if (c->invalid) return cudaErrorStreamCaptureInvalidated;
        if (joined.size() < c->ops.size()) return cudaErrorStreamCaptureUnjoined;
        *graph = new CUgraph_st{c->ops};
        return cudaSuccess;
    });
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    return api([&] {
        CUstream_st* s = resolve(stream);
        if (!s || !status) return s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle;
        if (implicit_dependency(s)) return cudaErrorStreamCaptureImplicit;
        // of a sample the times mean nothing: a program that asks before it times something is told that it may not
        bool active = s->capture || emulator::options.sample;
        *status = !active                             ? cudaStreamCaptureStatusNone
                  : s->capture && s->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                                      : cudaStreamCaptureStatusActive;
        return cudaSuccess;
    });
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags) {
    return api([&] {
        if (!exec || !graph || flags != 0) return cudaErrorInvalidValue;
        *exec = new CUgraphExec_st{std::make_shared<const std::vector<OpPtr>>(graph->ops)};
        return cudaSuccess;
    });
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags) {
    return cudaGraphInstantiateWithFlags(exec, graph, flags);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    if (!exec) return api([] { return cudaErrorInvalidValue; });
    // nodes are run, not marked as done: the next launch runs them again, with the arguments of the capture
    auto ops = exec->ops;
    return emulator::enqueue(stream, LAUNCH_NS, [ops, exec] {
        emulator::log_line("{\"graph\": " + std::to_string((uint64_t)exec) + "}");
        for (const OpPtr& op : *ops) {
            device_clock += op->ns;
            op->work();
        }
        emulator::log_line("{\"graph\": 0}");
    });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    return api([&] {
        if (!graph) return cudaErrorInvalidValue;
        delete graph;
        return cudaSuccess;
    });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    return api([&] {
        if (!exec) return cudaErrorInvalidValue;
        delete exec;
        return cudaSuccess;
    });
}
}  // extern "C"
