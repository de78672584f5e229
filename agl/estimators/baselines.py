"""Predictors fitted in closed form on frozen features, under the same splits and scores as everything else.

A baseline is made with its options, `fit(features, counts, library_size, slides, seed=...)` gives something fitted,
and `predict(features)` of that gives scores `[spot, gene]`. It sees training spots only.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from agl.errors import UserError
from agl.estimators.convex import LinearScores
from agl.estimators.ridge_cv import best_penalty, cv_folds, fold_moments, held_out_pearson
from agl.estimators.ridge_path import RidgePath, Standardiser, blocks_of, leading_directions
from agl.estimators.tables import check_width, training_table

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)  # for each training spot


class TrainingMean:
    """Every spot gets the training spots' mean log expression: correlations are undefined, the error is the yardstick.

    >>> x, counts, library_size = np.zeros((2, 1)), np.array([[0], [1]]), np.array([10**4, 10**4])
    >>> fitted = TrainingMean().fit(x, counts, library_size, np.zeros(2))
    >>> fitted.predict(np.zeros((1, 1))).round(4)
    array([[0.3466]])
    """

    def fit(
        self, features: np.ndarray, counts: Any, library_size: np.ndarray, slides: np.ndarray, *, seed: int = 0
    ) -> Constant:
        """The mean over spots with counts. Only the number of features matters."""
        features, target, _ = training_table(features, counts, library_size, slides)
        return Constant(target.mean(0), features.shape[1])


@dataclass(frozen=True)
class Constant:
    """The same scores for every spot."""

    scores: np.ndarray  # [gene]
    width: int
    details: dict[str, Any] = field(default_factory=dict)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 `[spot, gene]`."""
        check_width(features, self.width)
        return np.tile(self.scores, (len(features), 1))

    def linear(self) -> LinearScores:
        """As scores of raw features, which have no part in them."""
        weights = torch.zeros(self.width, len(self.scores), dtype=torch.float64)
        return LinearScores(weights, torch.from_numpy(self.scores), self.details)


class Ridge:
    """Ridge regression of log expression on standardised features, its penalty chosen inside the training spots.

    W, b = argmin sum_i |y_i - b - x_i W|^2 + alpha |W|^2, y = log(1 + 10^4 counts / library size). alpha / n is the one
    of a grid with the highest Pearson correlation (mean over slides of the mean over genes, within slides) on held-out
    slides: up to five folds of whole slides, or of spots where there is one slide. Deterministic given `seed`.

    Args:
        alpha: a fixed penalty for each training spot (alpha / n) instead of choosing one.
        components: regress on this many leading principal components; capped at what the data have, with a warning.
        per_spot: the grid of penalties for each training spot.

    Source: A. E. Hoerl, R. W. Kennard, Technometrics 12 (1970) 55.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(60, 3))
    >>> counts = rng.poisson(np.exp(x[:, :1] + 2))
    >>> fitted = Ridge().fit(x, counts, np.full(60, 100), np.repeat([0, 1, 2], 20), seed=0)
    >>> bool(np.corrcoef(fitted.predict(x)[:, 0], x[:, 0])[0, 1] > 0.99)
    True
    """

    def __init__(
        self,
        *,
        alpha: float | None = None,
        components: int | None = None,
        per_spot: tuple[float, ...] = PENALTIES,
    ) -> None:
        grid = per_spot if alpha is None else (alpha,)
        if not grid or not all(np.isfinite(value) and value > 0 for value in grid):
            raise UserError(f"Expected ridge penalties above 0, received {', '.join(map(str, grid)) or 'none'}.")
        if components is not None and components < 1:
            raise UserError(f"Expected at least one component, received {components}.")
        self.components, self.grid = components, np.sort(np.asarray(grid, dtype=np.float64))

    def fit(
        self, features: np.ndarray, counts: Any, library_size: np.ndarray, slides: np.ndarray, *, seed: int = 0
    ) -> Linear:
        """Choose the penalty, then fit all spots.

        Args:
            features: `[spot, feature]`, any float dtype, may be memory-mapped.
            counts: raw `[spot, gene]`, dense or sparse.
            library_size: totals over all genes `[spot]`; spots without counts take no part.
            slides: codes `[spot]`.

        Raises:
            UserError: fewer than two spots, features that are not finite, shapes that differ.
        """
        features, target, slides = training_table(features, counts, library_size, slides)
        standardise = Standardiser.fit(features)
        directions = self._directions(features, standardise)

        def inputs(rows: np.ndarray) -> np.ndarray:
            x = standardise(features[rows])
            return x if directions is None else x @ directions

        fold, kind = cv_folds(slides, seed)
        parts = fold_moments(fold, inputs, target)
        score = np.full(len(self.grid), np.nan)
        if len(self.grid) > 1 and len(parts) > 1:
            score = held_out_pearson(parts, fold, inputs, target, slides, self.grid)
        best = best_penalty(self.grid, score)
        weights, intercept = RidgePath(sum(parts[1:], start=parts[0])).weights(self.grid[best] * len(features))
        details = {
            "alpha_per_spot": float(self.grid[best]),
            "alpha_at_edge": len(self.grid) > 1 and best in (0, len(self.grid) - 1),
            "cv_pearson": None if np.isnan(score[best]) else float(score[best]),
            "cv": f"{len(parts)} folds of {kind}",
            "components": None if directions is None or self.components is None else directions.shape[1],
        }
        return Linear(standardise, weights if directions is None else directions @ weights, intercept, details)

    def _directions(self, features: np.ndarray, standardise: Standardiser) -> np.ndarray | None:
        """Turns wide features into as few as there are spots, which changes nothing, or into the components asked."""
        n, d = features.shape
        most = min(n - 1, d)
        if self.components is None:
            return leading_directions(features, standardise, most) if d > n else None
        if self.components > most:
            warnings.warn(
                f"ridge: {self.components} components asked for; {n} training spots with {d} features have {most}",
                stacklevel=3,
            )
        return leading_directions(features, standardise, min(self.components, most))


@dataclass(frozen=True)
class Linear:
    """Scores that are linear in standardised features."""

    standardise: Standardiser
    weights: np.ndarray  # [feature, gene]
    intercept: np.ndarray  # [gene]
    details: dict[str, Any]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 `[spot, gene]`."""
        check_width(features, len(self.weights))
        parts = [self.standardise(block) @ self.weights + self.intercept for block in blocks_of(features)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.intercept)))

    def linear(self) -> LinearScores:
        """As scores of raw features."""
        weights = self.weights / self.standardise.scale[:, None]
        level = self.intercept - self.standardise.mean @ weights
        return LinearScores(torch.from_numpy(weights), torch.from_numpy(level), self.details)
