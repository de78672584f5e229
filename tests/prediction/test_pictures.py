"""What is predicted opens on the section's picture in scanpy, the right way up."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest

from agl.config import load
from agl.data.example import example_folder
from agl.prediction.model import Model
from agl.runs.model import model_of
from agl.runs.train import train


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    words = ["data.root=example", "data.sections=[A1,B4,C3]", "model=ridge", "fold=0", "primary.k=3"]
    return model_of(train(load([*words, f"output={tmp_path_factory.mktemp('runs')}"]))[0])


def test_the_picture_beside_a_slide_comes_with_it(model: Model, tmp_path: Path) -> None:
    """Spots in full-resolution px, times the scale, lie where the section's own picture coordinates say."""
    source = example_folder() / "adata" / "C2.h5ad"
    model.predict(source).write_h5ad(tmp_path / "scored.h5ad")
    scored, own = anndata.read_h5ad(tmp_path / "scored.h5ad"), anndata.read_h5ad(source)
    library = scored.uns["spatial"]["C2"]
    scale = library["scalefactors"]["tissue_hires_scalef"]
    own = own[scored.obs_names]
    expected = own.obsm["spatial_image"] * own.uns["thumbnail_scale"]
    np.testing.assert_allclose(scored.obsm["spatial"] * scale, expected, atol=0.5)
    height, width = library["images"]["hires"].shape[:2]
    assert (expected >= 0).all()
    assert (expected.max(0) < [width, height]).all()
    picture = library["images"]["hires"].mean(2)
    x, y = np.round(expected).astype(int).T
    assert picture[y, x].mean() < np.median(picture)  # tissue is darker than glass


def test_scanpy_draws_spots_on_it(model: Model) -> None:
    import matplotlib
    import scanpy

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scored = model.predict(example_folder() / "adata" / "C2.h5ad")
    gene = scored.var_names[0]
    [axes] = scanpy.pl.spatial(scored, color=gene, layer="agl_score", show=False)
    (picture,) = axes.get_images()
    assert picture.get_array().shape[:2] == scored.uns["spatial"]["C2"]["images"]["hires"].shape[:2]
    drawn = axes.collections[0]
    assert len(drawn.get_paths()) == scored.n_obs or len(drawn.get_offsets()) == scored.n_obs
    low, high = sorted(axes.get_ylim())
    assert axes.get_ylim() == (high, low)  # rows of the picture go down
    plt.close("all")


def test_without_a_picture_there_is_none(model: Model, tmp_path: Path) -> None:
    section = anndata.read_h5ad(example_folder() / "adata" / "C2.h5ad")
    section.write_h5ad(tmp_path / "C2.h5ad")
    root = tmp_path / "patches"
    root.mkdir()
    (root / "C2.h5").symlink_to(example_folder() / "patches" / "C2.h5")
    assert "spatial" not in model.predict(tmp_path / "C2.h5ad").uns
