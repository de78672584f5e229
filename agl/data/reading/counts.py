"""Raw counts of one h5ad: where they are, that they are counts, and block by block into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from agl.data.reading.hdf5 import open_h5
from agl.data.reading.header import COUNT_SOURCES, Header
from agl.data.reading.stored_matrix import StoredMatrix
from agl.errors import DataError

_VALUES_PER_BLOCK = 1_000_000  # bounds the memory of an import: about 80 MB with all temporaries
_LARGEST = np.iinfo(np.int32).max


def find_counts(h5: Any, slide: str) -> tuple[str, StoredMatrix]:
    """Where the raw counts are, and the matrix there.

    Looks at the first values of each place; `count_blocks` checks all of them.

    Raises:
        DataError: no place has counts, or the first that could is damaged.
    """
    found: dict[str, float] = {}
    for place in COUNT_SOURCES:
        if place not in h5 or (not hasattr(h5[place], "keys") and getattr(h5[place], "shape", None) is None):
            continue  # not there, or the "null" of an AnnData without X
        matrix = StoredMatrix(h5[place], COUNT_SOURCES[place], slide)
        values = matrix.first_values()
        bad = values[~_is_count(values)]
        if not bad.size or place == "layers/counts":  # a layer called counts is what its author means: no second guess
            return place, matrix
        found[place] = float(bad[0])
    seen = "; ".join(f"{COUNT_SOURCES[place]} holds {value:g}" for place, value in found.items()) or "there is no X"
    raise DataError(
        f"Expected raw integer counts in slide '{slide}', {seen}; put the counts before normalisation "
        "into layers['counts'] or X."
    )


def count_blocks(header: Header, values_per_block: int = _VALUES_PER_BLOCK) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Yield (first spot, raw counts int32 [some spots, gene in file]) until all spots are read.

    Raises:
        DataError: a negative, fractional, missing or too large count, named with its spot and gene; a damaged matrix.
    """
    with open_h5(header.path, f"an h5ad file for slide '{header.slide}'") as h5:
        matrix = StoredMatrix(h5[header.counts_at], header.counts_source, header.slide)
        for start, block in matrix.blocks(values_per_block):
            _check_counts(block, start, header)
            if not block.has_canonical_format:  # entries of one gene are added up: as int64, because two may overflow
                block = sparse.csr_matrix((block.data.astype(np.int64), block.indices, block.indptr), shape=block.shape)
                block.sum_duplicates()  # sorts the columns too
                _check_counts(block, start, header)
            yield (
                start,
                sparse.csr_matrix((block.data.astype(np.int32), block.indices, block.indptr), shape=block.shape),
            )


def move_columns(block: sparse.csr_matrix, position: np.ndarray, n_columns: int) -> sparse.csr_matrix:
    """`block` [spot, gene] with gene j moved to column `position[j]`, dropped where that is -1.

    One look-up per stored value. Columns moved to one place are stored side by side (`sum_duplicates` adds them up),
    and columns are not sorted.

    >>> move_columns(sparse.csr_matrix([[1, 2, 3], [0, 5, 0]]), np.array([1, -1, 0]), 2).toarray().tolist()
    [[3, 1], [0, 0]]
    """
    moved = position.astype(np.int32)[block.indices]
    keep = (moved >= 0) & (block.data != 0)
    before = np.zeros(len(keep) + 1, dtype=np.int64)
    np.cumsum(keep, out=before[1:])
    indptr = before[np.asarray(block.indptr, dtype=np.int64) - int(block.indptr[0])]
    return sparse.csr_matrix((block.data[keep], moved[keep], indptr), shape=(block.shape[0], n_columns))


def _is_count(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "b":
        return np.ones(values.shape, dtype=bool)
    small_enough = values <= _LARGEST  # False for NaN and inf too
    whole = values == np.floor(values) if values.dtype.kind == "f" else True
    return (values >= 0) & small_enough & whole


def _check_counts(block: sparse.csr_matrix, start: int, header: Header) -> None:
    bad = np.flatnonzero(~_is_count(block.data))
    if not bad.size:
        return
    first = int(bad[0])
    spot = start + int(np.searchsorted(block.indptr, first, side="right")) - 1
    gene = header.genes.names[int(block.indices[first])]
    raise DataError(
        f"Expected raw counts (whole numbers from 0) in {header.counts_source} of slide '{header.slide}', "
        f"received {block.data[first]:g} for gene {gene} in spot {header.barcodes[spot]}; give the counts "
        "before normalisation."
    )
