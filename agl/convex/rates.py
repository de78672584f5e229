"""Losses of every spot on its own whose scores are log rates: Poisson, and negative binomial of known dispersion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from agl.convex.curved import Curved, Local, at_least_some
from agl.convex.lists import log_library
from agl.convex.spots import FittedSpots
from strank.losses.inputs import TARGET_SUM
from strank.losses.special import HIGHEST_LOG_RATE


@dataclass(frozen=True)
class Rates(Curved):
    """`strank.poisson_nll` times the number of spots: gradient rate - count, curvature rate."""

    counts: Tensor  # [gene, spot]
    mass: Tensor
    offset: Tensor | None  # [spot] log of library size / 10,000
    level: Tensor

    @classmethod
    def of(cls, counts: Tensor, spots: FittedSpots) -> Rates:
        offset = log_library(spots, TARGET_SUM)
        total = counts.sum(1)
        return cls(counts, at_least_some(total / spots.n_given), offset, log_mean_rate(total, len(spots), offset))

    def narrow(self, genes: Tensor) -> Self:
        return type(self)(self.counts[genes], self.mass[genes], self.offset, self.level[genes])

    def at(self, scores: Tensor) -> Local:
        log_rate = scores if self.offset is None else scores + self.offset
        rate = log_rate.clamp(max=HIGHEST_LOG_RATE).exp_()  # from there on a straight line
        return Local(rate - self.counts, (rate * (log_rate < HIGHEST_LOG_RATE)).mul)


@dataclass(frozen=True)
class Overdispersed(Curved):
    """`strank.negative_binomial_nll` times the number of spots, with q = mean / (mean + theta): gradient
    (c + theta) q - c, curvature (c + theta) q (1 - q); the mass m theta / (m + theta) is the information at the
    mean count m."""

    counts: Tensor  # [gene, spot]
    theta: Tensor  # [gene, 1]
    mass: Tensor
    offset: Tensor | None
    level: Tensor

    @classmethod
    def of(cls, counts: Tensor, spots: FittedSpots, dispersion: Tensor) -> Overdispersed:
        offset, total = log_library(spots, TARGET_SUM), counts.sum(1)
        mean = total / spots.n_given
        mass = at_least_some(mean * dispersion / (mean + dispersion))
        level = log_mean_rate(total, len(spots), offset)
        return cls(counts, dispersion.unsqueeze(1), mass, offset, level)

    def narrow(self, genes: Tensor) -> Self:
        return type(self)(self.counts[genes], self.theta[genes], self.mass[genes], self.offset, self.level[genes])

    def at(self, scores: Tensor) -> Local:
        log_mean = scores if self.offset is None else scores + self.offset
        q = torch.sigmoid(log_mean - self.theta.log())
        rate = (self.counts + self.theta) * q
        return Local(rate - self.counts, (rate * (1 - q)).mul)


def log_mean_rate(total: Tensor, n_spots: int, offset: Tensor | None) -> Tensor:
    """The constant score `[gene]` that a Poisson likelihood likes best; half a count where none was seen."""
    exposure = float(n_spots) if offset is None else offset.exp().sum()
    return (total.clamp(min=0.5) / exposure).log()
