"""The pair loss over all pairs of spots of a slide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from agl.convex.curved import Curved, Local, at_least_some
from agl.convex.lists import log_library
from agl.convex.spots import FittedSpots


@dataclass(frozen=True)
class Pairs(Curved):
    r"""The mean of `strank.pairwise_nll` over all draws of partners, times the number of spots.

    .. math:: \sum_k \frac1{n_k - 1} \sum_{i \ne j \in k} m_{ij}^{\gamma-1} c_i \log(1 + e^{t_j - t_i})

    with t the scores plus log library size: every spot has all others of its slide as partners. Only spots with counts
    have a row of pairs. With w the curvature of a pair, the Hessian is that of springs: w (d_i - d_j) along d.
    """

    counts: Tensor  # [gene, spot]
    mass: Tensor
    slices: list[slice]
    offset: Tensor | None
    count_power: float
    bend = 0.5  # two spots, each with p (1 - p) near 1/4

    @classmethod
    def of(cls, counts: Tensor, spots: FittedSpots, count_power: float) -> Pairs:
        slices = [part for part in spots.slices if part.stop - part.start > 1]
        found = cls(counts, torch.zeros_like(counts[:, 0]), slices, log_library(spots), count_power)
        for gene, part, rows, c in found._rows():  # a spot with itself is no pair
            others = found._weights(gene, part, rows).sum(1) - self_weight(c, count_power) / (
                part.stop - part.start - 1
            )
            found.mass[gene] += (c * others).sum()
        return cls(counts, at_least_some(found.mass / spots.n_given), slices, found.offset, count_power)

    def narrow(self, genes: Tensor) -> Self:
        return type(self)(self.counts[genes], self.mass[genes], self.slices, self.offset, self.count_power)

    def at(self, scores: Tensor) -> Local:
        gradient, diagonal = torch.zeros_like(scores), torch.zeros_like(scores)
        springs: list[Tensor] = []
        for gene, part, rows, c in self._rows():  # one gene's pairs of one slide stay in the cache
            lost = self._gaps(scores, gene, part, rows).sigmoid_()  # 1 - p; 1/2 on the diagonal, which cancels
            if self.count_power == 1:
                spring = lost * (1 - lost)
                factor = c / (part.stop - part.start - 1)
            else:
                weight = self._weights(gene, part, rows)
                spring, lost, factor = lost * (1 - lost) * weight, lost * weight, c
            one = c.new_ones(lost.shape[1])
            for table, matrix, sign in ((gradient, lost, -1), (diagonal, spring, 1)):
                column = table[gene, part]
                column += factor @ matrix
                column.index_add_(0, rows, factor * (matrix @ one), alpha=sign)
            springs.append(spring)

        def curve(direction: Tensor) -> Tensor:
            bent = diagonal * direction
            for (gene, part, rows, c), spring in zip(self._rows(), springs, strict=True):
                factor = c / (part.stop - part.start - 1) if self.count_power == 1 else c
                d, column = direction[gene, part], bent[gene, part]
                column -= (factor * d[rows]) @ spring
                column.index_add_(0, rows, factor * (spring @ d), alpha=-1)
            return bent

        return Local(gradient, curve)

    def value(self, scores: Tensor) -> Tensor:
        """`[gene]`, summed over spots."""
        value = scores.new_zeros(len(scores))
        for gene, part, rows, c in self._rows():
            loss = F.softplus(self._gaps(scores, gene, part, rows), threshold=40)
            own = loss.new_full((), 2.0).log() * self_weight(c, self.count_power)  # a spot with itself
            value[gene] += (c * ((loss * self._weights(gene, part, rows)).sum(1) - own / (loss.shape[1] - 1))).sum()
        return value

    def _rows(self) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Each gene and slide: which of its spots have counts, and these."""
        for gene in range(len(self.counts)):
            for part in self.slices:
                c = self.counts[gene, part]
                rows = c.nonzero().squeeze(1)
                if len(rows):
                    yield gene, part, rows, c[rows]

    def _gaps(self, scores: Tensor, gene: int, part: slice, rows: Tensor) -> Tensor:
        """`[spot with counts, spot]`: by how much the other one's score is higher."""
        logits = scores[gene, part] if self.offset is None else scores[gene, part] + self.offset[part]
        return logits - logits[rows].unsqueeze(1)

    def _weights(self, gene: int, part: slice, rows: Tensor) -> Tensor:
        """`[spot with counts, spot]`: a pair's mean count to the power `count_power` - 1, over the number of others."""
        c = self.counts[gene, part]
        return ((c + c[rows].unsqueeze(1)) / 2) ** (self.count_power - 1) / (len(c) - 1)


def self_weight(c: Tensor, count_power: float) -> Tensor:
    """What `m_ij^(count_power - 1)` is for i = j."""
    return c ** (count_power - 1)
