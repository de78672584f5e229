"""x and y exchanged: told by the fit, by the pixel columns and the array together, never by labels alone."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest

import agl.data.example
from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.formats.known import Formats
from agl.data.reading.h5ad import read_header
from agl.data.reading.join import Rows, Spots, join
from agl.errors import UserError

STEP, SIZE = 200.0, 160.0


def grid(rows, columns):
    y, x = np.mgrid[:rows, :columns]
    return np.column_stack([x.ravel(), y.ravel()]).astype(float)


def warnings(xy, true, pixels=None, lattice=None, tolerance=None):
    """Spots that obsm says are at `xy`, patches cut at their true places."""
    rows = Rows("f.h5", None, true - SIZE / 2, SIZE)
    names = np.array([f"b{i}" for i in range(len(xy))], dtype=object)
    return join(Spots("S", names, xy, pixels, lattice), rows, tolerance=tolerance, min_matched=0.5).warnings


SQUARE = grid(12, 12)
TRUE = SQUARE * STEP + 1000
WRONG = TRUE[:, ::-1]


@pytest.mark.parametrize("shape", [(8, 14), (11, 12)])
def test_a_fit_that_tells_is_enough(shape):
    true = grid(*shape) * STEP + 1000
    assert warnings(true, true) == ()
    with pytest.raises(
        UserError, match=r'match with x and y exchanged, .*: adata\.obsm\["spatial"\] = .*\[:, ::-1\]\.$'
    ):
        warnings(true[:, ::-1], true)
    assert warnings(true, true, pixels=true[:, ::-1]) == ()  # labels alone are not believed


def test_a_clear_fit_against_the_labels_blames_the_file():
    true = grid(8, 14) * STEP + 1000
    with pytest.raises(UserError, match="agrees with obsm, so mend the file's coordinates, which seem to be"):
        warnings(true, true[:, ::-1], pixels=true)


def test_a_hexagonal_array_does_not_fit_its_mirror_image():
    index = grid(12, 12)
    true = np.column_stack([index[:, 0] * 100 + (index[:, 1] % 2) * 50, index[:, 1] * 86.6]) + 1000
    assert warnings(true, true) == ()
    with pytest.raises(UserError, match="exchange those of obsm"):
        warnings(true[:, ::-1], true)


def test_a_square_is_told_by_its_origin():
    true = TRUE + np.array([0, 20])
    assert warnings(true, true) == ()
    with pytest.raises(UserError, match="exchange those of obsm"):
        warnings(true[:, ::-1], true)


def test_pixel_columns_and_array_together_contradict():
    with pytest.raises(
        UserError, match=r"received \(y, x\) by obs\['pxl_col_in_fullres'\], .*array_row grows; exchange"
    ):
        warnings(WRONG, TRUE, pixels=TRUE, lattice=SQUARE)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"pixels": WRONG}, "say (y, x); see that obsm['spatial'] is (x, y)."),
        ({"pixels": WRONG, "lattice": SQUARE}, "say (y, x) (array_row and array_col agree with obsm); see"),
        ({"lattice": SQUARE[:, ::-1]}, "array_row grows with x; see"),
        ({}, "nothing in obs (pxl_col_in_fullres, array_row) tells which is right; see"),
    ],
)
def test_what_cannot_be_decided_is_said(known, words):
    (sentence,) = warnings(TRUE, TRUE, **known)
    assert sentence.startswith("The spots match f.h5 as well with x and y exchanged, and ")
    assert words in sentence


@pytest.mark.parametrize("known", [{"pixels": TRUE}, {"lattice": SQUARE}, {"pixels": TRUE, "lattice": SQUARE}])
def test_what_agrees_is_silent(known):
    assert warnings(TRUE, TRUE, **known) == ()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_image_is_no_exchange(turns):
    """By 90 degrees array_row grows along x, but the array is not mirrored."""
    middle, quarter = TRUE.mean(axis=0), np.array([[0.0, 1.0], [-1.0, 0.0]])
    turned = (TRUE - middle) @ np.linalg.matrix_power(quarter, turns) + middle
    assert warnings(turned, turned, pixels=turned, lattice=SQUARE) == ()
    assert warnings(turned, turned, lattice=SQUARE) == ()


def test_tiles_that_fit_by_chance_blame_nobody():
    """Dense tiles match in either order; which matches a few spots more is chance."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:3400:130, 0:3400:130]
    tiles = np.column_stack([x.ravel(), y.ravel()]) + 37.0
    for _ in range(20):
        xy = TRUE + rng.normal(size=TRUE.shape) * 20
        warnings(xy, tiles, pixels=xy, lattice=SQUARE, tolerance=75)


def test_real_sections_without_barcodes():
    """Tissue is no square, and spots are not on a perfect grid: the fit tells."""
    root = Path(agl.data.example.__file__).parent
    for slide in ("A1", "B4", "C2"):
        spots = read_header(slide, root / f"adata/{slide}.h5ad").spots
        corners = Formats().open(root / f"embeddings/builtin_originals/{slide}.h5").rows.corners
        rows = Rows("f.h5", None, corners, 122.0 if slide == "A1" else 162.8)
        assert join(spots, rows).warnings == ()
        with pytest.raises(UserError, match="with x and y exchanged"):
            join(Spots(slide, spots.barcodes, spots.xy[:, ::-1]), rows)


def test_the_doctor_and_the_import_read_the_same(task, make_slide, write_h5ad):
    import h5py

    slide = make_slide("S1", n_spots=16)
    root, _ = task([slide])
    with h5py.File(root / "embeddings/uni/S1.h5", "a") as h5:
        del h5["barcodes"]
        h5["coords"].attrs["patch_size_level0"] = 0.0
    assert open_dataset(root, features="uni").report["warnings"] == []
    adata = anndata.read_h5ad(root / "adata/S1.h5ad")
    adata.obs["pxl_col_in_fullres"], adata.obs["pxl_row_in_fullres"] = adata.obsm["spatial"].T
    adata.obsm["spatial"] = adata.obsm["spatial"][:, ::-1].copy()
    adata.write_h5ad(root / "adata/S1.h5ad")
    (root / "patches/S1.h5").unlink()
    with pytest.raises(UserError, match="array_row grows; exchange them") as caught:
        open_dataset(root, features="uni")
    assert str(caught.value) in [finding.message for finding in check(root, features="uni").findings]
