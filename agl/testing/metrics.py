"""A contract for metrics: does yours fit `strank`'s?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Metric = Callable[..., Tensor]


def check_metric(metric: Metric, *, correlation: bool = True, seed: int = 0) -> None:
    """Raise AssertionError, saying which part of the contract a metric breaks.

    The contract: `metric(scores, counts, *, slides=None, per_slide=False)` of `[spot, gene]` tables gives one value a
    gene (`[slide, gene]` with `per_slide`, slides in rising code order); it is the mean over the slides where it is
    defined; NaN stands for undefined; order of spots and names of slides do not matter; inputs stay as they are.

    Args:
        metric: the function.
        correlation: it is undefined for constants and for fewer than three spots, and lies in [-1, 1].

    >>> import strank
    >>> check_metric(strank.spearman)
    """
    generator = torch.Generator().manual_seed(seed)
    rate = torch.rand(60, 4, generator=generator) * 4
    counts = torch.poisson(rate, generator=generator).long()
    scores = rate + torch.randn(60, 4, generator=generator)
    slides = torch.arange(60) % 3
    _shapes(metric, scores, counts, slides)
    _slides(metric, scores, counts, slides)
    _order(metric, scores, counts, slides, generator)
    _inputs(metric, scores, counts, slides)
    _missing(metric, scores, counts)
    if correlation:
        _undefined(metric, scores, counts)


def _shapes(metric: Metric, scores: Tensor, counts: Tensor, slides: Tensor) -> None:
    pooled, mean = metric(scores, counts), metric(scores, counts, slides=slides)
    per_slide = metric(scores, counts, slides=slides, per_slide=True)
    assert pooled.shape == (4,), f"Expected one value a gene, [4], received {list(pooled.shape)}."
    assert mean.shape == (4,), f"Expected one value a gene with slides, [4], received {list(mean.shape)}."
    assert per_slide.shape == (3, 4), f"Expected [slide, gene] = [3, 4], received {list(per_slide.shape)}."
    assert per_slide.isfinite().all(), "Expected finite values on ordinary counts."


def _slides(metric: Metric, scores: Tensor, counts: Tensor, slides: Tensor) -> None:
    per_slide = metric(scores, counts, slides=slides, per_slide=True)
    alone = torch.stack([metric(scores[slides == i], counts[slides == i]) for i in range(3)])
    _same(per_slide, alone, "each slide's value should be that of its spots alone")
    _same(metric(scores, counts, slides=slides), per_slide.mean(0), "without per_slide, expected the mean over slides")
    renamed = torch.tensor([50, -3, 7])[slides]  # rising code order is now slide 1, 2, 0
    _same(
        metric(scores, counts, slides=renamed, per_slide=True),
        per_slide[[1, 2, 0]],
        "slides should come in rising code order, whatever the codes",
    )


def _order(metric: Metric, scores: Tensor, counts: Tensor, slides: Tensor, generator: torch.Generator) -> None:
    turn = torch.randperm(60, generator=generator)
    _same(metric(scores[turn], counts[turn]), metric(scores, counts), "the order of spots should not matter")
    _same(
        metric(scores[turn], counts[turn], slides=slides[turn], per_slide=True),
        metric(scores, counts, slides=slides, per_slide=True),
        "the order of spots should not matter, with slides",
    )
    _same(metric(scores.flip(1), counts.flip(1)), metric(scores, counts).flip(0), "genes should not see each other")


def _inputs(metric: Metric, scores: Tensor, counts: Tensor, slides: Tensor) -> None:
    before = scores.clone(), counts.clone(), slides.clone()
    metric(scores, counts, slides=slides)
    for name, old, new in zip(("scores", "counts", "slides"), before, (scores, counts, slides), strict=True):
        assert torch.equal(old, new), f"Expected {name} to stay as they are, found them changed."
    for dtype in (torch.int32, torch.float32, torch.float64):
        _same(metric(scores, counts.to(dtype)), metric(scores, counts), f"counts as {dtype} should give the same value")


def _missing(metric: Metric, scores: Tensor, counts: Tensor) -> None:
    holed = scores.clone()
    holed[5, 1] = torch.nan
    found = metric(holed, counts).isnan().tolist()
    assert found == [False, True, False, False], (
        f"Expected NaN for the gene with a NaN score only, received NaN at {found}."
    )


def _undefined(metric: Metric, scores: Tensor, counts: Tensor) -> None:
    flat = torch.full_like(scores, 1.3862944)
    assert metric(flat, counts).isnan().all(), "Expected NaN for constant scores."
    assert metric(scores, flat).isnan().all(), "Expected NaN for constant counts."
    assert metric(scores[:2], counts[:2]).isnan().all(), "Expected NaN for fewer than three spots."
    lone = torch.zeros(60, dtype=torch.long)
    lone[0] = 9
    _same(
        metric(scores, counts, slides=lone),
        metric(scores[1:], counts[1:]),
        "a slide without a value should be left out of the mean",
    )
    high = torch.arange(60.0)[:, None]
    for sign in (1, -1):
        value = metric(sign * high, high).item()
        assert abs(value - sign) < 1e-6, (
            f"Expected {sign} for scores that are {sign} times the counts, received {value}."
        )


def _same(found: Tensor, expected: Tensor, what: str) -> None:
    close = torch.allclose(found.double(), expected.double(), atol=1e-9, rtol=1e-9, equal_nan=True)
    assert close, f"Expected equal values ({what}), received {found.tolist()} and {expected.tolist()}."
