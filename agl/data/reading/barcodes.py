"""Joining by barcode; and, where few match, why that probably is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from agl.data.reading.rows import Match, Rows, Spots
from agl.errors import DataError

_WHOLE = re.compile(r"^\d+(\.0)?$")
_BYTES = re.compile(r"^b(['\"])(.*)\1$")
_ENDING = re.compile(r"(?:[-._]\d+)+$")
_PART = re.compile(r"[_:|#/]")


def by_barcode(spots: Spots, rows: Rows) -> Match:
    """The row that has a spot's barcode.

    Raises:
        DataError: barcodes that come twice.
    """
    theirs = pd.Index(np.asarray(rows.barcodes))
    if theirs.has_duplicates:
        raise DataError(
            f"Expected unique barcodes in {rows.where}, {theirs[theirs.duplicated()][0]} comes twice; write the file "
            "again."
        )
    found = theirs.get_indexer(pd.Index(spots.barcodes)).astype(np.int64)
    return Match(found, "barcode", len(theirs) - int((found >= 0).sum()))


def are_row_numbers(names: np.ndarray) -> bool:
    """Whether names are 0, 1, 2 ... or 1, 2, 3 ... in any order: an index that somebody never set.

    >>> are_row_numbers(np.array(["2", "0", "1"])), are_row_numbers(np.array(["10", "20", "30"]))
    (True, False)
    """
    if len(names) < 3 or not all(map(_WHOLE.match, names)):
        return False
    numbers = np.sort([float(name) for name in names])
    return numbers[0] in (0, 1) and bool((np.diff(numbers) == 1).all())


def refuse_row_numbers(spots: Spots, rows: Rows) -> None:
    """Row numbers agree by their number only. Not to be asked where places show that the rows are right."""
    theirs = np.asarray(rows.barcodes)
    if are_row_numbers(theirs):
        raise DataError(
            f"Expected the barcodes of slide '{spots.slide}' in {rows.where}, received row numbers (such as "
            f"'{theirs[0]}'), which do not say whose rows they are; write the spots' barcodes, or the patches' "
            "coordinates, into the file."
        )
    if are_row_numbers(spots.barcodes) and all(map(_WHOLE.match, theirs)):
        raise DataError(
            f"Expected barcodes in obs of slide '{spots.slide}' to join {rows.where} by, received row numbers (such as "
            f"'{spots.barcodes[0]}'), which do not say whose spots they are; set adata.obs_names to the barcodes."
        )


def example(names: np.ndarray, without: np.ndarray) -> str:
    """One name that the other side does not have."""
    own = pd.Index(names)
    left = own[~own.isin(pd.Index(without))]
    return f"'{left[0] if len(left) else own[0]}'" if len(own) else "none at all"


def probable_cause(mine: np.ndarray, theirs: np.ndarray) -> str | None:
    """How barcodes would have to be rewritten for most of the rarer side to match; None where nothing known helps.

    >>> probable_cause(np.array(["AAC-1", "AAG-1"]), np.array(["AAC", "AAG"]))
    "2 of 2 would match without endings such as '-1' in the slide and none in the file"
    """
    few = min(len(mine), len(theirs))
    now = int(np.isin(mine, theirs).sum())
    for words, ours, others in _rewritten(mine.astype(str), theirs.astype(str)):
        matching = int(np.isin(np.unique(ours), np.unique(others)).sum())
        if matching > max(now, few / 2):
            return f"{matching} of {len(mine)} would match {words}"
    return None


def _rewritten(mine: np.ndarray, theirs: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(in words, slide's names, file's names), one known difference after another, then two at once."""
    plain = _each(_without_bytes, theirs)
    if _BYTES.match(theirs[0] if len(theirs) else ""):
        yield "without the b'...' around the file's, which are bytes written as text", mine, plain
    lower = _each(str.lower, mine), _each(str.lower, plain)
    yield "in one letter case", *lower
    for ours, others, also in ((mine, plain, ""), (*lower, ", in one letter case")):
        short, theirs_short = _each(_without_ending, ours), _each(_without_ending, others)
        endings = f"without endings such as {_ending(ours)} in the slide and {_ending(others)} in the file"
        yield endings + also, short, theirs_short
        for a, b, more in ((ours, others, ""), (short, theirs_short, f" and {endings}")):
            yield f"without the file's prefix '{_prefix(others)}'{more}{also}", a, _each(_without_prefix, b)
            yield f"without the slide's prefix '{_prefix(ours)}'{more}{also}", _each(_without_prefix, a), b
            yield f"without the file's suffix '{_suffix(others)}'{more}{also}", a, _each(_without_suffix, others)
            yield f"without the slide's suffix '{_suffix(ours)}'{more}{also}", _each(_without_suffix, ours), b
    letters = [_each(_letters, names) for names in (mine, plain)]
    yield "with the same signs between their parts", letters[0], letters[1]


def _each(rewrite: Callable[[str], str], names: np.ndarray) -> np.ndarray:
    return np.array([rewrite(name) for name in names], dtype=str)


def _without_bytes(name: str) -> str:
    found = _BYTES.match(name)
    return found.group(2) if found else name


def _without_ending(name: str) -> str:
    return _ENDING.sub("", name)


def _without_prefix(name: str) -> str:
    found = _PART.search(name)
    return name[found.end() :] if found else name


def _without_suffix(name: str) -> str:
    last = max((m.start() for m in _PART.finditer(name)), default=len(name))
    return name[:last]


def _letters(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "-", name.lower())


def _ending(names: np.ndarray) -> str:
    found = _ENDING.search(names[0]) if len(names) else None
    return f"'{found.group()}'" if found else "none"


def _prefix(names: np.ndarray) -> str:
    return names[0].removesuffix(_without_prefix(names[0])) if len(names) else ""


def _suffix(names: np.ndarray) -> str:
    return names[0].removeprefix(_without_suffix(names[0])) if len(names) else ""
