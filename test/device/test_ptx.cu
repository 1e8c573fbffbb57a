// test_ptx.cu: the instructions that have no name in CUDA C++ (ptx.cuh) against the PTX manual: on the shim its plain
// code, on a GPU or in the emulator the inline PTX as nvcc compiled it. dev/mutate_ptx.py breaks that.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "common/device/device.cuh"
#include "common/device/ptx.cuh"
#include "common/ops/gemm.cuh"
#include "test/ops/kernels.h"

// One warp. Element i of a lane's registers belongs where the manual says, written here as there: "groupID" = lane >>
// 2, "threadID_in_group" = lane % 4; a0 … a7 and b0 … b3 are the bf16 in the registers from the lower halves up.
static __global__ void mma_kernel(float* d, const float* a, const float* b) {  // d(16,8) += a(16,16) b(16,8)
    int lane = threadIdx.x, group = lane >> 2, in_group = lane % 4;
    uint32_t ra[4] = {}, rb[2] = {};
    float rd[4];
    for (int i = 0; i < 8; i++) {
        int row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
        int col = i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
        ra[i / 2] |= (pack_bf16(a[row * 16 + col], 0.0f) & 0xffffu) << 16 * (i % 2);
    }
    for (int i = 0; i < 4; i++) {
        int row = i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8, col = group;
        rb[i / 2] |= (pack_bf16(b[row * 8 + col], 0.0f) & 0xffffu) << 16 * (i % 2);
    }
    for (int i = 0; i < 4; i++) rd[i] = d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)];
    mma_16x8x16(rd, ra, rb);
    for (int i = 0; i < 4; i++) d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = rd[i];
}
// Element (row, col) of matrix m is 64 m + 8 row + col, which a bf16 holds exactly; out(32, 2, 4, 2): what each lane
// got, without and with .trans
static __global__ void ldmatrix_kernel(float* out) {
    DYNAMIC_SHARED(bf16, s);  // four matrices, rows of 8, in a scrambled order of rows
    int lane = threadIdx.x;
    for (int i = lane; i < 4 * 8 * 8; i += 32) {
        int m = i / 64, row = i / 8 % 8, col = i % 8, place = (5 * (8 * m + row) + 3) % 32;
        s[place * 8 + col] = (bf16)(float)i;
    }
    __syncwarp();
    uint32_t r[2][4];
    int place = (5 * lane + 3) % 32;  // threads 0–7 bring the rows of the first matrix, 8–15 of the second, …
    ldmatrix_x4(r[0], s + place * 8);
    ldmatrix_x4_trans(r[1], s + place * 8);
    for (int k = 0; k < 16; k++) {
        uint32_t word = r[k / 8][k / 2 % 4] >> 16 * (k % 2) << 16;
        float f;
        memcpy(&f, &word, 4);
        out[lane * 16 + k] = f;
    }
}
// out(32, 6) of what cp.async left in shared memory: 16 bytes, zeros in place of 16 bytes, 4 bytes, zeros in place of 4
static __global__ void copies_kernel(float* out, const float* in, const float* nowhere) {
    DYNAMIC_SHARED(float, s);  // (32, 12)
    int lane = threadIdx.x;
    float* mine = s + 12 * lane;
    cp_async_16(mine, in + 4 * lane, true);
    cp_async_16(mine + 4, nowhere, false);
    cp_async_4(mine + 8, in + lane, true);
    cp_async_4(mine + 9, in, false);
    cp_async_commit();
    cp_async_wait<0>();
    const int at[6] = {0, 3, 4, 7, 8, 9};
    for (int i = 0; i < 6; i++) out[lane * 6 + i] = mine[at[i]];
}
static __global__ void exp2_kernel(float* out, const float* in, uint32_t* packed) {
    out[threadIdx.x] = fast_exp2(in[threadIdx.x]);
    packed[threadIdx.x] = pack_bf16(in[threadIdx.x], -in[threadIdx.x]);
}
TEST_CASE("mma: the layout of the PTX manual") {
    auto a = noise<float>(256, 1), b = noise<float>(128, 1), d = noise<float>(128);
    for (float& x : a) x = std::round(x * 8);  // small integers: sums are exact
    for (float& x : b) x = std::round(x * 8);
    for (float& x : d) x = std::round(x * 8);
    std::vector<float> want = d;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++)
            for (int k = 0; k < 16; k++) want[i * 8 + j] += a[i * 16 + k] * b[k * 8 + j];
    Device<float> d_a(a), d_b(b), d_d(d);
    launch(mma_kernel, 1, 32, 0, d_d.p, (const float*)d_a, (const float*)d_b);
    CHECK(d_d.get() == want);
}
TEST_CASE("ldmatrix: the layout of the PTX manual") {
    Device<float> d_out(nothing<float>(32 * 16));
    launch(ldmatrix_kernel, 1, 32, 4 * 8 * 8 * sizeof(bf16), d_out.p);
    std::vector<float> out = d_out.get();
    int bad = 0;
    for (int lane = 0; lane < 32; lane++)
        for (int m = 0; m < 4; m++)
            // thread r gets of matrix m row r / 4, elements 2 (r % 4) and the next; with .trans of the transpose
            for (int i = 0; i < 2; i++) {
                int row = lane / 4, col = lane % 4 * 2 + i;
                bad += out[lane * 16 + 2 * m + i] != 64 * m + 8 * row + col;
                bad += out[lane * 16 + 8 + 2 * m + i] != 64 * m + 8 * col + row;
            }
    CHECK(bad == 0);
}
TEST_CASE("cp.async: 16 bytes, 4, and zeros") {
    auto in = noise<float>(128);
    Device<float> d_in(in), d_out(nothing<float>(32 * 6)), d_nothing(nothing<float>(4));
    launch(copies_kernel, 1, 32, 32 * 12 * sizeof(float), d_out.p, (const float*)d_in, (const float*)d_nothing);
    std::vector<float> out = d_out.get();
    int bad = 0;
    for (int l = 0; l < 32; l++) {
        const float want[6] = {in[4 * l], in[4 * l + 3], 0, 0, in[l], 0};
        for (int i = 0; i < 6; i++) bad += out[l * 6 + i] != want[i];
    }
    CHECK(bad == 0);
}
TEST_CASE("exp2 and rounding to bf16") {
    std::vector<float> in = {0, 1, -1, 0.5f, -0.3f, -126, -127, -150, -1e30f, -INFINITY, 127, 130, 3.14159f,
        1.00390625f, 1.01171875f, -17.77f};
    Device<float> d_in(in), d_out(in);
    Device<uint32_t> d_packed(std::vector<uint32_t>(in.size()));
    launch(exp2_kernel, 1, (unsigned)in.size(), 0, d_out.p, (const float*)d_in, d_packed.p);
    auto out = d_out.get();
    auto packed = d_packed.get();
    for (size_t i = 0; i < in.size(); i++) {
        CAPTURE(in[i]);
        float want = std::exp2(in[i]);
        if (in[i] < -126) want = 0;
        CHECK((out[i] == want || fabsf(out[i] - want) <= 2 * 1.1920929e-7f * want));
        bf16 low = in[i], high = -in[i];
        uint16_t a, b;
        memcpy(&a, &low, 2);
        memcpy(&b, &high, 2);
        CHECK(packed[i] == ((uint32_t)a | (uint32_t)b << 16));
    }
}

int main(int argc, char** argv) { return run_kernel_tests("test_ptx", argc, argv); }
