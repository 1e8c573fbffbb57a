// types.h: the number types, and the legend of dimensions that every file uses.
//
//   N   tokens in a batch: S sequences, back to back; sequence s is tokens [seq_start[s], seq_start[s+1])
//   M   rows that have a target (masked positions, answer tokens, ...)
//   T   longest sequence the model takes     B   batch size, where sequences are counted
//   C   channels (hidden size)               OC  output channels of a matrix product
//   L   layers                               FF  inner size of the feed-forward part
//   NH  heads                                HS  head size, C = NH * HS
//   V   vocabulary                           Vp  V rounded up to a multiple of 64, the size in memory
//   K   classes                              Kp  K rounded up to a multiple of 8
//   W   tiles of queries (sequences.h)       R   runs of equal ids, U ids that have several (embedding.cuh)
//
// Every pointer is declared with its shape: `const T* inp,  // (N, C)`, row-major, the last index runs fastest.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>

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
    bf16(float f) { *this = f; }
    bf16& operator=(float f) {  // without a temporary object, which would keep loops from being vectorised
        const uint32_t u = __builtin_bit_cast(uint32_t, f);
        bits = (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
        return *this;
    }
    operator float() const { return __builtin_bit_cast(float, (uint32_t)bits << 16); }
};
#endif

// Ops are templates on the storage type T (float, bf16, double). Statistics, sums and parameter gradients are acc<T>:
// float, but double where T is double.
template <class T> using acc = std::conditional_t<std::is_same_v<T, double>, double, float>;

// What a program stores its parameters and activations in, chosen by make PRECISION=fp32|bf16|fp64
#if defined(PRECISION_BF16)
typedef bf16 real;
#elif defined(PRECISION_FP64)
typedef double real;
#else
typedef float real;
#endif
// matrices that are given as real* but kept as bf16 (train_gpt --weights bf16 on a CPU)
inline const bf16* bf16_matrix(const void* matrix) { return (const bf16*)matrix; }
// "accumulating real": what a program keeps its statistics, parameter gradients and master weights in
typedef acc<real> areal;
inline const char* precision() { return sizeof(real) == 8 ? "fp64" : sizeof(real) == 4 ? "fp32" : "bf16"; }

// All parameters lie in one array, each tensor from a multiple of PARAM_BLOCK on, padded with zeros: weight decay
// and the factor of the learning rate are looked up once per block.
constexpr int PARAM_BLOCK = 256;

constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }
constexpr size_t round_up(size_t a, size_t b) { return ceil_div(a, b) * b; }
