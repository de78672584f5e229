"""Weights that act on the gradient into the trunk, while every head learns at full weight.

The heads of genes that are left out keep learning, so that such a gene can still be told to be useful later on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _GatedScores(torch.autograd.Function):
    """scores = hidden W' + b, whose gradient for the hidden features is gated gene by gene."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, gate: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight, gate)
        ctx.has_bias = bias is not None
        return torch.nn.functional.linear(hidden, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        hidden, weight, gate = ctx.saved_tensors
        # Under autocast scores are of lower precision than the heads.
        gradient = gradient.to(weight.dtype)
        for_bias = gradient.sum(0) if ctx.has_bias else None
        return ((gradient * gate) @ weight).to(hidden.dtype), gradient.T @ hidden.to(weight.dtype), for_bias, None


def gated_scores(hidden: Tensor, weight: Tensor, bias: Tensor | None, gate: Tensor) -> Tensor:
    """Scores `[spot, gene]` with one matrix product; the gradient into `hidden` is multiplied by `gate` `[gene]`.

    Args:
        hidden: `[spot, hidden]`.
        weight: of the heads, `[gene, hidden]`.
        bias: of the heads, `[gene]`, or None.
        gate: see `gate_of`; held fixed. The gradient cannot be differentiated again: that would be gated twice.

    >>> hidden = torch.ones(1, 1, requires_grad=True)
    >>> weight = torch.full((2, 1), 3.0, requires_grad=True)
    >>> gated_scores(hidden, weight, None, torch.tensor([1.0, 0.5])).sum().backward()
    >>> hidden.grad.tolist(), weight.grad.tolist()
    ([[4.5]], [[1.0], [1.0]])
    """
    return _GatedScores.apply(hidden, weight, bias, gate)


def gate_of(in_trunk: Tensor, in_head: Tensor) -> Tensor:
    """The gate `[gene]` with which a loss of coefficients `in_head` reaches the trunk with coefficients `in_trunk`.

    >>> gate_of(torch.tensor([1.0, 0.1, 0.0]), torch.tensor([1.0, 0.4, 0.0]))
    tensor([1.0000, 0.2500, 0.0000])
    """
    return torch.where(in_head != 0, in_trunk / torch.where(in_head != 0, in_head, 1.0), 0.0)
