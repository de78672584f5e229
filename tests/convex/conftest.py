"""Small training data that has everything: unsorted slides, a lonely spot, an empty spot, a gene without counts, a
constant feature and one that is a copy of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from agl.seeds import seeded


class Data(NamedTuple):
    x: np.ndarray
    counts: np.ndarray
    library_size: np.ndarray
    slides: np.ndarray


def make_data(n_spots: int = 60, n_features: int = 6, n_genes: int = 4, seed: int = 0) -> Data:
    rng = seeded(seed, "convex")
    x = 3 + rng.normal(size=(n_spots, n_features)) * rng.uniform(0.1, 10, n_features)
    if n_features > 3:
        x[:, 1], x[:, 2] = 7.0, x[:, 0]
    signal = (x - x.mean(0)) / (x.std(0) + 1e-9) @ rng.normal(size=(n_features, n_genes)) * 0.3
    depth = rng.lognormal(0, 0.5, (n_spots, 1))
    counts = rng.poisson(np.exp(signal) * depth)
    counts[:, -1] = 0
    slides = rng.choice([5, -3, 40], n_spots)
    slides[2] = 1_000_000
    library_size = counts.sum(1) + rng.integers(10, 90, n_spots)
    counts[4], library_size[4] = 0, 0
    return Data(x, counts, library_size, slides)


@pytest.fixture(name="make_data")
def _make_data() -> Callable[..., Data]:
    return make_data


@pytest.fixture
def data() -> Data:
    return make_data()
