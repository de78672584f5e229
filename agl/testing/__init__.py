"""Contract batteries for components, for ours and for yours: `check_loss(mine.tweedie)` says whether it fits."""

from __future__ import annotations

from typing import Any

_WHERE = {
    "check_engine": "engines",
    "check_estimator": "estimators",
    "check_format": "formats",
    "check_gene_set": "gene_sets",
    "check_loss": "losses",
    "check_merge": "merges",
    "check_metric": "metrics",
    "check_model": "models",
    "check_objective": "objectives",
    "check_plugin": "plugins",
    "check_primary_rule": "gene_sets",
    "check_prior": "gene_sets",
    "check_report_section": "report_sections",
    "check_sampler": "splits",
    "check_selector": "selectors",
    "check_split": "splits",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    """Each battery is imported when first asked for."""
    from importlib import import_module

    if name in _WHERE:
        return getattr(import_module(f"agl.testing.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'agl.testing' has no attribute {name!r}; it has {', '.join(__all__)}")
