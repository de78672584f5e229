"""Statistics against SciPy, against counting by hand, and against simulations in which the truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agl.analysis import statistics as s
from agl.analysis.intervals import unit_differences


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


def test_equivalence_is_scipys_two_one_sided_tests() -> None:
    for seed in range(6):
        d = np.random.default_rng(seed).normal(0.002, 0.01, 9)
        above = stats.wilcoxon(d + 0.01, alternative="greater", method="exact").pvalue
        below = stats.wilcoxon(d - 0.01, alternative="less", method="exact").pvalue
        assert s.equivalence(d) == pytest.approx(max(above, below), rel=1e-10)
        assert s.equivalence(-d) == pytest.approx(s.equivalence(d))


def test_equivalence_by_hand() -> None:
    assert s.equivalence(np.array([0.001, 0.002, 0.003, -0.001])) == 1 / 16  # four units: never below 0.05
    assert s.equivalence(np.full(5, 0.02)) == 1.0  # all beyond: refutes nothing
    assert s.equivalence(np.array([0.02, 0, 0, 0, 0, np.nan]), margin=0.01) == pytest.approx(
        # shifted by -0.01: 0.01 and four times -0.01, mid-rank 3 each; positive sum 3 or less: 1 + 5 of 32
        6 / 32
    )
    assert s.equivalence(np.array([np.nan])) == 1.0


@pytest.mark.parametrize(
    ("p", "alike", "bar", "words"),
    [
        (0.5, 0.01, "", "within 0.02 of it"),
        (0.01, 0.01, "", "better"),
        (0.01, 0.01, "patients unknown", "no claim: patients unknown"),
        (0.5, 0.2, "", "no difference shown"),
    ],
)
def test_equal_unlike_and_barred(p: float, alike: float, bar: str, words: str) -> None:
    assert s.verdict(8, 1, p, 0.1, alike=alike, bar=bar, margin=0.02) == words


def shared_noise(rng: np.random.Generator, units: int, genes: int) -> np.ndarray:
    """The null: no difference on average, but every slide moves all of its genes together."""
    slide = rng.normal(size=(units, 1)) * 0.03
    return slide + rng.normal(size=(units, genes)) * 0.05


def test_under_the_null_units_are_honest_and_gene_pairs_are_not() -> None:
    rng = np.random.default_rng(10)
    honest, naive = [], []
    for _ in range(600):
        cells = shared_noise(rng, 10, 30)
        honest.append(s.signed_rank(unit_differences(cells, np.arange(10))) < 0.05)
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
