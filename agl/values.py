"""Whether a value from a config fits the annotation of the argument it is given for."""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    type(None): "null",
}


def wanted(target: Callable[..., Any], argument: str, value: Any) -> str | None:
    """What the argument asks for, in words, if the value is something else; None where it fits or nobody can tell.

    >>> def loss(scores, *, power: float = 1.0, size: int | None = None): ...
    >>> wanted(loss, "power", "a"), wanted(loss, "size", 2.5), wanted(loss, "power", 2)
    ('a number', 'a whole number or null', None)
    """
    hint = _hints(target).get(argument, Any)
    if _fits(value, hint):
        return None
    odd = isinstance(value, (int, float)) and not isinstance(value, bool) and not _usual(value)
    return _words(hint) + (" that is finite and, if whole, below 2^63" if odd else "")


@functools.cache
def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Annotations by argument; none where they name what only a type checker imports."""
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except Exception:  # an annotation may be any expression, also in a user's file
        return {}


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Mapping:
        return isinstance(value, Mapping)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(hint))
    if origin in (Sequence, list, tuple):
        item = next(iter(get_args(hint)), Any)
        if isinstance(value, str):
            return item is str  # one name is a list of one where a component takes it so
        return isinstance(value, (list, tuple)) and all(_fits(part, item) for part in value)
    if hint in (float, int):
        return (
            isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool) and _usual(value)
        )
    if hint is str:
        return isinstance(value, (str, int, float)) and not isinstance(value, bool)  # a slide may be called 12
    return isinstance(value, hint) if hint in (bool, type(None)) else True


def _usual(value: int | float) -> bool:
    """Whether a number is finite, and a whole one fits the 64 bits that most of what it is given to has room for."""
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


def _words(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(option) for option in get_args(hint))
    if origin is Literal:
        return " or ".join(map(str, get_args(hint)))
    if origin in (Sequence, list, tuple):
        item = next(iter(get_args(hint)), None)
        word = "{key: value}" if get_origin(item) is Mapping else WORDS.get(item, "a value")
        return f"a list like [{word}, {word}]"
    return WORDS.get(hint, getattr(hint, "__name__", str(hint)))
