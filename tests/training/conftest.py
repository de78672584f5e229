"""A dataset in memory, small enough to train on in a blink, with signal in it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from agl.data.dataset import Dataset


def make_dataset(
    spots_per_slide: int = 40, slides: int = 3, genes: int = 12, features: int = 6, seed: int = 0
) -> Dataset:
    rng = np.random.default_rng(seed)
    n = spots_per_slide * slides
    x = rng.normal(size=(n, features)).astype(np.float32)
    loadings = rng.normal(size=(features, genes)) * 0.7
    rate = np.exp(1 + x @ loadings)
    counts = rng.poisson(rate).astype(np.int32)
    slide = np.repeat([f"S{i}" for i in range(slides)], spots_per_slide)
    table = pd.DataFrame(
        {
            "barcode": [f"b{i}" for i in range(n)],
            "slide": slide,
            "patient": [f"P{s[1:]}" for s in slide],
            "x": np.tile(np.arange(spots_per_slide) % 8, slides) * 100.0,
            "y": np.tile(np.arange(spots_per_slide) // 8, slides) * 100.0,
        }
    )
    return Dataset(
        spots=table,
        genes=tuple(f"G{i}" for i in range(genes)),
        counts=sparse.csr_matrix(counts),
        library_size=counts.sum(1).astype(np.int64) + 5,
        features=x,
        patches=None,
        key=f"memory-{seed}",
        report={},
    )


@pytest.fixture
def dataset() -> Dataset:
    return make_dataset()
