"""A network that starts from a solution: solved when training begins, never again after a resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from agl.estimators.sample import Sample
from agl.estimators.start import solved_start
from agl.training.plugins import Plugin
from agl.training.trainer import Trainer


class SolvedStart(Plugin):
    """Before the first epoch, solves the linear scores that the network adds to, on the spots that train it.

    Args:
        start: "low_rank" or "convex".
        sample: from positions of spots to what an estimator is fitted on.
    """

    def __init__(self, start: str, sample: Callable[[np.ndarray], Sample]) -> None:
        self.start, self.sample = start, sample
        self.found: dict[str, Any] = {}

    def fit_start(self, trainer: Trainer) -> None:
        if trainer.epoch > 0:  # its scores are in the checkpoint
            return
        solved = solved_start(self.sample(trainer.task.train), self.start)
        weights, intercept, details = trainer.ranks.agreed(
            (solved.weights.cpu(), solved.intercept.cpu(), solved.details)
        )
        start = trainer.task.model.start
        assert start is not None
        start.take(weights, intercept)
        self.found = {f"start_{key}": details[key] for key in ("rank", "penalty") if key in details}

    def summary(self) -> dict[str, Any]:
        return dict(self.found)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.found)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.found = dict(state)
