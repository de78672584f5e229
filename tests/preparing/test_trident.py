"""Coordinates for TRIDENT: its features at these places are joined to our spots."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import agl
from agl.data.dataset import open_dataset
from agl.errors import UserError
from agl.preparing.trident import write_coordinates
from tests.preparing.forms import Truth, write_outs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_outs(tmp_path / "S1", Truth(side=6))
    agl.prepare(tmp_path / "S1", tmp_path / "out", patch_um=60, patch_px=24, trident="20x_256px", progress=False)
    return tmp_path / "out"


def test_features_at_these_places_find_their_spots(folder: Path) -> None:
    """TRIDENT writes features in the order of the coordinates, with `coords` and without barcodes."""
    truth = Truth(side=6)
    path = folder / "20x_256px_0px_overlap/patches/S1_patches.h5"
    order = np.random.default_rng(0).permutation(len(truth.kept))
    with h5py.File(path) as h5:
        coords, attrs = h5["coords"][:], dict(h5["coords"].attrs)
    assert attrs["patch_size_level0"] == round(128 / 2.5)
    assert (attrs["level0_width"], attrs["level0_height"]) == (truth.width, truth.height)
    assert (attrs["target_magnification"], attrs["level0_magnification"]) == (20, 4)
    features = folder / "20x_256px_0px_overlap/features_uni_v1"
    features.mkdir()
    with h5py.File(features / "S1.h5", "w") as h5:
        h5["features"] = np.column_stack([truth.xy[truth.kept], np.arange(len(truth.kept))])[order].astype(np.float32)
        h5["coords"] = coords[order]
    dataset = open_dataset(folder, features="uni_v1", min_counts=0)
    np.testing.assert_allclose(np.asarray(dataset.features)[:, :2], dataset.spots[["x", "y"]])
    assert len(dataset.spots) == len(truth.kept)


def test_only_prepared_sections_have_an_image(folder: Path, sections: Path) -> None:
    with pytest.raises(UserError, match=r"Expected a section that `agl prepare` wrote"):
        write_coordinates(sorted(sections.glob("adata/*.h5ad"))[0], folder)


def test_another_form_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="as 20x_256px, received '20'"):
        agl.prepare(folder.parent / "S1", folder, trident="20", progress=False)
