"""Ridge regression for a whole path of penalties, from sums over spots: features may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 4096  # spots read and turned into float64 at once


@dataclass(frozen=True)
class Standardiser:
    """Features in units of their spread over the training spots; a constant feature becomes 0."""

    mean: np.ndarray  # [feature]
    scale: np.ndarray  # [feature]

    @classmethod
    def fit(cls, features: np.ndarray) -> Standardiser:
        """Mean and population standard deviation in float64, in two passes."""
        mean = sum(block.sum(0) for block in blocks_of(features)) / len(features)
        variance = sum(((block - mean) ** 2).sum(0) for block in blocks_of(features)) / len(features)
        scale = np.sqrt(variance)
        constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        return cls(mean, np.where(constant, np.inf, scale))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float64 `[spot, feature]`."""
        return (np.asarray(features, dtype=np.float64) - self.mean) / self.scale


@dataclass(frozen=True)
class Moments:
    """Sums over spots that a ridge fit needs: those of two disjoint sets add up, those of a subset subtract."""

    n: int
    x: np.ndarray  # [feature]
    y: np.ndarray  # [gene]
    xx: np.ndarray  # [feature, feature]
    xy: np.ndarray  # [feature, gene]

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Moments:
        """Moments of `x [spot, feature]` and `y [spot, gene]`."""
        return cls(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.x + other.x, self.y + other.y, self.xx + other.xx, self.xy + other.xy)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.n - other.n, self.x - other.x, self.y - other.y, self.xx - other.xx, self.xy - other.xy)


class RidgePath:
    """min_W sum_i |y_i - b - x_i W|^2 + alpha |W|^2 for any alpha, after one eigendecomposition; b is not penalised.

    In the eigenbasis V of the centred X'X = V diag(w) V', W = V diag(1 / (w + alpha)) V' X'Y.

    Args:
        moments: of the training spots.
    """

    def __init__(self, moments: Moments) -> None:
        self.x_mean, self.y_mean = moments.x / moments.n, moments.y / moments.n
        gram = moments.xx - moments.n * np.outer(self.x_mean, self.x_mean)
        values, self.basis = np.linalg.eigh(gram)
        self.values = values.clip(min=0)
        self.projected = self.basis.T @ (moments.xy - moments.n * np.outer(self.x_mean, self.y_mean))

    def weights(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """W `[feature, gene]` and b `[gene]`; alpha > 0."""
        weights = self.basis @ (self.projected / (self.values + alpha)[:, None])
        return weights, self.y_mean - self.x_mean @ weights

    def predictions(self, x: np.ndarray, alphas: np.ndarray) -> Iterator[np.ndarray]:
        """`[spot, gene]` for each alpha."""
        turned = (x - self.x_mean) @ self.basis
        for alpha in alphas:
            yield turned @ (self.projected / (self.values + alpha)[:, None]) + self.y_mean


def blocks_of(features: np.ndarray) -> Iterator[np.ndarray]:
    """float64 blocks of spots."""
    for start in range(0, len(features), BLOCK):
        yield np.asarray(features[start : start + BLOCK], dtype=np.float64)


def leading_directions(features: np.ndarray, standardise: Standardiser, count: int) -> np.ndarray:
    """`[feature, count]` orthonormal directions of largest variance of the standardised training features.

    With `count` at the rank, ridge regression on the projections equals that on all features: its weights lie in the
    span of the training spots.
    """
    n, d = features.shape
    if d <= n:
        gram = sum(standardise(block).T @ standardise(block) for block in blocks_of(features))
        return np.asarray(np.linalg.eigh(gram)[1][:, ::-1][:, :count])
    x = standardise(features)
    left = np.linalg.eigh(x @ x.T)[1][:, ::-1][:, :count]
    directions, _ = np.linalg.qr(x.T @ left)
    return directions
