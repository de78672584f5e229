"""Moments of each gene over spots, and the dispersion that ranks highly variable genes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from agl.errors import UserError, did_you_mean
from agl.genes.training import TrainingSpots

Normalise = Literal["none", "cp10k"]


def moments(
    training: TrainingSpots,
    rows: np.ndarray | None = None,
    *,
    scale: Literal["none", "cp10k", "log"] = "none",
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (divisor n - 1) of every gene over some spots, one pass over the sparse counts.

    `scale`: raw counts, counts per 10,000, or log(1 + counts per 10,000).
    """
    read = {"none": training.raw, "cp10k": training.normalised, "log": training.log_normalised}
    if scale not in read:
        raise UserError(f"Expected one of none, cp10k, log, received {scale!r}.{did_you_mean(str(scale), read)}")
    total, squares, n = np.zeros(training.n_genes), np.zeros(training.n_genes), 0
    for block in training.blocks(rows):
        values = read[scale](block)
        total += np.bincount(values.indices, values.data, training.n_genes)
        squares += np.bincount(values.indices, values.data**2, training.n_genes)
        n += len(block)
    mean = total / n
    if n < 2:
        return mean, np.full(training.n_genes, np.nan)
    return mean, np.maximum(squares / n - mean**2, 0.0) * (n / (n - 1))


def seurat_dispersion(mean: np.ndarray, variance: np.ndarray, *, bins: int = 20) -> np.ndarray:
    """Dispersion relative to genes of similar mean, as `scanpy.pp.highly_variable_genes(flavor="seurat")`.

    d = log(variance / mean); genes fall into `bins` equally wide bins of log(1 + mean); the result is
    (d - mean of the bin) / sd of the bin. A gene alone in its bin gets 1; a gene that does not vary gets NaN.

    Source: Satija et al. 2015; conventions of scanpy 1.11 (NaN, single genes, bins of `pandas.cut`).

    >>> seurat_dispersion(np.array([1.0, 1.0, 9.0, 0.0]), np.array([1.0, 4.0, 18.0, 0.0]), bins=2).round(3)
    array([-0.707,  0.707,  1.   ,    nan])
    """
    safe = np.where(mean == 0, 1e-12, mean)
    with np.errstate(divide="ignore"):
        dispersion = np.log(np.where(variance == 0, np.nan, variance) / safe)
    table = pd.DataFrame({"bin": pd.cut(pd.Series(np.log1p(safe)), bins=bins), "d": dispersion})
    by_bin = table.groupby("bin", observed=True)["d"]
    centre, spread = by_bin.transform("mean"), by_bin.transform("std")
    # One defined gene in a bin has no spread: scanpy divides it by itself. Two equal genes give 0 / 0 there, as here.
    alone = spread.isna()
    with np.errstate(invalid="ignore", divide="ignore"):
        result = np.where(alone, table["d"] / centre, (table["d"] - centre) / spread)
    return np.asarray(result, dtype=np.float64)


def normalised_dispersion(
    training: TrainingSpots,
    *,
    normalise: Normalise = "none",
    per_slide: bool = False,
    bins: int = 20,
    among: np.ndarray | None = None,
) -> np.ndarray:
    """Seurat's dispersion of all genes `[gene]`, pooled or averaged over slides.

    `among` (bool `[gene]`) restricts the comparison to some genes; the others are NaN.

    `per_slide` follows scanpy's `batch_key`: in each slide the genes expressed there are ranked among themselves, the
    others count as 0, and the slides have equal weight. It keeps a shift between slides from looking like variability.
    """
    if normalise not in ("none", "cp10k"):
        hint = did_you_mean(str(normalise), ["none", "cp10k"])
        raise UserError(f"Expected normalise='none' or 'cp10k', received {normalise!r}.{hint}")
    chosen = np.ones(training.n_genes, dtype=bool) if among is None else among
    values = np.full((len(training.slide_rows) if per_slide else 1, training.n_genes), np.nan)
    for row, spots in zip(values, training.slide_rows if per_slide else [None], strict=True):
        mean, variance = moments(training, spots, scale=normalise)
        seen = chosen & (mean > 0) if per_slide else chosen
        row[chosen & ~seen] = 0.0
        if seen.any():
            row[seen] = seurat_dispersion(mean[seen], variance[seen], bins=bins)
    if not per_slide:
        return values[0]
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.divide(total, defined.sum(axis=0), out=np.full(training.n_genes, np.nan), where=defined.any(axis=0))
