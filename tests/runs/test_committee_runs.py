"""A committee with networks in it is one model: scored again, given away, interrupted and taken up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agl.config import Config, load
from agl.estimators import committee
from agl.prediction.model import Model
from agl.runs import execute as module
from agl.runs.execute import execute
from agl.runs.model import model_of
from agl.runs.predict import evaluate_again
from agl.runs.train import prepare

WITH = "model.members=[{loss: mse, penalties: [1]}, {model: mlp, hidden: [4], seeds: 2, view: context, weight: 3}]"


@pytest.fixture
def config(sections: Path, tmp_path: Path) -> Callable[..., Config]:
    shared = ["primary.k=8", "primary.min_detection=0", "data.features=latent", "data.context=[4]", "fold=0"]
    return lambda *words: load([f"data.root={sections}", f"output={tmp_path / 'runs'}", *shared, *words])


def test_scored_again_and_given_away(config: Callable[..., Config], sections: Path, tmp_path: Path) -> None:
    run = execute(prepare(config(WITH)).experiments[0])
    assert run.result["members"] == 4  # two views of the linear one, two seeds
    assert evaluate_again(run.folder)["as_recorded"]
    model = model_of(run)
    model.save(tmp_path / "model")
    slide = "P1S1"
    own, other = (each.predict(slide, root=sections) for each in (model, Model.load(tmp_path / "model")))
    np.testing.assert_array_equal(own.layers["agl_score"], other.layers["agl_score"])
    with np.load(run.folder / "predictions.npz") as saved:
        order = own.obs_names.get_indexer(saved["barcode"])
        np.testing.assert_allclose(own[order, saved["genes"]].layers["agl_score"], saved["scores"], atol=1e-5)


def test_interrupted_and_taken_up(config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = execute(prepare(config(WITH, "name=whole")).experiments[0])

    def dies(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_predictions", dies)
        with pytest.raises(KeyboardInterrupt):
            execute(prepare(config(WITH)).experiments[0])
    run = execute(prepare(config(WITH)).experiments[0])
    for name in ("per_gene.csv", "result.json", "checkpoints/best.safetensors"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_the_decision_and_its_cost_are_kept(config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committee, "FEWEST", 0)
    asked = config("model.network={model: mlp, hidden: [4]}", "model.members=[{loss: mse, penalties: [1]}]")
    run = execute(prepare(asked).experiments[0])
    assert set(run.result["network_scores"]) == {"0", "0.25", "0.5", "0.75", "1"}
    assert run.provenance["seconds_of"]["seat"] > 0
    assert run.result["members"] == 2 + (2 if run.result["network_share"] else 0)
