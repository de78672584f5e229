"""Every built-in plugin against the contract, and plugins that break it in one way each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.progress import Progress

from agl.config import Outer
from agl.genes.candidates import Candidates
from agl.genes.selectors import DkGSB, UncertaintyWeights
from agl.genes.training import TrainingSpots
from agl.testing import check_plugin
from agl.testing.plugins import N_GENES, N_PRIMARY, example_dataset
from agl.training.auxiliary import AuxiliarySelection
from agl.training.plugins import Checkpoint, EarlyStopping, History, Plugin, ProgressBar, TensorBoard


def selection(kind) -> AuxiliarySelection:
    training = TrainingSpots.of(example_dataset(), np.arange(60))
    candidates = Candidates(training, np.arange(N_PRIMARY), np.arange(N_PRIMARY, N_GENES))
    return AuxiliarySelection(kind(candidates), Outer(every=1, batches=2, batch_size=16), np.arange(60, 80))


@pytest.mark.parametrize("make", [lambda: EarlyStopping(patience=2), EarlyStopping], ids=["impatient", "patient"])
def test_early_stopping(make) -> None:
    check_plugin(make)


@pytest.mark.parametrize("kind", [DkGSB, UncertaintyWeights])
def test_auxiliary_selection(kind) -> None:
    check_plugin(lambda: selection(kind))


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: History(folder / "history.jsonl"),
        lambda folder: Checkpoint(folder / "state.pt", every=1),
        lambda folder: TensorBoard(folder / "tb"),
        lambda folder: ProgressBar(Progress("{task.fields[note]}", disable=True), "run"),
    ],
    ids=["History", "Checkpoint", "TensorBoard", "ProgressBar"],
)
def test_those_that_only_watch(make, tmp_path) -> None:
    check_plugin(lambda: make(tmp_path), watches=True)


class Misnamed(Plugin):
    def epoch_ends(self, trainer, record) -> None:
        """One letter too many."""


class Forgetful(Plugin):
    """Freezes an auxiliary gene after three epochs it counts itself."""

    def __init__(self) -> None:
        self.epochs = 0

    def epoch_end(self, trainer, record) -> None:
        self.epochs += 1
        if self.epochs == 2:
            trainer.task.weights = torch.zeros(3)


class Quiet(Forgetful):
    """Forgets only what it writes down."""

    def epoch_end(self, trainer, record) -> None:
        self.epochs += 1
        record["mine"] = self.epochs


class Moody(Plugin):
    def epoch_end(self, trainer, record) -> None:
        trainer.task.weights = torch.from_numpy(np.random.default_rng().random(3, dtype=np.float32))


class Wordy(Plugin):
    def epoch_end(self, trainer, record) -> None:
        record["tensor"] = torch.zeros(2)


class Pickled(Plugin):
    def state_dict(self) -> dict:
        return {"self": np.random.default_rng(0)}


class Meddling(Plugin):
    def step_end(self, trainer, primary, auxiliary) -> None:
        with torch.no_grad():
            trainer.task.model.head.bias += 0.1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Misnamed, "Did you mean 'epoch_end'"),
        (Forgetful, "belongs in state_dict"),
        (Quiet, "Expected the same records of epochs after 1"),
        (Moody, "seed what is random"),
        (Wordy, "Expected numbers and words in the record"),
        (Pickled, "cannot be read back without running code"),
        (Meddling, "only watches"),
        (object, "inherit agl.training.plugins.Plugin"),
    ],
)
def test_what_breaks_the_contract_is_told(make, told) -> None:
    with pytest.raises(AssertionError, match=told):
        check_plugin(make, watches=True)
