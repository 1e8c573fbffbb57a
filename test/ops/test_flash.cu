// test_flash.cu: attention in bf16 (flash.cuh) against the loops in double.
//   g++ -x c++ -DSHIM    the kernels run on the CPU; SHIM_ORDER=forward|reverse|random picks the order of blocks and
//                        threads
//   nvcc                 the kernels run on the GPU
//   TEST_SMALL=1         smaller shapes, for the sanitizers
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "common/ops/attention.cuh"
#include "test/ops/kernels.h"

// ---------------------------------------------------------------- bank conflicts
// Shared memory answers 8 lanes with 16 bytes each at once if they touch all 32 banks: all 8 places of 16 bytes within
// 128.
template <int HS> void test_banks(int rows) {
    auto conflicts = [](auto place) {  // of 8 accesses, element numbers
        unsigned seen = 0;
        for (int i = 0; i < 8; i++) seen |= 1u << place(i) * 2 % 128 / 16;
        return seen != 0xff;
    };
    int bad = 0, bad_places = 0;
    std::vector<int> used((size_t)rows * HS / 8);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < HS / 8; c++) used[gpu::swizzle<HS>(r, c) / 8]++;
    for (int n : used) bad_places += n != 1;
    for (int r0 = 0; r0 < rows; r0 += 8)
        for (int c = 0; c < HS / 8; c++)
            bad += conflicts([&](int i) { return gpu::swizzle<HS>(r0 + i, c); });  // ldmatrix: 8 rows
    for (int i0 = 0; i0 < rows * HS / 8; i0 += 8)
        bad += conflicts([&](int i) {
            return gpu::swizzle<HS>((i0 + i) / (HS / 8), (i0 + i) % (HS / 8));
        });  // cp.async and copy_16: along rows
    for (int row = 0; row < rows;
        row += 16)  // store_4: lane 4g + t writes 4 bytes of row g (or g + 8): all banks different
        for (int c = 0; c < HS / 8; c++)
            for (int half = 0; half < 16; half += 8) {
                unsigned banks = 0;
                for (int l = 0; l < 32; l++)
                    banks |= 1u << (gpu::swizzle<HS>(row + half + l / 4, c) * 2 / 4 + l % 4) % 32;
                bad += banks != ~0u;
            }
    for (int k = 0; k < HS; k += 16)  // the places of a block of 16 × 16, as the kernels make them from those at (0, 0)
        for (int row = 0; row < rows; row += 16)
            for (int l = 0; l < 32; l++) {
                bad_places += (row * HS + (gpu::swizzle<HS>(l % 16, l / 16) ^ k)) !=
                              gpu::swizzle<HS>(row + l % 16, k / 8 + l / 16);
                bad_places += (row * HS + (gpu::swizzle<HS>(l % 8 + l / 16 * 8, l / 8 % 2) ^ k)) !=
                              gpu::swizzle<HS>(row + l % 8 + l / 16 * 8, k / 8 + l / 8 % 2);
            }
    CHECK(bad == 0);
    CHECK(bad_places == 0);
}
TEST_CASE("tiles in shared memory: every element has a place, and no two of an access the same bank") {
    test_banks<32>(128);
    test_banks<64>(128);
    test_banks<128>(128);
}

// ---------------------------------------------------------------- attention
// The definition, in double, and beside every result the sum of the absolute values of its terms. A bf16 is within U =
// 2⁻⁸ of what was rounded (8 bits of significand, to nearest). The kernels round p and ds, which the last products sum,
// and the result: so a result x that is the sum of terms x_j errs by at most U Σ|x_j| + U|x|. To that comes fp32:
// scores and dp are sums of HS products, good to some ulp of the sum of their absolute values, and exp makes the
// absolute error of a score a relative one of p. `fine` counts what these errors are proportional to.
constexpr double U = 1.0 / 256;

struct Result {
    std::vector<double> x, terms, squares, fine;
    explicit Result(size_t n) : x(n), terms(n), squares(n), fine(n) {}
    void add(size_t i, double term, double size) {
        x[i] += term;
        terms[i] += fabs(term);
        squares[i] += term * term;
        fine[i] += size;
    }
};
struct Expected {
    Result out, dqkv;
    std::vector<double> lse;
    double largest = 0;  // Σ|q k| / √HS of all scores
};
// lse and out of the backward pass are given: what the kernels get, too
template <class T> Expected definition(const std::vector<T>& qkv, const std::vector<T>& dout,
    const std::vector<int>& start, int NH, int NKV, int HS, Reach reach, Dropout dropout) {
    int N = start.back(), C = NH * HS;
    Expected e{Result((size_t)N * C), Result((size_t)N * (NH + 2 * NKV) * HS), std::vector<double>((size_t)NH * N)};
    // element c of what head h of the queries uses as its query (0), key (1) or value (2)
    auto at = [&](int n, int which, int h, int c) {
        int head = which == 0 ? h : NH + (which - 1) * NKV + h * NKV / NH;
        return ((size_t)n * (NH + 2 * NKV) + head) * HS + c;
    };
    auto in = [&](int n, int which, int h, int c) { return (double)(float)qkv[at(n, which, h, c)]; };
    double scale = 1 / std::sqrt((double)HS);
    for (size_t s = 0; s + 1 < start.size(); s++)
        for (int h = 0; h < NH; h++)
            for (int i = start[s]; i < start[s + 1]; i++) {
                int first = std::max(start[s], i - reach.before), seen = std::min(start[s + 1], i + 1 + reach.after);
                std::vector<double> p;
                double sum = 0, lse, delta = 0;
                for (int j = first; j < seen; j++) {
                    double x = 0, size = 0;
                    for (int c = 0; c < HS; c++) {
                        x += in(i, 0, h, c) * in(j, 1, h, c) * scale;
                        size += fabs(in(i, 0, h, c) * in(j, 1, h, c)) * scale;
                    }
                    p.push_back(x);
                    e.largest = std::max(e.largest, size);
                }
                double top = *std::max_element(p.begin(), p.end());
                for (double x : p) sum += exp(x - top);
                lse = e.lse[(size_t)h * N + i] = top + log(sum);
                for (double& x : p) x = exp(x - (double)(float)lse);
                DropoutRow drop(dropout, i, NH, h);
                for (int j = first; j < seen; j++) {
                    double w = p[j - first] * (double)drop(j - start[s]);
                    for (int c = 0; c < HS; c++)
                        e.out.add((size_t)i * C + h * HS + c, w * in(j, 2, h, c), w * fabs(in(j, 2, h, c)));
                }
                for (int c = 0; c < HS; c++) {
                    size_t o = (size_t)i * C + h * HS + c;
                    delta += (double)(float)dout[o] * (double)(float)(bf16)(float)e.out.x[o];
                }
                for (int j = first; j < seen; j++) {
                    double dp = 0, size = fabs(delta), w = p[j - first], keep = drop(j - start[s]);
                    for (int c = 0; c < HS; c++) {
                        double d = (double)(float)dout[(size_t)i * C + h * HS + c] * keep;
                        dp += d * in(j, 2, h, c);
                        size += fabs(d * in(j, 2, h, c));
                        e.dqkv.add(at(j, 2, h, c), w * d, w * fabs(d));
                    }
                    for (int c = 0; c < HS; c++) {
                        double q = in(i, 0, h, c) * scale, k = in(j, 1, h, c) * scale, ds = w * (dp - delta);
                        e.dqkv.add(at(i, 0, h, c), ds * k, w * size * fabs(k));
                        e.dqkv.add(at(j, 1, h, c), ds * q, w * size * fabs(q));
                    }
                }
            }
    return e;
}
// The elements [from, to) of each row of a result. Every element is within its limit; and
// as the roundings err this way and that, their squares add up: in L2 the result is within U √(Σ x_j² + x²), of which
// random numbers reach some 40 %. Weights below 2⁻¹²⁶ are 0: the last term.
static void check(const char* what, const std::vector<bf16>& got, const Result& want, double largest, size_t row = 1,
    size_t from = 0, size_t to = 1) {
    double worst = 0, error2 = 0, norm2 = 0, fine2 = 0, fp32 = (16 + largest) * 0x1p-21;
    size_t at = 0;
    for (size_t i = 0; i < got.size(); i++) {
        if (i % row < from || i % row >= to) continue;
        double x = (double)(float)got[i], error = fabs(x - want.x[i]);
        double limit = U * (want.terms[i] + fabs(want.x[i])) * 1.01 + fp32 * want.fine[i] + 1e-34;
        if (!(error <= worst * limit)) {
            worst = std::isfinite(error) ? error / limit : INFINITY;
            at = i;
        }
        error2 += error * error;
        norm2 += want.squares[i] + want.x[i] * want.x[i];
        fine2 += want.fine[i] * want.fine[i];
    }
    double together = std::sqrt(error2) / (U * std::sqrt(norm2) + fp32 * std::sqrt(fine2) + 1e-37);
    if (getenv("TEST_VERBOSE"))
        printf("%-28s worst element %.3f of its limit, L2 %.3f of its limit\n", what, worst, together);
    std::string said = format("%s: element %zu is %.9g, not %.9g: %.3g times the limit; together %.3g", what, at,
        (double)(float)got[at], want.x[at], worst, together);
    INFO(said);
    CHECK(worst <= 1);
    CHECK(together <= 1);
}
static void add_bits(const std::vector<bf16>& x) { bits = fnv1a(x.data(), x.size() * sizeof(bf16), bits); }

static const std::vector<Reach> REACHES = {ALL_KEYS, CAUSAL, {9, 9}, {64, 64}};
enum Input {
    RANDOM,    // scores of standard deviation 2
    SHARP,     // of 40: p is nearly 0 or 1
    FAR_BELOW  // all around −200: lse, too
};
static void test_flash(const std::vector<int>& lengths, int NH, int NKV, int HS, Reach reach, float p,
    Input input = RANDOM, bool group = false) {
    Dice dice;
    std::vector<int> start, tiles;
    work_list(start, tiles, lengths, group);
    int N = start.back(), C = NH * HS, KV = NKV * HS, row = C + 2 * KV;
    CAPTURE(N);
    CAPTURE(NKV);
    CAPTURE(HS);
    CAPTURE(reach.before);
    CAPTURE(reach.after);
    CAPTURE(p);
    CAPTURE(input);
    CAPTURE(group);
    auto qkv = noise<bf16>((size_t)N * row, input == SHARP ? 6 : 1.5), dout = noise<bf16>((size_t)N * C);
    if (input == FAR_BELOW)
        for (size_t i = 0; i < qkv.size(); i++) {
            double shift = i % row < (size_t)C ? 1 : i % row < (size_t)(C + KV) ? -1 : 0;
            qkv[i] = (bf16)(float)((float)qkv[i] * 0.5 + shift * std::sqrt(200 / std::sqrt((double)HS)));
        }
    Device<int> d_start(start), d_tiles(tiles);
    Sequences here = {start.data(), tiles.data(), (int)start.size() - 1, (int)tiles.size() / 2, N}, there = here;
    there.start = d_start;
    there.tiles = d_tiles;
    Expected want = definition(qkv, dout, start, NH, NKV, HS, reach, dice.cpu(p));
    if (input == FAR_BELOW)
        CHECK(*std::max_element(want.lse.begin(), want.lse.end()) < -130);  // exp2(−lse) is beyond fp32

    // forward
    Device<bf16> d_qkv(qkv), d_dout(dout), d_out(nothing<bf16>((size_t)N * C));
    Device<float> d_lse(nothing<float>((size_t)NH * N));
    gpu::attention_forward<bf16>(d_out, d_lse, d_qkv, there, NH, NKV, HS, reach, dice.gpu(p));
    check("out", d_out.get(), want.out, want.largest);
    auto lse = d_lse.get();
    double worst = 0;  // a score is good to some ulp of its terms, a logarithm is, too
    for (size_t i = 0; i < lse.size(); i++)
        worst = std::max(worst, fabs(lse[i] - want.lse[i]) / ((16 + want.largest) * 0x1p-21));
    CHECK(worst <= 1);
    add_bits(d_out.get());

    // backward, of an out and lse that are the same everywhere
    std::vector<bf16> out;
    for (double x : want.out.x) out.push_back((bf16)(float)x);
    std::vector<float> float_lse(want.lse.begin(), want.lse.end());
    Device<bf16> c_out(out), d_dqkv(nothing<bf16>((size_t)N * row));
    Device<float> c_lse(float_lse), d_delta(nothing<float>((size_t)NH * N));
    gpu::attention_backward<bf16>(d_dqkv, d_delta, d_dout, c_out, d_qkv, c_lse, there, NH, NKV, HS, reach, dice.gpu(p));
    auto dqkv = d_dqkv.get();
    check("dq", dqkv, want.dqkv, want.largest, row, 0, C);
    check("dk", dqkv, want.dqkv, want.largest, row, C, C + KV);
    check("dv", dqkv, want.dqkv, want.largest, row, C + KV, row);
    add_bits(dqkv);

    // and the loops of attention.cuh in double say what the definition says
    if (N > 700) return;
    std::vector<double> qkv64, dout64, out64, o64((size_t)N * C), l64((size_t)NH * N), dqkv64((size_t)N * row),
        delta64(l64);
    for (bf16 x : qkv) qkv64.push_back((float)x);
    for (bf16 x : dout) dout64.push_back((float)x);
    for (bf16 x : out) out64.push_back((float)x);
    std::vector<double> lse64(float_lse.begin(), float_lse.end());
    cpu::attention_forward<double>(o64.data(), l64.data(), qkv64.data(), here, NH, NKV, HS, reach, dice.cpu(p));
    cpu::attention_backward<double>(dqkv64.data(), delta64.data(), dout64.data(), out64.data(), qkv64.data(),
        lse64.data(), here, NH, NKV, HS, reach, dice.cpu(p));
    double off = 0, lse_size = 0;
    for (double x : want.lse) lse_size = std::max(lse_size, fabs(x));
    for (size_t i = 0; i < o64.size(); i++)
        off = std::max(off, fabs(o64[i] - want.out.x[i]) / (want.out.fine[i] + 1e-30));
    CHECK(off <= 0x1p-24 * lse_size * 1.01 +
                     1e-12);  // the definition's p is exp(s − lse) with an lse that was rounded to float
    off = 0;
    for (size_t i = 0; i < dqkv64.size(); i++)
        off = std::max(off, fabs(dqkv64[i] - want.dqkv.x[i]) / (want.dqkv.fine[i] + 1e-30));
    CHECK(off < 1e-10);
}
TEST_CASE("flash attention: short sequences") {
    for (Reach reach : REACHES)
        for (float p : {0.0f, 0.1f}) {
            test_flash({1}, 1, 1, 64, reach, p);
            test_flash({1, 1, 3, 1}, 2, 2, 32, reach, p);
            test_flash({17}, 1, 1, 128, reach, p);
        }
}
TEST_CASE("flash attention: groups of heads") {  // dk and dv: from the last tile of one head to the first of the next
    for (Reach reach : REACHES)
        for (float p : {0.0f, 0.1f}) {
            test_flash({1, 30, 3}, 3, 1, 64, reach, p);
            test_flash({1, 30, 3}, 6, 2, 32, reach, p, RANDOM, true);
            test_flash({131}, 2, 1, 128, reach, p);
            if (small) continue;
            for (int HS : {64, 128}) test_flash({17, 64, 127, 1, 129}, 2, 1, HS, reach, p, RANDOM, reach.after == 0);
        }
    if (!small) test_flash({200}, 7, 1, 64, CAUSAL, 0.1f);
}
TEST_CASE("flash attention: several tiles") {  // each buffer is filled twice at least
    for (Reach reach : REACHES)
        for (float p : {0.0f, 0.1f}) {
            test_flash({130, 3}, 1, 1, 32, reach, p);
            test_flash({131}, 1, 1, 64, reach, p);
            test_flash({129}, 1, 1, 128, reach, p);
        }
}
TEST_CASE("flash attention: ragged" * doctest::skip(small)) {
    for (Reach reach : REACHES)
        for (float p : {0.0f, 0.1f})
            for (int HS : {32, 64, 128}) test_flash(ragged, 2, 2, HS, reach, p);
    test_flash({300, 513}, 1, 1, 64, ALL_KEYS, 0.5f);
    test_flash({300, 513}, 1, 1, 64, CAUSAL, 0.5f);
}
// Sequences that share tiles. The loops of attention.cuh do not look at the work list.
TEST_CASE("flash attention: several sequences in a tile") {
    for (Reach reach : REACHES)
        for (float p : {0.0f, 0.1f}) {
            test_flash({1, 1, 3, 1}, 2, 2, 32, reach, p, RANDOM, true);
            test_flash({7, 40, 30, 20, 16}, 1, 1, 64, reach, p, RANDOM,
                true);  // warps with one, two and three sequences
            test_flash({64, 64, 129, 128, 1, 127}, 1, 1, 32, reach, p, small ? FAR_BELOW : RANDOM, true);
            if (small) continue;
            for (int HS : {32, 64, 128}) test_flash(ragged, 2, 2, HS, reach, p, RANDOM, true);
            for (Input input : {SHARP, FAR_BELOW})
                test_flash({14, 9, 31, 70, 3, 5, 100, 32, 32, 32, 32, 200}, 1, 1, 64, reach, p, input, true);
            test_flash(std::vector<int>(150, 1), 1, 1, 64, reach, p, RANDOM, true);
        }
}
TEST_CASE("the work list: every token once, at most a tile at a time, what takes longest first") {
    for (bool group : {false, true})
        for (auto lengths : {std::vector<int>{1}, ragged, {300, 5, 0, 9, 128, 128, 1000, 14, 14, 14, 90, 0},
                 std::vector<int>(1000, 1)}) {
            std::vector<int> start, tiles;
            work_list(start, tiles, lengths, group);
            std::vector<int> seen(start.back());
            int before = 1 << 30, W = (int)tiles.size() / 2, groups = 0, entries = 0;
            for (int w = 0; w < W; w++) {
                int s = tiles[2 * w], i = tiles[2 * w + 1];
                if (s < 0) continue;
                int begin = start[s] + std::max(i, 0),
                    end = i < 0 ? start[s - i] : std::min(begin + ATTENTION_TILE, start[s + 1]);
                groups += i < 0;
                entries++;
                CHECK(end - begin <= ATTENTION_TILE);
                for (int n = begin; n < end; n++) seen[n]++;
                int len = i < 0 ? end - begin : start[s + 1] - start[s];
                CHECK(len <= before);
                before = len;
            }
            CHECK(std::count(seen.begin(), seen.end(), 1) == start.back());
            CHECK((group || groups == 0));
            if (lengths.size() == 1000) CHECK(entries == (group ? 8 : 1000));
        }
}
TEST_CASE("flash attention: weights of 0 and 1, and scores far below 0") {
    for (Input input : {SHARP, FAR_BELOW})
        for (Reach reach : REACHES) {
            test_flash({5, 70}, 1, 1, 32, reach, 0.1f, input);
            if (small) continue;
            test_flash({5, 70, 140}, 1, 1, 64, reach, 0, input);
            test_flash({5, 70, 140}, 1, 1, 128, reach, 0.1f, input);
        }
}
#ifndef __CUDACC__
TEST_CASE("three orders, the same bits") {
    check_three_orders(
        [] { test_flash(small ? std::vector<int>{3, 1} : std::vector<int>{65, 1, 200}, 2, 1, 32, CAUSAL, 0.1f); });
}
#endif

int main(int argc, char** argv) { return run_kernel_tests("test_flash", argc, argv); }
