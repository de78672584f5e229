"""The torchmetrics classes give what the functions give, however the spots were cut into batches."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import strank

PAIRS = {
    "PearsonMetric": strank.pearson,
    "SpearmanMetric": strank.spearman,
    "KendallMetric": strank.kendall,
    "MeanSquaredErrorMetric": strank.mean_squared_error,
}


def sample(n: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    counts = torch.poisson(torch.rand(n, 3, generator=generator) * 3, generator=generator).int()
    return torch.randn(n, 3, generator=generator), counts, torch.randint(0, 3, (n,), generator=generator)


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6), per_slide=st.booleans())
def test_batches_equal_the_whole(name: str, sizes: list[int], per_slide: bool) -> None:
    scores, counts, slides = sample(sum(sizes))
    metric = getattr(strank, name)(per_slide=per_slide)
    for s, c, g in zip(scores.split(sizes), counts.split(sizes), slides.split(sizes), strict=True):
        metric.update(s, c, slides=g)
    expected = PAIRS[name](scores, counts, slides=slides, per_slide=per_slide)
    torch.testing.assert_close(metric.compute(), expected, atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", PAIRS)
def test_without_slides_reset_and_pickle(name: str) -> None:
    scores, counts, _ = sample()
    metric = getattr(strank, name)()
    metric.update(scores[:10], counts[:10])
    metric = pickle.loads(pickle.dumps(metric))
    metric.update(scores[10:], counts[10:])
    torch.testing.assert_close(metric.compute(), PAIRS[name](scores, counts), atol=0, rtol=0)
    metric.reset()
    metric.update(scores[:20], counts[:20])
    torch.testing.assert_close(metric.compute(), PAIRS[name](scores[:20], counts[:20]), atol=0, rtol=0)


def test_calling_gives_the_batch_and_keeps_the_rest() -> None:
    scores, counts, slides = sample()
    metric = strank.SpearmanMetric()
    batch = metric(scores[:15], counts[:15], slides=slides[:15])
    torch.testing.assert_close(batch, strank.spearman(scores[:15], counts[:15], slides=slides[:15]), equal_nan=True)
    metric(scores[15:], counts[15:], slides=slides[15:])
    torch.testing.assert_close(metric.compute(), strank.spearman(scores, counts, slides=slides))


def test_later_changes_of_a_batch_do_not_reach_the_metric() -> None:
    scores, counts, _ = sample()
    expected = strank.pearson(scores, counts)
    metric = strank.PearsonMetric()
    metric.update(scores, counts)
    scores.zero_()
    torch.testing.assert_close(metric.compute(), expected)


def test_traits() -> None:
    assert strank.SpearmanMetric.higher_is_better
    assert not strank.MeanSquaredErrorMetric.higher_is_better
    assert not strank.PearsonMetric.is_differentiable


def test_bad_batches() -> None:
    scores, counts, slides = sample()
    metric = strank.PearsonMetric()
    with pytest.warns(UserWarning, match="before the"), pytest.raises(ValueError, match="Expected at least one batch"):
        metric.compute()
    metric.update(scores, counts, slides=slides)
    with pytest.raises(ValueError, match="slides with every batch or with none"):
        metric.update(scores, counts)
    with pytest.raises(ValueError, match="Expected 3 genes as in earlier batches, received 2"):
        metric.update(scores[:, :2], counts[:, :2], slides=slides)
    with pytest.raises(ValueError, match=r"slides of shape \[40\], received \[39\]"):
        metric.update(scores, counts, slides=slides[1:])
    with pytest.raises(ValueError, match=r"one shape \[spot, gene\], received \[40, 3\] and \[39, 3\]"):
        metric.update(scores, counts[1:], slides=slides)
