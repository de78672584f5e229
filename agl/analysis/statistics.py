"""Paired differences between two methods: what may be claimed, and for what.

The unit of analysis is a patient (or a slide, where only one patient or no patient is known), not a gene and not a
spot. All genes of a slide are read off the same picture by the same model, so their scores go up and down together:
counting (slide, gene) pairs as independent makes a test of nothing come out "significant" far more often than in
one case of twenty (tests/analysis/test_statistics.py measures it). Seeds are averaged first, for they repeat the
computation, not of the biology.

A difference is therefore reduced in this order: seeds -> genes of a slide -> slides of a unit -> units.

Intervals are expanded percentile bootstrap intervals (Hesterberg 2015, The American Statistician 69:371, section 4.2):
the quantiles are moved outward so that the interval of a mean is as wide as Student's t asks for. For normal data and
6, 8, 12, 20 units they held the truth in 93.8, 93.2, 94.1 and 95.4 of 100 trials; plain percentile intervals in 86.1,
87.1, 90.0 and 93.5, BCa in 86.6, 87.1, 89.9 and 93.2. Below 6 units no interval over units is given.

What no test here accounts for: the folds of one study share most of their training spots, so units are independent as
test cases, not as repetitions of the training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

FEWEST_UNITS = 6  # 2 / 2**5 > 0.05: no two-sided signed-rank test of 5 differences reaches p < 0.05
RESAMPLES = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A confidence interval, NaN where there is too little to say."""

    low: float
    high: float

    @property
    def defined(self) -> bool:
        """Whether there is an interval at all."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


NO_INTERVAL = Interval(float("nan"), float("nan"))


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
    d = np.asarray(differences, dtype=float)
    d = d[np.isfinite(d) & (d != 0)]
    if d.size == 0:
        return 1.0
    doubled = np.rint(2 * stats.rankdata(np.abs(d))).astype(int)
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1.0
    for rank in doubled:  # after each: the chance of every possible sum of positive ranks
        moved = np.zeros_like(ways)
        moved[rank:] = ways[: ways.size - rank]
        ways = (ways + moved) / 2
    seen = doubled[d > 0].sum()
    tail = min(ways[: seen + 1].sum(), ways[seen:].sum())
    return float(min(1.0, 2 * tail))


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


TOO_SMALL = "n too small"


def verdict(n: int, comparisons: int, p: float, mean: float, *, alpha: float = 0.05) -> str:
    """What a row of the table may claim, in words: never a star where n cannot carry one.

    `p` is already corrected over `comparisons`.

    >>> verdict(3, 1, 0.25, 0.1)
    'n too small: 3 units cannot reach p < 0.05'
    >>> verdict(8, 20, 0.15625, 0.1)
    'n too small for 20 comparisons: 8 units reach p = 0.16 at best'
    """
    if n == 0:
        return "nothing to compare"
    if smallest_p(n) >= alpha:
        return f"n too small: {n} unit{'s' * (n != 1)} cannot reach p < {alpha:g}"
    if smallest_p(n) * comparisons >= alpha:
        best = min(1.0, smallest_p(n) * comparisons)
        return f"n too small for {comparisons} comparisons: {n} units reach p = {best:.2g} at best"
    if p >= alpha:
        return "no difference shown"
    return "better" if mean > 0 else "worse"


def mean_difference(cells: np.ndarray, units: np.ndarray) -> float:
    """Mean over units of the mean over their slides of the mean over defined genes.

    Args:
        cells: differences [slide, gene], NaN where either method is undefined.
        units: [slide] codes of the units.

    >>> mean_difference(np.array([[1.0, 3.0], [np.nan, 4.0], [0.0, 0.0]]), np.array([0, 0, 1]))
    1.5
    """
    return float(_mean(unit_differences(cells, units)))


def unit_differences(cells: np.ndarray, units: np.ndarray) -> np.ndarray:
    """[unit] the difference of each unit, in the order of its code; NaN where nothing is defined."""
    return _units(_slides(cells, np.ones((1, cells.shape[1]))), units)[0]


def interval_over_units(differences: np.ndarray, rng: np.random.Generator, *, resamples: int = RESAMPLES) -> Interval:
    """Would other patients show it? Resamples the units `[unit]`; none below 6 units."""
    d = differences[np.isfinite(differences)]
    if d.size < FEWEST_UNITS:
        return NO_INTERVAL
    drawn = rng.multinomial(d.size, np.full(d.size, 1 / d.size), size=resamples)
    return _expanded(drawn @ d / d.size, d.size)


def interval_over_genes(
    cells: np.ndarray, units: np.ndarray, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> Interval:
    """Would other genes of this kind show it, on these very slides? Resamples genes; says nothing of other tissue.

    Args:
        cells: differences [slide, gene], NaN where undefined.
        units: [slide] codes of the units.
    """
    present = np.isfinite(cells).any(0)
    if present.sum() < FEWEST_UNITS:
        return NO_INTERVAL
    kept = cells[:, present]
    return _expanded(_mean(_units(_slides(kept, _draw(kept.shape[1], rng, resamples)), units)), kept.shape[1])


def interval_over_both(
    cells: np.ndarray, units: np.ndarray, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> Interval:
    """Other patients and other genes at once: units and genes resampled independently.

    Conservative: never narrower than it should be on average (Owen 2007, Annals of Applied Statistics 1:386).
    """
    present = np.isfinite(cells).any(0)
    by_unit = unit_differences(cells, units)
    n = int(np.isfinite(by_unit).sum())
    if n < FEWEST_UNITS or present.sum() < FEWEST_UNITS:
        return NO_INTERVAL
    kept = cells[:, present]
    found = _units(_slides(kept, _draw(kept.shape[1], rng, resamples)), units)[:, np.isfinite(by_unit)]
    return _expanded(_mean(found, _draw(n, rng, resamples)), n)


def _draw(n: int, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """[resample, n] how often each of n is drawn in a bootstrap sample."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def _slides(cells: np.ndarray, gene_weights: np.ndarray) -> np.ndarray:
    """[resample, slide] weighted mean over the defined genes of each slide."""
    defined = np.isfinite(cells)
    total = gene_weights @ defined.T.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, gene_weights @ np.where(defined, cells, 0.0).T / total, np.nan)


def _units(slides: np.ndarray, units: np.ndarray) -> np.ndarray:
    """[resample, unit] mean over the defined slides of each unit."""
    member = (units[:, None] == np.unique(units)[None, :]).astype(float)
    defined = np.isfinite(slides)
    total = defined.astype(float) @ member
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, np.where(defined, slides, 0.0) @ member / total, np.nan)


def _mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Weighted mean over the last axis, leaving out NaN."""
    weights = np.ones_like(values) if weights is None else weights
    kept = np.where(np.isfinite(values), weights, 0.0)
    total = kept.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (kept * np.nan_to_num(values)).sum(-1) / total, np.nan)


def _expanded(means: np.ndarray, n: int) -> Interval:
    """Quantiles of bootstrap means, moved outward to the width Student's t with n - 1 degrees of freedom has."""
    tail = (1 - LEVEL) / 2
    moved = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf(tail, n - 1))
    low, high = np.quantile(means[np.isfinite(means)], [moved, 1 - moved])
    return Interval(float(low), float(high))
