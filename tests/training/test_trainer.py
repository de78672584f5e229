"""The loop against a plain loop written here, interruption against no interruption."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import strank
from agl.config import Training
from agl.data.batches import SpotLoader, grouped
from agl.errors import UserError
from agl.models.predictor import mlp
from agl.runs.checkpoint import load_weights, resume, save_weights
from agl.seeds import seeded
from agl.training.plugins import Checkpoint, EarlyStopping, History, Plugin
from agl.training.task import Task
from agl.training.trainer import Trainer

SETTINGS = Training(epochs=6, batch_size=24, patience=50, checkpoint_every=2)


def make_trainer(
    dataset, plugins=(), settings=SETTINGS, loss=strank.listwise_nll, seed=0, dropout=0.1, **task
) -> Trainer:
    torch.manual_seed(seed)
    model = mlp(dataset.features.shape[1], 8, hidden=(16,), dropout=dropout)
    model.trunk[0].fit(torch.from_numpy(dataset.features[:80]))
    values = {
        "model": model,
        "loss": loss,
        "loader": SpotLoader(dataset, np.arange(8)),
        "train": np.arange(80),
        "validation": np.arange(80, 120),
        "n_primary": 5,
        "weights": torch.tensor([1.0, 0.5, 0.0]),
        **task,
    }
    return Trainer(Task(**values), settings, grouped, seed, plugins)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in trainer.task.model.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def test_the_loop_is_plain_training(dataset) -> None:
    trainer = make_trainer(dataset, dropout=0.0)
    reference = make_trainer(dataset, dropout=0.0).task
    trainer.fit()
    optimizer = torch.optim.AdamW(
        reference.model.parameters(), lr=SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay
    )
    slides = np.repeat([0, 1], 40)
    counts, library = dataset.counts.toarray(), dataset.library_size
    for epoch in range(SETTINGS.epochs):
        for rows in grouped(slides, 24, seeded(0, "batches", epoch)):
            losses = strank.listwise_nll(
                reference.model(torch.from_numpy(dataset.features[rows])),
                torch.from_numpy(counts[rows][:, :8]).float(),
                slides=torch.from_numpy(slides[rows]),
                library_size=torch.from_numpy(library[rows]),
            )
            loss = losses[:5].mean() + (losses[5] + 0.5 * losses[6]) / 1.5
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    expected = dict(reference.model.named_parameters())
    del expected["head.bias"]  # moves a gene's scores together: its gradient is rounding, of which Adam makes steps
    for name, theirs in expected.items():
        assert torch.allclose(trainer.task.model.get_parameter(name), theirs, atol=1e-5), name


def test_it_learns(dataset) -> None:
    trainer = make_trainer(dataset, settings=Training(epochs=60, batch_size=40, learning_rate=1e-2))
    before = trainer.validate()["scc"]
    trainer.fit()
    assert trainer.validate()["scc"] > max(0.4, before + 0.2)


def test_same_seed_same_bits_other_seed_other_bits(dataset) -> None:
    runs = [make_trainer(dataset, seed=seed) for seed in (0, 0, 1)]
    for trainer in runs:
        trainer.fit()
    assert same(weights_of(runs[0]), weights_of(runs[1]))
    assert not same(weights_of(runs[0]), weights_of(runs[2]))


class Kill(Plugin):
    """Die after some epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_end(self, trainer, record) -> None:
        if trainer.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("killed_at", [1, 3, 4, 5])
@pytest.mark.parametrize(
    "loss", [strank.listwise_nll, partial(strank.pairwise_nll, n_partners=2)], ids=["listwise", "pairwise"]
)
def test_interrupted_and_resumed_equals_uninterrupted(dataset, tmp_path: Path, killed_at: int, loss) -> None:
    def plugins(folder: str, *more: Plugin) -> list[Plugin]:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        return [EarlyStopping(patience=50), History(place / "h.jsonl"), Checkpoint(place / "state.pt", every=2), *more]

    whole = make_trainer(dataset, plugins("whole"), loss=loss)
    whole.fit()
    torch.manual_seed(99)  # whatever the global state was, it must not matter
    broken = make_trainer(dataset, plugins("broken", Kill(killed_at)), loss=loss)
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    again = make_trainer(dataset, plugins("broken"), loss=loss, seed=0)
    saved = (tmp_path / "broken" / "state.pt").exists()
    assert resume(again, tmp_path / "broken" / "state.pt") is saved
    again.fit()
    assert same(weights_of(whole), weights_of(again))
    assert (tmp_path / "whole" / "h.jsonl").read_bytes() == (tmp_path / "broken" / "h.jsonl").read_bytes()


class Settle(Plugin):
    """Changes the auxiliary genes' weights once, in the second epoch."""

    def epoch_start(self, trainer) -> None:
        if trainer.epoch == 1:
            trainer.task.weights = torch.tensor([0.0, 0.2, 1.0])


def test_weights_that_a_plugin_set_once_are_taken_up_again(dataset, tmp_path: Path) -> None:
    whole = make_trainer(dataset, [Settle(), Checkpoint(tmp_path / "whole.pt", every=6)])
    whole.fit()
    broken = make_trainer(dataset, [Settle(), Checkpoint(tmp_path / "state.pt", every=2), Kill(3)])
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    again = make_trainer(dataset, [Settle(), Checkpoint(tmp_path / "again.pt", every=6)])
    resume(again, tmp_path / "state.pt")
    assert again.task.weights.tolist() == pytest.approx([0.0, 0.2, 1.0])
    again.fit()
    assert same(weights_of(whole), weights_of(again))


class Script(Plugin):
    """Plays back validation scores."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores
        self.seen: list[dict] = []

    def epoch_end(self, trainer, record) -> None:
        record["scc"] = self.scores[trainer.epoch - 1]
        self.seen.append(weights_of(trainer))


def test_early_stopping_keeps_the_best_epoch(dataset) -> None:
    script = Script([0.1, 0.3, float("nan"), 0.3, 0.2, 0.9])
    stopping = EarlyStopping(patience=3)
    trainer = make_trainer(dataset, [script, stopping])
    trainer.fit()
    assert (trainer.epoch, stopping.best_epoch, stopping.best) == (5, 2, 0.3)
    assert same(weights_of(trainer), script.seen[1])


def test_undefined_scores_all_along_leave_the_last_weights(dataset) -> None:
    script = Script([float("nan")] * 6)
    trainer = make_trainer(dataset, [script, EarlyStopping(patience=30)])
    trainer.fit()
    assert same(weights_of(trainer), script.seen[-1])


def test_a_loss_that_is_not_finite_names_the_slide(dataset) -> None:
    trainer = make_trainer(dataset)
    dataset.features[3] = np.nan
    with pytest.raises(UserError, match=r"The inputs of slide S0 are not finite\. (Lower|It is so)"):
        trainer.fit()


def test_a_loss_with_parameters_has_them_trained_and_saved(dataset, tmp_path: Path) -> None:
    loss = strank.NegativeBinomialLoss(8)
    before = [p.clone() for p in loss.parameters()]
    trainer = make_trainer(dataset, [Checkpoint(tmp_path / "s.pt", every=6)], loss=loss)
    trainer.fit()
    assert all(not torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))
    other = make_trainer(dataset, [Checkpoint(tmp_path / "t.pt")], loss=strank.NegativeBinomialLoss(8))
    resume(other, tmp_path / "s.pt")
    assert all(torch.equal(a, b) for a, b in zip(loss.parameters(), other.task.loss.parameters(), strict=True))


def test_clipping_bounds_the_step(dataset) -> None:
    norms = []

    class Norms(Plugin):
        def step_end(self, trainer, primary, auxiliary) -> None:
            norms.append(torch.cat([p.grad.flatten() for p in trainer.task.model.parameters()]).norm().item())

    make_trainer(dataset, [Norms()], settings=Training(epochs=1, batch_size=24, clip=1e-3)).fit()
    assert max(norms) <= 1e-3 * 1.001


def test_cosine_schedule_is_torchs(dataset) -> None:
    seen = []

    class Rates(Plugin):
        def epoch_start(self, trainer) -> None:
            seen.append(trainer.optimizer.param_groups[0]["lr"])

    make_trainer(dataset, [Rates()], settings=Training(epochs=6, batch_size=24, schedule="cosine")).fit()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    expected = []
    for _ in range(6):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert np.allclose(seen, expected)


def test_weights_survive_the_disk_and_a_wrong_file_is_told(dataset, tmp_path: Path) -> None:
    trainer = make_trainer(dataset)
    trainer.fit()
    save_weights(trainer, tmp_path / "w.safetensors")
    other = make_trainer(dataset, seed=5)
    load_weights(other.task.model, tmp_path / "w.safetensors")
    assert same(weights_of(trainer), weights_of(other))
    (tmp_path / "w.safetensors").write_bytes(b"rubbish")
    with pytest.raises(UserError, match=r"Expected this model's weights in .*, received others"):
        load_weights(other.task.model, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="Was this run trained to its end"):
        load_weights(other.task.model, tmp_path / "nothing.safetensors")
    (tmp_path / "state.pt").write_bytes(b"rubbish")
    with pytest.raises(UserError, match="Expected a training state in"):
        resume(other, tmp_path / "state.pt")


def test_one_auxiliary_gene_of_weight_zero_changes_nothing_of_the_trunk(dataset) -> None:
    """Weights at 0 leave the primary genes' training as it is without auxiliary genes."""
    gated = make_trainer(dataset, weights=torch.zeros(3), dropout=0.0)
    gated.fit()
    alone = make_trainer(dataset, dropout=0.0)
    alone.task.weights = torch.zeros(3)
    alone.task.strength = 0.0
    alone.fit()
    for a, b in zip(gated.task.model.trunk.parameters(), alone.task.model.trunk.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


class Stop(Plugin):
    """Asks to stop after some epoch, before those that come after it in the list."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_end(self, trainer, record) -> None:
        trainer.stop = trainer.epoch == self.epoch


def test_who_asks_to_stop_is_heard_and_a_stopped_training_stays_stopped(dataset, tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    trainer = make_trainer(dataset, [Stop(3), EarlyStopping(patience=50), Checkpoint(file, every=2)])
    trainer.fit()
    assert trainer.epoch == 3
    again = make_trainer(dataset, [EarlyStopping(patience=50)])
    resume(again, file)
    again.fit()
    assert again.epoch == 3


def test_losses_of_an_epoch_are_means_over_its_spots(dataset) -> None:
    sizes, losses, records = [], [], []

    class Keep(Plugin):
        def step_end(self, trainer, primary, auxiliary) -> None:
            losses.append(primary.mean().item())

        def epoch_end(self, trainer, record) -> None:
            records.append(record)

    def uneven(slides, size, rng) -> list[np.ndarray]:
        batches = [np.arange(10), np.arange(10, 80)]
        sizes.extend(map(len, batches))
        return batches

    trainer = make_trainer(dataset, [Keep()], settings=Training(epochs=1, batch_size=24, learning_rate=0.1))
    trainer.sampler = uneven
    trainer.fit()
    assert abs(losses[0] - losses[1]) > 1e-3
    assert records[0]["primary_loss"] == pytest.approx(np.average(losses, weights=sizes))


def test_a_prediction_is_without_dropout(dataset) -> None:
    trainer = make_trainer(dataset, dropout=0.5)
    trainer.task.model.train()
    spots = np.arange(80, 120)
    expected = trainer.task.model.eval()(torch.from_numpy(dataset.features[spots]))
    trainer.task.model.train()
    assert torch.allclose(trainer.predict(spots), expected, atol=1e-6)


def test_a_losss_own_parameters_do_not_decay(dataset) -> None:
    trainer = make_trainer(dataset, loss=strank.NegativeBinomialLoss(8))
    decays = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert {decays[id(p)] for p in trainer.task.loss.parameters()} == {0.0}
    assert {decays[id(p)] for p in trainer.task.model.parameters()} == {SETTINGS.weight_decay}


def test_what_is_not_finite_is_null_in_the_history(dataset, tmp_path: Path) -> None:
    make_trainer(dataset, [Script([float("nan")] * 6), History(tmp_path / "h.jsonl")]).fit()
    lines = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert [line["scc"] for line in lines] == [None] * 6
    assert all(np.isfinite(line["loss"]) for line in lines)
