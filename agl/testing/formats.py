"""A contract for feature-file formats: does yours fit `agl.data.reading.formats.base.Format`?"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agl.data.reading.formats.base import FeatureFile, Format
from agl.errors import UserError

Write = Callable[[Path, np.ndarray, list[str]], object]


def check_format(made: Format, write: Write, *, seed: int = 0) -> None:
    """Raise AssertionError, saying which part of the contract a format breaks.

    The contract: `open` gives the shape, float16 or float32, and a name for every row, in file order, of a file with
    one of the `suffixes`; `blocks` gives all its rows in that order, in pieces of at most the size asked for, again
    and again; NaN comes through, for the import to name the spot; `sidecars` are existing files, others than the one
    they belong to; a file that is missing, empty or cut short is a `UserError` with its name, never another exception.

    Args:
        made: the format.
        write: `write(path, features, barcodes)` writes such a file: features float32 `[row, feature]`, and a barcode
            for every row (into a file beside it where the format wants that).
    """
    suffixes = made.suffixes
    assert isinstance(suffixes, tuple), f"Expected suffixes as a tuple of endings, received {suffixes!r}."
    assert suffixes, "Expected at least one ending in suffixes, received none."
    for suffix in suffixes:
        assert re.fullmatch(r"\..+", suffix), f"Expected endings such as '.h5', received {suffix!r}."
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in suffixes:
            path = Path(folder) / f"S1.b{suffix}"  # names may contain dots
            values = rng.normal(size=(23, 5)).astype(np.float32)
            values[7, 2] = np.nan
            barcodes = [f"spot{i}-1" for i in rng.permutation(23)]
            write(path, values, barcodes)
            _opens(made, path, values, barcodes)
            _sidecars(made, path)
            _damaged(made, path)


def _opens(made: Format, path: Path, values: np.ndarray, barcodes: list[str]) -> None:
    file = made.open(path)
    assert isinstance(file, FeatureFile), f"Expected `open` to give a FeatureFile, received {type(file).__name__}."
    assert file.path == path, f"Expected the file's own path, received {file.path}."
    assert file.format is made, "Expected the file to know its format: `feature_file(self, ...)`."
    assert file.shape == values.shape, f"Expected the shape {values.shape}, received {file.shape}."
    assert file.dtype in (np.float16, np.float32), f"Expected float16 or float32, received {file.dtype}."
    assert file.kind, "Expected a few words on what the file is, for the report."
    names = file.rows.barcodes
    assert names is not None, "Expected barcodes of the rows, received none."
    assert list(names) == barcodes, f"Expected the barcodes in file order, received {list(names)[:3]}, ..."
    for size in (1, 7, 23, 4096, 7):
        pieces = [np.asarray(piece) for piece in made.blocks(file, size)]
        assert all(len(piece) <= size for piece in pieces), f"Expected blocks of at most {size} rows, received more."
        read = np.concatenate(pieces)
        assert read.shape == values.shape, f"Expected blocks of all rows, {values.shape}, received {read.shape}."
        same = np.allclose(read, values, rtol=1e-3, atol=1e-3, equal_nan=True)  # a format may keep float16
        assert same, f"Expected the values in file order, NaN included, in blocks of {size}; received others."


def _sidecars(made: Format, path: Path) -> None:
    for beside in made.sidecars(path):
        assert beside.is_file(), f"Expected sidecars that exist, received {beside}."
        assert beside != path, "Expected sidecars other than the file itself."


def _damaged(made: Format, path: Path) -> None:
    whole = path.read_bytes()
    for what, content in (("empty", b""), ("cut short", whole[: len(whole) // 3]), ("missing", None)):
        path.unlink() if content is None else path.write_bytes(content)
        said = _error(made, path, what)
        assert str(path) in said, f"Expected the name of a file that is {what} in the message: {said}"


def _error(made: Format, path: Path, what: str) -> str:
    """The message of the `UserError` that reading this file is."""
    try:
        file = made.open(path)
        rows = sum(len(piece) for piece in made.blocks(file, 8))
    except UserError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"Expected a UserError for a file that is {what}, received {error!r}.") from error
    raise AssertionError(f"Expected a UserError for a file that is {what}, received {rows} rows.")
