"""Ranks, Spearman and Kendall beside SciPy's on columns that tie in every bad way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import strank
from strank.ranks import average_ranks

N = 240
TINY = np.nextafter(0, 1)


def columns(seed: int) -> dict[str, np.ndarray]:
    """float64 `[spot]` each, shuffled."""
    rng = np.random.default_rng(seed)
    steps = np.arange(N)
    found = {
        "all but one": np.where(steps == 0, 1.0, 0.0),
        "all but one, below": np.where(steps == 0, -1.0, 0.0),
        "two halves": (steps < N // 2).astype(float),
        "blocks": np.repeat(np.arange(N // 8), 8).astype(float),
        "blocks of all sizes": np.searchsorted(np.cumsum(np.arange(1, 25)), steps).astype(float),
        "rare counts": rng.poisson(0.02, N).astype(float),
        "counts": rng.negative_binomial(0.3, 0.05, N).astype(float),
        "two zeros": np.where(steps % 3 == 0, -0.0, np.where(steps % 3 == 1, 0.0, steps)),
        "neighbours of one": 1 + (steps // 4) * np.finfo(float).eps * 8,
        "smallest numbers": (steps // 5) * TINY * 1e3,
        "both ends": np.where(steps % 2 == 0, 1e308, -1e308) / (1 + steps // 60),
        "no ties": rng.normal(size=N),
        "float32 ties": rng.normal(size=N).astype(np.float32).round(1).astype(float),
    }
    return {name: rng.permutation(values) for name, values in found.items()}


@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_scipys(seed: int) -> None:
    table = np.stack(list(columns(seed).values()), 1)
    np.testing.assert_array_equal(average_ranks(torch.from_numpy(table)), stats.rankdata(table, axis=0))
    slides = np.random.default_rng(seed).integers(-3, 4, N) * 1000
    found = average_ranks(torch.from_numpy(table), torch.from_numpy(slides)).numpy()
    for slide in np.unique(slides):
        np.testing.assert_array_equal(found[slides == slide], stats.rankdata(table[slides == slide], axis=0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(3))
def test_correlations_of_every_pair_are_scipys(seed: int, dtype: torch.dtype) -> None:
    given = columns(seed)
    if dtype == torch.float32:  # where these are 0 or infinite, or constant but for rounding
        given = {n: v for n, v in given.items() if n not in ("neighbours of one", "smallest numbers", "both ends")}
    else:  # constant but for rounding: undefined here, as tested elsewhere
        del given["neighbours of one"]
    values = {name: torch.from_numpy(column).to(dtype) for name, column in given.items()}
    pairs = [(a, b) for a in values for b in values]
    scores, counts = (torch.stack([values[pair[side]] for pair in pairs], 1) for side in (0, 1))
    for metric, witness in ((strank.spearman, stats.spearmanr), (strank.kendall, stats.kendalltau)):
        found = metric(scores, counts).numpy()
        expected = [witness(scores[:, i].double(), counts[:, i].double()).statistic for i in range(len(pairs))]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, err_msg=metric.__name__)
        itself = [i for i, (a, b) in enumerate(pairs) if a == b]
        assert (found[itself] == 1).all()


@pytest.mark.parametrize("n", [3, 4, 5])
def test_every_small_column_is_scipys(n: int) -> None:
    """All columns of n values out of three, against all others."""
    grid = np.array(np.meshgrid(*[[0, 1, 2]] * n)).reshape(n, -1)
    rng = np.random.default_rng(n)
    left, right = (grid[:, rng.integers(grid.shape[1], size=400)] for _ in range(2))
    varies = (np.ptp(left, axis=0) > 0) & (np.ptp(right, axis=0) > 0)
    for metric, witness in ((strank.spearman, stats.spearmanr), (strank.kendall, stats.kendalltau)):
        found = metric(torch.from_numpy(left), torch.from_numpy(right)).numpy()
        assert (np.isnan(found) == ~varies).all()
        expected = [witness(left[:, i], right[:, i]).statistic for i in np.flatnonzero(varies)]
        np.testing.assert_allclose(found[varies], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["all but one", "two halves", "rare counts"])
def test_a_hundred_thousand_ties_do_not_overflow(name: str) -> None:
    """Pairs of 200,000 spots are beyond 32 bits: tau-b and rho of 0/1 columns are the phi of their 2 x 2 table."""
    n, rng = 200_000, np.random.default_rng(0)
    one = {"all but one": np.arange(n) == 7, "two halves": np.arange(n) < n // 2, "rare counts": rng.random(n) < 0.001}
    a, b = one[name], rng.random(n) < 0.3
    b[7] = True
    both, p, q = (a & b).mean(), a.mean(), b.mean()
    phi = (both - p * q) / np.sqrt(p * (1 - p) * q * (1 - q))
    scores, counts = torch.from_numpy(a.astype(np.float32))[:, None], torch.from_numpy(b.astype(np.int32))[:, None]
    assert strank.kendall(scores, counts).item() == pytest.approx(phi, rel=1e-9)
    assert strank.spearman(scores, counts).item() == pytest.approx(phi, rel=1e-9)
