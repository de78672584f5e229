"""Visium HD: `binned_outputs/square_008um` and its like, as they are or summed into larger squares."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from agl.errors import UserError
from agl.preparing.section import Asked, Found, Section
from agl.preparing.sources.beside import find_image, section_name
from agl.preparing.sources.positions import find_positions, read_positions
from agl.preparing.sources.space_ranger import (
    MATRICES,
    about,
    find_pictures,
    on_tissue,
    read_scalefactors,
    size_of_image,
)
from agl.preparing.sources.summing import summed
from agl.preparing.sources.tenx import read_tenx_folder, read_tenx_h5, rows_of

KIND = "Space Ranger (Visium HD)"
USUAL = 56.0  # um: seven bins of 8 um, about a spot of Visium
_USUAL_BIN = 8.0
_SQUARE = re.compile(r"square_(\d+)um")


def find(path: Path) -> list[Found]:
    """The section of `outs/`, of the folder that holds it, or of one bin size in it."""
    for place in (path, path / "binned_outputs", path / "outs" / "binned_outputs"):
        squares = [place] if _SQUARE.fullmatch(place.name) else sorted(place.glob("square_*um"))
        sizes = {float(found.group(1)): s for s in squares if s.is_dir() and (found := _SQUARE.fullmatch(s.name))}
        if sizes:
            return [Found(section_name(place), KIND, place, partial(read, sizes))]
    return []


def read(sizes: dict[float, Path], asked: Asked) -> Section:
    """Squares of `asked.bin_um`, made of the largest bins that fill them.

    Raises:
        UserError: no bins fill such a square; a file is missing, damaged, or belongs to another sample.
    """
    own, times = _units(sizes, USUAL if asked.bin_um is None else asked.bin_um)
    folder, side = sizes[own], own * times
    spatial = folder / "spatial"
    path = next((p for name in MATRICES for p in (folder / f"{name}.h5", folder / name) if p.exists()), None)
    if path is None:
        raise UserError(f"Expected filtered_feature_bc_matrix.h5 in {folder}, found none; copy it again.")
    matrix = read_tenx_folder(path) if path.is_dir() else read_tenx_h5(path)
    table = find_positions(spatial)
    places = read_positions(table)
    rows, remarks = on_tissue(matrix, places.in_tissue.to_numpy(), places.index.to_numpy(), table)
    scales = spatial / "scalefactors_json.json"
    factors = read_scalefactors(scales) if scales.is_file() else {}
    pictures = find_pictures(spatial, "", factors)
    unit = rows_of(places.index.to_numpy(), matrix.barcodes)
    if times == 1:
        placed = places.iloc[unit[rows]]
        barcodes, lattice = matrix.barcodes[rows], placed[["array_row", "array_col"]].to_numpy(int)
        xy = placed[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(float)
        blocks = partial(matrix.blocks, rows)
    else:
        squares, spot_of_place, left = squares_of(places, times)
        lattice = squares[["row", "column"]].to_numpy(int)
        xy = squares[["x", "y"]].to_numpy(float)
        barcodes = np.array([f"s_{side:03.0f}um_{r:05d}_{c:05d}-1" for r, c in lattice], dtype=object)
        spot = spot_of_place[unit[rows]]
        n_genes = int(matrix.is_gene.sum())
        blocks = partial(summed, partial(matrix.blocks, rows), spot, len(squares), n_genes)
        remarks.append(f"{len(rows):,} bins of {own:g} um were summed into {len(squares):,} squares of {side:g} um.")
        remarks += [f"Squares less than half on tissue, left out: {left}."] if left else []
    um_per_px = factors.get("microns_per_pixel")
    if um_per_px:
        factors["spot_diameter_fullres"] = side / um_per_px
    return Section(
        section_name(folder),
        KIND,
        barcodes,
        xy,
        matrix.genes(),
        blocks,
        (matrix.path, table, *([scales] if factors else []), *(p.path for p in pictures.values())),
        lattice=lattice,
        pitch_um=side,
        um_per_px=um_per_px,
        image=find_image(_outs(folder), asked),
        image_size=size_of_image(pictures),
        pictures=pictures,
        scalefactors=factors,
        metadata=about(matrix.path),
        remarks=tuple(remarks),
    )


def squares_of(places: pd.DataFrame, times: int) -> tuple[pd.DataFrame, np.ndarray, int]:
    """Squares of `times` x `times` bins: (row, column, x, y of those at least half on tissue; [place] the square of
    each bin, -1 for none; number of squares with less tissue).

    A square's centre is the mean of the centres of all its bins, on tissue or not.
    """
    row, column = (places[f"array_{axis}"].to_numpy(np.int64) // times for axis in ("row", "col"))
    width = int(column.max()) + 1
    number, back = np.unique(row * width + column, return_inverse=True)
    on = np.bincount(back, places.in_tissue.to_numpy() != 0, len(number))
    bins = np.bincount(back, minlength=len(number))
    x, y = (
        np.bincount(back, places[name].to_numpy(float), len(number)) / bins
        for name in ("pxl_col_in_fullres", "pxl_row_in_fullres")
    )
    keep = 2 * on >= bins
    position = np.where(keep, np.cumsum(keep) - 1, -1)
    table = pd.DataFrame({"row": number // width, "column": number % width, "x": x, "y": y})
    return table[keep].reset_index(drop=True), position[back], int(((on > 0) & ~keep).sum())


def _units(sizes: dict[float, Path], wanted: float) -> tuple[float, int]:
    """(side of the bins to read, how many of them make a side of the square)."""
    if wanted == 0:
        return min((s for s in sizes if s >= _USUAL_BIN), default=min(sizes)), 1
    for size in sorted(sizes, reverse=True):
        times = round(wanted / size)
        if times >= 1 and abs(times * size - wanted) < 1e-6:
            return size, times
    there = ", ".join(f"{size:g}" for size in sorted(sizes))
    nearest = min(sizes)
    raise UserError(
        f"Expected squares that bins of {there} um can fill, received --bin-um {wanted:g}; give a multiple, such as "
        f"{max(1, round(wanted / nearest)) * nearest:g}."
    )


def _outs(folder: Path) -> Path:
    return folder.parent.parent if folder.parent.name == "binned_outputs" else folder
