"""The files of a simulated task: layout, splits, same seed same bytes, nothing half-written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from agl.data.simulate.settings import settings_of
from agl.data.simulate.task import simulate
from agl.errors import UserError

anndata = pytest.importorskip("anndata")


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "task"
    return simulate(folder, n_patients=3, slides_per_patient=2, spots_per_slide=20, n_genes=120, patch_size=32, seed=5)


def test_layout_is_hest_benchs(task: Path) -> None:
    names = [f"P{p}S{s}" for p in (1, 2, 3) for s in (1, 2)]
    assert sorted(path.stem for path in (task / "adata").iterdir()) == names
    truth = pd.read_csv(task / "truth.csv")
    for name in names:
        data = anndata.read_h5ad(task / "adata" / f"{name}.h5ad")
        assert data.shape == (20, 120)
        assert data.X.format == "csr"
        assert data.X.dtype == np.int32
        assert data.X.min() >= 0
        assert list(data.var_names) == list(truth["gene"])
        assert set(data.obs["patient"]) == {name[:2]}
        assert set(data.obs["section"]) == {name}
        assert data.obs_names.is_unique
        with h5py.File(task / "patches" / f"{name}.h5") as file:
            assert file["img"].shape == (20, 32, 32, 3)
            assert file["img"].dtype == np.uint8
            assert [b.decode() for b in file["barcode"][:, 0]] == list(data.obs_names)
            # Patches are cut around the spot: coords are their top-left corner.
            np.testing.assert_array_equal(file["coords"][:] + 16, data.obsm["spatial"])
        np.testing.assert_array_equal(
            data.obsm["spatial"], data.obs[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
        )
        np.testing.assert_array_equal(data.obsm["spatial"], data.obs[["array_col", "array_row"]].to_numpy() * 100)
        with np.load(task / "truth" / f"{name}.npz") as hidden:
            assert hidden["log_rates"].shape == (20, 120)
            assert list(hidden["barcodes"]) == list(data.obs_names)
    assert json.loads((task / "var_50genes.json").read_text())["genes"] == list(truth["gene"][truth["primary"]])
    assert json.loads((task / "truth.json").read_text())["seed"] == 5


def test_splits_hold_one_patient_out(task: Path) -> None:
    for fold in range(3):
        test, train = (pd.read_csv(task / "splits" / f"{part}_{fold}.csv") for part in ("test", "train"))
        assert list(test["sample_id"]) == [f"P{fold + 1}S1", f"P{fold + 1}S2"]
        assert len(train) == 4
        assert not set(train["sample_id"].str[:2]) & set(test["sample_id"].str[:2])
        for path in [*test["patches_path"], *test["expr_path"]]:
            assert (task / path).is_file()


@pytest.mark.parametrize("features", ["patches", "latent"])
def test_same_seed_same_bytes_other_seed_other_data(tmp_path: Path, features: str) -> None:
    small = {"n_patients": 2, "spots_per_slide": 9, "n_genes": 70, "patch_size": 16, "features": features}
    first, again = (digest(simulate(tmp_path / name, seed=1, **small)) for name in ("first", "again"))
    other = digest(simulate(tmp_path / "other", seed=2, **small))
    assert first == again
    assert first.keys() == other.keys()
    changed = [name for name in first if first[name] != other[name] and not name.startswith("splits")]
    assert len(changed) == len(first) - 4


def test_more_slides_leave_the_others_as_they_were(tmp_path: Path) -> None:
    few = digest(simulate(tmp_path / "few", n_patients=1, spots_per_slide=9, n_genes=70, features="latent"))
    more = digest(
        simulate(
            tmp_path / "more", n_patients=2, slides_per_patient=2, spots_per_slide=9, n_genes=70, features="latent"
        )
    )
    for name in ("adata/P1S1.h5ad", "embeddings/latent/P1S1.h5", "truth/P1S1.npz", "truth.csv"):
        assert few[name] == more[name]


def test_latent_features_need_no_patches(tmp_path: Path) -> None:
    root = simulate(tmp_path / "task", n_patients=1, spots_per_slide=9, n_genes=70, features="latent")
    assert not (root / "patches").exists()
    with h5py.File(root / "embeddings" / "latent" / "P1S1.h5") as file:
        assert set(file) == {"embeddings", "barcodes", "coords"}
        assert file["embeddings"].shape == (9, settings_of("standard").latent_features)
        assert file["embeddings"].dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"preset": "standrad"}, "Did you mean 'standard'"),
        ({"n_patients": 0}, "n_patients to be a whole number of at least 1, received 0"),
        ({"n_genes": 50}, "n_genes to be a whole number of at least 54"),
        ({"spots_per_slide": 2.5}, "spots_per_slide to be a whole number"),
        ({"patch_size": 8}, "patch_size to be a whole number of at least 16"),
        ({"patch_size": 102}, "at most 100 px"),
        ({"patch_size": 33}, "even patch_size"),
        ({"features": "none"}, "'patches' or 'latent'"),
        ({"seed": -1}, "seed"),
        ({"nonlinear": 1.5}, "nonlinear as a share from 0 to 1, received 1.5"),
    ],
)
def test_bad_arguments_leave_nothing(tmp_path: Path, arguments: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        simulate(tmp_path / "task", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_only_an_earlier_simulation_is_replaced(tmp_path: Path) -> None:
    small = {"n_patients": 1, "spots_per_slide": 4, "n_genes": 60, "features": "latent"}
    target = simulate(tmp_path / "task", seed=1, **small)
    with pytest.raises(UserError, match="overwrite=True"):
        simulate(target, seed=2, **small)
    simulate(target, seed=2, overwrite=True, **small)
    assert json.loads((target / "truth.json").read_text())["seed"] == 2
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="not overwritten"):
        simulate(tmp_path / "thesis", overwrite=True, **small)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task", "thesis"]


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("agl.data.simulate.task.write_task", full_disk)
    with pytest.raises(OSError, match="No space"):
        simulate(tmp_path / "task", n_patients=1, spots_per_slide=4, n_genes=60, features="latent")
    assert list(tmp_path.iterdir()) == []
