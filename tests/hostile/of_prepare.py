"""What sequencers and scanners write, broken: `agl prepare` on folders, images and options that cannot be."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from tests.hostile.broken_h5 import Change, at, edit, put, without
from tests.hostile.kinds import DAMAGED, NO_FILES
from tests.hostile.of_paths import ODD
from tests.hostile.stage import Case
from tests.preparing.forms import Truth, write_outs

Make = Callable[[Path], None]
MATRIX, PLACES = "filtered_feature_bc_matrix.h5", "spatial/tissue_positions.csv"
FACTORS = "spatial/scalefactors_json.json"
SAMPLE = ("prepare", "sample/outs", "--out", "made")
WITH_IMAGE = (*SAMPLE, "--image", "sample/slide.png")
OPTIONS = ("--patch-um", "--patch-px", "--mpp", "--bin-um", "--jpeg", "--workers")
NUMBERS = {
    "a word": "many", "nothing": "", "not a number": "nan", "infinity": "inf", "a negative number": "-7", "zero": "0",
    "a huge number": "9" * 30, "a tiny number": "1e-300",
}  # fmt: skip
FINE = {("--bin-um", "zero"), ("--bin-um", "a tiny number"), ("--mpp", "a tiny number")}
MATRICES: dict[str, Change] = {
    "no matrix": without("matrix"),
    "no barcodes": without("matrix/barcodes"),
    "no features": without("matrix/features"),
    "no names": without("matrix/features/name"),
    "no counts": without("matrix/data"),
    "counts of words": put("matrix/data", np.full(3, b"a")),
    "a negative count": edit("matrix/data", at(0, -3)),
    "fractions": edit("matrix/data", lambda values: values + 0.5),
    "an index out of range": edit("matrix/indices", at(3, 10**6)),
    "a negative index": edit("matrix/indices", at(3, -1)),
    "starts that fall": edit("matrix/indptr", lambda values: values[::-1]),
    "starts beyond the counts": edit("matrix/indptr", at(-1, 10**9)),
    "starts cut short": edit("matrix/indptr", lambda values: values[:-2]),
    "a vast shape": edit("matrix/shape", lambda values: values.astype(np.int64) * 10**9),
    "another shape": edit("matrix/shape", lambda values: values[::-1]),
    "a shape of one number": edit("matrix/shape", lambda values: values[:1]),
    "a barcode twice": edit("matrix/barcodes", lambda values: np.repeat(values[:1], len(values))),
    "barcodes of others": edit(
        "matrix/barcodes", lambda values: np.array([f"X{i}".encode() for i in range(len(values))])
    ),
    "barcodes that are numbers": edit("matrix/barcodes", lambda values: np.arange(float(len(values)))),
    "only antibodies": edit("matrix/features/feature_type", lambda values: np.full(len(values), b"Antibody Capture")),
    "only zeros": edit("matrix/data", lambda values: values * 0),
}
TABLES: dict[str, Callable[[str], str]] = {
    "a header alone": lambda text: text.splitlines()[0] + "\n",
    "words for places": lambda text: "\n".join(_column(text, 4, "here")),
    "places that are not finite": lambda text: "\n".join(_column(text, 4, "nan")),
    "places beyond all measure": lambda text: "\n".join(_column(text, 4, "1e300")),
    "negative places": lambda text: "\n".join(_column(text, 4, "-900")),
    "one place for all": lambda text: "\n".join(_column("\n".join(_column(text, 4, "50")), 5, "50")),
    "all off the tissue": lambda text: "\n".join(_column(text, 1, "0")),
    "a tissue of words": lambda text: "\n".join(_column(text, 1, "perhaps")),
    "barcodes of others": lambda text: text.replace("-1,", "-7,"),
    "a spot twice": lambda text: text + text.splitlines()[-1] + "\n",
    "half of its columns": lambda text: "\n".join(line.rsplit(",", 3)[0] for line in text.splitlines()),
    "another delimiter": lambda text: text.replace(",", ";"),
    "a million columns": lambda text: "a," * 1_000_000 + "\n",
}
SCALES: dict[str, object] = {
    "an empty object": {},
    "a list": [1, 2],
    "a word": "half",
    "nothing": None,
    "scales of words": {"tissue_hires_scalef": "a", "spot_diameter_fullres": "b"},
    "scales of zero": {"tissue_hires_scalef": 0, "spot_diameter_fullres": 0},
    "negative scales": {"tissue_hires_scalef": -1, "spot_diameter_fullres": -1},
    "scales that are not finite": {"tissue_hires_scalef": float("nan"), "spot_diameter_fullres": float("inf")},
    "vast scales": {"tissue_hires_scalef": 1e300, "spot_diameter_fullres": 1e300},
    "scales in lists": {"tissue_hires_scalef": [1], "spot_diameter_fullres": {"a": 1}},
}


def cases() -> Iterator[Case]:
    """Sources, their files, images, options and places."""
    for kind, make in {**NO_FILES, **DAMAGED}.items():
        yield Case("prepare", f"the source is {kind}", ("prepare", "it", "--out", "made"), _at("it", make))
        for name in (MATRIX, PLACES, FACTORS, "spatial/tissue_hires_image.png"):
            beside = name != MATRIX and name != PLACES
            yield Case("prepare", f"{Path(name).name} is {kind}", SAMPLE, _sample(f"outs/{name}", make), fine=beside)
        yield Case("prepare", f"the image is {kind}", WITH_IMAGE, _sample("slide.png", make))
        patients = (*SAMPLE, "--patient", "patients.csv")
        yield Case("prepare", f"the table of patients is {kind}", patients, _sample("../patients.csv", make))
    for kind, change in MATRICES.items():
        yield Case("prepare", f"a matrix with {kind}", SAMPLE, _matrix(change), fine=kind == "only zeros")
    for kind, table in TABLES.items():
        fine = kind in ("negative places", "a spot twice", "one place for all", "another delimiter")
        yield Case("prepare", f"positions: {kind}", SAMPLE, _text(PLACES, table), fine=fine)
    for kind, tree in SCALES.items():
        text = json.dumps(tree)
        yield Case("prepare", f"scale factors: {kind}", SAMPLE, _text(FACTORS, lambda _, text=text: text), fine=True)
    for kind, picture in PICTURES.items():
        yield Case("prepare", f"an image: {kind}", WITH_IMAGE, _sample("slide.png", picture))
    for option in OPTIONS:
        for kind, word in NUMBERS.items():
            fine = (option, kind) in FINE
            yield Case("prepare", f"{option} is {kind}", (*WITH_IMAGE, f"{option}={word}"), _sample(), fine=fine)
    for kind, path in ODD.items():
        fine = kind in ("300 letters", "a slash at the end", "a home that is none", "an empty word")
        for place in ("--image", "--patient", *(["--out"] if kind != "dots" else [])):
            words = ("prepare", "sample/outs", *(() if place == "--out" else ("--out", "made")), f"{place}={path}")
            yield Case("prepare", f"{place} is {kind}", words, _sample(), fine=fine or place == "--patient")
    for kind, make in NO_FILES.items():
        fine = kind in ("nothing", "a folder")
        yield Case("prepare", f"in the place of --out is {kind}", SAMPLE, _sample("../made", make), fine=fine)
    itself = ("prepare", "sample/outs", "--out", "sample/outs")
    yield Case("prepare", "the folder is its own source", itself, _sample(), fine=True)
    yield Case("prepare", "one section twice", ("prepare", "sample/outs", *SAMPLE[1:]), _sample())


def _tiff_that_promises(path: Path) -> None:
    """A header of a picture of 2^31 px a side, and nothing else."""
    side = 2**31
    tags = {
        256: (4, side),
        257: (4, side),
        258: (3, 8),
        259: (3, 1),
        262: (3, 1),
        273: (4, 8),
        277: (3, 1),
        279: (4, 9),
    }
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in tags.items())
    path.write_bytes(b"II*\x00" + struct.pack("<IH", 8, len(tags)) + body + bytes(4))


def _bomb(path: Path) -> None:
    """100,000 x 100,000 px of nothing, in some kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def _cut(path: Path) -> None:
    _picture(900, 900)(path)
    path.write_bytes(path.read_bytes()[:-400])


def _picture(width: int, height: int, mode: str = "RGB") -> Make:
    return lambda path: Image.new(mode, (width, height)).save(path, "PNG")


PICTURES: dict[str, Make] = {
    "a bomb": _bomb,
    "cut short": _cut,
    "one pixel": _picture(1, 1),
    "far too small": _picture(30, 30),
    "a TIFF that promises": _tiff_that_promises,
}


def _column(text: str, column: int, value: str) -> Iterator[str]:
    """The table with one column of one value, below its header."""
    header, *lines = text.splitlines()
    yield header
    for line in lines:
        cells = line.split(",")
        cells[column] = value
        yield ",".join(cells)


def _at(name: str, make: Make) -> Make:
    return lambda work: make(work / name)


def _sample(name: str | None = None, make: Make | None = None) -> Make:
    """A small section as Space Ranger writes it, one of its files replaced."""

    def prepare(work: Path) -> None:
        write_outs(work / "sample", Truth(side=6))
        if name is not None and make is not None:
            path = (work / "sample" / name).resolve()
            path.unlink(missing_ok=True)
            make(path)

    return prepare


def _matrix(change: Change) -> Make:
    def prepare(work: Path) -> None:
        _sample()(work)
        with h5py.File(work / "sample" / "outs" / MATRIX, "r+") as file:
            change(file)

    return prepare


def _text(name: str, change: Callable[[str], str]) -> Make:
    def prepare(work: Path) -> None:
        _sample()(work)
        path = work / "sample" / "outs" / name
        path.write_text(change(path.read_text()))

    return prepare
