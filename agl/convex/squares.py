"""Squared errors: one eigendecomposition gives the optimum for every penalty.

`strank.mse`, centred or not, and the quadratic form of Pearson's correlation: squared distance to targets that are
centred and standardised inside each slide. There a slide takes part only where its target varies, as in
`strank.pearson_loss`, so that genes with the same slides share a decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agl.convex.newton import Minimum
from agl.convex.spots import FittedSpots
from strank.groups import FEWEST_SPOTS
from strank.losses.inputs import TARGET_SUM, log_target


@dataclass(frozen=True)
class Squares:
    """min |X b - y|^2 / n + penalty |b|^2: b = V (w + penalty)^-1 V' X'y / n with X'X / n = V diag(w) V'.

    n counts the spots of the slides that take part.
    """

    cross: Tensor  # [gene, component] X'y / n
    level: Tensor  # [gene] mean target, 0 where the loss does not see it
    grams: list[Tensor]  # [component, component] X'X / n for each set of slides
    axes: list[tuple[Tensor, Tensor]]  # their eigenvalues and eigenvectors
    members: list[Tensor]  # the genes of each set

    @classmethod
    def of(cls, counts: Any, spots: FittedSpots, genes: list[slice], *, centred: bool, standardised: bool) -> Squares:
        """Sums over spots of all genes, some at a time."""
        crosses, levels, used = [], [], []
        factor = None if spots.library_size is None else TARGET_SUM / spots.library_size
        for some in genes:
            y = log_target(spots.gene_major(counts, some).T, factor).T
            level = y.mean(1, keepdim=True)
            y = spots.centred(y) if centred else y - level
            levels.append(torch.zeros_like(level) if centred else level)
            if standardised:
                y, defined = standardise(y, spots)
                used.append(defined)
            crosses.append(y @ spots.x)
        cross, level = torch.cat(crosses), torch.cat(levels).squeeze(1)
        everywhere = torch.ones(len(cross), len(spots.slices), dtype=torch.bool, device=cross.device)
        sets, which = torch.unique(torch.cat(used) if used else everywhere, dim=0, return_inverse=True)
        grams, axes, members = [], [], []
        for number, chosen in enumerate(sets):
            rows = chosen[spots.codes]
            x, mine = spots.x[rows], (which == number).nonzero().squeeze(1)
            n = max(1, len(x))
            cross[mine] /= n
            grams.append(x.T @ x / n)
            axes.append(tuple(torch.linalg.eigh(grams[-1])))
            members.append(mine)
        return cls(cross, level, grams, axes, members)

    def minimum(self, penalty: float) -> Minimum:
        """The optimum and the gradient that rounding left there, all genes."""
        b, norm = torch.empty_like(self.cross), torch.empty_like(self.level)
        for gram, (values, vectors), mine in zip(self.grams, self.axes, self.members, strict=True):
            cross = self.cross[mine]
            b[mine] = ((cross @ vectors) / (values.clamp(min=0) + penalty)) @ vectors.T
            norm[mine] = 2 * (b[mine] @ gram - cross + penalty * b[mine]).abs().amax(1)
        return Minimum(b, norm, torch.ones_like(norm, dtype=torch.long))


def standardise(y: Tensor, spots: FittedSpots) -> tuple[Tensor, Tensor]:
    """Centred targets in units of their spread inside a slide, 0 where they do not vary; bool `[gene, slide]` where
    they do."""
    parts, defined = [], []
    for part in spots.by_slide(y):
        spread = part.square().mean(1).sqrt()
        varies = (spread > 1e-6) & (part.shape[1] >= FEWEST_SPOTS)  # a count in a million spots is still ten times that
        parts.append(part * torch.where(varies, 1 / spread, 0.0)[:, None])
        defined.append(varies)
    return torch.cat(parts, 1), torch.stack(defined, 1)
