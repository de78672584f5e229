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
    """All of an h5ad but its counts. `xy` [spot, 2] is the spot centre in full-resolution pixels.

    `library_size` int64 [spot] is recorded where the file holds only some of the genes that were measured.
    """

    slide: str
    path: Path
    barcodes: np.ndarray
    xy: np.ndarray
    array_row: np.ndarray | None
    array_col: np.ndarray | None
    off_tissue: int
    genes: RawNames
    counts_at: str  # HDF5 path of the raw counts
    n_stored: int  # values stored there: an upper bound of the non-zero counts
    library_size: np.ndarray | None = None
    pixels: np.ndarray | None = None  # [spot, 2]: pxl_col_in_fullres, pxl_row_in_fullres
    on_tissue: np.ndarray | None = None  # bool [spot]

    @property
    def spots(self) -> Spots:
        """Who and where the spots are, to be joined."""
        lattice = lattice_of(self.array_row, self.array_col)
        return Spots(self.slide, self.barcodes, self.xy, self.pixels, lattice, self.on_tissue)

    @property
    def counts_source(self) -> str:
        """Where the raw counts are, as AnnData calls it."""
        return COUNT_SOURCES[self.counts_at]

    @property
    def library_size_source(self) -> str:
        """Where the library sizes are from."""
        return STORED if self.library_size is None else RECORDED


def lattice_of(array_row: np.ndarray | None, array_col: np.ndarray | None) -> np.ndarray | None:
    """[spot, 2] (array_col, array_row), as x and y are ordered; None where either is not known."""
    return None if array_row is None or array_col is None else np.stack([array_col, array_row], axis=1)
