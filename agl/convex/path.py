"""The solvers of a path of penalties, for some genes and one penalty at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agl.convex.losses import Choice
from agl.convex.newton import Minimum, minimise
from agl.convex.spots import FittedSpots
from agl.convex.squares import Squares
from agl.errors import UserError

TABLE = 1 << 18  # numbers in a table [gene, spot] of a batch: the solver keeps about ten, most of them in the cache
PAIR_TABLE = 1 << 22  # numbers in a table [gene, spot, spot], of which pairs keep one
MOST_PAIRED = 10_000  # spots of a slide whose pairs still fit: 0.8 GB a gene

Start = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Newton:
    """Curved losses, from the optimum of the penalty before."""

    choice: Choice
    spots: FittedSpots
    counts: Any
    tolerance: float

    def solve(self, genes: slice, penalty: float, start: Start | None) -> tuple[Minimum, Tensor]:
        spots, x, spread = self.spots, self.spots.x, self.spots.spread
        assert self.choice.curved is not None
        loss = self.choice.curved(spots.gene_major(self.counts, genes), spots, genes)
        ridge = torch.full_like(spread, penalty)
        b, level = (x.new_zeros(len(loss.mass), x.shape[1]), loss.level) if start is None else start
        if loss.level is None:
            found = minimise(loss, x, spread, ridge, b, tolerance=self.tolerance, n_spots=spots.n_given)
            return found, torch.zeros_like(loss.mass)
        assert level is not None
        one = x.new_ones(1)  # the intercept: a feature that is 1 everywhere and not penalised
        found = minimise(
            loss,
            torch.cat([x, one.expand(len(x), 1)], 1),
            torch.cat([spread, one]),
            torch.cat([ridge, 0 * one]),
            torch.cat([b, level[:, None]], 1),
            tolerance=self.tolerance,
            n_spots=spots.n_given,
        )
        return found._replace(coefficients=found.coefficients[:, :-1]), found.coefficients[:, -1]


class Closed:
    """Squares: all genes of a penalty at once, handed out batch by batch."""

    def __init__(self, choice: Choice, spots: FittedSpots, counts: Any, batches: list[slice]) -> None:
        self.squares = Squares.of(counts, spots, batches, centred=choice.within, standardised=choice.standardised)
        self.ready: tuple[float, Minimum] | None = None

    def solve(self, genes: slice, penalty: float, start: Start | None) -> tuple[Minimum, Tensor]:
        if self.ready is None or self.ready[0] != penalty:
            self.ready = penalty, self.squares.minimum(penalty)
        return Minimum(*(part[genes] for part in self.ready[1])), self.squares.level[genes]


def loss_of(choice: Choice, spots: FittedSpots, counts: Any, genes: slice, b: Tensor, level: Tensor) -> Tensor:
    """strank's loss `[gene]` of solved heads on the training spots."""
    scores = torch.addmm(level, spots.x, b.T)
    value = choice.value(scores, spots.gene_major(counts, genes).T, spots, genes)
    return value * (len(spots) / spots.n_given) if choice.per_spot else value


def gene_batches(choice: Choice, spots: FittedSpots, n_genes: int) -> list[slice]:
    """Genes that are solved together: few enough for memory, enough for a good matrix product."""
    size = max(16, TABLE // len(spots))
    if choice.name == "pairwise":
        longest = max(part.stop - part.start for part in spots.slices)
        if longest > MOST_PAIRED:
            raise UserError(
                f"Expected slides of at most {MOST_PAIRED} spots for all their pairs, received {longest}; "
                "use loss=listwise, which sees the same contrasts."
            )
        size = max(1, PAIR_TABLE // sum((part.stop - part.start) ** 2 for part in spots.slices))
    return [slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size)]
