// pack.cuh: 16 bytes at a time. A GPU loads and stores 16 bytes in one instruction; the kernels that only move data
// live from that. A kernel with a parameter W takes W elements of a row per step: 16 bytes of them where rows allow it,
// else one (W = 1).
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <type_traits>

#include "common/device/launch.cuh"

template <class T, int W> struct alignas(W * sizeof(T) < 16 ? W * sizeof(T) : 16) Pack {
    T at[W];
};
// as it is in memory: a load that is not used yet costs a lane 4 registers, and nobody waits for it
template <int W, class T> __device__ inline Pack<T, W> load_pack(const T* p) {
    return *reinterpret_cast<const Pack<T, W>*>(p);
}
template <int W, class T> __device__ inline void store_pack(T* p, const Pack<T, W>& v) {
    *reinterpret_cast<Pack<T, W>*>(p) = v;
}
template <int W, class T> __device__ inline void load(float x[W], const T* p) {
    Pack<T, W> v = load_pack<W>(p);
    for (int i = 0; i < W; i++) x[i] = (float)v.at[i];
}
template <int W, class T> __device__ inline void store(T* p, const float x[W]) {
    Pack<T, W> v;
    for (int i = 0; i < W; i++) v.at[i] = (T)x[i];
    store_pack<W>(p, v);
}

// From here on the compiler takes v for unknown, so it cannot keep what it made of it before: a pack that is used twice
// is unpacked twice and takes 4 registers in between, not 8.
template <class T, int W> __device__ inline void opaque_pack(Pack<T, W>& v) {
#ifdef __CUDACC__
    if constexpr (sizeof(v) == 16) {
        uint4& u = reinterpret_cast<uint4&>(v);
        asm volatile("" : "+r"(u.x), "+r"(u.y), "+r"(u.z), "+r"(u.w));
    }
#else
    (void)v;
#endif
}

// Do rows of C elements of T, at these addresses (nullptr allowed), start at multiples of 16 bytes?
template <class T, class... P> bool rows_are_wide(size_t C, const P*... p) {
    return C * sizeof(T) % 16 == 0 && ((((uintptr_t)p) % 16 == 0) && ...);
}
// Calls f(width) with width.value = W, so that f can start a kernel for that W.
template <class T, class F> void pick_width(bool wide, F f) {
    if (wide) f(std::integral_constant<int, 16 / sizeof(T)>());
    else f(std::integral_constant<int, 1>());
}

// Calls f(head size) with the head size of attention as a constant.
template <class F> void pick_head_size(int HS, F f) {
    if (HS == 32) f(std::integral_constant<int, 32>());
    else if (HS == 64) f(std::integral_constant<int, 64>());
    else if (HS == 128) f(std::integral_constant<int, 128>());
    else
        fail(
            "attention on a GPU: head size %d: expected 32, 64 or 128: choose the number of heads accordingly, or "
            "train on the CPU",
            HS);
}

constexpr unsigned THREADS = 256;  // of a block, where nothing speaks for another number
inline unsigned row_blocks(size_t rows) { return (unsigned)ceil_div(rows, THREADS / 32); }  // a warp per row
