"""Space Ranger's table of spots: with a header (since 2.0) or without, as CSV or, for Visium HD, as Parquet.

barcode, in_tissue (0 or 1), array_row, array_col, pxl_row_in_fullres (y), pxl_col_in_fullres (x)
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd

from agl.errors import UserError
from agl.places import regular_file
from agl.preparing.parquet import parquet

COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
MOST = 100  # columns
NAMES = tuple(
    f"tissue_positions{rest}" for rest in (".parquet", ".csv", "_list.csv", ".csv.gz", "_list.csv.gz")
)  # what Space Ranger calls it, and how archives of GEO have it


def find_positions(folder: Path, prefix: str = "") -> Path:
    """The table in a folder `spatial`.

    Raises:
        UserError: there is none.
    """
    for name in NAMES:
        if (folder / f"{prefix}{name}").is_file():
            return folder / f"{prefix}{name}"
    raise UserError(
        f"Expected {prefix}tissue_positions.csv (or _list.csv, .parquet) in {folder}, found none; copy it from Space "
        "Ranger's folder `spatial`."
    )


def read_positions(path: Path) -> pd.DataFrame:
    """All spots, on tissue or not, by barcode: the columns of `COLUMNS` but the first, as numbers.

    Raises:
        UserError: unreadable, other columns, a number missing, a barcode twice.
    """
    regular_file(path, "a table of spots")
    table = parquet(path, columns=COLUMNS) if path.suffix == ".parquet" else _text(path)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise UserError(
            f"Expected the columns {', '.join(COLUMNS)} in {path}, {', '.join(missing)} are not among "
            f"{', '.join(map(str, list(table)[:8]))}; give Space Ranger's own table."
        )
    table = table.set_index(table["barcode"].astype(str).str.strip())[list(COLUMNS[1:])]
    numbers = table.apply(pd.to_numeric, errors="coerce")
    bad = np.flatnonzero(~np.isfinite(numbers.to_numpy(float)).all(axis=1))
    if len(bad):
        raise UserError(
            f"Expected numbers for every spot in {path}, spot {table.index[bad[0]]} has "
            f"{table.iloc[bad[0]].tolist()}; copy the table again."
        )
    if table.index.has_duplicates:
        again = table.index[table.index.duplicated()][0]
        raise UserError(f"Expected each barcode once in {path}, {again} comes twice; copy the table again.")
    return numbers


def _text(path: Path) -> pd.DataFrame:
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content).decode("utf-8-sig")
        head = text.split("\n", 1)[0]
        sep = max(",;\t", key=head.count)
        fields = [field.strip().strip('"') for field in head.split(sep)]
        if not len(COLUMNS) <= len(fields) <= MOST:
            raise ValueError(f"its first line has {len(fields):,} fields")
        header = None if fields[1].lstrip("-").isdigit() else 0
        table = pd.read_csv(io.StringIO(text), sep=sep, header=header, skipinitialspace=True, dtype=str)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"Expected a table of {', '.join(COLUMNS)} at {path}, cannot read it ({error}); copy it again."
        ) from error
    if header is None:
        table = table.iloc[:, : len(COLUMNS)]
        table.columns = pd.Index(COLUMNS)
    return table.rename(columns={name: str(name).strip() for name in table})
