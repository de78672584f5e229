"""What a study looks like while it runs, and afterwards: counts, time left, the best so far."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agl.studies.ledger import Cell

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.progress import Progress
    from rich.table import Table

    from agl.studies.study import Study

ENDED = ("done", "pruned", "failed")


class Board:
    """One line for the whole study: done of all, running, failed, time left, best so far.

    On a terminal the line is a bar that moves; elsewhere (a log file) it is written anew whenever a cell has ended.
    """

    def __init__(self, study: Study, progress: Progress, on_message: Callable[[str], None] | None = None) -> None:
        self.study, self.progress = study, progress
        self.on_message = on_message or progress.console.print
        self.task = progress.add_task(study.name, total=None, note="")
        self.started = self.last_end = time.monotonic()
        self.before: int | None = None  # cells that had ended when this display began
        self.ended = -1

    def __call__(self, cells: Sequence[Cell]) -> None:
        """Show the cells as they are now."""
        ended = sum(cell.state in ENDED for cell in cells)
        if self.before is None:
            self.before = ended
        now = time.monotonic()
        self.last_end = now if ended != self.ended else self.last_end
        left = time_left(self.last_end - self.started, ended - self.before, len(cells) - ended, now - self.last_end)
        note = ", ".join(([f"about {left} left"] if left else []) + [summary(cells)])
        self.progress.update(self.task, total=len(cells), completed=ended, note=note)
        if ended != self.ended and not self.progress.console.is_terminal:
            self.on_message(f"{self.study.name}: {ended}/{len(cells)}  {note}")
        self.ended = ended

    def close(self) -> None:
        """Take the line away."""
        self.progress.remove_task(self.task)


def summary(cells: Sequence[Cell]) -> str:
    """`3 running, 1 failed, best 0.412 (k=120)`; what there is none of is left out, and so are the keys' sections."""
    counts = Counter(cell.state for cell in cells)
    words = [f"{counts[state]} {state}" for state in ("running", "pruned", "failed", "lost") if counts[state]]
    best = best_cell(cells)
    if best is not None and best.score is not None:
        short = re.sub(r"(^| )[^ =]*[.](?=[^ =]*=)", r"\1", plainly(best.words))
        words.append(f"best {best.score:.3f} ({short or best.name})")
    return ", ".join(words)


def best_cell(cells: Sequence[Cell]) -> Cell | None:
    """The finished cell with the highest validation score; the first of several."""
    scored = [cell for cell in cells if cell.state == "done" and cell.score is not None]
    return max(scored, key=lambda cell: cell.score or 0.0, default=None)


def time_left(seconds: float, ended: int, open_: int, since: float = 0) -> str:
    """At the pace of the first `seconds`, in which so many cells ended, `since` seconds later; empty without a pace.

    >>> time_left(600, 5, 10)
    '20 min'
    >>> time_left(600, 5, 10, since=120)
    '18 min'
    >>> time_left(10, 0, 10)
    ''
    """
    if ended == 0 or open_ == 0:
        return ""
    left = max(1.0, seconds / ended * open_ - since)
    if left < 90:
        return f"{left:.0f} s"
    return f"{left / 60:.0f} min" if left < 5400 else f"{left / 3600:.1f} h"


def failed_report(cells: Sequence[Cell]) -> list[str]:
    """One line for each cell that was given up: which, how often it was tried, why."""
    return [
        f"failed after {times(cell.attempts)}: {plainly(cell.words) or cell.name}: {cell.error}"
        for cell in cells
        if cell.state == "failed"
    ]


def study_rows(study: Study) -> dict[str, Any]:
    """Everything about a study, for JSON."""
    cells = study.cells()
    front = {trial.number for trial in best_trials(study)}
    return {
        "study": study.name,
        "kind": study.kind,
        "storage": study.address.shown,
        "counts": dict(Counter(cell.state for cell in cells)),
        "best": [cell.name for cell in cells if cell.trial.number in front],
        "cells": [
            {
                "cell": cell.name,
                "state": cell.state,
                "words": cell.words,
                "params": cell.trial.params,
                "values": cell.trial.values,
                "validation": cell.score,
                "attempts": cell.attempts,
                "error": cell.error or None,
                "traceback": cell.trial.user_attrs.get("traceback"),
                "runs": cell.runs,
            }
            for cell in cells
        ],
    }


def study_table(study: Study) -> Table:
    """One row a cell; of a search, the best first and marked."""
    from rich.table import Table

    cells = study.cells()
    search = study.search
    values = ["validation SCC"] if search is None else [word.replace("_", " ") for word in search.objective]
    front = {trial.number for trial in best_trials(study)}
    if search is not None:
        cells = sorted(cells, key=lambda cell: _rank(cell, search.directions[0]))
    counts = Counter(cell.state for cell in cells)
    title = f"{study.kind} {study.name}: " + ", ".join(f"{n} {state}" for state, n in counts.items())
    table = Table(title=title, title_justify="left", caption_justify="left")
    for name in ("cell", "state", *values, "attempts", "settings"):
        table.add_column(name, justify="right" if name in values or name == "attempts" else "left", overflow="fold")
    for cell in cells:
        numbers: list[float | None] = [cell.score]
        if search is not None:  # what a trial had reached when it was given up compares with nothing
            numbers = list(cell.trial.values or []) if cell.state == "done" else []
        shown = ["" if n is None else f"{n:.4g}" for n in (*numbers, *[None] * (len(values) - len(numbers)))]
        mark = " *" if cell.trial.number in front else ""
        settings = plainly(cell.words) + (f"  {cell.error}" if cell.error else "")
        table.add_row(cell.name, cell.state + mark, *shown, str(cell.attempts), settings)
    if front:
        table.caption = "* best" if len(values) == 1 else "* on the front: none is better in all objectives"
    return table


def best_trials(study: Study) -> list[FrozenTrial]:
    """The best trial of a search, or the front where there are two objectives; of a grid, none: it is no contest."""
    cells = {cell.trial.number for cell in study.cells() if cell.state == "done"}
    if study.search is None or not cells:
        return []
    found = [study.optuna.best_trial] if len(study.optuna.directions) == 1 else study.optuna.best_trials
    return [trial for trial in found if trial.number in cells]


def _rank(cell: Cell, direction: str) -> tuple[int, float]:
    states = ("done", "pruned", "running", "waiting", "lost", "failed")
    value = (cell.trial.values or [0.0])[0]
    return states.index(cell.state), -value if direction == "maximize" else value


def plainly(words: Sequence[str]) -> str:
    """Overrides for people: no quotation marks, four digits.

    >>> plainly(['loss="mse"', "training.learning_rate=0.00031415926"])
    'loss=mse training.learning_rate=0.0003142'
    """
    shown = []
    for word in words:
        key, _, text = word.partition("=")
        try:
            shown.append(f"{key}={float(text):.4g}" if not text.lstrip("-").isdigit() else word)
        except ValueError:
            shown.append(word.replace('"', ""))
    return " ".join(shown)


def times(n: int) -> str:
    """`1 attempt`, `2 attempts`."""
    return f"{n} attempt" + ("" if n == 1 else "s")
