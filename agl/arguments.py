"""Whether the arguments that a config gives to a component fit its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from agl.builtins import GIVEN
from agl.config import Component
from agl.errors import ConfigError, did_you_mean
from agl.slots import Slot
from agl.values import wanted

LAST_SEED = 2**32 - 1  # of scikit-learn


class Nested(NamedTuple):
    """An argument that is itself a component, or a list of them."""

    kinds: tuple[str, ...]
    many: bool


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The named parameters of a function or of a class's constructor."""
    signature = inspect.signature(target)
    return {
        word: parameter
        for word, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def accepts_anything(target: Callable[..., Any]) -> bool:
    """Whether the signature ends in **options."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())


def settable(kind: str, target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that a config may give: all but those that the framework supplies. A seed may come from either."""
    return {word: value for word, value in parameters(target).items() if word not in GIVEN[kind] - {"seed"}}


def nested(target: Callable[..., Any]) -> dict[str, Nested]:
    """Arguments whose annotation says that a component stands there.

    >>> from agl.slots import Prior
    >>> def top(candidates, *, prior: Prior = "mean", k: int = 5): ...
    >>> nested(top)
    {'prior': Nested(kinds=('prior',), many=False)}
    """
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except Exception:  # an annotation may be any expression, also in a user's file
        return {}
    found = {}
    for word, hint in hints.items():
        many = get_origin(hint) in (Sequence, list, tuple)
        slot = _slot(next(iter(get_args(hint)), None) if many else hint)
        if slot is not None:
            found[word] = Nested(slot.kinds, many)
    return found


def _slot(hint: Any) -> Slot | None:
    if get_origin(hint) is not Annotated:
        return None
    return next((mark for mark in get_args(hint)[1:] if isinstance(mark, Slot)), None)


def check_arguments(kind: str, component: Component, target: Callable[..., Any]) -> None:
    """Every argument in the config must be one the signature takes, the user's to give, and of the annotated type."""
    what = f"{kind.replace('_', ' ')} {component.name!r}"
    options, components = list(settable(kind, target)), nested(target)
    for word, value in component.args.items():
        if word in parameters(target) and word not in options:
            raise ConfigError(
                f"Expected arguments for a config to give, received {word!r}, which the framework gives to the {what}. "
                "Leave it out."
            )
        if word not in options and not accepts_anything(target):
            known = did_you_mean(word, options) if options else " It takes none."
            raise ConfigError(f"The {what} takes no argument {word!r}.{known}")
        if word in components:
            continue  # checked as a component
        if (expected := wanted(target, word, value) or _by_name(word, value)) is not None:
            raise ConfigError(f"Expected {expected} for {word} of the {what}, received {value!r}.")


def _by_name(word: str, value: Any) -> str | None:
    """What an argument of this name must be, whatever its annotation says; None where the value is so."""
    if word in ("path", "folder") and value is not None and not isinstance(value, str):
        return "a path"
    if (word.endswith("seed") or word == "random_state") and isinstance(value, int) and not 0 <= value <= LAST_SEED:
        return f"a whole number from 0 to {LAST_SEED}"
    return None


def check_complete(kind: str, component: Component, target: Callable[..., Any]) -> None:
    """Every argument without a default that only the user can give must be there."""
    for word, parameter in parameters(target).items():
        needed = parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
        if needed and word not in GIVEN[kind] and word not in component.args:
            raise ConfigError(f"The {kind.replace('_', ' ')} {component.name!r} needs {word}=..., received none.")


def defaults(kind: str, target: Callable[..., Any]) -> dict[str, Any]:
    """The arguments a user may leave out, with what they then are; lists where the signature has tuples."""
    plain = (bool, int, float, str, tuple, list, dict)
    return {
        word: list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        for word, parameter in parameters(target).items()
        if word not in GIVEN[kind] and isinstance(parameter.default, plain)
    }
