"""Primary genes: the targets that are scored, chosen on training spots.

Each rule has the form `(training, *, k=50, **options) -> int64 gene positions`, best first.
"""

from __future__ import annotations

import numpy as np

from agl.errors import UserError
from agl.genes import lists, priors, variability
from agl.genes import moran as _moran
from agl.genes.training import TrainingSpots


def dispersion(
    training: TrainingSpots,
    *,
    k: int = 50,
    min_detection: float = 0.10,
    normalise: variability.Normalise = "none",
    per_slide: bool = False,
) -> np.ndarray:
    """Highly variable genes: the largest normalised dispersions among the genes detected often enough.

    As HEST-bench: rare genes are left out first, and `scanpy.pp.highly_variable_genes(flavor="seurat")` sees the rest.
    """
    often = _detected(training, min_detection)
    score = variability.normalised_dispersion(training, normalise=normalise, per_slide=per_slide, among=often)
    return _best(score, often, k, min_detection)


def variance(
    training: TrainingSpots, *, k: int = 50, min_detection: float = 0.10, normalise: str = "log"
) -> np.ndarray:
    """The largest variances, by default of log(1 + counts per 10,000)."""
    often = _detected(training, min_detection)
    return _best(priors.variance(training, normalise=normalise), often, k, min_detection)


def mean(training: TrainingSpots, *, k: int = 50, min_detection: float = 0.10, normalise: str = "none") -> np.ndarray:
    """The largest mean counts, as ST-Net and BrST-Net choose their targets."""
    often = _detected(training, min_detection)
    return _best(priors.mean(training, normalise=normalise), often, k, min_detection)


def moran(training: TrainingSpots, *, k: int = 50, min_detection: float = 0.10, neighbours: int = 6) -> np.ndarray:
    """The most spatially structured genes by Moran's I."""
    often = _detected(training, min_detection)
    return _best(_moran.morans_i(training, neighbours=neighbours), often, k, min_detection)


def file(training: TrainingSpots, *, path: str, root: str | None = None) -> np.ndarray:
    """The genes named in a file, in its order: JSON `{"genes": [...]}` or text with one name per line.

    A relative path is looked for from the working directory, then in the folder of the data, `root`.
    A name that is not in the data is an error: a score over other genes than asked for is another score.
    """
    return lists.positions(lists.read_names(path, root), training.genes, source=str(path))


def _detected(training: TrainingSpots, min_detection: float) -> np.ndarray:
    """Genes detected in enough spots, bool `[gene]`."""
    if not 0 <= min_detection <= 1:
        raise UserError(f"Expected min_detection as a share of spots from 0 to 1, received {min_detection}.")
    return (training.detection >= min_detection) & (training.detection > 0)


def _best(score: np.ndarray, often: np.ndarray, k: int, min_detection: float) -> np.ndarray:
    """The k highest scores among the genes detected often, best first; equal scores in the order of the genes."""
    if k < 1:
        raise UserError(f"Expected at least 1 primary gene, received k={k}.")
    usable = often & ~np.isnan(score)
    if usable.sum() < k:
        raise UserError(
            f"Expected {k} primary genes, but only {usable.sum()} genes vary and are detected in at least "
            f"{min_detection:.0%} of the training spots; lower k or min_detection."
        )
    order = np.argsort(-np.where(usable, score, -np.inf), kind="stable")
    return order[:k].astype(np.int64)
