"""Reading one h5ad: who and where its spots are, and its raw counts block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.hdf5 import open_h5, strings
from agl.data.names import RawNames
from agl.errors import UserError

_SYMBOL_COLUMNS = (
    "gene_symbols",
    "gene_symbol",
    "gene_name",
    "gene_names",
    "feature_name",
    "symbol",
    "SYMBOL",
)
_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl", "feature_id")
_COUNT_SOURCES = {"layers/counts": "layers['counts']", "X": "X", "raw/X": "raw.X"}
_VALUES_PER_BLOCK = 4_000_000  # bounds the memory of an import: about 50 MB a block


@dataclass(frozen=True)
class Header:
    """All of an h5ad but its counts. `xy` [spot, 2] is the spot centre in full-resolution pixels."""

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

    @property
    def counts_source(self) -> str:
        return _COUNT_SOURCES[self.counts_at]


def read_header(slide: str, path: Path) -> Header:
    """Read barcodes, coordinates and gene names, and find the raw counts: layers['counts'], else X, else
    raw.X.

    Raises:
        UserError: unreadable file, no spots, repeated or missing barcodes, no coordinates, no raw counts.
    """
    with open_h5(path, f"an h5ad file for slide '{slide}'") as h5:
        obs = _frame(h5, "obs", slide)
        counts_at = find_counts(h5, slide)
        var = _frame(h5, "raw/var" if counts_at == "raw/X" else "var", slide)
        xy = _coordinates(h5, obs, slide)
        n_stored, shape = _extent(h5[counts_at])
    barcodes = strings(obs.index.to_numpy())
    _check_barcodes(barcodes, slide)
    if shape != (len(obs), len(var)):
        raise UserError(
            f"expected counts of shape {(len(obs), len(var))} (spots, genes) in slide '{slide}', "
            f"{_COUNT_SOURCES[counts_at]} has {shape}; write the h5ad again with anndata"
        )
    off_tissue = (
        int((pd.to_numeric(obs["in_tissue"], errors="coerce") == 0).sum()) if "in_tissue" in obs else 0
    )
    return Header(
        slide,
        path,
        barcodes,
        xy,
        _lattice(obs, "array_row"),
        _lattice(obs, "array_col"),
        off_tissue,
        RawNames(
            tuple(strings(var.index.to_numpy())), _column(var, _SYMBOL_COLUMNS), _column(var, _ID_COLUMNS)
        ),
        counts_at,
        n_stored,
    )


def count_blocks(
    header: Header, values_per_block: int = _VALUES_PER_BLOCK
) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Yield (first spot, raw counts int32 [some spots, gene in file]) until all spots are read.

    Raises:
        UserError: a negative, fractional, missing or too large count, named with its spot and gene.
    """
    with open_h5(header.path, f"an h5ad file for slide '{header.slide}'") as h5:
        for start, block in _raw_blocks(h5[header.counts_at], values_per_block):
            _check_counts(block, start, header)
            block = sparse.csr_matrix(
                (block.data.astype(np.int32), block.indices, block.indptr), shape=block.shape
            )
            block.sum_duplicates()  # sorts the columns too
            yield start, block


def find_counts(h5: Any, slide: str) -> str:
    """Where the raw counts are. Looks at the first values of each place; `count_blocks` checks all of "
    "them."""
    found: dict[str, float] = {}
    for place in _COUNT_SOURCES:
        if place not in h5:
            continue
        values = _first_values(h5[place])
        if values is None:
            continue
        bad = values[~_is_count(values)]
        if (
            not bad.size or place == "layers/counts"
        ):  # a layer called counts is what its author means: no second guess
            return place
        found[place] = float(bad[0])
    seen = (
        "; ".join(f"{_COUNT_SOURCES[place]} holds {value:g}" for place, value in found.items())
        or "there is no X"
    )
    raise UserError(
        f"expected raw integer counts in slide '{slide}', {seen}; put the counts before normalisation "
        "into layers['counts'] or X"
    )


def _first_values(node: Any, enough: int = 100_000) -> np.ndarray | None:
    if hasattr(node, "keys"):
        return np.asarray(node["data"][:enough]) if "data" in node else None
    if node.ndim != 2 or node.dtype.kind not in "iufb":
        return None
    return np.asarray(node[: max(1, enough // max(1, node.shape[1]))]).reshape(-1)


def _extent(node: Any) -> tuple[int, tuple[int, int]]:
    """(stored values, (spots, genes)) of a sparse or dense matrix on disk."""
    if hasattr(node, "keys"):
        shape = node.attrs["shape"] if "shape" in node.attrs else node.attrs["h5sparse_shape"]
        return int(node["data"].shape[0]), (int(shape[0]), int(shape[1]))
    return int(node.size), (int(node.shape[0]), int(node.shape[1]))


def _raw_blocks(node: Any, values_per_block: int) -> Iterator[tuple[int, sparse.csr_matrix]]:
    _, (n_spots, n_genes) = _extent(node)
    if not hasattr(node, "keys"):
        step = max(1, values_per_block // max(1, n_genes))
        for start in range(0, n_spots, step):
            yield start, sparse.csr_matrix(node[start : start + step])
        return
    encoding = str(node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", "csr")))
    indptr = node["indptr"][...].astype(np.int64)
    if (
        "csc" in encoding
    ):  # columns first: rows cannot be cut on disk, so this one slide is held sparse in memory
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
            raise UserError(
                f"expected gene columns below {n_genes}, {node.file.filename} has others; copy it again"
            )
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


def _frame(h5: Any, key: str, slide: str) -> pd.DataFrame:
    from anndata.io import read_elem

    if key not in h5:
        raise UserError(
            f"expected a table '{key}' in the h5ad of slide '{slide}', found none; is it an AnnData file?"
        )
    if not hasattr(h5[key], "keys"):
        raise UserError(
            f"expected an h5ad of anndata 0.7 or newer, '{key}' of slide '{slide}' is older; "
            "read and write it once with a recent anndata"
        )
    try:
        frame = read_elem(h5[key])
    except Exception as error:
        raise UserError(
            f"expected a readable table '{key}' in slide '{slide}', received one that anndata cannot read "
            f"({type(error).__name__}); write the h5ad again"
        ) from error
    if not isinstance(frame, pd.DataFrame):
        raise UserError(
            f"expected a table '{key}' in slide '{slide}', found a {type(frame).__name__}; write it again"
        )
    return frame


def _coordinates(h5: Any, obs: pd.DataFrame, slide: str) -> np.ndarray:
    if "obsm" in h5 and "spatial" in h5["obsm"]:
        node = h5["obsm/spatial"]
        xy = obs_frame_to_xy(node) if hasattr(node, "keys") else np.asarray(node[...], dtype=np.float64)
    elif {"pxl_col_in_fullres", "pxl_row_in_fullres"} <= set(obs.columns):
        xy = obs[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(np.float64)
    else:
        raise UserError(
            f"expected spot centres in obsm['spatial'] of slide '{slide}', found none; add them as (x, y) "
            "in pixels"
        )
    if xy.ndim != 2 or xy.shape[0] != len(obs) or xy.shape[1] < 2:
        raise UserError(
            f"expected obsm['spatial'] of shape [{len(obs)}, 2] in slide '{slide}', received {xy.shape}"
        )
    xy = xy[:, :2]
    bad = np.flatnonzero(~np.isfinite(xy).all(axis=1))
    if bad.size:
        raise UserError(
            f"expected finite coordinates in slide '{slide}', spot {obs.index[bad[0]]} has "
            f"{xy[bad[0]].tolist()} ({bad.size} such spots); remove these spots"
        )
    return xy


def obs_frame_to_xy(node: Any) -> np.ndarray:
    """obsm['spatial'] stored as a table instead of an array."""
    from anndata.io import read_elem

    return np.asarray(read_elem(node), dtype=np.float64)


def _check_barcodes(barcodes: np.ndarray, slide: str) -> None:
    if not len(barcodes):
        raise UserError(f"expected spots in slide '{slide}', it is empty; leave it out")
    if (barcodes == "").any():
        raise UserError(
            f"expected a barcode for every spot, spot {int(np.argmax(barcodes == ''))} of slide '{slide}' "
            "has none"
        )
    repeated = pd.Index(barcodes)[pd.Index(barcodes).duplicated()]
    if len(repeated):
        raise UserError(
            f"expected unique barcodes in slide '{slide}', {repeated[0]} comes twice ({len(repeated)} "
            "repeats); features could not be joined: rename or remove the repeats"
        )


def _lattice(obs: pd.DataFrame, name: str) -> np.ndarray | None:
    return pd.to_numeric(obs[name], errors="coerce").to_numpy(np.float64) if name in obs else None


def _column(var: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, ...] | None:
    for name in names:
        if name in var:
            return tuple(var[name].astype(object).where(var[name].notna(), "").astype(str))
    return None
