"""Exactly k genes' worth of weight over all candidates: a relaxed choice by projected gradient steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agl.convex.outer import OuterProblem
from agl.errors import UserError


def capped_simplex(values: Tensor, k: float) -> Tensor:
    """The nearest point to `values` `[gene]` in {0 <= w <= 1, sum w = k}, exactly.

    w = clip(values - c, 0, 1); sum w falls in c along straight lines that bend at every v_i and v_i - 1, so that
    sorting these points and adding up slopes gives the c that is wanted.

    >>> capped_simplex(torch.tensor([3.0, 0.5, 0.2, -1.0]), 1.5)
    tensor([1.0000, 0.4000, 0.1000, 0.0000])
    """
    n = len(values)
    if not 0 <= k <= n:
        raise UserError(f"Expected a budget from 0 to {n} genes, received {k}.")
    if k in (0, n):
        return torch.full_like(values, float(k > 0))
    bends, order = torch.cat([values, values - 1]).sort(descending=True)
    # Below v_i gene i gains weight as c falls, below v_i - 1 it is full.
    slope = torch.where(order < n, 1.0, -1.0).to(values).cumsum(0)
    sums = torch.cat([values.new_zeros(1), (slope[:-1] * -bends.diff()).cumsum(0)])  # sum of w at c = bends
    place = int(torch.searchsorted(sums, torch.tensor(float(k), dtype=values.dtype)).clamp(1, 2 * n - 1))
    cut = bends[place - 1] - (k - sums[place - 1]) / slope[place - 1].clamp_min(1)
    return (values - cut).clamp(0, 1)


def best_k(weights: Tensor, k: int) -> Tensor:
    """1 for the k largest weights, 0 for the others; equal ones in their order.

    >>> best_k(torch.tensor([0.2, 0.9, 0.2]), 2)
    tensor([1., 1., 0.])
    """
    chosen = weights.argsort(descending=True, stable=True)[:k]
    return torch.zeros_like(weights).index_fill_(0, chosen, 1.0)


@dataclass(frozen=True, eq=False)
class Budget:
    """Weights `[aux]` that add up to the budget, and the outer loss after every step."""

    weights: Tensor
    losses: tuple[float, ...]

    @property
    def ranking(self) -> Tensor:
        """Candidates by weight, best first: what `curve` takes."""
        return self.weights.argsort(descending=True, stable=True)


def budgeted(
    problem: OuterProblem,
    k: float,
    *,
    start: Tensor | None = None,
    steps: int = 30,
    tolerance: float = 1e-6,
) -> Budget:
    """min outer(w) over {0 <= w <= 1, sum w = k} by projected gradient steps that never climb.

    w <- project(w - t gradient); t doubles after a step that was taken and halves until the loss falls by a
    quarter of what the gradient promises (Armijo along the projection arc).

    Args:
        start: weights to start from, projected first; None: k / n for every candidate.
        steps: largest number of gradients.
        tolerance: stops when a step gains less than this share of the loss.

    Source: D. P. Bertsekas, IEEE Trans. Autom. Control 21 (1976) 174: the rule along the projection arc.
    """
    n = problem.n_auxiliary
    weights = torch.full((n,), k / max(n, 1), dtype=torch.float64) if start is None else start.to(torch.float64)
    weights = capped_simplex(weights, k)
    found = problem.gradient(weights)
    slope, loss = found.mean, float(found.loss.mean())
    losses, size = [loss], 1.0 / max(float(slope.abs().max()), 1e-300)
    for _ in range(steps):
        for _ in range(40):
            new = capped_simplex(weights - size * slope, k)
            promised = float(slope @ (weights - new))
            value = float(problem.loss(new)) if promised > 0 else loss
            if promised <= 0 or value <= loss - 0.25 * promised:
                break
            size /= 2
        else:
            break
        gained, weights = loss - value, new
        if gained <= tolerance * abs(loss):
            losses.append(value)
            break
        found = problem.gradient(weights)
        slope, loss = found.mean, float(found.loss.mean())
        losses.append(loss)
        size *= 2
    return Budget(weights, tuple(losses))
