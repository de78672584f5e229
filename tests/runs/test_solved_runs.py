"""Estimators as runs: history, events, TensorBoard, resuming, evaluating and predicting, as a network has them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tests.forked import agl as agl_command
from tests.forked import start

QUICK = ["primary.k=10", "primary.min_detection=0", "data.features=latent", "fold=0"]
LOW_RANK = ["model=low_rank", "model.ranks=[2,4]", "model.penalties=[3,1]"]
MODELS = {
    "convex": ["model=convex"],
    "low rank": [*LOW_RANK, "auxiliary.genes=coexpressed"],
    "dkgsb": [*LOW_RANK, "auxiliary.genes=dkgsb", "auxiliary.genes.prior=coexpression"],
    "committee": ["model=committee", "data.context=[8]", "auxiliary.genes=top", "auxiliary.genes.k=15"],
}
FILES = ("per_gene.csv", "history.jsonl", "result.json", "panel.csv")
WATCH = """
from agl.training.plugins import Plugin

class Watch(Plugin):
    def __init__(self):
        self.seen = []

    def fit_start(self, trainer):
        self.seen.append("start")

    def epoch_end(self, trainer, record):
        assert trainer.epoch == record["epoch"]
        record["twice"] = 2 * record["epoch"]
        self.seen.append(record.get("penalty"))

    def fit_end(self, trainer):
        self.seen.append("end")

    def summary(self):
        return {"watched": self.seen}
"""
DIES = """
import os
import signal
from pathlib import Path
from agl.training.plugins import Plugin

class Dies(Plugin):
    def epoch_end(self, trainer, record):
        if trainer.epoch == 5 and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def solved(agl, sections: Path, tmp_path: Path):
    """Train one run through the command line and give its folder."""

    def train(*words: str, name: str = "run") -> Path:
        status, _, err = agl("train", f"data.root={sections}", *QUICK, f"name={name}", *words)
        assert status == 0, err
        [folder] = tmp_path.glob(f"runs/{name}/*")
        return folder

    return train


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_a_path_of_penalties_is_the_history(solved) -> None:
    folder = solved("model=convex")
    lines, result = history(folder), json.loads((folder / "result.json").read_text())
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    penalties = [line["penalty"] for line in lines]
    assert penalties == sorted(penalties, reverse=True)
    assert penalties[-1] == result["penalty"]
    assert lines[-1]["loss"] == pytest.approx(result["loss"])
    assert max(line["gradient_norm"] for line in lines) <= 1e-6
    assert result["cv"] == "2 folds of slides"
    names = {file.name for file in folder.iterdir()}
    assert {"config.yaml", "predictions.npz", "tb", *FILES} <= names
    assert [file.name for file in (folder / "checkpoints").iterdir()] == ["best.safetensors"]


def test_tensorboard_has_every_number_of_the_history(solved) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = solved("model=convex")
    scalars = EventAccumulator(str(folder / "tb")).Reload()
    for name in ("loss", "penalty"):
        written = [(one.step, one.value) for one in scalars.Scalars(name)]
        assert written == [(line["epoch"], pytest.approx(line[name], rel=1e-5)) for line in history(folder)]


def test_steps_of_a_selector_stand_before_the_penalties(solved) -> None:
    folder = solved(*MODELS["dkgsb"])
    lines, result = history(folder), json.loads((folder / "result.json").read_text())
    steps = [line for line in lines if "outer_loss" in line]
    assert lines[: len(steps)] == steps
    assert [line["penalty"] for line in lines[len(steps) :]][-1] == result["penalty"]
    assert result["curve"]["k"][0] == 0
    assert result["candidates"] == result["curve"]["k"][-1]
    panel = pd.read_csv(folder / "panel.csv")
    learned = panel.weight[panel.role == "auxiliary"]
    assert len(learned) == result["candidates"]
    assert (learned >= 0.5).sum() == result["k"]
    assert steps[-1]["outer_k"] == pytest.approx(learned.sum(), rel=1e-4)
    assert "weights" not in result


def test_a_plugin_of_ones_own_sees_every_record(solved, tmp_path: Path) -> None:
    (tmp_path / "watch.py").write_text(WATCH)
    folder = solved("model=convex", "plugins=[watch.py:Watch]")
    lines = history(folder)
    assert json.loads((folder / "result.json").read_text())["watched"] == [
        "start", *[line["penalty"] for line in lines], "end"
    ]  # fmt: skip
    assert [line["twice"] for line in lines] == [2 * line["epoch"] for line in lines]
    plain = solved("model=convex", name="plain")
    assert [{k: v for k, v in line.items() if k != "twice"} for line in lines] == history(plain)
    assert plain.name != folder.name


def test_a_plugin_is_no_part_of_a_plainer_baseline(solved, tmp_path: Path) -> None:
    """It has no steps to tell of, so its run is the same with and without."""
    (tmp_path / "watch.py").write_text(WATCH)
    assert solved("model=ridge", "plugins=[watch.py:Watch]").name == solved("model=ridge", name="plain").name


@pytest.mark.parametrize("words", MODELS.values(), ids=MODELS)
def test_evaluated_and_predicted_as_recorded(agl, solved, sections: Path, words: list[str]) -> None:
    folder = solved(*words)
    status, out, err = agl("evaluate", folder, "--json")
    assert (status, json.loads(out)["as_recorded"]) == (0, True), err
    saved = np.load(folder / "predictions.npz")
    section = str(saved["slide"][0])
    for more in ([], ["--root", sections]):
        status, _, err = agl("predict", folder, section, "--out", folder / "x.h5ad", *more)
        assert status == 0, err
        written = anndata.read_h5ad(folder / "x.h5ad")
        order = [list(written.obs_names).index(barcode) for barcode in saved["barcode"]]
        assert list(written.var_names) == list(saved["genes"])
        np.testing.assert_allclose(written.layers["agl_score"][order], saved["scores"], atol=1e-5)


@pytest.mark.parametrize("words", MODELS.values(), ids=MODELS)
def test_the_same_run_twice_has_the_same_bytes(solved, words: list[str]) -> None:
    first, second = solved(*words), solved(*words, name="again")
    assert first.name == second.name
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert np.array_equal(*(np.load(one / "predictions.npz")["scores"] for one in (first, second)))


def test_a_committees_run_says_how_little_its_members_agree(solved) -> None:
    saved = np.load(solved(*MODELS["committee"]) / "predictions.npz")
    assert saved["spread"].shape == saved["scores"].shape
    assert 0 < saved["spread"].mean() < 1  # members' scores have a spread of 1 over a slide
    assert "spread" not in np.load(solved("model=convex", name="other") / "predictions.npz")


def test_killed_and_resumed_equals_uninterrupted(solved, sections: Path, tmp_path: Path) -> None:
    """Killed while the selector learns; solved anew from the beginning, with one line of history a record."""
    (tmp_path / "dies.py").write_text(DIES)
    words = [*MODELS["dkgsb"], "plugins=[dies.py:Dies]"]
    process = start(tmp_path, agl_command, ["train", f"data.root={sections}", *QUICK, "name=broken", *words])
    process.join()
    assert process.exitcode == -signal.SIGKILL
    [left] = tmp_path.glob("runs/broken/*")
    assert len(history(left)) == 4
    assert not (left / "result.json").exists()
    resumed, whole = solved(*words, name="broken"), solved(*words)
    assert resumed == left
    for name in FILES:
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()


def test_what_a_solved_run_does_not_use_makes_no_other_run(solved) -> None:
    first = solved("model=convex")
    same = solved("model=convex", "training.epochs=3", "training.batch_size=7", name="same")
    other = solved("model=convex", "loss=mse", name="other")
    assert first.name == same.name != other.name


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["model=convex", "loss=margin_ranking"], "loss=pairwise, its smooth form"),
        (["model=convex", "model.penalty=0"], "penalties above 0"),
        (["model=low_rank", "auxiliary.genes=gradient_similarity"], "model=mlp"),
        (["model=committee", "model.without=[contxt]"], "Expected an ingredient to leave out, received 'contxt'"),
        (["model=convex", "data.features=none"], "name a folder of feature files"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(agl, sections: Path, tmp_path: Path, words, part) -> None:
    status, _, err = agl("train", f"data.root={sections}", *QUICK, *words)
    assert status == 2
    assert part in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("runs/*/*"))
