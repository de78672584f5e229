"""Merges that scale the tasks' gradients, with a memory of how large they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from agl.errors import UserError
from agl.genes.selectors.base import check_positive, check_share

Which = Literal["larger", "smaller", "all"]
TINY = 1e-12


def check_groups(groups: int) -> None:
    """Tasks that the auxiliary genes make up: one or more."""
    if groups < 1:
        raise UserError(f"Expected groups of 1 or more, received {groups}.")


class MetaBalance:
    """In every tensor of the trunk the auxiliary gradient is brought towards the length of the primary genes'.

    m <- memory m + (1 - memory) |g| for both, per tensor; g_aux <- (relax m_primary / m_aux + 1 - relax) g_aux; then
    the sum.

    Source: He et al. 2022 (arXiv 2203.06801), algorithm 1 and its strategies A (`larger`), B (`smaller`), C (`all`).
    Departure: the auxiliary genes are one task, or `groups` of them.

    Args:
        relax: 0 changes nothing, 1 makes the lengths equal; 0.7 as in the paper's code.
        memory: of the moving averages of lengths.
        scale: which auxiliary gradients are scaled: those "larger" than the primary genes', those "smaller", or "all".
        groups: tasks that the auxiliary genes make up.

    >>> MetaBalance(relax=1.0)(torch.tensor([[1.0, 0.0], [0.0, 10.0]]), sizes=[2]).round(decimals=4)
    tensor([1., 1.])
    """

    def __init__(self, *, relax: float = 0.7, memory: float = 0.9, scale: Which = "larger", groups: int = 1) -> None:
        check_share(relax=relax, memory=memory)
        check_groups(groups)
        if scale not in get_args(Which):
            raise UserError(f"Expected scale as larger, smaller or all, received {scale!r}.")
        self.relax, self.memory, self.scale, self.groups = relax, memory, scale, groups
        self.lengths: Tensor | None = None  # [tensor, task]

    def __call__(self, gradients: Tensor, *, sizes: Sequence[int]) -> Tensor:
        """`[parameter]` from `[task, parameter]`."""
        parts = gradients.split(list(sizes), dim=1)
        now = torch.stack([part.norm(dim=1) for part in parts])
        before = torch.zeros_like(now) if self.lengths is None else self.lengths.to(now)
        self.lengths = self.memory * before + (1 - self.memory) * now
        ratio = self.lengths[:, :1] / self.lengths.clamp_min(TINY)
        factor = self.relax * ratio + 1 - self.relax
        if self.scale != "all":
            factor = torch.where((ratio < 1) == (self.scale == "larger"), factor, torch.ones_like(factor))
        factor[:, 0] = 1
        return torch.cat([f @ part for f, part in zip(factor, parts, strict=True)])

    def state_dict(self) -> dict[str, Any]:
        """The moving averages."""
        return {"lengths": self.lengths}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.lengths = state["lengths"]


class GradNorm:
    """Weights of the tasks, so that whoever learns slowly has the longer gradient.

    L_grad = sum_i | w_i |g_i| - G r_i^alpha |, with G the mean of w |g|, and r_i the loss over the first one, divided
    by the tasks' mean; the trunk follows sum_i w_i g_i, w takes a step along -dL_grad/dw, where G r^alpha is held
    fixed, and is scaled back to sum to the number of tasks.

    Source: Chen et al. 2018 (arXiv 1711.02257), algorithm 1. Departures: gradients of the whole trunk, not of its last
    layer; the step is divided by the mean length of the gradients, so that no loss's scale matters; w stays above
    0.001; the heads, which no other gene shares, follow their own losses unweighted.

    Args:
        alpha: how hard slow tasks are pulled back; 1.5 in the paper's first experiment.
        rate: step on w.
        groups: tasks that the auxiliary genes make up.

    >>> GradNorm()(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), losses=torch.tensor([1.0, 1.0]))
    tensor([1., 1.])
    """

    def __init__(self, *, alpha: float = 1.5, rate: float = 0.025, groups: int = 1) -> None:
        check_positive(rate=rate)
        check_groups(groups)
        if not 0 <= alpha < float("inf"):
            raise UserError(f"Expected alpha of 0 or more, received {alpha}.")
        self.alpha, self.rate, self.groups = alpha, rate, groups
        self.weights: Tensor | None = None  # [task]
        self.first: Tensor | None = None

    def __call__(self, gradients: Tensor, *, losses: Tensor) -> Tensor:
        """`[parameter]` from `[task, parameter]`; losses `[task]`."""
        if self.weights is None or self.first is None:
            self.weights, self.first = torch.ones_like(losses), losses.clamp_min(TINY)
        weights, first = self.weights.to(gradients), self.first.to(gradients)
        merged, lengths = weights @ gradients, gradients.norm(dim=1)
        pace = losses.to(gradients).clamp_min(TINY) / first
        target = (weights * lengths).mean() * (pace / pace.mean()) ** self.alpha
        slope = (weights * lengths - target).sign() * lengths / lengths.mean().clamp_min(TINY)
        moved = (weights - self.rate * slope).clamp_min(1e-3)
        self.weights = moved * len(moved) / moved.sum()
        return merged

    def state_dict(self) -> dict[str, Any]:
        """The weights, and the losses of the first step."""
        return {"weights": self.weights, "first": self.first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.weights, self.first = state["weights"], state["first"]
