"""Newton's method for many genes at once, its linear systems solved by conjugate gradients.

No Hessian is formed: X' diag(w) X costs a gene as much as `component` / 2 products of it with a vector, and in the main
axes of the features a diagonal preconditioner needs a handful of these, all genes of a batch in one matrix product.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agl.convex.curved import Curved, Local

MAX_STEPS = 100
_MAX_SHORTER = 40
_STEEP = 0.25  # a step is too long when the slope at its end is positive and more than this share of that at its start


class Minimum(NamedTuple):
    """Where the solver stopped."""

    coefficients: Tensor  # [gene, component]
    gradient_norm: Tensor  # [gene] largest entry
    steps: Tensor  # int [gene]


def minimise(
    loss: Curved, x: Tensor, spread: Tensor, ridge: Tensor, start: Tensor, *, tolerance: float, n_spots: int
) -> Minimum:
    r"""Minimise L_g(X b) / (n m_g) + \sum_j ridge_j b_j^2 for every gene g of the batch.

    A step solves H p = -gradient roughly, more exactly the smaller the gradient, and is shortened until the slope along
    p is no longer steeply positive. Genes whose gradient is below the tolerance stand still, and leave the batch once
    they are half of it.

    Args:
        loss: of the batch, m_g its mass.
        x: `[spot, component]`.
        spread: `[component]` mean squares of x.
        ridge: `[component]`, 0 for what is not penalised.
        start: `[gene, component]`.
        tolerance: of the largest entry of the gradient.
        n_spots: n.
    """
    found = Minimum(start.clone(), torch.full_like(loss.mass, torch.inf), torch.zeros_like(loss.mass, dtype=torch.long))
    at = torch.arange(len(start), device=start.device)  # genes still in the batch
    b, scores = start.clone(), start @ x.T
    state = _Objective(loss, x, ridge, loss.bend * spread + 2 * ridge, n_spots)
    local, gradient = state.at(scores, b)
    for step in range(MAX_STEPS + 1):
        norm = gradient.abs().amax(1)
        found.coefficients[at], found.gradient_norm[at] = b, norm
        busy = ~(norm <= tolerance)
        left = int(busy.sum())
        if not left or step == MAX_STEPS:
            break
        if 2 * left <= len(at):
            at, b, scores = at[busy], b[busy], scores[busy]
            state = state._replace(loss=state.loss.narrow(busy))
            busy = busy[busy]
            local, gradient = state.at(scores, b)
        found.steps[at[busy]] += 1
        move, moved = state.direction(local, gradient, busy, tolerance)
        b, scores, local, gradient = state.step(b, scores, local, gradient, move, moved)
    return found


class _Objective(NamedTuple):
    """Loss and penalty of a batch, in coefficients `[gene, component]` with scores `[gene, spot]`."""

    loss: Curved
    x: Tensor
    ridge: Tensor
    diagonal: Tensor  # [component] the preconditioner
    n_spots: int

    @property
    def scale(self) -> Tensor:
        return 1 / (self.n_spots * self.loss.mass.unsqueeze(1))

    def at(self, scores: Tensor, b: Tensor) -> tuple[Local, Tensor]:
        local = self.loss.at(scores)
        return local, (local.gradient @ self.x) * self.scale + 2 * self.ridge * b

    def direction(self, local: Local, gradient: Tensor, busy: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """An approximate Newton step and its scores; 0 where not busy."""
        rest = torch.where(busy.unsqueeze(1), -gradient, 0.0)
        move, moved = torch.zeros_like(rest), rest.new_zeros(local.gradient.shape)
        z = rest / self.diagonal
        size = (rest * z).sum(1)
        # Quadratic convergence in the end, little work in the beginning, and never below what is asked for.
        share = torch.maximum(gradient.abs().amax(1).sqrt().clamp(max=0.1), 0.3 * tolerance / gradient.abs().amax(1))
        goal, live, q = share.square() * size, busy, z
        scale = self.scale
        for _ in range(2 * len(self.diagonal) + 10):
            scores = q @ self.x.T
            bent = (local.curve(scores) @ self.x).mul_(scale).addcmul_(self.ridge, q, value=2)
            length = torch.where(live, size / (q * bent).sum(1), 0.0).unsqueeze(1)
            move.addcmul_(length, q)
            moved.addcmul_(length, scores)
            rest.addcmul_(length, bent, value=-1)
            z = rest / self.diagonal
            before, size = size, (rest * z).sum(1)
            live = live & (size > goal)
            if not bool(live.any()):
                break
            q = z.addcmul_(torch.where(live, size / before, 0.0).unsqueeze(1), q)
        return move, moved

    def step(
        self, b: Tensor, scores: Tensor, local: Local, gradient: Tensor, move: Tensor, moved: Tensor
    ) -> tuple[Tensor, Tensor, Local, Tensor]:
        """Go along `move`, less far where that overshoots."""
        slope = (gradient * move).sum(1)
        length = torch.ones_like(slope)
        for _ in range(_MAX_SHORTER):
            there, scores_there = b + length[:, None] * move, scores + length[:, None] * moved
            local, gradient = self.at(scores_there, there)
            end = (gradient * move).sum(1)
            fine = end <= -_STEEP * slope
            if bool(fine.all()):
                break
            shorter = (slope / (slope - end)).nan_to_num(0.0).clamp(0.1, 0.5)  # where a straight slope would be 0
            length = torch.where(fine, length, length * shorter)
        return there, scores_there, local, gradient
