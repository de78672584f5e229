"""From patches to scores, end to end: it learns, and workers, interruptions and shares change nothing."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import strank
from agl.config import Config, Outer, Training
from agl.data.augment import turned
from agl.data.batches import SpotLoader, grouped
from agl.data.dataset import Dataset, open_dataset
from agl.data.simulate.task import simulate
from agl.genes.selectors.base import Selector
from agl.models.predictor import Predictor, mlp, resnet18
from agl.studies.provenance import fingerprint
from agl.training.auxiliary import AuxiliarySelection
from agl.training.checkpoint import resume
from agl.training.experiment import complete
from agl.training.parallel import Ranks
from agl.training.plugins import Checkpoint, EarlyStopping, History, Plugin
from agl.training.trainer import Task, Trainer

SETTINGS = Training(epochs=4, batch_size=20, patience=50, checkpoint_every=2, augment="dihedral", workers=2)
TRAIN, VALIDATION = np.arange(0, 60), np.arange(60, 90)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"spots_per_slide": 30, "n_genes": 60, "n_primary": 10, "patch_size": 32, "preset": "easy"}
    return simulate(tmp_path_factory.mktemp("pixels") / "task", n_patients=3, seed=2, **options)


@pytest.fixture(scope="module")
def pictures(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(folder, features="none", cache_dir=tmp_path_factory.mktemp("cache"))


class Trunk(nn.Module):
    """A small picture of a ResNet, with dropout, so that stray random numbers show; it remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Dropout(0.2),
        )  # fmt: skip
        self.seen: list[tuple[bool, Tensor]] = []

    def forward(self, patches: Tensor) -> Tensor:
        self.seen.append((self.training, patches))
        return self.layers(patches.permute(0, 3, 1, 2).float() / 255)


def trainer_on(pictures: Dataset, settings=SETTINGS, plugins=(), model=None, device="cpu", **options) -> Trainer:
    torch.manual_seed(0)
    model = Predictor(Trunk(), 32, 13) if model is None else model
    task = Task(
        model, strank.pearson_loss, SpotLoader(pictures, np.arange(13)), TRAIN, VALIDATION, 10, torch.ones(3), "sum"
    )
    return Trainer(task, settings, grouped, 0, plugins, torch.device(device), **options)


def fitted(pictures: Dataset, **changes) -> dict[str, Tensor]:
    trainer = trainer_on(pictures, SETTINGS.model_copy(update=changes))
    trainer.fit()
    return trainer.task.model.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def training_correlation(trainer: Trainer) -> float:
    counts = torch.from_numpy(trainer.task.loader.counts[TRAIN].toarray())[:, :10]
    slides = torch.from_numpy(np.asarray(trainer.task.loader.dataset.slide_codes)[TRAIN])
    return float(strank.pearson(trainer.predict(TRAIN)[:, :10], counts.log1p(), slides=slides).nanmean())


@pytest.mark.slow
def test_a_resnet_learns_from_pixels(pictures) -> None:
    losses = []

    class Keep(Plugin):
        def epoch_end(self, trainer, record) -> None:
            losses.append(record["primary_loss"])

    settings = Training(epochs=12, batch_size=20, learning_rate=1e-3, augment="dihedral")
    trainer = trainer_on(pictures, settings, [Keep()], resnet18(13))
    before = training_correlation(trainer)
    trainer.fit()
    assert losses[-1] < losses[0] - 0.1
    assert training_correlation(trainer) > before + 0.3


def test_the_number_of_workers_changes_no_bit(pictures) -> None:
    alone = fitted(pictures, workers=0)
    assert same(alone, fitted(pictures, workers=1))
    assert same(alone, fitted(pictures, workers=2))
    assert not same(alone, fitted(pictures, augment="none"))


class Kill(Plugin):
    """Die in the midst of some epoch, or after it."""

    def __init__(self, step: int, kind: type[BaseException]) -> None:
        self.step, self.kind = step, kind

    def step_end(self, trainer, primary, auxiliary) -> None:
        if trainer.step == self.step:
            raise self.kind


@pytest.mark.parametrize("step", [5, 8])
def test_interrupted_and_resumed_equals_uninterrupted(pictures, tmp_path: Path, step: int) -> None:
    def plugins(name: str) -> list[Plugin]:
        (tmp_path / name).mkdir(exist_ok=True)
        return [
            EarlyStopping(patience=50), History(tmp_path / name / "h.jsonl"),
            Checkpoint(tmp_path / name / "state.pt", every=1),
        ]  # fmt: skip

    whole = trainer_on(pictures, plugins=plugins("whole"))
    whole.fit()
    broken = trainer_on(pictures, plugins=[*plugins("broken"), Kill(step, KeyboardInterrupt)])
    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    assert multiprocessing.active_children() == before  # the workers are gone
    again = trainer_on(pictures, SETTINGS.model_copy(update={"workers": 1}), plugins("broken"))
    assert resume(again, tmp_path / "broken" / "state.pt")
    again.fit()
    assert same(whole.task.model.state_dict(), again.task.model.state_dict())
    assert (tmp_path / "whole" / "h.jsonl").read_bytes() == (tmp_path / "broken" / "h.jsonl").read_bytes()


def is_raw(pictures: Dataset, patches: Tensor) -> Tensor:
    """Of each patch, whether it is one of the data as it lies on disk."""
    raw = torch.from_numpy(pictures.patches.read(np.arange(len(pictures)))).flatten(1)
    return (patches.flatten(1)[:, None] == raw).all(2).any(1)


def test_training_batches_are_turned_and_scored_ones_are_not(pictures) -> None:
    trainer = trainer_on(pictures)
    trainer.fit()
    trainer.predict(TRAIN)
    trained = torch.cat([patches for training, patches in trainer.task.model.trunk.seen if training])
    scored = torch.cat([patches for training, patches in trainer.task.model.trunk.seen if not training])
    assert len(trained) == 4 * len(TRAIN)
    assert 0.05 < is_raw(pictures, trained).float().mean() < 0.25  # one of eight elements changes nothing
    assert is_raw(pictures, scored).all()
    epochs = trained.reshape(4, len(TRAIN), 32, 32, 3)
    assert len({epoch.numpy().tobytes() for epoch in epochs}) == 4


class Threshold(Selector):
    """One hyper-parameter."""

    signal = "hypergradient"

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.n_genes = 3
        self.threshold = nn.Parameter(torch.tensor(0.5))

    def forward(self) -> Tensor:
        return torch.sigmoid((self.threshold - torch.linspace(0, 1, 3).to(self.threshold)) / 0.3)


OUTER = Outer(steps=2, batches=1, every=1, start=0, batch_size=16, warm=False, same_batch=True)


def test_inner_batches_are_turned_and_outer_ones_are_not(pictures) -> None:
    plugin = AuxiliarySelection(Threshold(), OUTER, VALIDATION)
    trainer = trainer_on(pictures)
    inner = plugin._batches(trainer, TRAIN, "inner", 0, 3)
    assert not is_raw(pictures, torch.cat([batch.inputs for batch in inner])).all()
    for batch in inner:  # each is its own patch turned, not another spot's
        raw = torch.from_numpy(pictures.patches.read(batch.spots.numpy()))
        copies = torch.stack([turned(raw, torch.full((len(raw),), element)) for element in range(8)])
        assert (copies == batch.inputs).flatten(2).all(2).any(0).all()
    outer = plugin._batches(trainer, VALIDATION, "outer", 0, 1)[0]
    assert np.array_equal(outer.inputs.numpy(), pictures.patches.read(outer.spots.numpy()))


def test_the_hypergradient_is_in_full_precision_whatever_surrounds_it(pictures) -> None:
    plugin = AuxiliarySelection(Threshold(), OUTER, VALIDATION)
    trainer = trainer_on(pictures, plugins=[plugin])
    plugin.fit_start(trainer)
    trainer.task.model.train()
    plain = plugin._look_ahead(trainer, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        surrounded = plugin._look_ahead(trainer, 0)
    assert torch.equal(plain.phi["threshold"], surrounded.phi["threshold"])
    assert plain.outer_after == surrounded.outer_after


class Seen(Exception):
    """Enough was seen."""


class Half(Ranks):
    """A process whose partner is not there: it can compute its scores, and no more."""

    def gather(self, own: Tensor, n: int) -> Tensor:
        raise Seen


def test_processes_that_share_a_training_see_what_one_sees(pictures) -> None:
    def first(ranks: Ranks) -> Tensor:
        model = Predictor(nn.Sequential(trunk := Trunk(), nn.Identity()), 32, 13)
        model.trunk[0].layers[1] = nn.Identity()  # batch norm is refused where a batch is shared
        trainer = trainer_on(pictures, model=model, ranks=ranks)
        with pytest.raises(Seen):
            trainer.fit()
        return trunk.seen[0][1]

    whole = first(Half(0, 1))
    assert len(whole) == 20
    assert torch.equal(torch.cat([first(Half(0, 2)), first(Half(1, 2))]), whole)


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
    names = [fingerprint(plain.with_(*words), dataset) for words in ([], ["training.workers=4"])]
    assert names[0] == names[1]
    assert fingerprint(plain.with_("training.augment=dihedral"), dataset) != names[0]


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
def test_a_damaged_patch_file_is_one_sentence(agl, folder: Path, tmp_path: Path, workers: int) -> None:
    import shutil

    root = Path(shutil.copytree(folder, tmp_path / "task"))
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="mixed precision acts on a GPU only, and there is none")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_leaves_the_engine_alone(pictures, tmp_path: Path, precision: str) -> None:
    settings = Training(epochs=12, batch_size=20, augment="dihedral", workers=2, precision=precision)
    plugin = AuxiliarySelection(Threshold(), OUTER, VALIDATION)
    history = History(tmp_path / "h.jsonl")
    trainer = trainer_on(pictures, settings, [plugin, history], resnet18(13), device="cuda")
    before = training_correlation(trainer)
    trainer.fit()
    assert training_correlation(trainer) > before + 0.3
    losses = [json.loads(line)["primary_loss"] for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.1
    assert all(parameter.dtype is torch.float32 for parameter in trainer.task.model.parameters())
    trainer.task.model.train()
    found = plugin._look_ahead(trainer, 0)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        surrounded = plugin._look_ahead(trainer, 0)
    assert found.phi["threshold"].dtype is torch.float32
    assert torch.allclose(found.phi["threshold"], surrounded.phi["threshold"], rtol=1e-3)
