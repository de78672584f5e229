"""Tuning a selection on the outer problem, what is observed on the way, and planted genes as its measure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from agl.convex.calibration import calibrate, moved_spots
from agl.convex.tune import tune
from agl.errors import UserError
from tests.convex.outer_problems import (
    AUXILIARY,
    problem_of,
)


class Threshold(nn.Module):
    """The first genes, softly."""

    def __init__(self, at: float = 0.5) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at, dtype=torch.float64))

    def forward(self) -> Tensor:
        return torch.sigmoid((self.at - torch.linspace(0, 1, AUXILIARY, dtype=torch.float64)) / 0.1)

    def project(self) -> None:
        with torch.no_grad():
            self.at.clamp_(0, 1)


class Observer(nn.Module):
    signal = "influence"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self) -> Tensor:
        return torch.full((AUXILIARY,), 0.5)

    def observe(self, signal: Tensor) -> None:
        self.seen.append(signal)


def test_tuning_finds_the_threshold_that_a_scan_finds_and_keeps_the_best_step() -> None:
    problem, selector, heard = problem_of(), Threshold(), []
    problem.loss(selector()).backward()
    step = 1e-5
    change = [float(problem.loss(Threshold(0.5 + t)().detach())) for t in (-step, step)]
    assert float(selector.at.grad) == pytest.approx((change[1] - change[0]) / (2 * step), rel=1e-6)

    records = tune(selector, problem, steps=150, lr=0.03, callback=heard.append)
    assert records == heard
    assert len(records) == 152
    assert records[-1].loss == min(r.loss for r in records)
    assert float(problem.loss(selector().detach())) == pytest.approx(records[-1].loss)
    assert records[-1].k == pytest.approx(float(selector().detach().sum()))

    def at(threshold: float) -> float:
        return float(problem.loss(Threshold(threshold)().detach()))

    start = np.array([r.k for r in records])
    grid = [t for t in np.linspace(0, 1, 401) if start.min() <= float(Threshold(t)().detach().sum()) <= start.max()]
    assert records[-1].loss == pytest.approx(min(map(at, grid)), abs=1e-5)
    again = Threshold()
    assert tune(again, problem, steps=150, lr=0.03) == records


def test_the_strength_is_tuned_too() -> None:
    problem = problem_of(strength=0.5)
    fixed = tune(Threshold(), problem, steps=60)
    free = tune(Threshold(), problem, steps=60, learn_strength=True)
    assert {r.strength for r in fixed} == {0.5}
    assert free[-1].strength != pytest.approx(0.5, rel=0.05)
    assert free[-1].loss < fixed[-1].loss


def test_influences_are_observed_fold_by_fold_on_shares_of_the_spots() -> None:
    problem, whole, half = problem_of(), Observer(), Observer()
    tune(whole, problem, steps=2, share=1.0)
    assert len(whole.seen) == 4
    torch.testing.assert_close(torch.stack(whole.seen[:2]), problem.gradient(whole()).by_fold)
    torch.testing.assert_close(whole.seen[0], whole.seen[2])
    tune(half, problem, steps=2, share=0.5, seed=3)
    assert not torch.allclose(half.seen[0], half.seen[2])
    again = Observer()
    tune(again, problem, steps=2, share=0.5, seed=3)
    torch.testing.assert_close(again.seen, half.seen)


def test_spots_move_within_their_slide_and_keep_their_neighbours() -> None:
    side = torch.arange(7.0)
    coords = torch.cartesian_prod(side, side).repeat(2, 1)
    slides = torch.tensor([3, 1]).repeat_interleave(49)
    source = moved_spots(coords, slides, seed=0, draw=1)
    assert torch.equal(slides[source], slides)
    assert torch.equal(source, moved_spots(coords, slides, seed=0, draw=1))
    assert not torch.equal(source, moved_spots(coords, slides, seed=0, draw=2))
    right = [(i, i + 1) for i in range(97) if coords[i, 0] == coords[i + 1, 0] and slides[i] == slides[i + 1]]
    apart = torch.stack([(coords[source[i]] - coords[source[j]]).norm() for i, j in right])
    assert apart.max() < 3
    assert (coords[source] - coords).norm(dim=1).median() > 1


def test_p_values_are_ranks_among_planted_genes() -> None:
    problem = problem_of()
    found = calibrate(problem, torch.zeros(10), 6, fdr=0.3)
    slope = problem.gradient(torch.zeros(AUXILIARY)).mean.numpy()  # unit vectors: a vote of 1
    np.testing.assert_allclose(found.statistic, slope[:10])
    for gene in range(10):
        assert float(found.p_helps[gene]) == pytest.approx((1 + (slope[10:] <= slope[gene]).sum()) / 7)
        assert float(found.p_harms[gene]) == pytest.approx((1 + (slope[10:] >= slope[gene]).sum()) / 7)
    for p, chosen in ((found.p_helps, found.helps), (found.p_harms, found.harms)):
        expected = stats.false_discovery_control(p.numpy()) <= 0.3
        np.testing.assert_array_equal(chosen, expected)


def test_a_selector_that_wants_training_losses_is_refused() -> None:
    selector = Threshold()
    selector.signal = "losses"  # type: ignore[assignment]
    with pytest.raises(UserError, match="no training steps"):
        tune(selector, problem_of())
