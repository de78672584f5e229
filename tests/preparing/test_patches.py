"""Patches of a physical size, in files that the program reads; how large a px is, and who says so."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

import agl
from agl.data.dataset import open_dataset
from agl.data.reading.patches import open_patches
from agl.errors import UserError
from agl.preparing.images.image import SlideImage, levels_of
from agl.preparing.patches import Cut, write_patches
from agl.preparing.resolution import resolution
from agl.preparing.section import Genes, Section
from tests.preparing.forms import PX_APART, Truth, write_outs

NAMES = np.array([f"S{i}" for i in range(40)], dtype=object)


@pytest.fixture
def image() -> SlideImage:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    return SlideImage("i", levels_of([(400, 300)]), None, lambda level, x, y, w, h: pixels[y : y + h, x : x + w])


@pytest.fixture
def centres() -> np.ndarray:
    return np.random.default_rng(1).uniform(30, 270, (40, 2))


def test_a_patch_lies_around_its_spot(image: SlideImage, centres: np.ndarray, tmp_path: Path) -> None:
    write_patches(tmp_path / "p.h5", image, NAMES, centres, Cut(32.0, 32, 0.5))
    file = open_patches(tmp_path / "p.h5")
    assert file.shape == (32, 32, 3)
    assert file.rows.barcodes.tolist() == NAMES.tolist()
    assert file.rows.patch_size == 32
    assert np.abs(file.rows.corners + 16 - centres).max() <= 0.5
    with h5py.File(tmp_path / "p.h5") as h5:
        assert dict(h5["img"].attrs) == {
            "patch_size_src": 32.0,
            "patch_size_target": 32,
            "downsample": 1.0,
            "pixel_size": 0.5,
        }
        for (x, y), patch in zip(h5["coords"][:], h5["img"][:], strict=True):
            np.testing.assert_array_equal(patch, image.region(0, x, y, 32, 32))


def test_workers_and_their_order_change_nothing(image: SlideImage, centres: np.ndarray, tmp_path: Path) -> None:
    seen: list[int] = []
    for workers in (1, 3):
        write_patches(
            tmp_path / f"{workers}.h5",
            image,
            NAMES,
            centres,
            Cut(51.3, 20, 0.5),
            workers=workers,
            look=lambda spots, patches: seen.extend(spots.tolist()),
        )
    with h5py.File(tmp_path / "1.h5") as one, h5py.File(tmp_path / "3.h5") as three:
        np.testing.assert_array_equal(one["img"][:], three["img"][:])
    assert sorted(seen) == sorted([*range(40), *range(40)])


def test_patches_as_jpeg_are_read_like_others(image: SlideImage, centres: np.ndarray, tmp_path: Path) -> None:
    smooth = np.repeat(np.add.outer(np.arange(300) / 3, np.arange(400) / 4)[..., None], 3, axis=2).astype(np.uint8)
    soft = SlideImage("i", image.levels, None, lambda level, x, y, w, h: smooth[y : y + h, x : x + w])
    for name, quality in (("raw", None), ("jpeg", 90)):
        write_patches(tmp_path / f"{name}.h5", soft, NAMES, centres, Cut(32.0, 32, 0.5, quality))
    from agl.data.reading.patches import stored_images

    with h5py.File(tmp_path / "raw.h5") as raw, h5py.File(tmp_path / "jpeg.h5") as packed:
        assert np.abs(stored_images(raw)[0:40].astype(int) - stored_images(packed)[0:40]).max() <= 4


def section(pitch_um: float | None = 100.0, apart: float = 200.0, said: float | None = None) -> Section:
    xy = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2) * apart
    blank = np.array(["G"], dtype=object)
    return Section("S", "a source", NAMES[:25], xy, Genes(blank, blank), lambda: iter(()), (), None, pitch_um, said)


@pytest.mark.parametrize(
    ("given", "tagged", "of", "expected", "source"),
    [
        (None, 0.51, section(), 0.51, "tags of the image"),
        (None, None, section(), 0.5, "spacing of the spots"),
        (None, None, section(200.0), 1.0, "spacing of the spots"),
        (None, None, section(None, said=0.2125), 0.2125, "a source"),
        (0.7, 0.5, section(), 0.7, "--mpp"),
    ],
)
def test_the_size_of_a_px(given, tagged, of: Section, expected: float, source: str) -> None:
    found = resolution(of, tagged, given)
    assert (found.um_per_px, found.source) == (pytest.approx(expected), source)
    assert bool(found.remarks) == (given == 0.7)


def test_tags_that_contradict_the_spots_are_not_believed() -> None:
    found = resolution(section(), 0.25, None)
    assert (found.um_per_px, found.source) == (0.5, "spacing of the spots")
    assert "0.25 um wide by the tags of the image, 0.5 um by the spacing of the spots" in found.remarks[0]


def test_a_size_that_nobody_knows_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"give --mpp, um per px"):
        resolution(section(None), None, None)
    with pytest.raises(UserError, match=r"received 500; --mpp is um per px"):
        resolution(section(), None, 500)


@pytest.mark.parametrize("tagged", [True, False])
def test_from_a_folder_and_a_pyramid_to_a_dataset(truth: Truth, tmp_path: Path, tagged: bool, pictures: None) -> None:
    """60 um at 2.5 um a px are 24 px: plain crops around the spots, joined to their counts by the program's reader."""
    write_outs(tmp_path / "S1", truth)
    (tmp_path / "S1/slide.png").unlink()
    tags = {"resolution": (4000, 4000), "resolutionunit": "CENTIMETER"} if tagged else {}
    with tifffile.TiffWriter(tmp_path / "S1/scan.tif") as tiff:
        shared = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib", "metadata": None}
        tiff.write(truth.image, subifds=1, **shared, **tags)
        tiff.write(truth.image[::2, ::2], subfiletype=1, **shared)
    done = agl.prepare(tmp_path / "S1", tmp_path / "out", patch_um=60, patch_px=24, patient="P1", progress=False)
    assert done.failed == {}
    row = done.table.iloc[0]
    assert (row.section, row.patient, row.spots, row.genes) == ("S1", "P1", len(truth.kept), len(truth.genes))
    assert row.um_per_px == pytest.approx(100 / PX_APART)
    assert row.um_per_px_from == ("tags of the image" if tagged else "spacing of the spots")
    assert agl.check(tmp_path / "out", features="builtin").status != "error"
    dataset = open_dataset(tmp_path / "out", features="none", min_counts=0)
    found = dataset.patches.read(np.arange(len(dataset.spots)))
    for (x, y), patch in zip(dataset.spots[["x", "y"]].to_numpy(int), found, strict=True):
        np.testing.assert_array_equal(patch, truth.image[y - 12 : y + 12, x - 12 : x + 12])
    assert set(dataset.spots.patient) == {"P1"}
    with Image.open(tmp_path / "out/thumbnails/S1.jpg") as thumbnail:
        assert thumbnail.size == (truth.width, truth.height)
    with Image.open(tmp_path / "out/checks/S1.png") as picture:
        assert picture.width > 900


def test_px_of_a_level_of_the_right_resolution_are_copied(truth: Truth, tmp_path: Path) -> None:
    """120 um at 5 um a px from an image of 2.5 and its half: 24 px of the half, not blurred by half a px."""
    write_outs(tmp_path / "S1", truth)
    (tmp_path / "S1/slide.png").unlink()
    half = np.ascontiguousarray(truth.image[::2, ::2])
    with tifffile.TiffWriter(tmp_path / "S1/scan.tif") as tiff:
        shared = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib", "metadata": None}
        tiff.write(truth.image, subifds=1, **shared)
        tiff.write(half, subfiletype=1, **shared)
    agl.prepare(tmp_path / "S1", tmp_path / "out", patch_um=120, patch_px=24, progress=False)
    with h5py.File(tmp_path / "out/patches/S1.h5") as h5:
        for (x, y), patch, centre in zip(h5["coords"][:], h5["img"][:], truth.xy[truth.kept], strict=True):
            assert np.abs([x + 24, y + 24] - centre).max() <= 1
            whole = np.pad(half, ((30, 30), (30, 30), (0, 0)), constant_values=255)
            np.testing.assert_array_equal(patch, whole[y // 2 + 30 : y // 2 + 54, x // 2 + 30 : x // 2 + 54])


def test_without_the_full_image_its_small_copy_serves_and_says_so(truth: Truth, tmp_path: Path) -> None:
    write_outs(tmp_path / "S1", truth)
    (tmp_path / "S1/slide.png").unlink()
    done = agl.prepare(tmp_path / "S1", tmp_path / "out", patch_um=60, patch_px=24, progress=False)
    assert "cut from tissue_hires_image.png, a copy of the image reduced to 0.250" in " ".join(done.remarks["S1"])
    with h5py.File(tmp_path / "out/patches/S1.h5") as h5:
        for (x, y), patch in list(zip(h5["coords"][:], h5["img"][:], strict=True))[:10]:
            exact = truth.image[y : y + 24, x : x + 24].reshape(6, 4, 6, 4, 3).mean(axis=(1, 3))
            seen = patch.reshape(6, 4, 6, 4, 3).mean(axis=(1, 3))
            assert np.abs(seen - exact).mean() < 6
