// flash.cuh: attention in bf16 on the tensor cores (Dao 2023), formulas as in attention.cuh. Products of bf16 are
// summed in fp32; maxima, sums, lse, delta and exponentials are fp32; weights p and gradients ds are rounded to bf16
// where they enter a product.
//
// A block of four warps has 128 queries of one head (in flash_dkv_kernel: keys), a warp 32 of them as two blocks of 16,
// the rows of one mma. The other side comes by in tiles through shared memory, by cp.async: while one tile is worked
// on, the next one is on its way.
//
// The left operands are read once, into registers, where these have room (HS ≤ 64, but not v); elsewhere they come
// again for every 16 or 32 rows of the other side. Softmax needs no shared memory: the scores of a row lie in four
// lanes, and as they come out of an mma they are, rounded to bf16, the left operand of the next one. Why these shapes,
// and why two backward passes: dev/kernels.md.
//
// Sequences that are neighbours and fit into 128 tokens together share a block, see make_tiles(): they are treated as
// one, in which a query sees the keys of its own sequence only; a warp skips what none of its rows sees.
//
//   shared KB / block    HS = 32   64    128     registers per thread (limit)
//   forward                   25   49     65     255: 2 blocks per SM, on an H200 (227 KB) and an A100 (163 KB)
//   dq                        33   65     97     255: 2 blocks; HS = 128: 2 on an H200, 1 on an A100
//   dk, dv                    35   67    131     255: 2 blocks of 4 warps; HS = 128: 1 of 8 warps
#pragma once
#include <math.h>

#include "common/base/types.h"
#include "common/device/pack.cuh"
#include "common/device/ptx.cuh"
#include "common/ops/dropout.cuh"
#include "common/ops/sequences.h"

#ifdef WITH_KERNELS
namespace gpu {
constexpr float LOG2E = 1.44269504f;

// ---------------------------------------------------------------- tiles in shared memory
// Where the elements 8c … 8c+7 (16 bytes) of row r of a tile (rows, HS) lie. Shared memory has 32 banks of 4 bytes, so
// 128 bytes can be read at once if they differ in their address modulo 128. ldmatrix reads 8 rows at the same c: row by
// row they would all meet in the same banks (HS = 64, 128), or by fours (HS = 32). So c is XORed with the row's number,
// or that of the line of 128 bytes: then any 8 rows have all 8 places of 16 bytes. A row written or read along c, by
// cp.async and copy_16, is only permuted.
template <int HS> HOST_DEVICE constexpr int swizzle(int r, int c) {
    return r * HS + (HS == 32 ? c ^ (r / 2 & 3) : c ^ (r & 7)) * 8;
}
// tile(ROWS, HS) = rows [row, row+ROWS) of x, zeros from `end` on; `stride` elements from row to row
template <int HS, int ROWS, int BLOCK>
__device__ inline void copy_tile(bf16* tile, const bf16* x, unsigned stride, int row, int end) {
    constexpr int PER_ROW = HS / 8, STEP = BLOCK / PER_ROW;  // 16 bytes a thread, STEP rows a round
    static_assert(
        STEP % 8 == 0 && ROWS % STEP == 0, "the swizzle is the same in every round, and every thread copies as often");
    int r = threadIdx.x / PER_ROW, c = threadIdx.x % PER_ROW, place = swizzle<HS>(r, c);
    UNROLL
    for (int i = 0; i < ROWS; i += STEP)
        cp_async_16(
            tile + place + i * HS, x + (size_t)(unsigned)min(row + r + i, end - 1) * stride + 8 * c, row + r + i < end);
}
// Two tiles (ROWS, HS), one after the other, of x and y, by 128 threads: one group of copies
template <int HS, int ROWS>
__device__ inline void copy_two(bf16* tiles, const bf16* x, const bf16* y, unsigned stride, int row, int end) {
    copy_tile<HS, ROWS, 128>(tiles, x, stride, row, end);
    copy_tile<HS, ROWS, 128>(tiles + ROWS * HS, y, stride, row, end);
    cp_async_commit();
}
// What the lanes bring to ldmatrix_x4 for a block of 16 × 16 elements at (0, 0): its four 8 × 8 matrices row by row, or
// column by column. For the block at (16i, 16k) it is 16·i·HS + (place ^ 16k): the XOR of the swizzle and this one do
// not mind each other.
template <int HS> __device__ inline int place_a() {
    int lane = threadIdx.x % 32;
    return swizzle<HS>(lane % 16, lane / 16);
}
template <int HS> __device__ inline int place_b() {
    int lane = threadIdx.x % 32;
    return swizzle<HS>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
}
// The left tile in registers: x[k][m] is the block at (16m, 16k) of the tile a
template <int HS, int M> __device__ inline void load_rows(uint32_t x[HS / 16][M][4], const bf16* a) {
    UNROLL
    for (int k = 0; k < HS / 16; k++) UNROLL
    for (int m = 0; m < M; m++) ldmatrix_x4(x[k][m], a + 16 * m * HS + (place_a<HS>() ^ 16 * k));
}
// s[m][n] += Σ_c a[16m + …][c] b[8n + …][c]: products of rows of two tiles; HELD: a is not read, load_rows left it in x
template <int HS, bool HELD, int M, int N>
__device__ inline void multiply_rows(float s[M][N][4], uint32_t x[HS / 16][M][4], const bf16* a, const bf16* b) {
    int pa = place_a<HS>(), pb = place_b<HS>();
    UNROLL
    for (int k = 0; k < HS / 16; k++) {
        uint32_t again[M][4], y[4];
        auto left = HELD ? x[k] : again;  // (M, 4)
        UNROLL
        for (int m = 0; m < M && !HELD; m++) ldmatrix_x4(again[m], a + 16 * m * HS + (pa ^ 16 * k));
        UNROLL
        for (int n = 0; n < N; n += 2) {
            ldmatrix_x4(y, b + 8 * n * HS + (pb ^ 16 * k));
            UNROLL
            for (int m = 0; m < M; m++) {
                mma_16x8x16(s[m][n], left[m], y);
                mma_16x8x16(s[m][n + 1], left[m], y + 2);
            }
        }
    }
}
// o[m][n] += Σ_j p[m][j] b[j][8n + …]: scores times a tile (8N, HS). The sums of two mma side by side hold the elements
// that the left operand of the next one wants, in the same lanes.
template <int HS, int M, int N>
__device__ inline void multiply(float o[M][HS / 8][4], const float p[M][N][4], const bf16* b) {
    int pa = place_a<HS>();
    UNROLL
    for (int j = 0; j < N; j += 2) {
        uint32_t x[M][4], y[4];
        UNROLL
        for (int m = 0; m < M; m++) UNROLL
        for (int i = 0; i < 4; i++) x[m][i] = pack_bf16(p[m][j + i / 2][i % 2 * 2], p[m][j + i / 2][i % 2 * 2 + 1]);
        UNROLL
        for (int n = 0; n < HS / 8; n += 2) {
            ldmatrix_x4_trans(y, b + 8 * j * HS + (pa ^ 8 * n));
            UNROLL
            for (int m = 0; m < M; m++) {
                mma_16x8x16(o[m][n], x[m], y);
                mma_16x8x16(o[m][n + 1], x[m], y + 2);
            }
        }
    }
}
// The first `rows` of a warp's 16·M rows: o · factor in bf16 to `to`, by way of the tile (16M, HS) of this warp, 16
// bytes at a time
template <int HS, int M> __device__ inline void store_rows(
    bf16* to, unsigned stride, int rows, bf16* tile, const float o[M][HS / 8][4], float factor) {
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    __syncwarp();  // the other lanes have read what was there
    UNROLL
    for (int m = 0; m < M; m++) UNROLL
    for (int n = 0; n < HS / 8; n++) UNROLL
    for (int r = 0; r < 2; r++)
        store_4(tile + swizzle<HS>(16 * m + 8 * r + g, n) + 2 * t,
            pack_bf16(o[m][n][2 * r] * factor, o[m][n][2 * r + 1] * factor));
    __syncwarp();  // they see what is there now
    UNROLL
    for (int i = lane; i < 16 * M * HS / 8; i += 32) {
        int r = i / (HS / 8), c = i % (HS / 8);
        if (r < rows) copy_16(to + (size_t)r * stride + 8 * c, tile + swizzle<HS>(r, c));
    }
}

// What some rows see of the tokens of a block, at most: [from, to)
struct Seen {
    int from, to;
};
// Of the `rows` rows of a warp, from `first` on, of `len` tokens. Several sequences, `count` of them that begin at
// `start`, leave in range(128) for each token first + 65536 · end of its sequence, 0 beyond all of them. All threads of
// the block come here.
__device__ inline Seen rows_see(
    uint32_t* range, const int* start, int count, int len, int first, int rows, int before, int after) {
    Seen seen = {max(0, first - before), min(len, first + rows + after)};
    if (count > 1) {
        for (int s = threadIdx.x; s < count; s += blockDim.x)
            for (int r = start[s] - start[0]; r < start[s + 1] - start[0]; r++)
                range[r] = (start[s] - start[0]) | (start[s + 1] - start[0]) << 16;
        for (int r = len + threadIdx.x; r < ATTENTION_TILE; r += blockDim.x) range[r] = 0;
        __syncthreads();  // everybody sees all of them
        if (first < len) {
            seen.from = max(seen.from, (int)(range[first] & 0xffff));
            seen.to = min(seen.to, (int)(range[min(first + rows, len) - 1] >> 16));
        }
    }
    return seen;
}

// Scores s[m][n] of a warp: of rows row0 + 16m …, columns col0 + 8n …; −∞ where a query does not see a key. KEYS: the
// rows are keys, the columns queries, else the other way round.
template <bool KEYS, int M, int N> __device__ inline void apply_mask(
    float s[M][N][4], int row0, int col0, int len, Reach reach, bool several, const uint32_t* range) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    UNROLL
    for (int m = 0; m < M; m++) UNROLL
    for (int r = 0; r < 2; r++) {
        int row = row0 + 16 * m + 8 * r + g, from = 0, to = row < len ? len : 0;
        if (several) {
            from = range[row] & 0xffff;
            to = range[row] >> 16;
        }
        from = max(from, row - (KEYS ? reach.after : reach.before));
        to = min(to, row + 1 + (KEYS ? reach.before : reach.after));
        UNROLL
        for (int n = 0; n < N; n++) UNROLL
        for (int i = 0; i < 2; i++) {
            int col = col0 + 8 * n + 2 * t + i;
            if (col < from || col >= to) s[m][n][2 * r + i] = -INFINITY;
        }
    }
}

// ---------------------------------------------------------------- forward
// Queries stay in shared memory, their outputs, largest scores and sums in registers; keys and values come by.
template <int HS> constexpr int FLASH_KEYS = HS == 128 ? 32 : 64;  // of a tile
template <int HS> constexpr size_t flash_forward_shared = (ATTENTION_TILE + 4 * FLASH_KEYS<HS>)*HS * sizeof(bf16) +
                                                          ATTENTION_TILE * sizeof(uint32_t);

template <int HS> __global__ void __launch_bounds__(128, 2) flash_forward_kernel(
    bf16* out, float* lse, const bf16* qkv, Sequences seq, int NH, int NKV, Reach reach, Dropout dropout) {
    constexpr int M = 2, KEYS = FLASH_KEYS<HS>;
    constexpr bool HELD = HS <= 64;                     // the queries in registers
    DYNAMIC_SHARED(bf16, q);                            // (128, HS)
    bf16* kv = q + ATTENTION_TILE * HS;                 // (2, 2, KEYS, HS): two buffers of keys and values
    uint32_t* range = (uint32_t*)(kv + 4 * KEYS * HS);  // (128), where there are several sequences
    int tile = blockIdx.x / NH, h = blockIdx.x % NH, s0 = seq.tiles[2 * tile], i0 = seq.tiles[2 * tile + 1];
    if (s0 < 0) return;                                                             // the whole block
    int count = max(-i0, 1), n0 = seq.start[s0], len = seq.start[s0 + count] - n0;  // of all `count` sequences
    i0 = max(i0, 0);
    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    int first = i0 + 32 * warp;  // first query of the warp
    unsigned C = (unsigned)NH * HS, KV = (unsigned)NKV * HS, row = C + 2 * KV;
    const bf16* queries = qkv + (size_t)n0 * row + h * HS;                // (len, HS), rows `row` elements apart
    const bf16* keys = qkv + (size_t)n0 * row + C + h / (NH / NKV) * HS;  // the same; values: KV on
    copy_tile<HS, ATTENTION_TILE, 128>(q, queries, row, i0, len);
    cp_async_commit();
    int begin = max(0, i0 - reach.before) / KEYS * KEYS, end = min(len, i0 + ATTENTION_TILE + reach.after);
    copy_two<HS, KEYS>(kv, keys, keys + KV, row, begin, len);
    Seen seen = rows_see(range, seq.start + s0, count, len, first, 32, reach.before, reach.after);

    // A lane has rows 16m + 8r + g: row_max is the largest score so far, sum its part of Σ exp(score − row_max)
    float o[M][HS / 8][4] = {}, row_max[M][2], sum[M][2], c = LOG2E / sqrtf((float)HS);
    DropoutRow any(dropout, n0);  // threshold and scale are the same for all rows
    uint32_t k0[M][2], k1[M][2];
    UNROLL
    for (int m = 0; m < M; m++) UNROLL
    for (int r = 0; r < 2; r++) {
        row_max[m][r] = -1e30f;  // below every score, but a number: there may be tiles of which a query sees nothing
        sum[m][r] = 0;
        int query = min(first + 16 * m + 8 * r + g, len - 1);
        DropoutRow drop(dropout, n0 + query, NH, h);
        if (count > 1) drop.start_at(range[query] & 0xffff);
        k0[m][r] = drop.k0;
        k1[m][r] = drop.k1;
    }
    uint32_t x[HS / 16][M][4];
    if (HELD) {
        cp_async_wait<1>();
        __syncthreads();  // the queries are there
        load_rows<HS, M>(x, q + 32 * warp * HS);
    }
    for (int j0 = begin, buffer = 0; j0 < end; j0 += KEYS, buffer ^= 1) {
        cp_async_wait<0>();
        // this tile is there, and everybody is done with the one before, whose place the next one takes
        __syncthreads();
        if (j0 + KEYS < end)
            copy_two<HS, KEYS>(kv + (buffer ^ 1) * 2 * KEYS * HS, keys, keys + KV, row, j0 + KEYS, len);
        if (first >= len || j0 >= seen.to || j0 + KEYS <= seen.from)
            continue;                                 // the whole warp has no queries, or they see none of these keys
        const bf16* k = kv + buffer * 2 * KEYS * HS;  // (KEYS, HS), and the values after them
        float s[M][KEYS / 8][4] = {};
        multiply_rows<HS, HELD, M, KEYS / 8>(s, x, q + 32 * warp * HS, k);
        // some query of the warp does not see some key; every query sees itself
        if (count > 1 || j0 + KEYS > min(len, first + 1 + reach.after) || j0 < first + 31 - reach.before)
            apply_mask<false, M, KEYS / 8>(s, first, j0, len, reach, count > 1, range);
        UNROLL
        for (int m = 0; m < M; m++) UNROLL
        for (int r = 0; r < 2; r++) {
            float new_max = row_max[m][r], add = 0;
            UNROLL
            for (int n = 0; n < KEYS / 8; n++) new_max = fmaxf(new_max, fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
            new_max = fmaxf(new_max, __shfl_xor_sync(0xffffffffu, new_max, 1));
            new_max = fmaxf(new_max, __shfl_xor_sync(0xffffffffu, new_max, 2));
            float rescale = fast_exp2((row_max[m][r] - new_max) * c), shift = new_max * c;
            UNROLL
            for (int n = 0; n < KEYS / 8; n++) UNROLL
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                s[m][n][i] = fast_exp2(s[m][n][i] * c - shift);
                add += s[m][n][i];
            }
            row_max[m][r] = new_max;
            sum[m][r] = sum[m][r] * rescale + add;
            UNROLL
            for (int n = 0; n < HS / 8; n++) UNROLL
            for (int i = 2 * r; i < 2 * r + 2; i++) o[m][n][i] *= rescale;
        }
        if (dropout.p > 0) {  // to 0 here; what stays is scaled at the end
            UNROLL
            for (int m = 0; m < M; m++) UNROLL
            for (int n = 0; n < KEYS / 8; n++) UNROLL
            for (int i = 0; i < 4; i++) {
                bool kept = DropoutRow::keeps(j0 + 8 * n + 2 * t + i % 2, k0[m][i / 2], k1[m][i / 2], any.threshold);
                if (!kept) s[m][n][i] = 0;
            }
        }
        multiply<HS, M, KEYS / 8>(o, s, k + KEYS * HS);
    }
    if (first >= len) return;
    UNROLL
    for (int m = 0; m < M; m++) UNROLL
    for (int r = 0; r < 2; r++) {
        sum[m][r] += __shfl_xor_sync(0xffffffffu, sum[m][r], 1);
        sum[m][r] += __shfl_xor_sync(0xffffffffu, sum[m][r], 2);
        float inv_sum = any.scale / sum[m][r];
        UNROLL
        for (int n = 0; n < HS / 8; n++) UNROLL
        for (int i = 2 * r; i < 2 * r + 2; i++) o[m][n][i] *= inv_sum;
        int query = first + 16 * m + 8 * r + g;
        if (t == 0 && query < len)
            lse[(size_t)h * seq.N + n0 + query] = row_max[m][r] * (1.0f / sqrtf((float)HS)) + logf(sum[m][r]);
    }
    store_rows<HS, M>(out + (size_t)(n0 + first) * C + h * HS, C, len - first, q + 32 * warp * HS, o, 1.0f);
}
template <int HS> void flash_forward(
    bf16* out, float* lse, const bf16* qkv, Sequences seq, int NH, int NKV, Reach reach, Dropout dropout) {
    launch(flash_forward_kernel<HS>, (unsigned)(seq.W * NH), 128, flash_forward_shared<HS>, out, lse, qkv, seq, NH, NKV,
        reach, dropout);
}

// ---------------------------------------------------------------- backward: dq
// Queries and their dout stay in shared memory, dq in registers; keys and values come by. Scores are made for as many
// keys at a time as there are registers for.
template <int HS> constexpr size_t flash_dq_shared = (2 * ATTENTION_TILE + 4 * FLASH_KEYS<HS>)*HS * sizeof(bf16) +
                                                     ATTENTION_TILE * sizeof(uint32_t);

template <int HS> __global__ void __launch_bounds__(128, 2) flash_dq_kernel(bf16* dqkv, const float* delta,
    const bf16* dout, const bf16* qkv, const float* lse, Sequences seq, int NH, int NKV, Reach reach, Dropout dropout) {
    constexpr bool HELD = HS <= 64;  // queries and dout in registers
    constexpr int M = 2, KEYS = FLASH_KEYS<HS>, SLICE = HELD ? 16 : 32;
    DYNAMIC_SHARED(bf16, q);                                           // (128, HS)
    bf16 *d = q + ATTENTION_TILE * HS, *kv = d + ATTENTION_TILE * HS;  // (128, HS); (2, 2, KEYS, HS)
    uint32_t* range = (uint32_t*)(kv + 4 * KEYS * HS);                 // (128)
    int tile = blockIdx.x / NH, h = blockIdx.x % NH, s0 = seq.tiles[2 * tile], i0 = seq.tiles[2 * tile + 1];
    if (s0 < 0) return;                                                             // the whole block
    int count = max(-i0, 1), n0 = seq.start[s0], len = seq.start[s0 + count] - n0;  // of all `count` sequences
    i0 = max(i0, 0);
    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, first = i0 + 32 * warp;
    unsigned C = (unsigned)NH * HS, KV = (unsigned)NKV * HS, row = C + 2 * KV;
    const bf16* queries = qkv + (size_t)n0 * row + h * HS;                // (len, HS), rows `row` elements apart
    const bf16* keys = qkv + (size_t)n0 * row + C + h / (NH / NKV) * HS;  // the same; values: KV on
    auto copy = [&](int j0, int buffer) {
        copy_two<HS, KEYS>(kv + buffer * 2 * KEYS * HS, keys, keys + KV, row, j0, len);
    };
    copy_tile<HS, ATTENTION_TILE, 128>(q, queries, row, i0, len);
    copy_tile<HS, ATTENTION_TILE, 128>(d, dout + (size_t)n0 * C + h * HS, C, i0, len);
    cp_async_commit();
    int begin = max(0, i0 - reach.before) / KEYS * KEYS, end = min(len, i0 + ATTENTION_TILE + reach.after);
    copy(begin, 0);
    Seen seen = rows_see(range, seq.start + s0, count, len, first, 32, reach.before, reach.after);

    float dq[M][HS / 8][4] = {}, lse2[M][2], del[M][2];  // lse2 in powers of 2
    float scale = 1.0f / sqrtf((float)HS), c = LOG2E * scale;
    uint32_t k0[M][2], k1[M][2], threshold = 0;
    float drop_scale = 1;
    UNROLL
    for (int m = 0; m < M; m++) UNROLL
    for (int r = 0; r < 2; r++) {
        // what comes out for a query that is not there is not stored
        int query = min(first + 16 * m + 8 * r + g, len - 1);
        lse2[m][r] = lse[(size_t)h * seq.N + n0 + query] * LOG2E;
        del[m][r] = delta[(size_t)h * seq.N + n0 + query];
        DropoutRow drop(dropout, n0 + query, NH, h);
        if (count > 1) drop.start_at(range[query] & 0xffff);
        k0[m][r] = drop.k0;
        k1[m][r] = drop.k1;
        threshold = drop.threshold;
        drop_scale = drop.scale;
    }
    uint32_t x[HS / 16][M][4], y[HS / 16][M][4];
    if (HELD) {
        cp_async_wait<1>();
        __syncthreads();  // the queries and their dout are there
        load_rows<HS, M>(x, q + 32 * warp * HS);
        load_rows<HS, M>(y, d + 32 * warp * HS);
    }
    for (int j0 = begin, buffer = 0; j0 < end; j0 += KEYS, buffer ^= 1) {
        cp_async_wait<0>();
        // this tile is there, and everybody is done with the one before, whose place the next one takes
        __syncthreads();
        if (j0 + KEYS < end) copy(j0 + KEYS, buffer ^ 1);
        ROLLED
        for (int j = 0; j < KEYS; j += SLICE) {
            if (first >= len || j0 + j >= seen.to || j0 + j + SLICE <= seen.from) continue;  // the whole warp
            const bf16 *k = kv + (buffer * 2 * KEYS + j) * HS, *v = k + KEYS * HS;           // (SLICE, HS)
            float s[M][SLICE / 8][4] = {}, dp[M][SLICE / 8][4] = {};
            multiply_rows<HS, HELD, M, SLICE / 8>(s, x, q + 32 * warp * HS, k);
            multiply_rows<HS, HELD, M, SLICE / 8>(dp, y, d + 32 * warp * HS, v);
            // some query of the warp does not see some key
            if (count > 1 || j0 + j + SLICE > min(len, first + 1 + reach.after) || j0 + j < first + 31 - reach.before)
                apply_mask<false, M, SLICE / 8>(s, first, j0 + j, len, reach, count > 1, range);
            auto gradient = [&](auto drops) {  // s = p (dp − delta)
                UNROLL
                for (int m = 0; m < M; m++) UNROLL
                for (int n = 0; n < SLICE / 8; n++) UNROLL
                for (int i = 0; i < 4; i++) {
                    int r = i / 2;
                    float p = fast_exp2(s[m][n][i] * c - lse2[m][r]), x = dp[m][n][i];
                    if (decltype(drops)::value)
                        x = DropoutRow::keeps(j0 + j + 8 * n + 2 * t + i % 2, k0[m][r], k1[m][r], threshold)
                                ? x * drop_scale
                                : 0.0f;
                    s[m][n][i] = p * (x - del[m][r]);
                }
            };
            if (dropout.p > 0) gradient(std::true_type());
            else gradient(std::false_type());
            multiply<HS, M, SLICE / 8>(dq, s, k);
        }
    }
    if (first < len)
        store_rows<HS, M>(dqkv + (size_t)(n0 + first) * row + h * HS, row, len - first, q + 32 * warp * HS, dq, scale);
}

// ---------------------------------------------------------------- backward: dk and dv
// Keys and values stay in shared memory, dk and dv in registers; the queries that see these keys come by with their
// dout, lse, delta and dropout's counters, of one head of the group after the other. The scores lie on their side here:
// a row is a key, a column a query. With HS = 128 the sums of 32 keys would not fit into the registers, so that there
// are 8 warps of 16 keys. Entry i0 of the work list stands for the keys from i0 on; in a causal model the first keys
// are seen by most queries, so that there it stands for the tile as far from the other end.
constexpr int FLASH_QUERIES = 64;                                                        // of a tile
template <int HS> constexpr int FLASH_DKV_M = HS == 128 ? 1 : 2;                         // blocks of 16 keys of a warp
template <int HS> constexpr int FLASH_DKV_BLOCK = 2 * ATTENTION_TILE / FLASH_DKV_M<HS>;  // threads
template <int HS> constexpr size_t flash_dkv_shared = (2 * ATTENTION_TILE + 4 * FLASH_QUERIES) * HS * sizeof(bf16) +
                                                      (8 * FLASH_QUERIES + ATTENTION_TILE) * sizeof(float);

template <int HS> __global__ void __launch_bounds__(FLASH_DKV_BLOCK<HS>, HS == 128 ? 1 : 2)
    flash_dkv_kernel(bf16* dqkv, const float* delta, const bf16* dout, const bf16* qkv, const float* lse, Sequences seq,
        int NH, int NKV, Reach reach, Dropout dropout) {
    constexpr bool HELD = HS <= 64;  // keys in registers
    constexpr int M = FLASH_DKV_M<HS>, BLOCK = FLASH_DKV_BLOCK<HS>, QUERIES = FLASH_QUERIES, SLICE = HELD ? 16 : 32;
    constexpr int SIZE = ATTENTION_TILE * HS;
    DYNAMIC_SHARED(bf16, k);                         // (128, HS)
    bf16 *v = k + SIZE, *qd = v + SIZE;              // (128, HS); (2, 2, QUERIES, HS): two buffers of queries and dout
    float* stats = (float*)(qd + 4 * QUERIES * HS);  // (2, QUERIES, 2): their lse and delta
    uint32_t* keys = (uint32_t*)(stats + 4 * QUERIES);  // (2, QUERIES, 2): k0 and k1 of DropoutRow
    uint32_t* range = keys + 4 * QUERIES;               // (128)
    int tile = blockIdx.x / NKV, kv = blockIdx.x % NKV, s0 = seq.tiles[2 * tile], j0 = seq.tiles[2 * tile + 1];
    if (s0 < 0) return;  // the whole block
    int count = max(-j0, 1), n0 = seq.start[s0], len = seq.start[s0 + count] - n0;
    j0 = max(j0, 0);
    if (reach.after == 0) j0 = (len - 1) / ATTENTION_TILE * ATTENTION_TILE - j0;
    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    int first = j0 + 16 * M * warp;  // first key of the warp
    unsigned C = (unsigned)NH * HS, KV = (unsigned)NKV * HS, row = C + 2 * KV;
    auto copy = [&](int h, int i0, int buffer) {
        bf16* to = qd + buffer * 2 * QUERIES * HS;  // (2, QUERIES, HS)
        int n = n0;
        opaque(n);  // every register counts: the addresses are computed again for every tile
        copy_tile<HS, QUERIES, BLOCK>(to, qkv + (size_t)n * row + h * HS, row, i0, len);
        copy_tile<HS, QUERIES, BLOCK>(to + QUERIES * HS, dout + (size_t)n * C + h * HS, C, i0, len);
        if (threadIdx.x < QUERIES) {
            int query = i0 + threadIdx.x, known = min(query, len - 1), place = 2 * (buffer * QUERIES + threadIdx.x);
            size_t at = (size_t)h * seq.N + n + known;
            // of a query that is not there all is 0: p = 1, but dout = 0 and ds = 0
            cp_async_4(stats + place, lse + at, query < len);
            cp_async_4(stats + place + 1, delta + at, query < len);
            if (dropout.p > 0) {
                DropoutRow drop(dropout, n + known, NH, h);
                if (count > 1) drop.start_at(range[known] & 0xffff);
                keys[place] = drop.k0;
                keys[place + 1] = drop.k1;
            }
        }
        cp_async_commit();
    };
    const bf16* from = qkv + (size_t)n0 * row + C + kv * HS;  // (len, HS) of k, rows `row` elements apart; v: KV on
    copy_tile<HS, ATTENTION_TILE, BLOCK>(k, from, row, j0, len);
    cp_async_commit();
    copy_tile<HS, ATTENTION_TILE, BLOCK>(v, from + KV, row, j0, len);
    int begin = max(0, j0 - reach.after) / QUERIES * QUERIES, end = min(len, j0 + ATTENTION_TILE + reach.before);
    int h = kv * (NH / NKV), end_h = h + NH / NKV;
    Seen seen = rows_see(range, seq.start + s0, count, len, first, 16 * M, reach.after, reach.before);
    copy(h, begin, 0);

    float dk[M][HS / 8][4] = {}, dv[M][HS / 8][4] = {}, scale = 1.0f / sqrtf((float)HS), c = LOG2E * scale;
    DropoutRow any(dropout, n0);  // threshold and scale are the same for all rows
    uint32_t x[HS / 16][M][4];
    if (HELD) {
        cp_async_wait<1>();
        __syncthreads();  // the keys are there
        load_rows<HS, M>(x, k + 16 * M * warp * HS);
    }
    for (int i0 = begin, next, buffer = 0; h < end_h; i0 = next, buffer ^= 1) {
        cp_async_wait<0>();
        // this tile is there, and everybody is done with the one before, whose place the next one takes
        __syncthreads();
        next = i0 + QUERIES;
        if (next >= end) {  // these were the last ones of their head
            next = begin;
            h++;
        }
        if (h < end_h) copy(h, next, buffer ^ 1);
        ROLLED
        for (int i1 = 0; i1 < QUERIES; i1 += SLICE) {
            if (first >= len || i0 + i1 >= seen.to || i0 + i1 + SLICE <= seen.from)
                continue;  // the whole warp has no keys, or these do not see them
            const bf16 *q = qd + (buffer * 2 * QUERIES + i1) * HS, *d = q + QUERIES * HS;  // (SLICE, HS)
            float s[M][SLICE / 8][4] = {}, dp[M][SLICE / 8][4] = {};
            multiply_rows<HS, HELD, M, SLICE / 8>(s, x, k + 16 * M * warp * HS, q);
            multiply_rows<HS, false, M, SLICE / 8>(dp, x, v + 16 * M * warp * HS, d);
            // some key of the warp is not seen by some query
            if (count > 1 || first + 16 * M > min(len, i0 + i1 + 1 + reach.after) ||
                first < i0 + i1 + SLICE - 1 - reach.before)
                apply_mask<true, M, SLICE / 8>(s, first, i0 + i1, len, reach, count > 1, range);
            auto gradient = [&](auto drops) {  // s = drop p, dp = p (drop dp − delta)
                UNROLL
                for (int n = 0; n < SLICE / 8; n++) {
                    int place = 2 * (buffer * QUERIES + i1 + 8 * n + 2 * t);
                    float stat[4];  // lse and delta of two queries
                    load<4>(stat, stats + place);
                    uint4 k01 = {};
                    if (decltype(drops)::value) k01 = *(const uint4*)(keys + place);
                    UNROLL
                    for (int m = 0; m < M; m++) UNROLL
                    for (int i = 0; i < 4; i++) {
                        int odd = i % 2;
                        float p = fast_exp2(s[m][n][i] * c - stat[2 * odd] * LOG2E), w = dp[m][n][i];
                        bool kept = true;
                        if (decltype(drops)::value) {
                            kept = DropoutRow::keeps(first + 16 * m + i / 2 * 8 + g, odd ? k01.z : k01.x,
                                odd ? k01.w : k01.y, any.threshold);
                            w = kept ? w * any.scale : 0.0f;
                        }
                        s[m][n][i] = kept ? p : 0.0f;
                        dp[m][n][i] = p * (w - stat[2 * odd + 1]);
                    }
                }
            };
            if (dropout.p > 0) gradient(std::true_type());
            else gradient(std::false_type());
            multiply<HS, M, SLICE / 8>(dv, s, d);
            multiply<HS, M, SLICE / 8>(dk, dp, q);
        }
    }
    if (first >= len) return;
    bf16* to = dqkv + (size_t)(n0 + first) * row + C + kv * HS;  // (16 M, HS) of dk; dv: KV on
    store_rows<HS, M>(to, row, len - first, k + 16 * M * warp * HS, dk, scale);
    store_rows<HS, M>(to + KV, row, len - first, v + 16 * M * warp * HS, dv, any.scale);
}
template <int HS> void flash_backward(bf16* dqkv, const float* delta, const bf16* dout, const bf16* qkv,
    const float* lse, Sequences seq, int NH, int NKV, Reach reach, Dropout dropout) {
    launch(flash_dq_kernel<HS>, (unsigned)(seq.W * NH), 128, flash_dq_shared<HS>, dqkv, delta, dout, qkv, lse, seq, NH,
        NKV, reach, dropout);
    launch(flash_dkv_kernel<HS>, (unsigned)(seq.W * NKV), FLASH_DKV_BLOCK<HS>, flash_dkv_shared<HS>, dqkv, delta, dout,
        qkv, lse, seq, NH, NKV, reach, dropout);
}
}  // namespace gpu
#endif
