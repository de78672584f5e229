"""A network that starts from a solution: solved when training begins, once more on all spots when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from agl.estimators.sample import Sample
from agl.estimators.start import solved_start
from agl.training.plugins import Plugin
from agl.training.trainer import Trainer

CHOSEN = ("rank", "penalty")


class SolvedStart(Plugin):
    """Before the first epoch, solves the linear scores that the network adds to, on the spots that train it.

    Args:
        start: "low_rank" or "convex".
        sample: from positions of spots to what an estimator is fitted on.
    """

    def __init__(self, start: str, sample: Callable[[np.ndarray], Sample]) -> None:
        self.start, self.sample = start, sample
        self.chosen: dict[str, Any] = {}

    def fit_start(self, trainer: Trainer) -> None:
        if trainer.epoch == 0:  # later on its scores are in the checkpoint
            self.solve(trainer, trainer.task.train)

    def solve(self, trainer: Trainer, spots: np.ndarray) -> None:
        """Put the solution on these spots under the model; penalty and rank are chosen the first time."""
        solved = solved_start(self.sample(spots), self.start, **self.chosen)
        own = solved.weights.cpu(), solved.intercept.cpu(), solved.details
        weights, intercept, details = trainer.ranks.broadcast(own)
        start = trainer.task.model.start
        assert start is not None
        start.take(weights, intercept)
        self.chosen = {key: details[key] for key in CHOSEN if key in details}

    def summary(self) -> dict[str, Any]:
        return {f"start_{key}": value for key, value in self.chosen.items()}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.chosen)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.chosen = dict(state)


class StartOnAllSpots(Plugin):
    """After the best epoch is back, solves the start again with the validation spots, which have done their service.

    Penalty and rank stay. Where no epoch was better than the start, the model is then the solution on all spots: it has
    lost nothing to the spots that decided when to stop. Stands behind early stopping.
    """

    def __init__(self, begun: SolvedStart) -> None:
        self.begun = begun

    def fit_end(self, trainer: Trainer) -> None:
        self.begun.solve(trainer, np.union1d(trainer.task.train, trainer.task.validation))
