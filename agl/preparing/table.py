"""`sections.csv`: a row a section, from what was noted in each h5ad. What people wrote into it stays."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from agl.data.reading.sections import SECTIONS_CSV
from agl.data.reading.tables import read_text_table
from agl.leftovers import replacing
from agl.preparing.writing import read_record

_NAME, _PATIENT = "section", "patient"


def write_table(root: Path) -> pd.DataFrame:
    """Write and give the table of all sections of the folder that were prepared.

    A patient that somebody filled in is kept where none was given to `agl prepare`, and so are columns of theirs and
    rows about sections that were not prepared but are there.

    Raises:
        UserError: a damaged h5ad, or a sections.csv that cannot be read.
    """
    files = sorted((root / "adata").glob("[!.]*.h5ad"))
    rows = [record["row"] for file in files if (record := read_record(file)) is not None]
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    path = root / SECTIONS_CSV
    if path.is_file():
        table = _with_theirs(table, path, {file.stem for file in files})
    with replacing(path) as part:
        table.to_csv(part, index=False, float_format="%.6g")
    return table


def _with_theirs(table: pd.DataFrame, path: Path, there: set[str]) -> pd.DataFrame:
    stored = read_text_table(path)
    if _NAME not in stored.columns:
        return table
    theirs = {line.values[_NAME]: line.values for line in stored.lines}
    if _PATIENT in stored.columns:
        given = [theirs.get(name, {}).get(_PATIENT, "") for name in table[_NAME]]
        table[_PATIENT] = [own or other for own, other in zip(table[_PATIENT], given, strict=True)]
    for column in stored.columns:
        if column and column not in table:
            table[column] = [theirs.get(name, {}).get(column, "") for name in table[_NAME]]
    others = [values for name, values in theirs.items() if name in there and name not in set(table[_NAME])]
    return pd.concat([table, pd.DataFrame(others)], ignore_index=True) if others else table
