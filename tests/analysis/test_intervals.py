"""Means and intervals by hand, against SciPy, and against slow loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from agl.analysis import intervals as i


def test_means_by_hand_with_holes() -> None:
    cells = np.array([[1.0, np.nan, 2.0], [4.0, 4.0, 4.0], [np.nan, np.nan, np.nan], [-1.0, 0.0, 1.0]])
    units = np.array([7, 7, 7, 9])
    assert i.unit_differences(cells, units) == pytest.approx([(1.5 + 4.0) / 2, 0.0])
    assert i.mean_difference(cells, units) == pytest.approx(1.375)
    assert np.isnan(i.unit_differences(cells, np.array([0, 0, 1, 2]))[1])


@pytest.mark.parametrize("n", [3, 8])
def test_units_alone_give_students_interval_and_test(n: int) -> None:
    d = np.random.default_rng(n).normal(0.3, size=n)
    known = i.mean_error(np.append(d, np.nan))
    theirs = stats.ttest_1samp(d, 0)
    mine = known.interval(d.mean())
    assert [mine.low, mine.high] == pytest.approx(list(theirs.confidence_interval()))
    assert 2 * known.beyond(abs(d.mean())) == pytest.approx(theirs.pvalue)


def test_seeds_add_their_variance_with_their_own_students_quantile() -> None:
    """By hand: sqrt(t8^2 v + t1^2 w), and the p whose interval just reaches 0."""
    d = np.random.default_rng(3).normal(1.0, 1, 9)
    known = i.mean_error(d, i.MeanError(((0.01, 1),)))
    v = d.var(ddof=1) / 9
    reach = np.sqrt(2.306004**2 * v + 12.706205**2 * 0.01)
    assert known.interval(d.mean()).high == pytest.approx(d.mean() + reach, rel=1e-6)
    assert known.beyond(reach) == pytest.approx(0.025, rel=1e-6)
    assert known.error == pytest.approx(np.sqrt(v + 0.01))
    assert known.beyond(-reach) == pytest.approx(0.975, rel=1e-6)
    assert known.beyond(0.0) == 0.5


@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_two_parts_are_never_too_narrow(ratio: float) -> None:
    """A mean of 8 normal values plus one of 2, whatever their variances: the truth is outside in at most 5 of 100."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2000, 8)), ratio * rng.normal(size=(2000, 2))
    own, shared = a.var(axis=1, ddof=1) / 8, b.var(axis=1, ddof=1) / 2
    outside = np.abs(a.mean(1) + b.mean(1)) > np.array(
        [i.MeanError(((v, 7), (w, 1))).reach(0.025) for v, w in zip(own, shared, strict=True)]
    )
    assert 0.005 < outside.mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_no_variance_at_all() -> None:
    known = i.mean_error(np.full(4, 0.5))
    assert (known.interval(0.5).low, known.beyond(0.5), known.beyond(0.0)) == (0.5, 0.0, 0.5)


def test_too_little_gives_no_interval() -> None:
    rng = np.random.default_rng(0)
    assert not i.mean_error(np.array([1.0, 2.0])).interval(1.5).defined
    assert i.mean_error(np.array([1.0, 2.0, 3.0])).interval(2).defined
    assert not i.interval_over_genes(np.ones((9, 5)), np.arange(9), rng).defined
    assert i.interval_over_genes(np.ones((2, 6)), np.arange(2), rng).low == 1.0


def test_percentile_part_is_scipys_bootstrap() -> None:
    """With many genes the expansion vanishes, and the spread over genes is SciPy's percentile interval."""
    d = np.random.default_rng(1).gamma(2.0, size=400)
    mine = i.interval_over_genes(d[None], np.zeros(1, int), np.random.default_rng(2), resamples=8000)
    theirs = stats.bootstrap(
        (d,), np.mean, method="percentile", n_resamples=8000, rng=np.random.default_rng(3)
    ).confidence_interval
    assert [mine.low, mine.high] == pytest.approx([theirs.low, theirs.high], abs=0.01)


def test_resampled_means_follow_a_slow_reference() -> None:
    """The bootstrap over genes against plain loops, with holes and several slides of a unit."""
    rng = np.random.default_rng(6)
    cells = rng.normal(size=(9, 8))
    cells[rng.random(cells.shape) < 0.15] = np.nan
    units = np.array([0, 0, 1, 2, 3, 4, 5, 6, 6])
    slow = np.random.default_rng(7)
    means = []
    for _ in range(1500):
        genes = slow.integers(0, 8, 8)
        by_slide = np.array([np.nanmean(cells[row, genes]) for row in range(9)])
        means.append(np.mean([np.nanmean(by_slide[units == u]) for u in range(7)]))
    moved = stats.norm.cdf(np.sqrt(8 / 7) * stats.t.ppf(0.025, 7))
    fast = i.interval_over_genes(cells, units, np.random.default_rng(8))
    assert [fast.low, fast.high] == pytest.approx(np.quantile(means, [moved, 1 - moved]), abs=0.06)
