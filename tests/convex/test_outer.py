"""The closed-form outer problem: against plain NumPy, SciPy and finite differences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import linalg, optimize, stats
from torch import Tensor, nn

import strank
from agl.convex.budget import best_k, budgeted, capped_simplex
from agl.convex.calibration import calibrate, moved_spots
from agl.convex.curve import Curve, curve, spearman, steps
from agl.convex.low_rank import Coordinates, explained
from agl.convex.outer import Fold, OuterProblem
from agl.convex.tune import tune
from agl.errors import UserError

PRIMARY, AUXILIARY, FEATURES, SPOTS = 4, 16, 9, 50


@dataclasses.dataclass
class Parts:
    """What a fold was made of."""

    x: np.ndarray
    heads: np.ndarray
    held: np.ndarray
    counts: np.ndarray
    slides: np.ndarray


def parts(seed: int, features: int = FEATURES) -> Parts:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SPOTS, features))
    x -= x.mean(0)
    true = rng.normal(size=(features, 3)) @ rng.normal(size=(3, PRIMARY + AUXILIARY))
    y = x @ true + 3 * rng.normal(size=(SPOTS, PRIMARY + AUXILIARY))
    heads = np.linalg.solve(x.T @ x + 5 * np.eye(features), x.T @ (y - y.mean(0)))
    held = rng.normal(size=(30, features))
    counts = rng.poisson(np.exp(0.3 * held @ true[:, :PRIMARY] + 1))
    return Parts(x, heads, held, counts, np.repeat([5, 2], [18, 12]))


def fold_of(p: Parts, **options: object) -> Fold:
    return Fold.of(
        Coordinates.of(torch.tensor(p.x)),
        torch.tensor(p.heads),
        PRIMARY,
        held_features=torch.tensor(p.held),
        counts=torch.tensor(p.counts),
        slides=torch.tensor(p.slides),
        library_size=torch.tensor(p.counts.sum(1) + 7),
        **options,  # type: ignore[arg-type]
    )


def problem_of(loss=strank.listwise_nll, seeds=(0, 1), **options) -> OuterProblem:
    return OuterProblem([fold_of(parts(seed)) for seed in seeds], loss, **{"ranks": (3,), **options})


def some_weights(n: int = AUXILIARY) -> Tensor:
    return torch.tensor(np.random.default_rng(9).uniform(0.1, 1, n))


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


def test_a_selector_that_wants_training_losses_is_refused() -> None:
    selector = Threshold()
    selector.signal = "losses"  # type: ignore[assignment]
    with pytest.raises(UserError, match="no training steps"):
        tune(selector, problem_of())
