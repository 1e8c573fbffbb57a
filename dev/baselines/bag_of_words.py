#!/usr/bin/env python3
"""A classifier on bags of words: logistic regression on the n-grams that a text contains. Every other classifier should
beat this baseline.

The files are TSV, CSV or JSONL with the columns text and label, read by data/tokenize as all programs read them.

For each label (one against the rest; of two labels one is enough), with y = 1 or -1 and x the 0/1 vector of a row's
n-grams, it minimises over w

    |w|^2 / 2 + C sum_rows log(1 + exp(-y w.x))

by coordinate ascent in the dual (Yu, Huang, Lin 2011): w = sum_rows a y x with 0 < a < C; one row at a time is solved
for its a. There is no learning rate. C is the one of 0.01, 0.1, 1, 10 with the best accuracy in cross-validation on the
training rows.
"""

import argparse
import math
import pathlib
import random
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "dev" / "lib"), str(ROOT / "data")]
import stats  # noqa: E402
from lib.errors import Failure, run_script  # noqa: E402
from lib.rows import labelled_rows  # noqa: E402

STRENGTHS = [0.01, 0.1, 1.0, 10.0]


def read_rows(path):
    """[(text, label)]"""
    rows = [(text, label) for text, _, label, _ in labelled_rows(path)]
    if not rows:
        raise Failure("%s: expected rows, found none" % path)
    return rows


def ngrams(text, n):
    """The set of the text's n-grams of 1 to n words or punctuation marks, in lower case"""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return {" ".join(words[i : i + k]) for k in range(1, n + 1) for i in range(len(words) - k + 1)}


def solve(rows, signs, features, C, epochs=20):
    """The weights w (features) for rows (lists of feature numbers) with signs 1 or -1"""
    w = [0.0] * features
    logit = [-5.0] * len(rows)  # of a / C
    alpha = [C / (1 + math.exp(5.0))] * len(rows)
    for x, y, a in zip(rows, signs, alpha):
        for i in x:
            w[i] += a * y
    order, draw = list(range(len(rows))), random.Random(1).random
    for _ in range(epochs):
        order.sort(key=lambda _: draw())
        largest = 0.0
        for r in order:
            x, y, q = rows[r], signs[r], len(rows[r])
            # The best a solves  log(a / (C - a)) + y w.x + q (a - a_old) = 0;
            # with a = C / (1 + exp(-s)) that is  s + q a(s) + b = 0,  which rises with s
            b = y * sum([w[i] for i in x]) - q * alpha[r]
            low, high, s = -b - q * C, -b, logit[r]
            if not low <= s <= high:
                s = (low + high) / 2
            for _ in range(50):
                p = 1 / (1 + math.exp(-s)) if s > -700 else 0.0
                value = s + q * C * p + b
                if abs(value) < 1e-6:
                    break
                if value > 0:
                    high = s
                else:
                    low = s
                s -= value / (1 + q * C * p * (1 - p))
                if not low < s < high:
                    s = (low + high) / 2
            step = C * p - alpha[r]
            logit[r], alpha[r] = s, alpha[r] + step
            largest = max(largest, abs(step))
            step *= y
            for i in x:
                w[i] += step
        if largest < 1e-3 * C:
            break
    return w


class Classifier:
    """labels, number: n-gram -> its feature, weights: of each label (of two labels: of the second alone); feature 0 is
    always on"""

    def __init__(self, rows, n, C):
        self.n, self.labels, self.number = n, sorted({label for _, label in rows}), {"": 0}
        data = [
            [0] + [self.number.setdefault(g, len(self.number)) for g in sorted(ngrams(text, n))] for text, _ in rows
        ]
        ones = self.labels[1:] if len(self.labels) == 2 else self.labels
        self.weights = [
            solve(data, [1 if label == one else -1 for _, label in rows], len(self.number), C) for one in ones
        ]

    def predict(self, text):
        x = [0] + [self.number[g] for g in ngrams(text, self.n) if g in self.number]
        scores = [sum(w[i] for i in x) for w in self.weights]
        if len(self.labels) == 2:
            return self.labels[scores[0] > 0]
        return self.labels[max(range(len(scores)), key=scores.__getitem__)]

    def correct(self, rows):
        return sum(self.predict(text) == label for text, label in rows)


def cross_validate(rows, n, C, folds):
    """How many rows are classified right by a classifier that did not see them; with many rows only the first of ten
    folds is held out"""
    order = sorted(rows)
    draw = random.Random(1).random
    order.sort(key=lambda _: draw())
    right = 0
    for k in range(folds if len(rows) < 2000 else 1):
        right += Classifier([row for i, row in enumerate(order) if i % folds != k], n, C).correct(order[k::folds])
    return right


def train(rows, n, C=None, folds=10):
    """(classifier, C) on [(text, label)] with n-grams of up to n words; C None: chosen by cross-validation"""
    if len({label for _, label in rows}) < 2:
        raise Failure("expected rows of two labels or more, found only %s" % (rows[0][1] if rows else "none"))
    if C is None:
        C = max(STRENGTHS, key=lambda C: cross_validate(rows, n, C, folds))  # of equals the first, the smoothest
    return Classifier(rows, n, C), C


def report(right, n):
    low, high = stats.wilson(right, n)
    return "accuracy %.1f %% (95 %%: %.1f to %.1f), %d of %d" % (100 * right / n, 100 * low, 100 * high, right, n)


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example, with D=datasets/toy/reviews:\n"
        "  dev/baselines/bag_of_words.py --train $D/train.tsv --test $D/val.tsv --test $D/test.tsv",
    )
    p.add_argument("--train", required=True, metavar="FILE")
    p.add_argument("--test", required=True, action="append", metavar="FILE", help="may be given several times")
    p.add_argument("--ngrams", type=int, default=2, metavar="N", help="n-grams of 1 to N words (default 2)")
    p.add_argument(
        "--C", type=float, metavar="X", help="weight of the data against |w|^2 / 2 (default: by cross-validation)"
    )
    args = p.parse_args()
    if args.ngrams < 1 or (args.C is not None and args.C <= 0):
        p.error("expected --ngrams 1 or more and --C above 0")
    tests = [(path, read_rows(path)) for path in args.test]
    rows = read_rows(args.train)
    classifier, C = train(rows, args.ngrams, args.C)
    print(
        "%s: %d rows, %d labels, %d n-grams, C = %g"
        % (args.train, len(rows), len(classifier.labels), len(classifier.number) - 1, C)
    )
    for path, rows in tests:
        print("%s: %s" % (path, report(classifier.correct(rows), len(rows))))


if __name__ == "__main__":
    run_script(main)
