"""Paired differences between two methods: what may be claimed, and for what.

The unit of analysis is the highest level that was left out: a patient (see `agl.analysis.units`), not a gene and not a
spot. All genes of a slide are read off the same picture by the same model, so their scores go up and down together:
counting (slide, gene) pairs as independent makes a test of nothing come out "significant" far more often than in
one case of twenty. So do slides where they are nested in patients. `experiments/error_rates` measures both, and every
interval and test of this file, where the truth is known.

Where every unit has a training of its own (one patient a fold), the spread over units contains the seeds'. Where one
training is tested on several units, its seed moves them together: the variance over seeds is then added
(`agl.analysis.seed_level`), and the test is no smaller than Student's with that variance.

What no test here accounts for: the folds of one study share most of their training spots, so units are independent as
test cases, not as repetitions of the training.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

FEWEST_UNITS = 6  # 2 / 2**5 > 0.05: no two-sided signed-rank test of 5 differences reaches p < 0.05
FEWEST_ALIKE = 5  # 1 / 2**5 < 0.05: each of the two tests of an equivalence is one-sided
MARGIN = 0.01  # SCC; differences below it change no decision


def signed_rank(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact at any n and with ties; zeros are left out.

    The null: each difference is as likely positive as negative. Its distribution over all 2^n signs is counted, with
    mid-ranks doubled to stay whole numbers, so there is no approximation to go wrong at small n.

    Args:
        differences: [unit]; NaN is left out.

    Returns:
        p; 1 where no difference is left.

    Source: Wilcoxon 1945; mid-ranks as in Pratt and Gibbons 1981.

    >>> round(signed_rank(np.array([1.0, 2, 3, 4, 5, 6])), 5)  # all of one sign: 2 of the 2^6 signs
    0.03125
    """
    d, below, above = _signed_ranks(differences)
    return float(min(1.0, 2 * min(below, above))) if d.size else 1.0


def equivalence(differences: np.ndarray, margin: float = MARGIN) -> float:
    """p of "the units' differences lie around a value within +-margin": two one-sided signed-rank tests, both exact.

    The larger of the p of "not below -margin" and that of "not above +margin", so both must be refuted.

    Args:
        differences: [unit]; NaN is left out.
        margin: above 0, in units of the score.

    Source: Schuirmann 1987 (TOST), with Wilcoxon's test in the place of Student's.

    >>> equivalence(np.array([0.001, -0.002, 0.003, 0.0, 0.002]))  # 5 of 5 inside on both sides: 1 / 2^5
    0.03125
    """
    d = np.asarray(differences, dtype=float)
    d = d[np.isfinite(d)]
    if d.size == 0:
        return 1.0
    _, _, not_below = _signed_ranks(d + margin)
    _, not_above, _ = _signed_ranks(d - margin)
    return max(not_below, not_above)


def _signed_ranks(differences: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The differences that count, and the chances of a sum of positive ranks no larger and no smaller than theirs."""
    d = np.asarray(differences, dtype=float)
    d = d[np.isfinite(d) & (d != 0)]
    if d.size == 0:
        return d, 1.0, 1.0
    doubled = np.rint(2 * stats.rankdata(np.abs(d))).astype(int)
    ways = rank_sums(doubled)
    seen = doubled[d > 0].sum()
    return d, float(ways[: seen + 1].sum()), float(ways[seen:].sum())


def rank_sums(ranks: np.ndarray) -> np.ndarray:
    """[sum + 1] the chance of every sum of positive ranks, each rank being positive in half of the cases.

    >>> rank_sums(np.array([1, 2])).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    ways = np.zeros(ranks.sum() + 1)
    ways[0] = 1.0
    for rank in ranks:
        moved = np.zeros_like(ways)
        moved[rank:] = ways[: ways.size - rank]
        ways = (ways + moved) / 2
    return ways


def smallest_p(n: int) -> float:
    """The smallest two-sided p that n differences can reach: 2 / 2^n.

    >>> smallest_p(5), smallest_p(6)
    (0.0625, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - n))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: adjusted p in the same order; NaN stays NaN and does not count.

    The i-th smallest of m is multiplied by m - i + 1; an adjusted p is never below a smaller one's.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else []
    return adjusted


TOO_SMALL, NO_CLAIM, ALIKE = "n too small", "no claim", "within"


def verdict(
    n: int,
    comparisons: int,
    p: float,
    mean: float,
    *,
    alpha: float = 0.05,
    bar: str = "",
    alike: float = 1.0,
    margin: float = MARGIN,
) -> str:
    """What a row of the table may claim, in words: never a star where n cannot carry one.

    `p` and `alike` (of `equivalence`) are already corrected over `comparisons`; `bar`: why nothing may be claimed.

    >>> verdict(3, 1, 0.25, 0.1)
    'n too small: 3 units cannot reach p < 0.05'
    >>> verdict(8, 20, 0.15625, 0.1)
    'n too small for 20 comparisons: 8 units reach p = 0.16 at best'
    >>> verdict(8, 1, 0.6, 0.001, alike=0.02)
    'within 0.01 of it'
    """
    if n == 0:
        return "nothing to compare"
    if bar:
        return f"{NO_CLAIM}: {bar}"
    if alike < alpha and not p < alpha:
        return f"{ALIKE} {margin:g} of it"
    if smallest_p(n) >= alpha:
        return f"{TOO_SMALL}: {n} unit{'s' * (n != 1)} cannot reach p < {alpha:g}"
    if smallest_p(n) * comparisons >= alpha:
        best = min(1.0, smallest_p(n) * comparisons)
        return f"{TOO_SMALL} for {comparisons} comparisons: {n} units reach p = {best:.2g} at best"
    if p >= alpha:
        return "no difference shown"
    return "better" if mean > 0 else "worse"
