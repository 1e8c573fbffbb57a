// common.h: the number types, errors, and the legend of dimensions that every file uses.
//
//   N   tokens in a batch: S sequences, back to back, no padding between them
//   S   sequences in a batch; sequence s is tokens [seq_start[s], seq_start[s+1])
//   M   rows that have a target (masked positions, answer tokens, ...)
//   T   longest sequence the model takes          B   batch size, where sequences are counted
//   C   channels (hidden size)                    OC  output channels of a matrix product
//   L   layers      NH  heads      HS  head size, C = NH * HS      FF  inner size of the feed-forward part
//   V   vocabulary   Vp  V rounded up to a multiple of 64, the size in memory   K   classes   Kp  K rounded up to a
//   multiple of 8 W   tiles of queries in a batch               R   runs of equal ids, U ids that have several
//   (embedding.cuh)
//
// Every pointer is declared with its shape: `const T* inp,  // (N, C)`, row-major, the last index runs fastest.
#pragma once
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
typedef __nv_bfloat16 bf16;
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
// bfloat16: the upper half of a float, rounded to nearest even; the same bits as __nv_bfloat16
struct bf16 {
    uint16_t bits;
    bf16() = default;
    bf16(float f) {
        uint32_t u;
        memcpy(&u, &f, 4);
        bits = (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
    }
    operator float() const {
        uint32_t u = (uint32_t)bits << 16;
        float f;
        memcpy(&f, &u, 4);
        return f;
    }
};
#endif

// Ops are templates on the storage type T (float, bf16, double). Statistics, sums and parameter gradients are acc<T>.
template <class T>
using acc = std::conditional_t<std::is_same_v<T, double>, double, float>;

// `real` is the storage type of a program: make PRECISION=fp32|bf16|fp64
#if defined(PRECISION_BF16)
typedef bf16 real;
#elif defined(PRECISION_FP64)
typedef double real;
#else
typedef float real;
#endif
typedef acc<real> areal;  // type of statistics, parameter gradients and master weights

// All parameters lie in one array, each tensor from a multiple of PARAM_BLOCK on, filled up with zeros: weight decay
// and the factor of the learning rate are looked up once per block.
constexpr int PARAM_BLOCK = 256;

// FNV-1a; h: the hash of what came before
inline uint64_t fnv1a(const void* data, size_t bytes, uint64_t h = 0xcbf29ce484222325) {
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char*)data)[i]) * 0x100000001b3;
    return h;
}

constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }
constexpr size_t round_up(size_t a, size_t b) { return ceil_div(a, b) * b; }

// ---------------------------------------------------------------- errors
// An error says what was expected, what was found, and what to do. Programs catch it in main, print one line and exit
// with `code`.
enum ExitCode { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NOT_FINITE = 3, EXIT_INTERRUPTED = 130 };

struct Error : std::runtime_error {
    int code;
    Error(int code, const std::string& what) : std::runtime_error(what), code(code) {}
};
struct OutOfMemory : Error {  // of the device
    using Error::Error;
};

inline std::string vformat(const char* fmt, va_list args) {
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(nullptr, 0, fmt, again);
    va_end(again);
    std::string s(n > 0 ? n : 0, '\0');
    if (n > 0) vsnprintf(&s[0], n + 1, fmt, args);
    return s;
}
__attribute__((format(printf, 1, 2))) inline std::string format(const char* fmt, ...) {
    va_list args;
    va_start(args, fmt);
    std::string s = vformat(fmt, args);
    va_end(args);
    return s;
}
// bad data or a failing machine: exit code 1
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char* fmt, ...) {
    va_list args;
    va_start(args, fmt);
    std::string s = vformat(fmt, args);
    va_end(args);
    throw Error(EXIT_FAILED, s);
}
// a command line that makes no sense: exit code 2
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail_usage(const char* fmt, ...) {
    va_list args;
    va_start(args, fmt);
    std::string s = vformat(fmt, args);
    va_end(args);
    throw Error(EXIT_USAGE, s);
}

// ---------------------------------------------------------------- threads
// A loop over fewer elements than this runs on one thread: waking the others takes as long (generation has many such
// loops).
constexpr size_t PARALLEL = 1 << 15;

// OpenMP threads that wait actively are up to 40 times slower when anything else runs on the machine; those that sleep
// at once are slow to wake (generation at 4 layers, 256 wide: 750 tokens/s sleeping at once, 1,900 so). So they spin
// for about 0.1 ms, then sleep. libgomp reads the variables before main(): a program starts itself once more with them
// set; the user's own settings stay.
inline void wait_passively(char** argv) {
    if (getenv("OMP_WAIT_POLICY")) return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    setenv("GOMP_SPINCOUNT", "5000", 0);
    char self[4096];  // the program's own path: execv("/proc/self/exe") would show as "exe" in ps and top
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return;  // no /proc: go on as we are
    self[n] = 0;
    execv(self, argv);
}
