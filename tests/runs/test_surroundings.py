"""Runs on features in their surroundings: another run, applied to another folder alike, blind to test counts."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest

from agl.config import Config, load
from agl.errors import UserError
from agl.runs.folder import folder_of
from agl.runs.train import prepare, train

WIDE = ("data.features=[latent, twice]", "data.context=[2, 4]", "data.normalise=slide")


@pytest.fixture
def folder(own_sections: Path) -> Path:
    shutil.copytree(own_sections / "embeddings" / "latent", own_sections / "embeddings" / "twice")
    return own_sections


def config_of(folder: Path, tmp_path: Path, *words: str) -> Config:
    quick = ["training.epochs=2", "model=mlp", "model.hidden=[8]", "primary.k=10", "primary.min_detection=0", "fold=0"]
    return load([f"data.root={folder}", f"output={tmp_path / 'runs'}", "data.features=latent", *quick, *words])


def test_each_setting_makes_another_run_and_the_defaults_none(folder: Path, tmp_path: Path) -> None:
    def name(*words: str) -> str:
        experiment = prepare(config_of(folder, tmp_path, *words)).experiments[0]
        return folder_of(experiment.config, experiment.dataset).name

    assert name() == name("data.context=[]", "data.normalise=train", "data.features=[latent]")
    assert name("data.context=[4, 2]") == name("data.context=[2, 4]")
    others = {name(word) for word in (*WIDE, "data.context=[2]")}
    assert len(others | {name()}) == 5


@pytest.mark.parametrize("model", ["mlp", "ridge"])
def test_a_run_predicts_a_section_of_another_folder_as_its_own(agl, folder: Path, tmp_path: Path, model: str) -> None:
    [run] = train(config_of(folder, tmp_path, *WIDE, f"model={model}"))
    assert train(config_of(folder, tmp_path, *WIDE, f"model={model}"))[0].folder == run.folder
    saved = np.load(run.folder / "predictions.npz")
    section = str(saved["slide"][0])
    elsewhere = tmp_path / "elsewhere"
    for name in ("adata", "embeddings"):
        shutil.copytree(folder / name, elsewhere / name)
    status, _, err = agl("predict", run.folder, section, "--root", elsewhere, "--out", tmp_path / "x.h5ad")
    assert status == 0, err
    written = anndata.read_h5ad(tmp_path / "x.h5ad")
    order = [list(written.obs_names).index(barcode) for barcode in saved["barcode"]]
    np.testing.assert_allclose(written.layers["agl_score"][order], saved["scores"], atol=1e-5)


def test_a_wide_run_is_named_in_the_table(agl, folder: Path, tmp_path: Path) -> None:
    train(config_of(folder, tmp_path, *WIDE, "model=ridge"))
    train(config_of(folder, tmp_path, "model=ridge"))
    status, out, err = agl("table", tmp_path / "runs", "--json")
    assert status == 0, err
    assert "latent + twice, context 2 4, per slide" in out


def test_models_of_patches_have_no_context_yet(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Expected features to join, to normalise or to give a context"):
        prepare(config_of(folder, tmp_path, "data.features=none", "data.context=[8]", "model=resnet18"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.context=8", "Expected a list such as .* at the config key 'data.context', received 8"),
        ("data.context=[0]", "data.context.0': input should be greater than 0, received 0"),
        ("data.normalise=patient", "data.normalise': input should be 'train' or 'slide', received 'patient'"),
        ("data.features=3", "data.features': expected a name or a list of names .*, received 3"),
    ],
)
def test_wrong_words_in_the_config(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load([word])
