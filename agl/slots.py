"""Where a component may stand: in the config, or as an argument of another component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Slot:
    """Marks an annotation: what stands here is a component of one of these kinds.

    Of several kinds, a name belongs to the first that has it built in; see `agl.registry.which` for the rest.
    """

    kinds: tuple[str, ...]

    def __init__(self, *kinds: str) -> None:
        object.__setattr__(self, "kinds", kinds)


Prior = Annotated[str | Mapping[str, Any], Slot("prior")]
"""A prior as an argument: its name, or `{name: ..., option: ...}`."""
