"""What a trainer trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from agl.bilevel.objective import Combine, balanced
from agl.data.batches import SpotLoader
from agl.models.predictor import Predictor

GeneLoss = Callable[..., Tensor]


@dataclass
class Task:
    """What is to be learnt: a predictor of a panel, on these spots, under this loss.

    `weights` are those of the auxiliary genes; a plugin may change them while training goes on.
    """

    model: Predictor
    loss: GeneLoss  # (scores, counts, *, slides, library_size[, generator]) -> [gene]
    loader: SpotLoader
    train: np.ndarray
    validation: np.ndarray
    n_primary: int
    weights: Tensor  # [auxiliary gene] in [0, 1]
    combine: Combine = balanced
    strength: float = 1.0
    gate: str = "loss"
    merge: Callable[..., Tensor] | None = None  # of the trunk's gradients, see `agl.training.merges`; None: their sum
