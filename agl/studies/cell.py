"""One cell of a study: a config trained over its folds, with somebody watching its validation score."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from agl.config import Config
from agl.errors import UserError
from agl.runs.choosing import data_key, dataset_of
from agl.runs.execute import execute
from agl.runs.folder import Run, RunIsBusy
from agl.runs.resolve import complete
from agl.training.experiment import Experiment
from agl.training.plugins import Plugin
from agl.training.trainer import Trainer

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.training.sharing import Sharing

ReportScore = Callable[[int, float], None]  # (step, score so far); raises to have the trial given up


def train_cell(
    config: Config,
    *,
    folds: Sequence[int] | None = None,
    report: ReportScore | None = None,
    progress: Progress | None = None,
    sharing: Sharing | None = None,
) -> list[Run]:
    """The runs of one cell, one a fold. Finished ones are kept; one that another process trains is waited for.

    Args:
        config: names a fold, or stands for all of them.
        folds: of those, the positions that are wanted.
        report: called every few epochs with the mean over folds of the best validation score so far. What it raises
            ends the training without a result: the run stays unfinished and can be taken up again.
        sharing: what the cells of this process have in common.
    """
    from agl.runs.train import prepare

    experiments = prepare(config, sharing).experiments
    if folds is not None:
        wrong = [fold for fold in folds if not 0 <= fold < len(experiments)]
        if wrong:
            raise UserError(f"Expected folds from 0 to {len(experiments) - 1}, received {wrong}.")
        experiments = [experiments[fold] for fold in folds]
    watcher = None if report is None else Watcher(report, config.training.epochs, config.training.monitor)
    runs = []
    for experiment in experiments:
        if watcher is not None:
            parts = {part.name: getattr(experiment, part.name) for part in fields(experiment)}
            experiment = Watched(**parts, watcher=watcher)
        run = _when_free(experiment, progress)
        runs.append(run)
        if watcher is not None:
            watcher.next_fold(run.result.get("validation"))
    return runs


def identify(config: Config, datasets: dict[str, Any]) -> str:
    """Twelve hex digits for what a cell is: its config with all defaults, its data, its plugin files.

    Two cells that come to the same, such as a baseline under two losses, have the same. `datasets` remembers what has
    been opened already.
    """
    from agl.runs.provenance import run_id

    completed = complete(config)
    key = data_key(completed)
    if key not in datasets:
        datasets[key] = dataset_of(completed)
    return run_id(completed, datasets[key])


class Watcher(Plugin):
    """Reports the validation score to whoever decides whether to go on: at most some 50 times a fold.

    The score is comparable between trials at the same step, because all go through the same folds in the same order.
    """

    def __init__(self, report: ReportScore, epochs: int, monitor: str = "scc") -> None:
        self.report, self.epochs, self.monitor = report, epochs, monitor
        self.every = math.ceil(epochs / 50)
        self.finished: list[float] = []  # scores of the folds before this one
        self.best = -math.inf

    def fit_start(self, trainer: Trainer) -> None:
        """A fold begins."""
        self.best = -math.inf

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """One more score; an undefined one says nothing."""
        if record[self.monitor] > self.best:
            self.best = record[self.monitor]
        if self.best > -math.inf and trainer.epoch % self.every == 0:
            scores = [*self.finished, self.best]
            self.report(len(self.finished) * self.epochs + trainer.epoch, sum(scores) / len(scores))

    def next_fold(self, score: float | None) -> None:
        """A fold is finished, perhaps long ago."""
        self.finished.append(0.0 if score is None else score)


@dataclass(frozen=True, kw_only=True)
class Watched(Experiment):
    """An experiment whose last trainer, the one that gives the result, has a watcher.

    While a learned selection that is refitted afterwards is still being found, nobody watches: those scores compare
    with no other trial's.
    """

    watcher: Plugin

    def trainer(self, extra: list[Plugin] | None = None) -> Trainer:
        """A trainer as ever; the watcher hears of an epoch last."""
        selecting = self.panel.selector is not None and self.config.auxiliary.outer.refit
        return super().trainer([*(extra or []), *([] if selecting else [self.watcher])])


def _when_free(experiment: Experiment, progress: Progress | None) -> Run:
    while True:
        try:
            return execute(experiment, progress=progress)
        except RunIsBusy:
            time.sleep(0.5)
