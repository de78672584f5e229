"""What depth, position and stain alone reach: by hand, against scikit-learn, and without a look at test counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats
from sklearn.linear_model import LinearRegression

from agl.config import load
from agl.data.geometry import edge_distance
from agl.data.slides import Dataset
from agl.nuisances import fitted, nuisance_scores, position_table, stain_density
from agl.runs.folder import find_runs
from agl.scoring import gene_table, without_depth

RNG = np.random.default_rng(0)
SIDE = 6


def made(features: np.ndarray | None = None, report: dict | None = None) -> Dataset:
    """Three slides on a lattice; gene 0 grows towards the middle of each, gene 1 to the right."""
    x, y = (each.ravel().astype(float) for each in np.meshgrid(np.arange(SIDE), np.arange(SIDE)))
    edge = np.minimum.reduce([x, y, SIDE - 1 - x, SIDE - 1 - y])
    counts = np.vstack([np.column_stack([5 + 20 * edge, 5 + 10 * x, RNG.poisson(9, len(x))]) for _ in range(3)])
    spots = pd.DataFrame({"slide": np.repeat(["a", "b", "c"], len(x)), "x": np.tile(x, 3), "y": np.tile(y, 3)})
    spots["barcode"] = spots["patient"] = "p"
    library = np.full(len(spots), 1000) + RNG.integers(0, 500, len(spots))
    return Dataset(
        spots,
        ("g0", "g1", "g2"),
        sparse.csr_matrix(counts.astype(np.int32)),
        library,
        features,
        None,
        "k",
        report or {},
    )


def test_the_edge_of_a_square_and_of_its_hole() -> None:
    lattice = np.array([[x, y] for x in range(9) for y in range(9) if not (3 <= x <= 5 and 3 <= y <= 5)], dtype=float)
    found = {tuple(place): d for place, d in zip(lattice.tolist(), edge_distance(lattice), strict=True)}
    assert (found[0.0, 4.0], found[1.0, 4.0], found[2.0, 4.0]) == (0.0, 1.0, 0.0)
    assert edge_distance(np.zeros((1, 2))).tolist() == [0.0]


def test_position_is_of_a_frame_that_no_split_changes() -> None:
    data = made()
    whole = position_table(data, np.arange(len(data)))
    np.testing.assert_array_equal(position_table(data, np.array([3, 50])), whole[[3, 50]])
    assert whole[:36, :3].mean(0) == pytest.approx(0, abs=1e-12)
    assert whole[:36, :3].std(0) == pytest.approx(1)
    np.testing.assert_allclose(whole[:, 5], whole[:, 0] * whole[:, 1])


def test_the_fit_is_scikit_learns_with_a_constant_for_each_slide() -> None:
    train, test = RNG.normal(size=(40, 3)), RNG.normal(size=(7, 3))
    target, slides = RNG.normal(size=(40, 2)), np.repeat([0, 1], 20)
    dummies = (slides[:, None] == np.arange(2)).astype(float)
    model = LinearRegression(fit_intercept=False).fit(np.hstack([train, dummies]), target)
    np.testing.assert_allclose(fitted(train, target, slides, test), test @ model.coef_[:, :3].T, atol=1e-10)


def test_they_rank_what_they_can_and_read_no_test_count() -> None:
    data = made()
    train, test = np.arange(72), np.arange(72, 108)
    found = nuisance_scores(data, train, test, np.arange(3), ("uni",))
    assert set(found) == {"depth", "position"}
    target = data.dense_counts(test) / data.library_size[test, None]
    for gene in (0, 1):
        assert stats.spearmanr(found["position"][:, gene], target[:, gene]).statistic > 0.7
    np.testing.assert_allclose(found["depth"][:, 1], np.log(data.library_size[test]))
    counts = data.counts.toarray()
    counts[test] = RNG.integers(0, 99, counts[test].shape)
    other = nuisance_scores(replace(data, counts=sparse.csr_matrix(counts)), train, test, np.arange(3), ("uni",))
    np.testing.assert_array_equal(other["position"], found["position"])


def test_stain_density_is_that_of_the_built_in_features() -> None:
    from agl.data.images.builtin import FEATURE_NAMES, extract
    from agl.data.images.stain import optical_density

    images = RNG.integers(30, 250, (4, 64, 64, 3), dtype=np.uint8)
    features = extract(images)
    alone = Dataset(made().spots[:4], (), sparse.csr_matrix((4, 0)), np.ones(4), features, None, "k", {})
    by_hand = optical_density(torch.from_numpy(images).permute(0, 3, 1, 2).float()).mean((1, 2, 3))
    density = stain_density(alone, np.arange(4), ("builtin",))
    np.testing.assert_allclose(density, by_hand, rtol=1e-4)
    about = {"encoders": {"uni": {"width": 3}, "builtin": {"width": len(FEATURE_NAMES)}}, "context": []}
    both = replace(alone, features=np.hstack([RNG.normal(size=(4, 3)), features]), report={"features": about})
    np.testing.assert_allclose(stain_density(both, np.arange(4), ("uni", "builtin")), density)
    assert stain_density(alone, np.arange(4), ("uni",)) is None


def test_partial_is_the_correlation_of_what_depth_leaves() -> None:
    """Spearman's: ranks of both sides, depth's ranks regressed out of each; Pearson's: the same with the values."""
    library = RNG.integers(100, 5000, 50)
    depth = np.log(library)
    scores, target = (RNG.normal(size=(50, 2)) + depth[:, None] * [0.5, 2.0] for _ in range(2))
    parts = (torch.from_numpy(scores), torch.from_numpy(target), torch.from_numpy(library))
    scc, pcc, _ = without_depth(*parts, torch.zeros(50, dtype=torch.long))

    def left(values: np.ndarray, by: np.ndarray) -> np.ndarray:
        return values - LinearRegression().fit(by[:, None], values).predict(by[:, None])

    for gene in (0, 1):
        ranks = [stats.rankdata(each) for each in (scores[:, gene], target[:, gene], depth)]
        wanted = stats.pearsonr(left(ranks[0], ranks[2]), left(ranks[1], ranks[2])).statistic
        assert float(scc[0, gene]) == pytest.approx(wanted, abs=1e-9)
        wanted = stats.pearsonr(left(scores[:, gene], depth), left(target[:, gene], depth)).statistic
        assert float(pcc[0, gene]) == pytest.approx(wanted, abs=1e-9)


def test_depth_itself_is_worth_nothing_and_depth_that_does_not_vary_takes_nothing() -> None:
    library = RNG.integers(100, 5000, 50)
    target = torch.from_numpy(RNG.normal(size=(50, 1)))
    one = torch.zeros(50, dtype=torch.long)
    scc, _, _ = without_depth(torch.from_numpy(3.0 * library[:, None]), target, torch.from_numpy(library), one)
    assert float(scc) == 0.0
    scores = torch.from_numpy(RNG.normal(size=(50, 1)))
    scc, _, _ = without_depth(scores, target, torch.full((50,), 700), one)
    assert float(scc) == pytest.approx(stats.spearmanr(scores, target).statistic)
    scc, _, _ = without_depth(scores, torch.zeros(50, 1), torch.from_numpy(library), one)
    assert scc.isnan().all()


def test_the_table_has_both_and_no_ceiling_of_a_partial_score() -> None:
    counts = torch.from_numpy(RNG.poisson(4.0, (40, 2)).astype(np.float32))
    library, scores = RNG.integers(50, 900, 40), torch.from_numpy(RNG.normal(size=(40, 2)))
    words = (scores, counts, library, np.repeat("a", 40), ["x", "y"])
    plain = gene_table(*words, beside={"depth": np.repeat(library[:, None], 2, axis=1)})
    partial = gene_table(*words, depth="partial")
    target = np.log1p(1e4 * counts[:, 0] / library)
    assert plain.depth[0] == pytest.approx(stats.spearmanr(library, target).statistic)
    assert plain.depth[2:].isna().all()  # pooled rows have none
    assert partial.ceiling.isna().all()
    assert (partial.scc - plain.scc).abs().max() > 0.01
    np.testing.assert_array_equal(partial.mean_count, plain.mean_count)


def test_the_key_is_part_of_a_run_only_where_it_changes_scores() -> None:
    assert "scoring" not in load(["scoring.depth=plain"]).to_dict()
    assert load(["scoring.depth=partial"]).to_dict()["scoring"] == {"depth": "partial"}


def test_runs_tables_reports_and_evaluations_have_them(agl, sections: Path) -> None:
    words = [f"data.root={sections}", "data.features=latent", "model=ridge", "fold=0", "name=depth"]
    for scoring in ("plain", "partial"):
        status, out, err = agl("train", *words, f"scoring.depth={scoring}")
        assert status == 0, err
        assert "without a model, SCC per slide: a spot's depth alone" in " ".join(out.split())
    runs = {run.config.scoring.depth: run for run in find_runs("runs")}
    plain, partial = (runs[key].result for key in ("plain", "partial"))
    assert (plain["depth"], plain["position"]) == (partial["depth"], partial["position"])
    assert plain["scc"] != partial["scc"]
    status, out, _ = agl("evaluate", runs["partial"].folder, "--json")
    assert json.loads(out)["as_recorded"]
    assert agl("report", "runs")[0] == 0
    page = Path("runs/report/report.md").read_text()
    assert "Without any model, on the same spots and genes" in page
    assert "depth partialled out" in page  # a block of its own: never compared with plain scores
