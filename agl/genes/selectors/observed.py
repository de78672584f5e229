"""Gates driven by a noisy signal per gene: smoothed, tested, and cut to a budget."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from agl.errors import UserError
from agl.genes.candidates import Candidates
from agl.genes.selectors.base import Selector, check_positive, check_share
from agl.genes.selectors.topk import budgeted_topk
from agl.genes.signal import Signal


class ObservedGates(Selector):
    """Budgeted top-k of the t-statistic of an observed signal. No parameters: the state is in buffers.

    Every gene keeps exponentially weighted sums of weights, of squared weights and of its signal, and the squared
    deviations from its running mean. From them the mean m, the unbiased variance v, the number of observations they
    are worth, n = (sum w)^2 / sum w^2, and t = direction * m / sqrt(v / n).

    Batches drawn again and again from the same spots agree about those spots, not about others. A selector that is told
    how many disjoint batches N there are (`drawn_from`) puts 1 / n + 1 / N in the place of 1 / n.

        weights = budgeted_topk(t, k, tau)     k given, or the number of genes with t above the gate

    Until every measured gene has `warmup` observations, all weights are `start`. A gene that was never measured has
    t = 0. With k from the gate and no gene above it, all weights are 0.

    Args:
        k: how many genes; None: as many as pass the gate.
        gate: standard errors on the helpful side that a gene needs; what passes by chance is told by each selector.
        tau: temperature, in standard errors.
        memory: how many observations the averages remember, 1 / (1 - decay).
        warmup: observations before any choice.
        start: weight of every gene during the warm-up.
    """

    direction: ClassVar[float] = 1.0  # +1: a high signal is good
    sum_weights: Tensor
    sum_squares: Tensor
    total: Tensor
    deviations: Tensor
    seen: Tensor
    tau: Tensor

    def __init__(
        self,
        candidates: Candidates,
        *,
        k: int | None = None,
        gate: float = 1.645,
        tau: float = 0.25,
        memory: float = 50.0,
        warmup: int = 8,
        start: float = 1.0,
    ) -> None:
        super().__init__(candidates)
        check_positive(tau=tau)
        check_share(start=start)
        if k is not None and k < 0:
            raise UserError(f"Expected k as a number of genes, 0 or more, received {k}.")
        if memory <= 1:
            raise UserError(f"Expected memory of more than 1 observation, received {memory}.")
        if warmup < 2:
            raise UserError(f"Expected warmup of at least 2 observations, which a variance needs, received {warmup}.")
        self.budget, self.gate, self.warmup, self.start = k, gate, warmup, start
        self.decay = 1 - 1 / memory
        self.disjoint = torch.inf
        for name in ("sum_weights", "sum_squares", "total", "deviations"):
            # float64: an influence may be 1e-20 small, and its square must not vanish
            self.register_buffer(name, torch.zeros(self.n_genes, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(self.n_genes, dtype=torch.int64))
        self.register_buffer("tau", torch.tensor(float(tau)))

    @torch.no_grad()
    def observe(self, signal: Tensor) -> None:
        """Take in one batch's signal `[aux]`; NaN leaves a gene's state as it was."""
        value = self._check(signal).to(self.total)
        measured = torch.isfinite(value)
        value = torch.where(measured, value, torch.zeros_like(value))
        old = self.total / self.sum_weights.clamp_min(1e-30)
        weights = 1 + self.decay * self.sum_weights
        total = value + self.decay * self.total
        # Welford's update, with forgetting: exact for weighted sums of squared deviations from the weighted mean
        deviations = self.decay * self.deviations + (value - old) * (value - total / weights)
        updates = {
            "sum_weights": weights,
            "sum_squares": 1 + self.decay**2 * self.sum_squares,
            "total": total,
            "deviations": deviations,
        }
        for name, new in updates.items():
            buffer = getattr(self, name)
            buffer.copy_(torch.where(measured, new, buffer))
        self.seen += measured

    def statistic(self) -> Tensor:
        """t `[aux]`: standard errors by which the mean signal is on the helpful side; 0 before two observations."""
        worth = self.sum_weights**2 / self.sum_squares.clamp_min(1e-30)
        mean = self.total / self.sum_weights.clamp_min(1e-30)
        variance = self.deviations / (
            self.sum_weights - self.sum_squares / self.sum_weights.clamp_min(1e-30)
        ).clamp_min(1e-30)
        # A signal without any spread is certain; a floor keeps its t finite and ordered by the mean.
        error = (variance * (1 / worth.clamp_min(1.0) + 1 / self.disjoint)).sqrt()
        floor = 1e-6 * mean.abs().max() if self.n_genes else mean.new_tensor(0.0)
        t = self.direction * mean / torch.maximum(error, floor).clamp_min(1e-30)
        return torch.where(self.seen >= 2, t, torch.zeros_like(t))

    @property
    def ready(self) -> bool:
        """Whether every measured gene has been observed `warmup` times, and any gene at all."""
        measured = self.seen[self.seen > 0]
        return bool(len(measured)) and bool((measured >= self.warmup).all())

    def forward(self) -> Tensor:
        """Weights `[aux]`."""
        if not self.ready:
            return self.tau.new_full((self.n_genes,), self.start)
        t = self.statistic().to(self.tau)
        passed = int((t > self.gate).sum())
        return budgeted_topk(t, passed if self.budget is None else min(self.budget, self.n_genes), self.tau)


class InfluenceGates(ObservedGates):
    """Genes whose weight lowers the outer loss: signal = d outer / d w per gene, from one JVP; negative is helpful.

    Ours, after the measurements in which one tangent scores all genes when the inner optimiser starts from the
    trainer's state. The t-test is there because single scores hardly repeat from batch to batch.

    Of genes of pure noise 7 % pass a gate of 1.645 (measured with 60 of them on 400 simulated spots, seven seeds, two
    losses); several times as many lie as far out on the harmful side, as noise costs the trunk something.
    """

    signal: ClassVar[Signal] = "influence"
    direction: ClassVar[float] = -1.0


class GradientSimilarity(ObservedGates):
    """Genes whose gradient on shared features points the way of the primary genes' gradient.

    Source: Du et al. 2018 (arXiv 1812.02224), who let an auxiliary loss act while its cosine with the main gradient is
    positive. Departure: the cosine is smoothed over batches and must be positive by a t-test; soft weights.

    A gene of pure noise has some cosine on the training spots as a whole, which every batch shows again: half of such
    genes pass a gate of 1.645 without the term 1 / N, and 8 % with it (measured with 30 of them beside 30 useful genes
    on 400 simulated spots, ten seeds, two losses; they share features and trunk, so that most pass in a few runs).
    """

    signal: ClassVar[Signal] = "similarity"
    direction: ClassVar[float] = 1.0

    def drawn_from(self, batches: float) -> None:
        """Bound what many observations can be worth."""
        self.disjoint = batches
