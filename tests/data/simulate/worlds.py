"""Simulated sections in memory, and the correlation their tests read."""

from __future__ import annotations

import numpy as np

from agl.data.simulate.counts import plant_genes
from agl.data.simulate.settings import settings_of
from agl.data.simulate.task import draw_section


def drawn(
    preset: str,
    seed: int,
    *,
    n_slides: int = 4,
    n_spots: int = 150,
    features: str = "latent",
    nonlinear: float = 0.0,
) -> tuple:
    settings = settings_of(preset)
    genes = plant_genes(settings, 600, 50, np.random.default_rng([seed, 0]))
    sections = [
        draw_section(
            settings,
            genes,
            patient=k,
            slide=0,
            n_spots=n_spots,
            features=features,
            side=64,
            seed=seed,
            nonlinear=nonlinear,
        )
        for k in range(n_slides)
    ]
    return genes, sections


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson of every column pair, [column of a, column of b]."""
    a, b = a - a.mean(0), b - b.mean(0)
    return (a.T @ b) / np.sqrt(np.outer((a * a).sum(0), (b * b).sum(0)))
