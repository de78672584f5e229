"""One batch that has everything: unsorted slides, a lonely spot, an empty spot, a gene without counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor


class Batch(NamedTuple):
    scores: Tensor
    counts: Tensor
    slides: Tensor
    library_size: Tensor


def make_batch(n_spots: int = 30, n_genes: int = 4, n_slides: int = 4, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n_spots, n_genes, generator=generator, dtype=torch.float64)
    counts = torch.poisson(
        torch.rand(n_spots, n_genes, generator=generator, dtype=torch.float64) * 4, generator=generator
    )
    counts[:, -1] = 0
    slides = torch.randint(0, n_slides, (n_spots,), generator=generator) * 10 - 5
    slides[2] = 1_000_000
    library_size = counts.sum(1) + torch.randint(1, 30, (n_spots,), generator=generator)
    counts[4], library_size[4] = 0, 0
    return Batch(scores, counts, slides, library_size)


@pytest.fixture(name="make_batch")
def _make_batch() -> Callable[..., Batch]:
    return make_batch


@pytest.fixture
def batch() -> Batch:
    return make_batch()
