"""Closed-form baselines against scikit-learn and brute force; their penalty is chosen without the test spots."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import pearsonr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge as SklearnRidge

from agl.errors import UserError
from agl.estimators import ridge_path
from agl.estimators.baselines import Ridge, TrainingMean
from agl.estimators.ridge_cv import best_penalty, cv_folds
from agl.estimators.ridge_path import Moments, RidgePath
from agl.estimators.tables import log_expression


def spots(n: int = 120, width: int = 8, genes: int = 3, n_slides: int = 4, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Features of unequal scale and offset, counts that follow them, library sizes, slides."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)) * np.geomspace(0.01, 100, width) + 5
    z = (x - x.mean(0)) / x.std(0)
    library = rng.integers(2_000, 9_000, n)
    rate = np.exp(0.5 * z @ np.random.default_rng(5).normal(size=(width, genes))) * 2e-3
    return x, rng.poisson(rate * library[:, None]), library, rng.permutation(np.arange(n) % n_slides) * 3 + 1


def standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


@pytest.mark.parametrize("width", [8, 200], ids=["more spots than features", "more features than spots"])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 30.0])
def test_fixed_penalty_equals_sklearn(width: int, alpha: float) -> None:
    x, counts, library, slides = spots(width=width)
    target = log_expression(counts, library)
    expected = SklearnRidge(alpha=alpha * len(x), solver="svd").fit(standardised(x), target).predict(standardised(x))
    fitted = Ridge(alpha=alpha).fit(x, counts, library, slides)
    np.testing.assert_allclose(fitted.predict(x), expected, atol=1e-9)
    np.testing.assert_allclose(
        Ridge(alpha=alpha).fit(x, sparse.csr_matrix(counts), library, slides).predict(x), expected, atol=1e-9
    )


def test_log_expression_by_hand() -> None:
    found = log_expression(np.array([[2, 0], [1, 1], [0, 0]]), np.array([4, 1000, 0]))
    np.testing.assert_allclose(found[:2], np.log([[5001, 1], [11, 11]]))
    assert np.isnan(found[2]).all()


def brute_force_scores(
    x: np.ndarray, target: np.ndarray, slides: np.ndarray, fold: np.ndarray, grid: np.ndarray
) -> np.ndarray:
    """Fit every fold and penalty anew; mean over held-out slides of the mean over genes."""
    z, scores = standardised(x), []
    for penalty in grid:
        by_slide = []
        for i in range(fold.max() + 1):
            train, held = fold != i, fold == i
            model = SklearnRidge(alpha=penalty * train.sum(), solver="svd").fit(z[train], target[train])
            for slide in np.unique(slides[held]):
                here = held & (slides == slide)
                predicted = model.predict(z[here])
                by_slide.append(
                    np.mean([pearsonr(predicted[:, g], target[here, g])[0] for g in range(target.shape[1])])
                )
        scores.append(np.mean(by_slide))
    return np.array(scores)


@pytest.mark.parametrize(("n_slides", "width"), [(4, 8), (7, 8), (1, 8), (4, 200)])
def test_penalty_is_the_brute_force_choice(n_slides: int, width: int) -> None:
    x, counts, library, slides = spots(n_slides=n_slides, width=width)
    grid = np.array([1e-3, 1e-1, 1.0, 10.0])
    fold, kind = cv_folds(slides, seed=3)
    scores = brute_force_scores(x, log_expression(counts, library), slides, fold, grid)
    details = Ridge(per_spot=tuple(grid)).fit(x, counts, library, slides, seed=3).details
    assert details["alpha_per_spot"] == grid[scores.argmax()]
    assert details["cv_pearson"] == pytest.approx(scores.max(), abs=1e-9)
    assert details["cv"] == f"{min(5, n_slides) if n_slides > 1 else 5} folds of {kind}"
    assert details["alpha_at_edge"] == (scores.argmax() in (0, 3))


def test_folds_keep_slides_whole() -> None:
    slides = np.repeat([9, 2, 5, 7, 1, 3, 4], [40, 30, 20, 10, 9, 8, 7])
    fold, kind = cv_folds(slides, seed=0)
    assert kind == "slides"
    assert all(len(np.unique(fold[slides == slide])) == 1 for slide in np.unique(slides))
    assert np.bincount(fold).tolist() == [40, 30, 20, 17, 17]  # the five largest apart, 8 to 9, 7 to 10
    one, kind = cv_folds(np.zeros(20), seed=1)
    assert (kind, np.bincount(one).tolist()) == ("spots", [4] * 5)
    assert not np.array_equal(one, cv_folds(np.zeros(20), seed=2)[0])


def test_ties_go_to_the_larger_penalty_and_nothing_to_one() -> None:
    grid = np.array([0.1, 1.0, 10.0])
    assert best_penalty(grid, np.array([0.5, 0.5, 0.2])) == 1
    assert best_penalty(grid, np.array([np.nan, 0.1, np.nan])) == 1
    assert best_penalty(grid, np.full(3, np.nan)) == 1


def test_moments_add_subtract_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, counts, library, slides = spots()
    y = log_expression(counts, library)
    whole, part = Moments.of(x, y), Moments.of(x[:50], y[:50])
    for a, b in (((whole - part), Moments.of(x[50:], y[50:])), (part + Moments.of(x[50:], y[50:]), whole)):
        np.testing.assert_allclose(RidgePath(a).weights(1.0)[0], RidgePath(b).weights(1.0)[0], atol=1e-8)
    expected = Ridge().fit(x, counts, library, slides)
    monkeypatch.setattr(ridge_path, "BLOCK", 7)
    monkeypatch.setattr("agl.estimators.ridge_cv.BLOCK", 7)
    np.testing.assert_allclose(Ridge().fit(x, counts, library, slides).predict(x), expected.predict(x), atol=1e-9)


@pytest.mark.parametrize("width", [8, 200])
def test_components_are_principal_components(width: int) -> None:
    x, counts, library, slides = spots(width=width)
    z = standardised(x)
    projected = PCA(5, svd_solver="full").fit_transform(z)
    target = log_expression(counts, library)
    expected = SklearnRidge(alpha=0.1 * len(x), solver="svd").fit(projected, target).predict(projected)
    fitted = Ridge(alpha=0.1, components=5).fit(x, counts, library, slides)
    np.testing.assert_allclose(fitted.predict(x), expected, atol=1e-8)
    assert fitted.details["components"] == 5


def test_too_many_components_say_so() -> None:
    x, counts, library, slides = spots()
    with pytest.warns(UserWarning, match="256 components asked for; 120 training spots with 8 features have 8"):
        fitted = Ridge(components=256).fit(x, counts, library, slides)
    assert fitted.details["components"] == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Ridge().fit(x, counts, library, slides).details["components"] is None


def test_memory_mapped_half_precision_features(tmp_path: Path) -> None:
    x, counts, library, slides = spots()
    np.save(tmp_path / "x.npy", x.astype(np.float16))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    plain = Ridge().fit(x.astype(np.float16).astype(np.float64), counts, library, slides)
    np.testing.assert_allclose(
        Ridge().fit(mapped, counts, library, slides).predict(mapped), plain.predict(mapped), atol=1e-12
    )


def test_constant_features_and_genes_do_no_harm() -> None:
    x, counts, library, slides = spots()
    wide = np.hstack([x, np.full((len(x), 2), 0.1)])
    a, b = Ridge(alpha=0.1).fit(wide, counts, library, slides), Ridge(alpha=0.1).fit(x, counts, library, slides)
    np.testing.assert_allclose(a.predict(wide), b.predict(x), atol=1e-9)
    wide[:, -1] = 1e6  # a new value of a feature that never varied
    np.testing.assert_allclose(a.predict(wide), b.predict(x), atol=1e-9)
    counts[:, 1] = 0
    assert np.isfinite(Ridge().fit(x, counts, library, slides).predict(x)).all()


@pytest.mark.parametrize("baseline", [TrainingMean(), Ridge()], ids=["mean", "ridge"])
def test_spots_without_counts_take_no_part(baseline: TrainingMean | Ridge) -> None:
    x, counts, library, slides = spots()
    counts[:10], library[:10] = 0, 0
    found = baseline.fit(x, counts, library, slides).predict(x)
    np.testing.assert_array_equal(found, baseline.fit(x[10:], counts[10:], library[10:], slides[10:]).predict(x))
    assert np.isfinite(found).all()


def test_mean_is_the_mean_and_has_no_correlation() -> None:
    x, counts, library, slides = spots()
    found = TrainingMean().fit(x, counts, library, slides, seed=1).predict(x[:4])
    np.testing.assert_allclose(found, np.tile(log_expression(counts, library).mean(0), (4, 1)), atol=1e-12)


def test_the_same_seed_gives_the_same_bits() -> None:
    table = spots(n_slides=1)
    a, b = (Ridge().fit(*table, seed=4).predict(table[0]) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_bad_input() -> None:
    x, counts, library, slides = spots()
    with pytest.raises(UserError, match=r"above 0, received 0\.0"):
        Ridge(alpha=0.0)
    with pytest.raises(UserError, match="received none"):
        Ridge(per_spot=())
    with pytest.raises(UserError, match="at least one component, received 0"):
        Ridge(components=0)
    with pytest.raises(UserError, match=r"one row of slides a spot \(120\), received 119"):
        Ridge().fit(x, counts, library, slides[1:])
    with pytest.raises(UserError, match=r"\[spot, feature\], received \[120\]"):
        Ridge().fit(x[:, 0], counts, library, slides)
    with pytest.raises(UserError, match="at least two training spots with counts, received 1"):
        TrainingMean().fit(x[:1], counts[:1], library[:1], slides[:1])
    with pytest.raises(UserError, match=r"\[spot, 8\] as in training, received \[120, 7\]"):
        Ridge(alpha=1).fit(x, counts, library, slides).predict(x[:, 1:])
    x[17, 2] = np.inf
    with pytest.raises(UserError, match="found inf at training spot 17, feature 2"):
        Ridge().fit(x, counts, library, slides)
