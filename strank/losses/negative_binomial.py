"""The negative binomial likelihood and both its gradients.

With theta the dispersion, u = log(mu / theta) and S = softplus:

    -log NB(c) = (c + theta) S(u) - c u  -  [log Gamma(c + theta) - log Gamma(theta)]  +  log c!

The bracket does not depend on the scores. For whole counts it is a sum of log(theta + j) over j < c, so that a gene
needs only how many of its counts exceed each j: cheaper than special functions, and exact also for huge theta.
At a count of 1e6 the terms are of 1e7 and leave some 10 nats, which float32 cannot hold: large counts, which are rare,
are worked out in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from strank.losses.analytic import Kernel, Outcome, block_for, columns
from strank.losses.inputs import Library, wide
from strank.losses.special import log_rising

HIGHEST = 64  # counts above are rare; they go through special functions


class NegativeBinomialKernel(Kernel):
    """Its parameter is the dispersion `[gene]`; spots without library take no part."""

    def __init__(self, counts: Tensor, library: Library) -> None:
        self.counts = counts
        self.library = library

    def value(self, scores: Tensor, parameter: Tensor | None) -> Tensor:
        assert parameter is not None
        theta, c = parameter.double(), self.counts.double()
        log_theta = theta.log()
        u = self._log_mean(scores).double() - log_theta
        rising = log_rising(theta.expand_as(c), log_theta.expand_as(c), c)
        terms = (c + theta) * F.softplus(u, threshold=40) - c * u - rising + torch.lgamma(c + 1)
        if self.library.keep is not None:
            terms = terms * self.library.keep.unsqueeze(1)
        return (terms.sum(0) / max(1, len(scores))).to(wide(scores.dtype))

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        assert parameter is not None
        n_spots, n_genes = scores.shape
        dtype, keep = wide(scores.dtype), self.library.keep
        value = torch.empty(n_genes, dtype=dtype, device=scores.device)
        of_theta = torch.empty_like(value)
        table = torch.empty(scores.shape, dtype=dtype, device=scores.device) if gradient else None
        for genes in columns(4 * n_spots, n_genes, block_for(scores.device)):  # several arrays at work
            theta, c = parameter[genes], self.counts[:, genes].to(dtype)
            if keep is not None:
                c = c * keep.unsqueeze(1)
            log_mean = self._log_mean(scores[:, genes])
            rare = (c != _whole(c)).nonzero(as_tuple=True)
            exact = _rare_terms(c[rare], log_mean[rare], theta, rare[1])
            if len(rare[0]):
                c = c.index_put(rare, c.new_zeros(()))
            u = log_mean.sub(theta.log())
            rate = c + theta
            soft = F.softplus(u, threshold=40)
            slope = torch.sigmoid(u).mul_(rate).sub_(c)
            if len(rare[0]):
                soft.index_put_(rare, soft.new_zeros(()))
                slope.index_put_(rare, exact.slope.to(dtype))
            if keep is not None:
                soft.mul_(keep.unsqueeze(1))
                slope.mul_(keep.unsqueeze(1))
            likelihood, of_likelihood = _count_terms(c, theta)
            terms = rate.mul_(soft).addcmul_(c, u, value=-1).sum(0)
            value[genes] = (exact.value + terms - likelihood).to(dtype)
            of_theta[genes] = (exact.of_theta + soft.sum(0) - slope.sum(0) / theta - of_likelihood).to(dtype)
            if table is not None:
                table[:, genes] = slope
        scale = torch.full_like(value, 1 / max(1, n_spots))
        return Outcome(value * scale, scale, table, of_theta * scale)

    def _log_mean(self, scores: Tensor) -> Tensor:
        part = scores.to(wide(scores.dtype))
        return part if self.library.log is None else part + self.library.log.unsqueeze(1)


class _Rare(NamedTuple):
    """What large and fractional counts add, in float64."""

    value: Tensor  # [gene]
    slope: Tensor  # [count], in the score
    of_theta: Tensor  # [gene], of the value, beside -slope / theta


def _rare_terms(c: Tensor, log_mean: Tensor, theta: Tensor, gene: Tensor) -> _Rare:
    """The whole likelihood of single counts `[count]` of the genes `gene` `[count]`."""
    nothing = torch.zeros_like(theta, dtype=torch.float64)
    if not len(c):
        return _Rare(nothing, nothing[:0], nothing)
    c, at = c.double(), theta.double()[gene]
    u = log_mean.double() - at.log()
    soft = F.softplus(u, threshold=40)
    value = (c + at) * soft - c * u - log_rising(at, at.log(), c) + torch.lgamma(c + 1)
    of_theta = soft - torch.digamma(at + c) + torch.digamma(at)
    slope = at * torch.sigmoid(u) - c * torch.sigmoid(-u)
    return _Rare(nothing.index_add(0, gene, value), slope, nothing.index_add(0, gene, of_theta))


def _whole(counts: Tensor) -> Tensor:
    """Counts as whole numbers of at most `HIGHEST`."""
    return counts.to(torch.int64).clamp_(0, HIGHEST)


def _count_terms(counts: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over spots of log Gamma(c + theta) - log Gamma(theta) - log c!, and its derivative in theta; `[gene]`.

    For whole counts of at most `HIGHEST`; float64.
    """
    n_genes = counts.shape[1]
    place = _whole(counts) + torch.arange(n_genes, device=counts.device) * (HIGHEST + 1)
    seen = torch.bincount(place.flatten(), minlength=n_genes * (HIGHEST + 1)).view(n_genes, -1).double()
    above = seen.sum(1, keepdim=True) - seen.cumsum(1)[:, :-1]  # [gene, j]: how many counts exceed j
    j = torch.arange(HIGHEST, dtype=torch.float64, device=counts.device)
    shifted = theta.double().unsqueeze(1) + j
    value = (above * (shifted.log() - (j + 1).log())).sum(1)
    return value, (above / shifted).sum(1)
