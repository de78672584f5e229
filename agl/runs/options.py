"""What a config leaves open under `choose:`: its options, each a complete config of its own."""

from __future__ import annotations

from typing import Any

from agl.config import Config, validate
from agl.errors import UserError, did_you_mean
from agl.estimators.options import Options, factor
from agl.trees import apply_override, written

OPEN = ("model", "loss", "auxiliary", "data.features", "data.context", "data.normalise", "training", "plugins")
CLOSED = ("training.monitor", "training.device", "training.threads", "training.workers", "training.checkpoint_every")
MANY = 200


def options_of_config(config: Config) -> Options:
    """The questions under `choose:`.

    A key that is no key of a config, such as `learner`, has mappings as values, which set several keys at once.

    Raises:
        UserError: a key that decides on spots, primary genes or the score, so that options could not be compared; no
            values, equal ones, or too many combinations.
    """
    factors = []
    for key, values in config.choose.items():
        if not values:
            raise UserError(f"Expected values to choose from at choose.{key}, received none; write [first, second].")
        names = [_name(value) for value in values]
        if len(set(names)) < len(names):
            raise UserError(f"Expected different values at choose.{key}, received {', '.join(names)}.")
        question = factor(key, names, key, values)
        for word in (word for words in question.words for word in words):
            _refuse_closed(word.partition("=")[0], key)
        factors.append(question)
    options = Options(tuple(factors))
    if (many := sum(1 for _ in options)) > MANY:
        raise UserError(f"Expected at most {MANY} combinations to choose from, received {many}; leave some out.")
    return options


def chosen_config(config: Config, words: tuple[str, ...]) -> Config:
    """The config with one combination in it, nothing left open; not yet complete."""
    tree = config.to_dict()
    tree.pop("choose", None)
    for word in words:
        apply_override(tree, word)
    return validate(tree)


def is_open(config: Config, key: str, *, below: bool = False) -> bool:
    """Whether what stands at this key is chosen inside, or, with `below`, anything under it.

    >>> is_open(Config(choose={"loss": ["mse", "listwise"]}), "loss")
    True
    """
    if not config.choose:
        return False
    words = [word for each in options_of_config(config).factors for found in each.words for word in found]
    keys = {word.partition("=")[0] for word in words}
    return key in keys or (below and any(each.startswith(f"{key}.") for each in keys))


def _refuse_closed(key: str, asked: str) -> None:
    if any(key == word or key.startswith(f"{word}.") for word in OPEN) and key not in CLOSED:
        return
    where = f"choose.{asked}" + ("" if asked == key else f" ({key})")
    raise UserError(
        f"Expected a key of {', '.join(OPEN)} to choose from, received {where}, which is none, or decides on what is "
        f"compared or by which score.{did_you_mean(key, OPEN)}"
    )


def _name(value: Any) -> str:
    """A value in short: a component by its name and arguments."""
    if isinstance(value, dict):
        rest = ", ".join(f"{key}={_name(each)}" for key, each in value.items() if key != "name")
        return f"{value['name']}({rest})" if "name" in value and rest else str(value.get("name", rest))
    return value if isinstance(value, str) else written(value)
