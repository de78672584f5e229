"""t-statistics of hypergradients against SciPy, and how often noise is called a signal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from agl.training.signals import Signals


def verdict(steps: list[np.ndarray]) -> dict:
    signals = Signals()
    for step in steps:
        signals.add(torch.from_numpy(step))
    return signals.verdict()


def share_called_clear(draw, runs: int) -> float:
    return np.mean([verdict(draw(np.random.default_rng(run)))["outer_signal"] == "clear" for run in range(runs)])


def test_t_is_scipys_within_a_step_and_over_the_steps_means() -> None:
    rng = np.random.default_rng(0)
    steps = [rng.normal(0.3, 1, (5, 3)) for _ in range(4)]
    signals = Signals()
    for step in steps:
        notes = signals.add(torch.from_numpy(step))
        assert notes["hypergradient_t"] == pytest.approx(np.abs(stats.ttest_1samp(step, 0).statistic).max())
        agree = (np.sign(step) == np.sign(step.mean(0))).mean()
        assert notes["sign_agreement"] == pytest.approx(agree)
    found, over = signals.verdict(), stats.ttest_1samp([step.mean(0) for step in steps], 0)
    assert found["hypergradient_t"] == pytest.approx(np.abs(over.statistic).max())
    assert found["look_aheads"] == 20
    assert found["discoveries"] == (over.pvalue < 0.05 / 3).sum()


def test_one_direction_is_called_clear_in_one_run_of_twenty_by_chance() -> None:
    def draw(rng) -> list[np.ndarray]:
        shared = rng.normal(size=(6, 1, 3))  # look-aheads of a step share the model
        return list(shared + 0.5 * rng.normal(size=(6, 4, 3)))

    assert 0.02 < share_called_clear(draw, 600) < 0.08
    assert share_called_clear(lambda rng: [step + 5 for step in draw(rng)], 50) > 0.9


@pytest.mark.parametrize("harm", [0.0, 1.0])
def test_genes_of_noise_are_seldom_called_clear_however_wide_their_t_is(harm: float) -> None:
    """As measured: what a gene does to the outer loss lasts over the steps, and noise hurts rather than helps."""

    def draw(rng) -> list[np.ndarray]:
        lasting = rng.normal(harm, 1, 200)
        return list(lasting + rng.normal(size=(12, 2, 200)))

    wide = verdict(draw(np.random.default_rng(0)))
    assert wide["hypergradient_t"] > 1.5  # 0.7 where nothing lasts: a test of each gene would find half of them
    assert share_called_clear(draw, 200) <= 0.1


def test_genes_that_help_are_counted() -> None:
    rng = np.random.default_rng(5)
    effect = np.where(np.arange(200) < 60, -3.0, rng.normal(0, 0.3, 200))
    found = verdict(list(effect + rng.normal(size=(12, 2, 200))))
    assert found["outer_signal"] == "clear"
    assert 60 <= found["discoveries"] <= 70
    assert verdict(list(-effect + rng.normal(size=(12, 2, 200))))["outer_signal"] == "indistinguishable from noise"


def test_state_goes_on_where_it_was() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    whole, resumed = Signals(), Signals()
    whole.add(torch.from_numpy(first))
    resumed.load_state_dict(whole.state_dict())
    whole.add(torch.from_numpy(second))
    resumed.add(torch.from_numpy(second))
    assert whole.verdict() == resumed.verdict() != {}


def test_a_hypergradient_that_is_always_zero_is_no_signal() -> None:
    found = verdict([np.zeros((2, 20))] * 3)
    assert (found["discoveries"], found["hypergradient_t"]) == (0, 0.0)


def test_one_outer_step_says_nothing() -> None:
    signals = Signals()
    assert set(signals.add(torch.ones(1, 2))) == {"hypergradient"}
    assert signals.verdict() == {}
