"""What a number of units can show: the smallest difference a test would find, and how many units a margin needs."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

import numpy as np
from scipy import stats

from agl.analysis.statistics import FEWEST_UNITS, rank_sums
from agl.seeds import seeded

POWER = 0.8
MOST_COUNTED = 25  # units up to which the test itself is counted; beyond, its normal approximation
DRAWS = 4000


def detectable(sd: float, n: int, *, alpha: float = 0.05, power: float = POWER) -> float:
    """The difference that the two-sided signed-rank test finds with this chance, for normal units of this spread.

    The sum of positive ranks counts the Walsh averages (z_i + z_j) / 2 above 0, so a sample rejects once it is shifted
    beyond minus its c-th largest, where c is the test's critical value; the `power` quantile of these shifts over
    drawn samples is the answer. Infinite where n units can reach no p below alpha.

    Args:
        sd: of the units' differences.
        n: units.

    Source: Tukey 1949 for the counting; Hollander, Wolfe and Chicken 2014, section 3.1.

    >>> detectable(0.02, 5)  # two-sided, 5 units reach p = 0.0625 at best
    inf
    >>> 0.034 < detectable(0.02, 6) < 0.038  # all six must be positive: sd * 1.79
    True
    """
    return sd * _shift(n, alpha, power) if n >= FEWEST_UNITS and np.isfinite(sd) else float("inf")


def units_needed(sd: float, difference: float, *, alpha: float = 0.05, power: float = POWER, most: int = 1000) -> int:
    """How many units find this difference with this chance; `most` + 1 where even so many do not.

    >>> units_needed(0.01, 0.01)
    11
    """
    sizes = range(FEWEST_UNITS, most + 1)
    return FEWEST_UNITS + bisect_left(sizes, -difference, key=lambda n: -detectable(sd, n, alpha=alpha, power=power))


@cache
def _shift(n: int, alpha: float, power: float) -> float:
    """Of units with standard deviation 1."""
    if n > MOST_COUNTED:  # efficiency 3 / pi against Student's test
        return float((stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) / np.sqrt(n * 3 / np.pi))
    tail = rank_sums(np.arange(1, n + 1))[::-1].cumsum()  # chance of a sum of at least total, total - 1, ...
    within = int((tail <= alpha / 2).sum())
    if within == 0:
        return float("inf")
    critical = n * (n + 1) // 2 - within + 1  # the smallest sum that rejects
    drawn = seeded(n, "power").normal(size=(DRAWS, n))
    first, second = np.triu_indices(n)
    walsh = np.partition((drawn[:, first] + drawn[:, second]) / 2, -critical, axis=1)
    return float(np.quantile(-walsh[:, -critical], power))
