// intervals.h: how sure a number is: Wilson's interval of a proportion, mean and standard deviation over runs, and the
// paired bootstrap interval of the difference between two systems.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/errors.h"
#include "common/base/rng.h"

// Wilson's interval for a proportion, `right` of n, at 95 % (Wilson 1927): within [0, 1], and honest for small n
inline std::pair<double, double> wilson_interval(double right, double n) {
    if (n == 0) return {0, 1};
    const double z = 1.959963984540054;  // 97.5 % of a normal distribution
    double p = right / n;
    double centre = p + z * z / (2 * n);
    double half = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    double scale = 1 + z * z / n;
    // rounding may take it 1e-17 beyond [0, 1]
    return {std::max(0.0, (centre - half) / scale), std::min(1.0, (centre + half) / scale)};
}

// Mean and sample standard deviation of some runs
inline std::pair<double, double> mean_and_sd(const std::vector<double>& x) {
    double mean = 0, sum = 0;
    for (double v : x) mean += v / (double)x.size();
    for (double v : x) sum += (v - mean) * (v - mean);
    return {mean, x.size() > 1 ? std::sqrt(sum / (double)(x.size() - 1)) : 0};
}

// The 95 % confidence interval of a gain
struct Interval {
    double mean, low, high;
    bool known;  // else too few tasks, or too few that differ, for low and high
};
// Is a better than b? a[i] and b[i] are two scores of the same task i. The mean of a[i] − b[i] with its 95 % interval
// by the bootstrap: 10,000 draws of as many tasks, with replacement (Efron 1979). With n tasks the draws spread too
// little, by (n − 1) / n and by what Student's t is wider than the normal distribution: instead of 2.5 % on each side
// Φ(−t √(n / (n − 1))) is cut off, t being the 97.5 % point for n − 1 degrees of freedom (Hesterberg 2015, "expanded
// percentiles"; test_intervals.cpp counts how often it holds the truth). Of fewer than 6 tasks, or of fewer than 4
// whose scores differ at all, nothing is said: where most tasks stay at zero the draws know nothing of those that might
// not have. The same seed draws the same tasks.
inline Interval paired_bootstrap_interval(
    const std::vector<double>& a, const std::vector<double>& b, uint64_t seed, size_t draws = 10000) {
    if (a.size() != b.size() || a.empty())
        fail("paired bootstrap: expected as many scores on both sides, at least one, found %zu and %zu", a.size(),
            b.size());
    const size_t n = a.size();
    double sum = 0;
    size_t differ = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a[i] - b[i];
        differ += a[i] != b[i];
    }
    if (n < 6 || differ < 4) return {sum / (double)n, NAN, NAN, false};
    std::vector<double> means(draws);
    for (size_t d = 0; d < draws; d++) {
        double drawn = 0;
        for (size_t k = 0; k < n; k++) {
            size_t i = below(mix64(seed, d, k), n);
            drawn += a[i] - b[i];
        }
        means[d] = drawn / (double)n;
    }
    std::sort(means.begin(), means.end());
    // Student's t expanded around the normal distribution's z (Abramowitz and Stegun 26.7.5): 0.2 % too small for n = 6
    const double z = 1.959963984540054, v = (double)(n - 1), z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    const double t = z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
                     (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v);
    size_t cut = (size_t)((double)draws * std::erfc(t * std::sqrt((double)n / v) / std::sqrt(2.0)) / 2);
    return {sum / (double)n, means[cut], means[draws - 1 - cut], true};
}
