"""The shared trunk: against NumPy's singular vectors, against full rank, and what auxiliary genes do and cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge as SklearnRidge

from agl.config import Component
from agl.errors import UserError
from agl.estimators.convex import Convex
from agl.estimators.low_rank import LowRank
from agl.estimators.sample import Sample
from agl.estimators.selection import counted
from agl.seeds import seeded
from agl.testing.estimators import example_sample

MSE = Component(name="mse")


def within(values: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """Centred inside slides."""
    found = values.astype(float)
    for slide in np.unique(slides):
        found[slides == slide] -= found[slides == slide].mean(0)
    return found


def plain_low_rank(sample: Sample, rank: int, penalty: float, weights: np.ndarray, votes: str) -> np.ndarray:
    """Ridge by scikit-learn, cut by NumPy's SVD of all fitted values; the training spots' scores, within slides."""
    x = (sample.features - sample.features.mean(0)) / sample.features.std(0)
    y = np.log1p(1e4 * sample.counts / sample.library_size[:, None])
    heads = SklearnRidge(alpha=penalty * len(x), solver="svd").fit(x, y).coef_.T
    fitted, truth = within(x @ heads, sample.slides), within(y, sample.slides)
    votes_of = (fitted**2).sum(0) / (truth**2).sum(0) if votes == "explained" else np.ones(y.shape[1])
    table = fitted / np.linalg.norm(fitted, axis=0) * np.sqrt(votes_of * weights)
    left = np.linalg.svd(table, full_matrices=False)[0][:, :rank]
    return left @ left.T @ fitted[:, : sample.n_primary]


@pytest.mark.parametrize("votes", ["equal", "explained"])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_cut_is_numpys(rank: int, votes: Any) -> None:
    sample = example_sample(loss=MSE, weights=np.array([1, 0.5, 0.2, 0]), strength=0.7)
    found = LowRank(rank=rank, penalty=0.3, votes=votes).fit(sample).predict(sample.features)
    weights = np.concatenate([np.ones(5), 0.7 * sample.weights])  # 1.19 together: far from the bound of 5
    expected = plain_low_rank(sample, rank, 0.3, weights, votes)
    np.testing.assert_allclose(within(found, sample.slides), expected, atol=1e-8)


@pytest.mark.parametrize("loss", ["mse", "listwise", "poisson", "pearson"])
@pytest.mark.parametrize("votes", ["equal", "explained"])
def test_as_many_directions_as_features_are_full_rank(loss: str, votes: Any) -> None:
    sample, new = example_sample(loss=Component(name=loss)), example_sample(1).features
    for rank in (6, 20):
        found = LowRank(rank=rank, penalty=0.3, votes=votes).fit(sample)
        np.testing.assert_allclose(found.predict(new), Convex(penalty=0.3).fit(sample).predict(new), atol=1e-5)
        assert found.details["rank"] == rank


@pytest.mark.parametrize("loss", ["mse", "listwise"])
def test_auxiliary_genes_of_weight_0_change_nothing(loss: str) -> None:
    sample, new = example_sample(loss=Component(name=loss), weights=np.zeros(4)), example_sample(1).features
    alone = replace(sample, counts=sample.primary, weights=np.zeros(0))
    without_strength = replace(sample, weights=np.ones(4), strength=0.0)
    expected = LowRank(rank=2, penalty=0.3).fit(alone).predict(new)
    for silent in (sample, without_strength):
        np.testing.assert_allclose(LowRank(rank=2, penalty=0.3).fit(silent).predict(new), expected, atol=1e-5)


def test_a_gene_set_changes_the_primary_scores_and_more_so_with_strength() -> None:
    new = example_sample(1).features

    def scores(strength: float) -> np.ndarray:
        return LowRank(rank=1, penalty=0.3, bound=None).fit(example_sample(strength=strength)).predict(new)

    moved = [np.abs(scores(strength) - scores(0)).max() for strength in (0.1, 1.0)]
    assert moved[1] > 2 * moved[0] > 1e-3


def test_the_weights_of_all_auxiliary_genes_are_bounded() -> None:
    sample = example_sample(strength=4.0, weights=np.array([1, 1, 0.5, 0]))  # 4, 4, 2, 0: 10 together
    assert counted(sample, 1.0).tolist() == [1] * 5 + [2, 2, 1, 0]  # 5 together, as the primary genes
    assert counted(sample, 0.5).tolist() == [1] * 5 + [1, 1, 0.5, 0]
    assert counted(sample, 2.0).tolist() == counted(sample, None).tolist() == [1] * 5 + [4, 4, 2, 0]
    assert counted(replace(sample, weights=np.zeros(4)), 1.0).tolist() == [1] * 5 + [0] * 4
    assert counted(sample.with_genes(np.array([2]), sample.weights[[2]]), 1.0).tolist() == [1] * 5 + [2]


def with_noise_genes(n_noise: int) -> tuple[Sample, Sample]:
    """Training and new spots: wide features of which two directions matter, and genes that follow none."""
    found = []
    for seed in (0, 1):
        one = example_sample(seed, n_spots=150, n_features=30, n_primary=6, n_auxiliary=0, loss=MSE)
        noise = seeded(seed, "noise genes").poisson(5, size=(150, n_noise))
        found.append(replace(one, counts=np.hstack([one.counts, noise]), weights=np.ones(n_noise)))
    return found[0], found[1]


def test_noise_among_the_genes_costs_little_where_votes_are_what_is_explained() -> None:
    sample, new = with_noise_genes(60)
    truth = np.log1p(1e4 * new.primary / new.library_size[:, None])

    def score(of: Sample, **options: Any) -> float:
        found = LowRank(rank=2, penalty=1.0, **options).fit(of).predict(new.features)
        return float(np.mean([stats.spearmanr(found[:, g], truth[:, g])[0] for g in range(6)]))

    alone = score(replace(sample, counts=sample.primary, weights=np.zeros(0)))
    assert alone > 0.6
    lost = {votes: alone - score(sample, votes=votes) for votes in ("explained", "equal")}
    assert lost["explained"] < 0.02
    assert lost["equal"] > 0.04
    assert score(sample, votes="explained", bound=None) > score(sample, votes="equal", bound=None) + 0.05


def test_rank_and_penalty_are_the_brute_force_choice() -> None:
    """Every patient left out, every pair fitted apart as a fixed one; the simplest within one standard error."""
    sample, ranks, path = example_sample(loss=MSE), (1, 2, 4), [3.0, 0.3]
    by_slide = []
    for rank in ranks:
        for penalty in path:
            row = []
            for patient in range(3):
                rest, left = (sample.at(np.flatnonzero(here)) for here in
                              (sample.patients != patient, sample.patients == patient))  # fmt: skip
                guess = LowRank(rank=rank, penalty=penalty).fit(rest).predict(left.features)
                truth = np.log1p(1e4 * left.primary / left.library_size[:, None])
                row.append(np.mean([stats.spearmanr(guess[:, g], truth[:, g])[0] for g in range(5)]))
            by_slide.append(row)
    table = np.array(by_slide)
    behind = table[table.mean(1).argmax()] - table
    chosen = (behind.mean(1) <= behind.std(1, ddof=1) / np.sqrt(3)).argmax()
    fitted = LowRank(ranks=ranks, penalties=path).fit(sample)
    assert (fitted.details["rank"], fitted.details["penalty"]) == (ranks[chosen // 2], path[chosen % 2])
    assert fitted.details["cv_scc"] == pytest.approx(table.mean(1)[chosen], abs=1e-6)
    fixed = LowRank(rank=fitted.details["rank"], penalty=fitted.details["penalty"]).fit(sample)
    np.testing.assert_allclose(fitted.predict(sample.features), fixed.predict(sample.features), atol=1e-9)


def test_spots_without_counts_take_no_part() -> None:
    sample = example_sample(loss=MSE)
    sample.counts[:10], sample.library_size[:10] = 0, 0
    rest, new = sample.at(np.arange(10, 90)), example_sample(1).features
    found, expected = (LowRank(rank=2, penalty=0.3).fit(one).predict(new) for one in (sample, rest))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_every_penalty_is_reported_once() -> None:
    records: list[dict[str, Any]] = []
    details = LowRank(ranks=(1, 2), penalties=[1.0, 0.1]).fit(example_sample(report=records.append)).details
    assert [record["penalty"] for record in records] == [1.0, 0.1][: len(records)]
    assert records[-1]["penalty"] == details["penalty"]
    assert details["k"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rank": 0}, r"ranks of at least 1, received \[0\]"), ({"ranks": ()}, "received none"),
     ({"penalty": -1.0}, "penalties above 0")],
)  # fmt: skip
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LowRank(**options).fit(example_sample())


def test_a_gene_without_counts_has_no_vote() -> None:
    sample = example_sample(loss=MSE)
    sample.counts[:, 6] = 0
    rest = sample.with_genes(np.array([0, 2, 3]), sample.weights[[0, 2, 3]])
    new = example_sample(1).features
    found, expected = (LowRank(rank=2, penalty=0.3, bound=None).fit(one).predict(new) for one in (sample, rest))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert torch.isfinite(torch.from_numpy(found)).all()
