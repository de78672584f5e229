"""What can be reached at all: the noise ceiling of genes such as a run would be scored on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import sparse

from agl.genes.training import TrainingSpots
from agl.genes.variability import normalised_dispersion

GENES, DETECTED = 50, 0.10  # as the default rule of primary genes has it
MOST_SPOTS = 5_000  # enough for a mean over genes; of larger sections every n-th spot is taken


def thinned(blocks: Iterable[tuple[int, sparse.csr_matrix]], n_spots: int) -> sparse.csr_matrix:
    """At most `MOST_SPOTS` rows of counts that come in blocks with the number of their first row."""
    step = -(-n_spots // MOST_SPOTS)
    return sparse.csr_matrix(sparse.vstack([block[-start % step :: step] for start, block in blocks], format="csr"))


def mean_ceiling(counts: sparse.csr_matrix, *, seed: int = 0) -> float | None:
    """Mean noise ceiling (`strank.ceiling`) of the most dispersed genes of one section.

    Args:
        counts: raw `[spot, gene]`, all genes.

    Returns:
        None where no gene has counts enough to say.
    """
    import torch

    import strank

    library = np.asarray(counts.sum(1)).ravel().astype(np.int64)
    counts, library = counts[library > 0], library[library > 0]
    n_spots, n_genes = counts.shape
    if n_spots < 3:
        return None
    names = tuple(map(str, range(n_genes)))
    spots = TrainingSpots(counts, library, np.zeros(n_spots, int), np.zeros((n_spots, 2)), names)
    often = spots.detection >= DETECTED
    score = normalised_dispersion(spots, among=often) if often.any() else np.full(n_genes, np.nan)
    genes = [gene for gene in np.argsort(-score, kind="stable")[:GENES] if np.isfinite(score[gene])]  # NaN come last
    if not genes:
        return None
    reach = strank.ceiling(torch.from_numpy(counts[:, genes].toarray()), torch.from_numpy(library), seed=seed)
    return None if bool(reach.isnan().all()) else float(reach.nanmean())
