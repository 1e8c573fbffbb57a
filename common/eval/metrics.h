// metrics.h: how good a classifier is, from its confusion matrix: accuracy, precision, recall, F1, macro F1 and
// Matthews' correlation coefficient, equal to scikit-learn's (test/hf). How sure they are: intervals.h.
#pragma once
#include <stdint.h>

#include <cmath>
#include <numeric>
#include <vector>

struct ConfusionMatrix {
    int K;                       // classes
    std::vector<int64_t> count;  // (K, K) [gold][predicted]

    explicit ConfusionMatrix(int K = 0) : K(K), count((size_t)K * K, 0) {}
    void add(int gold, int predicted) { count[(size_t)gold * K + predicted]++; }
    int64_t at(int gold, int predicted) const { return count[(size_t)gold * K + predicted]; }
    int64_t gold(int k) const {  // examples of class k
        return std::accumulate(count.begin() + (size_t)k * K, count.begin() + (size_t)(k + 1) * K, (int64_t)0);
    }
    int64_t predicted(int k) const {  // examples taken for class k
        int64_t n = 0;
        for (int i = 0; i < K; i++) n += at(i, k);
        return n;
    }
    int majority() const {  // the most frequent class; of equals the first
        int most = 0;
        for (int k = 1; k < K; k++)
            if (gold(k) > gold(most)) most = k;
        return most;
    }
    // of answering always that
    double majority_accuracy() const { return total() ? (double)gold(majority()) / (double)total() : 0; }
    int64_t total() const { return std::accumulate(count.begin(), count.end(), (int64_t)0); }
    int64_t correct() const {
        int64_t n = 0;
        for (int k = 0; k < K; k++) n += at(k, k);
        return n;
    }
    // 0 where there is nothing to divide by
    double accuracy() const { return total() ? (double)correct() / (double)total() : 0; }
    double precision(int k) const { return predicted(k) ? (double)at(k, k) / (double)predicted(k) : 0; }
    double recall(int k) const { return gold(k) ? (double)at(k, k) / (double)gold(k) : 0; }
    double f1(int k) const {  // harmonic mean of precision and recall
        int64_t both = gold(k) + predicted(k);
        return both ? 2.0 * (double)at(k, k) / (double)both : 0;
    }
    // Mean over all K classes, also those that do not occur here (scikit-learn: labels=range(K))
    double macro_f1() const {
        double sum = 0;
        for (int k = 0; k < K; k++) sum += f1(k);
        return sum / K;
    }
    // Matthews' correlation coefficient for K classes (Gorodkin 2004)
    double mcc() const {
        double n = (double)total(), c = (double)correct(), pt = 0, pp = 0, tt = 0;
        for (int k = 0; k < K; k++) {
            double t = (double)gold(k), p = (double)predicted(k);
            pt += p * t;
            pp += p * p;
            tt += t * t;
        }
        double below = std::sqrt((n * n - pp) * (n * n - tt));
        return below > 0 ? (c * n - pt) / below : 0;
    }
};
