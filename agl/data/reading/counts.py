"""Raw counts of one h5ad: where they are, that they are counts, and block by block into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from agl.data.reading.hdf5 import open_h5
from agl.data.reading.header import COUNT_SOURCES, Header
from agl.errors import UserError

_VALUES_PER_BLOCK = 1_000_000  # bounds the memory of an import: about 80 MB with all temporaries


def find_counts(h5: Any, slide: str) -> str:
    """Where the raw counts are. Looks at the first values of each place; `count_blocks` checks all of "
    "them."""
    found: dict[str, float] = {}
    for place in COUNT_SOURCES:
        if place not in h5:
            continue
        values = _first_values(h5[place])
        if values is None:
            continue
        bad = values[~_is_count(values)]
        if not bad.size or place == "layers/counts":  # a layer called counts is what its author means: no second guess
            return place
        found[place] = float(bad[0])
    seen = "; ".join(f"{COUNT_SOURCES[place]} holds {value:g}" for place, value in found.items()) or "there is no X"
    raise UserError(
        f"expected raw integer counts in slide '{slide}', {seen}; put the counts before normalisation "
        "into layers['counts'] or X"
    )


def count_blocks(header: Header, values_per_block: int = _VALUES_PER_BLOCK) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Yield (first spot, raw counts int32 [some spots, gene in file]) until all spots are read.

    Raises:
        UserError: a negative, fractional, missing or too large count, named with its spot and gene.
    """
    with open_h5(header.path, f"an h5ad file for slide '{header.slide}'") as h5:
        for start, block in _raw_blocks(h5[header.counts_at], values_per_block):
            _check_counts(block, start, header)
            block = sparse.csr_matrix((block.data.astype(np.int32), block.indices, block.indptr), shape=block.shape)
            block.sum_duplicates()  # sorts the columns too
            yield start, block


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


def _first_values(node: Any, enough: int = 100_000) -> np.ndarray | None:
    if hasattr(node, "keys"):
        return np.asarray(node["data"][:enough]) if "data" in node else None
    if node.ndim != 2 or node.dtype.kind not in "iufb":
        return None
    return np.asarray(node[: max(1, enough // max(1, node.shape[1]))]).reshape(-1)


def extent(node: Any) -> tuple[int, tuple[int, int]]:
    """(stored values, (spots, genes)) of a sparse or dense matrix on disk."""
    if hasattr(node, "keys"):
        shape = node.attrs["shape"] if "shape" in node.attrs else node.attrs["h5sparse_shape"]
        return int(node["data"].shape[0]), (int(shape[0]), int(shape[1]))
    return int(node.size), (int(node.shape[0]), int(node.shape[1]))


def _raw_blocks(node: Any, values_per_block: int) -> Iterator[tuple[int, sparse.csr_matrix]]:
    _, (n_spots, n_genes) = extent(node)
    if not hasattr(node, "keys"):
        step = max(1, values_per_block // max(1, n_genes))
        for start in range(0, n_spots, step):
            yield start, sparse.csr_matrix(node[start : start + step])
        return
    encoding = str(node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", "csr")))
    indptr = node["indptr"][...].astype(np.int64)
    if "csc" in encoding:  # columns first: rows cannot be cut on disk, so this one slide is held sparse in memory
        parts = (node["data"][...], node["indices"][...], indptr)
        yield 0, sparse.csc_matrix(parts, shape=(n_spots, n_genes)).tocsr()
        return
    start = 0
    while start < n_spots:
        stop = int(np.searchsorted(indptr, indptr[start] + values_per_block, side="right")) - 1
        stop = min(max(stop, start + 1), n_spots)
        cut = slice(int(indptr[start]), int(indptr[stop]))
        indices = node["indices"][cut]
        if indices.size and (indices.min() < 0 or indices.max() >= n_genes):
            raise UserError(f"expected gene columns below {n_genes}, {node.file.filename} has others; copy it again")
        yield (
            start,
            sparse.csr_matrix(
                (node["data"][cut], indices, indptr[start : stop + 1] - indptr[start]),
                shape=(stop - start, n_genes),
            ),
        )
        start = stop


def _is_count(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "b":
        return np.ones(values.shape, dtype=bool)
    small_enough = values <= np.iinfo(np.int32).max  # False for NaN and inf too
    whole = values == np.floor(values) if values.dtype.kind == "f" else True
    return (values >= 0) & small_enough & whole


def _check_counts(block: sparse.csr_matrix, start: int, header: Header) -> None:
    bad = np.flatnonzero(~_is_count(block.data))
    if not bad.size:
        return
    first = int(bad[0])
    spot = start + int(np.searchsorted(block.indptr, first, side="right")) - 1
    gene = header.genes.names[int(block.indices[first])]
    raise UserError(
        f"expected raw counts (whole numbers from 0) in {header.counts_source} of slide '{header.slide}', "
        f"received {block.data[first]:g} for gene {gene} in spot {header.barcodes[spot]}; give the counts "
        "before normalisation"
    )
