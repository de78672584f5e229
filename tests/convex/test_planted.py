"""A planted truth of another make than `agl.data.simulate`: do learned choices find the genes that help?

50 noisy targets and 100 useful genes on eight programmes, 150 genes on eight others, 250 of noise; features are a
linear mixture of all programmes. Four slides to learn from, eight new ones to be judged by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from scipy import sparse

import strank
from agl.convex.calibration import calibrate, moved_spots
from agl.convex.curve import curve, spearman
from agl.convex.low_rank import Coordinates, centred, explained
from agl.convex.outer import Fold, OuterProblem
from agl.convex.tune import tune
from agl.genes.candidates import Candidates
from agl.genes.selectors import DkGSB, PriorMixture
from agl.genes.training import TrainingSpots

TARGETS, USEFUL, OTHER, NOISE = range(4)
SIDE, SLIDES, TRAINING, FEATURES, PENALTY = 11, 12, 4, 48, 0.3


@dataclass(frozen=True)
class World:
    """Features `[spot, feature]`, counts `[spot, gene]`, places, slides, and every gene's kind; targets first."""

    x: torch.Tensor
    counts: np.ndarray
    places: np.ndarray
    slides: torch.Tensor
    kind: np.ndarray

    @property
    def library(self) -> np.ndarray:
        return self.counts.sum(1)

    @property
    def targets(self) -> torch.Tensor:
        """log(1 + counts at the median depth)."""
        library = np.maximum(self.library, 1)
        return torch.tensor(np.log1p(self.counts / library[:, None] * np.median(library)))


@cache
def world(seed: int, numbers: tuple[int, ...] = (50, 100, 150, 250), *, misleading: bool = False) -> World:
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(4), numbers)
    loadings = np.zeros((len(kind), 16))
    for group, programmes in ((kind <= USEFUL, slice(0, 8)), (kind == OTHER, slice(8, 16))):
        rows = np.zeros((group.sum(), 8))
        rows[np.arange(len(rows)), rng.integers(8, size=len(rows))] = 1
        loadings[group, programmes] = rows + rng.normal(0, 0.2, rows.shape)
    strength = np.array([0.5, 0.6, 0.7, 0.0])[kind]
    mean = np.exp(rng.normal(np.array([0.3, 1.2, 1.2, 1.2])[kind], 0.5))
    dispersion = np.array([1.5, 0.1, 0.1, 0.3])[kind]
    if misleading:  # noise is what a ranking by mean or by variability puts first
        mean[kind == NOISE] *= 4
        dispersion[kind == NOISE] = 1.2
    mixing = rng.normal(size=(16, FEATURES)) / 4
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1).reshape(-1, 2).astype(float)
    x, counts = [], []
    for _ in range(SLIDES):
        waves = np.cos(np.einsum("sd,kwd->skw", grid, rng.normal(size=(16, 60, 2)) / 3) + rng.uniform(0, 7, (16, 60)))
        smooth = waves.sum(2)
        smooth = (smooth - smooth.mean(0)) / smooth.std(0)
        activity = np.sqrt(0.5) * (smooth + rng.normal(size=smooth.shape))
        x.append(activity @ mixing + rng.normal(0, 0.8, (len(grid), FEATURES)) + rng.normal(0, 0.2, FEATURES))
        depth = np.exp(0.3 * rng.normal(size=(len(grid), 1)) + 0.2 * rng.normal(size=len(kind)))
        rate = depth * mean * np.exp(activity @ loadings.T * strength)
        counts.append(rng.poisson(rng.gamma(1 / dispersion, dispersion * rate)))
    slides = torch.arange(SLIDES).repeat_interleave(len(grid))
    return World(torch.tensor(np.concatenate(x)), np.concatenate(counts), np.tile(grid, (SLIDES, 1)), slides, kind)


def log_pearson(scores, counts, *, slides, library_size):
    size = library_size.clamp_min(1).double()
    return strank.pearson_loss(scores, torch.log1p(counts / size[:, None] * size.median()), slides=slides)


def problem_of(w: World, held: list[list[int]], spots: torch.Tensor, planted: torch.Tensor | None = None):
    """Ridge heads without each group of slides, judged there; targets and features centred inside slides."""
    n = int((w.kind == TARGETS).sum())
    y = w.targets if planted is None else torch.cat([w.targets, planted], 1)
    folds = []
    for group in held:
        out = torch.isin(w.slides, torch.tensor(group)) & spots
        kept = ~out & spots
        x = (w.x - w.x[kept].mean(0)) / w.x[kept].std(0)
        a, b = centred(x[kept], w.slides[kept]), centred(y[kept], w.slides[kept])
        heads = torch.linalg.solve(a.T @ a + PENALTY * len(a) * torch.eye(FEATURES, dtype=a.dtype), a.T @ b)
        folds.append(
            Fold.of(
                Coordinates.of(x[kept]),
                heads,
                n,
                held_features=x[out],
                counts=torch.tensor(w.counts)[out][:, :n],
                slides=w.slides[out],
                library_size=torch.tensor(w.library)[out],
                votes=explained(x[kept], heads, y[kept], w.slides[kept]),
            )
        )
    return OuterProblem(folds, log_pearson, (8,))


def candidates_of(w: World, spots: np.ndarray) -> Candidates:
    names = tuple(map(str, range(len(w.kind))))
    counts = sparse.csr_matrix(w.counts[spots])
    training = TrainingSpots(counts, w.library[spots], w.slides.numpy()[spots], w.places[spots], names)
    return Candidates(training, np.flatnonzero(w.kind == TARGETS), np.flatnonzero(w.kind != TARGETS))


@pytest.fixture(autouse=True)
def _one_thread():
    """The matrices are small: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learned(w: World) -> dict[str, float]:
    """Share of the oracle's gain on new slides; everything is learned on the first four, each left out in turn."""
    training = w.slides < TRAINING
    inner = problem_of(w, [[k] for k in range(TRAINING)], training)
    new = problem_of(w, [list(range(TRAINING, SLIDES))], torch.ones_like(training))
    candidates = candidates_of(w, training.numpy())
    useful = torch.tensor(w.kind[w.kind != TARGETS] == USEFUL, dtype=torch.float64)
    weights = {"none": 0 * useful, "oracle": useful, "all": torch.ones_like(useful)}
    for name, selector, lr in (
        ("dkgsb, coexpression", DkGSB(candidates, prior="coexpression", tau=0.02), 0.03),
        ("dkgsb, mean", DkGSB(candidates, prior="mean", tau=0.02), 0.03),
        ("mixture", PriorMixture(candidates), 0.1),
    ):
        tune(selector, inner, steps=40, lr=lr)
        weights[name] = selector().detach().double()
        ranking = weights[name].argsort(descending=True, stable=True)
        every_k = curve(inner, ranking)
        for which, k in (("best", every_k.best), ("simplest", every_k.simplest)):
            weights[f"{name}, {which} k"] = torch.zeros_like(useful).index_fill_(0, ranking[:k], 1.0)
    score = spearman(new, torch.stack(list(weights.values()))).mean(1)
    found = dict(zip(weights, ((score - score[0]) / (score[1] - score[0])).tolist(), strict=True))
    assert score[1] > score[0] + 0.005  # there is something to gain
    return found


@pytest.mark.slow
def test_learned_choices_bring_the_oracles_gain() -> None:
    shares = [learned(world(seed)) for seed in (0, 1)]
    mean = {name: np.mean([share[name] for share in shares]) for name in shares[0]}
    assert mean["dkgsb, coexpression"] > 0.9
    assert mean["mixture"] > 0.9
    assert mean["mixture, best k"] > 0.9
    assert mean["mixture, simplest k"] > 0.6
    assert mean["all"] < 0  # genes of other programmes take the directions


@pytest.mark.slow
def test_a_misleading_prior_loses_nothing_when_k_is_read_off_its_curve() -> None:
    share = learned(world(0, misleading=True))
    assert share["dkgsb, mean, simplest k"] > -0.05
    assert share["mixture, best k"] > 0.8


def calibrated(w: World, n_planted: int = 400):
    training = w.slides < TRAINING
    rng, genes, moved = np.random.default_rng(0), np.flatnonzero(w.kind != TARGETS), []
    for draw in range(10):
        source = moved_spots(torch.tensor(w.places), w.slides, seed=0, draw=draw)
        moved.append(w.targets[source][:, rng.choice(genes, n_planted // 10)])
    problem = problem_of(w, [[k] for k in range(TRAINING)], training, torch.cat(moved, 1))
    return calibrate(problem, torch.zeros(len(genes)), n_planted)


def test_noise_is_not_told_from_chance() -> None:
    found = [calibrated(world(seed, (50, 0, 0, 300))) for seed in range(4)]
    rate = np.mean([(c.p_helps < 0.05).double().mean() for c in found])
    assert 0.01 < rate < 0.09  # 1,200 genes
    assert sum(c.clear for c in found) <= 1
    assert all("No influence" in c.verdict for c in found if not c.clear)


def test_useful_genes_help_and_genes_of_other_programmes_harm() -> None:
    w = world(1)
    found, kind = calibrated(w), w.kind[w.kind != TARGETS]
    low = {k: float((found.p_helps < 0.05)[torch.tensor(kind == k)].double().mean()) for k in (USEFUL, OTHER, NOISE)}
    assert low[USEFUL] > 0.25
    assert low[NOISE] < 0.1
    assert low[OTHER] < 0.05
    harmful = float((found.p_harms < 0.05)[torch.tensor(kind == OTHER)].double().mean())
    assert harmful > 0.15
