// test_metrics.cpp: the metrics of a classifier, worked out by hand. test/hf compares them with scikit-learn's.
#include "common/eval/classification_report.h"

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

TEST_CASE("metrics: the most frequent class, and when an accuracy says little") {
    auto report = [](int K, std::vector<int64_t> rows) {
        ClassificationReport r({"no", "yes", "perhaps"});
        r.labels.resize(K);
        r.confusion = confusion(K, rows);
        return r;
    };
    auto has = [](const std::string& text, const char* part) { return text.find(part) != text.npos; };
    ClassificationReport good = report(2, {50, 10, 5, 35});
    CHECK((good.confusion.majority() == 0 && good.confusion.majority_accuracy() == about(0.6)));
    CHECK(good.warning() == "");
    CHECK(has(good.line(), "; always the most frequent class: 60.00 %)"));
    CHECK(good.json().find("majority_class")->s == "no");
    // 684 of 1000 right where 686 are "yes"; and 720, whose interval begins at 69.1
    ClassificationReport bad = report(2, {100, 214, 102, 584}), better = report(2, {150, 164, 116, 570});
    CHECK(has(bad.warning(), "68.40 % is not shown to be better than that of always answering \"yes\", 68.60 %"));
    CHECK((bad.confusion.majority() == 1 && better.warning() == ""));
    CHECK(has(report(2, {150, 164, 122, 564}).warning(), "71.40 % is not shown"));  // its interval begins at 68.52 ...
    CHECK(report(2, {150, 164, 121, 565}).warning() == "");                         // ... and that of 71.5 at 68.62
    CHECK(has(report(3, {0, 7, 0, 0, 5, 0, 0, 3, 0}).warning(), "takes every example for \"yes\""));
    CHECK(has(report(2, {7, 0, 0, 0}).warning(), "all 7 examples are \"no\""));
    CHECK((report(2, {0, 0, 0, 0}).warning() == "" && ConfusionMatrix(2).majority_accuracy() == 0));
}

TEST_CASE("metrics: a dev split that cannot tell epochs apart") {
    CHECK(doubtful_choice({0.8}, 20) == "");  // there was no choice
    const std::string text = doubtful_choice({0.3, 0.8, 0.75}, 20);
    // Wilson: (0.8 + 0.09604 +- 1.96 sqrt(0.008 + 0.0024)) / 1.19207: 58.40 to 91.93; 0.3 is outside
    CHECK(text.find("80.00 % of n = 20, has the 95 % interval 58.40 to 91.93, which holds 1 of the 2 other") !=
          text.npos);
    CHECK(doubtful_choice({0.3, 0.8, 0.5}, 20) == "");     // one is clearly the best
    CHECK(doubtful_choice({0.3, 0.8, 0.79}, 1000) == "");  // known to 2.5 points
}
