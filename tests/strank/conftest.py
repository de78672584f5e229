"""One batch that has everything: unsorted slides, a lonely spot, an empty spot, a gene without counts.

And four ways to a loss, because four pieces of code know it: compiled, in torch operations with the gradient written
out, the same asked for the value alone, and in operations that autograd can differentiate again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from strank.losses import native

WAYS = ("compiled", "torch", "no_grad", "differentiable")


class Batch(NamedTuple):
    scores: Tensor
    counts: Tensor
    slides: Tensor
    library_size: Tensor


class Way(NamedTuple):
    """One of `WAYS` to the value `[gene]` of a loss and to its gradient `[spot, gene]`."""

    name: str

    def __call__(
        self, loss: Callable[..., Tensor], scores: Tensor, *rest: Any, seed: int = 0, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """A loss that draws does so from `seed`; a value alone has the gradient of the torch version beside it."""

        def value_of(scores: Tensor) -> Tensor:
            draw = {"generator": torch.Generator().manual_seed(seed)} if "generator" in loss.__kwdefaults__ else {}
            return loss(scores, *rest, **options, **draw)

        if self.name == "differentiable":
            value, pull = torch.func.vjp(value_of, scores.detach())
            return value, pull(torch.ones_like(value))[0]
        if self.name == "compiled" and scores.dtype == torch.float64:  # the compiled losses serve float32 alone
            scores = scores.float()
        scores = scores.detach().clone().requires_grad_()
        value = value_of(scores)
        (gradient,) = torch.autograd.grad(value.sum(), scores)
        if self.name == "no_grad":
            with torch.no_grad():
                value = value_of(scores)
        return value.detach(), gradient


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


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    if request.param != "compiled":
        monkeypatch.setattr(native, "library", None)
    elif native.library is None:
        pytest.skip("the package was installed without a compiler")
    return Way(request.param)
