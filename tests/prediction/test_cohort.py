"""A model on slides from elsewhere: the scores of its own test slide come back, and what differs is said."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from agl.errors import UserError
from agl.prediction.cohort import CohortScores
from agl.runs.folder import Run
from agl.runs.model import model_of

RunOf = Callable[[str], Run]


@pytest.fixture
def elsewhere(sections: Path, tmp_path: Path) -> Callable[..., Path]:
    """A cohort of some of the slides, without some genes."""

    def made(slides: list[str], lost: list[str] = []) -> Path:  # noqa: B006 (read only)
        home = tmp_path / "cohort"
        for slide in slides:
            for part in ("adata", "embeddings/latent"):
                (home / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(sections / "embeddings" / "latent" / f"{slide}.h5", home / "embeddings" / "latent")
            data = anndata.read_h5ad(sections / "adata" / f"{slide}.h5ad")
            data[:, [gene not in lost for gene in data.var_names]].copy().write_h5ad(home / "adata" / f"{slide}.h5ad")
        return home

    return made


def own(run: Run) -> tuple[str, pd.DataFrame]:
    table = pd.read_csv(run.folder / "per_gene.csv")
    return run.whole_provenance["split"]["slides"]["test"][0], table


@pytest.mark.parametrize("name", ["committee", "mlp"])
def test_the_models_own_test_slide_scores_as_it_did(run_of: RunOf, elsewhere: Callable[..., Path], name: str) -> None:
    run = run_of(name)
    slides = run.whole_provenance["split"]["slides"]["test"]
    found = model_of(run).evaluate(elsewhere(slides))
    assert isinstance(found, CohortScores)
    table = own(run)[1]
    for column in ("scc", "ceiling"):
        mine = found.table.pivot(index="gene", columns="slide", values=column)
        recorded = table.pivot(index="gene", columns="slide", values=column)
        np.testing.assert_allclose(mine[recorded.columns].loc[recorded.index], recorded, atol=1e-6)
    assert found.numbers["scc"] == pytest.approx(run.result["scc"], abs=1e-6)
    np.testing.assert_allclose(found.genes.difference.dropna(), 0, atol=1e-6)
    assert found.notes == []
    assert found.slides["shift"].between(0, 2).all()


def test_genes_that_are_not_measured_and_slides_that_were_trained_on_are_named(
    run_of: RunOf, elsewhere: Callable[..., Path]
) -> None:
    model = model_of(run_of("ridge"))
    trained = run_of("ridge").whole_provenance["split"]["slides"]["train"][0]
    lost = list(model.genes[:2])
    found = model.evaluate(elsewhere([trained], lost))
    assert (found.numbers["measured"], found.numbers["genes"]) == (6, 8)
    assert found.genes.set_index("gene").scc[lost].isna().all()
    assert found.notes[0] == f"2 of the model's 8 genes are not measured there: {', '.join(lost)}"
    assert any(f"{trained}: slides of this name were trained on" in note for note in found.notes)


def test_none_of_the_genes_is_one_sentence(run_of: RunOf, elsewhere: Callable[..., Path]) -> None:
    model = model_of(run_of("ridge"))
    with pytest.raises(UserError, match="Expected at least one of the model's 8 genes"):
        model.evaluate(elsewhere([own(run_of("ridge"))[0]], list(model.genes)))


def test_shift_and_stretch_by_hand(run_of: RunOf) -> None:
    recipe = model_of(run_of("ridge")).recipe
    mean, sd = np.asarray(recipe.mean), np.asarray(recipe.sd)
    noise = np.random.default_rng(0).normal(size=(500, len(mean)))
    noise = (noise - noise.mean(0)) / noise.std(0)
    shift, stretch = recipe.distance(mean + 0.5 * sd + 3 * sd * noise)
    assert (shift, stretch) == (pytest.approx(0.5), pytest.approx(3.0))


def test_the_command(agl, run_of: RunOf, elsewhere: Callable[..., Path], tmp_path: Path) -> None:
    run = run_of("ridge")
    home = elsewhere([own(run)[0]], [model_of(run).genes[0]])
    status, out, err = agl("evaluate", run.folder, "--on", home, "--out", tmp_path / "genes.csv", "--json")
    assert status == 0
    assert json.loads(out)["numbers"]["measured"] == 7
    assert len(pd.read_csv(tmp_path / "genes.csv")) == 14  # 7 genes on a slide, and pooled
    status, out, err = agl("evaluate", run.folder, "--on", home)
    assert status == 0
    assert "7 of 8 genes are measured there. SCC per slide" in out
    assert "1 of the model's 8 genes are not measured there" in err
    status, _, err = agl("evaluate", run.folder, "--on", tmp_path / "nowhere")
    assert status == 2


def in_memory(home: Path) -> dict[str, anndata.AnnData]:
    """The same cohort as AnnData, features in obsm."""
    found = {}
    for path in sorted((home / "adata").glob("*.h5ad")):
        data = anndata.read_h5ad(path)
        with h5py.File(home / "embeddings" / "latent" / f"{path.stem}.h5") as file:
            order = pd.Index([b.decode() for b in file["barcodes"][:].ravel()]).get_indexer(data.obs_names)
            values = file["embeddings"][:][order]
        data.obsm["latent"], data.obs["slide"] = values, path.stem
        found[path.stem] = data
    return found


@pytest.mark.parametrize("form", ["dict", "list", "one"])
def test_anndata_in_memory_scores_as_its_files_do(
    run_of: RunOf, elsewhere: Callable[..., Path], form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGL_CACHE", str(tmp_path / "cache"))
    run = run_of("committee")  # its inputs hold the surroundings of a spot, slide by slide
    model, parts = model_of(run), run.whole_provenance["split"]["slides"]
    home = elsewhere([*parts["test"], parts["train"][0]], list(model.genes[:1]))
    files, slides = model.evaluate(home), in_memory(home)
    data = {"dict": slides, "list": list(slides.values())}.get(form)
    if data is None:
        with warnings.catch_warnings(action="ignore"):  # barcodes are those of a slide, not of all
            data = anndata.concat(slides.values())
    before = next(iter(slides.values())).copy()
    found = model.evaluate(data)
    pd.testing.assert_frame_equal(found.table, files.table, rtol=1e-6)
    pd.testing.assert_frame_equal(found.slides, files.slides, rtol=1e-5)
    assert (found.numbers["measured"], found.notes) == (7, files.notes)
    assert list(found.genes.columns) == ["gene", "scc", "ceiling", "own_scc", "difference"]
    after = next(iter(slides.values()))
    assert (after.X != before.X).sum() == 0
    assert list(after.obsm) == list(before.obsm)


def test_other_names_of_features_and_of_slides(run_of: RunOf, elsewhere: Callable[..., Path], tmp_path, monkeypatch):
    monkeypatch.setenv("AGL_CACHE", str(tmp_path / "cache"))
    run = run_of("ridge")
    home = elsewhere([own(run)[0]])
    model, [data] = model_of(run), in_memory(home).values()
    expected = model.evaluate(home).numbers["scc"]
    data.obsm["mine"] = data.obsm.pop("latent")
    with pytest.raises(UserError, match=r"Expected features in obsm\['latent'\]"):
        model.evaluate(data)
    data.obs["section"] = data.obs.pop("slide")
    assert model.evaluate(data, features="mine", slide="section").numbers["scc"] == pytest.approx(expected, abs=1e-6)
    alone = model.evaluate(data, features="mine")
    assert alone.numbers["scc"] == pytest.approx(expected, abs=1e-6)
    assert alone.notes[0] == "obs has no column 'slide': all spots are scored as one slide"


@pytest.mark.parametrize(
    ("data", "said"), [(3, "received int"), ([], "at least one slide"), ({"a": 1}, "received int")]
)
def test_what_is_no_cohort_is_one_sentence(run_of: RunOf, data: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        model_of(run_of("ridge")).evaluate(data)
