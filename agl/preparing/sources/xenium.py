"""Xenium's output folder: cells with their places in um, summed into squares (pseudo-spots) or as they are.

Places in px of an H&E image come from its alignment matrix M (3 x 3, a CSV of Xenium Explorer), which takes px of that
image to px of the morphology image: (x, y, 1) = M^-1 (um / pixel size, 1).
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from agl.errors import UserError
from agl.places import regular_file
from agl.preparing.parquet import parquet
from agl.preparing.section import Asked, Found, Section
from agl.preparing.sources.beside import find_image, section_name
from agl.preparing.sources.summing import summed
from agl.preparing.sources.tenx import read_tenx_folder, read_tenx_h5, rows_of

KIND = "Xenium"
USUAL = 100.0  # um: about the spacing of Visium's spots
PIXEL = 0.2125  # um of a px of the morphology image, where experiment.xenium does not say it
_CELLS = ("cells.parquet", "cells.csv.gz", "cells.csv")
_COLUMNS = ("cell_id", "x_centroid", "y_centroid")


def find(path: Path) -> list[Found]:
    """The section of a folder with a matrix of cells and their places, or of the folder that holds it."""
    for folder in (path, path / "outs"):
        matrix = [folder / "cell_feature_matrix.h5", folder / "cell_feature_matrix"]
        if any(p.exists() for p in matrix) or (folder / "experiment.xenium").is_file():
            return [Found(section_name(folder), KIND, folder, partial(read, folder))]
    return []


def read(folder: Path, asked: Asked) -> Section:
    """Pseudo-spots of `asked.bin_um`, or cells; control probes and unassigned codewords are left out.

    Raises:
        UserError: a file is missing, damaged, or belongs to another sample.
    """
    stored = next((p for n in (".h5", "") if (p := folder / f"cell_feature_matrix{n}").exists()), None)
    table = next((folder / name for name in _CELLS if (folder / name).is_file()), None)
    if stored is None or table is None:
        missing = "cell_feature_matrix.h5" if stored is None else "cells.parquet"
        raise UserError(f"Expected {missing} in {folder}, found none; copy it from Xenium's output again.")
    matrix = read_tenx_folder(stored) if stored.is_dir() else read_tenx_h5(stored)
    cells = _cells(table)
    cell = rows_of(cells.index.to_numpy(), matrix.barcodes)
    if (cell < 0).any():
        raise UserError(
            f"Expected a place for each cell of {matrix.path}, {table} has none for "
            f"{matrix.barcodes[int(np.argmax(cell < 0))]} and {int((cell < 0).sum()) - 1} more; copy both from one run."
        )
    um = cells[["x_centroid", "y_centroid"]].to_numpy(float)[cell]
    n_other, remarks = int((~matrix.is_gene).sum()), []
    if n_other:
        remarks.append(f"Control probes, codewords and other features that are no genes, left out: {n_other}.")
    side = USUAL if asked.bin_um is None else asked.bin_um
    every = np.arange(len(um))
    n_genes = int(matrix.is_gene.sum())
    if side == 0:
        barcodes, lattice, places = matrix.barcodes, None, um
        blocks = partial(matrix.blocks, every)
    else:
        index = np.floor(um[:, ::-1] / side).astype(np.int64)  # (row, column)
        lattice, spot = np.unique(index, axis=0, return_inverse=True)
        spot = spot.reshape(-1)
        places = (lattice[:, ::-1] + 0.5) * side
        barcodes = np.array([f"s_{side:03.0f}um_{row:05d}_{column:05d}" for row, column in lattice], dtype=object)
        blocks = partial(summed, partial(matrix.blocks, every), spot, len(lattice), n_genes)
        remarks.append(f"{len(um):,} cells were summed into {len(lattice):,} squares of {side:g} um.")
    image = find_image(folder, asked)
    aligned = asked.alignment or _alignment(folder)
    pixel = _pixel(folder)
    to_image = np.eye(3) if aligned is None else read_alignment(aligned)
    if image is not None and aligned is None:
        remarks.append("No alignment matrix: the image is taken for one in px of the morphology image (--alignment).")
    return Section(
        section_name(folder),
        KIND,
        barcodes,
        in_image(places, pixel, to_image),
        matrix.genes(),
        blocks,
        (matrix.path, table, *([aligned] if aligned else [])),
        lattice=lattice,
        pitch_um=side or None,
        um_per_px=pixel * float(np.sqrt(abs(np.linalg.det(to_image[:2, :2])))),
        image=image,
        remarks=tuple(remarks),
    )


def in_image(um: np.ndarray, pixel: float, alignment: np.ndarray) -> np.ndarray:
    """Places [place, 2] in px of the image, of places in um.

    >>> in_image(np.array([[10.0, 20.0]]), 0.2, np.array([[2.0, 0, 30], [0, 2.0, 40], [0, 0, 1]])).tolist()
    [[10.0, 30.0]]
    """
    homogeneous = np.column_stack([um / pixel, np.ones(len(um))])
    placed = np.linalg.solve(alignment, homogeneous.T).T
    return placed[:, :2] / placed[:, 2:]


def read_alignment(path: Path) -> np.ndarray:
    """The 3 x 3 matrix.

    Raises:
        UserError: other numbers, or a matrix that cannot be inverted.
    """
    regular_file(path, "an alignment matrix")
    try:
        matrix = pd.read_csv(path, header=None).to_numpy(float)
    except (ValueError, UnicodeError) as error:
        raise UserError(f"Expected 3 x 3 numbers in {path}, cannot read them ({error}); export it again.") from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise UserError(
            f"Expected an alignment matrix of 3 x 3 numbers in {path}, received {matrix.shape[0]} x {matrix.shape[1]} "
            "or one that cannot be inverted; export it from Xenium Explorer again."
        )
    return matrix


def _cells(path: Path) -> pd.DataFrame:
    try:
        table = parquet(path, _COLUMNS) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"cell_id": str})
    except (ValueError, EOFError, UnicodeError) as error:
        raise UserError(f"Expected a table of cells at {path}, cannot read it ({error}); copy it again.") from error
    if missing := [name for name in _COLUMNS if name not in table]:
        raise UserError(f"Expected the columns {', '.join(_COLUMNS)} in {path}, {', '.join(missing)} is missing.")
    names = [v.decode() if isinstance(v, bytes) else str(v) for v in table["cell_id"].tolist()]
    cells = table.set_index(pd.Index(names))[list(_COLUMNS[1:])]
    if cells.index.has_duplicates or not np.isfinite(cells.to_numpy(float)).all():
        raise UserError(f"Expected one finite place for each cell in {path}, received others; copy it again.")
    return cells


def _alignment(folder: Path) -> Path | None:
    found = sorted(p for place in (folder, folder.parent) for p in place.glob("*imagealignment.csv"))
    if len(found) > 1:
        raise UserError(f"Expected one alignment matrix, received {found[0]} and {found[1]}; name it with --alignment.")
    return found[0] if found else None


def _pixel(folder: Path) -> float:
    try:
        return float(json.loads((folder / "experiment.xenium").read_text("utf-8"))["pixel_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return PIXEL
