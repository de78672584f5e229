"""What is read of one h5ad beside its counts: who and where its spots are, what its genes are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agl.data.reading.names import RawNames
from agl.data.reading.rows import Spots

LIBRARY_SIZE = "library_size"  # the column of obs that records it where genes were cut from the file
STORED, RECORDED = "all genes in the file", f"obs['{LIBRARY_SIZE}']"
COUNT_SOURCES = {"layers/counts": "layers['counts']", "X": "X", "raw/X": "raw.X"}  # in order of preference


@dataclass(frozen=True)
class Header:
    """All of an h5ad but its counts.

    `library_size` int64 [spot] is recorded where the file holds only some of the genes that were measured.
    """

    path: Path
    spots: Spots
    genes: RawNames
    counts_at: str  # HDF5 path of the raw counts
    n_stored: int  # values stored there: an upper bound of the non-zero counts
    library_size: np.ndarray | None = None

    @property
    def slide(self) -> str:
        """Name of the slide."""
        return self.spots.slide

    @property
    def barcodes(self) -> np.ndarray:
        """[spot]"""
        return self.spots.barcodes

    @property
    def xy(self) -> np.ndarray:
        """[spot, 2] centres in full-resolution pixels."""
        return self.spots.xy

    @property
    def counts_source(self) -> str:
        """Where the raw counts are, as AnnData calls it."""
        return COUNT_SOURCES[self.counts_at]

    @property
    def library_size_source(self) -> str:
        """Where the library sizes are from."""
        return STORED if self.library_size is None else RECORDED
