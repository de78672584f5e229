"""An image laid the wrong way on its spots is seen, the right way is not doubted: drawn and real sections."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from PIL import Image

import agl
from agl.data.example import example_folder
from agl.data.geometry import pitch
from agl.preparing.fitting import WAYS, doubts, fits, laid
from tests.preparing.forms import PX_APART, Truth, write_outs


@pytest.fixture(scope="module")
def drawn() -> tuple[Truth, dict]:
    truth = Truth(side=12)
    inputs = {"picture": truth.image[::4, ::4], "scale": 0.25, "size": (truth.width, truth.height), "side": PX_APART}
    return truth, inputs | {"totals": truth.counts.sum(axis=1)}


def test_the_correlation_is_that_of_counts_and_stain(drawn) -> None:
    truth, inputs = drawn
    given = fits(xy=truth.xy, **inputs)[0]
    half = PX_APART // 2
    squares = [truth.image[y - half : y + half, x - half : x + half].astype(float) for x, y in truth.xy]
    stain = [-np.log10((square + 1) / 256).mean() for square in squares]
    expected = np.corrcoef(stain, np.log1p(truth.counts.sum(axis=1)))[0, 1]
    assert given.correlation == pytest.approx(expected, abs=0.03)
    assert given.correlation > 0.6
    assert given.inside == 1


def test_eight_ways_are_the_turned_and_mirrored_image() -> None:
    """A point laid one way is where the image's own turn would carry it."""
    image = np.arange(20).reshape(5, 4)  # height 5, width 4; px centres at half
    turned = {
        "left and right exchanged": image[:, ::-1],
        "upside down": image[::-1],
        "turned by 180 degrees": image[::-1, ::-1],
    }
    for way, other in turned.items():
        x, y = laid(np.array([[1.5, 3.5]]), (4, 5), way)[0]
        assert other[int(y), int(x)] == image[3, 1]
    x, y = laid(np.array([[1.5, 3.5]]), (4, 5), "x and y exchanged")[0]
    assert image.T[int(y), int(x)] == image[3, 1]


@pytest.mark.parametrize("way", list(WAYS))
def test_the_way_back_is_named(drawn, way: str) -> None:
    truth, inputs = drawn
    said = doubts(fits(xy=laid(truth.xy, inputs["size"], way), **inputs), len(truth.xy))
    if way == "as given":
        assert said == []
    elif "exchanged, then" not in way:  # undone by itself
        assert said[0].startswith(f"With {way} the spots fit the image far better")
    else:
        assert "far better" in said[0]


def test_real_sections_are_not_doubted_and_their_mirror_images_mostly_are() -> None:
    caught = []
    for file in sorted((example_folder() / "adata").glob("*.h5ad")):
        section = anndata.read_h5ad(file)
        with Image.open(example_folder() / "thumbnails" / f"{file.stem}.jpg") as thumbnail:
            picture = np.asarray(thumbnail.convert("RGB"))
        xy, scale = np.asarray(section.obsm["spatial_image"], dtype=float), float(section.uns["thumbnail_scale"])
        size = (round(picture.shape[1] / scale), round(picture.shape[0] / scale))
        given = (picture, scale, size)
        totals = section.obs["library_size"].to_numpy()
        assert doubts(fits(*given, xy, 0.56 * pitch(xy), totals), len(xy)) == [], file.stem
        for way in ("left and right exchanged", "upside down", "turned by 180 degrees"):
            caught.append(bool(doubts(fits(*given, laid(xy, size, way), 0.56 * pitch(xy), totals), len(xy))))
    assert np.mean(caught) >= 0.8


def test_a_flipped_image_is_said(tmp_path: Path) -> None:
    truth = Truth(side=12)
    write_outs(tmp_path / "S1", truth, matrix="raw")
    Image.fromarray(np.ascontiguousarray(truth.image[::-1])).save(tmp_path / "S1/slide.png")
    done = agl.prepare(tmp_path / "S1", tmp_path / "out", patch_um=60, patch_px=24, progress=False)
    assert done.failed == {}
    assert "With upside down the spots fit the image far better" in " ".join(done.remarks["S1"])


def test_an_image_without_a_relation_to_the_counts_is_said() -> None:
    truth = Truth(side=10)
    noise = np.random.default_rng(0).integers(100, 200, truth.image.shape, dtype=np.uint8)
    found = fits(noise, 1.0, (truth.width, truth.height), truth.xy, PX_APART, truth.counts.sum(axis=1))
    said = doubts(found, len(truth.xy))
    assert len(said) == 1
    assert "hardly correlate" in said[0] or "far better" in said[0]
    assert doubts(found, 10) == []
