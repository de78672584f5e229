"""Learners that are solved, not trained: convex heads, the low-rank trunk, and the outer problem in closed form."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Heads": "agl.convex.heads",
    "solve_path": "agl.convex.heads",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    """Import at first use, so that naming a loss costs nothing."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
