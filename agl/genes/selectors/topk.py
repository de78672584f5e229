"""A soft choice of exactly k genes in expectation, differentiable in the scores and in k."""

from __future__ import annotations

import torch
from torch import Tensor

from agl.errors import UserError

STEPS = 100  # bisection alone needs 60; Newton steps usually need 10


def budgeted_topk(scores: Tensor, k: float | Tensor, tau: float | Tensor) -> Tensor:
    """Weights w_i = sigmoid((s_i - c) / tau) `[gene]` with the cut c such that sum_i w_i = k.

    As tau goes to 0 the k best genes get 1 and the others 0. With a = w (1 - w), the implicit function theorem gives
    dw = a (ds - dc) / tau, dc = (a . ds - tau dk) / sum(a). The cut is found without a graph and then followed by two
    Newton steps with one: at the root they do not change its value, and their derivatives are the implicit ones, the
    first and the second, in reverse and in forward mode.

    Args:
        scores: one score per gene, high = good.
        k: number of genes to choose on average; at most 0 gives no gene, at least `len(scores)` gives all (no
            gradient there).
        tau: temperature, in the unit of the scores.

    >>> budgeted_topk(torch.tensor([3.0, 1.0, 2.0, 0.0]), 2, tau=0.1).round(decimals=3)
    tensor([1.0000, 0.0070, 0.9930, 0.0000])
    """
    if scores.ndim != 1:
        raise UserError(f"Expected scores of one dimension [gene], received shape {tuple(scores.shape)}.")
    n = len(scores)
    budget = torch.as_tensor(k, dtype=scores.dtype, device=scores.device)
    if n == 0 or budget <= 0:
        return torch.zeros_like(scores) * scores
    if budget >= n:
        return torch.ones_like(scores) + 0 * scores
    temperature = torch.as_tensor(tau, dtype=scores.dtype, device=scores.device)
    cut = find_cut(scores.detach(), budget.detach(), temperature.detach())
    for _ in range(2):
        weights = torch.sigmoid((scores - cut) / temperature)
        slope = (weights * (1 - weights)).sum()
        flat = slope <= torch.finfo(scores.dtype).tiny * n
        # Flat: every gene is far from the cut on the scale of tau, and no small step moves any weight.
        step = temperature * (weights.sum() - budget) / torch.where(flat, torch.ones_like(slope), slope)
        cut = cut + torch.where(flat, torch.zeros_like(step), step.clamp(-temperature, temperature))
    return torch.sigmoid((scores - cut) / temperature)


@torch.no_grad()
def find_cut(scores: Tensor, k: Tensor, tau: Tensor) -> Tensor:
    """The root c of sum_i sigmoid((s_i - c) / tau) = k, for 0 < k < len(scores), by Newton inside a bracket."""
    margin = tau * torch.logit(k / len(scores))
    low, high = scores.min() - margin, scores.max() - margin  # every weight is at least / at most k / n there
    cut = (low + high) / 2
    tolerance = 4 * torch.finfo(scores.dtype).eps * k.clamp(min=1)
    for _ in range(STEPS):
        weights = torch.sigmoid((scores - cut) / tau)
        excess = weights.sum() - k
        if excess.abs() <= tolerance or high <= low:
            break
        low, high = torch.where(excess > 0, cut, low), torch.where(excess > 0, high, cut)
        newton = cut + tau * excess / (weights * (1 - weights)).sum()
        inside = (newton > low) & (newton < high)
        cut = torch.where(inside, newton, (low + high) / 2)
    return cut
