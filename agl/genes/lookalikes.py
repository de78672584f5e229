"""Predictability without training: does a gene have like values in spots that look alike, on other slides?

Moran's I over a graph whose neighbours are not near on the tissue but near in image features, and never on the same
slide (where there are several): what a model of the picture could carry over to a slide that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from agl.errors import UserError
from agl.genes.training import TrainingSpots
from agl.seeds import seeded

MOST_SPOTS = 8_000  # of more, every n-th of each slide is taken
GENES_AT_ONCE = 512
SPOTS_AT_ONCE = 1_024


def feature_autocorrelation(
    training: TrainingSpots, *, neighbours: int = 10, genes: np.ndarray | None = None, most_spots: int = MOST_SPOTS
) -> np.ndarray:
    """I_g = sum_i z_ig mean_{j in N(i)} z_jg / sum_i z_ig^2, float64 `[gene]`; NaN where a gene is constant.

    z is log-normalised expression, centred and scaled inside each slide; N(i) are the spots of other slides (of the
    same one where it is the only one) whose features, centred and scaled inside slides, are nearest.

    Args:
        genes: positions of the genes to answer for, in the order of the answer; all when None.
        most_spots: of more, every n-th of each slide is taken.

    Raises:
        UserError: training spots without image features; fewer than 1 neighbour.
    """
    rows, weights = _graph(training, neighbours, most_spots)
    return np.concatenate([_moran(z, weights) for z in _standardised(training, rows, genes)])


def permutation_p(
    training: TrainingSpots, *, neighbours: int = 10, permutations: int = 99, seed: int = 0
) -> np.ndarray:
    """`[gene]` p of `feature_autocorrelation` where a slide's spots look like anything: (1 + as high) / (1 + drawn).

    The null deals the spots of each slide out anew, all genes of a spot together.
    """
    rows, weights = _graph(training, neighbours)
    slides = np.asarray(training.slides)[rows]
    rng, orders = seeded(seed, "lookalikes"), []
    for _ in range(permutations):
        order = np.arange(len(rows))
        for code in np.unique(slides):
            here = np.flatnonzero(slides == code)
            order[here] = rng.permutation(here)
        orders.append(order)
    found = []
    for z in _standardised(training, rows):
        seen = _moran(z, weights)
        as_high = sum((_moran(z[order], weights) >= seen).astype(int) for order in orders)
        found.append(np.where(np.isnan(seen), np.nan, (1 + as_high) / (1 + permutations)))
    return np.concatenate(found)


def _moran(z: np.ndarray, weights: sparse.csr_matrix) -> np.ndarray:
    squares = (z * z).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(squares > 0, (z * (weights @ z)).sum(0) / squares, np.nan)


def _graph(
    training: TrainingSpots, neighbours: int, most_spots: int = MOST_SPOTS
) -> tuple[np.ndarray, sparse.csr_matrix]:
    """The spots that take part, and the weights `[spot, spot]` of their look-alikes; each row sums to 1."""
    if neighbours < 1:
        raise UserError(f"Expected neighbours of at least 1, received {neighbours}.")
    if training.features is None:
        raise UserError(
            "Expected image features for the prior 'predictability', received none. Set data.features=builtin or a "
            "folder of features."
        )
    step = -(-training.n_spots // most_spots)
    rows = np.concatenate([each[::step] for each in training.slide_rows])
    slides = np.asarray(training.slides)[rows]
    features = _scaled(np.asarray(training.features[rows], dtype=np.float64), slides)
    alone, squares = len(np.unique(slides)) == 1, (features**2).sum(1)
    ends, columns = [0], []
    for start in range(0, len(rows), SPOTS_AT_ONCE):
        here = np.arange(start, min(start + SPOTS_AT_ONCE, len(rows)))
        distance = squares[here, None] + squares[None, :] - 2 * features[here] @ features.T
        barred = here[:, None] == np.arange(len(rows)) if alone else slides[here, None] == slides[None, :]
        distance[barred] = np.inf
        for each in distance:
            k = min(neighbours, int(np.isfinite(each).sum()))
            near = np.flatnonzero(each <= np.partition(each, k - 1)[k - 1] + 1e-9) if k else np.zeros(0, dtype=int)
            near = near[np.isfinite(each[near])]
            columns.append(near)
            ends.append(ends[-1] + len(near))
    degree = np.maximum(np.diff(ends), 1)
    data = np.repeat(1.0 / degree, np.diff(ends))
    return rows, sparse.csr_matrix((data, np.concatenate(columns), ends), shape=(len(rows), len(rows)))


def _standardised(training: TrainingSpots, rows: np.ndarray, genes: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Blocks of genes of z `[spot, gene]`."""
    values = sparse.csc_matrix(training.log_normalised(rows))
    values = values if genes is None else values[:, np.asarray(genes)]
    slides = np.asarray(training.slides)[rows]
    for start in range(0, max(values.shape[1], 1), GENES_AT_ONCE):
        yield _scaled(values[:, start : start + GENES_AT_ONCE].toarray(), slides)


def _scaled(values: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """Centred and scaled inside slides; what does not vary in one is 0 there."""
    out = np.zeros_like(values)
    for code in np.unique(slides):
        here = slides == code
        part = values[here] - values[here].mean(0)
        sd = part.std(0)
        out[here] = np.where(sd > 1e-12, part / np.where(sd > 1e-12, sd, 1.0), 0.0)
    return out
