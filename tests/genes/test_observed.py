"""Smoothing, the t-test and the gate, against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from agl.errors import UserError
from agl.genes.selectors import GradientSimilarity, InfluenceGates
from agl.testing.gene_sets import example_candidates


def observe_all(selector, signals):
    for signal in signals:
        selector.observe(torch.from_numpy(np.asarray(signal)))
    return selector


@pytest.fixture
def signals():
    rng = np.random.default_rng(0)
    return rng.normal(size=(25, 32)) * 0.3 + np.linspace(-1, 1, 32)


def test_without_forgetting_t_is_scipys(signals):
    selector = observe_all(GradientSimilarity(example_candidates(), memory=1e12), signals)
    expected = stats.ttest_1samp(signals, 0.0).statistic
    np.testing.assert_allclose(selector.statistic().numpy(), expected, rtol=1e-6)
    other = observe_all(InfluenceGates(example_candidates(), memory=1e12), signals)
    np.testing.assert_allclose(other.statistic().numpy(), -expected, rtol=1e-6)


def test_with_forgetting_mean_and_variance_are_the_weighted_ones(signals):
    selector = observe_all(GradientSimilarity(example_candidates(), memory=10.0), signals)
    w = 0.9 ** np.arange(24, -1, -1)
    mean = (w[:, None] * signals).sum(0) / w.sum()
    variance = (w[:, None] * (signals - mean) ** 2).sum(0) / (w.sum() - (w**2).sum() / w.sum())
    t = mean / np.sqrt(variance / (w.sum() ** 2 / (w**2).sum()))
    np.testing.assert_allclose(selector.statistic().numpy(), t, rtol=1e-9)


def test_genes_that_were_not_measured_keep_their_state(signals):
    holes = signals.copy()
    holes[::2, 3] = np.nan
    holes[:, 4] = np.nan
    selector = observe_all(GradientSimilarity(example_candidates(), memory=1e12), holes)
    assert selector.statistic()[3].item() == pytest.approx(stats.ttest_1samp(signals[1::2, 3], 0).statistic)
    assert selector.statistic()[4].item() == 0
    assert selector.seen.tolist() == [25, 25, 25, 12, 0] + [25] * 27
    assert torch.isfinite(selector()).all()


def test_negative_influence_is_helpful_and_the_gate_counts(signals):
    selector = observe_all(InfluenceGates(example_candidates(), memory=1e12), signals)
    t = -stats.ttest_1samp(signals, 0.0).statistic
    assert selector.k == pytest.approx((t > 1.645).sum(), abs=1)
    assert selector().sum().item() == pytest.approx((t > 1.645).sum(), rel=1e-4)
    assert selector.chosen()[:8].all()
    assert not selector.chosen()[-16:].any()


def test_a_fixed_budget_is_kept(signals):
    selector = observe_all(InfluenceGates(example_candidates(), k=5, memory=1e12), signals)
    assert selector().sum().item() == pytest.approx(5, rel=1e-5)
    everything = observe_all(InfluenceGates(example_candidates(), k=500, memory=1e12), signals)
    assert everything().tolist() == [1.0] * 32


def test_noise_passes_the_gate_as_often_as_a_t_test_says():
    rng = np.random.default_rng(1)
    candidates = example_candidates()
    passed = [
        int((observe_all(InfluenceGates(candidates, memory=1e12), rng.normal(size=(60, 32))).statistic() > 1.645).sum())
        for _ in range(60)
    ]
    assert np.mean(passed) / 32 == pytest.approx(stats.t.sf(1.645, 59), abs=0.015)


def test_nothing_helpful_means_no_gene():
    candidates = example_candidates()
    selector = observe_all(InfluenceGates(candidates), 1 + 0.1 * np.random.default_rng(0).normal(size=(10, 32)))
    assert selector().tolist() == [0.0] * 32
    assert selector.k == 0


def test_before_the_warm_up_all_weights_are_start(signals):
    selector = InfluenceGates(example_candidates(), warmup=5, start=0.8)
    observe_all(selector, signals[:4])
    assert selector().tolist() == pytest.approx([0.8] * 32)
    observe_all(selector, signals[4:5])
    assert len(set(selector().tolist())) > 2


def test_the_scale_of_the_signal_does_not_matter(signals):
    plain = observe_all(InfluenceGates(example_candidates()), signals)
    tiny = observe_all(InfluenceGates(example_candidates()), signals * 1e-22)
    torch.testing.assert_close(plain(), tiny(), atol=1e-5, rtol=1e-4)


def test_a_signal_without_spread_is_finite():
    selector = observe_all(GradientSimilarity(example_candidates()), np.tile(np.linspace(-1, 1, 32), (10, 1)))
    assert torch.isfinite(selector.statistic()).all()
    assert selector.chosen().tolist() == [False] * 16 + [True] * 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": -1}, "k as a number of genes.*received -1"),
        ({"memory": 1.0}, "memory of more than 1"),
        ({"warmup": 1}, "warmup of at least 2"),
        ({"tau": -1.0}, "tau above 0"),
        ({"start": 2.0}, "start from 0 to 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        InfluenceGates(example_candidates(), **options)


def passing_noise(disjoint: float, seed: int) -> float:
    """Share of genes of noise that pass, asked about batches drawn over and over from the same 320 spots."""
    rng = np.random.default_rng(seed)
    of_spots = rng.normal(size=(320, 32))  # what a spot says about a gene: nothing, on average over tissues
    selector = GradientSimilarity(example_candidates(), memory=1e12)
    selector.drawn_from(disjoint)
    batches = [rng.choice(320, 40, replace=False) for _ in range(60)]
    return float(
        (observe_all(selector, [of_spots[rows].mean(0) for rows in batches]).statistic() > 1.645).double().mean()
    )


def test_batches_of_the_same_spots_are_not_worth_what_new_spots_are() -> None:
    naive, bounded = ([passing_noise(disjoint, seed) for seed in range(40)] for disjoint in (np.inf, 320 / 40))
    assert np.mean(naive) > 0.2
    assert 0.02 < np.mean(bounded) < 0.07


def test_bounded_t_by_hand(signals):
    selector = observe_all(GradientSimilarity(example_candidates(), memory=1e12), signals)
    selector.drawn_from(5.0)
    expected = signals.mean(0) / np.sqrt(signals.var(0, ddof=1) * (1 / 25 + 1 / 5))
    np.testing.assert_allclose(selector.statistic().numpy(), expected, rtol=1e-6)
