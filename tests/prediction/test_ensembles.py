"""The average of folds and seeds as one model: what it scores, how it is given away, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import agl
from agl.api.runs import Runs
from agl.config import load
from agl.errors import UserError
from agl.prediction.ensemble import ensemble_of
from agl.prediction.model import Model
from agl.runs.folder import Run
from agl.runs.model import model_of
from agl.runs.train import train

RunOf = Callable[[str], Run]
WORDS = ["data.features=latent", "primary=file", "model=low_rank", "model.ranks=[2]", "model.penalties=[1]",
         "auxiliary.genes=none"]  # fmt: skip


@pytest.fixture(scope="module")
def folds(sections: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All folds of one config on genes that are named."""
    place = tmp_path_factory.mktemp("ensemble")
    genes = list(anndata.read_h5ad(next((sections / "adata").glob("*.h5ad"))).var_names[:6])
    (place / "genes.txt").write_text("\n".join(genes))
    words = [*WORDS, f"data.root={sections}", f"output={place / 'runs'}", f"primary.path={place / 'genes.txt'}"]
    return Runs(train(load(words)))


@pytest.fixture
def slide(sections: Path) -> Path:
    return next((sections / "adata").glob("*.h5ad"))


def test_scores_are_the_mean_of_standardised_scores(folds: Runs, slide: Path) -> None:
    """By hand, from what every member says alone."""
    made = folds.ensemble().predict(slide)
    alone = []
    for run in folds:
        frame = model_of(run).predict(slide).to_df("agl_score")
        alone.append(((frame - frame.mean()) / frame.std(ddof=0))[list(made.var_names)].to_numpy())
    assert len(alone) > 2
    np.testing.assert_allclose(made.layers["agl_score"], np.mean(alone, axis=0), atol=1e-5)
    np.testing.assert_allclose(made.layers["agl_spread"], np.std(alone, axis=0), atol=1e-5)
    assert made.uns["agl"]["run"].count(" + ") == len(alone) - 1


def test_it_is_given_away_whole(agl, folds: Runs, slide: Path, tmp_path: Path) -> None:
    status, out, err = agl("export", *folds.folders, "--out", tmp_path / "model")
    assert (status, out.strip(), err) == (0, f"Wrote {tmp_path / 'model'}", "")
    again, here = Model.load(tmp_path / "model"), folds.ensemble()
    assert again.genes == here.genes
    np.testing.assert_allclose(*(m.predict(slide).layers["agl_score"] for m in (again, here)), atol=1e-6)
    card = (tmp_path / "model" / "README.md").read_text()
    scores = pd.concat([pd.read_csv(run.folder / "per_gene.csv") for run in folds])
    mean = scores[scores.slide != "(pooled)"].groupby("gene").scc.mean().mean()
    assert f"mean of {len(folds)} models" in card
    assert f"Each of the {len(folds)} members on the slides left out of its training" in card
    assert f"Spearman {mean:.3f}" in card
    assert agl("predict", tmp_path / "model", slide, "--out", tmp_path / "x.h5ad")[0] == 0
    (tmp_path / "model" / "member-1" / "weights.safetensors").write_bytes(b"")
    assert "received a damaged one" in agl("predict", tmp_path / "model", slide, "--out", tmp_path / "y.h5ad")[2]


def test_a_member_that_is_gone_is_missed(folds: Runs, tmp_path: Path) -> None:
    import shutil

    folds.ensemble().save(tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / f"member-{len(folds) - 1}")
    with pytest.raises(UserError, match=f"Expected {len(folds)} members"):
        Model.load(tmp_path / "model")


def test_one_model_is_itself(folds: Runs, slide: Path) -> None:
    one = folds[:1].ensemble()
    assert "member" not in repr(one.about)
    np.testing.assert_array_equal(*(m.predict(slide).layers["agl_score"] for m in (one, model_of(folds[0]))))
    twice = Model.of(ensemble_of([model_of(folds[0])] * 2)).predict(slide)
    assert np.abs(twice.layers["agl_spread"]).max() < 1e-6  # a model agrees with itself


def test_networks_take_part(run_of: RunOf, slide: Path) -> None:
    linear, mlp = model_of(run_of("linear")), model_of(run_of("mlp"))
    made = Model.of(ensemble_of([linear, mlp])).predict(slide)
    assert list(made.var_names) == [gene for gene in linear.genes if gene in mlp.genes]
    assert made.layers["agl_spread"].max() > 0


def test_what_cannot_be_averaged(run_of: RunOf) -> None:
    with pytest.raises(UserError, match="received none"):
        ensemble_of([])
    with pytest.raises(UserError, match=r"received context \(8,\) of .* and \(\) of .*its folds and seeds"):
        ensemble_of([model_of(run_of("committee")), model_of(run_of("ridge"))])
    ridge = model_of(run_of("ridge"))
    with pytest.raises(UserError, match="name them"):
        ensemble_of([ridge, replace(ridge, genes=tuple(f"other{i}" for i in range(len(ridge.genes))))])


def test_the_inputs_are_compared_with_those_of_all_members(folds: Runs) -> None:
    """Pooled moments are those of all training spots together, where members have equally many."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(i, 1 + i, (50, 3)) for i in range(3)]
    models = [
        replace(model, recipe=replace(model.recipe, mean=tuple(part.mean(0)), sd=tuple(part.std(0))))
        for model, part in zip([model_of(folds[0])] * 3, parts, strict=True)
    ]
    recipe = ensemble_of(models).recipe
    np.testing.assert_allclose(recipe.mean, np.concatenate(parts).mean(0))
    np.testing.assert_allclose(recipe.sd, np.concatenate(parts).std(0))


def test_from_python(folds: Runs, tmp_path: Path, slide: Path) -> None:
    folder = folds.ensemble(seed=0).save(tmp_path / "model")
    assert "agl_spread" in agl.load_model(folder).predict(slide).layers
    assert len(folds.those(fold=0)) == 1
    with pytest.raises(UserError, match="received none"):
        folds.ensemble(seed=7)
