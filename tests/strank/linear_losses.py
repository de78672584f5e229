"""The losses of a linear head in one piece and apart, and what they are tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import strank
from strank.losses import head

N_GENES = 150  # three tiles of 64 at most


def all_pairs(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    count_power: float = 1.0,
) -> Tensor:
    """By its formula, a pair at a time."""
    size = torch.ones(len(scores), dtype=scores.dtype) if library_size is None else library_size
    codes = torch.zeros(len(scores)) if slides is None else slides
    value = 0.0 * scores.sum(0)
    for i in range(len(scores)):
        others = [j for j in range(len(scores)) if j != i and codes[j] == codes[i] and size[j] > 0 and size[i] > 0]
        for j in others:
            log_p = F.logsigmoid(scores[i] - scores[j] + (size[i] / size[j]).log())
            mean = (counts[i] + counts[j]) / 2
            weight = torch.where(mean > 0, torch.where(mean > 0, mean, 1.0) ** (count_power - 1), 0.0)
            value = value - counts[i] * log_p * weight / len(others)
    return value / max(1, len(scores))


class Case(NamedTuple):
    fused: Callable[..., Tensor]
    apart: Callable[..., Tensor]
    options: dict[str, Any] = {}  # noqa: RUF012

    def more(self) -> dict[str, Any]:
        drawn = {"generator": torch.Generator().manual_seed(1)} if "n_partners" in self.options else {}
        return self.options | drawn


CASES = {
    "listwise": Case(strank.linear_listwise_nll, strank.listwise_nll),
    "listwise_weak": Case(strank.linear_listwise_nll, strank.listwise_nll, {"count_power": 0.5}),
    "all_pairs": Case(strank.linear_pairwise_nll, all_pairs),
    "all_pairs_weak": Case(strank.linear_pairwise_nll, all_pairs, {"count_power": 0.5}),
    "pairwise": Case(strank.linear_pairwise_nll, strank.pairwise_nll, {"n_partners": 2}),
    "pearson": Case(strank.linear_pearson_loss, strank.pearson_loss),
    "pearson_pooled": Case(strank.linear_pearson_loss, strank.pearson_loss, {"pooled": True}),
    "poisson": Case(strank.linear_poisson_nll, strank.poisson_nll),
    "mse": Case(strank.linear_mse, strank.mse),
    "mse_centred": Case(strank.linear_mse, strank.mse, {"centred": True}),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


class Inputs(NamedTuple):
    features: Tensor
    weight: Tensor
    bias: Tensor | None
    counts: Any
    slides: Tensor | None
    library_size: Tensor | None

    @property
    def learnt(self) -> list[Tensor]:
        return [t for t in self[:3] if t is not None and t.requires_grad]


@pytest.fixture
def inputs(make_batch) -> Inputs:
    return of_batch(make_batch(n_spots=24, n_genes=N_GENES, n_slides=3))


def of_batch(batch, dtype: torch.dtype = torch.float64, n_features: int = 5) -> Inputs:
    generator = torch.Generator().manual_seed(3)
    n_spots, n_genes = batch.counts.shape
    made = [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((n_spots, n_features), (n_genes, n_features), (n_genes,))
    ]
    return Inputs(*made, batch.counts.to(dtype), batch.slides, batch.library_size.to(dtype))


@pytest.fixture(autouse=True)
def narrow(monkeypatch) -> None:
    monkeypatch.setitem(head.BLOCK, "cpu", 1)  # tiles as narrow as can be, so that there are several


def fused(case: Case, inputs: Inputs, **more: Any) -> Tensor:
    slides, library_size = inputs[4:]
    return case.fused(*inputs[:4], slides=slides, library_size=library_size, **case.more(), **more)


def apart(case: Case, inputs: Inputs) -> Tensor:
    scores = F.linear(inputs.features, inputs.weight, inputs.bias)
    return case.apart(scores, inputs.counts, slides=inputs.slides, library_size=inputs.library_size, **case.more())


def gradients(value: Tensor, inputs: Inputs) -> list[Tensor]:
    return list(torch.autograd.grad(value, inputs.learnt))


def scale_of(gradient: Tensor) -> float:
    """A size to compare errors with: most losses do not see a gene's level, so that the bias has gradient 0."""
    return max(float(gradient.abs().max()), 0.1 if gradient.ndim == 1 else 0.0)
