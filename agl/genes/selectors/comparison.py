"""Other people's ways to weigh tasks, behind the same interface: for comparison."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from agl.genes.candidates import Candidates
from agl.genes.selectors.base import Selector, check_positive, check_share
from agl.genes.signal import Signal

TINY = 1e-8  # losses are taken as at least this where a formula needs a logarithm or a quotient


class FixedStrength(Selector):
    """The same weight for every gene, as HE2Gene (Chen et al. 2024) and BrST-Net (Rahaman et al. 2023).

    Departure: a weight is in [0, 1] here; HE2Gene's factor 20 is the objective's `strength`.
    """

    signal: ClassVar[Signal] = "losses"
    constant: Tensor

    def __init__(self, candidates: Candidates, *, weight: float = 1.0) -> None:
        super().__init__(candidates)
        check_share(weight=weight)
        self.register_buffer("constant", torch.full((self.n_genes,), float(weight)))

    def forward(self) -> Tensor:
        """Weights `[aux]`."""
        return self.constant.clone()

    def observe(self, signal: Tensor) -> None:
        """Nothing is learnt."""
        self._check(signal)


class AMALScalars(Selector):
    """One learnable scalar per gene through a sigmoid: w = sigmoid(logit / temperature), by the hypergradient.

    Source: AMAL (Sivasubramanian et al. 2023, arXiv 2205.11403) learns mixing weights per instance and loss by bi-level
    optimisation; Shiku et al. 2026 compare with it as one scalar per gene through a temperature sigmoid, as here.
    Departure: per gene, not per instance; any engine gives the hypergradient, not only one step.

    Args:
        weight: starting weight of every gene, strictly inside (0, 1).
        temperature: divides the scalar; the scalars are kept within 10 temperatures, where gradients still live.
    """

    signal: ClassVar[Signal] = "hypergradient"

    def __init__(self, candidates: Candidates, *, weight: float = 0.5, temperature: float = 1.0) -> None:
        super().__init__(candidates)
        check_positive(weight=weight, temperature=temperature)
        check_positive(**{"1 - weight": 1 - weight})
        self.temperature = temperature
        start = temperature * math.log(weight / (1 - weight))
        self.logits = nn.Parameter(torch.full((self.n_genes,), start))

    def forward(self) -> Tensor:
        """Weights `[aux]`."""
        return torch.sigmoid(self.logits / self.temperature)

    def project(self) -> None:
        """Keep the scalars where the sigmoid is not flat."""
        with torch.no_grad():
            self.logits.clamp_(-10 * self.temperature, 10 * self.temperature)


class UncertaintyWeights(Selector):
    """Homoscedastic uncertainty: the objective sum_g exp(-s_g) L_g + s_g, weights exp(-s_g).

    Source: Kendall, Gal and Cipolla 2018, eq. 7, with s = log variance. Its gradient step on s is
    s <- s + rate (exp(-s) L - 1), whose fixed point is exp(-s) = 1 / L.
    Departures: s starts at the log of the first loss; a step is at most 1; the weights are divided by the largest one
    to lie in [0, 1] (the objective's normaliser undoes it); primary genes keep weight 1. k is of little meaning.
    """

    signal: ClassVar[Signal] = "losses"
    log_variance: Tensor
    started: Tensor

    def __init__(self, candidates: Candidates, *, rate: float = 0.05) -> None:
        super().__init__(candidates)
        check_positive(rate=rate)
        self.rate = rate
        self.register_buffer("log_variance", torch.zeros(self.n_genes))
        self.register_buffer("started", torch.zeros(self.n_genes, dtype=torch.bool))

    def forward(self) -> Tensor:
        """Weights `[aux]`, the largest is 1."""
        if self.n_genes == 0:
            return torch.zeros_like(self.log_variance)
        return torch.exp(self.log_variance.min() - self.log_variance)

    @torch.no_grad()
    def observe(self, signal: Tensor) -> None:
        """One step on s from the training losses `[aux]`; NaN leaves a gene as it was."""
        losses = self._check(signal).to(self.log_variance)
        measured = torch.isfinite(losses)
        losses = torch.where(measured, losses, torch.ones_like(losses)).clamp_min(TINY)
        step = (self.rate * (torch.exp(-self.log_variance) * losses - 1)).clamp(-1, 1)
        new = torch.where(self.started, self.log_variance + step, losses.log())
        self.log_variance.copy_(torch.where(measured, new, self.log_variance))
        self.started |= measured


class FAMO(Selector):
    """Fast adaptive multi-task optimisation: every loss is to fall at the same relative rate.

    Source: Liu et al. 2023 (arXiv 2306.03792), algorithm 1: z = softmax(xi); the losses' weights are c z_i / L_i with
    c = 1 / sum(z_i / L_i); after a step, delta_i = log L_i(before) - log L_i(after) and
    xi <- xi - rate (J^T delta + decay xi), J = diag(z) - z z^T: what falls slowly gains weight.
    Departures: delta comes from consecutive training batches, not the same batch evaluated twice, so the losses are
    smoothed first; plain gradient steps on xi, not Adam; weights are divided by the largest; primary genes keep 1.

    Args:
        rate: step on xi.
        decay: pull of xi towards 0.
        memory: batches over which the losses are smoothed.
    """

    signal: ClassVar[Signal] = "losses"
    xi: Tensor
    smooth: Tensor
    seen: Tensor

    def __init__(
        self, candidates: Candidates, *, rate: float = 0.025, decay: float = 1e-3, memory: float = 10.0
    ) -> None:
        super().__init__(candidates)
        check_positive(rate=rate, memory=memory)
        self.rate, self.decay, self.keep = rate, decay, max(1 - 1 / memory, 0.0)
        self.register_buffer("xi", torch.zeros(self.n_genes))
        self.register_buffer("smooth", torch.ones(self.n_genes))
        self.register_buffer("seen", torch.zeros(self.n_genes, dtype=torch.bool))

    def forward(self) -> Tensor:
        """Weights `[aux]`, the largest is 1."""
        if self.n_genes == 0:
            return torch.zeros_like(self.xi)
        logs = self.xi - self.smooth.log()
        return torch.exp(logs - logs.max())

    @torch.no_grad()
    def observe(self, signal: Tensor) -> None:
        """One step on xi from the training losses `[aux]`; NaN leaves a gene's loss as it was."""
        losses = self._check(signal).to(self.xi)
        measured = torch.isfinite(losses)
        losses = torch.where(measured, losses, self.smooth).clamp_min(TINY)
        after = torch.where(self.seen, self.keep * self.smooth + (1 - self.keep) * losses, losses)
        delta = torch.where(self.seen & measured, self.smooth.log() - after.log(), torch.zeros_like(losses))
        z = torch.softmax(self.xi, dim=0)
        slope = z * (delta - (z * delta).sum())
        self.xi.sub_(self.rate * (slope + self.decay * self.xi))
        self.smooth.copy_(torch.where(measured, after, self.smooth))
        self.seen |= measured


class DWA(Selector):
    """Dynamic weight average: genes whose loss falls slowly gain weight, w = softmax(r / temperature).

    r_g is the mean loss of the last epoch over that of the epoch before; all weights are equal in the first two epochs.

    Source: Liu, Johns and Davison 2019 (arXiv 1803.10704), equation 7. Departures: weights are divided by the largest,
    instead of by their mean, to lie in [0, 1] (the objective's normaliser undoes it); primary genes keep weight 1.

    Args:
        temperature: 2 as in the paper; larger is more even.
    """

    signal: ClassVar[Signal] = "losses"
    sums: Tensor
    counts: Tensor
    last: Tensor
    before: Tensor

    def __init__(self, candidates: Candidates, *, temperature: float = 2.0) -> None:
        super().__init__(candidates)
        check_positive(temperature=temperature)
        self.temperature = temperature
        for name in ("sums", "counts"):
            self.register_buffer(name, torch.zeros(self.n_genes))
        for name in ("last", "before"):
            self.register_buffer(name, torch.full((self.n_genes,), torch.nan))

    def forward(self) -> Tensor:
        """Weights `[aux]`, the largest is 1."""
        if self.n_genes == 0:
            return torch.zeros_like(self.last)
        pace = (self.last.clamp_min(TINY) / self.before.clamp_min(TINY)).nan_to_num(1.0) / self.temperature
        return torch.exp(pace - pace.max())

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Close the epoch that has ended."""
        measured = self.counts > 0
        mean = torch.where(measured, self.sums / self.counts.clamp_min(1), self.last)
        if bool(measured.any()):
            self.before.copy_(self.last)
            self.last.copy_(mean)
        self.sums.zero_()
        self.counts.zero_()

    @torch.no_grad()
    def observe(self, signal: Tensor) -> None:
        """Take in a batch's training losses `[aux]`; NaN is left out."""
        losses = self._check(signal).to(self.sums)
        measured = torch.isfinite(losses)
        self.sums += torch.where(measured, losses, torch.zeros_like(losses))
        self.counts += measured


class AutoLambda(Selector):
    """One weight per gene, itself the hyper-parameter: w <- w - rate d outer / d w, kept in [0, 1].

    Source: Auto-lambda (Liu et al. 2022, arXiv 2202.03091), which learns the weights of auxiliary tasks by the one-step
    look-ahead of DARTS; MAXL (Liu et al. 2019, arXiv 1901.08933) has the same outer problem for generated labels.
    `auxiliary.outer.engine=one_step auxiliary.outer.same_batch=true auxiliary.outer.steps=1` is its look-ahead.
    Departures: a weight is at most 1; held-out spots are apart from the training's; primary genes keep 1; the steps are
    the outer Adam's.

    Args:
        weight: where every weight starts; 0.1 as in the paper.
    """

    signal: ClassVar[Signal] = "hypergradient"

    def __init__(self, candidates: Candidates, *, weight: float = 0.1) -> None:
        super().__init__(candidates)
        check_share(weight=weight)
        self.weights = nn.Parameter(torch.full((self.n_genes,), float(weight)))

    def forward(self) -> Tensor:
        """Weights `[aux]`."""
        return self.weights.clone()

    def project(self) -> None:
        """Keep the weights in [0, 1]."""
        with torch.no_grad():
            self.weights.clamp_(0, 1)
