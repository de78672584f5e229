"""Barcodes say which row is a spot's, places say whether that can be: another slide's files do not slip in."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import h5py
import numpy as np
import pytest

import agl.data.example
from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.formats.known import Formats
from agl.data.reading.h5ad import read_header
from agl.data.reading.join import Rows, Spots, join
from agl.data.reading.patches import open_patches
from agl.errors import UserError

EXAMPLE = Path(agl.data.example.__file__).parent
SLIDES = ("A1", "B4", "C2", "C3", "C5")
STEP, SIZE = 200.0, 160.0


def files(slide):
    yield Formats().open(EXAMPLE / f"embeddings/builtin_originals/{slide}.h5").rows
    yield open_patches(EXAMPLE / f"patches/{slide}.h5").rows


@pytest.fixture(scope="module")
def real():
    return {slide: read_header(slide, EXAMPLE / f"adata/{slide}.h5ad").spots for slide in SLIDES}


@pytest.mark.parametrize("slide", SLIDES)
def test_real_slides_have_no_doubts_about_their_own_files(real, slide):
    for rows in files(slide):
        assert join(real[slide], rows, min_matched=1.0).warnings == ()
        assert join(real[slide], replace(rows, barcodes=None, patch_size=162.5)).warnings == ()


@pytest.mark.parametrize(("slide", "other"), permutations(SLIDES, 2))
def test_real_slides_refuse_each_others_files(real, slide, other):
    """Images cropped to the array: places of B4, C2, C3 and C5 lie within .05 to .14 pitches of each other."""
    for rows in files(other):
        with pytest.raises(UserError, match=rf"Expected the places of slide '{slide}' in .*{other}\.h5, .*another"):
            join(real[slide], rows)


def lattice(rows=12, columns=12, jitter=0.0, seed=0):
    y, x = np.mgrid[:rows, :columns]
    xy = np.column_stack([x.ravel(), y.ravel()]) * STEP + 1000.0
    return xy + jitter * np.random.default_rng(seed).normal(size=xy.shape)


def joined(xy, corners, size=SIZE):
    names = np.array([f"b{i}" for i in range(len(xy))], dtype=object)
    return join(Spots("S", names, xy), Rows("f.h5", names, np.asarray(corners, dtype=float), size)).warnings


def silent(*args, **options):
    assert joined(*args, **options) == ()


def test_corners_and_centres_whatever_the_size():
    xy = lattice(jitter=7)
    for half in (0, 56, 80, 112, 250):
        silent(xy, np.rint(xy - half), size=None)
    silent(xy, np.rint(xy - SIZE / 2))
    silent(xy, np.rint(xy))  # centres beside a patch size
    fine = xy / 10  # Visium HD: patches are wider than a dozen bins
    silent(fine, np.rint(fine - 112), size=None)
    silent(fine, np.rint(fine - 112), size=224)


@pytest.mark.parametrize("level", [4, 16])
def test_places_rounded_at_a_coarser_level(level):
    xy = lattice(jitter=7)
    silent(xy, np.floor((xy - SIZE / 2) / level) * level)


def test_a_few_spots_and_places_that_say_nothing():
    silent(lattice()[:1], lattice()[:1] - 9000)  # one spot has no pitch
    silent(lattice()[:3], lattice()[:3] - SIZE / 2)
    silent(np.zeros((5, 2)), lattice()[:5])
    silent(lattice(), np.full((144, 2), np.nan))
    silent(lattice(), np.zeros((144, 3)))


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("move", [(3000, 3000), (-3000, 0), (0, 400)])
def test_moved_places_are_those_of_another_slide(move, size):
    with pytest.raises(
        UserError, match=r"px apart\) and fit them when moved by \(.*\) px.*own file, or remove the coord"
    ):
        joined(lattice(jitter=3), lattice(jitter=3) - SIZE / 2 - np.array(move), size)


def test_a_shift_below_a_pitch_is_said():
    for move in (60, 150):
        (words,) = joined(lattice(), lattice() - SIZE / 2 - [move, 0])
        assert f"lie {move} px from the spots" in words
        assert f"moved by ({move}, 0) px; were the patches cut at the spots?" in words
    silent(lattice(), lattice() - SIZE / 2 - [45, 0])


def test_rows_in_another_order_than_their_barcodes():
    xy = lattice(jitter=3)
    with pytest.raises(UserError, match="under no shift, scale and turn better than to"):
        joined(xy, np.random.default_rng(0).permutation(xy - SIZE / 2))
    with pytest.raises(UserError, match=r"fit them when moved by \(-?\d+, \d+\) px"):
        joined(lattice(), np.roll(lattice() - SIZE / 2, -1, axis=0))  # one row lost at the start


def test_some_rows_elsewhere_are_counted():
    corners = lattice() - SIZE / 2
    corners[[5, 9]] += 2000
    (words,) = joined(lattice(), corners)
    assert words.startswith("2 of 144 rows of f.h5 lie farther than the next spot from the spots of their barcodes (b")
    assert "2828 px): are they another slide's?" in words


@pytest.mark.parametrize("scale", [0.25, 0.05, 4.0])
def test_another_resolution_is_no_other_slide(scale):
    xy = lattice(jitter=7)
    (words,) = joined(xy, np.rint(scale * (xy - SIZE / 2)), size=None)
    assert f"multiplied by {1 / scale:.3g}" in words
    assert "at another resolution; rows were joined by barcode." in words


def test_places_that_are_numbered():
    for xy, places in ((lattice(), lattice() / STEP - 5), (lattice() / STEP - 5, lattice() - SIZE / 2)):
        (words,) = joined(xy, places, size=None)
        assert "at another resolution" in words


def test_a_scale_and_a_shift_are_not_believed():
    with pytest.raises(UserError, match=r"only when multiplied by 2 and moved by \(-4\d\d\d, -2\d\d\d\) px"):
        joined(lattice(), (lattice() + np.array([4000, 2000])) / 2)
    with pytest.raises(UserError, match="under no shift, scale and turn better than to"):
        joined(lattice(jitter=15), 0.5 * lattice(jitter=15, seed=1))


def test_x_and_y_exchanged_in_the_file_are_said():
    xy = lattice(9, 16)
    (words,) = joined(xy, (xy - SIZE / 2)[:, ::-1])
    assert "with x and y exchanged: either they or obsm['spatial'] are (y, x); rows were joined by barcode." in words


def test_irregularities_of_another_slide_on_the_same_array():
    (words,) = joined(lattice(jitter=10), np.rint(lattice(jitter=10, seed=1) - SIZE / 2))
    assert "after any shift, scale and turn, where one cut at them is off by rounding" in words


@pytest.mark.parametrize("what", ["embeddings/uni", "patches"])
def test_files_of_two_slides_exchanged(task, make_slide, what):
    """Whichever file it is, and whoever reads it."""
    slides = [make_slide(name, n_spots=20) for name in ("S1", "S2")]
    slides[1].barcodes = slides[0].barcodes
    slides[1].xy = slides[1].xy + np.array([700.0, 100.0])
    root, _ = task(slides)
    assert open_dataset(root, features="uni").report["warnings"] == []
    a, b, aside = (root / what / name for name in ("S1.h5", "S2.h5", "aside"))
    a.rename(aside), b.rename(a), aside.rename(b)
    with pytest.raises(UserError, match=rf"places of slide 'S1' in .*{what}/S1\.h5, its rows lie 70\d.\d px"):
        open_dataset(root, features="uni")
    errors = [finding for finding in check(root, features="uni").findings if finding.level == "error"]
    assert [finding.slide for finding in errors] == ["S1", "S2"]


def test_a_doubt_reaches_the_report_and_the_doctor(task):
    root, _ = task()
    with h5py.File(root / "embeddings/uni/S2.h5", "a") as h5:
        h5["coords"][:, 0] += 40
    dataset = open_dataset(root, features="uni")
    (words,) = dataset.report["warnings"]
    assert words.startswith("S2: The places in ")
    assert words[4:] in [f.message for f in check(root, features="uni").findings if f.level == "warning"]
