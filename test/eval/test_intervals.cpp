// test_intervals.cpp: intervals of proportions and of gains: by hand, by their definition, and by how often they hold
// the truth.
#include "common/eval/intervals.h"

#include <doctest/doctest.h>

static doctest::Approx about(double x) { return doctest::Approx(x).epsilon(1e-12); }

TEST_CASE("intervals: Wilson's interval") {
    // 50 of 100, z² = 3.841458820694124: 0.5 ± z √(0.25 / 100 + z² / 40000) / (1 + z² / 100)
    auto [lo, hi] = wilson_interval(50, 100);
    CHECK(lo == doctest::Approx(0.4038315).epsilon(1e-6));
    CHECK(hi == doctest::Approx(0.5961685).epsilon(1e-6));
    const double z2 = 3.841458820694124;
    auto [lo0, hi0] = wilson_interval(0, 10);
    CHECK(lo0 < 1e-15);
    CHECK(hi0 == about(z2 / (10 + z2)));
    auto [lo1, hi1] = wilson_interval(10, 10);
    CHECK(lo1 == about(10 / (10 + z2)));
    CHECK(hi1 == about(1));
    CHECK((wilson_interval(0, 0) == std::pair<double, double>{0, 1}));
    // its ends are where the share is exactly z standard deviations away: (p̂ − p)² = z² p (1 − p) / n
    for (int n : {1, 7, 872})
        for (int right = 0; right <= n; right += std::max(1, n / 7)) {
            auto [a, b] = wilson_interval(right, n);
            for (double p : {a, b})
                CHECK((double(right) / n - p) * (double(right) / n - p) ==
                      doctest::Approx(z2 * p * (1 - p) / n).epsilon(1e-9));
            CHECK((a <= double(right) / n + 1e-12 && double(right) / n <= b + 1e-12));
        }
    int outside = 0;  // never below 0, which would print as -0.00, nor above 1
    for (int n = 1; n <= 2000; n++)
        outside += std::signbit(wilson_interval(0, n).first) || wilson_interval(n, n).second > 1;
    CHECK(outside == 0);
}

TEST_CASE("intervals: mean and standard deviation") {
    auto [mean, sd] = mean_and_sd({1, 2, 3, 4});
    CHECK(mean == about(2.5));
    CHECK(sd == about(std::sqrt(5.0 / 3)));
    CHECK((mean_and_sd({0.7}) == std::pair<double, double>{0.7, 0}));
}

TEST_CASE("intervals: paired bootstrap") {
    auto run = [](const std::vector<double>& a, const std::vector<double>& b, uint64_t seed) {
        return paired_bootstrap_interval(a, b, seed);
    };
    // a normal sample: the percentiles are mean +- 1.96 sd / sqrt(n). 10,000 draws know a percentile to about 0.03
    // standard errors; 0.1 is three times that
    std::vector<double> a, b;
    for (int i = 0; i < 400; i++) {
        double hard = 5 * normal(mix64(1, i));  // what both sides share goes out: that is what pairs are for
        a.push_back(hard + 0.5 + normal(mix64(2, i)));
        b.push_back(hard);
    }
    std::vector<double> difference;
    for (size_t i = 0; i < a.size(); i++) difference.push_back(a[i] - b[i]);
    auto [mean, sd] = mean_and_sd(difference);
    double error = sd / std::sqrt(400.0);
    Interval x = run(a, b, 7), again = run(a, b, 7), other = run(a, b, 8), turned = run(b, a, 7);
    CHECK(x.mean == doctest::Approx(mean).epsilon(1e-12));
    CHECK(std::fabs(x.low - (mean - 1.96 * error)) < 0.1 * error);
    CHECK(std::fabs(x.high - (mean + 1.96 * error)) < 0.1 * error);
    CHECK((x.low == again.low && x.high == again.high));
    CHECK((x.low != other.low && x.high != other.high));
    CHECK((turned.mean == about(-x.mean) && turned.low == about(-x.high) &&
           turned.high == about(-x.low)));  // the same tasks are drawn
    // too few tasks: no interval to speak of; equal differences: one without width
    CHECK((run({0.75}, {0.5}, 1).mean == 0.25 && !run({0.75}, {0.5}, 1).known &&
           !run({1, 2, 3, 4, 5}, {0, 1, 2, 3, 4}, 1).known));
    Interval equal = run({1, 2, 3, 4, 5, 6}, {0, 1, 2, 3, 4, 5}, 1);
    CHECK((equal.known && equal.low == 1 && equal.high == 1));
    // three of many differ: what the others might do is not known
    CHECK((!run({1, 1, 1, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0}, 1).known &&
           run({1, 1, 1, 0, 0, 0, 0}, {0, 0, 0, 1, 0, 0, 0}, 1).known));
    // nine tasks, four of which differ by 1: the draws' sums are binomial, P(8 or more of 9) = 0.0083. Cut off on each
    // side are Φ(−t √(9/8)) = 0.0072, so the end is at 8/9; without the root it would be 0.0106, and the end at 7/9.
    // 200,000 draws know 0.0083 to 0.0002.
    CHECK(paired_bootstrap_interval({1, 1, 1, 1, 0, 0, 0, 0, 0}, std::vector<double>(9, 0.0), 5, 200000).high ==
          about(8.0 / 9));
    CHECK_THROWS_AS(run({1, 2}, {1}, 1), Error);
    CHECK_THROWS_AS(run({}, {}, 1), Error);
}

TEST_CASE("intervals: the interval of a few tasks holds the truth in 95 of 100 samples") {
    // normal differences around 0. 2,000 samples know a share of 95 % to 0.5 % (one deviation), four of which are
    // allowed; the plain percentiles would hold it in 87.2, 88.3, 90.4 and 92.5 % of these.
    for (int n : {6, 7, 12, 24}) {
        int held = 0;
        for (int s = 0; s < 2000; s++) {
            std::vector<double> a, b(n, 0.0);
            for (int i = 0; i < n; i++) a.push_back(normal(mix64(3, s, i)));
            Interval x = paired_bootstrap_interval(a, b, s, 2000);
            held += x.low <= 0 && 0 <= x.high;
        }
        CAPTURE(n);
        MESSAGE(n << " tasks: " << held / 20.0 << " %");
        CHECK(std::fabs(held / 2000.0 - 0.95) < 0.02);
    }
    // gains in [0, 1), most of which are 0: an interval that misses the mean is given for at most 5 % of the samples
    // (0.5 % is one deviation). Without the rule on how many must differ that would be 38, 19, 11 and 6 %.
    for (auto [count, zeros] : {std::pair<int, double>{11, 0.9}, {24, 0.9}, {11, 0.7}, {24, 0.7}}) {
        const int n = count;
        int given = 0, missed = 0;
        for (int s = 0; s < 2000; s++) {
            std::vector<double> a, b(n, 0.0);
            for (int i = 0; i < n; i++) a.push_back(uniform(mix64(5, s, i)) < zeros ? 0 : uniform(mix64(6, s, i)));
            Interval x = paired_bootstrap_interval(a, b, s, 2000);
            given += x.known;
            missed += x.known && !(x.low <= (1 - zeros) / 2 && (1 - zeros) / 2 <= x.high);
        }
        CAPTURE(n);
        MESSAGE(n << " tasks, " << 100 * zeros << " % of them 0: given for " << given / 20.0 << " %, wrong for "
                  << missed / 20.0 << " %");
        CHECK(given > 20);
        CHECK(missed < 0.065 * 2000);
    }
}
