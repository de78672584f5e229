"""Which genes are learnt: primary genes, priors, gene sets, selectors."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Candidates": "agl.genes.candidates",
    "Selector": "agl.genes.selectors",
    "TrainingSpots": "agl.genes.training",
    "budgeted_topk": "agl.genes.selectors",
    "coexpression_evidence": "agl.genes.significance",
    "discoveries": "agl.genes.significance",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    """Import at first use, so that naming a gene rule costs nothing."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
