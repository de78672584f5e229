"""Statistics against SciPy, against counting by hand, and against simulations in which the truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agl.analysis import statistics as s


@pytest.mark.parametrize("n", [1, 4, 6, 9, 15, 30])
def test_signed_rank_is_scipys_exact_test_without_ties(n: int) -> None:
    for seed in range(5):
        d = np.random.default_rng(seed).normal(0.4, 1, n)
        assert s.signed_rank(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=1e-10)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_signed_rank_with_ties_and_zeros_counts_all_signs(values: list[int]) -> None:
    d = np.array([v for v in values if v != 0], dtype=float)
    if d.size == 0:
        assert s.signed_rank(np.array(values)) == 1.0
        return
    ranks = stats.rankdata(np.abs(d))
    seen = ranks[d > 0].sum()
    sums = [sum(r for r, up in zip(ranks, ups, strict=True) if up) for ups in itertools.product([0, 1], repeat=d.size)]
    low = np.mean([v <= seen + 1e-9 for v in sums])
    high = np.mean([v >= seen - 1e-9 for v in sums])
    assert s.signed_rank(np.array(values)) == pytest.approx(min(1, 2 * min(low, high)))


def test_signed_rank_leaves_out_nan_and_is_symmetric() -> None:
    d = np.array([0.3, -0.1, np.nan, 0.7, 0.2, 0.9, 0.8])
    assert s.signed_rank(d) == s.signed_rank(-d) == stats.wilcoxon(d[np.isfinite(d)], method="exact").pvalue
    assert s.signed_rank(np.array([np.nan])) == 1.0


def test_large_samples_agree_with_the_normal_approximation() -> None:
    d = np.random.default_rng(0).normal(0.1, 1, 200)
    approximate = stats.wilcoxon(d, method="asymptotic", correction=False).pvalue
    assert s.signed_rank(d) == pytest.approx(approximate, abs=0.005)


@pytest.mark.parametrize("n", range(1, 12))
def test_smallest_p_is_reached_when_all_agree(n: int) -> None:
    assert s.signed_rank(np.arange(1.0, n + 1)) == pytest.approx(s.smallest_p(n))


def test_holm_by_hand() -> None:
    # sorted 0.005 0.01 0.03 0.04 -> x4 0.02, x3 0.03, x2 0.06, x1 0.04 raised to 0.06
    adjusted = s.holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert adjusted[[0, 1, 3, 4]] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(adjusted[2])
    assert s.holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])
    assert s.holm(np.array([])).size == 0


@pytest.mark.parametrize(
    ("n", "m", "p", "mean", "words"),
    [
        (0, 1, 1.0, 0.0, "nothing to compare"),
        (1, 1, 1.0, 0.5, "n too small: 1 unit cannot reach p < 0.05"),
        (5, 1, 0.0625, 0.5, "n too small: 5 units cannot reach p < 0.05"),
        (6, 1, 0.03125, 0.5, "better"),
        (6, 1, 0.03125, -0.5, "worse"),
        (6, 2, 0.0625, 0.5, "n too small for 2 comparisons: 6 units reach p = 0.062 at best"),
        (10, 3, 0.2, 0.5, "no difference shown"),
    ],
)
def test_no_claim_that_n_cannot_carry(n: int, m: int, p: float, mean: float, words: str) -> None:
    assert s.verdict(n, m, p, mean) == words


def test_means_by_hand_with_holes() -> None:
    cells = np.array([[1.0, np.nan, 2.0], [4.0, 4.0, 4.0], [np.nan, np.nan, np.nan], [-1.0, 0.0, 1.0]])
    units = np.array([7, 7, 7, 9])
    assert s.unit_differences(cells, units) == pytest.approx([(1.5 + 4.0) / 2, 0.0])
    assert s.mean_difference(cells, units) == pytest.approx(1.375)
    assert np.isnan(s.unit_differences(cells, np.array([0, 0, 1, 2]))[1])


def test_percentile_part_is_scipys_bootstrap() -> None:
    """With n large the expansion vanishes, and the interval is SciPy's percentile interval."""
    d = np.random.default_rng(1).gamma(2.0, size=400)
    mine = s.interval_over_units(d, np.random.default_rng(2), resamples=20000)
    theirs = stats.bootstrap(
        (d,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(3)
    ).confidence_interval
    assert [mine.low, mine.high] == pytest.approx([theirs.low, theirs.high], abs=0.006)


def test_small_samples_get_students_width() -> None:
    d = np.random.default_rng(4).normal(size=10)
    mine = s.interval_over_units(d, np.random.default_rng(5), resamples=40000)
    student = stats.ttest_1samp(d, 0).confidence_interval()
    assert mine.high - mine.low == pytest.approx(student.high - student.low, rel=0.08)


def test_resampled_means_follow_a_slow_reference() -> None:
    """Both-ways bootstrap against plain loops over drawn units and genes."""
    rng = np.random.default_rng(6)
    cells = rng.normal(size=(9, 8))
    cells[rng.random(cells.shape) < 0.15] = np.nan
    units = np.array([0, 0, 1, 2, 3, 4, 5, 6, 6])
    slow = np.random.default_rng(7)
    means = []
    for _ in range(3000):
        genes, drawn = slow.integers(0, 8, 8), slow.integers(0, 7, 7)
        by_slide = np.array([np.nanmean(cells[i, genes]) for i in range(9)])
        by_unit = [np.nanmean(by_slide[units == u]) for u in drawn]
        means.append(np.nanmean(by_unit))
    moved = stats.norm.cdf(np.sqrt(7 / 6) * stats.t.ppf(0.025, 6))
    fast = s.interval_over_both(cells, units, np.random.default_rng(8))
    assert [fast.low, fast.high] == pytest.approx(np.quantile(means, [moved, 1 - moved]), abs=0.09)


def test_too_little_gives_no_interval() -> None:
    rng = np.random.default_rng(0)
    assert not s.interval_over_units(np.arange(5.0), rng).defined
    assert s.interval_over_units(np.arange(6.0), rng).defined
    assert not s.interval_over_both(np.ones((5, 20)), np.arange(5), rng).defined
    assert not s.interval_over_genes(np.ones((9, 5)), np.arange(9), rng).defined
    assert s.interval_over_genes(np.ones((2, 6)), np.arange(2), rng).low == 1.0


def shared_noise(rng: np.random.Generator, units: int, genes: int) -> np.ndarray:
    """The null: no difference on average, but every slide moves all of its genes together."""
    slide = rng.normal(size=(units, 1)) * 0.03
    return slide + rng.normal(size=(units, genes)) * 0.05


def test_under_the_null_units_are_honest_and_gene_pairs_are_not() -> None:
    rng = np.random.default_rng(10)
    honest, naive = [], []
    for _ in range(600):
        cells = shared_noise(rng, 10, 30)
        honest.append(s.signed_rank(s.unit_differences(cells, np.arange(10))) < 0.05)
        naive.append(stats.wilcoxon(cells.ravel()).pvalue < 0.05)
    assert np.mean(honest) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert np.mean(honest) >= 0.02  # exact test of 10 units: attainable level 0.049
    assert np.mean(naive) > 0.3


def test_under_the_null_holm_keeps_the_family() -> None:
    """Five methods, none better than the baseline: a false claim in at most one family of twenty."""
    rng = np.random.default_rng(11)
    claims = [
        (s.holm(np.array([s.signed_rank(rng.normal(size=12)) for _ in range(5)])) < 0.05).any() for _ in range(400)
    ]
    assert np.mean(claims) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("units", [6, 12])
def test_intervals_hold_the_truth(units: int) -> None:
    """Units and genes both drawn from a population with mean 0.02, each with its own effect."""
    rng = np.random.default_rng(units)
    held = {"units": 0, "both": 0, "genes": 0}
    trials = 200
    for _ in range(trials):
        slide, gene = rng.normal(size=(units, 1)) * 0.03, rng.normal(size=(1, 25)) * 0.04
        cells = 0.02 + slide + gene + rng.normal(size=(units, 25)) * 0.05
        codes = np.arange(units)
        over_units = s.interval_over_units(s.unit_differences(cells - gene, codes), rng, resamples=800)
        over_genes = s.interval_over_genes(cells - slide, codes, rng, resamples=800)
        over_both = s.interval_over_both(cells, codes, rng, resamples=800)
        for name, interval in {"units": over_units, "genes": over_genes, "both": over_both}.items():
            held[name] += interval.low <= 0.02 <= interval.high
    assert 0.89 < held["units"] / trials < 0.985
    assert 0.89 < held["genes"] / trials < 0.985
    assert held["both"] / trials > 0.92  # conservative by construction
