// reduce.cuh: sums and maxima over a warp or a block, in a fixed order: the same bits every time.
#pragma once
#include <math.h>

#include "common/device/launch.cuh"

struct Add {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct Larger {
    template <class T> __device__ T operator()(T a, T b) const { return max(a, b); }
};
// Of LANES neighbouring lanes. All get the same bits: the butterfly adds the same pairs in every lane.
template <int LANES = 32, class Op, class T> __device__ inline T warp_reduce(Op op, T v) {
    UNROLL
    for (int o = LANES / 2; o > 0; o /= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
}
template <int LANES = 32, class T> __device__ inline T warp_sum(T v) { return warp_reduce<LANES>(Add(), v); }
template <int LANES = 32, class T> __device__ inline T warp_max(T v) { return warp_reduce<LANES>(Larger(), v); }

// All threads of a one-dimensional block (a multiple of 32 of them) call it and get the result: each warp reduces its
// 32 values, leaves the result in shared memory, and then every warp reduces those.
template <class Op, class T> __device__ inline T block_reduce(Op op, T v, T none) {
    __shared__ T partial[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    v = warp_reduce(op, v);
    __syncthreads();  // a call just before this one may still be reading
    if (lane == 0) partial[warp] = v;
    __syncthreads();  // every warp has written
    return warp_reduce(op, lane < warps ? partial[lane] : none);
}
template <class T> __device__ inline T block_sum(T v) { return block_reduce(Add(), v, T(0)); }
template <class T> __device__ inline T block_max(T v) { return block_reduce(Larger(), v, T(-INFINITY)); }

// x(from) + x(from + step) + … up to n, in this order; eight loads are on their way at a time
template <class T, class F> __device__ inline T strided_sum(int from, int n, int step, F x) {
    T sum = 0;
    for (int i = from; i < n; i += 8 * step) {
        T a[8];
        UNROLL
        for (int j = 0; j < 8; j++) a[j] = i + j * step < n ? x(i + j * step) : T(0);
        UNROLL
        for (int j = 0; j < 8; j++) sum += a[j];
    }
    return sum;
}

// K sums over the `warps` neighbouring warps that share a row (of at most 8 in a block); all threads of the block call
// it: v becomes the row's sums in all of them. One warp needs no shared memory and no barrier.
template <int K> __device__ inline void row_sums(float (&v)[K], int warps) {
    UNROLL
    for (int k = 0; k < K; k++) v[k] = warp_sum(v[k]);
    if (warps == 1) return;
    __shared__ float partial[8][K];
    int warp = threadIdx.x / 32, first = warp / warps * warps;
    __syncthreads();  // a call just before this one may still be reading
    if (threadIdx.x % 32 == 0) {
        UNROLL
        for (int k = 0; k < K; k++) partial[warp][k] = v[k];
    }
    __syncthreads();  // every warp has written
    UNROLL
    for (int k = 0; k < K; k++) {
        v[k] = 0;
        for (int w = 0; w < warps; w++) v[k] += partial[first + w][k];
    }
}
