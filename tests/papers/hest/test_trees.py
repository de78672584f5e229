"""Forest and boosting against scikit-learn called here, and a penalty chosen by a slow search."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from agl.errors import UserError
from agl.papers.hest.penalty import GRID
from agl.papers.hest.ridge import HestRawRidge, HestRidge
from agl.papers.hest.trees import HestBoosting, HestForest


def task(n: int = 180, width: int = 12, genes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, counts, slides; the counts bend with the features, and every slide has a level of its own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)) * np.geomspace(0.2, 3, width)
    slides = np.repeat([3, 1, 2], n // 3)
    turn = np.random.default_rng(50).normal(size=(width, genes)) / np.sqrt(width)
    return x, rng.poisson(np.exp(np.abs(x @ turn) + 0.4 * slides[:, None])), slides


@pytest.mark.parametrize("components", [5, None])
@pytest.mark.parametrize("make", [HestForest, HestBoosting])
def test_trees_bend_where_a_line_cannot(make, components) -> None:
    x, counts, slides = task()
    new, truth, _ = task(seed=1)
    options = {"columns": 1.0} if make is HestForest else {}
    fitted = make(components=components or 12, **options).fit(x, counts, counts.sum(1), slides)
    line = HestRidge(components=components or 12).fit(x, counts, counts.sum(1), slides)
    r = [np.mean([pearsonr(np.log1p(truth[:, g]), p.predict(new)[:, g])[0] for g in range(4)]) for p in (fitted, line)]
    assert r[0] > r[1] + 0.05
    assert fitted.details["components"] == (components or 12)


def test_boosting_is_scikit_learns_gene_by_gene() -> None:
    """On the same inputs in the same order, which our sorting does not change: histograms have no order of rows."""
    x, counts, slides = task()
    new, *_ = task(seed=1)
    ours = HestBoosting(components=None, trees=20, columns=1.0).fit(x, counts, counts.sum(1), slides).predict(new)
    for gene in range(counts.shape[1]):
        model = HistGradientBoostingRegressor(
            max_iter=20, max_depth=3, learning_rate=0.1, early_stopping=False, random_state=1
        )
        theirs = model.fit(x, np.log1p(counts[:, gene])).predict(new)
        np.testing.assert_allclose(ours[:, gene], theirs, atol=1e-6)


def test_a_forest_of_stumps_splits_where_the_squared_error_falls_most() -> None:
    """Trees of depth 1 that see all columns split where the squared error falls most, searched here."""
    x, counts, slides = task(n=60)
    fitted = HestForest(components=None, trees=400, depth=1, columns=1.0).fit(x, counts, counts.sum(1), slides)
    y = np.log1p(counts)
    cuts = [(j, t) for j in range(x.shape[1]) for t in np.quantile(x[:, j], np.linspace(0.1, 0.9, 9))]
    errors = [sum(y[k].var(0).sum() * k.sum() for k in (x[:, j] <= t, x[:, j] > t)) for j, t in cuts]
    column, cut = cuts[int(np.argmin(errors))]
    found = fitted.predict(x)
    high = x[:, column] > cut
    means = np.stack([y[high].mean(0), y[~high].mean(0)])
    side = np.sign(means[0] - means[1])
    assert (np.sign(found[high].mean(0) - found[~high].mean(0)) == side).all()
    assert np.abs(found.mean(0) - y.mean(0)).max() < 0.1 * y.std()


@pytest.mark.parametrize("raw", [True, False])
def test_the_chosen_penalty_is_the_best_on_left_out_slides(raw) -> None:
    """A slow search: scikit-learn's exact solver for every penalty and left-out slide."""
    x, counts, slides = task()
    estimator = HestRawRidge(penalty="chosen") if raw else HestRidge(components=6, penalty="chosen")
    details = estimator.fit(x, counts, counts.sum(1), slides).details
    inputs = x if raw else PCA(6).fit_transform(StandardScaler().fit_transform(x)).astype(np.float32).astype(float)
    y, means = np.log1p(counts), []
    for c in GRID:
        by_slide = []
        for slide in (1, 2, 3):
            keep = slides != slide
            ridge = Ridge(alpha=c * (inputs[keep] ** 2).sum() / inputs.shape[1], fit_intercept=False, solver="cholesky")
            scores = ridge.fit(inputs[keep], y[keep]).predict(inputs[~keep])
            by_slide.append(np.mean([pearsonr(scores[:, g], y[~keep][:, g])[0] for g in range(y.shape[1])]))
        means.append(np.mean(by_slide))
    best = int(np.flatnonzero(np.isclose(means, np.max(means), atol=1e-9))[-1])
    assert details["alpha"] == pytest.approx(GRID[best] * (inputs**2).sum() / inputs.shape[1], rel=1e-5)
    assert details["cv_pearson"] == pytest.approx(means[best], abs=1e-6)
    assert details["cv"] == "3 folds of slides"
    assert details["alpha"] != pytest.approx(100 / (inputs.shape[1] * 4))


def test_the_formula_is_what_it_was() -> None:
    x, counts, slides = task()
    assert HestRawRidge().fit(x, counts, counts.sum(1), slides).details["alpha"] == 100 / (12 * 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trees": 0}, "a whole number above 0 for trees"),
        ({"depth": 1.5}, "a whole number above 0 for depth"),
        ({"columns": 1.5}, "a share above 0, up to 1 for columns"),
        ({"components": "all"}, "a number of components or 'largest'"),
    ],
)
@pytest.mark.parametrize("make", [HestForest, HestBoosting])
def test_numbers_out_of_range_are_a_sentence(make, options, said) -> None:
    with pytest.raises(UserError, match=said):
        make(**options)
