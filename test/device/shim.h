// shim.h: lets g++ compile and run CUDA kernels on the CPU, so that a machine without a GPU
// (continuous integration, a laptop) tests the very kernels that a GPU will run.
//
// How it works. launch() walks over the blocks of the grid, in parallel. Inside a block every CUDA
// thread is a fiber: a stack of its own, switched by hand at the only places where CUDA threads wait
// for each other: __syncthreads() and the warp collectives. A fiber that never waits runs to its end
// and takes up the next CUDA thread, so a kernel without barriers is a plain loop. All fibers of a
// block share one OS thread, hence __shared__ is `static thread_local`.
//
// Kernels are written as launch.cuh says, and keep PTX inside the device functions of ptx.cuh, each of which has its
// twin in shim_ptx.h. shim_memory.h is what device.cuh and pipeline.cuh are here, shim_gemm.h what gemm.cuh is.
//
// What it finds in a wrong kernel, and how (test/device/bugs.cu has one of each):
//   any build    waiting for a thread that never comes; lanes that call different collectives; writes
//                beyond dynamic shared memory; reads of shared memory that nobody wrote, of a cp.async
//                that nobody waited for, and shuffles from a lane that is gone (all give NaN)
//   SHIM_ORDER=forward|reverse|random   the order in which blocks and threads run: a kernel whose
//                result depends on it misses a barrier. Tests may also set shim::order.
//   -fsanitize=address   also reads beyond dynamic shared memory (and any other overrun)
//   -fsanitize=thread    data races: between the threads of a block, where only __syncthreads() and
//                __syncwarp() order memory (a shuffle does not), and between blocks
// And in the host's code, in the programs: a line that reads or writes device memory without a copy, and a kernel,
// product or copy that is given an address of the host's in place of the device's ("Two memories", below). What it does
// not find: reads of static __shared__ arrays that nobody wrote (they hold what an earlier block left; the dynamic ones
// are NaN), bank conflicts, and anything about speed. It refuses one thing that is legal: two parts of a warp inside
// different collectives at the same time.
#pragma once
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "common/base/errors.h"
#include "common/base/hash.h"
#include "common/base/types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define UNROLL
#define ROLLED
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(shim::blk->dynamic_shared)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

inline thread_local uint3 threadIdx, blockIdx;
inline thread_local dim3 blockDim, gridDim;
constexpr int warpSize = 32;

using std::max;
using std::min;

// blocks run in parallel, so these must be real atomics
inline float atomicAdd(float* p, float v) {
    float old, sum;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do sum = old + v;
    while (!__atomic_compare_exchange(p, &old, &sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
inline int atomicAdd(int* p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicAdd(unsigned* p, unsigned v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }

// ThreadSanitizer knows fibers. It is told what orders memory, and does not see the shim's own accesses.
#ifdef __SANITIZE_THREAD__
#include <condition_variable>
#include <mutex>
#include <thread>
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#define SHIM_TSAN(...) __VA_ARGS__
#define SHIM_FN inline __attribute__((no_sanitize_thread))
#else
#define SHIM_TSAN(...)
#define SHIM_FN inline
#endif

#ifdef __SANITIZE_ADDRESS__
extern "C" void __asan_poison_memory_region(const void*, size_t);
extern "C" void __asan_unpoison_memory_region(const void*, size_t);
#define SHIM_ASAN(...) __VA_ARGS__
#else
#define SHIM_ASAN(...)
#endif

namespace shim {

enum Order { FORWARD, REVERSE, RANDOM };
inline Order order_from_environment() {
    const char* o = getenv("SHIM_ORDER");
    if (!o || !strcmp(o, "forward")) return FORWARD;
    if (!strcmp(o, "reverse")) return REVERSE;
    if (!strcmp(o, "random")) return RANDOM;
    fprintf(stderr, "shim: SHIM_ORDER=%s: expected forward, reverse or random\n", o);
    exit(EXIT_USAGE);
}
inline Order order = order_from_environment();

enum State : uint8_t { UNSTARTED, READY, AT_WARP, AT_BLOCK, DONE };

typedef uint32_t __attribute__((may_alias)) Word;  // four bytes of anything (ThreadSanitizer would not see a memcpy)

struct AsyncCopy {  // a cp.async that has not happened yet; from nullptr: zeros
    void* to;
    const void* from;
    unsigned group;
    int words;
};

struct Thread {
    void* sp;  // where its stack was left
    uint3 idx;
    State state;
    unsigned groups;                // cp.async groups committed so far
    std::vector<AsyncCopy> copies;  // those in flight, in the order of issue
    SHIM_TSAN(void* tsan;)
};

struct alignas(16) Slot {  // what a lane brings to a collective
    unsigned char bytes[64];
};

struct Warp {
    unsigned live, arrived, mask;  // lanes that have not returned; lanes at the current collective, and its mask
    unsigned phase;                // how many collectives have passed
    const char* op;                // the name of that collective: all lanes have to call the same
    unsigned took[2];              // the lanes that took part; two of each, so that one wait per collective is enough
    Slot slot[2][32];
};

constexpr size_t STACK = 128 * 1024, MAX_THREADS = 1024, MAX_SHARED = 227 * 1024, GUARD = 256;
constexpr uint64_t CANARY = 0x5afe57ac5afe57ac;

struct Block {  // everything that one OS thread needs to run one block at a time
    Thread thread[MAX_THREADS];
    Warp warp[MAX_THREADS / 32];
    uint16_t ready[MAX_THREADS];  // a ring: the threads that may continue
    unsigned head, count;
    uint32_t random;
    int n, live, arrived;  // threads: in all, not returned, at the barrier
    int next, cur;         // the next thread to start, the one that runs
    unsigned phase;        // how many barriers have passed
    void (*body)(void*);
    void* args;  // the kernel and its arguments
    void* main_sp;
    // the addresses of the chars are TSan's names for events
    SHIM_TSAN(void* main_tsan; char begun, ended, barrier[2];)
    unsigned char* dynamic_shared;
    unsigned char* stacks;
};
inline thread_local Block* blk;

// void shim_switch(void** save, void* to): push the registers that a call keeps, swap stacks, pop them
extern "C" void shim_switch(void** save, void* to);
#if defined(__x86_64__)
asm(".text\nshim_switch:\n push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp,(%rdi)\n mov %rsi,%rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");
constexpr int FRAME = 8, RETURN = 6;  // words of a fresh stack, and which of them is the return address
#elif defined(__aarch64__)
asm(".text\nshim_switch:\n sub sp,sp,#176\n"
    " stp x19,x20,[sp]\n stp x21,x22,[sp,#16]\n stp x23,x24,[sp,#32]\n stp x25,x26,[sp,#48]\n"
    " stp x27,x28,[sp,#64]\n stp x29,x30,[sp,#80]\n stp d8,d9,[sp,#96]\n stp d10,d11,[sp,#112]\n"
    " stp d12,d13,[sp,#128]\n stp d14,d15,[sp,#144]\n mov x9,sp\n str x9,[x0]\n mov sp,x1\n"
    " ldp x19,x20,[sp]\n ldp x21,x22,[sp,#16]\n ldp x23,x24,[sp,#32]\n ldp x25,x26,[sp,#48]\n"
    " ldp x27,x28,[sp,#64]\n ldp x29,x30,[sp,#80]\n ldp d8,d9,[sp,#96]\n ldp d10,d11,[sp,#112]\n"
    " ldp d12,d13,[sp,#128]\n ldp d14,d15,[sp,#144]\n add sp,sp,#176\n ret\n");
constexpr int FRAME = 22, RETURN = 11;
#else
#error "shim.h: write shim_switch for this processor (save the callee-saved registers, swap stacks)"
#endif

// A wrong kernel: say where and what, and abort (there is no way to unwind a thousand stacks).
[[noreturn]] SHIM_FN void die(const char* what) {
    Block* b = blk;
    fprintf(stderr, "shim: block (%u,%u,%u), thread (%u,%u,%u): %s\n", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
        threadIdx.y, threadIdx.z, what);
    const char* last = nullptr;
    for (int t = 0; t < b->n; t++) {  // the first thread of every run that waits at the same place
        const Thread& h = b->thread[t];
        const char* at = h.state == AT_BLOCK    ? "waits at __syncthreads()"
                         : h.state == AT_WARP   ? b->warp[t / 32].op
                         : h.state == DONE      ? "returned"
                         : h.state == UNSTARTED ? "has not started"
                                                : "runs";
        if (at != last) fprintf(stderr, "  from thread %d on: %s\n", t, at);
        last = at;
    }
    abort();
}

SHIM_FN void make_ready(Block* b, int t) {
    b->thread[t].state = READY;
    b->ready[(b->head + b->count++) % MAX_THREADS] = (uint16_t)t;
}
SHIM_FN void release_warp(Block* b, int w) {
    Warp& q = b->warp[w];
    for (unsigned m = q.arrived; m; m &= m - 1) {
        int t = w * 32 + __builtin_ctz(m);
        if (t != b->cur) make_ready(b, t);
    }
    q.took[q.phase & 1] = q.arrived;
    q.arrived = 0;
    q.phase++;
}
SHIM_FN unsigned random(Block* b, unsigned n) {  // in [0, n)
    b->random = b->random * 1664525u + 1013904223u;
    return (b->random >> 8) % n;
}
SHIM_FN void release_block(Block* b) {
    unsigned first = order == RANDOM ? random(b, (unsigned)b->n) : 0;
    for (int i = 0; i < b->n; i++) {
        int t = (int)(((unsigned)i + first) % (unsigned)b->n);
        if (b->thread[t].state == AT_BLOCK && t != b->cur) make_ready(b, t);
    }
    b->arrived = 0;
    b->phase++;
}
// Which of the ready threads continues: the first come (all threads advance together), or the last come (one warp runs
// as far ahead as it can), or the last come with a jump to any other now and then.
SHIM_FN int pick(Block* b) {
    unsigned i = b->head, last = b->head + b->count - 1;
    if (order == REVERSE) i = last;
    if (order == RANDOM) i = random(b, 32) ? last : b->head + random(b, b->count);
    int t = b->ready[i % MAX_THREADS];
    if (i == b->head) b->head++;
    else b->ready[i % MAX_THREADS] = b->ready[last % MAX_THREADS];
    b->count--;
    return t;
}
SHIM_FN void start(Block* b, int t) {
    if (order == REVERSE) t = b->n - 1 - t;
    if (order == RANDOM) t = (int)(7919u * (unsigned)t % (unsigned)b->n);  // a prime above 1024: a permutation
    b->cur = t;
    threadIdx = b->thread[t].idx;
    b->thread[t].state = READY;
}

void fiber_main();

// leave the fiber that runs now (its stack pointer goes to *save) for whichever can continue
SHIM_FN void leave(Block* b, void** save) {
    void* to;
    if (b->count) {
        int t = pick(b);
        b->cur = t;
        threadIdx = b->thread[t].idx;
        to = b->thread[t].sp;
    } else if (b->next < b->n) {  // nobody is ready: a new thread, on a fresh stack
        start(b, b->next++);
        unsigned char* stack = b->stacks + (size_t)b->cur * STACK;
        *(uint64_t*)stack = CANARY;
        size_t offset = (size_t)(b->cur % 61) * 448;  // spreads the stacks over the cache sets
        uintptr_t top = (uintptr_t)stack + STACK - offset;
        void** s = (void**)(top & ~(uintptr_t)63) - FRAME;
        s[RETURN] = (void*)fiber_main;  // where shim_switch will return to
        to = s;
    } else if (b->live == 0) {
        to = b->main_sp;
    } else {
        die("deadlock: every thread waits, and not all for the same");
    }
    SHIM_TSAN(__tsan_switch_to_fiber(to == b->main_sp ? b->main_tsan : b->thread[b->cur].tsan, 1);)
    shim_switch(save, to);
}

// where every fiber starts: run CUDA threads, one after the other, until none is left to start
SHIM_FN void fiber_main() {
    Block* b = blk;
    unsigned char* stack = b->stacks + (size_t)b->cur * STACK;
    for (;;) {
        SHIM_TSAN(__tsan_acquire(&b->begun);)
        b->body(b->args);
        SHIM_TSAN(__tsan_release(&b->ended);)
        int t = b->cur, w = t / 32;
        if (!b->thread[t].copies.empty())
            die("the thread ends with cp.async copies in flight: cp_async_commit and cp_async_wait<0> are missing");
        if (*(uint64_t*)stack != CANARY) die("the thread's stack overflowed (shim::STACK bytes)");
        b->thread[t].state = DONE;
        b->live--;
        b->warp[w].live &= ~(1u << (t % 32));
        // a thread that returned counts as arrived, like on the GPU
        if (b->live && b->arrived == b->live) release_block(b);
        if (b->warp[w].arrived && b->warp[w].arrived == (b->warp[w].live & b->warp[w].mask)) release_warp(b, w);
#ifndef __SANITIZE_THREAD__  // for TSan every thread is a fiber of its own
        if (b->count == 0 && b->next < b->n) {
            start(b, b->next++);
            continue;
        }
#endif
        void* gone;
        leave(b, &gone);
    }
}

SHIM_FN void barrier() {
    Block* b = blk;
    int t = b->cur;
    // two names in turn: whoever is slow to leave this barrier must not take in what others bring to the next
    SHIM_TSAN(char* event = &b->barrier[b->phase & 1]; __tsan_release(event);)
    b->thread[t].state = AT_BLOCK;
    if (++b->arrived == b->live) {
        release_block(b);
        b->thread[t].state = READY;
    } else {
        leave(b, &b->thread[t].sp);
    }
    SHIM_TSAN(__tsan_acquire(event);)
}

// every lane of the mask that has not returned brings a value and waits for the others
struct Gathered {
    const Slot* slot;
    unsigned took;
    template <class T> SHIM_FN T from(int lane) const {
        T v;
        if (took >> lane & 1) __builtin_memcpy(&v, slot[lane].bytes, sizeof v);
        else __builtin_memset((void*)&v, 0xff, sizeof v);  // that lane is not there: the value is undefined
        return v;
    }
};
template <class T> SHIM_FN Gathered gather(const char* op, unsigned mask, const T& mine) {
    static_assert(sizeof(T) <= sizeof(Slot), "too much for one lane");
    Block* b = blk;
    int t = b->cur, lane = t % 32;
    Warp& q = b->warp[t / 32];
    if (!(mask >> lane & 1)) die("a lane outside the mask calls a warp collective");
    if (!q.arrived) {
        q.op = op;
        q.mask = mask;
    } else if (q.op != op || q.mask != mask) {
        fprintf(stderr, "shim: one %s, mask %08x; another %s, mask %08x\n", op, mask, q.op, q.mask);
        die("the lanes of a warp call different collectives");
    }
    unsigned side = q.phase & 1;
    __builtin_memcpy(q.slot[side][lane].bytes, &mine, sizeof mine);
    q.arrived |= 1u << lane;
    if (q.arrived == (q.live & mask)) {
        release_warp(b, t / 32);
    } else {
        b->thread[t].state = AT_WARP;
        leave(b, &b->thread[t].sp);
    }
    return {q.slot[side], q.took[side]};
}
template <class T> SHIM_FN T shuffle(const char* op, unsigned mask, T v, int from) {
    static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "CUDA shuffles 32 and 64 bits");
    return gather(op, mask, v).template from<T>(from & 31);
}
SHIM_FN unsigned ballot(const char* op, unsigned mask, int pred) {
    Gathered g = gather(op, mask, pred);
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        if ((g.took >> i & 1) && g.from<int>(i)) r |= 1u << i;
    return r;
}
SHIM_FN int lane() { return blk->cur & 31; }

SHIM_FN Block* new_block() {
    Block* b = new Block();
    void* stacks = mmap(nullptr, 4096 + STACK * MAX_THREADS, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void* shared = aligned_alloc(128, MAX_SHARED + GUARD);
    if (stacks == MAP_FAILED || !shared) {
        fprintf(stderr, "shim: out of memory\n");
        exit(EXIT_FAILED);
    }
    b->stacks = (unsigned char*)stacks + 4096;  // a small overflow of the first stack is found by its canary, too
    b->dynamic_shared = (unsigned char*)shared;
    return b;
}

struct Grid {  // one launch
    dim3 grid, block;
    size_t smem;
    void (*body)(void*);
    void* args;
    long blocks() const { return (long)grid.x * grid.y * grid.z; }
};

SHIM_FN void run_block(const Grid& g, long i) {
    long blocks = g.blocks();
    if (order == REVERSE) i = blocks - 1 - i;
    // a prime: a permutation
    if (order == RANDOM && blocks % 1000003) i = (long)((unsigned long)i * 1000003 % (unsigned long)blocks);
    if (!blk) blk = new_block();
    Block* b = blk;
    gridDim = g.grid;
    blockDim = g.block;
    blockIdx = {(unsigned)(i % g.grid.x), (unsigned)(i / g.grid.x % g.grid.y), (unsigned)(i / g.grid.x / g.grid.y)};
    b->n = b->live = (int)(g.block.x * g.block.y * g.block.z);
    b->head = b->count = 0;
    b->arrived = b->next = 0;
    b->random = (uint32_t)i * 2654435761u + 1;
    b->body = g.body;
    b->args = g.args;
    SHIM_ASAN(__asan_unpoison_memory_region(b->dynamic_shared, MAX_SHARED + GUARD);)
    memset(b->dynamic_shared, 0xff, g.smem + GUARD);  // NaN: nobody may count on zeros
    SHIM_ASAN(__asan_poison_memory_region(b->dynamic_shared + g.smem, MAX_SHARED + GUARD - g.smem);)
    int t = 0;
    for (unsigned z = 0; z < g.block.z; z++)
        for (unsigned y = 0; y < g.block.y; y++)
            for (unsigned x = 0; x < g.block.x; x++, t++) {
                b->thread[t].idx = {x, y, z};
                b->thread[t].state = UNSTARTED;
                b->thread[t].groups = 0;
                SHIM_TSAN(if (!b->thread[t].tsan) b->thread[t].tsan = __tsan_create_fiber(0);)
            }
    for (int w = 0; w * 32 < b->n; w++) {
        int lanes = min(32, b->n - w * 32);
        b->warp[w].live = lanes == 32 ? ~0u : (1u << lanes) - 1;
        b->warp[w].arrived = 0;
    }
    SHIM_TSAN(b->main_tsan = __tsan_get_current_fiber(); __tsan_release(&b->begun);)
    leave(b, &b->main_sp);
    SHIM_TSAN(__tsan_acquire(&b->ended);)
    SHIM_ASAN(__asan_unpoison_memory_region(b->dynamic_shared, MAX_SHARED + GUARD);)
    for (size_t k = 0; k < GUARD; k++)
        if (b->dynamic_shared[g.smem + k] != 0xff) die("the block wrote beyond its dynamic shared memory");
}

#ifdef __SANITIZE_THREAD__
// Two threads that live for ever, so that TSan sees two blocks that write the same address. They start after, and end
// before, the caller's code around launch(), and nothing orders one against the other. (OpenMP would do, but TSan does
// not know gcc's barriers.) Which blocks share a thread depends on SHIM_ORDER: a pair missed in one order is seen in
// another.
class Workers {
    std::mutex mutex;
    std::condition_variable wake, done;
    const Grid* job = nullptr;
    long launches = 0;
    int busy = 0;

    void work(int me) {
        for (long seen = 0;; seen++) {
            const Grid* g;
            {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [&] { return launches > seen; });
                g = job;
            }
            for (long i = 0, n = g->blocks(); i < n; i++) {
                long who = order == FORWARD ? i : order == REVERSE ? i / 2 : (i * 7919) >> 5;
                if ((who & 1) == me) run_block(*g, i);
            }
            std::unique_lock<std::mutex> lock(mutex);
            if (--busy == 0) done.notify_one();
        }
    }

public:
    Workers() {
        for (int i = 0; i < 2; i++) std::thread([this, i] { work(i); }).detach();
    }
    void run(const Grid& g) {
        std::unique_lock<std::mutex> lock(mutex);
        job = &g;
        busy = 2;
        launches++;
        wake.notify_all();
        done.wait(lock, [&] { return busy == 0; });
    }
};
inline void run_grid(const Grid& g) {
    static Workers* workers = new Workers;  // never deleted: its threads wait in it until the process ends
    workers->run(g);
}
#else
inline void run_grid(const Grid& g) {
    long n = g.blocks();
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) if (n > 1)
#endif
    for (long i = 0; i < n; i++) run_block(g, i);
}
#endif

template <class F> void run_body(void* f) { (*(F*)f)(); }

// Two memories. A GPU has one of its own: the host crashes where it reads through a device pointer, and a kernel where
// it reads through one of the host's. Here both are one memory, and such a line would run. So what gpu::device_alloc()
// gives is out of the host's reach, but for the time in which the device is at work (AtWork): a launch, a product, a
// copy. And from the first device_alloc() on, an address that a kernel gets and that is mapped, but lies elsewhere, is
// the host's, and refused. One thread of the host gives the device its work. What it does not find: addresses that are
// themselves in device memory; system calls with device memory (they return EFAULT: "Bad address").
#ifdef MANAGED_MEMORY  // for tests, which touch device memory from the host as well, as cudaMallocManaged() lets them
inline bool host_may_touch = true;
#else
inline bool host_may_touch = false;
#endif
// the tests of single kernels switch it off and give them memory of malloc(), so that ASan sees every overrun
inline bool addresses_are_checked = true;
struct Allocation {
    char* p;
    size_t bytes;
};
inline std::vector<Allocation> allocations;
inline int at_work = 0;

inline size_t page() {
    static const size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    return bytes;
}
// What p is in, its end included (where an array of no elements may be)
inline const Allocation* allocation_of(const void* p) {
    for (const Allocation& a : allocations)
        if ((const char*)p >= a.p && (const char*)p <= a.p + a.bytes) return &a;
    return nullptr;
}
inline void allow_host(bool yes) {
    for (const Allocation& a : allocations)
        if (!host_may_touch && mprotect(a.p, round_up(a.bytes, page()), yes ? PROT_READ | PROT_WRITE : PROT_NONE)) {
            fprintf(stderr, "shim: mprotect: %s\n", strerror(errno));
            abort();
        }
}
struct AtWork {
    AtWork() {
        if (at_work++ == 0) allow_host(true);
    }
    ~AtWork() {
        if (--at_work == 0) allow_host(false);
    }
    AtWork(const AtWork&) = delete;
};
inline void host_touched(int, siginfo_t* info, void*) {
    for (const Allocation& a : allocations)
        if ((char*)info->si_addr >= a.p && (char*)info->si_addr < a.p + round_up(a.bytes, page())) {
            fprintf(stderr,
                "shim: the host reads or writes device memory (byte %zu of an allocation of %zu): copy_to_host() "
                "or copy_to_device() is missing\n",
                (size_t)((char*)info->si_addr - a.p), a.bytes);
            abort();
        }
    signal(SIGSEGV, SIG_DFL);  // any other: it comes again, and ends the program
}
inline void add_allocation(void* p, size_t bytes) {  // at the beginning of a page
    if (!host_may_touch) {
        struct sigaction action = {};
        action.sa_sigaction = host_touched;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, nullptr);
    }
    allocations.push_back({(char*)p, bytes ? bytes : 1});
    if (!at_work) allow_host(false);
}
inline void remove_allocation(void* p) {
    for (size_t i = 0; i < allocations.size(); i++)
        if (allocations[i].p == p) {
            allocations.erase(allocations.begin() + i);
            return;
        }
}
inline bool is_checked() { return addresses_are_checked && !allocations.empty(); }
inline bool is_host(uintptr_t word) {  // is it an address at which the host has something?
    unsigned char resident;
    return word >= 65536 && !allocation_of((void*)word) &&
           mincore((void*)(word & ~(uintptr_t)(page() - 1)), 1, &resident) == 0;
}
// `what` is given addresses (nullptr allowed), alone or in structs; all of them have to be the device's
template <class... A> void require_device(const char* what, A... args) {
    if (!is_checked()) return;
    int number = 0;
    auto look = [&](auto a) {
        number++;
        if constexpr (std::is_scalar_v<decltype(a)> && !std::is_pointer_v<decltype(a)>) return;
        if constexpr (!std::is_scalar_v<decltype(a)>) __builtin_clear_padding(&a);
        for (size_t i = 0; i + 8 <= sizeof a; i += 8) {
            uintptr_t word;
            memcpy(&word, (char*)&a + i, 8);
            if (is_host(word))
                fail(
                    "shim: %s: argument %d holds an address of the host's memory, which a GPU cannot reach: a "
                    "copy_to_device() is missing",
                    what, number);
        }
    };
    (look(args), ...);
}
// [p, p + bytes) is of one allocation of the device; or of the host
inline void require_range(const char* what, const void* p, size_t bytes) {
    if (!is_checked()) return;
    const Allocation* a = allocation_of(p);
    if (!a) fail("shim: %s: expected an address of the device's memory, found one of the host's", what);
    if ((const char*)p + bytes > a->p + a->bytes)
        fail("shim: %s: %zu bytes from byte %zu on, of an allocation of %zu", what, bytes,
            (size_t)((const char*)p - a->p), a->bytes);
}
inline void require_host(const char* what, const void* p) {
    if (is_checked() && allocation_of(p) && !host_may_touch)
        fail("shim: %s: expected an address of the host's memory, found one of the device's", what);
}

// What a CUDA graph would capture: with a recorder, everything that is launched is written down (gpu::Graphs).
struct Launch {
    const void* kernel;  // nullptr: none of ours, but a call of a library or of CUDA
    const char* name;    // of the call
    dim3 grid, block;
    size_t smem;
    uint64_t arguments;  // hash of their bytes
};
inline std::vector<Launch>* recorder = nullptr;

template <class A> uint64_t hash_argument(A a, uint64_t h) {  // a copy, whose padding is cleared
    if constexpr (!std::is_scalar_v<A>) __builtin_clear_padding(&a);
    return fnv1a(&a, sizeof a, h);
}
template <class... A> void record(const char* name, dim3 grid, dim3 block, size_t smem, A... args) {
    if (!recorder) return;
    uint64_t h = fnv1a(nullptr, 0);
    ((h = hash_argument(args, h)), ...);
    recorder->push_back({nullptr, name, grid, block, smem, h});
}
inline void refuse_in_graph(const char* call) {
    if (recorder)
        fail("%s: it cannot be part of a CUDA graph: take it out of the body that Graphs::run() captures", call);
}
inline void require_same(const std::vector<Launch>& first, const std::vector<Launch>& now) {
    auto same = [](dim3 a, dim3 b) { return a.x == b.x && a.y == b.y && a.z == b.z; };
    for (size_t i = 0; i < std::max(first.size(), now.size()); i++) {
        if (i >= first.size() || i >= now.size())
            fail(
                "CUDA graph: expected %zu launches, as when this key came first, found %zu: what decides that has to "
                "be in the key",
                first.size(), now.size());
        const Launch &a = first[i], &b = now[i];
        const char* what = a.kernel != b.kernel || strcmp(a.name, b.name)     ? "kernel"
                           : !same(a.grid, b.grid) || !same(a.block, b.block) ? "grid"
                           : a.smem != b.smem                                 ? "shared memory"
                           : a.arguments != b.arguments                       ? "arguments"
                                                                              : nullptr;
        if (what)
            fail(
                "CUDA graph: launch %zu (%s, grid %ux%ux%u, block %u): expected the same %s as when this key came "
                "first, found others (grid %ux%ux%u then): what changes has to be in device memory or in the key",
                i + 1, b.name, b.grid.x, b.grid.y, b.grid.z, b.block.x, what, a.grid.x, a.grid.y, a.grid.z);
    }
}

}  // namespace shim

inline void __syncthreads() { shim::barrier(); }
SHIM_FN void __syncwarp(unsigned mask = ~0u) {  // the only warp collective that orders memory
    SHIM_TSAN(shim::Warp& q = shim::blk->warp[shim::blk->cur / 32]; void* event = &q.took[q.phase & 1];
        __tsan_release(event);)
    shim::gather("waits at __syncwarp()", mask, 0);
    SHIM_TSAN(__tsan_acquire(event);)
}
template <class T> T __shfl_sync(unsigned mask, T v, int src, int width = 32) {
    int l = shim::lane();
    return shim::shuffle("waits at __shfl_sync()", mask, v, (l & ~(width - 1)) | (src & (width - 1)));
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32) {
    int l = shim::lane(), s = l ^ x;
    return shim::shuffle("waits at __shfl_xor_sync()", mask, v, (s & ~(width - 1)) <= (l & ~(width - 1)) ? s : l);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, int d, int width = 32) {
    int l = shim::lane();
    return shim::shuffle("waits at __shfl_down_sync()", mask, v, (l & (width - 1)) + d < width ? l + d : l);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, int d, int width = 32) {
    int l = shim::lane();
    return shim::shuffle("waits at __shfl_up_sync()", mask, v, (l & (width - 1)) - d >= 0 ? l - d : l);
}
inline unsigned __ballot_sync(unsigned mask, int pred) { return shim::ballot("waits at __ballot_sync()", mask, pred); }
inline int __any_sync(unsigned mask, int pred) { return shim::ballot("waits at __any_sync()", mask, pred) != 0; }
inline int __all_sync(unsigned mask, int pred) { return shim::ballot("waits at __all_sync()", mask, !pred) == 0; }

inline size_t most_shared_memory() { return shim::MAX_SHARED; }
template <class... P, class... A> void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, A... args) {
    if (grid.x == 0 || grid.y == 0) return;
    size_t threads = (size_t)block.x * block.y * block.z;
    if (threads == 0 || threads > shim::MAX_THREADS || smem > shim::MAX_SHARED || grid.z == 0 || grid.x > 0x7fffffffu ||
        grid.y > 65535 || grid.z > 65535 || block.z > 64)
        fail("kernel launch: grid %ux%ux%u, block %ux%ux%u, %zu bytes of shared memory: invalid configuration", grid.x,
            grid.y, grid.z, block.x, block.y, block.z, smem);
    if (shim::recorder) {
        shim::record("kernel", grid, block, smem, args...);
        shim::recorder->back().kernel = (const void*)kernel;
    }
    shim::require_device("kernel", args...);
    shim::AtWork device;
    auto call = [=] { kernel(args...); };
    shim::run_grid({grid, block, smem, shim::run_body<decltype(call)>, (void*)&call});
}
