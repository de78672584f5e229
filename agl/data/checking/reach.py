"""What can be reached at all, and by depth, position or stain density alone: of genes as a run would be scored on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from agl.data.expression import log_expression
from agl.genes.training import TrainingSpots
from agl.genes.variability import normalised_dispersion
from agl.nuisances import fitted
from agl.seeds import seeded

GENES, DETECTED = 50, 0.10  # as the default rule of primary genes has it
FOLDS, FEWEST = 5, 30  # of spots: what is predicted from the others; fewer say nothing
MOST_SPOTS = 5_000  # enough for a mean over genes; of larger sections every n-th spot is taken


def thinning(n_spots: int) -> int:
    """Every how manyth spot is looked at."""
    return -(-n_spots // MOST_SPOTS)


def thinned(blocks: Iterable[tuple[int, sparse.csr_matrix]], n_spots: int) -> sparse.csr_matrix:
    """At most `MOST_SPOTS` rows of counts that come in blocks with the number of their first row."""
    step = thinning(n_spots)
    return sparse.csr_matrix(sparse.vstack([block[-start % step :: step] for start, block in blocks], format="csr"))


class Reach(NamedTuple):
    """Means over the most dispersed genes of one section; None where no gene has counts enough to say.

    Attributes:
        ceiling: the noise ceiling (`strank.ceiling`).
        depth: the SCC of a spot's depth alone with their log-normalised expression; far from 0 says that the
            normalisation has left depth in, and that a model of depth would seem to see the tissue.
        position: the SCC of a smooth function of place (`agl.nuisances.places`), every spot's fitted to others of the
            section; a gene that it ranks is a gradient, and no picture is needed for one.
        stain: the same of the mean optical density of the spots' patches.
    """

    ceiling: float | None = None
    depth: float | None = None
    position: float | None = None
    stain: float | None = None


def mean_reach(
    counts: sparse.csr_matrix,
    *,
    position: np.ndarray | None = None,
    density: np.ndarray | None = None,
    seed: int = 0,
) -> Reach:
    """What can be reached on one section with raw counts `[spot, gene]`, all genes.

    Args:
        position: `[spot, column]` functions of its place.
        density: `[spot]`; NaN where nobody has looked.
    """
    import torch

    import strank

    library = np.asarray(counts.sum(1)).ravel().astype(np.int64)
    measured = library > 0
    counts, library = counts[measured], library[measured]
    n_spots, n_genes = counts.shape
    if n_spots < 3:
        return Reach()
    names = tuple(map(str, range(n_genes)))
    spots = TrainingSpots(counts, library, np.zeros(n_spots, int), np.zeros((n_spots, 2)), names)
    often = spots.detection >= DETECTED
    score = normalised_dispersion(spots, among=often) if often.any() else np.full(n_genes, np.nan)
    genes = [gene for gene in np.argsort(-score, kind="stable")[:GENES] if np.isfinite(score[gene])]  # NaN come last
    if not genes:
        return Reach()
    chosen = counts[:, genes].toarray()
    reach = strank.ceiling(torch.from_numpy(chosen), torch.from_numpy(library), seed=seed)
    target = torch.from_numpy(log_expression(chosen, library))
    depth = strank.spearman(torch.from_numpy(library)[:, None].expand_as(target), target)
    found = [None if bool(each.isnan().all()) else float(each.nanmean()) for each in (reach, depth)]
    columns = [each if each is None else each[measured] for each in (position, density)]
    return Reach(*found, *(None if each is None else left_out(each, target.numpy(), seed) for each in columns))


def left_out(columns: np.ndarray, target: np.ndarray, seed: int) -> float | None:
    """Mean SCC over genes of least squares on some columns, each fifth of the spots predicted from the others.

    Args:
        columns: `[spot]` or `[spot, column]`; spots with NaN take no part.
        target: `[spot, gene]`.
    """
    import torch

    import strank

    table = columns.reshape(len(columns), -1)
    known = np.isfinite(table).all(1)
    if known.sum() < FEWEST:
        return None
    table, truth = table[known] - table[known].mean(0), target[known]
    fold = seeded(seed, "check", "folds").permutation(np.arange(len(table)) % FOLDS)
    scores = np.zeros(truth.shape)
    for i in range(FOLDS):
        rest = fold != i
        scores[~rest] = fitted(table[rest], truth[rest], np.zeros(rest.sum()), table[~rest])
    found = strank.spearman(torch.from_numpy(scores), torch.from_numpy(truth))
    return None if bool(found.isnan().all()) else float(found.nanmean())
