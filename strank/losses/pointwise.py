"""Pointwise losses: every spot on its own; the controls that STRank is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from strank.groups import Block, check_inputs
from strank.losses import native
from strank.losses.analytic import Outcome, Scratch, evaluate
from strank.losses.by_list import ListKernel
from strank.losses.inputs import Library, log_target, per_gene, read_factor, read_library, wide
from strank.losses.negative_binomial import NegativeBinomialKernel
from strank.losses.special import HIGHEST_LOG_RATE, LOG2_E


class SquaredError(ListKernel):
    """(score - target)^2, both minus their list's mean if `centred`."""

    def __init__(
        self, counts: Tensor, groups: Tensor | None, keep: Tensor | None, factor: Tensor | None, centred: bool
    ) -> None:
        super().__init__(counts, groups, keep)
        self.factor = factor
        self.centred = self.ignores_shifts = centred

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        if gradient and not self.centred and native.serves(scores, self.counts, self.factor):
            return native.squares(scores, self.counts, self.keep, self.factor)
        return super().run(scores, parameter, gradient=gradient)

    def on_gpu(self, scores: Tensor, *, gradient: bool, out: Tensor | None) -> Outcome | None:
        if self.centred:
            return None
        from strank.losses.triton_points import points

        return points(scores, self.counts, self.keep, self.factor, poisson=False, gradient=gradient, out=out)

    def terms(self, scores: Tensor, counts: Tensor, block: Block) -> tuple[Tensor, None]:
        rest = scores - log_target(counts, None if self.factor is None else block.take(self.factor).to(counts.dtype))
        if block.real is not None:
            rest = rest * block.real
        if self.centred:
            rest = rest - rest.sum(1, keepdim=True) / block.lengths
        if block.real is not None:
            rest = rest * block.real
        return (rest * rest).sum((0, 1)), None

    def fused(self, scores: Tensor, counts: Tensor, block: Block, out: Tensor, scratch: Scratch) -> tuple[Tensor, None]:
        factor = None if self.factor is None else block.take(self.factor).to(counts.dtype)
        target = log_target(counts, factor, out=scratch.get("target", *out.shape))
        rest = torch.sub(scores, target, out=out)
        if block.real is not None:
            block.clear_(rest, 0.0)
        if self.centred:
            block.clear_(rest.sub_(rest.sum(1, keepdim=True) / block.lengths), 0.0)
        value = torch.mul(rest, rest, out=target).sum((0, 1))
        rest.mul_(2)
        return value, None


class Poisson(ListKernel):
    """rate - count * log rate; the gradient is rate - count."""

    def __init__(self, counts: Tensor, library: Library) -> None:
        super().__init__(counts, None, library.keep)
        self.offset = library.log

    def run(self, scores: Tensor, parameter: Tensor | None, *, gradient: bool) -> Outcome:
        if gradient and native.serves(scores, self.counts, self.offset):
            return native.rates(scores, self.counts, self.keep, self.offset)
        return super().run(scores, parameter, gradient=gradient)

    def on_gpu(self, scores: Tensor, *, gradient: bool, out: Tensor | None) -> Outcome:
        from strank.losses.triton_points import points

        return points(scores, self.counts, self.keep, self.offset, poisson=True, gradient=gradient, out=out)

    def terms(self, scores: Tensor, counts: Tensor, block: Block) -> tuple[Tensor, None]:
        log_rate = scores if self.offset is None else scores + block.take(self.offset).unsqueeze(-1).to(scores.dtype)
        beyond = (log_rate - HIGHEST_LOG_RATE).clamp(min=0)
        below = torch.where(beyond > 0, HIGHEST_LOG_RATE, log_rate)  # the slope of a clamp would be 0 at NaN
        rate = below.exp() * (1 + beyond)
        return (rate - counts * log_rate).sum((0, 1)), None

    def fused(self, scores: Tensor, counts: Tensor, block: Block, out: Tensor, scratch: Scratch) -> tuple[Tensor, None]:
        offset = 0.0 if self.offset is None else block.take(self.offset).unsqueeze(-1).to(scores.dtype)
        log_rate = torch.add(scores, offset, out=scratch.get("log_rate", *out.shape))
        torch.clamp(log_rate, max=HIGHEST_LOG_RATE, out=out).mul_(LOG2_E).exp2_()
        terms = torch.sub(log_rate, HIGHEST_LOG_RATE, out=scratch.get("terms", *out.shape))
        terms.clamp_(min=0).mul_(out).add_(out).addcmul_(counts, log_rate, value=-1)
        value = terms.sum((0, 1))
        out.sub_(counts)
        return value, None


def mse(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    centred: bool = False,
) -> Tensor:
    r"""Mean squared error against log counts.

    .. math:: L_g = \frac1n \sum_i (s_i - y_i)^2, \qquad y = \log(1 + c) \text{ or } \log(1 + 10^4 c / l)

    Args:
        scores: `[spot, gene]`, floating point; half precision is accumulated in float32.
        counts: raw counts `[spot, gene]`, any numeric dtype.
        slides: integer codes `[spot]`, in any order; None for one slide. Used if `centred`.
        library_size: `[spot]`, totals over all genes; normalises the counts. Spots with 0 contribute 0.
        centred: True compares scores and targets after subtracting each one's mean over the slide, so that differences
            between slides neither help nor hurt: the control that STRank's table lacks.

    Returns:
        `[gene]`, squared log counts.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    Source: the MSE baseline of STRank (NeurIPS 2025), section 4; pooled there.

    >>> mse(torch.zeros(2, 1), torch.tensor([[0], [1]]))  # (log 2)^2 / 2
    tensor([0.2402])
    """
    check_inputs(scores, counts, slides, library_size)
    factor, keep = read_factor(library_size, wide(scores.dtype))
    return evaluate(SquaredError(counts, slides if centred else None, keep, factor, centred), scores)


def poisson_nll(
    scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, library_size: Tensor | None = None
) -> Tensor:
    r"""Poisson regression: scores are log rates.

    .. math:: L_g = \frac1n \sum_i \mu_i - c_i \log\mu_i, \qquad \log\mu_i = s_i + \log(l_i / 10^4)

    Above a log rate of 20 the exponential is continued by its tangent, so that a score of 1e4 is finite. The term
    log c! is left out.

    Args:
        scores: `[spot, gene]`, floating point; half precision is accumulated in float32.
        counts: raw counts `[spot, gene]`, any numeric dtype.
        slides: accepted for a uniform call; not used.
        library_size: `[spot]`, totals over all genes: rates are then per 10,000 counts. Spots with 0 contribute 0.

    Returns:
        `[gene]`, nats per spot.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    Source: the Poisson baseline of STRank (NeurIPS 2025), section 4.

    >>> poisson_nll(torch.zeros(2, 1), torch.tensor([[3], [0]]))  # rate 1
    tensor([1.])
    """
    check_inputs(scores, counts, slides, library_size)
    return evaluate(Poisson(counts, read_library(library_size, wide(scores.dtype), relative=True)), scores)


def negative_binomial_nll(
    scores: Tensor,
    counts: Tensor,
    *,
    slides: Tensor | None = None,
    library_size: Tensor | None = None,
    dispersion: Tensor | float = 1.0,
) -> Tensor:
    r"""Negative binomial regression: scores are log means, and the variance is mu + mu^2 / dispersion.

    .. math:: L_g = -\frac1n \sum_i \log \mathrm{NB}(c_i;\ \mu_i, \theta_g), \qquad
              \log\mu_i = s_i + \log(l_i / 10^4)

    Finite for any finite score. As the dispersion parameter theta grows it tends to the full Poisson likelihood.

    Args:
        scores: `[spot, gene]`, floating point; half precision is accumulated in float32.
        counts: raw counts `[spot, gene]`, any numeric dtype.
        slides: accepted for a uniform call; not used.
        library_size: `[spot]`, totals over all genes: rates are then per 10,000 counts. Spots with 0 contribute 0.
        dispersion: theta > 0, a number or a tensor `[gene]`; gradients flow to it
            (`strank.NegativeBinomialLoss` learns it).

    Returns:
        `[gene]`, nats per spot.

    Raises:
        ValueError, TypeError: shapes or types do not fit.

    Source: the NB baseline of STRank (NeurIPS 2025), section 4, with theta really optimised.

    >>> negative_binomial_nll(torch.zeros(1, 1), torch.tensor([[2]]))  # geometric with p = 1/2: -log(1/8)
    tensor([2.0794])
    """
    check_inputs(scores, counts, slides, library_size)
    theta = per_gene("dispersion", dispersion, scores)
    library = read_library(library_size, wide(scores.dtype), relative=True)
    return evaluate(NegativeBinomialKernel(counts, library), scores, theta)
