"""The negative binomial likelihood and both its gradients.

With theta the dispersion, u = log(mu / theta) and S = softplus:

    -log NB(c) = (c + theta) S(u) - c u  -  [log Gamma(c + theta) - log Gamma(theta)]  +  log c!

The bracket does not depend on the scores. For whole counts it is a sum of log(theta + j) over j < c, so that a gene
needs only how many of its counts exceed each j: cheaper than special functions, and exact also for huge theta.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from strank.losses.analytic import Kernel, Outcome, columns
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
        log_theta, c = parameter.log(), self.counts.to(wide(scores.dtype))
        u = self._log_mean(scores) - log_theta
        rising = log_rising(parameter.expand_as(c), log_theta.expand_as(c), c)
        terms = (c + parameter) * F.softplus(u, threshold=40) - c * u - rising + torch.lgamma(c + 1)
        if self.library.keep is not None:
            terms = terms * self.library.keep.unsqueeze(1)
        return terms.sum(0) / max(1, len(scores))

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        assert parameter is not None
        n_spots, n_genes = scores.shape
        dtype, keep = wide(scores.dtype), self.library.keep
        value = torch.empty(n_genes, dtype=dtype, device=scores.device)
        of_theta = torch.empty_like(value)
        table = torch.empty(scores.shape, dtype=dtype, device=scores.device) if gradient else None
        for genes in columns(4 * n_spots, n_genes):  # several arrays at work, so smaller blocks
            theta, c = parameter[genes], self.counts[:, genes].to(dtype)
            if keep is not None:
                c = c * keep.unsqueeze(1)
            u = self._log_mean(scores[:, genes]).sub(theta.log())
            rate = c + theta
            soft = F.softplus(u, threshold=40)
            slope = torch.sigmoid(u).mul_(rate).sub_(c)
            if keep is not None:
                soft.mul_(keep.unsqueeze(1))
                slope.mul_(keep.unsqueeze(1))
            likelihood, of_likelihood = _count_terms(c, theta)
            value[genes] = rate.mul_(soft).addcmul_(c, u, value=-1).sum(0) - likelihood
            of_theta[genes] = soft.sum(0) - slope.sum(0) / theta - of_likelihood
            if table is not None:
                table[:, genes] = slope
        scale = torch.full_like(value, 1 / max(1, n_spots))
        return Outcome(value * scale, scale, table, of_theta * scale)

    def _log_mean(self, scores: Tensor) -> Tensor:
        part = scores.to(wide(scores.dtype))
        return part if self.library.log is None else part + self.library.log.unsqueeze(1)


def _count_terms(counts: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over spots of log Gamma(c + theta) - log Gamma(theta) - log c!, and its derivative in theta; `[gene]`."""
    n_genes = counts.shape[1]
    whole = counts.to(torch.int64).clamp_(0, HIGHEST)
    place = whole + torch.arange(n_genes, device=counts.device) * (HIGHEST + 1)
    seen = torch.bincount(place.flatten(), minlength=n_genes * (HIGHEST + 1)).view(n_genes, -1).double()
    above = seen.sum(1, keepdim=True) - seen.cumsum(1)[:, :-1]  # [gene, j]: how many counts exceed j
    j = torch.arange(HIGHEST, dtype=torch.float64, device=counts.device)
    shifted = theta.double().unsqueeze(1) + j
    value = (above * (shifted.log() - (j + 1).log())).sum(1)
    slope = (above / shifted).sum(1)
    odd = (whole != counts).nonzero()  # large or fractional: replace what was taken for them
    if len(odd):
        gene, c, taken = odd[:, 1], counts[odd[:, 0], odd[:, 1]].double(), whole[odd[:, 0], odd[:, 1]].double()
        at = theta.double()[gene]
        correction = torch.lgamma(at + c) - torch.lgamma(at + taken) - torch.lgamma(c + 1) + torch.lgamma(taken + 1)
        value.index_add_(0, gene, correction)
        slope.index_add_(0, gene, torch.digamma(at + c) - torch.digamma(at + taken))
    return value.to(counts.dtype), slope.to(counts.dtype)
