"""Planted data: which genes are useful is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse

from agl.genes.candidates import Candidates
from agl.genes.training import TrainingSpots


@dataclass(frozen=True)
class Planted:
    candidates: Candidates
    useful: np.ndarray  # bool [aux]: on the programmes of the primary genes
    unrelated: np.ndarray  # bool [aux]: on other programmes; the rest is noise


def plant(
    seed: int,
    *,
    n_spots: int = 256,
    n_slides: int = 2,
    n_primary: int = 30,
    kinds: tuple[int, int, int] = (60, 90, 150),
    smooth: float = 0.0,
    batch_effect: float = 0.0,
    depth: float = 0.3,
    strength: float = 0.7,
) -> Planted:
    """16 programmes; primary and useful genes load on the first 8, unrelated genes on the others, noise on none.

    Counts are negative binomial. `smooth` > 0 makes every programme a smooth map of that length on a square lattice;
    `batch_effect` scales primary genes and noise genes up and down together from slide to slide; `depth` is the
    spread of log library size, which is reported as if many other genes had been measured.
    """
    rng = np.random.default_rng(seed)
    n_useful, n_unrelated, _n_noise = kinds
    n_genes = n_primary + sum(kinds)
    side = int(np.ceil(np.sqrt(n_spots / n_slides)))
    place = np.arange(n_spots) // n_slides
    coords = np.stack([place % side, place // side], axis=1).astype(float)
    slides = np.arange(n_spots) % n_slides
    programmes = rng.standard_normal((n_spots, 16))
    if smooth:
        for slide in range(n_slides):
            here = slides == slide
            apart = np.square(coords[here][:, None] - coords[here][None]).sum(-1)
            kernel = np.exp(-apart / (2 * smooth**2)) + 1e-6 * np.eye(here.sum())
            programmes[here] = np.linalg.cholesky(kernel) @ programmes[here]
    loadings = np.zeros((16, n_genes))
    shared = n_primary + n_useful
    for gene in range(shared + n_unrelated):
        first, last = (0, 8) if gene < shared else (8, 16)
        active = rng.choice(np.arange(first, last), size=2, replace=False)
        loadings[active, gene] = rng.normal(size=2)
    loadings *= strength
    log_rate = programmes @ loadings + np.log(rng.gamma(2.0, 1.0, n_genes) + 0.5)
    shift = rng.choice([-batch_effect, batch_effect], n_slides)
    shift[: min(2, n_slides)] = [batch_effect, -batch_effect][: min(2, n_slides)]
    log_rate[:, :n_primary] += shift[slides][:, None]
    log_rate[:, shared + n_unrelated :] += shift[slides][:, None]
    size = np.exp(depth * rng.standard_normal((n_spots, 1)))
    counts = rng.poisson(np.exp(log_rate) * size * rng.gamma(4.0, 0.25, (n_spots, n_genes)))
    library = np.round(5000 * size[:, 0]).astype(np.int64)
    names = tuple(f"G{i}" for i in range(n_genes))
    training = TrainingSpots(sparse.csr_matrix(counts.astype(np.int32)), library, slides, coords, names)
    kind = np.repeat([0, 1, 2], kinds)
    return Planted(Candidates(training, np.arange(n_primary), np.arange(n_primary, n_genes)), kind == 0, kind == 1)


@pytest.fixture(scope="session")
def planted() -> Callable[..., Planted]:
    return plant


@pytest.fixture
def spots() -> TrainingSpots:
    """Unsorted slides with gaps in their codes, a slide of one spot, genes without counts, real-looking depth."""
    rng = np.random.default_rng(5)
    n, g = 150, 80
    counts = rng.poisson(rng.gamma(0.6, 2.0, g) * rng.gamma(3.0, 1 / 3, (n, g)) * rng.gamma(2.0, 0.5, (n, 1)))
    counts[:, 7] = 0
    slides = rng.choice([11, 3, -2], n)
    slides[40] = 99
    library = counts.sum(axis=1) + rng.integers(100, 400, n)
    names = tuple(f"G{i}" for i in range(g))
    return TrainingSpots(sparse.csr_matrix(counts), library, slides, rng.uniform(0, 900, (n, 2)), names)
