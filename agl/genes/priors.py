"""Priors: one number per gene from the training spots, high = good, NaN = undefined.

Each has the form `(training, *, primary=None, **options) -> float64 [gene]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agl.errors import UserError, did_you_mean
from agl.genes import coexpression as _coexpression
from agl.genes import lists, lookalikes, variability
from agl.genes import moran as _moran
from agl.genes.training import TrainingSpots


def dispersion(
    training: TrainingSpots,
    *,
    primary: np.ndarray | None = None,
    normalise: variability.Normalise = "none",
    per_slide: bool = False,
) -> np.ndarray:
    """Seurat's normalised dispersion: log(variance / mean), relative to genes of similar mean (20 bins).

    Equal to `scanpy.pp.highly_variable_genes(flavor="seurat")` on log1p of the counts ("none": the paper's way) or of
    counts per 10,000 ("cp10k"); `per_slide` is its `batch_key`. A gene that does not vary is NaN.
    Source: Shiku et al. 2026, eq. 2-3; Satija et al. 2015.
    """
    return variability.normalised_dispersion(training, normalise=normalise, per_slide=per_slide)


def mean(training: TrainingSpots, *, primary: np.ndarray | None = None, normalise: str = "none") -> np.ndarray:
    """Mean count over spots ("cp10k": per 10,000 counts of the spot). Source: BrST-Net, Rahaman et al. 2023."""
    return variability.moments(training, scale=_scale(normalise, ("none", "cp10k", "log")))[0]


def variance(training: TrainingSpots, *, primary: np.ndarray | None = None, normalise: str = "log") -> np.ndarray:
    """Variance over spots, by default of log(1 + counts per 10,000). A gene that does not vary is NaN."""
    found = variability.moments(training, scale=_scale(normalise, ("none", "cp10k", "log")))[1]
    return np.where(found > 0, found, np.nan)


def detection(training: TrainingSpots, *, primary: np.ndarray | None = None) -> np.ndarray:
    """Share of the spots with a count."""
    return training.detection


def coexpression(
    training: TrainingSpots,
    *,
    primary: np.ndarray | None = None,
    top: int = 5,
    depth: bool = True,
    corrected: bool = True,
) -> np.ndarray:
    """Mean of the `top` largest squared correlations with the primary genes, inside slides.

    See `agl.genes.coexpression.coexpression` for the formula and the options.
    """
    if primary is None:
        raise UserError(
            "Expected primary genes for the prior 'coexpression', received none; name a primary rule first."
        )
    return _coexpression.coexpression(training, primary, top=top, depth=depth, corrected=corrected)


def moran(training: TrainingSpots, *, primary: np.ndarray | None = None, neighbours: int = 6) -> np.ndarray:
    """Moran's I with the nearest neighbours on each slide, averaged over slides by spots."""
    return _moran.morans_i(training, neighbours=neighbours)


def predictability(training: TrainingSpots, *, primary: np.ndarray | None = None, neighbours: int = 10) -> np.ndarray:
    """How like a gene's values are in spots of other slides that look alike: Moran's I over image features.

    See `agl.genes.lookalikes.feature_autocorrelation`.
    """
    return lookalikes.feature_autocorrelation(training, neighbours=neighbours)


def file(
    training: TrainingSpots, *, primary: np.ndarray | None = None, path: str, column: str | None = None
) -> np.ndarray:
    """A column of a CSV or TSV (first column: gene), or of `var` of an .h5ad. Genes not in it are NaN.

    The numbers are taken as they are: that they saw no test spot is for their author to know.
    """
    values = lists.read_column(path, column)
    shared = values.index.intersection(list(training.genes))
    if shared.empty:
        raise UserError(f"Expected genes of this data in {path}, found none of its {len(values)} names among them.")
    return values.reindex(list(training.genes)).to_numpy(dtype=np.float64)


def _scale(normalise: str, known: tuple[str, ...]) -> Any:
    if normalise not in known:
        raise UserError(
            f"Expected normalise as one of {', '.join(known)}, received {normalise!r}.{did_you_mean(normalise, known)}"
        )
    return normalise
