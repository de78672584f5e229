"""Sections (.h5ad) that are none, are damaged, or say what cannot be, for `train` and for `check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from tests.hostile.broken_h5 import (
    Change,
    at,
    column_wise,
    dense,
    edit,
    linked,
    put,
    said,
    same,
    several,
    vast,
    without,
)
from tests.hostile.kinds import DAMAGED, NO_FILES
from tests.hostile.stage import OWN, Case

CHANGES: dict[str, Change] = {
    "no counts": without("X"),
    "no spots' names": without("obs"),
    "no genes' names": without("var"),
    "no index of spots": without("obs/barcode"),
    "no index of genes": without("var/gene"),
    "an index that is not there": said("obs", _index="nowhere"),
    "no word on the index": said("var", _index=None),
    "an unknown encoding of counts": said("X", encoding_type="from_the_future"),
    "no encoding of counts": said("X", encoding_type=None),
    "a shape of one number": said("X", shape=np.array([40])),
    "a negative shape": said("X", shape=np.array([-40, 150])),
    "a shape of words": said("X", shape="many"),
    "no shape": said("X", shape=None),
    "a vast shape": said("X", shape=np.array([2**40, 2**40])),
    "too small a shape": said("X", shape=np.array([40, 3])),
    "too many rows": said("X", shape=np.array([41, 150])),
    "counts that are words": put("X/data", np.array([b"a"] * 5010)),
    "counts that are complex": edit("X/data", lambda values: values.astype(complex)),
    "counts that are not finite": edit("X/data", lambda values: at(7, np.nan)(values.astype(float))),
    "counts that are infinite": edit("X/data", lambda values: at(7, np.inf)(values.astype(float))),
    "counts that are negative": edit("X/data", at(7, -1)),
    "counts that are halves": edit("X/data", lambda values: values * 0.5),
    "counts that are huge": edit("X/data", lambda values: at(7, 3e38)(values.astype(np.float32))),
    "counts of 2^62": edit("X/data", lambda values: at(7, 2**62)(values.astype(np.int64))),
    "fewer counts than places": edit("X/data", lambda values: values[:-3]),
    "no counts at all": edit("X/data", lambda values: values[:0]),
    "all counts zero": edit("X/data", np.zeros_like),
    "a place beyond the genes": edit("X/indices", at(3, 150)),
    "a place far beyond": edit("X/indices", at(3, 2**31 - 1)),
    "a negative place": edit("X/indices", at(3, -1)),
    "a place of a share": edit("X/indices", lambda values: values * 1.5),
    "the same place twice": edit("X/indices", lambda values: at(0, int(values[1]))(values)),
    "rows that start late": edit("X/indptr", at(0, 5)),
    "rows that end early": edit("X/indptr", at(40, 10)),
    "rows that end late": edit("X/indptr", at(40, 10**9)),
    "rows that fall": edit("X/indptr", at(20, 0)),
    "a negative row": edit("X/indptr", at(20, -9)),
    "a row missing": edit("X/indptr", lambda values: values[:-1]),
    "a row too many": edit("X/indptr", lambda values: np.append(values, values[-1])),
    "rows of two dimensions": edit("X/indptr", lambda values: values[None]),
    "column-wise, a place beyond the spots": column_wise(at(3, 40), same),
    "column-wise, a place far beyond": column_wise(at(3, 2**31 - 1), same),
    "column-wise, a negative place": column_wise(at(3, -5), same),
    "column-wise, columns that fall": column_wise(same, at(75, 0)),
    "column-wise, columns that end late": column_wise(same, at(150, 10**9)),
    "dense, of three dimensions": dense(np.ones((40, 150, 2), np.int32)),
    "dense, of one": dense(np.ones(40, np.int32)),
    "dense, a number": dense(np.array(3)),
    "dense, words": dense(np.full((40, 150), b"a")),
    "dense, too wide": dense(np.ones((40, 151), np.int32)),
    "dense, too short": dense(np.ones((39, 150), np.int32)),
    "dense, truths": dense(np.ones((40, 150), bool)),
    "dense, vast and empty": vast("X", (2**33, 2**33)),
    "vast counts": vast("X/data", (2**40,)),
    "vast places": vast("X/indices", (2**40,)),
    "vast rows": vast("X/indptr", (2**40,)),
    "a vast index of spots": vast("obs/barcode", (2**40,), "S16"),
    "no spots": several(edit("X/indptr", lambda v: v[:1]), edit("obs/barcode", lambda v: v[:0])),
    "a spot's name twice": edit("obs/barcode", lambda values: at(1, values[0])(values)),
    "all spots of one name": edit("obs/barcode", lambda values: np.full_like(values, b"AAAC-1")),
    "spots without a name": edit("obs/barcode", lambda values: np.full_like(values, b"")),
    "fewer spots' names": edit("obs/barcode", lambda values: values[:-1]),
    "spots' names of two dimensions": edit("obs/barcode", lambda values: values.reshape(20, 2)),
    "spots' names that are bytes of nothing": put("obs/barcode", np.array([b"\xff\xfe"] * 40)),
    "spots' names that are numbers": put("obs/barcode", np.arange(40) + 0.5),
    "a gene's name twice": edit("var/gene", lambda values: at(1, values[0])(values)),
    "genes without a name": edit("var/gene", lambda values: np.full_like(values, b"")),
    "fewer genes' names": edit("var/gene", lambda values: values[:-1]),
    "genes of other slides": edit("var/gene", lambda values: np.array([f"OTHER{i}" for i in range(150)], dtype="S9")),
    "genes' names of 100,000 letters": edit("var/gene", lambda values: at(0, b"g" * 100_000)(values)),
    "places of words": put("obsm/spatial", np.full((40, 2), b"a")),
    "places that are not finite": edit("obsm/spatial", lambda values: np.full_like(values, np.nan)),
    "places of one dimension": edit("obsm/spatial", lambda values: values[:, 0]),
    "places of three": edit("obsm/spatial", lambda values: np.hstack([values, values])[:, :3]),
    "fewer places": edit("obsm/spatial", lambda values: values[:-1]),
    "all spots in one place": edit("obsm/spatial", np.zeros_like),
    "patients' codes beyond": edit("obs/patient/codes", at(3, 9)),
    "patients without names": without("obs/patient/categories"),
    "two patients": several(
        put("obs/patient/categories", np.array([b"P1", b"P2"])), edit("obs/patient/codes", at(3, 1))
    ),
    "a link to another file": linked("X", h5py.ExternalLink("/etc/passwd", "/X")),
    "a link to a file that is not there": linked("X", h5py.ExternalLink("nowhere.h5", "/X")),
    "a link to itself": linked("X", h5py.SoftLink("/X")),
    "a link to nowhere": linked("var", h5py.SoftLink("/nowhere")),
    "a type in place of the counts": linked("X", np.dtype("f8")),
}
MAY_BE = {  # what may also be read as it is meant
    "no word on the index",
    "no encoding of counts",
    "the same place twice",
    "a gene's name twice",
    "dense, truths",
    "no shape",
    "genes' names of 100,000 letters",
    "genes without a name",
    "places of three",
    "places that are not finite",
    "places of one dimension",
    "fewer places",
    "places of words",
    "all spots in one place",
    "spots' names that are numbers",
    "patients without names",
    "spots' names that are bytes of nothing",
    "counts that are huge",
    "counts of 2^62",
    "spots' names of two dimensions",
    "an unknown encoding of counts",
    "a row too many",
    "places of shares",
}
COMMANDS = {"train": ("train", *OWN), "check": ("check", "task")}


def cases() -> Iterator[Case]:
    """Every fault for both commands."""
    for command, words in COMMANDS.items():
        for kind, make in {**NO_FILES, **DAMAGED, "cut short": _cut, "cut by a byte": _cut_by_one}.items():
            fine = kind == "nothing" or command == "check"
            yield Case("section", f"{kind}, {command}", words, _replacing(make), copies=("task",), fine=fine)
        for kind, change in CHANGES.items():
            fine = kind in MAY_BE or command == "check"
            yield Case("section", f"{kind}, {command}", words, _changing(change), copies=("task",), fine=fine)


def _file(work: Path) -> Path:
    return work / "task" / "adata" / "P2S1.h5ad"


def _cut(path: Path) -> None:
    whole = path.with_name("P1S1.h5ad").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _cut_by_one(path: Path) -> None:
    path.write_bytes(path.with_name("P1S1.h5ad").read_bytes()[:-1])


def _replacing(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        _file(work).unlink()
        make(_file(work))

    return prepare


def _changing(change: Change) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        with h5py.File(_file(work), "r+") as file:
            change(file)

    return prepare
