"""A reference gives what the metrics give, to the bit, however often it is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import strank
from strank import ranks, reference
from strank.reference import ReferenceCounts

RNG = np.random.default_rng(0)
SLIDES = torch.from_numpy(RNG.integers(3, 6, 70))


def tables(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with ties, a constant and what is not finite; counts with a constant gene."""
    scores = torch.from_numpy(RNG.normal(size=(70, 9)).round(1)).to(dtype)
    scores[:, 1] = 0.3
    scores[4, 2] = torch.nan
    scores[5, 3] = torch.inf
    counts = torch.from_numpy(RNG.poisson(1.0, (70, 9)))
    counts[:, 4] = 2
    return scores, counts


@pytest.mark.parametrize("slides", [None, SLIDES, SLIDES.sort().values], ids=["one", "mixed", "sorted"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("chunk", [ranks.CHUNK, 200], ids=["at once", "in chunks"])
@pytest.mark.parametrize("kept", [reference.KEPT, 0], ids=["kept", "found again"])
def test_it_is_the_metrics_to_the_bit(
    slides: torch.Tensor | None, dtype: torch.dtype, chunk: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "CHUNK", chunk)
    monkeypatch.setattr(reference, "KEPT", kept)
    scores, counts = tables(dtype)
    known = ReferenceCounts(counts.log1p(), slides)
    for each in (scores, scores.flip(0)):
        for found, metric in zip(known.correlations(each), (strank.spearman, strank.pearson), strict=True):
            wanted = metric(each, counts.log1p(), slides=slides, per_slide=True)
            assert torch.equal(found.nan_to_num(9.0), wanted.nan_to_num(9.0))


def test_what_does_not_fit_is_refused() -> None:
    known = ReferenceCounts(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"Expected scores and counts of one shape \[spot, gene\], received \[3, 1\]"):
        known.correlations(torch.zeros(3, 1))
    with pytest.raises(TypeError, match="Expected integer slide codes"):
        ReferenceCounts(torch.zeros(3, 2), torch.zeros(3))


def test_there_may_be_no_spots() -> None:
    assert ReferenceCounts(torch.zeros(0, 2)).correlations(torch.zeros(0, 2))[0].isnan().all()
