"""Chance lines of rankings: without torch, so that a table of labels is described in seconds."""

from functools import cache

import numpy as np


def chance_average_precision(positives: int, n: int) -> float:
    """Expected AP of a random ranking of n items with m positives: (1/n) [H_n + (m-1)/(n-1) (n - H_n)].

    The prevalence m/n alone is too low for rare classes.
    """
    harmonic = _harmonic(int(n))
    rest = (positives - 1) / (n - 1) * (n - harmonic) if n > 1 else 0.0
    return (harmonic + rest) / n


@cache
def _harmonic(n: int) -> float:
    return float(np.sum(1 / np.arange(1, n + 1)))
