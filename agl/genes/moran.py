"""Moran's I: how alike a gene's values are in neighbouring spots."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from agl.errors import UserError
from agl.genes.training import TrainingSpots


def neighbour_weights(coords: np.ndarray, neighbours: int) -> sparse.csr_matrix:
    """Weights `[spot, spot]` of the nearest other spots; each row sums to 1.

    Spots as far away as the last neighbour (within 1 %) are neighbours too: on a lattice the result then does not
    depend on the order of the spots.

    >>> neighbour_weights(np.array([[0.0, 0], [1, 0], [2, 0]]), 1).toarray()
    array([[0. , 1. , 0. ],
           [0.5, 0. , 0.5],
           [0. , 1. , 0. ]])
    """
    n = len(coords)
    k = min(neighbours, n - 1)
    tree = cKDTree(coords)
    distance, _ = tree.query(coords, k=k + 1)  # the spot itself, or a twin at its place, is the first
    found = tree.query_ball_point(coords, r=distance[:, -1] * 1.01, return_sorted=True)
    rows = np.repeat(np.arange(n), [len(near) for near in found])
    columns = np.concatenate([np.asarray(near, dtype=np.int64) for near in found])
    other = rows != columns
    rows, columns = rows[other], columns[other]
    degree = np.bincount(rows, minlength=n)
    return sparse.csr_matrix((1.0 / degree[rows], (rows, columns)), shape=(n, n))


def morans_i(training: TrainingSpots, *, neighbours: int = 6) -> np.ndarray:
    """Moran's I of the log-normalised counts `[gene]`, per slide, averaged over slides by spots.

    In a slide, with x centred over its spots and w the row-normalised weights of the nearest neighbours,
    I = sum_ij w_ij x_i x_j / sum_i x_i^2. A slide where the gene is constant counts as 0; a gene that is constant in
    every slide is NaN. Slides of fewer than 3 spots are left out.

    Source: Moran 1950.
    """
    if neighbours < 1:
        raise UserError(f"Expected neighbours of at least 1, received {neighbours}.")
    total, spots, varies = np.zeros(training.n_genes), 0, np.zeros(training.n_genes, dtype=bool)
    for rows in training.slide_rows:
        if len(rows) < 3:
            continue
        value = _slide(training, rows, neighbour_weights(training.places(rows), neighbours))
        defined = ~np.isnan(value)
        total[defined] += len(rows) * value[defined]
        varies |= defined
        spots += len(rows)
    return np.where(varies, total / max(spots, 1), np.nan)


def _slide(training: TrainingSpots, rows: np.ndarray, weights: sparse.csr_matrix) -> np.ndarray:
    """Moran's I in one slide, block of spots by block, from sums over nonzero counts only."""
    n, genes = len(rows), training.n_genes
    asked = np.asarray(weights.sum(axis=0)).ravel()  # how often each spot is a neighbour
    cross, plain, squares, weighted = (np.zeros(genes) for _ in range(4))
    for block in training.blocks(np.arange(n)):
        values = training.log_normalised(rows[block])
        part = weights[block]
        near = np.unique(part.indices)
        lagged = part[:, near] @ training.log_normalised(rows[near])
        product = lagged.multiply(values).tocsr()
        cross += np.bincount(product.indices, product.data, genes)
        plain += np.bincount(values.indices, values.data, genes)
        squares += np.bincount(values.indices, values.data**2, genes)
        weighted += np.bincount(values.indices, values.data * np.repeat(asked[block], np.diff(values.indptr)), genes)
    mean = plain / n
    # sum_ij w_ij (x_i - m)(x_j - m), with sum_j w_ij = 1
    numerator = cross - mean * (plain + weighted) + mean**2 * n
    spread = squares - n * mean**2
    constant = spread <= 1e-12 * squares
    return np.where(constant, np.nan, numerator / np.where(constant, 1.0, spread))
