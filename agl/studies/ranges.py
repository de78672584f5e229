"""The ranges and choices of a search: checked, given to Optuna, and read back from a trial."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from agl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from optuna.trial import Trial

EXACT = 2**53  # whole numbers above are not exact in the sampler
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
            raise UserError(
                f"Expected {', '.join(RANGE)} in the range of {key}, received {word!r}.{did_you_mean(str(word), RANGE)}"
            )
    low, high, log, step = values["low"], values["high"], values.get("log", False), values.get("step")
    numbers = [low, high] + ([] if step is None else [step])
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        raise UserError(f"Expected numbers in the range of {key}, received {dict(values)!r}.")
    if any(abs(number) > EXACT or number != number for number in numbers):
        raise UserError(f"Expected numbers up to 2^53 in the range of {key}, received {dict(values)!r}.")
    if low > high:
        raise UserError(f"Expected low <= high in the range of {key}, received low={low}, high={high}. Swap them.")
    if log and low <= 0:
        raise UserError(f"Expected low above 0 in the range of {key}, whose scale is log, received low={low}.")
    try:
        if all(isinstance(number, int) for number in numbers):
            return IntDistribution(low, high, log=bool(log), step=1 if step is None else step)
        return FloatDistribution(float(low), float(high), log=bool(log), step=step)
    except ValueError as error:
        raise UserError(f"Expected a possible range of {key}, received {dict(values)!r}: {error}") from None


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


def _choices(values: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Labels for Optuna, which takes plain values only, and the values they stand for."""
    return [(json.dumps(value) if isinstance(value, (dict, list)) else value, value) for value in values]
