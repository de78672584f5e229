"""The closed-form outer problem: against plain NumPy, SciPy and finite differences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import linalg, optimize, stats
from torch import nn

import strank
from agl.convex.budget import best_k, budgeted, capped_simplex
from agl.convex.calibration import calibrate
from agl.convex.curve import Curve, curve, spearman, steps
from agl.convex.low_rank import explained
from agl.convex.outer import OuterProblem
from agl.convex.tune import tune
from agl.errors import UserError
from tests.convex.outer_problems import (
    AUXILIARY,
    FEATURES,
    PRIMARY,
    SPOTS,
    Parts,
    fold_of,
    parts,
    problem_of,
    some_weights,
)


def scores_by_hand(p: Parts, weights: np.ndarray, rank: int) -> np.ndarray:
    """Fitted values scaled, weighted and decomposed, and heads regressed on the leading directions: spots, not M."""
    fitted = p.x @ p.heads
    scaled = fitted / np.linalg.norm(fitted, axis=0) * np.sqrt(np.r_[np.ones(PRIMARY), weights])
    left = linalg.svd(scaled, full_matrices=False)[0][:, :rank]
    kept = np.linalg.lstsq(p.x, left @ (left.T @ fitted[:, :PRIMARY]), rcond=None)[0]
    return p.held @ kept


@pytest.mark.parametrize("bound", [None, 1.0])
def test_the_outer_loss_is_that_of_heads_cut_by_hand(bound: float | None) -> None:
    weights, strength = some_weights(), 0.7
    total = strength * float(weights.sum())
    shrunk = strength * weights.numpy() * (1 if bound is None else min(1, bound * PRIMARY / total))
    problem = problem_of(strength=strength, bound=bound)
    losses = problem.losses(weights)
    for row, seed in zip(losses, (0, 1), strict=True):
        p = parts(seed)
        for gene, found in enumerate(row):
            score = scores_by_hand(p, shrunk, 3)[:, gene] + np.log(p.counts.sum(1) + 7)
            logs = [
                p.counts[p.slides == k, gene]
                @ np.log(np.exp(score[p.slides == k]) / np.exp(score[p.slides == k]).sum())
                for k in (5, 2)
            ]
            assert float(found) == pytest.approx(-sum(logs) / len(p.held), rel=1e-9)
    assert float(problem.loss(weights)) == pytest.approx(float(losses.mean()))


@pytest.mark.parametrize("ranks", [(2,), (1, 3, 5)])
@pytest.mark.parametrize("bound", [None, 0.8])
@pytest.mark.parametrize("loss", [strank.listwise_nll, strank.pearson_loss])
def test_the_gradient_agrees_with_finite_differences(ranks, bound, loss) -> None:
    problem, weights, strength = problem_of(loss, ranks=ranks, bound=bound, strength=0.7), some_weights(), 0.7
    found = problem.gradient(weights)
    step, differences = 1e-5, []
    for gene in range(AUXILIARY):
        move = torch.zeros(AUXILIARY, dtype=torch.float64)
        move[gene] = step
        differences.append(float(problem.loss(weights + move) - problem.loss(weights - move)) / (2 * step))
    scale = np.abs(differences).max()
    np.testing.assert_allclose(found.mean / scale, np.array(differences) / scale, atol=1e-6)
    of_strength = float(problem.loss(weights, strength + step) - problem.loss(weights, strength - step)) / (2 * step)
    assert float(found.strength.mean()) == pytest.approx(of_strength, rel=1e-6, abs=1e-6 * scale)
    assert float(found.loss.mean()) == pytest.approx(float(problem.loss(weights)))


def test_fewer_genes_than_features_are_worked_out_in_the_genes_space() -> None:
    wide = fold_of(parts(3, features=40))
    assert len(wide.heads) == PRIMARY + AUXILIARY
    problem = OuterProblem([wide], strank.pearson_loss, (3,))
    scores = wide.scores(problem.projection(wide, problem.coefficients(some_weights())).matrix)
    np.testing.assert_allclose(scores, scores_by_hand(parts(3, features=40), some_weights().numpy(), 3), atol=1e-8)


def test_without_a_gap_the_rank_grows_and_the_heads_stay_whole() -> None:
    problem = problem_of(ranks=(PRIMARY + 1,), seeds=(0,))  # the trunk of 4 primary genes has 4 directions
    nothing = torch.zeros(AUXILIARY)
    assert problem.ranks_used(nothing) == [(FEATURES,)]
    assert problem.ranks_used(some_weights()) == [(PRIMARY + 1,)]
    fold = problem.folds[0]
    scores = fold.scores(problem.projection(fold, problem.coefficients(nothing)).matrix)
    np.testing.assert_allclose(scores, parts(0).held @ parts(0).heads[:, :PRIMARY], atol=1e-10)
    assert float(problem.gradient(nothing).by_fold.abs().max()) == 0
    assert curve(problem, range(3), [0, 2]).widened == (True, False)


def test_votes_scale_a_genes_weight() -> None:
    p, votes = parts(0), torch.linspace(0.2, 1, PRIMARY + AUXILIARY, dtype=torch.float64)
    voted = fold_of(p, votes=votes)
    lengths = votes / votes[:PRIMARY].mean()
    np.testing.assert_allclose(voted.primary.square().sum(0), lengths[:PRIMARY])
    one = OuterProblem([voted], strank.pearson_loss, (3,))
    plain = OuterProblem([dataclasses.replace(fold_of(p), primary=voted.primary)], strank.pearson_loss, (3,))
    w = some_weights()
    assert float(one.loss(w)) == pytest.approx(float(plain.loss(w * lengths[PRIMARY:])), rel=1e-10)
    y = torch.tensor(p.x @ p.heads) + torch.randn(
        SPOTS, PRIMARY + AUXILIARY, generator=torch.Generator().manual_seed(0)
    )
    shares = explained(torch.tensor(p.x), torch.tensor(p.heads), y)
    np.testing.assert_allclose(shares, np.minimum(1, np.var(p.x @ p.heads, 0) / np.var(y.numpy(), 0)))


def test_scores_of_many_weights_are_spearmans() -> None:
    problem, candidates = problem_of(), torch.stack([torch.zeros(AUXILIARY).double(), some_weights()])
    found = spearman(problem, candidates)
    assert found.shape == (2, 4)  # two folds of two slides
    for row, weights in zip(found, candidates.numpy(), strict=True):
        expected = []
        for seed in (0, 1):
            p = parts(seed)
            scores = scores_by_hand(p, weights, 3)
            for k in (2, 5):
                at = p.slides == k
                expected.append(np.mean([stats.spearmanr(scores[at, g], p.counts[at, g])[0] for g in range(PRIMARY)]))
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_a_gene_without_counts_in_a_slide_has_no_part_in_its_score() -> None:
    fold = fold_of(parts(0))
    fold.counts[fold.slides == 2, 1] = 0
    problem = OuterProblem([fold], strank.listwise_nll, (3,))
    scores = fold.scores(problem.projection(fold, problem.coefficients(torch.zeros(AUXILIARY))).matrix)
    by_slide = strank.spearman(scores, fold.counts, slides=fold.slides, per_slide=True)
    torch.testing.assert_close(spearman(problem, torch.zeros(AUXILIARY))[0], by_slide.nanmean(1))
    assert by_slide[0].isnan().sum() == 1


@pytest.mark.parametrize("bound", [None, 1.0])
def test_a_curve_is_every_k_on_its_own(bound: float | None) -> None:
    problem = problem_of(bound=bound, strength=0.6)
    ranking = torch.tensor(np.random.default_rng(1).permutation(AUXILIARY)[:12])
    found = curve(problem, ranking)
    assert found.ks == steps(12)
    for k, row in zip(found.ks, found.by_slide, strict=True):
        weights = torch.zeros(AUXILIARY).index_fill_(0, ranking[:k], 1.0)
        torch.testing.assert_close(row, spearman(problem, weights)[0])
    np.testing.assert_allclose(found.standard_error, stats.sem(found.by_slide.numpy(), axis=1))


def test_the_curve_says_where_it_is_flat() -> None:
    by_slide = torch.tensor([[0.1, 0.5, 0.3], [0.19, 0.6, 0.4], [0.2, 0.61, 0.39], [0.0, 0.5, 0.4]])
    found = Curve((0, 5, 10, 20), by_slide, (False,) * 4)
    difference, error = found.paired(2)
    np.testing.assert_allclose(difference[1], -0.01 / 3, atol=1e-7)
    np.testing.assert_allclose(error[1], stats.sem([-0.01, -0.01, 0.01]), rtol=1e-5)
    assert (found.best, found.simplest, found.flat) == (10, 5, (5, 10))


def test_projection_on_a_budget_is_the_nearest_point() -> None:
    rng = np.random.default_rng(2)
    for k in (0, 0.5, 3, 5.5, 7, 8):
        values = rng.normal(0, 1.5, 8)
        values[3] = values[4]
        found = capped_simplex(torch.tensor(values), k)
        best = optimize.minimize(
            lambda w, v=values: ((w - v) ** 2).sum(),
            np.full(8, k / 8),
            jac=lambda w, v=values: 2 * (w - v),
            bounds=[(0, 1)] * 8,
            constraints={"type": "eq", "fun": lambda w, k=k: w.sum() - k},
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(found, best.x, atol=1e-6)
        assert float(found.sum()) == pytest.approx(k, abs=1e-12)


def test_a_budget_is_kept_and_the_loss_never_climbs() -> None:
    problem = problem_of()
    found = budgeted(problem, 5, steps=60, tolerance=1e-10)
    assert float(found.weights.sum()) == pytest.approx(5)
    assert ((found.weights >= 0) & (found.weights <= 1)).all()
    assert all(a >= b for a, b in zip(found.losses, found.losses[1:], strict=False))
    assert float(problem.loss(found.weights)) == pytest.approx(found.losses[-1])
    # A point where no exchange of weight between two genes lowers the loss to first order.
    slope, w = problem.gradient(found.weights).mean, found.weights
    may_grow, may_fall = slope[w < 1 - 1e-6].min(), slope[w > 1e-6].max()
    assert may_fall - may_grow < 0.1 * (slope.max() - slope.min())
    assert best_k(found.weights, 5).sum() == 5
    assert float(problem.loss(best_k(found.weights, 5))) < float(problem.loss(torch.full((AUXILIARY,), 5 / AUXILIARY)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OuterProblem([], strank.mse), "fold"),
        (lambda: problem_of(strength=-1.0), "strength"),
        (lambda: problem_of().loss(torch.ones(3)), "16 weights"),
        (lambda: curve(problem_of(), [0, 0]), "different positions"),
        (lambda: curve(problem_of(), [0, 99]), "different positions"),
        (lambda: curve(problem_of(), [0, 1], [3]), "ks from 0 to 2"),
        (lambda: capped_simplex(torch.zeros(3), 4), "budget"),
        (lambda: calibrate(problem_of(), torch.zeros(16), 0), "planted"),
        (lambda: calibrate(problem_of(), torch.zeros(16), 6), "10 candidates"),
        (lambda: tune(nn.Linear(1, 1).requires_grad_(False), problem_of()), "parameters"),
        (lambda: fold_of(dataclasses.replace(parts(0), counts=np.ones((30, 2)))), "counts of shape"),
    ],
)
def test_errors_say_what_was_expected(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
