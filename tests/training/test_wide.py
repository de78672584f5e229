"""Head and loss in one, as the trainer uses it for panels whose counts stay sparse, beside the two apart."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import strank
from agl.bilevel import objective
from agl.config import Training
from agl.data import batches
from agl.data.batches import SpotLoader, grouped
from agl.models.predictor import linear, mlp
from agl.training import trainer as training
from agl.training.plugins import History
from agl.training.task import Task
from agl.training.trainer import Trainer

LOSSES = {
    "listwise": strank.listwise_nll,
    "options": partial(strank.listwise_nll, count_power=0.5),
    "pairwise": strank.pairwise_nll,
    "partners": partial(strank.pairwise_nll, n_partners=3),
    "pearson": strank.pearson_loss,
    "poisson": strank.poisson_nll,
    "mse": strank.mse,
    "centred": partial(strank.mse, centred=True),
}


def train(dataset, folder: Path, loss, **task) -> tuple[Trainer, list[dict]]:
    torch.manual_seed(0)
    history = History(folder / "history.jsonl")
    values = {
        "model": mlp(dataset.features.shape[1], 8, hidden=(16,), dropout=0.1),
        "loss": loss,
        "loader": SpotLoader(dataset, np.arange(8)),
        "train": np.arange(80),
        "validation": np.arange(80, 120),
        "n_primary": 5,
        "weights": torch.tensor([1.0, 0.5, 0.0]),
        **task,
    }
    trainer = Trainer(Task(**values), Training(epochs=3, batch_size=24, patience=50), grouped, 0, [history])
    trainer.fit()
    return trainer, [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.fixture
def sparse(monkeypatch) -> None:
    monkeypatch.setattr(batches, "DENSE_LIMIT", 0)


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize("combine", [objective.balanced, objective.sum, objective.weighted_mean])
@pytest.mark.parametrize("name", LOSSES)
def test_a_training_is_that_of_head_and_loss_apart(name, combine, dataset, tmp_path, monkeypatch):
    found, history = train(dataset, tmp_path, LOSSES[name], combine=combine)
    assert found.in_one is not None
    monkeypatch.setattr(training, "loss_in_one", lambda task: None)
    (tmp_path / "apart").mkdir()
    expected, expected_history = train(dataset, tmp_path / "apart", LOSSES[name], combine=combine)
    assert expected.in_one is None
    for ours, theirs in zip(history, expected_history, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ("loss", "primary_loss", "auxiliary_loss"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5)
    for key, value in expected.task.model.state_dict().items():
        if key == "head.bias" and name not in ("poisson", "mse"):
            continue  # the loss does not see a gene's level: its gradient is rounding, which Adam makes large in both
        torch.testing.assert_close(found.task.model.state_dict()[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("sparse")
def test_the_same_bits_twice(dataset, tmp_path):
    states = []
    for turn in ("a", "b"):
        (tmp_path / turn).mkdir()
        states.append(train(dataset, tmp_path / turn, strank.listwise_nll)[0].task.model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_small_panels_are_trained_as_before(dataset, tmp_path):
    assert train(dataset, tmp_path, strank.listwise_nll)[0].in_one is None


def uneven(primary, auxiliary, weights, *, strength=1.0):
    return primary.square().mean() + (weights * auxiliary).sum()


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize(
    "other",
    [
        {"loss": lambda s, c, *, slides=None, library_size=None: (s - c).square().mean(0)},
        {"loss": partial(strank.listwise_nll, list_size=8)},
        {"combine": uneven},
        {"gate": "trunk"},
        {"model": lambda features: torch.nn.Sequential(linear(features, 8))},
    ],
    ids=["a loss of one's own", "short lists", "not linear", "gated", "no trunk"],
)
def test_what_cannot_be_done_in_one_is_done_apart(other, dataset, tmp_path):
    values = {"loss": strank.listwise_nll} | other
    if "model" in values:
        values["model"] = values["model"](dataset.features.shape[1])
    trainer, history = train(dataset, tmp_path, **values)
    assert trainer.in_one is None
    assert np.isfinite(history[-1]["loss"])


@pytest.mark.usefixtures("sparse")
def test_a_sparse_batch_holds_the_counts_of_a_dense_one(dataset):
    loader, spots = SpotLoader(dataset, np.arange(8)), np.array([5, 3, 90])
    (rows,) = loader.batches([spots], sparse=True)
    assert rows.counts.layout == torch.sparse_csr
    assert torch.equal(rows.counts.to_dense(), loader(spots).counts)
    assert torch.equal(rows.to(torch.device("cpu")).counts.to_dense(), loader(spots).counts)
