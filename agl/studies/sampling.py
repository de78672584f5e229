"""Optuna's samplers and pruners for a search."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from optuna import pruners, samplers
from optuna.distributions import BaseDistribution

from agl.seeds import seeded
from agl.studies.search import Search

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, TrialState


def make_sampler(search: Search) -> samplers.BaseSampler:
    """A sampler that draws for the n-th cell from (study seed, n): a resumed search goes on, and repeats nothing.

    With `random`, trials are therefore the same whatever the number of workers; the others also learn from what has
    been found by the time a trial starts.
    """
    return ByCell(lambda order: _sampler(search, int(seeded(search.seed, "trial", order).integers(2**31))))


def make_pruner(search: Search) -> pruners.BasePruner:
    """None of them stops a trial in its first two epochs, or before some trials have gone to their end."""
    if search.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=min(5, search.startup), n_warmup_steps=2)
    return pruners.SuccessiveHalvingPruner() if search.pruner == "halving" else pruners.NopPruner()


class ByCell(samplers.BaseSampler):
    """Another sampler for every cell, made from the cell's number in the study.

    Optuna gives a sampler one seed for its process's life. A search that is resumed, or has two workers, would then
    draw the same first trials again.
    """

    def __init__(self, make: Callable[[int], samplers.BaseSampler]) -> None:
        self.make = make
        self.order, self.inner = -1, make(0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """The trial is known now: make its sampler."""
        self._for(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the inner sampler does."""
        return self._for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the inner sampler does."""
        return self._for(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the inner sampler does."""
        return self._for(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As the inner sampler does."""
        self._for(trial).after_trial(study, trial, state, values)

    def _for(self, trial: FrozenTrial) -> samplers.BaseSampler:
        order = int(trial.user_attrs.get("order", trial.number))
        if order != self.order:
            self.order, self.inner = order, self.make(order)
        return self.inner


def _sampler(search: Search, seed: int) -> samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls some of this experimental
        if search.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        if search.sampler == "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=search.startup)
        return samplers.TPESampler(seed=seed, n_startup_trials=search.startup, constant_liar=True)
