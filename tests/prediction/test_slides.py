"""A saved model on slides: without training data, without counts, from whatever file there is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest

from agl.config import load
from agl.data.simulate.task import simulate
from agl.errors import UserError
from agl.prediction.model import Model
from agl.runs import model as models
from agl.runs.folder import Run
from agl.runs.model import model_of
from agl.runs.train import train

RunOf = Callable[[str], Run]
NAMES = ["committee", "per slide", "ridge", "mean", "mlp", "linear"]


def recorded(run: Run) -> tuple[str, dict[str, np.ndarray]]:
    """A run's test slide, and the scores it wrote by barcode."""
    saved = np.load(run.folder / "predictions.npz")
    return str(saved["slide"][0]), dict(zip(saved["barcode"], saved["scores"], strict=True))


def agree(scored: anndata.AnnData, expected: dict[str, np.ndarray]) -> None:
    assert set(expected) <= set(scored.obs_names)
    rows = [scored.obs_names.get_loc(barcode) for barcode in expected]
    np.testing.assert_allclose(scored.layers["agl_score"][rows], np.stack(list(expected.values())), atol=1e-5)


@pytest.fixture
def features_only(sections: Path, tmp_path: Path) -> Path:
    """A folder that knows nothing but features."""
    home = tmp_path / "elsewhere"
    shutil.copytree(sections / "embeddings" / "latent", home / "embeddings" / "latent")
    return home


@pytest.mark.parametrize("name", NAMES)
def test_scores_need_neither_counts_nor_training_data(
    run_of: RunOf, features_only: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(name)
    slide, expected = recorded(run)
    monkeypatch.setattr(models, "experiment_of", lambda run: pytest.fail("the training data were read"))
    scored = model_of(run).predict(slide, root=features_only)
    agree(scored, expected)
    assert scored.X is None
    assert not scored.var["measured"].any()
    assert ("agl_spread" in scored.layers) == (name == "committee")


@pytest.mark.parametrize("name", ["committee", "per slide", "ridge", "mlp"])
def test_what_is_saved_scores_as_what_was_fitted(run_of: RunOf, name: str, tmp_path: Path, sections: Path) -> None:
    run = run_of(name)
    slide, expected = recorded(run)
    before = model_of(run).predict(slide, root=sections)
    after = Model.load(model_of(run).save(tmp_path / "given")).predict(slide, root=sections)
    np.testing.assert_array_equal(after.layers["agl_score"], before.layers["agl_score"])
    agree(after, expected)


def test_a_run_without_saved_weights_is_fitted_again(run_of: RunOf, tmp_path: Path, sections: Path) -> None:
    run = run_of("ridge")
    earlier = Run(Path(shutil.copytree(run.folder, tmp_path / "earlier")))
    (earlier.folder / "recipe.json").unlink()
    slide, expected = recorded(run)
    agree(model_of(earlier).predict(slide, root=sections), expected)


def test_every_kind_of_file_names_a_slide(run_of: RunOf, sections: Path, tmp_path: Path) -> None:
    run = run_of("committee")
    slide, expected = recorded(run)
    model = model_of(run)
    h5ad, latent = sections / "adata" / f"{slide}.h5ad", sections / "embeddings" / "latent" / f"{slide}.h5"
    agree(model.predict(h5ad), expected)
    agree(model.predict(latent), expected)
    lonely = tmp_path / "lonely" / f"{slide}.h5ad"
    lonely.parent.mkdir()
    shutil.copy(h5ad, lonely)
    with pytest.raises(UserError, match=r"Expected features of slide .* by the encoder 'latent'"):
        model.predict(lonely)
    agree(model.predict(lonely, features=str(latent)), expected)
    agree(model.predict(lonely, features=str(sections / "embeddings" / "latent")), expected)
    with pytest.raises(UserError, match="once for each of the model's encoders"):
        model.predict(lonely, features=[str(latent), str(latent)])
    with pytest.raises(UserError, match="found nothing"):
        model.predict(tmp_path / "nowhere.h5")
    with pytest.raises(UserError, match=r"a folder with one section, .* has 3"):
        model.predict(sections)


def test_counts_are_never_made_up(run_of: RunOf, sections: Path, tmp_path: Path) -> None:
    run = run_of("ridge")
    slide, expected = recorded(run)
    model = model_of(run)
    source = anndata.read_h5ad(sections / "adata" / f"{slide}.h5ad")
    home = tmp_path / "cut"
    shutil.copytree(sections / "embeddings" / "latent", home / "embeddings" / "latent")
    (home / "adata").mkdir()

    def scored(adata: anndata.AnnData) -> anndata.AnnData:
        adata.write_h5ad(home / "adata" / f"{slide}.h5ad")
        made = model.predict(slide, root=home)
        agree(made, expected)
        return made

    whole = scored(source)
    np.testing.assert_array_equal(whole.X.toarray(), source[whole.obs_names, whole.var_names].X.toarray())
    some = scored(source[:, [name for name in source.var_names if name not in model.genes[:3]]].copy())
    assert list(some.var_names) == list(model.genes)
    assert np.isnan(some.X[:, :3]).all()
    np.testing.assert_array_equal(some.X[:, 3:], whole.X.toarray()[:, 3:])
    assert list(some.uns["agl"]["genes_not_measured"]) == list(model.genes[:3])
    no_genes = scored(source[:, :0].copy())
    assert no_genes.X is None
    zeros = source.copy()
    zeros.X = zeros.X * 0
    assert scored(zeros).X is None
    logs = source.copy()
    logs.X = np.log1p(source.X.toarray())
    made = scored(logs)
    assert made.X is None
    assert any("predicted without counts" in note for note in made.uns["agl"]["notes"])


def test_genes_are_found_under_the_names_that_the_slide_has(run_of: RunOf, sections: Path, tmp_path: Path) -> None:
    run = run_of("ridge")
    slide, _ = recorded(run)
    source = anndata.read_h5ad(sections / "adata" / f"{slide}.h5ad")
    expected = model_of(run).predict(slide, root=sections)
    home = tmp_path / "renamed"
    shutil.copytree(sections / "embeddings" / "latent", home / "embeddings" / "latent")
    (home / "adata").mkdir()
    source.var_names = [name.lower() for name in source.var_names]
    source.write_h5ad(home / "adata" / f"{slide}.h5ad")
    np.testing.assert_array_equal(model_of(run).predict(slide, root=home).X.toarray(), expected.X.toarray())


def test_spots_without_features_are_left_out_and_said(run_of: RunOf, sections: Path, tmp_path: Path) -> None:
    run = run_of("ridge")
    slide, expected = recorded(run)
    home = Path(shutil.copytree(sections, tmp_path / "fewer"))
    file = home / "embeddings" / "latent" / f"{slide}.h5"
    with h5py.File(sections / "embeddings" / "latent" / f"{slide}.h5") as h5:
        tables = {key: h5[key][...][5:] for key in h5}
    with h5py.File(file, "w") as h5:
        for key, values in tables.items():
            h5[key] = values
    scored = model_of(run).predict(slide, root=home)
    assert len(scored) == 35
    assert any("5 spots without features" in note for note in scored.uns["agl"]["notes"])
    agree(scored, {barcode: row for barcode, row in expected.items() if barcode in scored.obs_names})


def test_surroundings_need_places(run_of: RunOf, sections: Path, tmp_path: Path) -> None:
    run = run_of("committee")
    slide, _ = recorded(run)
    file = tmp_path / "latent" / f"{slide}.h5"
    file.parent.mkdir()
    with h5py.File(sections / "embeddings" / "latent" / f"{slide}.h5") as old, h5py.File(file, "w") as new:
        for key in old:
            if key != "coords":
                new[key] = old[key][...]
    with pytest.raises(UserError, match="finite coordinates"):
        model_of(run).predict(file)
    scored = model_of(run_of("ridge")).predict(file)
    assert "spatial" not in scored.obsm


def test_an_adata_in_memory(run_of: RunOf, sections: Path) -> None:
    run = run_of("committee")
    slide, expected = recorded(run)
    model = model_of(run)
    adata = model.predict(slide, root=sections)
    with h5py.File(sections / "embeddings" / "latent" / f"{slide}.h5") as h5:
        keys = [key for key in h5 if h5[key].ndim == 2 and h5[key].dtype.kind == "f"]
        barcodes = [each.decode() for each in h5["barcodes"][...].ravel()]
        values = h5[keys[0]][...]
    mine = anndata.AnnData(obs=adata.obs.loc[barcodes, []], var=adata.var.iloc[2:, :0], obsm={"latent": values})
    mine.obsm["spatial"] = adata.obsm["spatial"][adata.obs_names.get_indexer(barcodes)]
    before = mine.copy()
    made = model.predict(mine)
    assert set(mine.obsm) == set(before.obsm)
    assert not mine.layers
    agree(made[:, :], {b: row[2:] for b, row in expected.items()})
    table = made.obsm["agl_score"]
    assert list(table.columns) == list(model.genes)
    np.testing.assert_allclose(table.loc[list(expected)], np.stack(list(expected.values())), atol=1e-5)
    assert model.predict(mine, inplace=True) is mine
    assert {"agl_score", "agl_spread"} <= set(mine.obsm)
    with pytest.raises(UserError, match=r"Expected features in obsm\['X_uni'\]"):
        model.predict(mine, features="X_uni")
    with pytest.raises(UserError, match="Leave inplace away"):
        model.predict(slide, root=sections, inplace=True)


def test_a_model_of_patches(tmp_path: Path) -> None:
    home = simulate(tmp_path / "task", n_patients=3, slides_per_patient=1, spots_per_slide=20, n_genes=60, seed=1)
    words = [f"data.root={home}", "data.features=none", f"output={tmp_path / 'runs'}", "fold=0", "training.epochs=1"]
    run = train(load([*words, "primary.k=5", "primary.min_detection=0", "model=nsl", "auxiliary.genes=none"]))[0]
    slide, expected = recorded(run)
    model = Model.load(model_of(run).save(tmp_path / "given"))
    agree(model.predict(slide, root=home), expected)
    lonely = tmp_path / "elsewhere" / f"{slide}.h5"
    lonely.parent.mkdir()
    shutil.copy(home / "patches" / f"{slide}.h5", lonely)
    agree(model.predict(lonely), expected)
    with h5py.File(lonely, "r+") as h5:
        small = h5["img"][:, :20, :20]
        del h5["img"]
        h5["img"] = small
    with pytest.raises(UserError, match="Cut them at the same size"):
        model.predict(lonely)


def test_built_in_features_are_computed_from_the_patches_alone(tmp_path: Path) -> None:
    home = simulate(tmp_path / "task", n_patients=3, slides_per_patient=1, spots_per_slide=20, n_genes=60, seed=1)
    words = [f"data.root={home}", f"output={tmp_path / 'runs'}", "fold=0", "primary.k=5", "primary.min_detection=0"]
    run = train(load([*words, "model=ridge"]))[0]
    slide, expected = recorded(run)
    agree(model_of(run).predict(home / "patches" / f"{slide}.h5"), expected)
