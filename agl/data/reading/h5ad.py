"""Reading one h5ad, all but its counts: who and where its spots are, what its genes are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agl.data.reading.columns import ColumnTable
from agl.data.reading.counts import find_counts
from agl.data.reading.datasets import read
from agl.data.reading.foreign import of_hdf5
from agl.data.reading.hdf5 import open_h5
from agl.data.reading.header import COUNT_SOURCES, Header
from agl.data.reading.library_size import recorded_library_size
from agl.data.reading.names import RawNames
from agl.data.reading.one_section import refuse_several_sections, spatial_ids
from agl.data.reading.rows import Spots
from agl.errors import DataError

SYMBOL_COLUMNS = (
    "gene_symbols",
    "gene_symbol",
    "gene_name",
    "gene_names",
    "feature_name",
    "symbol",
    "SYMBOL",
)
ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl", "feature_id")
_KIND_COLUMNS = ("feature_types", "feature_biotype")
_LATTICE = ("array_col", "array_row")
_PIXELS = ("pxl_col_in_fullres", "pxl_row_in_fullres")


def read_header(slide: str, path: Path) -> Header:
    """Read barcodes, coordinates and gene names, and find the raw counts: layers['counts'], else X, else
    raw.X. Only the columns that are used are read.

    Raises:
        DataError: unreadable file, another format, no spots, several sections, repeated or missing barcodes, no
            coordinates, no raw counts, a damaged matrix, library sizes that are no whole numbers.
    """
    with open_h5(path, f"an h5ad file for slide '{slide}'") as h5:
        obs = _obs(h5, slide, path)
        counts_at, matrix = find_counts(h5, slide)
        var = ColumnTable(h5, "raw/var" if counts_at == "raw/X" else "var", slide)
        if matrix.shape != (len(obs), len(var)):
            raise DataError(
                f"Expected counts of shape {(len(obs), len(var))} (spots, genes) in slide '{slide}', "
                f"{COUNT_SOURCES[counts_at]} has {matrix.shape}; write the h5ad again with anndata."
            )
        spots = _spots(h5, obs)
        symbols, ids, kinds = (_first_column(var, names) for names in (SYMBOL_COLUMNS, ID_COLUMNS, _KIND_COLUMNS))
        names = RawNames(tuple(var.index), symbols, ids, kinds)
        return Header(path, spots, names, counts_at, matrix.n_stored, recorded_library_size(obs))


def read_spots(slide: str, path: Path) -> Spots:
    """The spots of a slide, whether or not anything was counted on them.

    Raises:
        DataError: unreadable file, another format, no spots, several sections, repeated or missing barcodes, no
            coordinates.
    """
    with open_h5(path, f"an h5ad file for slide '{slide}'") as h5:
        return _spots(h5, _obs(h5, slide, path))


def _obs(h5: Any, slide: str, path: Path) -> ColumnTable:
    if other := of_hdf5(path.name, list(h5)):
        raise DataError(f"Expected an h5ad file for slide '{slide}', {path} is {other}.")
    obs = ColumnTable(h5, "obs", slide)
    _check_barcodes(obs.index, slide)
    return obs


def _spots(h5: Any, obs: ColumnTable) -> Spots:
    xy = _coordinates(h5, obs, obs.slide)
    lattice, pixels = _pair(obs, _LATTICE), _pair(obs, _PIXELS)
    if pixels is not None and not np.isfinite(pixels).all():
        pixels = None
    on_tissue = obs.numbers("in_tissue") != 0 if "in_tissue" in obs else None
    spots = Spots(obs.slide, obs.index, xy, pixels, lattice, on_tissue)
    refuse_several_sections(obs, spatial_ids(h5), spots)
    return spots


def _pair(obs: ColumnTable, names: tuple[str, str]) -> np.ndarray | None:
    """Two columns [spot, 2]; None where either is not there."""
    return np.column_stack([obs.numbers(name) for name in names]) if all(name in obs for name in names) else None


def _coordinates(h5: Any, obs: ColumnTable, slide: str) -> np.ndarray:
    node = h5.get("obsm/spatial")
    if hasattr(node, "keys"):  # a table instead of an array
        table = ColumnTable(h5, "obsm/spatial", slide)
        xy = np.column_stack([table.numbers(name) for name in _in_order(node, table)] or [np.zeros((len(table), 0))])
    elif node is not None:
        values = read(node)
        xy = values.astype(np.float64) if values.dtype.kind in "iufb" else np.zeros((0, 0))
    elif (pixels := _pair(obs, _PIXELS)) is not None:
        xy = pixels
    else:
        raise DataError(
            f"Expected spot centres in obsm['spatial'] of slide '{slide}', found none; add them as (x, y) in pixels."
        )
    if xy.ndim != 2 or xy.shape[0] != len(obs) or xy.shape[1] < 2:
        raise DataError(
            f"Expected numbers of shape [{len(obs)}, 2] in obsm['spatial'] of slide '{slide}', received "
            f"{getattr(node, 'dtype', 'a table')} of shape {getattr(node, 'shape', xy.shape)}; write one (x, y) a spot."
        )
    xy = xy[:, :2]
    bad = np.flatnonzero(~np.isfinite(xy).all(axis=1))
    if bad.size:
        raise DataError(
            f"Expected finite coordinates in slide '{slide}', spot {obs.index[bad[0]]} has "
            f"{xy[bad[0]].tolist()} ({bad.size} such spots); remove these spots."
        )
    return xy


def _in_order(node: Any, table: ColumnTable) -> list[str]:
    """The columns of a table in the order that it names; HDF5 sorts them."""
    named = [str(name) for name in np.asarray(node.attrs.get("column-order", []), dtype=object).reshape(-1)]
    return [name for name in named if name in table] or list(table.names)


def _check_barcodes(barcodes: np.ndarray, slide: str) -> None:
    if not len(barcodes):
        raise DataError(f"Expected spots in slide '{slide}', it is empty; leave it out.")
    if (barcodes == "").any():
        raise DataError(
            f"Expected a barcode for every spot, spot {int(np.argmax(barcodes == ''))} of slide '{slide}' has none."
        )
    repeated = pd.Index(barcodes)[pd.Index(barcodes).duplicated()]
    if len(repeated):
        raise DataError(
            f"Expected unique barcodes in slide '{slide}', {repeated[0]} comes twice ({len(repeated)} "
            "repeats); features could not be joined: rename or remove the repeats."
        )


def _first_column(var: ColumnTable, names: tuple[str, ...]) -> tuple[str, ...] | None:
    return next((tuple(var.text(name)) for name in names if name in var), None)
