"""What a study's display says."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console
from rich.progress import Progress, TextColumn

from agl.studies.board import Board, best_cell, failed_report, summary, time_left
from agl.studies.ledger import Cell


def cell(state: Any, score: float | None = None, **attrs: Any) -> Cell:
    words = ["auxiliary.genes.k=7", "training.learning_rate=0.000123456", 'loss="mse"']
    attrs = {"words": words, **attrs} | ({} if score is None else {"validation": score})
    return Cell("a", 0, state, create_trial(state=TrialState.COMPLETE, value=0.0, user_attrs=attrs), failures=3)


def test_counts_and_the_best() -> None:
    cells = [cell("done", 0.2), cell("done", 0.4123), cell("done"), cell("running"), cell("failed", 0.9, error="x")]
    assert best_cell(cells) is cells[1]
    assert summary(cells) == "1 running, 1 failed, best 0.412 (k=7 learning_rate=0.0001235 loss=mse)"
    assert summary([cell("waiting")]) == ""
    assert failed_report(cells) == [
        "failed after 3 attempts: auxiliary.genes.k=7 training.learning_rate=0.0001235 loss=mse: x"
    ]


def test_negative_scores_can_be_the_best() -> None:
    cells = [cell("done", -0.5), cell("done", -0.1), cell("done")]
    assert best_cell(cells) is cells[1]


@pytest.mark.parametrize(
    ("seconds", "ended", "open_", "since", "said"),
    [
        (100, 10, 5, 0, "50 s"),
        (100, 10, 5, 30, "20 s"),
        (100, 10, 5, 300, "1 s"),
        (3600, 2, 4, 0, "2.0 h"),
        (60, 1, 3, 0, "3 min"),
        (9, 1, 0, 0, ""),
        (9, 0, 4, 0, ""),
    ],
)
def test_time_left(seconds: float, ended: int, open_: int, since: float, said: str) -> None:
    assert time_left(seconds, ended, open_, since) == said


def test_a_log_file_gets_a_line_for_every_cell_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        name = "s"

    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines: list[str] = []
    progress = Progress(TextColumn("{task.description}"), console=Console(file=io.StringIO()))
    board = Board(Named(), progress, lines.append)  # type: ignore[arg-type]
    for now, states in [(1.0, "rw"), (2.0, "rw"), (10.0, "dr"), (12.0, "dr"), (20.0, "df")]:  # noqa: B007
        board([cell({"d": "done", "r": "running", "w": "waiting", "f": "failed"}[state]) for state in states])
    assert lines == ["s: 0/2  1 running", "s: 1/2  about 10 s left, 1 running", "s: 2/2  1 failed"]
    assert progress.tasks[0].completed == progress.tasks[0].total == 2
    board.close()
    assert not progress.tasks
