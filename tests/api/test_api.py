"""AGL from Python: the same runs as from the command line, on folders and on AnnData in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import agl as package
from agl.errors import UserError

QUICK = {"primary": {"k": 8, "min_detection": 0}, "features": "latent"}
SETTINGS = {**QUICK, "model": "ridge", "progress": False}


@pytest.fixture
def slides(sections: Path) -> dict[str, anndata.AnnData]:
    """The simulated sections in memory, features in obsm."""
    found = {}
    for file in sorted((sections / "adata").glob("*.h5ad")):
        adata = anndata.read_h5ad(file)
        with h5py.File(sections / "embeddings" / "latent" / f"{file.stem}.h5") as h5:
            barcodes = [each.decode() for each in np.ravel(h5["barcodes"][...])]
            values = pd.DataFrame(h5["embeddings"][...], index=barcodes)
        adata.obsm["latent"] = values.loc[adata.obs_names].to_numpy()
        if "patient" not in adata.obs:
            adata.obs["patient"] = file.stem[:2]
        found[file.stem] = adata
    return found


def one_adata(slides: dict[str, anndata.AnnData]) -> anndata.AnnData:
    return anndata.concat(slides, label="slide", index_unique="-", join="inner")


def test_import_is_quick_and_offers_names_without_importing_them() -> None:
    code = "import sys, agl; print(sorted(m for m in ('torch', 'pandas', 'anndata') if m in sys.modules), dir(agl))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[]")
    for name in package.__all__:
        assert name in done.stdout
        assert getattr(package, name).__doc__ or name == "__version__"
    with pytest.raises(AttributeError, match="it offers"):
        package.nothing  # noqa: B018


def test_a_folder_gives_the_runs_of_the_command_line(agl: Callable, sections: Path, tmp_path: Path) -> None:
    runs = package.train(sections, output=tmp_path / "runs", **SETTINGS)
    assert len(runs) == 3
    words = [f"data.root={sections}", "data.features=latent", "model=ridge", "primary.k=8", "primary.min_detection=0"]
    status, out, err = agl("train", *words, "--json")
    assert status == 0, err
    assert [row["scc"] for row in json.loads(out)["runs"]] == pytest.approx([run.result["scc"] for run in runs])
    assert {folder.name for folder in runs.folders} == {f.name for f in (tmp_path / "runs" / "run").iterdir()}


def test_scores_and_tables(sections: Path, tmp_path: Path) -> None:
    runs = package.train(sections, output=tmp_path / "runs", **SETTINGS)
    scores = runs.scores()
    assert list(scores.columns) == [
        "run", "loss", "genes", "model", "fold", "seed", "slide", "gene", "scc", "pcc", "ceiling", "undefined"
    ]  # fmt: skip
    by_fold = scores.groupby("fold").scc.mean()
    np.testing.assert_allclose(by_fold, [run.result["scc"] for run in runs], atol=1e-8)
    [row] = runs.table().to_dict("records")
    assert row["scc"] == pytest.approx(by_fold.mean())
    assert "ridge" in repr(runs)
    assert "<table" in runs._repr_html_()
    again = package.open_run(tmp_path / "runs")
    pd.testing.assert_frame_equal(
        again.scores().sort_values(["fold", "gene"], ignore_index=True),
        scores.sort_values(["fold", "gene"], ignore_index=True),
    )


def test_a_model_from_training_to_a_slide_in_memory(sections: Path, slides: dict, tmp_path: Path) -> None:
    runs = package.train(sections, output=tmp_path / "runs", **SETTINGS)
    with pytest.raises(UserError, match=r"found 3 of 3 \(folds 0, 1, 2\)"):
        runs.model()
    folder = runs.model(fold=0).save(tmp_path / "model")
    model = package.load_model(folder)
    assert "ridge" in repr(model)
    slide = runs[0].provenance["split"]["slides"]["test"][0]
    bare = anndata.AnnData(obs=slides[slide].obs[[]], obsm={"latent": slides[slide].obsm["latent"]})
    scored = model.predict(bare)
    saved = np.load(runs[0].folder / "predictions.npz")
    np.testing.assert_allclose(scored.obsm["agl_score"].loc[saved["barcode"]], saved["scores"], atol=1e-5)


@pytest.mark.parametrize("form", ["dict", "list", "one"])
def test_data_in_memory_is_the_same_run_every_time(slides: dict, tmp_path: Path, form: str) -> None:
    data = {"dict": slides, "list": list(slides.values()), "one": one_adata(slides)}[form]
    if form == "list":
        for name, each in slides.items():
            each.obs["slide"] = name
    before = [each.copy() for each in slides.values()]
    runs = package.train(data, output=tmp_path / "runs", **SETTINGS)
    again = package.train(data, output=tmp_path / "runs", **SETTINGS)
    assert runs.folders == again.folders
    assert sorted({str(s) for s in runs.scores().slide}) == sorted(slides)
    for old, new in zip(before, slides.values(), strict=True):
        assert list(old.obs) == list(new.obs)
        assert set(old.obsm) == set(new.obsm)
        assert (old.X != new.X).nnz == 0


def test_data_in_memory_scores_as_the_folder_does(sections: Path, slides: dict, tmp_path: Path) -> None:
    memory = package.train(slides, output=tmp_path / "memory", **SETTINGS)
    folder = package.train(sections, output=tmp_path / "folder", **SETTINGS)
    assert [run.folder.name for run in memory] == [run.folder.name for run in folder]
    pd.testing.assert_frame_equal(memory.scores(), folder.scores())


def test_an_adata_that_changes_is_another_run(slides: dict, tmp_path: Path) -> None:
    first = package.train(slides, fold=0, output=tmp_path / "runs", **SETTINGS)
    slides["P1S1"].X = sparse.csr_matrix(slides["P1S1"].X.toarray() + np.eye(*slides["P1S1"].shape))
    second = package.train(slides, fold=0, output=tmp_path / "runs", **SETTINGS)
    assert first.folders != second.folders


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: (s, {"features": None}), "Expected features=<key of obsm>"),
        (lambda s: (s, {"features": "X_uni"}), r"obsm\['X_uni'\] of slide 'P1S1'"),
        (lambda s: (s["P1S1"], {}), r"obs\['slide'\]"),
        (lambda s: (42, {}), "received int"),
        (lambda s: ({}, {}), "at least one slide"),
        (lambda s: ({"a/b": s["P1S1"]}, {}), "names of files"),
        (lambda s: ({"..": s["P1S1"]}, {}), "names of files"),
        (lambda s: ({"A": 3}, {}), "Expected an AnnData as slide 'A'"),
        (lambda s: ([one_adata(s)], {}), "one slide in each AnnData"),
        (lambda s: (s, {"loss": print}), 'loss="mine.py:my_loss"'),
        (lambda s: (s, {"los": "mse"}), "Did you mean 'loss'"),
    ],
)
def test_mistakes_are_sentences(slides: dict, tmp_path: Path, change: Callable, message: str) -> None:
    data, settings = change(slides)
    with pytest.raises(UserError, match=message):
        package.train(data, **{**SETTINGS, "output": tmp_path / "runs", **settings})
    assert not (tmp_path / "runs").exists()


def test_normalised_values_are_refused_as_on_disk(slides: dict, tmp_path: Path) -> None:
    for each in slides.values():
        each.X = np.log1p(each.X.toarray())
    with pytest.raises(UserError, match="Expected raw integer counts"):
        package.train(slides, output=tmp_path / "runs", **SETTINGS)
    for each in slides.values():
        each.layers["counts"] = np.round(np.expm1(each.X)).astype(int)
    assert len(package.train(slides, output=tmp_path / "runs", fold=0, **SETTINGS)) == 1


def test_check_in_memory_and_on_disk(sections: Path, slides: dict) -> None:
    disk, memory = package.check(sections, features="latent"), package.check(slides, features="latent")
    assert disk.status == memory.status == "ok"
    assert disk.spots == memory.spots
    assert list(memory.table.slide) == list(slides)
    assert "<table" in memory._repr_html_()


def test_a_grid_and_its_report(sections: Path, tmp_path: Path) -> None:
    runs = package.grid(
        sections, {"loss": ["mse", "pearson"], "seed": [0, 1]}, skip=[{"loss": "mse", "seed": 1}],
        output=tmp_path / "runs", fold=0, **{**SETTINGS, "model": "convex"},
    )  # fmt: skip
    assert sorted((run.config.loss.name, run.config.seed) for run in runs) == [
        ("mse", 0),
        ("pearson", 0),
        ("pearson", 1),
    ]
    assert runs.model(loss="mse").config.loss.name == "mse"
    assert set(runs.table().loss) == {"mse", "pearson"}
    page = package.report(runs, tmp_path / "page")
    assert "pearson" in page.read_text()


def test_a_recommendation(sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    best = package.recommend(sections, progress=False, primary={"k": 5, "min_detection": 0}, features="latent")
    assert {"ridge", "default", "chosen inside"} <= set(best.table.method)
    assert len(best.config.split.name) > 0
    assert len(package.train(None, best.config, fold=0, progress=False)) == 1
    assert best.words
    assert "<table" in best._repr_html_()
