// close.h: are two results as close as the order of summation and the rounding to their type explain? Include after
// kernels.h.
#pragma once
constexpr float EPS = 1.1920929e-7f;    // an ulp of fp32, relative
constexpr float BF16_ULP = 1.0f / 128;  // the largest ulp of bf16, relative: 8 bits of significand

// Both sides compute in fp32 and differ in the order of summation (and on a GPU in fused multiply-add, exp and tanh,
// which are good to a few ulp). Adding `length` terms in another order moves a sum by about sqrt(length) ulp of the
// size of its terms, for which we take the largest element of the tensor, or `size` where all sums may be smaller than
// their terms; the factor 4 covers the tails and the functions. A result stored in bf16 may then be rounded the other
// way: one ulp of bf16 (`roundings` of them, where a stored value enters the next one). A function in the middle, whose
// two forms differ by 4 EPS and less, is multiplied afterwards: by slope[i], if there is one for each element.
template <class T> void check(const char* what, const std::vector<T>& got, const std::vector<T>& want,
    double length = 1, int roundings = 1, double size = 0, const std::vector<double>& slope = {}) {
    REQUIRE(got.size() == want.size());
    double largest = size, worst = 0;
    size_t at = 0;
    for (const T& x : want)
        if (std::isfinite((float)x)) largest = std::max(largest, (double)fabsf((float)x));
    for (size_t i = 0; i < got.size(); i++) {
        double g = (float)got[i], w = (float)want[i], terms = std::sqrt(length) * largest + fabs(w);
        double limit = 4 * EPS * (terms + (slope.empty() ? 0 : slope[i])) + 1e-37;
        if (std::is_same_v<T, bf16>) limit += roundings * BF16_ULP * fabs(w) + (roundings - 1) * BF16_ULP * largest;
        bool same = g == w || (std::isnan(g) && std::isnan(w));
        double error = same ? 0 : std::isfinite(g) && std::isfinite(w) ? fabs(g - w) / limit : 1e30;
        if (error > worst) {
            worst = error;
            at = i;
        }
    }
    for (const T& x : got) {
        float f = (float)x;
        uint32_t u;
        memcpy(&u, &f, 4);
        bits = mix64(bits, u);
    }
    if (getenv("TEST_VERBOSE"))
        printf("%-32s %-5s %8zu elements, worst %.3f of the limit\n", what, sizeof(T) == 2 ? "bf16" : "fp32",
            got.size(), worst);
    std::string said = worst <= 1 ? ""
                                  : format("%s: element %zu of %zu is %.9g, the loops say %.9g: %.3g times the limit",
                                        what, at, got.size(), (double)(float)got[at], (double)(float)want[at], worst);
    INFO(said);
    CHECK(worst <= 1);
}
#define EXACTLY(what, got, want) CHECK_MESSAGE(same_bits(got, want), what " differs")
