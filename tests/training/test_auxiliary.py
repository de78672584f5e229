"""The plugin that tunes a selection: what it tells each kind of selector, and what the training sees of it."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn

import strank
from agl import registry
from agl.bilevel.engines import forward, reverse
from agl.bilevel.problem import Problem
from agl.config import Component, Outer, Training
from agl.data.batches import SpotLoader, grouped
from agl.errors import UserError
from agl.genes.selectors import GradientSimilarity, InfluenceGates, UncertaintyWeights
from agl.genes.selectors.base import Selector
from agl.models.predictor import linear, mlp
from agl.training.auxiliary import AuxiliarySelection
from agl.training.plugins import Plugin
from agl.training.task import Task
from agl.training.trainer import Trainer

SETTINGS = Training(epochs=3, batch_size=24, patience=50)
OUTER = Outer(steps=2, batches=3, every=1, start=1, batch_size=20, learning_rate=0.05)


class Gates(Selector):
    """One sigmoid per gene: the plainest selector with a hypergradient."""

    signal = "hypergradient"

    def __init__(self, n: int) -> None:
        nn.Module.__init__(self)
        self.n_genes = n
        self.logits = nn.Parameter(torch.zeros(n))

    def forward(self) -> torch.Tensor:
        return torch.sigmoid(self.logits)


def trainer_with(
    dataset, selector, outer=OUTER, model=mlp, settings=SETTINGS, extra=(), loss=strank.listwise_nll, **task
):
    torch.manual_seed(0)
    given = {"hidden": (8,), "dropout": 0.0} if model is mlp else {}
    predictor = model(dataset.features.shape[1], 9, **given)
    plugin = AuxiliarySelection(selector, outer, np.arange(60, 80), seed=0)
    values = Task(
        predictor, strank.listwise_nll, SpotLoader(dataset, np.arange(9)), np.arange(60), np.arange(80, 120), 4,
        selector().detach().clone(), **task,
    )  # fmt: skip
    return Trainer(values, settings, grouped, 0, [plugin, *extra]), plugin


def candidates_of(dataset, n_primary=4, n=9):
    from agl.genes.candidates import Candidates
    from agl.genes.training import TrainingSpots

    return Candidates(TrainingSpots.of(dataset, np.arange(60)), np.arange(n_primary), np.arange(n_primary, n))


@pytest.mark.parametrize("gate", ["loss", "trunk"])
@pytest.mark.parametrize("objective", ["balanced", "sum", "weighted_mean"])
def test_an_outer_step_is_adam_on_the_mean_hypergradient(dataset, gate: str, objective: str) -> None:
    selector = Gates(5)
    trainer, plugin = trainer_with(
        dataset, selector, replace_engine("reverse"), gate=gate, combine=registry.find("objective", objective)
    )
    plugin.fit_start(trainer)
    trainer.epoch = 1
    seen = []

    @functools.wraps(reverse)
    def spy(problem: Problem, inner, outer, settings):
        found = reverse(problem, inner, outer, settings)
        assert len(inner) == OUTER.steps
        assert set(outer.spots.tolist()) <= set(range(60, 80))
        assert all(set(batch.spots.tolist()) <= set(range(60)) for batch in inner)
        seen.append(found.phi["logits"])
        return found

    original = registry.find
    registry.find = lambda kind, name: spy if kind == "engine" else original(kind, name)
    try:
        plugin.epoch_start(trainer)
    finally:
        registry.find = original
    assert len(seen) == OUTER.batches
    reference = torch.zeros(5, requires_grad=True)
    adam = torch.optim.Adam([reference], lr=OUTER.learning_rate)
    reference.grad = torch.stack(seen).mean(0)
    adam.step()
    assert torch.allclose(selector.logits, reference, atol=1e-6)
    assert torch.equal(trainer.task.weights, selector().detach())


def replace_engine(name: str, **changes) -> Outer:
    return OUTER.model_copy(update={"engine": Component(name=name), **changes})


def test_the_training_sees_the_weights_and_history_the_numbers(dataset) -> None:
    records = []

    class Keep(Plugin):
        def epoch_end(self, trainer, record) -> None:
            records.append((record, trainer.task.weights.clone()))

    trainer, plugin = trainer_with(dataset, Gates(5), replace_engine("reverse"), extra=[Keep()])
    trainer.fit()
    assert "hypergradient" not in records[0][0]
    assert {"k", "primary_share", "hypergradient", "hypergradient_t", "sign_agreement"} <= set(records[1][0])
    assert records[1][0]["outer_after"] != records[1][0]["outer_before"]
    assert 0 < records[1][0]["primary_share"] < 1
    assert not torch.equal(records[0][1], records[1][1])
    assert plugin.summary()["look_aheads"] == 2 * OUTER.batches
    assert [name for name in records[1][0] if name.startswith("phi/")] == [f"phi/logits/{i}" for i in range(5)]


@pytest.mark.parametrize("kind", [InfluenceGates, GradientSimilarity])
def test_selectors_that_observe_get_one_number_a_gene(dataset, kind) -> None:
    heard = []

    class Listening(kind):
        def observe(self, signal) -> None:
            heard.append(signal.clone())
            super().observe(signal)

    trainer, _ = trainer_with(dataset, Listening(candidates_of(dataset)))
    trainer.fit()
    assert len(heard) == 2 * OUTER.batches
    assert all(signal.shape == (5,) and torch.isfinite(signal).all() for signal in heard)


def test_similarity_is_told_how_many_batches_the_training_spots_hold(dataset) -> None:
    selector = GradientSimilarity(candidates_of(dataset))
    trainer, plugin = trainer_with(dataset, selector)
    plugin.fit_start(trainer)
    assert selector.disjoint == 60 / OUTER.batch_size


def test_selectors_that_listen_to_losses_hear_every_step(dataset) -> None:
    heard = []

    class Listening(UncertaintyWeights):
        def observe(self, signal) -> None:
            heard.append(signal.clone())
            super().observe(signal)

    trainer, _ = trainer_with(dataset, Listening(candidates_of(dataset)))
    trainer.fit()
    assert len(heard) == trainer.step


def test_nothing_shared_is_refused_before_any_time_is_spent(dataset) -> None:
    trainer, _ = trainer_with(dataset, Gates(5), model=linear)
    with pytest.raises(UserError, match="shared trainable trunk"):
        trainer.fit()
    assert trainer.epoch == 0


def test_a_look_ahead_leaves_model_optimiser_and_random_state_alone(dataset) -> None:
    trainer, _ = trainer_with(dataset, Gates(5), replace_engine("none"))
    other, tuned = trainer_with(dataset, Gates(5), replace_engine("forward"))
    tuned._descend = lambda gradients: None  # look ahead, but never move
    trainer.fit()
    other.fit()
    for a, b in zip(trainer.task.model.parameters(), other.task.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_engine_is_given_what_the_config_says(dataset, monkeypatch) -> None:
    seen = []

    def spy(problem, inner, outer, settings):
        seen.append((problem, settings))
        return reverse(problem, inner, outer, settings)

    from agl import registry

    original = registry.find
    monkeypatch.setattr(registry, "find", lambda kind, name: spy if kind == "engine" else original(kind, name))
    changes = {"warm": False, "inner_optimizer": "sgd", "inner_learning_rate": 0.03, "batches": 2}
    trainer, plugin = trainer_with(dataset, Gates(5), OUTER.model_copy(update=changes), strength=0.3, gate="trunk")
    plugin.fit_start(trainer)
    trainer.epoch = 1
    plugin.epoch_start(trainer)
    (problem, first), (_, second) = seen
    assert (problem.strength, problem.gate, problem.n_primary) == (0.3, "trunk", 4)
    assert (first.optimizer, first.warm, first.precision) == (trainer.optimizer, False, None)
    assert (first.inner_optimizer, first.inner_lr) == ("sgd", 0.03)
    assert first.seed != second.seed


def test_a_selector_is_told_the_epoch_and_brought_back_into_its_range(dataset) -> None:
    class Bounded(Gates):
        def on_epoch(self, epoch, epochs) -> None:
            self.told = (epoch, epochs)

        def project(self) -> None:
            with torch.no_grad():
                self.logits.clamp_(-0.01, 0.01)

    selector = Bounded(5)
    trainer_with(dataset, selector, replace_engine("reverse"))[0].fit()
    assert selector.told == (SETTINGS.epochs - 1, SETTINGS.epochs)
    assert selector.logits.detach().abs().max().item() == pytest.approx(0.01)


def test_no_engine_is_no_signal_and_the_summary_says_why(dataset) -> None:
    trainer, plugin = trainer_with(dataset, Gates(5), replace_engine("none"))
    trainer.fit()
    assert plugin.summary()["outer_signal"] == "the engine is 'none'"


def test_gating_the_trunk_is_the_two_term_objective(dataset) -> None:
    """The trainer's single matrix product against heads on detached features plus a weighted trunk term."""
    trainer, _ = trainer_with(dataset, Gates(5), gate="trunk", strength=2.0)
    trainer.task.weights = torch.tensor([1.0, 0.5, 0.0, 0.25, 1.0])
    batch = trainer.task.loader(np.arange(20))
    trainer.objective(batch)[0].backward()
    got = {name: p.grad.clone() for name, p in trainer.task.model.named_parameters()}
    trainer.task.model.zero_grad()
    model, weights = trainer.task.model, trainer.task.weights
    options = {"slides": batch.slides, "library_size": batch.library_size}
    hidden = model.trunk(batch.inputs)
    fixed = torch.nn.functional.linear(hidden, model.head.weight.detach(), model.head.bias.detach())
    trunk = strank.listwise_nll(fixed, batch.counts, **options)
    heads = strank.listwise_nll(model.head(hidden.detach()), batch.counts, **options)
    in_trunk = trunk[:4].mean() + 2 * (weights * trunk[4:]).sum() / weights.sum()
    (in_trunk + heads[:4].mean() + 2 * heads[4:].mean()).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(got[name], parameter.grad, atol=1e-6), name


def test_the_same_batch_may_serve_all_inner_steps(dataset) -> None:
    seen = []

    @functools.wraps(forward)
    def spy(problem, inner, outer, settings):
        seen.append(inner)
        return forward(problem, inner, outer, settings)

    from agl import registry

    trainer, plugin = trainer_with(dataset, Gates(5), OUTER.model_copy(update={"same_batch": True, "steps": 4}))
    plugin.fit_start(trainer)
    trainer.epoch = 1
    original = registry.find
    registry.find = lambda kind, name: spy if kind == "engine" else original(kind, name)
    try:
        plugin.epoch_start(trainer)
    finally:
        registry.find = original
    assert all(len(inner) == 4 and all(batch is inner[0] for batch in inner) for inner in seen)
