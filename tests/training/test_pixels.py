"""From patches to scores, end to end: it learns, and workers, interruptions and shares change nothing."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import strank
from agl.config import Component, Config, Training
from agl.data.batches import SpotLoader, grouped
from agl.models.predictor import mlp, resnet18
from agl.runs.checkpoint import resume
from agl.runs.provenance import run_id
from agl.runs.resolve import complete
from agl.training.plugins import Checkpoint, EarlyStopping, History, Plugin
from agl.training.task import Task
from agl.training.trainer import Trainer

PIXELS = Training(epochs=4, batch_size=20, patience=50, checkpoint_every=2, augment="dihedral", workers=2)
TRAIN = np.arange(60)


def fitted(trainer_on, **changes) -> dict[str, Tensor]:
    trainer = trainer_on(PIXELS.model_copy(update=changes))
    trainer.fit()
    return trainer.task.model.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def training_correlation(trainer: Trainer) -> float:
    counts = torch.from_numpy(trainer.task.loader.counts[TRAIN].toarray())[:, :10]
    slides = torch.from_numpy(np.asarray(trainer.task.loader.dataset.slide_codes)[TRAIN])
    return float(strank.pearson(trainer.predict(TRAIN)[:, :10], counts.log1p(), slides=slides).nanmean())


@pytest.mark.slow
def test_a_resnet_learns_from_pixels(trainer_on) -> None:
    losses = []

    class Keep(Plugin):
        def epoch_end(self, trainer, record) -> None:
            losses.append(record["primary_loss"])

    torch.manual_seed(0)
    settings = Training(epochs=10, batch_size=12, augment="dihedral")
    trainer = trainer_on(settings, [Keep()], resnet18(13))
    before = training_correlation(trainer)
    trainer.fit()
    assert losses[-1] < losses[0] - 0.1
    assert training_correlation(trainer) > before + 0.15


def test_the_number_of_workers_changes_no_bit(trainer_on) -> None:
    alone = fitted(trainer_on, workers=0)
    assert same(alone, fitted(trainer_on, workers=1))
    assert same(alone, fitted(trainer_on, workers=2))
    assert not same(alone, fitted(trainer_on, augment=Component(name="none")))


class Kill(Plugin):
    """Die in the midst of some epoch, or after it."""

    def __init__(self, step: int, kind: type[BaseException]) -> None:
        self.step, self.kind = step, kind

    def step_end(self, trainer, primary, auxiliary) -> None:
        if trainer.step == self.step:
            raise self.kind


@pytest.mark.parametrize("step", [5, 8])
def test_interrupted_and_resumed_equals_uninterrupted(trainer_on, tmp_path: Path, step: int) -> None:
    def plugins(name: str) -> list[Plugin]:
        (tmp_path / name).mkdir(exist_ok=True)
        return [
            EarlyStopping(patience=50), History(tmp_path / name / "h.jsonl"),
            Checkpoint(tmp_path / name / "state.pt", every=1),
        ]  # fmt: skip

    whole = trainer_on(plugins=plugins("whole"))
    whole.fit()
    broken = trainer_on(plugins=[*plugins("broken"), Kill(step, KeyboardInterrupt)])
    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    assert multiprocessing.active_children() == before  # the workers are gone
    again = trainer_on(PIXELS.model_copy(update={"workers": 1}), plugins("broken"))
    assert resume(again, tmp_path / "broken" / "state.pt")
    again.fit()
    assert same(whole.task.model.state_dict(), again.task.model.state_dict())
    assert (tmp_path / "whole" / "h.jsonl").read_bytes() == (tmp_path / "broken" / "h.jsonl").read_bytes()


def test_features_are_read_by_nobody_ahead_and_turned_by_nobody(dataset) -> None:
    torch.manual_seed(0)
    task = Task(
        mlp(6, 8, hidden=(4,)), strank.listwise_nll, SpotLoader(dataset, np.arange(8)), np.arange(80),
        np.arange(80, 120), 5, torch.ones(3),
    )  # fmt: skip
    with task.loader.read_by(2):
        assert not list(multiprocessing.active_children())
        assert len(list(task.loader.batches([np.arange(4)]))) == 1
        assert not list(multiprocessing.active_children())
    with pytest.raises(Exception, match=r"Set data\.features=none, or training\.augment=none"):
        Trainer(task, Training(augment="dihedral"), grouped).fit()


def test_workers_are_no_part_of_a_run_and_augmentation_is(dataset) -> None:
    plain = complete(Config().with_("split=random_spots"))
    names = [run_id(plain.with_(*words), dataset) for words in ([], ["training.workers=4"])]
    assert names[0] == names[1]
    assert run_id(plain.with_("training.augment=dihedral"), dataset) != names[0]


def damage(path: Path) -> None:
    """Compressed as real files are, and one patch of it overwritten: it opens, and cannot be read."""
    with h5py.File(path, "r") as h5:
        content = {key: h5[key][...] for key in h5}
    with h5py.File(path, "w") as h5:
        for key, values in content.items():
            options = {"chunks": (1, *values.shape[1:]), "compression": "gzip"} if key == "img" else {}
            h5.create_dataset(key, data=values, **options)
        offset = h5["img"].id.get_chunk_info(7).byte_offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"rubbish rubbish")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_patch_file_is_one_sentence(agl, picture_folder: Path, tmp_path: Path, workers: int) -> None:
    root = Path(shutil.copytree(picture_folder, tmp_path / "task"))
    damage(root / "patches" / "P2S1.h5")
    status, _, err = agl(
        "train", f"data.root={root}", "data.features=none", "split=random_spots", "fold=0", "primary.k=5",
        "primary.min_detection=0", "model=resnet18", "training.epochs=1",
        f"training.workers={workers}", "training.batch_size=16",
    )  # fmt: skip
    assert status == 2, err
    assert "P2S1.h5" in err
    assert "is damaged: copy it again" in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
