"""Does a way to combine losses fit? For ours, and for yours.

>>> from agl.bilevel import objective
>>> check_objective(objective.balanced)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agl.bilevel.objective import coefficients


def check_objective(combine: Callable[..., Tensor], **options: Any) -> None:
    """Assert the contract of an objective: `(primary [p], auxiliary [a], weights [a], *, strength)` -> one number.

    It is finite and differentiable in losses and weights; linear in the losses, so that hypergradients know what every
    gene counts; primary genes count more than nothing, a gene of weight 0 and every gene at strength 0 nothing; with no
    auxiliary weight at all the auxiliary losses do not matter.
    """
    primary = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
    auxiliary = torch.tensor([4.0, 8.0, 100.0, 0.5], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5, 0.0, 0.25], dtype=torch.float64)

    def value(p: Tensor, a: Tensor, w: Tensor, strength: float = 1.5) -> Tensor:
        return combine(p, a, w, strength=strength, **options)

    losses = [part.clone().requires_grad_() for part in (primary, auxiliary, weights)]
    total = value(losses[0], losses[1], losses[2])
    assert total.shape == (), f"Expected one number, received shape {tuple(total.shape)}."
    assert bool(total.isfinite()), f"Expected a finite number, received {total}."
    gradients = torch.autograd.grad(total, losses, materialize_grads=True)
    assert all(bool(g.isfinite().all()) for g in gradients), "Expected finite gradients of losses and weights."
    assert bool((gradients[0] > 0).all()), "Expected every primary gene to count."
    assert float(gradients[1][2]) == 0, "Expected a gene of weight 0 to count nothing."

    c = coefficients(lambda p, a, w, *, strength: value(p, a, w, strength), weights, 3, strength=1.5)
    torch.testing.assert_close(
        (c * torch.cat([primary, auxiliary])).sum() + value(0 * primary, 0 * auxiliary, weights),
        value(primary, auxiliary, weights),
        msg="Expected a number that is linear in the losses.",
    )
    for nothing in (value(primary, auxiliary, 0 * weights), value(primary, auxiliary, weights, 0.0)):
        assert bool(nothing.isfinite()), "Expected a finite number where no auxiliary gene counts."
    torch.testing.assert_close(
        value(primary, auxiliary, 0 * weights),
        value(primary, 7 * auxiliary, 0 * weights),
        msg="Expected auxiliary losses to make no difference where all weights are 0.",
    )
