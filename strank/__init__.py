"""Ranking losses for counts."""

from typing import Any

from strank.metrics import count_undefined, kendall, mean_squared_error, pearson, spearman, why_undefined
from strank.ranks import average_ranks

_STREAMING = ("PearsonMetric", "SpearmanMetric", "KendallMetric", "MeanSquaredErrorMetric")

__all__ = [
    "average_ranks",
    "count_undefined",
    "kendall",
    "mean_squared_error",
    "pearson",
    "spearman",
    "why_undefined",
    *_STREAMING,
]


def __getattr__(name: str) -> Any:
    """The torchmetrics classes, imported when first asked for: torchmetrics takes seconds."""
    if name in _STREAMING:
        from strank import streaming

        return getattr(streaming, name)
    raise AttributeError(f"module 'strank' has no attribute {name!r}")
