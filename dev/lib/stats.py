"""Intervals and draws that the reports share. Standard library only."""

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
    """Half the width of the 95 % interval of a mean of up to ten values; 0 for a single one"""
    if len(values) < 2:
        return 0
    return STUDENT.get(len(values), 2.5) * statistics.stdev(values) / math.sqrt(len(values))
