"""How the losses of primary and auxiliary genes become one number to minimise.

A way to combine is a pure function `combine(primary_losses [p], auxiliary_losses [a], weights [a], *, strength)`. All
of them fall back to the primary genes alone when every auxiliary weight is zero. Normalisers are detached: the
derivative for a weight says what its gene does to the predictor, not how it rescales the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from agl.errors import UserError

Combine = Callable[..., Tensor]


def balanced(primary: Tensor, auxiliary: Tensor, weights: Tensor, *, strength: float = 1.0) -> Tensor:
    """mean(primary) + strength * sum(w * auxiliary) / max(1, sum(w)): shares that do not depend on how many genes.

    >>> primary, auxiliary = torch.tensor([1.0, 3.0]), torch.tensor([4.0, 8.0, 100.0])
    >>> balanced(primary, auxiliary, torch.tensor([1.0, 1.0, 0.0]), strength=0.5)
    tensor(5.)
    """
    total = weights.detach().sum().clamp(min=1.0)  # less than one gene's weight fades out instead of being blown up
    return primary.mean() + strength * (weights * auxiliary).sum() / total


def sum(primary: Tensor, auxiliary: Tensor, weights: Tensor, *, strength: float = 1.0) -> Tensor:
    """sum(primary) + strength * sum(w * auxiliary): equation 4 of arXiv 2511.18336 for strength 1.

    >>> sum(torch.tensor([1.0, 3.0]), torch.tensor([4.0, 8.0]), torch.tensor([1.0, 0.5]))
    tensor(12.)
    """
    return primary.sum() + strength * (weights * auxiliary).sum()


def weighted_mean(primary: Tensor, auxiliary: Tensor, weights: Tensor, *, strength: float = 1.0) -> Tensor:
    """(sum(primary) + sum(v * auxiliary)) / (p + sum(v)) with v = strength * w: the released code's for strength 1.

    >>> weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([4.0, 8.0]), torch.tensor([1.0, 0.0]))
    tensor(2.6667)
    """
    weights = strength * weights
    return (primary.sum() + (weights * auxiliary).sum()) / (len(primary) + weights.detach().sum())


def coefficients(combine: Combine, weights: Tensor, n_primary: int, *, strength: float = 1.0) -> Tensor:
    """c `[gene]` with combine(...) = sum(c * losses), differentiable with respect to the weights `[aux]`.

    Raises:
        UserError: the way to combine is not linear in the losses, so that no such c exists.

    >>> coefficients(balanced, torch.tensor([1.0, 0.5]), 2, strength=3.0)
    tensor([0.5000, 0.5000, 2.0000, 1.0000])
    """

    def gradient_at(losses: Tensor) -> Tensor:
        losses.requires_grad_()
        with torch.enable_grad():
            value = combine(losses[:n_primary], losses[n_primary:], weights, strength=strength)
            return torch.autograd.grad(value, losses, create_graph=True, materialize_grads=True)[0]

    n_genes = n_primary + len(weights)
    here = gradient_at(torch.zeros(n_genes, dtype=weights.dtype, device=weights.device))
    there = gradient_at(torch.linspace(0.5, 2.0, n_genes, dtype=weights.dtype, device=weights.device))
    if not torch.allclose(here, there, rtol=1e-4, atol=0.0):
        name = getattr(combine, "__name__", type(combine).__name__)
        raise UserError(
            f"Expected a way to combine that is linear in the losses, received {name!r}, which is not; "
            "use balanced, sum or weighted_mean with a bi-level selector."
        )
    return here
