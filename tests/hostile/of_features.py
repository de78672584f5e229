"""Feature files (.h5, .npy, .pt) that are none, hold code, or do not fit their slide."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from tests.hostile.broken_h5 import Change, edit, linked, put, several, vast, without
from tests.hostile.kinds import DAMAGED, NO_FILES, Attack
from tests.hostile.stage import OWN, Case

CHANGES: dict[str, Change] = {
    "no features": without("embeddings"),
    "no barcodes": without("barcodes", "coords"),
    "features of words": put("embeddings", np.full((40, 256), b"a")),
    "features of one dimension": edit("embeddings", lambda values: values[:, 0]),
    "features of three dimensions": edit("embeddings", lambda values: values[:, :, None]),
    "no columns": edit("embeddings", lambda values: values[:, :0]),
    "no rows": several(*(edit(name, lambda values: values[:0]) for name in ("embeddings", "barcodes", "coords"))),
    "fewer rows than barcodes": edit("embeddings", lambda values: values[:-1]),
    "fewer columns than other slides": edit("embeddings", lambda values: values[:, :-1]),
    "not finite": edit("embeddings", lambda values: np.where(np.arange(256) == 3, np.nan, values)),
    "infinite": edit("embeddings", lambda values: np.where(np.arange(256) == 3, np.inf, values)),
    "complex": edit("embeddings", lambda values: values.astype(complex)),
    "vast and empty": vast("embeddings", (2**40, 256), "f4"),
    "wide and empty": vast("embeddings", (40, 2**40), "f4"),
    "a barcode twice": edit("barcodes", lambda values: np.repeat(values[:1], len(values), 0)),
    "barcodes of others": edit("barcodes", lambda values: np.array([[f"X{i}".encode()] for i in range(40)])),
    "barcodes of numbers": put("barcodes", np.arange(40.0)[:, None]),
    "barcodes without letters": edit("barcodes", lambda values: np.full((40, 1), b" ")),
    "a type in place of features": linked("embeddings", np.dtype("f4")),
    "a link to itself": linked("embeddings", h5py.SoftLink("/embeddings")),
}


def _npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def _header(text: str) -> bytes:
    """A .npy file whose header says what it likes."""
    line = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


def _pt(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


ARRAYS: dict[str, bytes] = {
    "objects": _npy(np.array([Attack()], dtype=object), allow_pickle=True),
    "words": _npy(np.full((40, 8), "a")),
    "a number": _npy(np.array(3.0)),
    "a line": _npy(np.zeros(40)),
    "three dimensions": _npy(np.zeros((40, 8, 2))),
    "no rows": _npy(np.zeros((0, 8))),
    "not finite": _npy(np.full((40, 8), np.nan)),
    "fields": _npy(np.zeros(40, dtype=[("a", "f4"), ("b", "i4")])),
    "dates": _npy(np.zeros((40, 8), dtype="M8[D]")),
    "cut short": _npy(np.zeros((40, 8)))[:200],
    "a header that promises more": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000000, 8), }"),
    "a negative shape": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8), }"),
    "a header that is code": _header("__import__('os').system('touch HACKED')"),
    "a header of brackets": _header("(" * 100),
    "an archive": b"PK\x05\x06" + bytes(18),
}
TENSORS: dict[str, bytes] = {
    "code": _pt(Attack()),
    "code in a dictionary": _pt({"embeddings": Attack()}),
    "a bare pickle": pickle.dumps(Attack()),
    "a module": _pt(torch.nn.Linear(2, 2)),
    "words": _pt({"a": "b"}),
    "a list": _pt([1, 2, 3]),
    "nothing": _pt(None),
    "a number": _pt(torch.tensor(3.0)),
    "a line": _pt(torch.zeros(40)),
    "three dimensions": _pt(torch.zeros(40, 8, 2)),
    "complex": _pt(torch.zeros(40, 8, dtype=torch.complex64)),
    "sparse": _pt(torch.eye(40).to_sparse()),
    "not finite": _pt({"embeddings": torch.full((40, 8), float("nan")), "barcodes": [f"B{i}" for i in range(40)]}),
    "fewer names than rows": _pt({"embeddings": torch.zeros(40, 8), "barcodes": ["a"]}),
    "names that are numbers": _pt({"embeddings": torch.zeros(40, 8), "barcodes": torch.zeros(40, 8)}),
    "no memory": _pt(torch.zeros(1).expand(40, 8)),
    "on no device": _pt(torch.zeros(40, 8, device="meta")),
    "cut short": _pt(torch.zeros(40, 8))[:-40],
}


def cases() -> Iterator[Case]:
    """One slide's file is hostile, the others are well."""
    words = ("train", *OWN)
    for kind, make in {**NO_FILES, **DAMAGED}.items():
        yield Case("features", f".h5 is {kind}", words, _replacing(".h5", make), copies=("task",))
        for ending in (".npy", ".pt"):
            yield Case("features", f"{ending} is {kind}", words, _replacing(ending, make), copies=("task",))
    for kind, change in CHANGES.items():
        yield Case(
            "features", f".h5 with {kind}", words, _changing(change), copies=("task",), fine=kind == "no barcodes"
        )
    for ending, contents in ((".npy", ARRAYS), (".pt", TENSORS)):
        for kind, content in contents.items():
            yield Case("features", f"{ending} of {kind}", words, _replacing(ending, _bytes(content)), copies=("task",))


def _bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def _replacing(ending: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    """The file of one slide gives way to another, and its rows are named beside it where such files are."""

    def prepare(work: Path) -> None:
        old = work / "task" / "embeddings" / "latent" / "P2S1.h5"
        with h5py.File(old) as file:
            names = [name.decode() for name in file["barcodes"][:, 0]]
        old.unlink()
        make(old.with_suffix(ending))
        if ending != ".h5":
            old.with_suffix(".barcodes.txt").write_text("\n".join(names))

    return prepare


def _changing(change: Change) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        with h5py.File(work / "task" / "embeddings" / "latent" / "P2S1.h5", "r+") as file:
            change(file)

    return prepare
