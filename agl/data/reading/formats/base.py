"""What a format of feature files is: one object that knows its endings, opens a file, and reads it block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from agl.data.reading.join import Rows
from agl.errors import DataError

_WIDEST = 100_000  # ten times the widest encoder; a row of more, from a damaged file, may not fit the memory


class Format(Protocol):
    """A format of feature files, ours or yours; a class of your own needs no parent.

    >>> class Csv:
    ...     suffixes = (".csv",)
    ...     def open(self, path):
    ...         table = np.loadtxt(path, delimiter=",", dtype=str)
    ...         return feature_file(self, path, "my CSV", table[:, 1:].astype(float), Rows(str(path), table[:, 0]))
    ...     def blocks(self, file, size):
    ...         table = np.loadtxt(file.path, delimiter=",", dtype=str)[:, 1:].astype(np.float32)
    ...         yield from (table[start : start + size] for start in range(0, len(table), size))
    ...     def sidecars(self, path):
    ...         return []
    """

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The endings of its files."""
        ...

    def open(self, path: Path) -> FeatureFile:
        """What the file holds and how its rows are named, without reading its values where that can be.

        Raises:
            DataError: it cannot be read, or is no matrix of numbers.
        """
        ...

    def blocks(self, file: FeatureFile, size: int) -> Iterator[np.ndarray]:
        """Its values `[at most size, feature]` in file order, until all rows are read."""
        ...

    def sidecars(self, path: Path) -> list[Path]:
        """Existing files beside `path` that its rows are named by: their content counts as the file's."""
        ...


@dataclass(frozen=True)
class FeatureFile:
    """One slide's features `[row, feature]` on disk and how its rows are joined to spots; nothing is loaded yet.

    Attributes:
        path, format: the file and who reads it.
        kind: what it is, in words for the report.
        shape: (rows, features).
        dtype: float16 where the file has it, else float32.
        rows: which spot each row belongs to.
        key: where in the file the values are, if the format needs to know.
    """

    path: Path
    format: Format
    kind: str
    shape: tuple[int, int]
    dtype: np.dtype
    rows: Rows
    key: str = ""

    def blocks(self, size: int = 4096) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, values `[at most size, feature]`) in file order, in `self.dtype`.

        Raises:
            DataError: the format gives other rows than it promised.
        """
        start = 0
        for values in self.format.blocks(self, size):
            if values.ndim != 2 or values.shape[1] != self.shape[1] or start + len(values) > self.shape[0]:
                break
            yield start, np.asarray(values).astype(self.dtype, copy=False)
            start += len(values)
        else:
            if start == self.shape[0]:
                return
        raise DataError(
            f"Expected {self.shape[0]} rows of {self.shape[1]} features from {self.path}, received others after row "
            f"{start}; mend the format that reads {self.path.suffix}, or write the file again."
        )


def feature_file(of: Format, path: Path, kind: str, values: Any, rows: Rows, key: str = "") -> FeatureFile:
    """A `FeatureFile` for `values`, of which only shape and dtype are looked at.

    Raises:
        DataError: not a matrix of numbers, or names for another number of rows.
    """
    shape, dtype = tuple(values.shape or ()), np.dtype(values.dtype)  # an empty dataset's shape is None
    if len(shape) != 2 or dtype.kind not in "fiu" or not shape[1]:
        hint = " (one vector for the whole slide?)" if len(shape) == 1 else ""
        raise DataError(
            f"Expected features [spot, feature] in {path}, received {dtype} of shape {shape}{hint}; "
            "extract one row per spot."
        )
    if shape[1] > _WIDEST:
        raise DataError(f"Expected at most {_WIDEST:,} features a spot in {path}, received {shape[1]:,}; is it turned?")
    for name, names in (("barcodes", rows.barcodes), ("coordinates", rows.corners)):
        if names is not None and len(names) != shape[0]:
            raise DataError(
                f"Expected one of the {name} for each row of {path}, received {len(names)} for {shape[0]} "
                "rows; write the file again."
            )
    kept = dtype if dtype == np.float16 else np.dtype(np.float32)
    return FeatureFile(path, of, kind, (shape[0], shape[1]), kept, rows, key)
