"""What can be reached at all, and by depth alone: of genes such as a run would be scored on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from agl.data.expression import log_expression
from agl.genes.training import TrainingSpots
from agl.genes.variability import normalised_dispersion

GENES, DETECTED = 50, 0.10  # as the default rule of primary genes has it
MOST_SPOTS = 5_000  # enough for a mean over genes; of larger sections every n-th spot is taken


def thinned(blocks: Iterable[tuple[int, sparse.csr_matrix]], n_spots: int) -> sparse.csr_matrix:
    """At most `MOST_SPOTS` rows of counts that come in blocks with the number of their first row."""
    step = -(-n_spots // MOST_SPOTS)
    return sparse.csr_matrix(sparse.vstack([block[-start % step :: step] for start, block in blocks], format="csr"))


class Reach(NamedTuple):
    """Means over the most dispersed genes of one section; None where no gene has counts enough to say.

    Attributes:
        ceiling: the noise ceiling (`strank.ceiling`).
        depth: the SCC of a spot's depth alone with their log-normalised expression; far from 0 says that the
            normalisation has left depth in, and that a model of depth would seem to see the tissue.
    """

    ceiling: float | None = None
    depth: float | None = None


def mean_reach(counts: sparse.csr_matrix, *, seed: int = 0) -> Reach:
    """What can be reached on one section with raw counts `[spot, gene]`, all genes."""
    import torch

    import strank

    library = np.asarray(counts.sum(1)).ravel().astype(np.int64)
    counts, library = counts[library > 0], library[library > 0]
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
    return Reach(*(None if bool(each.isnan().all()) else float(each.nanmean()) for each in (reach, depth)))
