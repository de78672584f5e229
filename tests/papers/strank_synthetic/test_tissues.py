"""Tissues: the formulas by hand, moments of the counts, what the two protocols share and do not share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agl.papers.strank_synthetic.settings import Case
from agl.papers.strank_synthetic.tissues import FUNCTIONS, Tissues, Truth, signal


def case(**changed) -> Case:
    return Case(
        **({"function": 0, "sampling": "uniform", "seed": 0, "scale": 10.0, "offset": 10.0, "r": 2.0} | changed)
    )


def draw(protocol, spots=40_000, **changed):
    return Tissues.draw([case(**changed)], protocol, spots, "training")


@pytest.mark.parametrize("function", range(4))
def test_the_signal_by_hand(function):
    a, b, c, d = FUNCTIONS[function]
    expected = [a * math.sin(c * x) + b * math.sin(d * x) for x in (0.0, 0.3, 1.0)]
    assert signal(function, np.array([0.0, 0.3, 1.0])) == pytest.approx(expected)


@pytest.mark.parametrize("protocol", ["released", "paper"])
@pytest.mark.parametrize("tissue", [0, 1])
def test_counts_have_the_mean_and_variance_of_the_negative_binomial(protocol, tissue):
    tissues = draw(protocol)
    here = tissues.slides == tissue
    x, counts = tissues.x[0, here].double().numpy(), tissues.counts[0, here].double().numpy()
    scale, offset = ((1, 0), (10, 10))[tissue]
    true = signal(0, x)
    mean = scale * (true + (0.5 if protocol == "paper" else -true.min())) + offset
    assert counts.mean() == pytest.approx(mean.mean(), rel=0.03)
    assert ((counts - mean) ** 2).mean() == pytest.approx((mean + mean**2 / 2.0).mean(), rel=0.05)
    assert np.corrcoef(counts, mean)[0, 1] > 0.1


def test_released_tissues_have_the_same_x_and_the_papers_do_not():
    released, paper = draw("released"), draw("paper")
    assert torch.equal(*released.x[0].chunk(2))
    assert abs(np.corrcoef(*(half.numpy() for half in paper.x[0].chunk(2)))[0, 1]) < 0.02


def test_the_imbalanced_second_tissue_comes_from_a_window():
    released = draw("released", sampling="imbalanced")
    first, second = released.x[0].chunk(2)
    assert (first.min() < 0.01) & (first.max() > 0.99)
    assert second.min() >= 0.2745
    assert second.max() <= 0.4745
    windows = {float(draw("paper", 2000, sampling="imbalanced", seed=s, function=f).x[0, 2000:].min())
               for s in range(3) for f in range(2)}  # fmt: skip
    assert len(windows) == 6
    training, validation = (
        Tissues.draw([case(sampling="imbalanced")], "paper", 20_000, purpose).x[0, 20_000:]
        for purpose in ("training", "validation")
    )
    assert training.min() == pytest.approx(float(validation.min()), abs=1e-3)
    assert not torch.equal(training, validation)


def test_seeds_functions_and_purposes_draw_their_own():
    first, again, seed = draw("paper", 50), draw("paper", 50), draw("paper", 50, seed=1)
    assert torch.equal(first.counts, again.counts)
    assert not torch.equal(first.x, seed.x)
    assert not torch.equal(first.x, draw("paper", 50, function=1).x)
    truths = [Truth.draw([case()], 50, purpose) for purpose in ("oracle", "test")]
    assert not torch.equal(truths[0].x, truths[1].x)
    assert truths[0].signal[0].numpy() == pytest.approx(signal(0, truths[0].x[0].double().numpy()))


def test_cases_do_not_depend_on_their_neighbours():
    together = Tissues.draw([case(seed=1), case(seed=2)], "paper", 30, "training")
    assert torch.equal(together.counts[1], draw("paper", 30, seed=2).counts[0])
