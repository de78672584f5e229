"""How strongly each gene varies together with the primary genes, inside slides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from agl.errors import UserError
from agl.genes.training import TrainingSpots

ENOUGH = 6  # spots of a slide below which nothing is said about correlations
NEGLIGIBLE = 1e-9  # share of a sum of squares below which what is left counts as rounding
GENES = 512  # genes whose values are dense at one time


@dataclass(frozen=True, eq=False)
class SlideCorrelation:
    """One slide's correlations, and what it takes to get its genes' residual maps."""

    rows: np.ndarray  # positions of its spots
    basis: np.ndarray  # [spot, covariate] orthonormal: what is taken out of every gene
    correlation: np.ndarray  # [gene, primary], 0 where a gene does not vary
    varies: np.ndarray  # bool [gene]
    unevenness: np.ndarray  # [gene]: by how much Var(r) grows because shallow spots are noisier for both genes
    explained: np.ndarray  # [gene, covariate]: a gene's share of each covariate
    length: np.ndarray  # [gene]: length of what is left

    @property
    def n_spots(self) -> int:
        """Spots of the slide."""
        return len(self.rows)

    @property
    def degrees(self) -> int:
        """Spots less fitted covariates."""
        return len(self.rows) - self.basis.shape[1]

    def residual_maps(self, training: TrainingSpots, genes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some genes, a piece at a time, with their residual maps of length 1 `[spot, gene]`; constant ones are 0."""
        values = training.log_normalised(self.rows).tocsc()
        for start in range(0, len(genes), GENES):
            piece = genes[start : start + GENES]
            left = values[:, piece].toarray() - self.basis @ self.explained[piece].T
            yield piece, left * np.where(self.varies[piece], 1 / self.length[piece], 0.0)


def coexpression(
    training: TrainingSpots, primary: np.ndarray, *, top: int = 5, depth: bool = True, corrected: bool = True
) -> np.ndarray:
    """Mean of the `top` largest squared correlations with the primary genes `[gene]`; high = co-expressed.

    r = `slide_correlations` averaged over slides by spots, [gene, primary]; with `corrected`, each r^2 becomes
    r^2 - (1 - r^2) / (degrees of freedom - 1), which is 0 on average for an unrelated gene and may be negative.
    A primary gene's correlation with itself is left out. A gene that is constant in every slide is NaN.

    Args:
        top: how many primary genes a gene must go with; more than there are means all of them.
        depth: take out of both genes what log library size explains. Normalised log counts of rare genes still depend
            on library size, so that unrelated genes would seem co-expressed.
    """
    if top < 1:
        raise UserError(f"Expected top of at least 1 primary gene, received {top}.")
    r, varies, degrees = average(slide_correlations(training, primary, depth=depth))
    squared = r**2
    if corrected and degrees > 1:
        squared -= (1 - squared) / (degrees - 1)
    return np.where(varies, top_mean(without_self(squared, primary), top), np.nan)


def average(slides: Iterable[SlideCorrelation]) -> tuple[np.ndarray, np.ndarray, int]:
    """Correlations averaged over slides by spots `[gene, primary]`, who varies anywhere `[gene]`, degrees of freedom.

    A slide where a gene is constant counts as correlation 0: there is nothing to learn from it there.
    """
    spots, degrees = 0, 0
    total, varies = np.zeros(()), np.zeros((), dtype=bool)
    for slide in slides:  # one at a time in memory
        total = total + slide.n_spots * slide.correlation
        varies = varies | slide.varies
        spots += slide.n_spots
        degrees += slide.degrees
    return total / spots, varies, degrees


def without_self(values: np.ndarray, primary: np.ndarray) -> np.ndarray:
    """`[gene, primary]` with each primary gene's pair with itself set to -inf, so that it is never among the top."""
    values = values.copy()
    values[primary, np.arange(len(primary))] = -np.inf
    return values


def top_mean(values: np.ndarray, top: int) -> np.ndarray:
    """Mean of the `top` largest finite values in each row; 0 where there are none.

    >>> top_mean(np.array([[1.0, 3.0, 2.0], [-np.inf, 0.5, -np.inf]]), 2)
    array([2.5, 0.5])
    """
    k = min(top, values.shape[1])
    best = np.partition(values, -k, axis=1)[:, -k:]
    finite = np.isfinite(best)
    return np.where(finite, best, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)


def slide_correlations(
    training: TrainingSpots, primary: np.ndarray, *, depth: bool = True
) -> Iterator[SlideCorrelation]:
    """Correlations of all genes with the primary genes, slide by slide, on log(1 + counts per 10,000).

    Slides with fewer than 6 spots (three covariates, and three more) are left out.
    """
    if len(primary) == 0:
        raise UserError(
            "Expected primary genes to measure co-expression with, received none; name a primary rule first."
        )
    largest = max(len(rows) for rows in training.slide_rows)
    if largest < ENOUGH:
        raise UserError(
            f"Expected a slide with at least {ENOUGH} training spots to measure co-expression, the largest has "
            f"{largest}; choose a prior that needs no correlations, such as dispersion."
        )
    for rows in training.slide_rows:
        if len(rows) >= ENOUGH:
            yield _correlate(training, rows, primary, depth)


def _correlate(training: TrainingSpots, rows: np.ndarray, primary: np.ndarray, depth: bool) -> SlideCorrelation:
    basis = _covariates(training.library_size[rows], depth)
    n, n_covariates = basis.shape
    target = np.concatenate([training.log_normalised(b)[:, primary].toarray() for b in training.blocks(rows)])
    target = _unit(_residual(target, basis), np.square(target).sum(axis=0))

    # One pass over the nonzero counts: every gene times [covariates, primary genes].
    noise = _noise_by_depth(target, training.library_size[rows])
    right = np.concatenate([basis, noise[:, None] * basis, target], axis=1)
    products = np.zeros((training.n_genes, right.shape[1]))
    squares, noisy_squares = np.zeros(training.n_genes), np.zeros(training.n_genes)
    for block in training.blocks(np.arange(n)):
        values = training.log_normalised(rows[block])
        products += values.T @ right[block]
        squares += np.bincount(values.indices, values.data**2, training.n_genes)
        weighted = values.data**2 * np.repeat(noise[block], np.diff(values.indptr))
        noisy_squares += np.bincount(values.indices, weighted, training.n_genes)

    explained, noisy, with_target = np.split(products, [n_covariates, 2 * n_covariates], axis=1)
    left = squares - np.square(explained).sum(axis=1)
    varies = left > NEGLIGIBLE * squares
    length = np.sqrt(np.where(varies, left, 1.0))
    correlation = np.where(varies[:, None], np.clip(with_target / length[:, None], -1, 1), 0.0)
    # sum_i noise_i (x_i - fit_i)^2 relative to sum_i (x_i - fit_i)^2, the fit being basis @ explained
    fitted = np.einsum("gk,kl,gl->g", explained, basis.T @ (noise[:, None] * basis), explained)
    noisy_left = noisy_squares - 2 * np.einsum("gk,gk->g", noisy, explained) + fitted
    unevenness = np.where(varies, np.maximum(noisy_left, 0.0) / np.where(varies, left, 1.0), 1.0)
    return SlideCorrelation(rows, basis, correlation, varies, unevenness, explained, length)


def _covariates(library: np.ndarray, depth: bool) -> np.ndarray:
    """Orthonormal columns `[spot, covariate]`: the constant, and log library size and its square where they vary."""
    n = len(library)
    columns = [np.full(n, n**-0.5)]
    if depth:
        logs = np.log(np.maximum(library.astype(np.float64), 1.0))
        logs = (logs - logs.mean()) / max(logs.std(), 1e-12)
        for column in (logs, logs**2):
            left = column
            for _ in range(2):  # the second pass removes what rounding left
                left = left - sum(c * (c @ left) for c in columns)
            if left @ left > NEGLIGIBLE * n:
                columns.append(left / np.linalg.norm(left))
    return np.stack(columns, axis=1)


def _noise_by_depth(target: np.ndarray, library: np.ndarray, bins: int = 20) -> np.ndarray:
    """Mean square of the primary genes' residuals among spots of like library size `[spot]`, 1 on average."""
    n = len(library)
    power = np.square(target).sum(axis=1)
    if power.sum() == 0:
        return np.ones(n)
    noise = np.empty(n)
    for alike in np.array_split(np.argsort(library, kind="stable"), min(bins, max(n // 10, 1))):
        noise[alike] = power[alike].mean()
    return noise / noise.mean()


def _residual(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    return values - basis @ (basis.T @ values)


def _unit(values: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Columns of length 1; a column with nothing left but rounding becomes 0."""
    squares = np.square(values).sum(axis=0)
    varies = squares > NEGLIGIBLE * before
    return values * np.where(varies, 1 / np.sqrt(np.where(varies, squares, 1.0)), 0.0)
