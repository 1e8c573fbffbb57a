// pack.cuh: 16 bytes at a time. A GPU loads and stores 16 bytes in one instruction; the kernels that only move data live from that.
// A kernel with a parameter W takes W elements of a row per step: 16 bytes of them where rows allow it, else one (W = 1).
#pragma once
#include "shim.h"

template <class T, int W>
struct alignas(W * sizeof(T) < 16 ? W * sizeof(T) : 16) Pack {
    T at[W];
};
template <int W, class T>
__device__ inline void load(float x[W], const T* p) {
    Pack<T, W> v = *reinterpret_cast<const Pack<T, W>*>(p);
    UNROLL for (int i = 0; i < W; i++) x[i] = (float)v.at[i];
}
template <int W, class T>
__device__ inline void store(T* p, const float x[W]) {
    Pack<T, W> v;
    UNROLL for (int i = 0; i < W; i++) v.at[i] = (T)x[i];
    *reinterpret_cast<Pack<T, W>*>(p) = v;
}

// Do rows of C elements of T, at these addresses (nullptr allowed), start at multiples of 16 bytes?
template <class T, class... P>
bool rows_are_wide(size_t C, const P*... p) {
    return C * sizeof(T) % 16 == 0 && ((((uintptr_t)p) % 16 == 0) && ...);
}
// Calls f(width) with width.value = W, so that f can start a kernel for that W.
template <class T, class F>
void pick_width(bool wide, F f) {
    if (wide) f(std::integral_constant<int, 16 / sizeof(T)>());
    else f(std::integral_constant<int, 1>());
}

constexpr unsigned THREADS = 256;  // of a block, where nothing speaks for another number
