"""What position and stain density alone reach on a section: against scikit-learn, planted, and where nobody can say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression

from agl.data.checking.density import MOST_PATCHES, densities
from agl.data.checking.doctor import check
from agl.data.checking.reach import left_out, mean_reach
from agl.data.reading.join import Rows
from agl.data.reading.patches import PatchFile
from agl.nuisances import places
from agl.seeds import seeded

RNG = np.random.default_rng(0)


def test_every_fifth_is_predicted_from_the_others_as_scikit_learn_does() -> None:
    columns, target = RNG.normal(size=(60, 2)), RNG.normal(size=(60, 3))
    target[:, 0] += columns[:, 1]
    columns[7, 0] = np.nan
    known = np.delete(np.arange(60), 7)
    x, y = columns[known] - columns[known].mean(0), target[known]
    fold = seeded(4, "check", "folds").permutation(np.arange(59) % 5)
    scores = np.zeros(y.shape)
    for i in range(5):
        scores[fold == i] = x[fold == i] @ LinearRegression().fit(x[fold != i], y[fold != i]).coef_.T
    expected = np.mean([spearmanr(scores[:, g], y[:, g]).statistic for g in range(3)])
    assert left_out(columns, target, seed=4) == pytest.approx(expected, abs=1e-9)


def test_nothing_is_near_0_and_too_little_says_nothing() -> None:
    """No bias from the folds' own means: predictions of noise do not turn against it."""
    found = [left_out(RNG.normal(size=200), RNG.normal(size=(200, 40)), seed) for seed in range(5)]
    assert abs(np.mean(found)) < 0.05
    assert left_out(RNG.normal(size=29), RNG.normal(size=(29, 2)), 0) is None
    assert left_out(np.full(50, np.nan), RNG.normal(size=(50, 2)), 0) is None


def planted(n: int = 400) -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix]:
    """Places, densities, counts: the first half of the genes are gradients, the others follow the density."""
    xy = np.stack(np.divmod(np.arange(n), 20), 1).astype(float)
    density = RNG.normal(size=n)
    rate = np.exp(np.column_stack([np.repeat((xy[:, :1] - 10) / 6, 4, axis=1), np.repeat(density[:, None], 4, axis=1)]))
    counts = RNG.poisson(8 * rate)
    filler = RNG.poisson(2000, size=(n, 1))
    return xy, density, sparse.csr_matrix(np.hstack([counts, filler]))


def test_each_ranks_what_was_planted_for_it() -> None:
    xy, density, counts = planted()
    found = mean_reach(counts, position=places(xy), density=density)
    gone = mean_reach(counts, position=places(xy), density=RNG.permutation(density))
    assert found.position is not None
    assert 0.25 < found.position < 0.6  # half of the genes, near 1 each, and the rest at 0
    assert 0.25 < found.stain < 0.6
    assert abs(gone.stain) < 0.1
    nobody = mean_reach(counts)
    assert (nobody.position, nobody.stain) == (None, None)
    assert (nobody.ceiling, nobody.depth) == (found.ceiling, found.depth)


def test_the_screen_and_the_table_have_both(task, make_slide) -> None:
    slides = [make_slide(name, n_spots=60, patient=name) for name in ("S1", "S2")]
    light = np.linspace(40, 250, 60).astype(np.uint8)
    for slide in slides:
        slide.images = np.broadcast_to(light[:, None, None, None], (60, 8, 8, 3)).copy()
        falling = np.linspace(30, 2, 60)[:, None] * np.ones(5)
        slide.counts = RNG.poisson(np.hstack([falling, np.full((60, 1), 900.0)]))
    root, _ = task(slides)
    report = check(root, features="none")
    assert {"depth", "position", "stain"} <= set(report.table)
    section = report.sections[0]
    assert section.stain > 0.3
    stream = io.StringIO()
    report.render(Console(file=stream, width=140, color_system=None))
    said = " ".join(stream.getvalue().split())
    assert f"stain alone SCC S1 {section.stain:.2f}" in said
    assert f"position alone SCC S1 {section.position:.2f}" in said
    assert check(root, features="none").to_dict() == report.to_dict()


def test_densities_by_hand(tmp_path) -> None:
    import h5py

    grey = RNG.integers(0, 256, size=900).astype(np.uint8)
    path = tmp_path / "S1.h5"
    with h5py.File(path, "w") as file:
        file["img"] = np.broadcast_to(grey[:, None, None, None], (900, 2, 2, 3))
    rows = np.concatenate([[-1], RNG.permutation(900)])
    found = densities(PatchFile(path, 900, (2, 2, 3), Rows(str(path), None, None, None)), rows)
    seen = np.flatnonzero(np.isfinite(found))
    assert len(seen) == 300 <= MOST_PATCHES
    assert seen[:2].tolist() == [1, 4]
    np.testing.assert_allclose(found[seen], np.log10(256 / (grey[rows[seen]].astype(float) + 1)), atol=1e-6)
