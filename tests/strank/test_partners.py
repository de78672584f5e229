"""Partners that exist: asking for more than a slide has gives all of it, in no more time."""

from __future__ import annotations

import time

import pytest
import torch

import strank
from strank.sampling import draw_partners

SLIDES = torch.tensor([0, 1, 0, 1, 0, 1, 0, 2])  # four spots, three, one


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (2, 2), (3, 3), (4, 3), (100_000_000, 3)])
def test_no_more_partners_than_the_largest_slide_has(asked: int, given: int) -> None:
    started = time.monotonic()
    drawn = draw_partners(SLIDES, 8, asked, torch.Generator().manual_seed(0))
    assert len(drawn) == given
    assert time.monotonic() - started < 2
    for spot, slide in enumerate(SLIDES.tolist()):
        met = {int(one.of[spot]) for one in drawn}
        others = {i for i, other in enumerate(SLIDES.tolist()) if other == slide and i != spot}
        assert met <= (others or {spot})
        if asked >= 3:
            assert met == (others or {spot}), "all others, once"


def test_the_first_partners_are_the_same_whatever_is_asked_for() -> None:
    few, many = (draw_partners(SLIDES, 8, n, torch.Generator().manual_seed(3)) for n in (2, 10**8))
    assert all(torch.equal(a.of, b.of) for a, b in zip(few, many, strict=False))


@pytest.mark.parametrize("loss", [strank.pairwise_nll, strank.margin_ranking])
def test_all_partners_give_the_mean_over_all_pairs(loss) -> None:
    """With every partner, nothing is drawn any more: the value is that of the same loss pair by pair."""
    generator = torch.Generator().manual_seed(1)
    scores, counts = torch.randn(4, 2, generator=generator).double(), torch.tensor([[3, 0], [1, 1], [0, 5], [2, 2]])
    value = loss(scores, counts, n_partners=10**8)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    if loss is strank.pairwise_nll:
        p = torch.stack([torch.sigmoid(scores[i] - scores[j]) for i, j in pairs])
        c = torch.stack([torch.stack([counts[i], counts[j]]) for i, j in pairs])
        expected = -(c[:, 0] * p.log() + c[:, 1] * (1 - p).log()).sum(0) / (2 * len(pairs))
    else:
        sign = torch.stack([torch.sign(counts[i] - counts[j]) for i, j in pairs])
        hinge = torch.stack([1 - torch.sign(counts[i] - counts[j]) * (scores[i] - scores[j]) for i, j in pairs])
        expected = (hinge.clamp(min=0) * sign.abs()).sum(0) / sign.abs().sum(0)
    torch.testing.assert_close(value, expected)
