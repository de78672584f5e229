"""t-statistics of hypergradients against SciPy, and what is said about noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from agl.training.signals import Signals


def test_t_is_scipys_over_one_step_and_over_all() -> None:
    rng = np.random.default_rng(0)
    steps = [rng.normal(0.3, 1, (5, 3)) for _ in range(4)]
    signals = Signals()
    for step in steps:
        notes = signals.add(torch.from_numpy(step))
        assert notes["hypergradient_t"] == pytest.approx(np.abs(stats.ttest_1samp(step, 0).statistic).max())
        agree = (np.sign(step) == np.sign(step.mean(0))).mean()
        assert notes["sign_agreement"] == pytest.approx(agree)
    whole = np.concatenate(steps)
    assert signals.verdict()["hypergradient_t"] == pytest.approx(np.abs(stats.ttest_1samp(whole, 0).statistic).max())


def test_noise_is_called_noise_and_a_direction_clear() -> None:
    rng = np.random.default_rng(1)
    said = []
    for shift in (0.0, 2.0):
        signals = Signals()
        signals.add(torch.from_numpy(rng.normal(shift, 1, (30, 1))))
        said.append(signals.verdict()["outer_signal"])
    assert said == ["indistinguishable from noise", "clear"]


def test_many_genes_of_noise_are_noise_although_one_in_twenty_is_far_out() -> None:
    signals = Signals()
    signals.add(torch.from_numpy(np.random.default_rng(2).normal(0, 1, (40, 2000))))
    assert 0.02 < signals.verdict()["clear_share"] < 0.09
    assert signals.verdict()["outer_signal"] == "indistinguishable from noise"


def test_state_goes_on_where_it_was() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    whole, resumed = Signals(), Signals()
    whole.add(torch.from_numpy(first))
    resumed.load_state_dict(whole.state_dict())
    whole.add(torch.from_numpy(second))
    resumed.add(torch.from_numpy(second))
    assert whole.verdict() == resumed.verdict()


def test_one_look_ahead_says_nothing() -> None:
    signals = Signals()
    notes = signals.add(torch.ones(1, 2))
    assert set(notes) == {"hypergradient"}
    assert signals.verdict() == {}
