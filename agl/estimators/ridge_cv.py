"""Choose a ridge penalty on held-out slides of the training split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import strank
from agl.estimators.ridge_path import BLOCK, Moments, RidgePath
from agl.seeds import seeded

FOLDS = 5
Inputs = Callable[[np.ndarray], np.ndarray]  # spot positions -> standardised inputs [spot, feature]


def cv_folds(slides: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Fold number `[spot]` and what the folds are made of.

    Whole slides, the largest first into the emptiest of up to five folds; with one slide, its spots at random.

    >>> cv_folds(np.array([4, 4, 4, 7, 9]), seed=0)
    (array([0, 0, 0, 1, 2]), 'slides')
    """
    names, code, sizes = np.unique(slides, return_inverse=True, return_counts=True)
    if len(names) == 1:
        folds = min(FOLDS, max(1, len(slides) // 3))  # a correlation needs three spots
        return seeded(seed, "ridge", "folds").permutation(np.arange(len(slides)) % folds), "spots"
    filled = np.zeros(min(FOLDS, len(names)), dtype=np.int64)
    fold_of = np.empty(len(names), dtype=np.int64)
    for slide in np.argsort(-sizes, kind="stable"):
        fold_of[slide] = np.argmin(filled)
        filled[fold_of[slide]] += sizes[slide]
    return fold_of[code], "slides"


def fold_moments(fold: np.ndarray, inputs: Inputs, target: np.ndarray) -> list[Moments]:
    """The moments of each fold's spots."""
    parts = []
    for i in range(int(fold.max()) + 1):
        rows = np.flatnonzero(fold == i)
        blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        moments = Moments.of(inputs(blocks[0]), target[blocks[0]])
        for block in blocks[1:]:
            moments = moments + Moments.of(inputs(block), target[block])
        parts.append(moments)
    return parts


def held_out_pearson(
    parts: list[Moments], fold: np.ndarray, inputs: Inputs, target: np.ndarray, slides: np.ndarray, grid: np.ndarray
) -> np.ndarray:
    """`[penalty]`: Pearson correlation on held-out spots, mean over slides of the mean over defined genes.

    Args:
        grid: penalties for each training spot.
    """
    everything = sum(parts[1:], start=parts[0])
    found: list[list[float]] = [[] for _ in grid]
    for i, part in enumerate(parts):
        rows = np.flatnonzero(fold == i)
        rest = everything - part
        truth, groups = (
            torch.from_numpy(target[rows]),
            torch.from_numpy(np.unique(slides[rows], return_inverse=True)[1]),
        )
        path, scored = RidgePath(rest), np.empty((len(grid), len(rows), target.shape[1]))
        for start in range(0, len(rows), BLOCK):  # wide features of a whole fold would not fit
            here = slice(start, start + BLOCK)
            for at, scores in enumerate(path.predictions(inputs(rows[here]), grid * rest.n)):
                scored[at, here] = scores
        for at, scores in enumerate(scored):
            r = strank.pearson(torch.from_numpy(scores), truth, slides=groups, per_slide=True)
            found[at] += r.nanmean(1).tolist()
    return np.array([np.nanmean(values) if not np.isnan(values).all() else np.nan for values in found])


def best_penalty(grid: np.ndarray, score: np.ndarray) -> int:
    """Position of the best score, of the larger penalty among equals; without any score, of the penalty nearest 1."""
    if np.isnan(score).all():
        return int(np.argmin(np.abs(np.log(grid))))
    return int(np.flatnonzero(score == np.nanmax(score))[-1])
