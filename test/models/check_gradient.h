// check_gradient.h: is a gradient the derivative of a loss? By central differences in double.
#pragma once
#include <doctest/doctest.h>
#include <omp.h>

#include "test/models/small.h"

static_assert(std::is_same_v<real, double>, "build with -DPRECISION_FP64");
typedef std::vector<double> Numbers;
inline const bool one_thread = (omp_set_num_threads(1),
    true);  // the work is tiny; test_ops shows that the bits are the same with more

inline Numbers nans(size_t n) { return Numbers(n, NAN); }
inline double dot(const Numbers& a, const Numbers& b) {  // in long double: the rounding of the sum is not what we test
    long double sum = 0;
    for (size_t i = 0; i < a.size(); i++) sum += (long double)a[i] * b[i];
    return (double)sum;
}
inline Numbers minus(Numbers a, const Numbers& b) {
    for (size_t i = 0; i < a.size(); i++) a[i] -= b[i];
    return a;
}

// Is g the derivative of loss() by x (n elements)? |fd − g| ≤ 1e-6 max(|fd|, |g|) + 1e-9 max|g|. All elements if there
// are at most `most`, else the 10 of the largest gradient and a random choice. fd = (loss(x + h) − loss(x − h)) / 2h, h
// = 1e-4. Its own error, h²/6 of the third derivative plus rounding / h, is ten times below the tolerance for 99 % of
// the elements; where it is not, (4 fd(h) − fd(2h)) / 3 decides, which has no term in h².
template <class Loss> inline void check_gradient(
    const std::string& name, double* x, const double* g, size_t n, Loss loss, size_t most = 200) {
    std::vector<size_t> at(n);
    for (size_t i = 0; i < n; i++) at[i] = i;
    if (n > most) {
        std::partial_sort(
            at.begin(), at.begin() + 10, at.end(), [&](size_t a, size_t b) { return fabs(g[a]) > fabs(g[b]); });
        for (size_t i = 10; i < most; i++) std::swap(at[i], at[i + below(mix64(n, i), n - i)]);
        at.resize(most);
    }
    double largest = 0;
    for (size_t i = 0; i < n; i++) largest = std::max(largest, fabs(g[i]));
    auto difference = [&](size_t i, double h) {
        const double was = x[i];
        x[i] = was + h;
        double up = loss();
        x[i] = was - h;
        double down = loss();
        x[i] = was;
        return (up - down) / (2 * h);
    };
    size_t bad = 0;
    std::string worst;
    for (size_t i : at) {
        auto good = [&](double fd) {  // false for NaN
            return fabs(fd - g[i]) <= 1e-6 * std::max(fabs(fd), fabs(g[i])) + 1e-9 * largest;
        };
        double fd = difference(i, 1e-4);
        if (!good(fd)) fd = (4 * fd - difference(i, 2e-4)) / 3;
        if (good(fd)) continue;
        if (bad++ == 0)
            worst = format(
                "element %zu: gradient %.12g, difference %.12g (largest gradient %.3g)", i, g[i], fd, largest);
    }
    loss();  // leaves what it computes as it was
    CHECK_MESSAGE(bad == 0, name, ": ", bad, " of ", at.size(), " elements are wrong; ", worst);
}
template <class Loss>
inline void check_gradient(const std::string& name, Numbers& x, const Numbers& g, Loss loss, size_t most = 200) {
    REQUIRE(x.size() == g.size());
    check_gradient(name, x.data(), g.data(), x.size(), loss, most);
}

// The gradients of a small model: they add up in forward_backward(), the loss beside them is that of a forward pass,
// and what belongs to no tensor (rows beyond the vocabulary, what fills up tensors) has none. check(name, at, n,
// gradients) then looks at elements [at, at + n), a tensor.
template <class S, class Check> void check_model_gradients(S& small, const Batch& b, Check check) {
    Numbers before(small.opt.n);
    for (const ParamSpec& s : small.opt.table)
        for (size_t i = 0; i < s.used(); i++) before[s.offset + i] = normal(mix64(8, s.offset + i));
    std::copy(before.begin(), before.end(), small.opt.grads);
    StepStats stats{};
    small.model.forward_backward(b, &stats);
    Numbers added = minus(Numbers(small.opt.grads, small.opt.grads + small.opt.n), before), g = small.gradients(b);
    CHECK(distance(added.data(), g.data(), g.size()) < 1e-13);
    CHECK(stats.loss * *b.loss_scale == doctest::Approx(small.loss(b)).epsilon(1e-14));

    std::vector<char> used(small.opt.n);
    for_each_tensor(small.opt.table, [&](const std::string& name, size_t at, size_t n) {
        std::fill(&used[at], &used[at] + n, 1);
        check(name, at, n, g);
    });
    double outside = 0;
    for (size_t i = 0; i < small.opt.n; i++) outside += used[i] ? 0 : fabs(g[i]);
    CHECK(outside == 0);
}
