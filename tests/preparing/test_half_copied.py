"""Broken and half-copied folders of Space Ranger: each is one sentence that says what to do, and exit status 2."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.preparing.forms import Truth, positions, write_matrix, write_mtx, write_outs

MATRIX = "filtered_feature_bc_matrix.h5"
Spoil = Callable[[Path, Truth], object]


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def table(outs: Path, change: Callable[[pd.DataFrame], pd.DataFrame], truth: Truth) -> None:
    change(positions(truth)).to_csv(outs / "spatial/tissue_positions.csv", index=False)


def as_mtx(outs: Path, truth: Truth) -> Path:
    (outs / MATRIX).unlink()
    write_mtx(outs / "filtered_feature_bc_matrix", truth, truth.kept)
    return outs / "filtered_feature_bc_matrix"


def edit(outs: Path, change: Callable[[h5py.Group], object]) -> None:
    with h5py.File(outs / MATRIX, "a") as h5:
        change(h5["matrix"])


def replaced(group: h5py.Group, key: str, values: np.ndarray) -> None:
    del group[key]
    group[key] = values


def without_spatial(outs: Path, _: Truth) -> None:
    for path in (outs / "spatial").iterdir():
        path.unlink()
    (outs / "spatial").rmdir()


BROKEN: dict[str, tuple[Spoil, str]] = {
    "no matrix": (lambda o, t: (o / MATRIX).unlink(), "Expected filtered_feature_bc_matrix.h5 in"),
    "no spatial": (without_spatial, "Expected the folder `spatial` in"),
    "no places": (lambda o, t: (o / "spatial/tissue_positions.csv").unlink(), "Expected tissue_positions.csv"),
    "half a matrix": (lambda o, t: cut(o / MATRIX), "truncated or damaged"),
    "an empty matrix": (lambda o, t: (o / MATRIX).write_bytes(b""), "is empty (0 bytes)"),
    "a pointer to a matrix": (
        lambda o, t: (o / MATRIX).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer",
    ),
    "no features": (lambda o, t: edit(o, lambda g: g.__delitem__("features")), "10x's groups matrix/features"),
    "fewer barcodes": (lambda o, t: edit(o, lambda g: replaced(g, "barcodes", g["barcodes"][:5])), "5 barcodes"),
    "features beyond": (
        lambda o, t: edit(o, lambda g: replaced(g, "indices", g["indices"][:] + 1000)),
        "Expected features 0 to",
    ),
    "fractions": (lambda o, t: edit(o, lambda g: replaced(g, "data", g["data"][:] / 3)), "Expected raw counts"),
    "zeros": (lambda o, t: edit(o, lambda g: replaced(g, "data", g["data"][:] * 0)), "received none but zeros"),
    "antibodies alone": (
        lambda o, t: edit(
            o, lambda g: replaced(g["features"], "feature_type", np.array([b"Antibody Capture"] * g["shape"][0]))
        ),
        "received Antibody Capture",
    ),
    "places of another sample": (lambda o, t: table(o, lambda p: p.assign(barcode="X" + p.barcode), t), "none of them"),
    "half the places": (lambda o, t: table(o, lambda p: p[: len(p) // 2], t), "copy both from one sample"),
    "places cut in a line": (lambda o, t: cut(o / "spatial/tissue_positions.csv", 0.505), "Expected"),
    "a column less": (lambda o, t: table(o, lambda p: p.drop(columns="array_row"), t), "has 5 fields"),
    "another header": (lambda o, t: table(o, lambda p: p.rename(columns={"in_tissue": "t"}), t), "in_tissue are not"),
    "no number": (lambda o, t: table(o, lambda p: p.assign(array_row="x"), t), "Expected numbers for every spot"),
    "nothing on tissue": (lambda o, t: table(o, lambda p: p.assign(in_tissue=0), t), "in_tissue = 0 for all"),
    "half the scales": (lambda o, t: cut(o / "spatial/scalefactors_json.json"), "Expected scale factors as JSON"),
    "a list of scales": (
        lambda o, t: (o / "spatial/scalefactors_json.json").write_text(json.dumps([1])),
        "Expected scale factors as JSON",
    ),
    "half a small picture": (
        lambda o, t: (o / "spatial/tissue_hires_image.png").write_bytes(b"\x89PNG\r\n\x1a\n"),
        "Expected a picture at",
    ),
    "half an image": (lambda o, t: cut(o.parent / "slide.png"), "Expected an image at"),
    "a turned image": (
        lambda o, t: Image.fromarray(np.rot90(t.image).copy()).save(o.parent / "slide.png"),
        "which is turned",
    ),
    "an image of another size": (
        lambda o, t: Image.fromarray(t.image[::2, ::2].copy()).save(o.parent / "slide.png"),
        "the file that Space Ranger was given",
    ),
    "spots beside the image": (lambda o, t: table(o, lambda p: p.assign(pxl_row_in_fullres=9e4), t), "lie outside"),
    "two images": (lambda o, t: Image.fromarray(t.image).save(o.parent / "b.png"), "name it with --image"),
    "no barcodes.tsv": (lambda o, t: (as_mtx(o, t) / "barcodes.tsv.gz").unlink(), "Expected barcodes.tsv"),
    "half a matrix.mtx": (lambda o, t: cut(as_mtx(o, t) / "matrix.mtx.gz"), "Matrix Market's form"),
    "half the features.tsv": (lambda o, t: cut(as_mtx(o, t) / "features.tsv.gz"), "Expected lines of text"),
    "other features": (
        lambda o, t: (as_mtx(o, t) / "features.tsv.gz").write_bytes(gzip.compress(b"E1\tG1\tGene Expression\n")),
        "Expected 1 features x",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_one_sentence(agl, tmp_path: Path, case: str) -> None:
    truth = Truth(side=5)
    outs = write_outs(tmp_path / "S1", truth)
    spoil, part = BROKEN[case]
    spoil(outs, truth)
    status, _, err = agl("prepare", "S1", "--out", "out", "--patch-um", 60, "--patch-px", 16)
    assert status == 2, err
    said = [line for line in err.splitlines() if line.startswith("agl: ")]
    assert len(said) == 1, err
    assert part in said[0], err
    assert "Traceback" not in err
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("name", ["scalefactors_json.json", "tissue_hires_image.png", "tissue_lowres_image.png"])
def test_what_is_not_needed_may_be_missing(agl, tmp_path: Path, name: str) -> None:
    outs = write_outs(tmp_path / "S1", Truth(side=5))
    (outs / "spatial" / name).unlink()
    assert agl("prepare", "S1", "--out", "out", "--patch-um", 60, "--patch-px", 16)[0] == 0
    assert (tmp_path / "out/patches/S1.h5").is_file()


def test_a_matrix_of_probes_with_other_kinds_keeps_its_genes(agl, tmp_path: Path) -> None:
    truth = Truth(side=5)
    outs = write_outs(tmp_path / "S1", truth)
    write_matrix(outs / MATRIX, truth, truth.kept, antibody=False)
    assert agl("prepare", "S1", "--out", "out", "--patch-um", 60, "--patch-px", 16)[0] == 0
