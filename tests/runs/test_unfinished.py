"""Runs that did not finish: nothing is left of one without an epoch, and the table speaks of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_bad_input import QUICK, assert_one_sentence

LATE = (
    "from agl.training.plugins import Plugin\n"
    "class mine(Plugin):\n"
    "    def epoch_start(self, trainer):\n"
    "        if trainer.epoch == 1: raise RuntimeError('boom')\n"
)


@pytest.fixture
def words(sections: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "mine.py").write_text(LATE)
    return [f"data.root={sections}", *QUICK, "training.epochs=2"]


def test_the_table_names_runs_that_did_not_finish(agl, words: list[str], tmp_path: Path) -> None:
    assert_one_sentence(agl("train", *words, "fold=0", "plugins=[mine.py:mine]"), "boom")
    [begun] = tmp_path.glob("runs/run/*")
    assert (begun / "history.jsonl").read_text().count("\n") == 1, "what was learnt about the failure is kept"
    assert_one_sentence(agl("table", "runs"), f"1 unfinished, the first {begun.relative_to(tmp_path)}")
    assert agl("train", *words, "fold=0")[0] == 0
    status, out, _ = agl("table", "runs")
    assert status == 0
    assert "1 not finished" in out
    assert begun.name in out
    content = json.loads(agl("table", "runs", "--json")[1])
    assert content["unfinished"] == [str(begun.relative_to(tmp_path))]
    assert len(content["runs"]) == 1


def test_a_run_that_fails_at_once_leaves_no_folder(agl, words: list[str], tmp_path: Path) -> None:
    assert_one_sentence(agl("train", *words, "fold=0", "loss.count_power=-1"), "count_power of at least 0")
    assert not list(tmp_path.glob("runs/run/*"))


def test_a_training_that_ends_without_finite_scores_is_no_result(agl, words: list[str], tmp_path: Path) -> None:
    outcome = agl("train", *words, "fold=0", "training.learning_rate=1e20", "training.epochs=1", "model.start=none")
    assert_one_sentence(outcome, "diverged")
    assert not list(tmp_path.glob("runs/**/result.json"))
