"""Files cut off anywhere: what reads them says a sentence, or does the work again with the same result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.kills.harness import NET, scenarios

TRAIN = ["train", *NET, "training.epochs=2", "fold=0", "loss=mse"]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sections and the finished runs on them, to be broken."""
    for name in ("task", "large"):
        (tmp_path / name).symlink_to(stock / name)
    shutil.copytree(stock / "runs", tmp_path / "runs")
    monkeypatch.setenv("AGL_CACHE", str(stock / "cache"))
    return tmp_path


def cut(path: Path, rng: np.random.Generator) -> None:
    """Keep a random beginning."""
    os.truncate(path, int(rng.integers(path.stat().st_size)))


def clean(outcome: tuple[int, str, str]) -> int:
    """Exit status of a command that did its work, or said one sentence."""
    status, out, err = outcome
    assert "Traceback" not in out + err, err
    assert status in (0, 2), err
    if status == 2:
        [sentence] = [line for line in err.splitlines() if line.startswith("agl: ")]
        assert len(sentence) < 600
    return status


FILES = ["result.json", "provenance.json", "config.yaml", "panel.csv", "per_gene.csv", "history.jsonl", "recipe.json",
         "predictions.npz", "checkpoints/best.safetensors", "checkpoints/history.pt"]  # fmt: skip


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("name", FILES)
def test_a_runs_file(name: str, seed: int, agl: Command, place: Path) -> None:
    rng = np.random.default_rng([seed, FILES.index(name)])
    [run] = place.glob("runs/run/mse*")
    truth = (run / "result.json").read_bytes()
    assert (run / name).is_file(), sorted(path.name for path in run.iterdir())
    cut(run / name, rng)
    for words in (["table", "runs"], ["evaluate", run], ["predict", run, "P1S1"], ["report", "runs"], TRAIN):
        clean(agl(*words))
    if name == "result.json" and (run / name).read_bytes() != truth:
        (run / name).unlink()  # what the sentence says to do
        assert clean(agl(*TRAIN)) == 0
        assert (run / name).read_bytes() == truth


@pytest.mark.parametrize("seed", range(4))
def test_the_state_of_an_interrupted_training(seed: int, agl: Command, place: Path) -> None:
    [run] = place.glob("runs/run/mse*")
    truth = (run / "result.json").read_bytes()
    for name in ("result.json", "predictions.npz", "checkpoints/best.safetensors"):
        (run / name).unlink()
    cut(run / "checkpoints/history.pt", np.random.default_rng(seed))
    status, _, err = agl(*TRAIN)
    assert status == 2
    assert f"Expected a training state in {run.relative_to(place)}/checkpoints/history.pt" in err
    assert "Delete the run's folder to train anew" in err
    shutil.rmtree(run)
    assert clean(agl(*TRAIN)) == 0
    assert (run / "result.json").read_bytes() == truth


@pytest.mark.parametrize("seed", range(4))
def test_the_history_of_an_interrupted_training(seed: int, agl: Command, place: Path) -> None:
    """Its first lines are not made up again: what was cut off is said, or trained again."""
    [run] = place.glob("runs/run/mse*")
    truth = {name: (run / name).read_bytes() for name in ("result.json", "history.jsonl")}
    (run / "result.json").unlink()
    cut(run / "history.jsonl", np.random.default_rng(seed))
    if clean(agl(*TRAIN)) == 2:
        shutil.rmtree(run)
        assert clean(agl(*TRAIN)) == 0
    assert {name: (run / name).read_bytes() for name in truth} == truth


@pytest.mark.parametrize("seed", range(3))
def test_a_studys_journal(seed: int, agl: Command, place: Path) -> None:
    scenario, rng = scenarios(epochs=2)["grid"], np.random.default_rng(seed)
    scenario.study["training"]["epochs"] = 2
    shutil.rmtree(place / "runs")
    (place / "study.yaml").write_text(yaml.safe_dump(scenario.study))
    assert clean(agl("grid", "study.yaml")) == 0
    truth = scenario.outcome(place)
    cut(place / "runs/g/study.journal", rng)
    clean(agl("study", "status", "g"))
    if clean(agl("grid", "study.yaml")) == 2:
        (place / "runs/g/study.journal").unlink()
        assert clean(agl("grid", "study.yaml")) == 0
    assert scenario.outcome(place) == truth  # finished runs were kept; none was trained under another name


@pytest.mark.parametrize("seed", range(12))
def test_the_cache(seed: int, agl: Command, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    monkeypatch.setenv("AGL_CACHE", str(place / "own"))
    [run] = place.glob("runs/run/mse*")
    assert clean(agl("evaluate", run)) == 0  # imports into the own cache
    files = sorted(path for path in (place / "own").rglob("*") if path.is_file() and path.stat().st_size)
    cut(files[rng.integers(len(files))], rng)
    status, out, err = agl("evaluate", run)
    assert clean((status, out, err)) == 0
    assert "as_recorded        True" in out
