"""Small outer problems whose parts are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

import strank
from agl.convex.low_rank import Coordinates
from agl.convex.outer import Fold, OuterProblem

PRIMARY, AUXILIARY, FEATURES, SPOTS = 4, 16, 9, 50


@dataclasses.dataclass
class Parts:
    """What a fold was made of."""

    x: np.ndarray
    heads: np.ndarray
    held: np.ndarray
    counts: np.ndarray
    slides: np.ndarray


def parts(seed: int, features: int = FEATURES) -> Parts:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SPOTS, features))
    x -= x.mean(0)
    true = rng.normal(size=(features, 3)) @ rng.normal(size=(3, PRIMARY + AUXILIARY))
    y = x @ true + 3 * rng.normal(size=(SPOTS, PRIMARY + AUXILIARY))
    heads = np.linalg.solve(x.T @ x + 5 * np.eye(features), x.T @ (y - y.mean(0)))
    held = rng.normal(size=(30, features))
    counts = rng.poisson(np.exp(0.3 * held @ true[:, :PRIMARY] + 1))
    return Parts(x, heads, held, counts, np.repeat([5, 2], [18, 12]))


def fold_of(p: Parts, **options: object) -> Fold:
    return Fold.of(
        Coordinates.of(torch.tensor(p.x)),
        torch.tensor(p.heads),
        PRIMARY,
        held_features=torch.tensor(p.held),
        counts=torch.tensor(p.counts),
        slides=torch.tensor(p.slides),
        library_size=torch.tensor(p.counts.sum(1) + 7),
        **options,  # type: ignore[arg-type]
    )


def problem_of(loss=strank.listwise_nll, seeds=(0, 1), **options) -> OuterProblem:
    return OuterProblem([fold_of(parts(seed)) for seed in seeds], loss, **{"ranks": (3,), **options})


def some_weights(n: int = AUXILIARY) -> Tensor:
    return torch.tensor(np.random.default_rng(9).uniform(0.1, 1, n))
