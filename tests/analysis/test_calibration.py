"""Spread against error: by hand, and on scores whose error is known to follow, or not to follow, the spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from agl.analysis.calibration import calibrations, place_errors
from agl.analysis.results import read_results
from agl.runs.folder import find_runs
from agl.testing.runs import ExampleSlides, write_run

SLIDES = ExampleSlides({"P0": ["S1"], "P1": ["S2"]}, spots=400)


def test_places_by_hand() -> None:
    scores = np.array([[4.0], [1.0], [3.0], [2.0]])
    error, same = place_errors(scores, np.array([[9], [1], [2], [3]]), np.full(4, 100))
    np.testing.assert_allclose(error.ravel(), [0, 0, 0.25, 0.25])
    np.testing.assert_allclose(same, error)  # four spots are in four tenths


def test_same_place_is_the_mean_of_a_predicted_tenth() -> None:
    rng = np.random.default_rng(0)
    scores, counts = rng.normal(size=(60, 1)), rng.poisson(5.0, size=(60, 1))
    error, same = place_errors(scores, counts, np.full(60, 1000))
    order = np.argsort(scores[:, 0])
    for tenth in np.split(order, 10):
        np.testing.assert_allclose(same[tenth], error[tenth].mean())


@pytest.mark.parametrize("honest", [True, False])
def test_a_spread_that_is_the_error_and_one_that_knows_nothing(tmp_path: Path, honest: bool) -> None:
    for fold in (0, 1):
        folder = write_run(tmp_path, SLIDES, "loss=mse", fold=fold, noise=1.0)
        with np.load(folder / "predictions.npz") as saved:
            arrays = dict(saved)
        rng = np.random.default_rng(fold)
        error, _ = place_errors(arrays["scores"], arrays["counts"], arrays["library_size"])
        spread = error if honest else rng.random(error.shape)
        np.savez(folder / "predictions.npz", **arrays, spread=spread)
    results = read_results(find_runs(tmp_path))
    [found], notes = list(calibrations(results, results.blocks[0])[0].values()), []
    assert not notes
    assert len(found.slides) == 2
    if honest:
        np.testing.assert_allclose(found.bins.spread, found.bins.error, atol=1e-6)
        assert found.slides.correlation.min() > 0.999
        assert found.slides.beyond_place.min() > 0.5
        assert (found.bins.error.diff().dropna() > 0).all()
    else:
        assert np.ptp(found.bins.error) < 0.03
        assert found.slides[["correlation", "beyond_place"]].abs().max(axis=None) < 0.1


def test_the_correlation_is_scipys(tmp_path: Path) -> None:
    folder = write_run(tmp_path, SLIDES, "loss=mse", fold=0, noise=1.0)
    with np.load(folder / "predictions.npz") as saved:
        arrays = dict(saved)
    spread = np.random.default_rng(3).random(arrays["scores"].shape) + np.abs(arrays["scores"])
    np.savez(folder / "predictions.npz", **arrays, spread=spread)
    results = read_results(find_runs(tmp_path))
    [found] = calibrations(results, results.blocks[0])[0].values()
    error, _ = place_errors(arrays["scores"], arrays["counts"], arrays["library_size"])
    by_hand = [stats.spearmanr(spread[:, g], error[:, g]).statistic for g in range(error.shape[1])]
    assert found.slides.correlation.item() == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_runs_without_spread_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, SLIDES, "loss=mse", fold=fold) for fold in (0, 1)]
    results = read_results(find_runs(tmp_path))
    assert calibrations(results, results.blocks[0]) == ({}, [])
    (folders[0] / "predictions.npz").write_bytes(b"PK\x03\x04 cut short")
    found, notes = calibrations(results, results.blocks[0])
    assert not found
    assert "Expected the arrays of a run" in notes[0]
