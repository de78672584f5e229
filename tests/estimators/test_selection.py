"""Selectors tuned in closed form on small planted data: against plain ridge and SVD, and what they must leave alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse, stats
from sklearn.linear_model import Ridge as SklearnRidge

from agl.config import Component, Outer
from agl.errors import UserError
from agl.estimators.committee import Committee
from agl.estimators.low_rank import LowRank
from agl.estimators.planted import turned, verdict
from agl.estimators.sample import Sample
from agl.estimators.selection import outer_problem, settled
from agl.genes import selectors
from agl.genes.candidates import Candidates
from agl.genes.training import TrainingSpots
from agl.seeds import seeded
from agl.testing.estimators import example_sample, scores

USEFUL, NOISE = 8, 12
STEP = Outer(learning_rate=0.05)


def planted(select: Any = None, *, n_spots: int = 90, n_auxiliary: int = USEFUL, **options: Any) -> Sample:
    """Auxiliary genes of the primary genes' two directions, then genes that follow nothing; depth varies threefold."""
    one = example_sample(n_spots=n_spots, n_features=12, n_auxiliary=n_auxiliary, loss=Component(name="mse"))
    rng = seeded(0, "planted")
    counts = np.hstack([one.counts, rng.poisson(rng.uniform(3, 20, NOISE), size=(n_spots, NOISE))])
    n_auxiliary += NOISE
    sample = replace(one, counts=counts, weights=np.full(n_auxiliary, 0.5, dtype=np.float32), outer=STEP)
    if select is None:
        return sample
    spots = TrainingSpots(
        sparse.csr_matrix(counts),
        sample.library_size,
        sample.slides,
        rng.uniform(0, 10, (n_spots, 2)),
        tuple(f"G{i}" for i in range(counts.shape[1])),
    )
    candidates = Candidates(spots, np.arange(5), 5 + np.arange(n_auxiliary))
    return replace(sample, selector=select(candidates, **options))


LEARNED = [
    (selectors.DkGSB, {"prior": "coexpression", "tau": 0.1}),
    (selectors.PriorMixture, {"priors": ("coexpression", "mean")}),
    (selectors.InfluenceGates, {}),
]


def plain_scores(kept: Sample, held: Sample, weights: np.ndarray, rank: int) -> np.ndarray:
    """Ridge of penalty 1, cut by the SVD of fitted values inside slides, all in plain NumPy `[spot, primary]`."""
    scale = kept.features.mean(0), kept.features.std(0)
    x, new = ((one.features - scale[0]) / scale[1] for one in (kept, held))
    y = np.log1p(1e4 * kept.counts / kept.library_size[:, None])
    heads = SklearnRidge(alpha=1.0 * len(x), solver="svd").fit(x, y).coef_.T
    inside = x.copy()
    for slide in np.unique(kept.slides):
        inside[kept.slides == slide] -= inside[kept.slides == slide].mean(0)
    fitted = inside @ heads
    table = fitted / np.linalg.norm(fitted, axis=0) * np.sqrt(weights)
    left = np.linalg.svd(table, full_matrices=False)[0][:, :rank]
    return new @ np.linalg.pinv(inside) @ left @ left.T @ fitted[:, :5]


def plain_spearman(sample: Sample, weights: np.ndarray, rank: int) -> float:
    """Mean over patients left out of the mean over genes, by SciPy, of counts over library size."""
    found = []
    for patient in np.unique(sample.patients):
        kept, held = (
            sample.at(np.flatnonzero(here)) for here in (sample.patients != patient, sample.patients == patient)
        )
        guess, truth = plain_scores(kept, held, weights, rank), held.primary / held.library_size[:, None]
        found.append(np.mean([stats.spearmanr(guess[:, g], truth[:, g])[0] for g in range(5)]))
    return float(np.mean(found))


@pytest.mark.parametrize(("select", "options"), LEARNED[:2])
@pytest.mark.parametrize("bound", [None, 1.0])
def test_the_curve_is_what_ridge_and_svd_give_for_every_k(select: Any, options: dict, bound: float | None) -> None:
    sample = planted(select, **options)
    _, details = settled(sample, rank=2, bound=bound)
    order = np.argsort(-np.array(details["weights"]), kind="stable")
    curve = details["curve"]
    assert (curve["k"][0], curve["k"][-1]) == (0, USEFUL + NOISE)
    for k in (0, 3, 20):
        weights = np.concatenate([np.ones(5), np.zeros(USEFUL + NOISE)])
        weights[5 + order[:k]] = 1.0 if bound is None else min(1.0, 5 / max(k, 1))
        assert curve["scc"][curve["k"].index(k)] == pytest.approx(plain_spearman(sample, weights, 2), abs=1e-6)
    best = int(np.argmax(curve["scc"]))
    assert details["best_k"] == curve["k"][best]
    assert details["as_good_from"] <= details["best_k"] <= details["as_good_to"]


def test_the_outer_loss_is_one_minus_pearsons_r_of_plain_scores() -> None:
    sample = planted()
    problem = outer_problem(sample, rank=2, bound=None)
    weights = seeded(0, "weights").uniform(0, 1, USEFUL + NOISE)
    expected = []
    for patient in range(3):
        kept, held = (
            sample.at(np.flatnonzero(here)) for here in (sample.patients != patient, sample.patients == patient)
        )
        guess = plain_scores(kept, held, np.concatenate([np.ones(5), weights]), 2)
        truth = np.log1p(1e4 * held.primary / held.library_size[:, None])
        expected.append([1 - stats.pearsonr(guess[:, g], truth[:, g])[0] for g in range(5)])
    np.testing.assert_allclose(problem.losses(torch.from_numpy(weights)).numpy(), expected, atol=1e-8)


@pytest.mark.parametrize(("select", "options"), LEARNED)
def test_tuning_lowers_the_outer_loss_and_every_step_is_reported(select: Any, options: dict[str, Any]) -> None:
    records: list[dict[str, Any]] = []
    sample = replace(planted(select, **options), report=records.append)
    cut, details = settled(sample, rank=2, bound=1.0)
    losses = [record["outer_loss"] for record in records]
    assert [record["outer_step"] for record in records] == list(range(len(records)))
    assert losses[-1] < losses[0]
    if sample.selector.signal == "hypergradient":
        assert losses[-1] == min(losses)
    assert records[-1]["outer_k"] == pytest.approx(sum(details["weights"]), abs=1e-4)
    assert (details["candidates"], details["k"]) == (20, sum(weight >= 0.5 for weight in details["weights"]))
    assert cut.selector is None
    assert cut.counts.shape[1] == 5 + len(cut.weights) == 5 + sum(weight >= 1e-3 for weight in details["weights"])


@pytest.mark.parametrize(("select", "options"), LEARNED[:2])
def test_useful_genes_weigh_more_than_noise(select: Any, options: dict[str, Any]) -> None:
    weights = np.array(settled(planted(select, **options), rank=2, bound=1.0)[1]["weights"])
    assert weights[:USEFUL].mean() > weights[USEFUL:].mean() + 0.3


@pytest.mark.parametrize(("select", "options"), LEARNED)
def test_the_selector_stays_as_it_was_and_fitting_again_gives_the_same_bits(select: Any, options: dict) -> None:
    sample = planted(select, **options)
    before = copy.deepcopy(sample.selector.state_dict())
    make = LowRank(rank=2, penalty=0.3)
    first, second, fresh = make.fit(sample), make.fit(sample), make.fit(planted(select, **options))
    assert all(torch.equal(before[name], value) for name, value in sample.selector.state_dict().items())
    for other in (second, fresh):
        np.testing.assert_array_equal(first.predict(sample.features), other.predict(sample.features))
        assert first.details == other.details


def test_the_weights_found_are_those_that_the_trunk_is_cut_with() -> None:
    sample = planted(selectors.DkGSB, prior="coexpression", tau=0.1)
    learned = LowRank(rank=2, penalty=0.3).fit(sample)
    weights = np.array(learned.details["weights"])
    weights[weights < 1e-3] = 0
    given = LowRank(rank=2, penalty=0.3).fit(replace(sample, selector=None, weights=weights))
    np.testing.assert_allclose(learned.predict(sample.features), given.predict(sample.features), atol=1e-5)


def test_a_committee_learns_from_the_spots_own_features() -> None:
    sample = planted(selectors.DkGSB, prior="coexpression", tau=0.1)
    sample = replace(sample, views={"own": np.arange(4), "context": np.arange(12)})
    members = [{"penalties": [0.3], "rank": 2}]
    details = Committee(members=members).fit(sample).details
    assert details["weights"] == settled(sample.seen(np.arange(4)), rank=2, bound=1.0)[1]["weights"]
    assert details["members"] == 2


def test_no_candidates_are_no_problem() -> None:
    sample = planted(selectors.DkGSB)
    candidates = sample.at(np.arange(90)).with_genes(np.zeros(0, dtype=int), np.zeros(0))
    spots = TrainingSpots(
        sparse.csr_matrix(sample.primary), sample.library_size, sample.slides, np.zeros((90, 2)), tuple("ABCDE")
    )
    none = selectors.DkGSB(Candidates(spots, np.arange(5), np.zeros(0, dtype=int)))
    details = LowRank(rank=2, penalty=0.3).fit(replace(candidates, selector=none)).details
    assert (details["k"], details["weights"], details["curve"]["k"]) == (0, [], [0])


@pytest.mark.parametrize(
    "select", [selectors.GradientSimilarity, selectors.UncertaintyWeights, selectors.AMALScalars, selectors.FAMO]
)
def test_selectors_that_read_a_training_are_refused(select: Any) -> None:
    sample = planted(select)
    if sample.selector.signal in ("hypergradient", "influence"):
        pytest.skip("this one learns by the outer problem")
    with pytest.raises(UserError, match=f"received {select.__name__}, .*model=mlp"):
        LowRank(rank=2, penalty=0.3).fit(sample)


def test_too_few_spots_for_an_outer_problem() -> None:
    sample = planted(selectors.DkGSB).at(np.arange(5))
    sample.slides[:], sample.patients[:] = 0, 0
    with pytest.raises(UserError, match="Expected training spots to leave out"):
        LowRank(rank=2, penalty=0.3).fit(sample)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "make", [LowRank(ranks=(1, 2), penalties=[1.0, 0.3]), Committee()], ids=["low rank", "committee"]
)
def test_what_a_gpu_solves_is_what_a_cpu_does(make: Any) -> None:
    sample, new = planted(selectors.DkGSB, prior="coexpression", tau=0.1), planted()
    here, there = (scores(make.fit(replace(sample, device=device)), new) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(there, here, atol=1e-5)


def with_places(sample: Sample) -> Sample:
    return replace(sample, places=seeded(0, "places").uniform(0, 10, (len(sample), 2)))


def signal_of(sample: Sample) -> dict[str, Any]:
    planted_genes = turned(sample)
    problem = outer_problem(sample, rank=2, bound=None, planted=planted_genes)
    return verdict(problem, sum(turn.counts.shape[1] for turn in planted_genes))


def test_planted_genes_are_candidates_turned_within_their_slides() -> None:
    sample = with_places(planted())
    turns = turned(sample)
    assert [turn.counts.shape[1] for turn in turns] == [USEFUL + NOISE] * 8
    for turn in turns:
        for slide in np.unique(sample.slides):
            rows = sample.slides == slide
            sources = set(map(tuple, np.column_stack([sample.counts[rows][:, 5:], sample.library_size[rows]]).tolist()))
            moved = np.column_stack([turn.counts[rows], turn.library_size[rows]]).tolist()
            assert set(map(tuple, moved)) <= sources  # whole spots, library size included
        assert (turn.counts != sample.counts[:, 5:]).any()


def test_planted_genes_leave_the_candidates_heads_alone() -> None:
    sample = with_places(planted())
    plain = outer_problem(sample, rank=2, bound=None)
    more = outer_problem(sample, rank=2, bound=None, planted=turned(sample))
    for one, two in zip(plain.folds, more.folds, strict=True):
        gram, wider = (fold.auxiliary[:, : USEFUL + NOISE] for fold in (one, two))
        torch.testing.assert_close(gram.T @ gram, wider.T @ wider)


def test_useful_genes_are_told_from_planted_ones_and_noise_is_not() -> None:
    found = signal_of(with_places(planted(n_spots=240)))
    assert (found["outer_signal"], found["planted"]) == ("clear", 8 * (USEFUL + NOISE))
    noise = [signal_of(with_places(noisy(seed)))["outer_signal"] for seed in range(8)]
    assert noise == ["indistinguishable from noise"] * 8


def noisy(seed: int) -> Sample:
    """Auxiliary genes that follow nothing."""
    one = example_sample(seed, n_spots=120, n_features=12, n_auxiliary=0, loss=Component(name="mse"))
    counts = np.hstack([one.counts, seeded(seed, "noise").poisson(8.0, size=(len(one), 40))])
    return replace(one, counts=counts, weights=np.full(40, 0.5, dtype=np.float32))


def test_the_verdict_is_in_the_record_where_spots_have_places() -> None:
    sample = planted(selectors.DkGSB, prior="coexpression", tau=0.1)
    assert "outer_signal" not in settled(sample, rank=2, bound=None)[1]
    details = settled(with_places(sample), rank=2, bound=None)[1]
    assert details["outer_signal"] in ("clear", "indistinguishable from noise")
    assert details["curve"]["k"][0] == 0
