"""Merges that look at one step's gradients alone: where two of them disagree, what both can live with."""

from __future__ import annotations

import math

from torch import Tensor

from agl.errors import UserError

HALVINGS = 60  # of [0, 1], down to the last bit of a weight


def sum(gradients: Tensor) -> Tensor:
    """Every task's gradient added up: what the objective alone would do.

    >>> import torch
    >>> sum(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    tensor([0., 1.])
    """
    return gradients.sum(0)


def pcgrad(gradients: Tensor, *, both: bool = True) -> Tensor:
    """A gradient that points against another loses the part that does: g_i - (g_i . g_j) / |g_j|^2 g_j, then the sum.

    Source: Yu et al. 2020 (arXiv 2001.06782), algorithm 1. Departures: the tasks are the primary and the auxiliary
    genes; more of them would take their turns in order, not at random.

    Args:
        gradients: `[task, parameter]`.
        both: False projects the auxiliary gradient only: the primary genes' stays as it is.

    >>> import torch
    >>> pcgrad(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    tensor([0.5000, 1.5000])
    >>> pcgrad(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]), both=False)
    tensor([1., 1.])
    """
    merged = gradients.new_zeros(gradients.shape[1])
    for i in range(len(gradients)):
        own = gradients[i].clone()
        for j in range(len(gradients)):
            along, square = own @ gradients[j], gradients[j] @ gradients[j]
            if i != j and along < 0 < square and (both or i > 0):
                own -= along / square * gradients[j]
        merged += own
    return merged


def cagrad(gradients: Tensor, *, c: float = 0.5) -> Tensor:
    """Near the mean gradient g_0, the direction along which the worse off of the two gains most.

    d maximises min_i g_i . d within |d - g_0| <= c |g_0|: d = g_0 + c |g_0| g_w / |g_w|, g_w = w g_1 + (1 - w) g_2,
    where w in [0, 1] minimises g_w . g_0 + c |g_0| |g_w|, which is convex.

    Source: Liu et al. 2021 (arXiv 2110.14048), algorithm 1. Departures: two tasks, for which w is found by halving; the
    result is times 2, so that c = 0 is the sum.

    Args:
        gradients: `[2, parameter]`.
        c: from 0 (the sum) to below 1; 0.5 as in most of the paper's runs.

    >>> import torch
    >>> cagrad(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), c=0.0)
    tensor([1., 1.])
    """
    if not 0 <= c < 1:
        raise UserError(f"Expected c of cagrad from 0 to below 1, received {c}.")
    if len(gradients) != 2:
        raise UserError(f"Expected two gradients for cagrad, received {len(gradients)}; use nash_mtl for more.")
    first, second = gradients
    aa, ab, bb = (float(x @ y) for x, y in ((first, first), (first, second), (second, second)))
    mean = max((aa + 2 * ab + bb) / 4, 0.0)
    radius = c * math.sqrt(mean)
    if radius == 0:
        return gradients.sum(0)
    w = _worst(aa, ab, bb, radius)
    direction = w * first + (1 - w) * second
    length = math.sqrt(max(_square(aa, ab, bb, w), 0.0))
    return gradients.sum(0) + (2 * radius / length * direction if length > 0 else 0.0)


def _worst(aa: float, ab: float, bb: float, radius: float) -> float:
    """Where the slope of w -> g_w . g_0 + radius |g_w| changes its sign in [0, 1]."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        w = (low + high) / 2
        length = math.sqrt(max(_square(aa, ab, bb, w), 0.0))
        bend = w * (aa - 2 * ab + bb) + ab - bb  # half the slope of |g_w|^2
        slope = (aa - bb) / 2 + (radius * bend / length if length > 0 else 0.0)
        low, high = (w, high) if slope < 0 else (low, w)
    return (low + high) / 2


def _square(aa: float, ab: float, bb: float, w: float) -> float:
    return w * w * aa + 2 * w * (1 - w) * ab + (1 - w) * (1 - w) * bb
