"""A merge that bargains: the update on which all tasks gain in proportion."""

from __future__ import annotations

import torch
from torch import Tensor

from agl.training.merges.balances import check_groups

STEPS, SMALLEST = 50, 1e-10  # of Newton, and the decrement at which it is done


class NashMTL:
    """d = sum_i a_i g_i with G G' a = 1 / a: the direction that maximises sum_i log(g_i . d) among those of one length.

    a is where 1/2 a' (G G') a - sum_i log a_i is smallest, which is convex: Newton with damped steps finds it.

    Source: Navon et al. 2022 (arXiv 2202.01017), equation 3. Departures: a is solved at every step, exactly, not by a
    sequence of convex programs every few steps; gradients that pull against each other entirely have no such point, so
    that a millionth is added to the diagonal of their cosines; the result has the length of the sum of the gradients
    (alone it would be sqrt(tasks) always).

    Args:
        groups: the auxiliary genes, in the panel's order, are cut into so many tasks; each costs a backward pass.

    >>> NashMTL()(torch.tensor([[1.0, 0.0], [0.0, 10.0]])).div(10.05).round(decimals=2)  # as if both were of length 1
    tensor([0.7100, 0.7100])
    """

    def __init__(self, *, groups: int = 4) -> None:
        check_groups(groups)
        self.groups = groups

    def __call__(self, gradients: Tensor) -> Tensor:
        """`[parameter]` from `[task, parameter]`."""
        whole = gradients.sum(0)
        alive = gradients.norm(dim=1) > 0
        if int(alive.sum()) < 2:
            return whole
        each = gradients[alive]
        merged = bargain(each.double() @ each.double().T).to(each) @ each
        return merged * (whole.norm() / merged.norm().clamp_min(torch.finfo(merged.dtype).tiny))


def bargain(gram: Tensor) -> Tensor:
    """a `[task]` above 0 with gram a = 1 / a, for a Gram matrix `[task, task]` in float64.

    >>> bargain(torch.tensor([[4.0, 0.0], [0.0, 0.25]], dtype=torch.float64))
    tensor([0.5000, 2.0000], dtype=torch.float64)
    """
    scale = gram.diagonal().sqrt()  # unit lengths: b = scale a solves the same problem of the cosines
    cosines = gram / scale[:, None] / scale + 1e-6 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    b = cosines.sum(1).clamp_min(0.1).rsqrt()
    for _ in range(STEPS):
        slope = cosines @ b - 1 / b
        curve = cosines + torch.diag(1 / b**2)
        step = torch.linalg.solve(curve, slope)
        decrement = float((slope @ step).clamp_min(0).sqrt())
        b = b - step / (1 + decrement)  # self-concordant: so long a step stays inside and goes down
        if decrement < SMALLEST:
            break
    return b / scale
