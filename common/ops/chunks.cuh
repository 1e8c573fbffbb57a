// chunks.cuh: sums over rows (dweight, dbias, …) by way of chunks of rows.
//
// Every chunk of rows leaves its partial sums in scratch(chunks, C), and these are added in order: deterministic,
// whatever the number of threads or blocks.
#pragma once
#include "common/device/device.cuh"

constexpr int CHUNK_ROWS = 128;  // of a chunk, where nothing speaks for another number

namespace cpu {
// Calls row(n, sums) for all n < N, which adds to the sums(C) of its chunk; scratch(chunks, C). Returns their number.
template <class A, class Row> int sum_chunks(A* scratch, int N, int C, Row row) {
    int chunks = (int)ceil_div(N, CHUNK_ROWS);
#pragma omp parallel for
    for (int k = 0; k < chunks; k++) {
        A* sums = scratch + (size_t)k * C;
        for (int c = 0; c < C; c++) sums[c] = 0;
        for (int n = k * CHUNK_ROWS; n < N && n < (k + 1) * CHUNK_ROWS; n++) row(n, sums);
    }
    return chunks;
}
// to(C) += the sum over chunks of scratch(chunks, stride), and second(C), if given, of the columns after those
template <class A> void add_chunks(A* to, const A* scratch, int chunks, int stride, int C, A* second = nullptr) {
    for (int k = 0; k < chunks; k++, scratch += stride)
        for (int c = 0; c < C; c++) {
            to[c] += scratch[c];
            if (second) second[c] += scratch[C + c];
        }
}
}  // namespace cpu

#ifdef WITH_KERNELS
#include "common/device/reduce.cuh"
namespace gpu {
// to(C) += the sum over chunks of scratch(chunks, stride), always in the same order; with blockIdx.y = 1: second(C) and
// the columns after those. One block per 32 columns, one lane each: every warp adds some chunks, then the first warp
// adds the warps' sums.
static __global__ void add_chunks_kernel(
    float* to, float* second, const float* scratch, int chunks, int stride, int C) {
    __shared__ float partial[16][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32, c = blockIdx.x * 32 + lane;
    if (blockIdx.y == 1) {
        to = second;
        scratch += C;
    }
    partial[warp][lane] = strided_sum<float>(
        warp, c < C ? chunks : 0, warps, [&](int k) { return scratch[(size_t)k * stride + c]; });
    __syncthreads();  // every warp has written
    if (warp > 0 || c >= C) return;
    float sum = 0;
    for (int w = 0; w < warps; w++) sum += partial[w][lane];
    to[c] += sum;
}
inline void add_chunks(float* to, const float* scratch, int chunks, int stride, int C, float* second = nullptr) {
    launch(add_chunks_kernel, dim3(ceil_div(C, 32), second ? 2 : 1), 32 * min(16, max(1, chunks)), 0, to, second,
        scratch, chunks, stride, C);
}
}  // namespace gpu
#endif
