"""The penalty of HEST-bench's ridge: its formula, or the one that predicts left-out training slides best."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

import strank
from agl.estimators.ridge_cv import best_penalty, cv_folds
from agl.estimators.ridge_path import Moments, RidgePath

Penalty = Literal["formula", "chosen"]
GRID = np.logspace(-6, 4, 21)  # in units of the inputs' mean square a spot and column


def formula(inputs: np.ndarray, target: np.ndarray) -> float:
    """100 / (columns * genes): the benchmark's, whatever the inputs."""
    return 100 / (inputs.shape[1] * target.shape[1])


def chosen(inputs: np.ndarray, target: np.ndarray, slides: np.ndarray, seed: int) -> tuple[float, dict[str, Any]]:
    """alpha with the best score on left-out training slides, and how it was chosen.

    Of W(alpha) = (X^T X + alpha I)^-1 X^T Y without an intercept, alpha = c mean(X^2) n with c from a grid. The score
    is the benchmark's own: Pearson over all spots of the folds of slides that are left out, mean over genes, mean over
    folds. With one slide its spots are left out at random, which is optimistic.

    Args:
        inputs: `[spot, column]`.
        target: log(1 + counts) `[spot, gene]`.
        slides: codes `[spot]`.
    """
    x, y = np.asarray(inputs, dtype=np.float64), np.asarray(target, dtype=np.float64)
    fold, kind = cv_folds(slides, seed)
    count = int(fold.max()) + 1
    score = np.full((count, len(GRID)), np.nan)
    for i in range(count if count > 1 else 0):
        score[i] = _held_out(x[fold != i], y[fold != i], x[fold == i], y[fold == i])
    mean = score.mean(0)
    best = best_penalty(GRID, mean)
    details = {
        "cv": f"{count} folds of {kind}",
        "cv_pearson": None if np.isnan(mean[best]) else float(mean[best]),
        "alpha_at_edge": best in (0, len(GRID) - 1),
    }
    return float(GRID[best] * np.square(x).sum() / x.shape[1]), details


def _held_out(x: np.ndarray, y: np.ndarray, new: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[penalty]` mean over defined genes."""
    without_intercept = Moments(len(x), np.zeros(x.shape[1]), np.zeros(y.shape[1]), x.T @ x, x.T @ y)
    grid = GRID * np.square(x).sum() / x.shape[1]
    found = []
    for scores in RidgePath(without_intercept).predictions(new, grid):
        r = strank.pearson(torch.from_numpy(scores), torch.from_numpy(truth))
        found.append(float(r.nanmean()))
    return np.array(found)
