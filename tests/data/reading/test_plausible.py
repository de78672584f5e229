"""Whole numbers that are no counts are said; counts of every depth and fineness are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.plausible import Tally


def doubts(counts, rows_at_once=50):
    tally = Tally(np.ones(counts.shape[1], bool), len(counts))
    for start in range(0, len(counts), rows_at_once):
        tally.add(start, sparse.csr_matrix(counts[start : start + rows_at_once]))
    return tally.doubts()


def section(n_spots=200, n_genes=400, depth=2000.0, seed=0, dispersion=2.0, even=False):
    """Negative binomial counts: genes of very different rates, spots of different depth."""
    rng = np.random.default_rng(seed)
    rates = rng.dirichlet(np.full(n_genes, 0.3))
    depths = np.full(n_spots, depth) if even else depth * rng.lognormal(0, 0.5, n_spots)
    return rng.poisson(rng.gamma(dispersion, np.outer(depths, rates) / dispersion))


def normalised(counts, total=10_000.0):
    return counts / np.maximum(counts.sum(1, keepdims=True), 1) * total


@pytest.mark.parametrize("depth", [1.0, 20.0, 500.0, 5_000.0, 100_000.0])
@pytest.mark.parametrize("dispersion", [0.5, 1e6])
@pytest.mark.parametrize("even", [False, True])
def test_counts_are_not_doubted(depth, dispersion, even):
    for seed in range(5):
        assert doubts(section(depth=depth, seed=seed, dispersion=dispersion, even=even)) == []


def test_fine_bins_with_small_counts_are_not_doubted():
    rng = np.random.default_rng(0)
    few = rng.poisson(0.0005, size=(2_000, 300))
    few[few > 1] = 1
    assert few.max() == 1
    assert doubts(few) == []
    assert doubts(rng.poisson(0.01, size=(5_000, 300))) == []


def test_few_spots_and_no_counts_are_not_doubted():
    assert doubts(np.ones((9, 300), int)) == []
    assert doubts(np.zeros((200, 300), int)) == []
    assert Tally(np.ones(3, bool), 0).doubts() == []


@pytest.mark.parametrize("value", [1, 7])
def test_binarised(value):
    (said,) = doubts(value * (section() > 0))
    assert said.startswith(f"All counts are 0 or {value}, where ")
    assert said.endswith(
        "higher ones would be expected of counts as frequent as these: they look binarised; give the raw counts."
    )


def test_the_expected_repeats_are_those_of_poisson():
    """Witness: draws. Genes are detected as often as Poisson counts of rate 0.5, so 9 % of entries should exceed 1."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5, size=(2_000, 100))
    (said,) = doubts((counts > 0).astype(int))
    expected = float(said.split("where ")[1].split(" ")[0].replace(",", ""))
    assert expected == pytest.approx((counts > 1).sum(), rel=0.03)


@pytest.mark.parametrize("function", [np.log1p, lambda x: np.log2(1 + x), lambda x: np.sqrt(x) / 2])
@pytest.mark.parametrize("scaled", [True, False])
def test_rounded_logarithms(function, scaled):
    counts = section(depth=5_000, dispersion=20.0)
    said = doubts(np.rint(function(normalised(counts) if scaled else counts)).astype(int))
    assert any("they look like rounded logarithms or roots; give the raw counts." in s for s in said), said


def test_scaled_to_one_total_and_rounded():
    said = doubts(np.rint(normalised(section(n_genes=3_000), 20_000)).astype(int))
    assert any("no gene has exactly 1 count" in s and "scaled (to one total) and rounded" in s for s in said), said


def test_equal_totals():
    rng = np.random.default_rng(0)
    rates = rng.dirichlet(np.full(400, 0.5))
    drawn = rng.multinomial(5_000, rates, size=200)
    (said,) = doubts(drawn)
    assert said.startswith("Every spot has nearly the same total (5,000 to 5,000 counts), nearer than chance allows")
    assert doubts(rng.poisson(5_000 * rates, size=(200, 400))) == []  # one depth, and the chance of counting


def test_blocks_of_any_size_say_the_same():
    counts = np.rint(np.log1p(section(depth=5_000))).astype(int)
    assert doubts(counts, 1) == doubts(counts, 37) == doubts(counts, 1_000) != []


def test_of_large_sections_every_nth_spot_is_looked_at():
    """The same doubt from 25,000 spots in blocks of any size; one count of 2 anywhere and they are not binarised."""
    rng = np.random.default_rng(0)
    counts = (rng.poisson(0.5, size=(25_000, 40)) > 0).astype(int)
    (said,) = doubts(counts, 977)
    assert doubts(counts, 10_000) == [said]
    expected = float(said.split("where ")[1].split(" ")[0].replace(",", ""))
    assert expected == pytest.approx(counts.size * (1 - np.exp(-0.5) * 1.5), rel=0.02)
    counts[24_999, 3] = 2
    assert doubts(counts, 977) == []


def test_columns_that_are_no_genes_are_not_looked_at():
    counts = section()
    tally = Tally(np.arange(401) > 0, 200)
    tally.add(0, sparse.csr_matrix(np.c_[np.full(200, 7), counts > 0]))
    assert tally.doubts() == doubts(counts > 0)


def test_check_and_import_say_the_same(task, make_slide):
    slides = [make_slide(name, n_spots=60, genes=[f"G{i}" for i in range(80)], patient=name) for name in ("S1", "S2")]
    slides[0].counts = (slides[0].counts > 0).astype(int)
    root, _ = task(slides)
    report = open_dataset(root, features="uni").report
    (said,) = report["sections"]["S1"]["count_doubts"]
    assert "binarised" in said
    assert f"S1: {said}" in report["warnings"]
    assert report["sections"]["S2"]["count_doubts"] == []
    assert ("S1", said) in [(f.slide, f.message) for f in check(root, features="uni").findings if f.level == "warning"]


def test_real_sections_are_not_doubted(her2st):
    dataset = open_dataset(her2st, features="none")
    assert [s["count_doubts"] for s in dataset.report["sections"].values()] == [[]] * 5
