"""The planted structure: tissue, programmes, counts, and which genes a simple prior would choose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from agl.data.simulate.counts import draw_counts, plant_genes
from agl.data.simulate.settings import CLASSES, PRESETS, settings_of
from agl.data.simulate.tissue import bent, lattice, programmes
from tests.data.simulate.worlds import correlation, drawn


def test_lattice_is_connected_and_of_the_asked_size() -> None:
    for n_spots in (3, 50, 400):
        places = lattice(n_spots, np.random.default_rng(n_spots))
        assert len(np.unique(places, axis=0)) == n_spots
        distance = np.abs(places[:, None] - places[None]).sum(-1)
        reached = {0}
        while True:
            wider = set(np.flatnonzero((distance[sorted(reached)] <= 1).any(axis=0)))
            if wider == reached:
                break
            reached = wider
        assert len(reached) > 0.95 * n_spots


def test_programmes_are_smooth_with_the_stated_share() -> None:
    settings = settings_of("standard")
    places = lattice(2000, np.random.default_rng(0))
    activity = programmes(places, settings, np.random.default_rng(1))
    activity = activity - activity.mean(0)
    at = {tuple(place): row for row, place in enumerate(places)}
    pairs = np.array([(row, at[(y, x + 1)]) for (y, x), row in at.items() if (y, x + 1) in at])
    neighbour = np.mean([np.corrcoef(z[pairs[:, 0]], z[pairs[:, 1]])[0, 1] for z in activity.T])
    # Squared-exponential kernel at distance 1, times the share that neighbours have in common.
    expected = (1 - settings.local_share) * np.exp(-0.5 / settings.length_scale**2)
    assert neighbour == pytest.approx(expected, abs=0.03)
    assert activity.var(0) == pytest.approx(1.0, abs=0.15)


def test_counts_have_the_stated_mean_and_variance() -> None:
    settings = settings_of("standard")
    genes = plant_genes(settings, 200, 50, np.random.default_rng(0))
    n = 20_000
    counts, rates, draws = draw_counts(
        genes, np.zeros((n, genes.loadings.shape[1])), settings, np.random.default_rng(1)
    )
    np.testing.assert_allclose(rates, np.broadcast_to(np.log(genes.mean_count), rates.shape))
    level = draws["scale"] * genes.mean_count + draws["offset"]
    depth = draws["depth"]
    mean = level * depth.mean()
    # Law of total variance: Poisson + negative-binomial part given the depth, plus the spread of the depth.
    variance = mean + genes.dispersion * level**2 * (depth**2).mean() + level**2 * depth.var()
    np.testing.assert_allclose(counts.mean(0), mean, rtol=0.08)
    np.testing.assert_allclose(np.median(counts.var(0) / variance), 1.0, atol=0.03)
    np.testing.assert_allclose(counts.var(0), variance, rtol=0.4)
    # A gene at one depth is scipy's negative binomial.
    flat = replace(settings, depth_spread=0.0)
    counts, _, draws = draw_counts(genes, np.zeros((n, genes.loadings.shape[1])), flat, np.random.default_rng(2))
    mu, alpha = (draws["scale"] * genes.mean_count + draws["offset"])[7], genes.dispersion[7]
    observed = np.bincount(counts[:, 7], minlength=12)[:12] / n
    np.testing.assert_allclose(observed, stats.nbinom.pmf(np.arange(12), 1 / alpha, 1 / (1 + alpha * mu)), atol=0.01)


def test_scale_and_offset_keep_the_order_of_the_spots() -> None:
    genes, (section, *_) = drawn("standard", 0, n_slides=1, n_spots=60)
    draws = section.draws
    expected = draws["scale"] * np.exp(section.log_rates) + draws["offset"]
    for gene in range(0, 600, 50):
        assert (np.argsort(expected[:, gene]) == np.argsort(section.log_rates[:, gene])).all()
    signal = section.activity @ genes.loadings.T * draws["sign"]
    np.testing.assert_allclose(section.log_rates, np.log(genes.mean_count) + signal)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_classes_follow_their_own_programmes(preset: str) -> None:
    settings = settings_of(preset)
    genes, sections = drawn(preset, 1)
    numbers = pd.Series(genes.classes).value_counts()
    assert numbers["primary"] == 50
    for name in CLASSES[1:]:
        assert numbers[name] == pytest.approx(settings.classes[name].share * 550, abs=2)
    target, visible = settings.target_programmes, settings.target_programmes + settings.other_programmes
    used = {name: np.flatnonzero(genes.loadings[genes.classes == name].any(axis=0)) for name in CLASSES}
    assert used["primary"].tolist() == used["useful"].tolist() == list(range(target))
    assert used["independent"].tolist() == list(range(target, visible))
    assert used["noise"].tolist() == []
    assert min(used["harmful"]) >= target
    best = {}
    for name in ("useful", "independent", "harmful"):
        per_slide = [
            np.abs(correlation(s.log_rates[:, genes.classes == name], s.log_rates[:, genes.classes == "primary"]))
            for s in sections
        ]
        best[name] = np.mean([r.max(axis=1).mean() for r in per_slide])
    assert best["useful"] > 0.95
    assert best["independent"] < 0.45
    assert best["harmful"] < 0.45


def area_under_curve(useful: np.ndarray, scores: np.ndarray) -> float:
    """The chance that a useful gene outranks another one (Mann-Whitney)."""
    ranks = stats.rankdata(scores)
    n, m = useful.sum(), (~useful).sum()
    return float((ranks[useful].sum() - n * (n + 1) / 2) / (n * m))


def ranking_power(preset: str, seed: int) -> dict[str, float]:
    """How well four simple priors tell useful from other auxiliary genes, on counts."""
    genes, sections = drawn(preset, seed)
    auxiliary, primary = genes.classes != "primary", genes.classes == "primary"
    useful = genes.classes[auxiliary] == "useful"
    counts = np.concatenate([s.counts for s in sections]).astype(float)
    logs = [np.log1p(s.counts / s.counts.sum(1, keepdims=True) * 1e4) for s in sections]

    def coexpression(values: np.ndarray) -> np.ndarray:
        squares = correlation(values[:, auxiliary], values[:, primary]) ** 2
        return np.sort(squares, axis=1)[:, -5:].mean(axis=1)

    priors = {
        "mean": counts.mean(0)[auxiliary],
        "dispersion": (counts.var(0) / counts.mean(0))[auxiliary],
        "pooled": coexpression(np.concatenate(logs)),
        "within": np.mean([coexpression(values) for values in logs], axis=0),
    }
    return {name: area_under_curve(useful, scores) for name, scores in priors.items()}


def test_priors_mislead_where_they_should() -> None:
    standard, misleading, easy = (ranking_power(preset, 2) for preset in ("standard", "misleading", "easy"))
    assert standard["within"] > 0.97
    assert easy["within"] > 0.97
    assert easy["dispersion"] > 0.8
    # Useless genes have the highest mean and dispersion; slide batch effects spoil co-expression over pooled slides.
    assert misleading["mean"] < 0.3
    assert misleading["dispersion"] < 0.2
    assert misleading["within"] > 0.9
    assert misleading["pooled"] < misleading["within"] - 0.1


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_linear_function_of_what_is_visible_misses_the_nonlinear_share(share: float) -> None:
    """Least squares of what genes follow on the programmes: R2 is 1 - share, over many spots of one tissue."""
    settings = replace(settings_of("standard"), slide_shift=0.0)
    shown = programmes(lattice(3000, np.random.default_rng(0)), settings, np.random.default_rng(1))
    read = bent(shown, settings, share)
    design = np.column_stack([np.ones(len(shown)), shown])
    residual = read - design @ np.linalg.lstsq(design, read, rcond=None)[0]
    assert np.abs(residual.var(0) / read.var(0) - share).max() < 0.12
    assert np.abs(read.mean(0)).max() < 0.25
    assert abs(float(read.var(0).mean()) - 1) < 0.15
    groups = [range(4), range(4, 12), range(12, 14)]  # a product stays within its group: classes keep their meaning
    for group in groups:
        pairs = {(j, k): shown[:, j] * shown[:, k] for j in group for k in group if j != k}
        for j in group:
            best = max(pairs, key=lambda pair: abs(np.corrcoef(pairs[pair], residual[:, j])[0, 1]))
            assert j in best


def test_pictures_and_features_do_not_depend_on_what_genes_read() -> None:
    _, plain = drawn("standard", 3, n_slides=1)
    _, curved = drawn("standard", 3, n_slides=1, nonlinear=0.5)
    assert np.array_equal(plain[0].features, curved[0].features)
    assert not np.allclose(plain[0].log_rates, curved[0].log_rates)
