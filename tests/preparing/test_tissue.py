"""Tissue, glass and sharpness beside scikit-image's and SciPy's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2gray, rgb2hsv
from skimage.filters import gaussian, threshold_otsu

import agl
from agl.preparing.tissue import (
    Looked,
    glass_share,
    mean_in,
    otsu,
    quality_remarks,
    rectangle_sums,
    saturation,
    share_in,
    sharpness,
    tissue_mask,
)
from tests.preparing.forms import Truth, write_outs


def test_saturation_is_that_of_hsv() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.abs(saturation(rgb) - 255 * rgb2hsv(rgb)[..., 1]).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_otsus_threshold_is_scikit_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(30, 12, 3000), rng.normal(60 + 25 * seed, 20, 1500)])
    grey = np.clip(values, 0, 255).astype(np.uint8)
    assert otsu(grey) == threshold_otsu(grey, nbins=256) or np.ptp(grey) < 255
    # Where the grey levels have gaps scikit-image's bins are wider than one: the classes must be the same.
    np.testing.assert_array_equal(
        grey > otsu(grey), grey > threshold_otsu(hist=(np.bincount(grey), np.arange(grey.max() + 1)))
    )


def test_glass_alone_is_no_tissue() -> None:
    rng = np.random.default_rng(0)
    glass = np.clip(240 + rng.normal(0, 2, (60, 60, 1)) + rng.normal(0, 1, (60, 60, 3)), 0, 255).astype(np.uint8)
    assert not tissue_mask(glass).any()
    glass[20:40, 20:40] = [200, 110, 170]
    mask = tissue_mask(glass)
    assert mask[21:39, 21:39].all()
    assert mask.sum() <= 400


def test_means_over_squares_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    values, xy = rng.random((50, 70)), rng.uniform(-20, 300, (60, 2))
    found = mean_in(rectangle_sums(values), xy, 33.0, 0.25)
    for mean, (x, y) in zip(found, xy, strict=True):
        low = [int(np.rint((centre - 16.5) * 0.25)) for centre in (x, y)]
        high = [max(int(np.rint((centre + 16.5) * 0.25)), start + 1) for centre, start in zip((x, y), low, strict=True)]
        area = [
            values[row, column] if 0 <= row < 50 and 0 <= column < 70 else 0.0
            for row in range(low[1], high[1])
            for column in range(low[0], high[0])
        ]
        assert mean == pytest.approx(np.mean(area))
    assert share_in(np.ones((4, 4), bool), np.array([[2.0, 2.0], [0.0, 2.0]]), 2.0, 1.0).tolist() == [1.0, 0.5]


def test_sharpness_is_the_variance_of_scipys_laplacian() -> None:
    patches = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    for value, patch in zip(sharpness(patches), patches, strict=True):
        grey = patch @ np.array([0.299, 0.587, 0.114])
        assert value == pytest.approx(ndimage.laplace(grey)[1:-1, 1:-1].var(), rel=1e-5)
    assert rgb2gray(patches).shape == (3, 20, 20)


def test_blurred_and_empty_spots_are_counted_and_kept() -> None:
    rng = np.random.default_rng(0)
    patches = np.clip(rng.normal(150, 40, (20, 32, 32, 3)) * [1.1, 0.7, 1.0], 0, 255)
    patches[3] = gaussian(patches[3], 3, channel_axis=-1)
    patches[7] = 245
    looked = Looked.of(20)
    looked.look(np.arange(20), patches.astype(np.uint8))
    assert glass_share(patches.astype(np.uint8))[7] == 1
    assert looked.glass[:3].max() < 0.1
    tissue = np.where(np.arange(20) == 7, 0.0, 1.0)
    glass, blur = quality_remarks(tissue, looked)
    assert glass.startswith("1 of 20 spots lie on glass")
    assert blur.startswith("1 of 20 spots are blurred")


def test_what_was_measured_stands_in_obs_and_nothing_is_dropped(truth: Truth, tmp_path) -> None:
    import anndata

    write_outs(tmp_path / "S1", truth, matrix="raw")
    agl.prepare(tmp_path / "S1", tmp_path / "out", patch_um=100, patch_px=40, progress=False)
    obs = anndata.read_h5ad(tmp_path / "out/adata/S1.h5ad").obs
    assert len(obs) == len(truth.kept)
    assert obs["tissue"].between(0, 1).all()
    assert obs["tissue"].mean() > 0.9
    assert (obs["glass"] < 0.2).mean() > 0.9
    assert np.isfinite(obs["sharpness"]).all()
