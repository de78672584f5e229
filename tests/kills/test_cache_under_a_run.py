"""The cache deleted, built again or changed while a run reads it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agl.data.dataset import open_dataset
from agl.training.plugins import History
from tests.kills.harness import NET

TRAIN = ["train", *NET, "training.epochs=4", "fold=0", "loss=mse"]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], None]:
    """Have something happen to the imports after the second epoch."""

    def arrange(happens: Callable[[Path], None]) -> None:
        record = History.epoch_end

        def epoch_end(self: History, trainer: object, numbers: dict) -> None:
            record(self, trainer, numbers)
            if numbers["epoch"] == 2:
                happens(Path(os.environ["AGL_CACHE"]) / "datasets")

        monkeypatch.setattr(History, "epoch_end", epoch_end)

    return arrange


@pytest.fixture
def place(stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "task").symlink_to(stock / "task")
    monkeypatch.setenv("AGL_CACHE", str(tmp_path / "cache"))
    return tmp_path


def results(place: Path) -> dict[str, bytes]:
    [run] = place.glob("runs/run/*")
    return {name: (run / name).read_bytes() for name in ("result.json", "history.jsonl", "predictions.npz")}


def build_again(datasets: Path) -> None:
    shutil.rmtree(datasets)
    datasets.mkdir()
    open_dataset("task", features="latent")


@pytest.mark.parametrize("happens", [shutil.rmtree, build_again])
def test_what_is_open_is_still_read(happens: Callable, agl: Callable, place: Path, meanwhile: Callable) -> None:
    assert agl(*TRAIN)[0] == 0
    truth = results(place)
    shutil.rmtree(place / "runs")
    meanwhile(happens)
    status, _, err = agl(*TRAIN)
    assert status == 0, err
    assert results(place) == truth


def test_features_that_change_are_no_result(
    agl: Callable, place: Path, meanwhile: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(datasets: Path) -> None:
        [features] = datasets.glob("*/features.npy")
        table = np.load(features, mmap_mode="r+")
        table[:] = 0
        table.flush()

    assert agl(*TRAIN)[0] == 0
    truth = results(place)
    shutil.rmtree(place / "runs")
    meanwhile(spoil)
    status, _, err = agl(*TRAIN)
    assert status == 2
    assert "features.npy has changed. Delete runs/run/" in err
    assert not list(place.rglob("result.json"))
    shutil.rmtree(place / "runs")
    monkeypatch.undo()
    monkeypatch.setenv("AGL_CACHE", str(place / "cache"))
    assert agl(*TRAIN)[0] == 0
    assert results(place) == truth
