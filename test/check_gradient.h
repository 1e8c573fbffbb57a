// check_gradient.h: is a gradient the derivative of a loss? By central differences in double. Include after small.h.
#pragma once
static_assert(std::is_same_v<real, double>, "build with -DPRECISION_FP64");
typedef std::vector<double> Numbers;
inline const bool one_thread = (omp_set_num_threads(1), true);  // the work is tiny; test_ops shows that the bits are the same with more

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

// Is g the derivative of loss() by x (n elements)? |fd − g| ≤ 1e-6 max(|fd|, |g|) + 1e-9 max|g|. All elements if there are at most `most`,
// else the 10 of the largest gradient and a random choice.
// fd = (loss(x + h) − loss(x − h)) / 2h, h = 1e-4. Its own error, h²/6 of the third derivative plus rounding / h, is ten times below
// the tolerance for 99 % of the elements; where it is not, (4 fd(h) − fd(2h)) / 3 decides, which has no term in h².
template <class Loss>
inline void check_gradient(const std::string& name, double* x, const double* g, size_t n, Loss loss, size_t most = 200) {
    std::vector<size_t> at(n);
    for (size_t i = 0; i < n; i++) at[i] = i;
    if (n > most) {
        std::partial_sort(at.begin(), at.begin() + 10, at.end(), [&](size_t a, size_t b) { return fabs(g[a]) > fabs(g[b]); });
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
        auto good = [&](double fd) { return fabs(fd - g[i]) <= 1e-6 * std::max(fabs(fd), fabs(g[i])) + 1e-9 * largest; };  // false for NaN
        double fd = difference(i, 1e-4);
        if (!good(fd)) fd = (4 * fd - difference(i, 2e-4)) / 3;
        if (good(fd)) continue;
        if (bad++ == 0) worst = format("element %zu: gradient %.12g, difference %.12g (largest gradient %.3g)", i, g[i], fd, largest);
    }
    loss();  // leaves what it computes as it was
    CHECK_MESSAGE(bad == 0, name, ": ", bad, " of ", at.size(), " elements are wrong; ", worst);
}
template <class Loss>
inline void check_gradient(const std::string& name, Numbers& x, const Numbers& g, Loss loss, size_t most = 200) {
    REQUIRE(x.size() == g.size());
    check_gradient(name, x.data(), g.data(), x.size(), loss, most);
}
