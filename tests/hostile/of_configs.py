"""Every key of the config, with every kind of value that it is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agl.config import Config, Section, slots
from tests.hostile.kinds import VALUES
from tests.hostile.stage import NETWORK, QUICK, Case

# What a key of this type may be; anything else must be refused.
RIGHT = {
    "str": {"a word"},
    "bool": {"a truth"},
    "float": {"a share", "a huge number"},
    "int": {"a huge number"},
    "dict": {"a mapping"},
    "None": {"nothing"},
}


def keys(part: type[Section], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and annotation of everything that is no component."""
    marks = slots(part)
    for key, field in part.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from keys(inner, f"{before}{key}.")
        elif key not in marks:
            yield f"{before}{key}", inner


def cases() -> Iterator[Case]:
    """Key by key."""
    for key, annotation in keys(Config):
        words = f"{getattr(annotation, '__name__', '')} {annotation}"
        right = {kind for word, kinds in RIGHT.items() if word in words for kind in kinds}
        for kind, value in VALUES.items():
            yield Case(
                "config key", f"{key} is {kind}", ("train", *_shared(key), f"{key}={value}"),
                part="" if kind in right else key.rpartition(".")[2].replace("_", "."), fine=kind in right,
            )  # fmt: skip


def _shared(key: str) -> tuple[str, ...]:
    """A quick run that uses the key."""
    base = NETWORK if key.startswith(("training", "auxiliary")) else QUICK
    kept = tuple(word for word in base if word.partition("=")[0] != key)
    return (*kept, "auxiliary.genes=dkgsb", "auxiliary.outer.start=0") if key.startswith("auxiliary.outer") else kept
