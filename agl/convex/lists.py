"""The list loss: how a gene's counts spread over the spots of a slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from agl.convex.curved import Curved, Local, at_least_some
from agl.convex.spots import FittedSpots


@dataclass(frozen=True)
class ListCurve(Curved):
    """`strank.listwise_nll` with whole slides as lists, times the number of spots.

    With a slide's total T, softmax p and weight w = mean count^(power - 1): gradient w (T p - c), Hessian
    w T (diag p - p p'), and the mass is the sum of w T over slides, per spot.
    """

    counts: Tensor  # [gene, spot], times the slide's weight
    totals: Tensor  # [gene, slide], times the slide's weight
    mass: Tensor
    slices: list[slice]
    offset: Tensor | None  # [spot] log library size

    @classmethod
    def of(cls, counts: Tensor, spots: FittedSpots, count_power: float) -> ListCurve:
        totals = torch.stack([part.sum(1) for part in spots.by_slide(counts)], 1)
        if count_power != 1:
            weight = slide_weight(totals, spots, count_power)
            counts, totals = counts * weight[:, spots.codes], totals * weight
        mass = at_least_some(totals.sum(1) / spots.n_given)
        return cls(counts, totals, mass, spots.slices, log_library(spots))

    def narrow(self, genes: Tensor) -> Self:
        return type(self)(self.counts[genes], self.totals[genes], self.mass[genes], self.slices, self.offset)

    def at(self, scores: Tensor) -> Local:
        p, gradient = torch.empty_like(scores), torch.empty_like(scores)
        totals = self.totals.unsqueeze(2)
        for k, part in enumerate(self.slices):  # a slide of some genes stays in the cache
            logits = scores[:, part] if self.offset is None else scores[:, part] + self.offset[part]
            p[:, part] = torch.softmax(logits, 1)
            torch.addcmul(-self.counts[:, part], p[:, part], totals[:, k], out=gradient[:, part])

        def curve(direction: Tensor) -> Tensor:
            bent = torch.empty_like(direction)
            for k, part in enumerate(self.slices):
                own = p[:, part]
                moved = own * direction[:, part]
                moved.addcmul_(own, moved.sum(1, keepdim=True), value=-1)
                torch.mul(moved, totals[:, k], out=bent[:, part])
            return bent

        return Local(gradient, curve)


def slide_weight(totals: Tensor, spots: FittedSpots, count_power: float) -> Tensor:
    """`[gene, slide]`: mean count to the power `count_power` - 1, 0 for a slide without counts."""
    lengths = torch.tensor([part.stop - part.start for part in spots.slices]).to(totals)
    mean = totals / lengths
    return torch.where(mean > 0, mean.where(mean > 0, 1.0) ** (count_power - 1), 0.0)


def log_library(spots: FittedSpots, reference: float = 1.0) -> Any:
    """`[spot]` log of library size over a reference, or None."""
    return None if spots.library_size is None else (spots.library_size / reference).log()
