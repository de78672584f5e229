"""What gene rules may see: training spots, and nothing else by construction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from agl.data.expression import DEPTH, sparse_expression
from agl.errors import UserError

if TYPE_CHECKING:
    from agl.data.dataset import Dataset

BLOCK = 8192  # spots whose counts are in floating point at one time


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Some rows of a table of features that stays on disk until it is asked for."""

    table: np.ndarray
    spots: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.table[self.spots[rows]])


@dataclass(frozen=True, eq=False)
class TrainingSpots:
    """Raw counts of the training spots, with what places each spot in a slide.

    Args:
        counts: raw counts `[spot, gene]`, sparse; stays sparse.
        library_size: totals over all genes measured, also those not in `genes` `[spot]`.
        slides: any integer codes `[spot]`, in any order.
        coords: spot centres `[spot, 2]`, in any unit of length.
        genes: names of the columns of `counts`.
        features: of the picture `[spot, feature]`; None where there are none.

    >>> training = TrainingSpots(sparse.csr_matrix([[1, 0], [3, 2]]), np.array([1, 5]), np.zeros(2, int),
    ...                          np.zeros((2, 2)), ("EPCAM", "CD3E"))
    >>> training.detection
    array([1. , 0.5])
    """

    counts: sparse.csr_matrix
    library_size: np.ndarray
    slides: np.ndarray
    coords: np.ndarray
    genes: tuple[str, ...]
    features: np.ndarray | FeatureRows | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", sparse.csr_matrix(self.counts))
        for name in ("library_size", "slides", "coords"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        object.__setattr__(self, "genes", tuple(self.genes))
        n_spots, n_genes = self.counts.shape
        expected = {"library_size": (n_spots,), "slides": (n_spots,), "coords": (n_spots, 2)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise UserError(
                    f"Expected {name} of shape {shape} beside counts of shape {self.counts.shape}, "
                    f"received {getattr(self, name).shape}; give one row per spot."
                )
        if len(self.genes) != n_genes:
            raise UserError(f"Expected {n_genes} gene names, one per column of counts, received {len(self.genes)}.")
        if n_spots == 0:
            raise UserError("Expected at least one training spot, received none; check the split.")
        if self.counts.nnz and self.counts.data.min() < 0:
            raise UserError("Expected raw counts, received negative values; give counts before any transformation.")
        if self.counts.dtype.kind == "f" and not np.isfinite(self.counts.data).all():
            raise UserError(
                "Expected raw counts, received NaN or infinite values; give counts before any transformation."
            )

    @classmethod
    def of(cls, dataset: Dataset, spots: np.ndarray) -> TrainingSpots:
        """The training spots of a dataset; `spots` are positions, for example `split.train`."""
        table = dataset.spots.iloc[spots]
        return cls(
            counts=dataset.counts[spots],
            library_size=dataset.library_size[spots],
            slides=dataset.slide_codes[spots],
            coords=table[["x", "y"]].to_numpy(dtype=float),
            genes=dataset.genes,
            features=None if dataset.features is None else FeatureRows(dataset.features, np.asarray(spots)),
        )

    @property
    def n_spots(self) -> int:
        """Spots."""
        return int(self.counts.shape[0])

    @property
    def n_genes(self) -> int:
        """Genes."""
        return int(self.counts.shape[1])

    @cached_property
    def slide_rows(self) -> tuple[np.ndarray, ...]:
        """Positions of each slide's spots, slides in sorted order of their codes."""
        order = np.argsort(self.slides, kind="stable")
        cuts = np.flatnonzero(np.diff(self.slides[order])) + 1
        return tuple(np.split(order, cuts))

    @cached_property
    def detection(self) -> np.ndarray:
        """Share of the spots in which a gene has a count `[gene]`."""
        hits = np.zeros(self.n_genes)
        for start in range(0, self.counts.nnz, 1 << 24):  # NumPy counts int64, so copy a piece at a time
            piece = slice(start, start + (1 << 24))
            hits += np.bincount(self.counts.indices[piece], self.counts.data[piece] != 0, self.n_genes)
        return hits / self.n_spots

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Centres of some spots `[spot, 2]`, or an error where they are not known."""
        found = self.coords[rows].astype(np.float64)
        if not np.isfinite(found).all():
            raise UserError(
                "Expected a place (x, y) for every training spot, received NaN or infinite ones; mend the coordinates, "
                "or use what needs none (null=spots, priors other than moran)."
            )
        return found

    def blocks(self, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Positions of spots in pieces small enough to be copied to floating point."""
        chosen = np.arange(self.n_spots) if rows is None else rows
        for start in range(0, len(chosen), BLOCK):
            yield chosen[start : start + BLOCK]

    def raw(self, rows: np.ndarray) -> sparse.csr_matrix:
        """Counts of some spots as float64."""
        return self.counts[rows].astype(np.float64)

    def normalised(self, rows: np.ndarray, total: float = DEPTH) -> sparse.csr_matrix:
        """count * total / library size, the library being that of all genes."""
        return sparse_expression(self.counts[rows], self.library_size[rows], depth=total, log=False)

    def log_normalised(self, rows: np.ndarray, total: float = DEPTH) -> sparse.csr_matrix:
        """log(1 + count * total / library size); zeros stay zeros, so it stays sparse."""
        return sparse_expression(self.counts[rows], self.library_size[rows], depth=total)
