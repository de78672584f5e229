"""Is a hypergradient a signal or noise? Asked of several look-aheads on different batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agl.bilevel.problem import Problem
from agl.errors import UserError


@dataclass(frozen=True)
class Agreement:
    """How far hypergradients from different batches agree, number by number of phi.

    Args:
        mean: over the batches.
        t: mean / (standard deviation / sqrt(batches)); NaN for one batch, infinite where all are equal and not 0.
        sign: share of the batches whose sign is the mean's; NaN where the mean is 0.
    """

    mean: Tensor
    t: Tensor
    sign: Tensor
    batches: int


def agreement(gradients: Sequence[Tensor]) -> Agreement:
    """Student's t and sign agreement of flat gradients, one for each pair of batches.

    >>> found = agreement([torch.tensor([1.0, 1.0]), torch.tensor([3.0, -1.0]), torch.tensor([2.0, 3.0])])
    >>> found.mean.tolist(), [round(t, 3) for t in found.t.tolist()], [round(s, 3) for s in found.sign.tolist()]
    ([2.0, 1.0], [3.464, 0.866], [1.0, 0.667])
    """
    if not gradients:
        raise UserError("Expected at least one hypergradient to judge, received none; run an engine first.")
    rows = torch.stack([gradient.detach().double().flatten() for gradient in gradients])
    mean = rows.mean(0)
    spread = rows.std(0) if len(rows) > 1 else torch.full_like(mean, torch.nan)
    sign = (rows.sign() == mean.sign()).double().mean(0)
    return Agreement(mean, mean / (spread / len(rows) ** 0.5), torch.where(mean == 0, torch.nan, sign), len(rows))


def primary_share(problem: Problem, primary_losses: Tensor, auxiliary_losses: Tensor, weights: Tensor) -> float:
    """Share of the combined loss that the primary genes make up, by absolute values; 1 where nothing else counts.

    Args:
        primary_losses: `[primary]`.
        auxiliary_losses: `[aux]`.
        weights: `[aux]`.
    """
    in_trunk, _ = problem.coefficients(weights.detach())
    parts = (in_trunk.detach() * torch.cat([primary_losses, auxiliary_losses]).detach()).abs()
    whole = float(parts.sum())
    return float(parts[: problem.n_primary].sum()) / whole if whole > 0 else 1.0
