"""Sections (.h5ad) that are none, are damaged, or say what cannot be, for `train` and for `check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.hostile.kinds import DAMAGED, NO_FILES
from tests.hostile.stage import OWN, Case

Change = Callable[[Any], None]


def put(place: str, values: Any, **attributes: Any) -> Change:
    """Write a dataset in the place of whatever is there, its attributes kept."""

    def change(file: Any) -> None:
        kept = dict(file[place].attrs) if place in file else {}
        if place in file:
            del file[place]
        file.create_dataset(place, data=values)
        for name, value in {**kept, **attributes}.items():
            file[place].attrs[name] = value

    return change


def edit(place: str, how: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Change the values of a dataset."""
    return lambda file: put(place, how(file[place][...]))(file)


def without(*places: str) -> Change:
    """Take something away."""

    def change(file: Any) -> None:
        for place in places:
            del file[place]

    return change


def said(place: str, **attributes: Any) -> Change:
    """Change what is said about something; None takes it away."""

    def change(file: Any) -> None:
        for name, value in attributes.items():
            key = name.replace("_", "-") if name != "_index" else name
            if value is None:
                del file[place].attrs[key]
            else:
                file[place].attrs[key] = value

    return change


def at(position: int, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    """One value replaced."""

    def how(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values.reshape(-1)[position] = value
        return values

    return how


def _dense(file: Any, values: np.ndarray) -> None:
    del file["X"]
    file.create_dataset("X", data=values)
    file["X"].attrs["encoding-type"], file["X"].attrs["encoding-version"] = "array", "0.2.0"


def _column_wise(indices: Callable[[np.ndarray], np.ndarray], indptr: Callable[[np.ndarray], np.ndarray]) -> Change:
    """The same counts column by column, then broken."""

    def change(file: Any) -> None:
        from scipy import sparse

        rows = sparse.csr_matrix(tuple(file["X"][name][...] for name in ("data", "indices", "indptr")), shape=(40, 150))
        columns = rows.tocsc()
        for name, values in (
            ("data", columns.data),
            ("indices", indices(columns.indices)),
            ("indptr", indptr(columns.indptr)),
        ):
            put(f"X/{name}", values)(file)
        file["X"].attrs["encoding-type"] = "csc_matrix"

    return change


def _vast(place: str, shape: tuple[int, ...], dtype: str = "i4") -> Change:
    """A dataset that says it is vast and holds nothing: compressed, it takes no room."""

    def change(file: Any) -> None:
        kept = dict(file[place].attrs) if place in file else {}
        if place in file:
            del file[place]
        file.create_dataset(place, shape, dtype, chunks=True, compression="gzip")
        for name, value in kept.items():
            file[place].attrs[name] = value

    return change


def _linked(place: str, link: Any) -> Change:
    def change(file: Any) -> None:
        del file[place]
        file[place] = link

    return change


def same(values: np.ndarray) -> np.ndarray:
    """As it is."""
    return values


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
    "column-wise, a place beyond the spots": _column_wise(at(3, 40), same),
    "column-wise, a place far beyond": _column_wise(at(3, 2**31 - 1), same),
    "column-wise, a negative place": _column_wise(at(3, -5), same),
    "column-wise, columns that fall": _column_wise(same, at(75, 0)),
    "column-wise, columns that end late": _column_wise(same, at(150, 10**9)),
    "dense, of three dimensions": lambda file: _dense(file, np.ones((40, 150, 2), np.int32)),
    "dense, of one": lambda file: _dense(file, np.ones(40, np.int32)),
    "dense, a number": lambda file: _dense(file, np.array(3)),
    "dense, words": lambda file: _dense(file, np.full((40, 150), b"a")),
    "dense, too wide": lambda file: _dense(file, np.ones((40, 151), np.int32)),
    "dense, too short": lambda file: _dense(file, np.ones((39, 150), np.int32)),
    "dense, truths": lambda file: _dense(file, np.ones((40, 150), bool)),
    "dense, vast and empty": _vast("X", (2**33, 2**33)),
    "vast counts": _vast("X/data", (2**40,)),
    "vast places": _vast("X/indices", (2**40,)),
    "vast rows": _vast("X/indptr", (2**40,)),
    "a vast index of spots": _vast("obs/barcode", (2**40,), "S16"),
    "no spots": lambda file: [edit("X/indptr", lambda v: v[:1])(file), edit("obs/barcode", lambda v: v[:0])(file)] and None,
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
    "two patients": lambda file: [
        put("obs/patient/categories", np.array([b"P1", b"P2"]))(file), edit("obs/patient/codes", at(3, 1))(file),
    ] and None,  # fmt: skip
    "a link to another file": _linked("X", h5py.ExternalLink("/etc/passwd", "/X")),
    "a link to a file that is not there": _linked("X", h5py.ExternalLink("nowhere.h5", "/X")),
    "a link to itself": _linked("X", h5py.SoftLink("/X")),
    "a link to nowhere": _linked("var", h5py.SoftLink("/nowhere")),
    "a type in place of the counts": lambda file: [without("X")(file), file.__setitem__("X", np.dtype("f8"))] and None,
}  # fmt: skip
MAY_BE = {  # what may also be read as it is meant
    "no word on the index", "no encoding of counts", "the same place twice", "a gene's name twice", "dense, truths", "no shape",
    "genes' names of 100,000 letters", "genes without a name", "places of three", "places that are not finite",
    "places of one dimension", "fewer places", "places of words", "all spots in one place", "spots' names that are numbers",
    "patients without names", "spots' names that are bytes of nothing", "counts that are huge", "counts of 2^62",
    "spots' names of two dimensions", "an unknown encoding of counts", "a row too many", "places of shares",
}  # fmt: skip
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
