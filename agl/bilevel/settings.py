"""How the inner problem is solved: what every engine is told by the training, whatever its own options."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class InnerSettings:
    """The optimiser of a look-ahead.

    Args:
        optimizer: the live training optimiser; None with `inner_optimizer` and `inner_lr`.
        warm: start from the live optimiser's moments; otherwise from zeros, which with Adam leaves next to no signal.
        inner_optimizer: another formula (sgd, adam, adamw, adam_higher); None is the training optimiser's own.
        inner_lr: another learning rate; None is the training optimiser's own.
        seed: fixes dropout and random losses; step t draws from seed + t.
        precision: compute in another floating-point type; None is the model's own, or what an engine prefers.

    >>> InnerSettings(inner_optimizer="sgd", inner_lr=0.1).warm
    True
    """

    optimizer: torch.optim.Optimizer | None = None
    warm: bool = True
    inner_optimizer: str | None = None
    inner_lr: float | None = None
    seed: int = 0
    precision: torch.dtype | None = None
