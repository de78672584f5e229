"""Packages that only slides need: imported when they are used, and named with the line that installs them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from agl.errors import UserError


def need(module: str, what: str, extra: str = "slides") -> Any:
    """A module of an optional package.

    Raises:
        UserError: it is not installed, or cannot be loaded.

    >>> need("math", "to count").pi > 3
    True
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a library that it loads is not there
        raise UserError(
            f"Expected the package {module.split('.')[0]} {what}, received none that can be imported "
            f"({type(error).__name__}: {error}). Write: pip install 'agl[{extra}]'"
        ) from error


def parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A Parquet table, of which only the columns that are there and asked for are read.

    Raises:
        UserError: unreadable.
    """
    stored = need("pyarrow.parquet", "to read Parquet tables")
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
