"""Training that begins at a solution: epoch 0 is the solution, early stopping may keep it, a resume is to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import strank
from agl.config import Component, Training, load
from agl.data.batches import SpotLoader, grouped
from agl.data.dataset import Dataset
from agl.errors import UserError
from agl.estimators.convex import Convex
from agl.estimators.low_rank import LowRank
from agl.estimators.sample import Sample
from agl.estimators.start import read_start, solved_start
from agl.models.predictor import mlp
from agl.runs.checkpoint import load_weights, resume, save_weights
from agl.runs.resolve import complete
from agl.training.plugins import Checkpoint, EarlyStopping, Plugin
from agl.training.starting import SolvedStart, StartOnAllSpots
from agl.training.task import Task
from agl.training.trainer import Trainer

SETTINGS = Training(epochs=6, batch_size=24, patience=50, checkpoint_every=2)
TRAIN, PRIMARY = np.arange(80), 5


def sample_of(dataset: Dataset, spots: np.ndarray, **options: Any) -> Sample:
    given: dict[str, Any] = {"weights": np.array([1.0, 0.5, 0.0], dtype=np.float32), **options}
    codes = np.asarray(dataset.slide_codes)[spots]
    return Sample(
        np.asarray(dataset.features)[spots],
        dataset.counts[spots][:, :8].toarray(),
        np.asarray(dataset.library_size)[spots],
        codes,
        codes,
        PRIMARY,
        Component(name="listwise"),
        **given,
    )


def started(dataset: Dataset, *more: Plugin, start: Any = "low_rank", **task: Any) -> Trainer:
    torch.manual_seed(0)
    model = mlp(dataset.features.shape[1], 8, hidden=(16,), dropout=0.1, start=start)
    model.trunk[0].fit(torch.from_numpy(dataset.features[:80]))
    model.start.standardise.fit(torch.from_numpy(dataset.features[:80]))
    loader = SpotLoader(dataset, np.arange(8))
    weights = torch.tensor([1.0, 0.5, 0.0])
    values = Task(model, strank.listwise_nll, loader, TRAIN, np.arange(80, 120), PRIMARY, weights, **task)
    plugins = [SolvedStart(start, lambda spots: sample_of(dataset, spots)), EarlyStopping(patience=50, from_start=True)]
    return Trainer(values, SETTINGS, grouped, 0, [*plugins, *more])


class Look(Plugin):
    """Keeps scores and weights of the moments before the first epoch and after the first step."""

    def __init__(self, dataset: Dataset) -> None:
        self.spots = np.arange(len(dataset.spots))
        self.before: Any = None
        self.gradients: list[float] = []

    def fit_start(self, trainer: Trainer) -> None:
        self.before = trainer.predict(self.spots)

    def step_end(self, trainer: Trainer, primary: torch.Tensor, auxiliary: torch.Tensor) -> None:
        self.gradients.append(float(trainer.task.model.trunk[1].weight.grad.abs().max()))


@pytest.mark.parametrize(("start", "estimator"), [("low_rank", LowRank), ("convex", Convex)])
def test_epoch_0_is_the_solution(dataset: Dataset, start: str, estimator: Any) -> None:
    look = Look(dataset)
    started(dataset, look, start=start).fit()
    expected = estimator().fit(sample_of(dataset, TRAIN)).predict(dataset.features)
    assert np.abs(look.before[:, :PRIMARY].numpy() - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    assert np.abs(expected).max() > 0.1


def test_auxiliary_genes_start_from_their_own_solution(dataset: Dataset) -> None:
    """Full rank: every gene's start is its own convex head, as if it were a primary gene."""
    sample = sample_of(dataset, TRAIN)
    weights, _ = (found := solved_start(sample, "convex")).weights, found.intercept
    alone = Convex(penalty=found.details["penalty"]).fit(
        Sample(
            sample.features, sample.counts[:, 5:], sample.library_size, sample.slides, sample.patients, 3, sample.loss
        )
    )
    torch.testing.assert_close(weights[:, 5:], alone.weights, rtol=1e-4, atol=1e-6)
    low = solved_start(sample, "low_rank")
    assert torch.linalg.matrix_rank(low.weights, rtol=1e-6) == min(low.details["rank"], 8)
    assert low.weights.shape[1] == 8


def test_no_candidate_votes_while_a_selection_is_learnt(dataset: Dataset) -> None:
    ones = np.ones(3, dtype=np.float32)
    learning = solved_start(sample_of(dataset, TRAIN, weights=ones, selector=torch.nn.Identity()), "low_rank")
    alone = LowRank().fit(sample_of(dataset, TRAIN, weights=np.zeros(3, dtype=np.float32)))
    torch.testing.assert_close(learning.weights[:, :PRIMARY], alone.weights, rtol=1e-4, atol=1e-6)


def test_the_first_step_moves_the_head_and_the_second_the_trunk(dataset: Dataset) -> None:
    look = Look(dataset)
    trainer = started(dataset, look)
    trainer.fit()
    assert look.gradients[0] == 0
    assert min(look.gradients[1:]) > 0


def test_only_the_network_is_trained(dataset: Dataset) -> None:
    trainer = started(dataset)
    before: dict[str, torch.Tensor] = {}

    class Remember(Plugin):
        def fit_start(self, trainer: Trainer) -> None:
            before.update({k: v.clone() for k, v in trainer.task.model.start.state_dict().items()})

    trainer.plugins = [*trainer.plugins, Remember()]
    trainer.fit()
    assert before["weight"].abs().max() > 0
    for name, value in trainer.task.model.start.state_dict().items():
        assert torch.equal(value, before[name]), name


class Script(Plugin):
    """Plays back validation scores."""

    def __init__(self, score: float) -> None:
        self.score = score

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        record["scc"] = self.score


@pytest.mark.parametrize(("score", "kept"), [(-1.0, 0), (2.0, 1)])
def test_early_stopping_may_keep_the_start(dataset: Dataset, score: float, kept: int) -> None:
    look = Look(dataset)
    trainer = started(dataset, look)
    trainer.plugins = [trainer.plugins[0], Script(score), *trainer.plugins[1:]]
    trainer.fit()
    stopping = trainer.plugins[2]
    assert isinstance(stopping, EarlyStopping)
    assert stopping.best_epoch == kept
    assert torch.equal(trainer.predict(look.spots), look.before) is (kept == 0)


@pytest.mark.parametrize("start", ["low_rank", "convex"])
def test_where_the_start_is_kept_the_model_is_the_solution_on_all_spots(dataset: Dataset, start: Any) -> None:
    trainer = started(dataset, start=start)
    begun = trainer.plugins[0]
    assert isinstance(begun, SolvedStart)
    trainer.plugins = [begun, Script(-1.0), trainer.plugins[1], StartOnAllSpots(begun)]
    trainer.fit()
    estimator = {"low_rank": LowRank, "convex": Convex}[start](**begun.chosen)
    expected = estimator.fit(sample_of(dataset, np.arange(120))).predict(dataset.features)
    scores = trainer.predict(np.arange(120))[:, :PRIMARY].numpy()
    assert np.abs(scores - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    assert set(begun.summary()) == {f"start_{key}" for key in begun.chosen}


def test_a_network_that_is_kept_adds_the_same_to_the_solution_on_all_spots(dataset: Dataset) -> None:
    spots = np.arange(120)
    plain, again = started(dataset), started(dataset)
    for trainer in (plain, again):
        trainer.plugins = [trainer.plugins[0], Script(2.0), trainer.plugins[1]]
    begun = again.plugins[0]
    assert isinstance(begun, SolvedStart)
    again.plugins = [*again.plugins, StartOnAllSpots(begun)]
    added = []
    for trainer in (plain, again):
        trainer.fit()
        x = torch.from_numpy(dataset.features)
        added.append(trainer.predict(spots) - trainer.task.model.start(x))
    torch.testing.assert_close(added[0], added[1], rtol=1e-4, atol=1e-5)
    assert added[0].abs().max() > 1e-3
    assert not torch.allclose(plain.predict(spots), again.predict(spots), atol=1e-3)


def test_patience_counts_from_the_start(dataset: Dataset) -> None:
    trainer = started(dataset)
    trainer.plugins = [trainer.plugins[0], Script(-1.0), EarlyStopping(patience=3, from_start=True)]
    trainer.fit()
    assert trainer.epoch == 3


class Kill(Plugin):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        if trainer.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("killed_at", [1, 3])
@pytest.mark.parametrize("gate", ["loss", "trunk"])
def test_interrupted_and_resumed_equals_uninterrupted(
    dataset: Dataset, tmp_path: Path, killed_at: int, gate: str
) -> None:
    def state(trainer: Trainer) -> dict[str, Any]:
        told = {name: plugin.summary() for name, plugin in trainer._named_plugins().items()}
        return {**trainer.task.model.state_dict(), "told": told, "best": trainer.plugins[1].state_dict()["best"]}

    whole = started(dataset, Checkpoint(tmp_path / "whole.pt", every=2), gate=gate)
    whole.fit()
    broken = started(dataset, Kill(killed_at), Checkpoint(tmp_path / "broken.pt", every=2), gate=gate)
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    again = started(dataset, Checkpoint(tmp_path / "broken.pt", every=2), gate=gate)
    assert resume(again, tmp_path / "broken.pt") is (killed_at > 2)
    again.fit()
    first, second = state(whole), state(again)
    assert first.pop("told")["SolvedStart/0"] == second.pop("told")["SolvedStart/0"] != {}
    assert first.pop("best") == second.pop("best")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_saved_weights_hold_the_start(dataset: Dataset, tmp_path: Path) -> None:
    trainer = started(dataset)
    trainer.fit()
    save_weights(trainer, tmp_path / "w.safetensors")
    other = started(dataset)
    load_weights(other.task.model, tmp_path / "w.safetensors")
    assert torch.equal(other.predict(np.arange(120)), trainer.predict(np.arange(120)))


def test_what_a_config_comes_to() -> None:
    def start(*words: str) -> Any:
        return complete(load(["model=mlp", *words])).model.args.get("start")

    assert start() == start("loss=pearson") == "low_rank"
    assert start("loss=margin_ranking") == start("loss=negative_binomial") == "none"
    assert start("model.start=convex") == "convex"
    assert start("model.start=none") == "none"
    assert start("model=linear") is None
    assert complete(complete(load([]))) == complete(load([]))
    with pytest.raises(UserError, match=r"hinge has no curvature .* Or set model.start=none: there is no solution"):
        start("loss=margin_ranking", "model.start=low_rank")
    with pytest.raises(UserError, match="Expected auto or low_rank or convex or none for start of the model 'mlp'"):
        start("model.start=ridge")


def test_reading_a_start() -> None:
    assert read_start("none", Component(name="margin_ranking")) == "none"
    assert read_start("auto", Component(name="mse", centred=True)) == "low_rank"
    with pytest.raises(UserError, match=r"received 'own.py:loss'"):
        read_start("convex", Component(name="own.py:loss"))
