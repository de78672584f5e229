"""Spatial Transcriptomics before Visium: a table of counts with rows "10x13", and a table of spots with their pixels.

As HER2ST was published: `ST-cnts/A1.tsv.gz` [spot, gene], `ST-spotfiles/A1_selection.tsv` with the columns x, y (whole
numbers), new_x, new_y (measured), pixel_x, pixel_y and perhaps `selected`, `ST-imgs/A/A1/*.jpg`.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from agl.errors import UserError
from agl.preparing.images.kinds import SUFFIXES
from agl.preparing.section import Asked, Found, Genes, Section
from agl.preparing.sources.beside import find_image

KIND = "Spatial Transcriptomics"
PITCH = 200.0  # um between spots of 100 um
_SPOT = re.compile(r"^\"?(-?\d+(?:\.\d+)?)x(-?\d+(?:\.\d+)?)\"?$")
_TABLES = (".tsv", ".tsv.gz", ".csv", ".csv.gz", ".txt", ".txt.gz")
_COUNTS = ("ST-cnts", "count-matrices", ".")
_SPOTS = ("ST-spotfiles", "spot-selections", ".")
_IMAGES = ("ST-imgs", "images/HE", "images", ".")
_NEAR = 0.03  # of the spacing: measured places are printed with two or three digits


def find(path: Path) -> list[Found]:
    """Every section of a folder whose tables of counts have rows "10x13", or the section of one such table."""
    if path.is_file():
        files, root = [path], path.parent
    else:
        files, root = [f for name in _COUNTS if (path / name).is_dir() for f in sorted((path / name).iterdir())], path
    found = []
    for file in files:
        if file.name.endswith(_TABLES) and not file.name.startswith(".") and _has_spots(file):
            name = _section(file)
            home = root.parent if path.is_file() and root.name in _COUNTS else root
            found.append(Found(name, KIND, file, partial(read, name, file, home)))
    return found


def read(name: str, path: Path, home: Path, asked: Asked) -> Section:
    """Counts of the spots that the table of spots has (and selects).

    Raises:
        UserError: no table of spots, other columns, counts that are not whole, no spot in both.
    """
    counts = _counts(path)
    table_file = _spot_table(name, home)
    table = pd.read_csv(table_file, sep=None, engine="python")
    needed = {"x", "y", "pixel_x", "pixel_y"}
    if missing := sorted(needed - set(table)):
        raise UserError(
            f"Expected the columns x, y, pixel_x and pixel_y in {table_file}, {', '.join(missing)} is not among "
            f"{', '.join(map(str, list(table)[:8]))}; give the table that the spot detector wrote."
        )
    if "selected" in table:
        table = table[table["selected"] != 0]
    row = _row_of(counts.index.to_numpy(), table)
    kept = np.flatnonzero(row >= 0)
    if not len(kept):
        raise UserError(
            f"Expected spots of {path} in {table_file}, received none (such as {counts.index[0]}); give the table of "
            "this section."
        )
    placed = table.iloc[row[kept]]
    left = len(counts) - len(kept)
    names = np.array([str(gene).strip() for gene in counts.columns], dtype=object)
    is_id = np.array([bool(re.match(r"^ENS[A-Z]*G\d{11}", gene)) for gene in names])
    values = counts.to_numpy()[kept]

    def blocks() -> Iterator[sparse.csr_matrix]:
        yield sparse.csr_matrix(values)

    whole = np.rint(placed[["y", "x"]].to_numpy(float)).astype(int)
    return Section(
        name,
        KIND,
        np.array([f"{x}x{y}" for y, x in whole], dtype=object),
        placed[["pixel_x", "pixel_y"]].to_numpy(float),
        Genes(names, np.where(is_id, names, "").astype(object)),
        blocks,
        (path, table_file),
        lattice=whole,
        pitch_um=PITCH,
        image=asked.image or _image(name, home) or find_image(path.parent, asked, name),
        remarks=(f"Spots without a place or not selected, left out: {left}.",) if left else (),
    )


def _row_of(spots: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """[spot] its row in the table of spots, -1 where there is none: by whole places, else by measured ones."""
    from scipy.spatial import cKDTree

    places = np.array([[float(v) for v in _SPOT.match(str(s)).groups()] for s in spots])  # type: ignore[union-attr]
    whole = np.array_equal(places, np.rint(places))
    columns = ["x", "y"] if whole or not {"new_x", "new_y"} <= set(table) else ["new_x", "new_y"]
    distance, row = cKDTree(table[columns].to_numpy(float)).query(places)
    return np.where(distance <= _NEAR, row, -1)


def _counts(path: Path) -> pd.DataFrame:
    """int32 [spot, gene], turned where genes are the rows."""
    try:
        sep = "," if ".csv" in path.name else "\t"
        table = pd.read_csv(path, sep=sep, index_col=0)
    except (ValueError, EOFError, OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"Expected a table of counts at {path}, cannot read it ({error}); copy it again.") from error
    table = table if _SPOT.match(str(table.index[0])) else table.T
    wrong = [str(name) for name in table.index if not _SPOT.match(str(name))]
    if wrong:
        raise UserError(f"Expected spots such as 10x13 in {path}, received {wrong[0]}; copy the table again.")
    values = table.to_numpy()
    if values.dtype.kind not in "iuf" or not (np.isfinite(values).all() and (values >= 0).all()):
        raise UserError(f"Expected counts in {path}, received missing, negative or other values; copy it again.")
    if not np.array_equal(values, np.rint(values)):
        raise UserError(f"Expected raw counts in {path}, received fractions; give the counts before normalisation.")
    if table.index.has_duplicates:
        raise UserError(f"Expected each spot once in {path}, {table.index[table.index.duplicated()][0]} comes twice.")
    return table.astype(np.int32)


def _has_spots(path: Path) -> bool:
    """Whether the first row, or the header, names spots."""
    try:
        with gzip.open(path, "rt") if path.name.endswith(".gz") else path.open() as stream:
            first, second = stream.readline(), stream.readline()
    except (OSError, EOFError, UnicodeError):
        return False
    sep = "," if ".csv" in path.name else "\t"
    fields = [second.split(sep)[0].strip(), *(word.strip() for word in first.split(sep)[1:3])]
    return any(_SPOT.match(word) for word in fields)


def _section(path: Path) -> str:
    """A1 of A1.tsv.gz, of ut_A1_stdata_filtered.tsv.gz."""
    stem = path.name.split(".")[0]
    return re.sub(r"^ut_|_stdata.*$|_counts?$", "", stem) or stem


def _spot_table(name: str, home: Path) -> Path:
    for place in _SPOTS:
        folder = home / place
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        for file in inside:
            own = re.split(r"[^A-Za-z0-9]+", file.name)
            if file.name.endswith(_TABLES) and (name in own or file.name.startswith(f"{name}_")) and _places(file):
                return file
    raise UserError(
        f"Expected the table of spots of section '{name}' in {home} (columns x, y, pixel_x, pixel_y), found none; add "
        f"{name}_selection.tsv."
    )


def _places(path: Path) -> bool:
    try:
        with gzip.open(path, "rt") if path.name.endswith(".gz") else path.open() as stream:
            return "pixel_x" in stream.readline()
    except (OSError, EOFError, UnicodeError):
        return False


def _image(name: str, home: Path) -> Path | None:
    """In a folder of images: the one called as the section, or the only one in a folder of its name."""
    for place in _IMAGES:
        folder = home / place
        files = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES] if place != "." else []
        found = [p for p in files if p.stem == name or p.parent.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"Expected one image of section '{name}', received {found[0]} and {found[1]}; use --image.")
    return None
