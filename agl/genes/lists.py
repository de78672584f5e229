"""Genes named in a file: lists, weights, columns of numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from agl.errors import UserError, did_you_mean
from agl.places import expanded, not_a_file


def read_names(path: str | Path, root: str | Path | None = None) -> list[str]:
    """Gene names from JSON (`{"genes": [...]}` or a plain list) or from text with one name per line, `#` for comments.

    A relative path is looked for from the working directory, then in `root`.
    """
    file = _existing(path, root)
    try:
        text = file.read_text(encoding="utf-8-sig")
        parsed = (
            json.loads(text)
            if file.suffix.lower() == ".json"
            else [line.split("#")[0].strip() for line in text.splitlines()]
        )
    except (ValueError, RecursionError) as error:  # no text, no JSON, a number of 5,000 digits, endless nesting
        raise UserError(
            f"{file} is not readable as a list of genes ({error}); give JSON or one name per line."
        ) from None
    names = parsed.get("genes") if isinstance(parsed, dict) else parsed
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f'Expected {file} to hold {{"genes": ["EPCAM", ...]}} or a list of names, found something else.'
        )
    names = [name for name in names if name]
    if not names:
        raise UserError(f"Expected gene names in {file}, found none.")
    repeated = sorted(name for name, n in Counter(names).items() if n > 1)
    if repeated:
        raise UserError(
            f"Expected each gene once in {file}, found {_some(repeated)} more than once; remove the repetition."
        )
    return names


def positions(names: Iterable[str], genes: tuple[str, ...], *, source: str, ignore_missing: bool = False) -> np.ndarray:
    """Positions of the named genes in `genes`, in the order named; an unknown name is an error."""
    where = {gene: i for i, gene in enumerate(genes)}
    wanted = list(names)
    missing = [name for name in wanted if name not in where]
    if missing and (not ignore_missing or len(missing) == len(wanted)):
        hint = did_you_mean(missing[0], genes)
        hint = hint if hint.startswith(" Did") else ""
        raise UserError(
            f"Expected genes of this data in {source}, received {len(missing)} that are not among its "
            f"{len(genes)} genes: {_some(missing)}.{hint} Remove them or correct the names."
        )
    return np.asarray([where[name] for name in wanted if name in where], dtype=np.int64)


def read_column(path: str | Path, column: str | None) -> pd.Series:
    """Numbers by gene name: a column of a CSV/TSV whose first column is the gene, or of `var` of an .h5ad."""
    file = _existing(path)
    if file.suffix.lower() == ".h5ad":
        table = _var(file)
    else:
        try:
            table = pd.read_csv(file, sep="\t" if file.suffix.lower() in (".tsv", ".txt") else ",", index_col=0)
        except (ValueError, UnicodeDecodeError) as error:
            raise UserError(f"{file} is not readable as a table of genes ({str(error).splitlines()[0]}).") from None
    if column is None:
        if table.shape[1] != 1:
            raise UserError(
                f"Expected column=..., because {file} has the columns {', '.join(map(str, table.columns))}."
            )
        column = str(table.columns[0])
    if column not in table.columns:
        raise UserError(
            f"Expected a column {column!r} in {file}, found none.{did_you_mean(column, map(str, table.columns))}"
        )
    if not pd.api.types.is_numeric_dtype(table[column]):
        raise UserError(
            f"Expected numbers in column {column!r} of {file}, found {table[column].dtype}; choose another column."
        )
    values = table[column].astype(float)
    values.index = values.index.astype(str)
    if not values.index.is_unique:
        twice = sorted(set(values.index[values.index.duplicated()]))
        raise UserError(f"Expected each gene once in {file}, found {_some(twice)} twice; remove the repetition.")
    return values


def _var(file: Path) -> pd.DataFrame:
    import anndata

    backed = anndata.read_h5ad(file, backed="r")
    table = backed.var.copy()
    backed.file.close()
    return table


def _existing(path: str | Path, root: str | Path | None = None) -> Path:
    file = expanded(path)
    places = [file] if root is None else [file, expanded(root) / file]
    for place in places:
        if not_a_file(place) is None:
            return place
    where = "" if root is None else f", neither here nor in {root}"
    raise UserError(f"Expected a file of genes, received {str(path)!r}: {not_a_file(file)}{where}.")


def _some(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
