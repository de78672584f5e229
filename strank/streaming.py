"""The metrics as `torchmetrics.Metric` classes: update with batches, compute over all of them.

A class keeps what it was given and calls the function of the same name once, so a result cannot depend on
how the spots were cut into batches. The price is memory for the evaluated scores and counts, as for any exact
rank correlation.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from strank import metrics
from strank.ranks import check_table


class _PerGene(Metric):
    """Collects `[spot, gene]` batches; subclasses name the function.

    Args:
        per_slide: give `[slide, gene]` instead of the mean over slides.
        options: torchmetrics' own (`sync_on_compute`, `dist_sync_on_step`, ...).
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    function: ClassVar[Any]

    scores: list[Tensor]
    counts: list[Tensor]
    slides: list[Tensor]

    def __init__(self, *, per_slide: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.per_slide = per_slide
        for state in ("scores", "counts", "slides"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, counts: Tensor, slides: Tensor | None = None) -> None:
        """Add spots. `slides` with every batch or with none.

        Raises:
            ValueError: shapes that differ, from each other or from earlier batches; slides now and then.
        """
        check_table(scores, "scores")
        check_table(counts, "counts")
        if scores.shape != counts.shape:
            raise ValueError(
                "Expected scores and counts of one shape [spot, gene], "
                f"received {list(scores.shape)} and {list(counts.shape)}."
            )
        if self.scores and scores.shape[1] != self.scores[0].shape[1]:
            raise ValueError(
                f"Expected {self.scores[0].shape[1]} genes as in earlier batches, received {scores.shape[1]}."
            )
        if self.scores and bool(self.slides) != (slides is not None):
            raise ValueError("Expected slides with every batch or with none, received a mixture.")
        if slides is not None:
            if slides.shape != scores.shape[:1]:
                raise ValueError(f"Expected slides of shape [{len(scores)}], received {list(slides.shape)}.")
            self.slides.append(slides.detach().clone())
        self.scores.append(scores.detach().clone())
        self.counts.append(counts.detach().clone())

    def compute(self) -> Tensor:
        """The function's value over all spots seen: float64 `[gene]`, or `[slide, gene]`.

        torchmetrics squeezes the value for a single gene to a scalar.
        """
        scores, counts, slides = _joined(self.scores), _joined(self.counts), _joined(self.slides)
        if scores is None or counts is None:
            raise ValueError("Expected at least one batch before compute(), received none: call update() first.")
        value: Tensor = type(self).function(scores, counts, slides=slides, per_slide=self.per_slide)
        return value


class PearsonMetric(_PerGene):
    """`strank.pearson` over batches.

    >>> metric = PearsonMetric()
    >>> metric.update(torch.tensor([[0.0], [1.0]]), torch.tensor([[1], [2]]))
    >>> metric.update(torch.tensor([[2.0]]), torch.tensor([[6]]))
    >>> metric.compute().round(decimals=4)
    tensor(0.9449, dtype=torch.float64)
    """

    function = staticmethod(metrics.pearson)


class SpearmanMetric(_PerGene):
    """`strank.spearman` over batches.

    >>> metric = SpearmanMetric()
    >>> metric.update(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1], [2], [6]]))
    >>> metric.compute()
    tensor(1., dtype=torch.float64)
    """

    function = staticmethod(metrics.spearman)


class KendallMetric(_PerGene):
    """`strank.kendall` over batches.

    >>> metric = KendallMetric()
    >>> metric.update(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1], [2], [6]]))
    >>> metric.compute()
    tensor(1., dtype=torch.float64)
    """

    function = staticmethod(metrics.kendall)


class MeanSquaredErrorMetric(_PerGene):
    """`strank.mean_squared_error` over batches.

    >>> metric = MeanSquaredErrorMetric()
    >>> metric.update(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1], [2], [6]]))
    >>> metric.compute()
    tensor(6., dtype=torch.float64)
    """

    higher_is_better = False
    function = staticmethod(metrics.mean_squared_error)


def _joined(batches: list[Tensor] | Tensor) -> Tensor | None:
    """All batches end to end; after a distributed gather they already are."""
    if isinstance(batches, Tensor):
        return batches if batches.numel() else None
    return torch.cat(batches) if batches else None
