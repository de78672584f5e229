"""Reading one h5ad, all but its counts: who and where its spots are, what its genes are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agl.data.reading.counts import extent, find_counts
from agl.data.reading.hdf5 import open_h5, strings
from agl.data.reading.header import COUNT_SOURCES, Header, lattice_of
from agl.data.reading.library_size import recorded_library_size
from agl.data.reading.names import RawNames
from agl.data.reading.rows import Spots
from agl.errors import UserError

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


def read_header(slide: str, path: Path) -> Header:
    """Read barcodes, coordinates and gene names, and find the raw counts: layers['counts'], else X, else
    raw.X.

    Raises:
        UserError: unreadable file, no spots, repeated or missing barcodes, no coordinates, no raw counts, library
            sizes that are no whole numbers.
    """
    with open_h5(path, f"an h5ad file for slide '{slide}'") as h5:
        obs = _frame(h5, "obs", slide)
        counts_at = find_counts(h5, slide)
        var = _frame(h5, "raw/var" if counts_at == "raw/X" else "var", slide)
        xy = _coordinates(h5, obs, slide)
        n_stored, shape = extent(h5[counts_at])
    barcodes = strings(obs.index.to_numpy())
    _check_barcodes(barcodes, slide)
    if shape != (len(obs), len(var)):
        raise UserError(
            f"Expected counts of shape {(len(obs), len(var))} (spots, genes) in slide '{slide}', "
            f"{COUNT_SOURCES[counts_at]} has {shape}; write the h5ad again with anndata."
        )
    off_tissue = (pd.to_numeric(obs["in_tissue"], errors="coerce") == 0).to_numpy() if "in_tissue" in obs else None
    return Header(
        slide,
        path,
        barcodes,
        xy,
        _lattice(obs, "array_row"),
        _lattice(obs, "array_col"),
        0 if off_tissue is None else int(off_tissue.sum()),
        RawNames(tuple(strings(var.index.to_numpy())), _column(var, SYMBOL_COLUMNS), _column(var, ID_COLUMNS)),
        counts_at,
        n_stored,
        recorded_library_size(obs, slide),
        _pixels(obs),
        None if off_tissue is None else ~off_tissue,
    )


def read_spots(slide: str, path: Path) -> Spots:
    """The spots of a slide, whether or not anything was counted on them.

    Raises:
        UserError: unreadable file, no spots, repeated or missing barcodes, no coordinates.
    """
    with open_h5(path, f"an h5ad file for slide '{slide}'") as h5:
        obs = _frame(h5, "obs", slide)
        xy = _coordinates(h5, obs, slide)
    barcodes = strings(obs.index.to_numpy())
    _check_barcodes(barcodes, slide)
    off_tissue = (pd.to_numeric(obs["in_tissue"], errors="coerce") == 0).to_numpy() if "in_tissue" in obs else None
    lattice = lattice_of(_lattice(obs, "array_row"), _lattice(obs, "array_col"))
    return Spots(slide, barcodes, xy, _pixels(obs), lattice, None if off_tissue is None else ~off_tissue)


def _frame(h5: Any, key: str, slide: str) -> pd.DataFrame:
    from anndata.io import read_elem

    if key not in h5:
        raise UserError(f"Expected a table '{key}' in the h5ad of slide '{slide}', found none; is it an AnnData file?")
    if not hasattr(h5[key], "keys"):
        raise UserError(
            f"Expected an h5ad of anndata 0.7 or newer, '{key}' of slide '{slide}' is older; "
            "read and write it once with a recent anndata."
        )
    try:
        frame = read_elem(h5[key])
    except Exception as error:
        raise UserError(
            f"Expected a readable table '{key}' in slide '{slide}', received one that anndata cannot read "
            f"({type(error).__name__}); write the h5ad again."
        ) from error
    if not isinstance(frame, pd.DataFrame):
        raise UserError(f"Expected a table '{key}' in slide '{slide}', found a {type(frame).__name__}; write it again.")
    return frame


def _coordinates(h5: Any, obs: pd.DataFrame, slide: str) -> np.ndarray:
    if "obsm" in h5 and "spatial" in h5["obsm"]:
        node = h5["obsm/spatial"]
        xy = obs_frame_to_xy(node) if hasattr(node, "keys") else np.asarray(node[...], dtype=np.float64)
    elif {"pxl_col_in_fullres", "pxl_row_in_fullres"} <= set(obs.columns):
        xy = obs[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(np.float64)
    else:
        raise UserError(
            f"Expected spot centres in obsm['spatial'] of slide '{slide}', found none; add them as (x, y) in pixels."
        )
    if xy.ndim != 2 or xy.shape[0] != len(obs) or xy.shape[1] < 2:
        raise UserError(
            f"Expected obsm['spatial'] of shape [{len(obs)}, 2] in slide '{slide}', received {xy.shape}; "
            "write one (x, y) a spot."
        )
    xy = xy[:, :2]
    bad = np.flatnonzero(~np.isfinite(xy).all(axis=1))
    if bad.size:
        raise UserError(
            f"Expected finite coordinates in slide '{slide}', spot {obs.index[bad[0]]} has "
            f"{xy[bad[0]].tolist()} ({bad.size} such spots); remove these spots."
        )
    return xy


def _pixels(obs: pd.DataFrame) -> np.ndarray | None:
    """What obs says of the centres, beside obsm; None where it is not complete."""
    columns = [_lattice(obs, name) for name in ("pxl_col_in_fullres", "pxl_row_in_fullres")]
    both = [column for column in columns if column is not None and np.isfinite(column).all()]
    return np.stack(both, axis=1) if len(both) == 2 else None


def obs_frame_to_xy(node: Any) -> np.ndarray:
    """obsm['spatial'] stored as a table instead of an array."""
    from anndata.io import read_elem

    return np.asarray(read_elem(node), dtype=np.float64)


def _check_barcodes(barcodes: np.ndarray, slide: str) -> None:
    if not len(barcodes):
        raise UserError(f"Expected spots in slide '{slide}', it is empty; leave it out.")
    if (barcodes == "").any():
        raise UserError(
            f"Expected a barcode for every spot, spot {int(np.argmax(barcodes == ''))} of slide '{slide}' has none."
        )
    repeated = pd.Index(barcodes)[pd.Index(barcodes).duplicated()]
    if len(repeated):
        raise UserError(
            f"Expected unique barcodes in slide '{slide}', {repeated[0]} comes twice ({len(repeated)} "
            "repeats); features could not be joined: rename or remove the repeats."
        )


def _lattice(obs: pd.DataFrame, name: str) -> np.ndarray | None:
    return pd.to_numeric(obs[name], errors="coerce").to_numpy(np.float64) if name in obs else None


def _column(var: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, ...] | None:
    for name in names:
        if name in var:
            return tuple(var[name].astype(object).where(var[name].notna(), "").astype(str))
    return None
