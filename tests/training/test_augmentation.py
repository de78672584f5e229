"""Training sees patches flipped and turned, scoring and the outer problem see them as they lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agl.data.augment import turned
from agl.data.dataset import Dataset
from agl.models.predictor import Predictor
from agl.training.parallel import Ranks

TRAIN, VALIDATION = np.arange(60), np.arange(60, 90)


def is_raw(pictures: Dataset, patches: Tensor) -> Tensor:
    """Of each patch, whether it is one of the data as it lies on disk."""
    raw = torch.from_numpy(pictures.patches.read(np.arange(len(pictures)))).flatten(1)
    return (patches.flatten(1)[:, None] == raw).all(2).any(1)


def test_training_batches_are_turned_and_scored_ones_are_not(pictures, trainer_on) -> None:
    trainer = trainer_on()
    trainer.fit()
    trainer.predict(TRAIN)
    trained = torch.cat([patches for training, patches in trainer.task.model.trunk.seen if training])
    scored = torch.cat([patches for training, patches in trainer.task.model.trunk.seen if not training])
    assert len(trained) == 4 * len(TRAIN)
    assert 0.05 < is_raw(pictures, trained).float().mean() < 0.25  # one of eight elements changes nothing
    assert is_raw(pictures, scored).all()
    epochs = trained.reshape(4, len(TRAIN), 32, 32, 3)
    assert len({epoch.numpy().tobytes() for epoch in epochs}) == 4


def test_inner_batches_are_turned_and_outer_ones_are_not(pictures, trainer_on, selection) -> None:
    trainer = trainer_on()
    inner = selection._inner(trainer, 0, 3)
    assert not is_raw(pictures, torch.cat([batch.inputs for batch in inner])).all()
    for batch in inner:  # each is its own patch turned, not another spot's
        raw = torch.from_numpy(pictures.patches.read(batch.spots.numpy()))
        copies = torch.stack([turned(raw, torch.full((len(raw),), element)) for element in range(8)])
        assert (copies == batch.inputs).flatten(2).all(2).any(0).all()
    outer = selection._outer(trainer, 0)
    assert np.array_equal(outer.inputs.numpy(), pictures.patches.read(outer.spots.numpy()))


class Seen(Exception):
    """Enough was seen."""


class Watching(nn.Module):
    """A trunk without batch norm, which is refused where a batch is shared."""

    def forward(self, patches: Tensor) -> Tensor:
        self.patches = patches
        return torch.zeros(len(patches), 4, requires_grad=True)


class Half(Ranks):
    """A process whose partner is not there: it can compute its scores, and no more."""

    def gather(self, own: Tensor, n: int) -> Tensor:
        raise Seen


def test_processes_that_share_a_training_see_what_one_sees(trainer_on) -> None:
    def first(ranks: Ranks) -> Tensor:
        trainer = trainer_on(model=Predictor(Watching(), 4, 13), ranks=ranks)
        with pytest.raises(Seen):
            trainer.fit()
        return trainer.task.model.trunk.patches

    whole = first(Half(0, 1))
    assert len(whole) == 20
    assert torch.equal(torch.cat([first(Half(0, 2)), first(Half(1, 2))]), whole)
