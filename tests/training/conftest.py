"""A dataset in memory, small enough to train on in a blink, with signal in it; and one of patches on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import strank
from agl.bilevel import objective
from agl.config import Outer, Training
from agl.data.batches import SpotLoader, grouped
from agl.data.dataset import Dataset, open_dataset
from agl.data.simulate.task import simulate
from agl.genes.selectors.base import Selector
from agl.models.predictor import Predictor
from agl.testing.plugins import example_dataset as make_dataset
from agl.training.auxiliary import AuxiliarySelection
from agl.training.task import Task
from agl.training.trainer import Trainer

PIXELS = Training(epochs=4, batch_size=20, patience=50, checkpoint_every=2, augment="dihedral", workers=2)


@pytest.fixture
def dataset() -> Dataset:
    return make_dataset()


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slides of thirty spots with patches of 32 pixels. Read-only by convention."""
    options = {"spots_per_slide": 30, "n_genes": 60, "n_primary": 10, "patch_size": 32, "preset": "easy"}
    return simulate(tmp_path_factory.mktemp("pixels") / "task", n_patients=3, seed=2, **options)


@pytest.fixture(scope="session")
def pictures(picture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(picture_folder, features="none", cache_dir=tmp_path_factory.mktemp("cache"))


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


@pytest.fixture
def trainer_on(pictures: Dataset) -> Callable[..., Trainer]:
    """A trainer on the patches: two slides train, the third validates."""

    def make(settings: Training = PIXELS, plugins=(), model=None, device="cpu", **options) -> Trainer:
        torch.manual_seed(0)
        model = Predictor(Trunk(), 32, 13) if model is None else model
        train, validation, weights = np.arange(60), np.arange(60, 90), torch.ones(3)
        loader = SpotLoader(pictures, np.arange(13))
        task = Task(model, strank.pearson_loss, loader, train, validation, 10, weights, combine=objective.sum)
        return Trainer(task, settings, grouped, 0, plugins, torch.device(device), **options)

    return make


class Threshold(Selector):
    """One hyper-parameter."""

    signal = "hypergradient"

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.n_genes = 3
        self.threshold = nn.Parameter(torch.tensor(0.5))

    def forward(self) -> Tensor:
        return torch.sigmoid((self.threshold - torch.linspace(0, 1, 3).to(self.threshold)) / 0.3)


@pytest.fixture
def selection() -> AuxiliarySelection:
    """A selector of the three auxiliary genes, tuned on the third slide."""
    outer = Outer(steps=2, batches=1, every=1, start=0, batch_size=16, warm=False, same_batch=True)
    return AuxiliarySelection(Threshold(), outer, np.arange(60, 90))
