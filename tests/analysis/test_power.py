"""Power against closed forms, and against the test itself run on drawn samples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from agl.analysis.power import detectable, units_needed
from agl.analysis.statistics import signed_rank


@pytest.mark.parametrize(("n", "alpha", "power"), [(6, 0.05, 0.8), (7, 2 / 2**7, 0.5), (9, 2 / 2**9, 0.8)])
def test_where_all_must_agree_it_is_a_power_of_the_normal_distribution(n: int, alpha: float, power: float) -> None:
    exact = stats.norm.ppf(power ** (1 / n))  # P(all n positive) = power
    assert detectable(2.0, n, alpha=alpha, power=power) == pytest.approx(2 * exact, rel=0.03)


@pytest.mark.parametrize("n", [8, 14])
def test_the_test_finds_that_difference_as_often_as_promised(n: int) -> None:
    shift = detectable(1.0, n)
    rng = np.random.default_rng(n)
    found = np.mean([signed_rank(rng.normal(shift, 1, n)) < 0.05 for _ in range(1500)])
    assert found == pytest.approx(0.8, abs=3.5 * np.sqrt(0.16 / 1500))


def test_beyond_the_counted_sizes_the_approximation_goes_on() -> None:
    counted, approximate = detectable(1.0, 25), detectable(1.0, 26)
    assert 0.9 < approximate / counted < 1.0


def test_units_needed_is_the_first_size_that_is_enough() -> None:
    for sd in (0.008, 0.02, 0.05):
        n = units_needed(sd, 0.01)
        assert detectable(sd, n) <= 0.01 < detectable(sd, n - 1)
    assert units_needed(0.001, 0.01) == 6  # fewer can show nothing, however small the spread
    assert units_needed(1.0, 0.01) == 1001
    assert detectable(0.02, 5) == detectable(float("nan"), 9) == float("inf")
    assert detectable(0.02, 6, alpha=0.01) == float("inf")
