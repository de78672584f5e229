"""Optuna's half of a search: ranges, samplers, pruners."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna import pruners, samplers
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from agl.errors import UserError, did_you_mean
from agl.seeds import seeded

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial, TrialState

    from agl.studies.search import Search

RANGE = ("low", "high", "log", "step")


def distribution(key: str, values: Any) -> BaseDistribution:
    """Optuna's distribution for a range or a list of choices.

    >>> distribution("k", {"low": 5, "high": 500, "log": True})
    IntDistribution(high=500, log=True, low=5, step=1)
    >>> distribution("loss", ["mse", "listwise"])
    CategoricalDistribution(choices=('mse', 'listwise'))
    """
    if isinstance(values, list):
        if not values:
            raise UserError(f"Expected choices for {key}, received an empty list.")
        return CategoricalDistribution([label for label, _ in _choices(values)])
    if not isinstance(values, Mapping) or not {"low", "high"} <= set(values):
        raise UserError(f"Expected {key}: {{low: 5, high: 500, log: true}} or a list of choices, received {values!r}.")
    for word in values:
        if word not in RANGE:
            raise UserError(f"Unknown word {word!r} in the range of {key}.{did_you_mean(str(word), RANGE)}")
    low, high, log, step = values["low"], values["high"], values.get("log", False), values.get("step")
    numbers = [low, high] + ([] if step is None else [step])
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        raise UserError(f"Expected numbers in the range of {key}, received {dict(values)!r}.")
    if low > high:
        raise UserError(f"Expected low <= high in the range of {key}, received low={low}, high={high}. Swap them.")
    if log and low <= 0:
        raise UserError(f"Expected low above 0 in the range of {key}, whose scale is log, received low={low}.")
    try:
        if all(isinstance(number, int) for number in numbers):
            return IntDistribution(low, high, log=bool(log), step=1 if step is None else step)
        return FloatDistribution(float(low), float(high), log=bool(log), step=step)
    except ValueError as error:
        raise UserError(f"The range of {key} is not possible: {error}") from None


def suggest(trial: Trial, key: str, values: Any) -> Any:
    """The sampler's value for a key; Optuna keeps it with the trial."""
    found = distribution(key, values)
    if isinstance(found, IntDistribution):
        return trial.suggest_int(key, found.low, found.high, step=found.step, log=found.log)
    if isinstance(found, FloatDistribution):
        return trial.suggest_float(key, found.low, found.high, step=found.step, log=found.log)
    label = trial.suggest_categorical(key, [label for label, _ in _choices(values)])
    return next(value for known, value in _choices(values) if known == label and type(known) is type(label))


def ends(values: Any) -> Sequence[Any]:
    """Both ends of a range, or all choices."""
    return values if isinstance(values, list) else [values["low"], values["high"]]


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

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """The trial is known now: make its sampler."""
        self._for(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the inner sampler does."""
        return self._for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the inner sampler does."""
        return self._for(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the inner sampler does."""
        return self._for(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
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


def _choices(values: Sequence[Any]) -> list[tuple[Any, Any]]:
    """What Optuna is told, and what is meant; Optuna takes plain values only."""
    return [(json.dumps(value) if isinstance(value, (dict, list)) else value, value) for value in values]
