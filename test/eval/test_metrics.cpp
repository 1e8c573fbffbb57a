// test_metrics.cpp: the metrics of a classifier, worked out by hand. test/hf compares them with scikit-learn's.
#include "common/eval/metrics.h"

#include <doctest/doctest.h>

static ConfusionMatrix confusion(int K, std::vector<int64_t> rows) {
    ConfusionMatrix c(K);
    REQUIRE(rows.size() == c.count.size());
    for (int i = 0; i < K * K; i++)
        for (int64_t n = 0; n < rows[i]; n++) c.add(i / K, i % K);
    CHECK(c.count == rows);
    return c;
}
static doctest::Approx about(double x) { return doctest::Approx(x).epsilon(1e-12); }

TEST_CASE("metrics: two classes") {
    // gold 0: 50 right, 10 taken for 1; gold 1: 5 taken for 0, 35 right
    ConfusionMatrix c = confusion(2, {50, 10, 5, 35});
    CHECK(c.total() == 100);
    CHECK(c.correct() == 85);
    CHECK(c.accuracy() == about(0.85));
    CHECK((c.gold(0) == 60 && c.gold(1) == 40));
    CHECK((c.predicted(0) == 55 && c.predicted(1) == 45));
    CHECK(c.precision(0) == about(50.0 / 55));
    CHECK(c.precision(1) == about(35.0 / 45));
    CHECK(c.recall(0) == about(50.0 / 60));
    CHECK(c.recall(1) == about(35.0 / 40));
    CHECK(c.f1(0) == about(100.0 / 115));  // 2 tp / (2 tp + fp + fn)
    CHECK(c.f1(1) == about(70.0 / 85));
    CHECK(c.macro_f1() == about((100.0 / 115 + 70.0 / 85) / 2));
    CHECK(c.mcc() ==
          about((50.0 * 35 - 10.0 * 5) / std::sqrt(60.0 * 40 * 55 * 45)));  // (tp tn − fp fn) / √…, Matthews 1975
}

TEST_CASE("metrics: three classes") {
    ConfusionMatrix c = confusion(3, {3, 1, 0, 0, 2, 2, 1, 0, 4});  // n = 13, 9 right; gold 4 4 5, taken for 4 3 6
    CHECK(c.accuracy() == about(9.0 / 13));
    CHECK(c.precision(0) == about(3.0 / 4));
    CHECK(c.recall(0) == about(3.0 / 4));
    CHECK(c.precision(1) == about(2.0 / 3));
    CHECK(c.recall(1) == about(2.0 / 4));
    CHECK(c.precision(2) == about(4.0 / 6));
    CHECK(c.recall(2) == about(4.0 / 5));
    CHECK(c.f1(1) == about(4.0 / 7));
    CHECK(c.macro_f1() == about((6.0 / 8 + 4.0 / 7 + 8.0 / 11) / 3));
    // (13 · 9 − (4·4 + 4·3 + 5·6)) / √((13² − (16 + 9 + 36)) (13² − (16 + 16 + 25)))
    CHECK(c.mcc() == about(59 / std::sqrt(108.0 * 112)));
}

TEST_CASE("metrics: perfect, perverse, and nothing to divide by") {
    ConfusionMatrix perfect = confusion(2, {3, 0, 0, 4}), perverse = confusion(2, {0, 3, 4, 0}),
                    one = confusion(3, {0, 7, 0, 0, 5, 0, 0, 0, 0}), none(2);
    CHECK((perfect.accuracy() == 1 && perfect.macro_f1() == 1 && perfect.mcc() == about(1)));
    CHECK((perverse.accuracy() == 0 && perverse.macro_f1() == 0 && perverse.mcc() == about(-1)));
    // all were taken for class 1; class 2 is neither in the data nor in the predictions, and counts as 0
    CHECK(one.accuracy() == about(5.0 / 12));
    CHECK((one.precision(0) == 0 && one.recall(0) == 0 && one.f1(0) == 0));
    CHECK((one.precision(1) == about(5.0 / 12) && one.recall(1) == 1));
    CHECK((one.precision(2) == 0 && one.recall(2) == 0 && one.f1(2) == 0));
    CHECK(one.macro_f1() == about(10.0 / 17 / 3));
    CHECK(one.mcc() == 0);
    CHECK((none.accuracy() == 0 && none.macro_f1() == 0 && none.mcc() == 0 && none.total() == 0));
}
