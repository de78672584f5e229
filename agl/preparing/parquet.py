"""Parquet tables, as Space Ranger and Xenium write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from agl.errors import UserError
from agl.extras import need


def parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A Parquet table, of which only the columns that are there and asked for are read.

    Raises:
        UserError: unreadable.
    """
    stored = need("pyarrow.parquet", "to read Parquet tables", "slides")
    try:
        there = stored.read_schema(str(path)).names
        wanted = None if columns is None else [name for name in columns if name in there]
        return stored.read_table(str(path), columns=wanted).to_pandas()
    except Exception as error:  # pyarrow's own errors are many
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"Expected a Parquet table at {path}, cannot read it ({type(error).__name__}); copy it again."
        ) from error
