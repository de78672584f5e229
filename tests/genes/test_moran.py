"""Moran's I against its definition, spot pair by spot pair."""

from __future__ import annotations

import numpy as np
import pytest

from agl.errors import UserError
from agl.genes import moran, priors
from agl.genes.training import TrainingSpots


def by_definition(x, coords, k):
    """I = n / W * sum w_ij z_i z_j / sum z_i^2, neighbours by sorting distances."""
    n = len(x)
    weights = np.zeros((n, n))
    for i in range(n):
        distance = np.hypot(*(coords - coords[i]).T)
        distance[i] = np.inf
        reach = np.sort(distance)[min(k, n - 1) - 1] * 1.01
        near = distance <= reach
        weights[i, near] = 1 / near.sum()
    z = x - x.mean()
    return n / weights.sum() * (weights * np.outer(z, z)).sum() / (z**2).sum()


@pytest.mark.parametrize("k", [1, 4, 6, 1000])
def test_morans_i_is_its_definition(spots, k, monkeypatch):
    monkeypatch.setattr("agl.genes.training.BLOCK", 17)
    ours = priors.moran(spots, neighbours=k)
    x = np.log1p(spots.counts.toarray() * 1e4 / spots.library_size[:, None])
    for gene in np.flatnonzero(spots.detection > 0.05)[::8]:
        total, n = 0.0, 0
        for code in (-2, 3, 11):  # the slide of one spot, 99, is left out
            rows = np.flatnonzero(spots.slides == code)
            n += len(rows)
            if x[rows, gene].std() > 0:
                total += len(rows) * by_definition(x[rows, gene], spots.coords[rows], k)
        assert ours[gene] == pytest.approx(total / n, abs=1e-10)
    assert np.isnan(ours[7])


def test_a_checkerboard_is_minus_one_and_two_halves_are_near_one():
    coords = np.array([(i, j) for i in range(12) for j in range(12)], dtype=float)
    board = (coords.sum(axis=1) % 2).astype(int)
    halves = (coords[:, 0] < 6).astype(int)
    training = TrainingSpots(
        np.stack([board, halves], axis=1), np.full(144, 10), np.zeros(144, int), coords, ("BOARD", "HALVES")
    )
    value = priors.moran(training, neighbours=2)  # corners have 2 nearest, others 3 or 4: ties are neighbours too
    assert value[0] == pytest.approx(-1.0)
    assert value[1] > 0.8


def test_the_order_of_spots_on_a_lattice_does_not_matter():
    rng = np.random.default_rng(0)
    coords = np.array([(i, j) for i in range(9) for j in range(9)], dtype=float)
    counts = rng.poisson(2.0, (81, 5))
    order = rng.permutation(81)
    names = tuple("ABCDE")
    one = TrainingSpots(counts, np.full(81, 100), np.zeros(81), coords, names)
    two = TrainingSpots(counts[order], np.full(81, 100), np.zeros(81), coords[order], names)
    np.testing.assert_allclose(priors.moran(one), priors.moran(two), rtol=1e-10)


def test_spots_at_one_place_are_neighbours_of_each_other():
    weights = moran.neighbour_weights(np.zeros((4, 2)), 2).toarray()
    np.testing.assert_allclose(weights, (1 - np.eye(4)) / 3)


def test_slides_of_two_spots_say_nothing():
    training = TrainingSpots(np.eye(2), np.ones(2), np.zeros(2), np.zeros((2, 2)), ("A", "B"))
    assert np.isnan(priors.moran(training)).all()


def test_a_wrong_number_of_neighbours_is_refused(spots):
    with pytest.raises(UserError, match="neighbours of at least 1, received 0"):
        priors.moran(spots, neighbours=0)
