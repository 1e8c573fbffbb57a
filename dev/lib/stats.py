"""Intervals and draws that the reports share. Standard library only."""

import collections
import math
import random
import statistics

# Student's t, 97.5 %, by the number of values (degrees of freedom + 1)
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def wilson(right, n, z=1.96):
    """95 % interval of a fraction, right out of n (Wilson 1927): (low, high)"""
    p, t = right / n, z * z / n
    middle = (p + t / 2) / (1 + t)
    half = z * math.sqrt(p * (1 - p) / n + t / (4 * n)) / (1 + t)
    return middle - half, middle + half


def student(values):
    """Half the width of the 95 % interval of the mean of up to ten values; 0 for a single one"""
    if len(values) < 2:
        return 0
    return STUDENT.get(len(values), 2.5) * statistics.stdev(values) / math.sqrt(len(values))


def bootstrap(values, rounds=10000):
    """95 % interval of the mean by bootstrap, as paired_bootstrap_interval() of common/eval/intervals.h: (low, high),
    or None where so few values differ from zero that it would say nothing. Percentiles are widened as Student's t is
    wider than the normal distribution (Hesterberg 2015, expanded percentile interval)."""
    n = len(values)
    if n < 6 or sum(v != 0 for v in values) < 4:
        return None
    draw = random.Random(1)
    means = sorted(statistics.fmean(draw.choices(values, k=n)) for _ in range(rounds))
    # the quantile of Student's t from that of the normal distribution (Cornish-Fisher)
    z, v = 1.959963984540054, n - 1
    t = z + (z**3 + z) / (4 * v)
    t += (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    cut = int(rounds * math.erfc(t * math.sqrt(n / v) / math.sqrt(2)) / 2)
    return means[cut], means[rounds - 1 - cut]


def stratified(rows, label, rng):
    """The rows in a random order in which the first n have the labels in the proportions of all, for every n; this is
    how finetune_cls draws --examples. label: row -> its label"""
    rows = rng.sample(rows, len(rows))
    size = collections.Counter(map(label, rows))
    rank, keys = collections.Counter(), []
    for row in rows:
        k = label(row)
        keys.append((rank[k] + 0.5) / size[k])
        rank[k] += 1
    return [rows[i] for i in sorted(range(len(rows)), key=keys.__getitem__)]
