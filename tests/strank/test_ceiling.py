"""The noise ceiling against simulations that know the truth, and its parts against the metrics and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import strank
from strank import reliability
from strank.reliability import Entries, halves


def simulated(
    mean: float, *, spread: float = 0.5, n_spots: int = 800, n_genes: int = 60, depth: int = 5000, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-normal expression `[spot, gene]`, Poisson counts of it, library sizes that are all alike."""
    rng = np.random.default_rng(seed)
    expression = np.exp(spread * rng.normal(size=(n_spots, n_genes)))
    counts = rng.poisson(mean * expression)
    return torch.from_numpy(expression), torch.from_numpy(counts), torch.full((n_spots,), depth)


def table(n_spots: int = 60, n_genes: int = 7, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Counts of uneven spots, one of them empty and one nearly; library sizes with other genes; unsorted slides."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(1.0, 2.0, (n_spots, n_genes)) * rng.gamma(2.0, 0.5, (n_spots, 1)))
    library = counts.sum(1) + rng.integers(1, 40, n_spots)
    counts[4], library[4] = 0, 0
    counts[9], library[9] = 0, 1
    slides = rng.integers(0, 3, n_spots) * 7 - 5
    return torch.from_numpy(counts), torch.from_numpy(library), torch.from_numpy(slides)


@pytest.mark.parametrize("mean", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_is_what_the_true_expression_reaches(metric: str, mean: float) -> None:
    """Of the expression itself for ranks; for Pearson of its expected log count, the mean of many measurements."""
    expression, counts, library = simulated(mean)
    perfect = expression
    if metric == "pearson":
        rng = np.random.default_rng(1)
        again = [np.log1p(1e4 * rng.poisson(mean * expression.numpy()) / 5000) for _ in range(200)]
        perfect = torch.from_numpy(np.mean(again, axis=0))
    observed = torch.log1p(1e4 * counts / library[:, None])
    truth = getattr(strank, metric)(perfect, observed)
    found = strank.ceiling(counts, library, metric=metric)
    assert (found - truth).mean().abs() < 0.03  # over 60 genes; one alone is off by .1 where counts are few
    assert (found - truth).square().mean().sqrt() < (0.13 if mean < 1 else 0.05)


def test_more_counts_reach_further() -> None:
    means = [strank.ceiling(*simulated(mean)[1:]).mean() for mean in (0.3, 1.0, 5.0, 50.0)]
    assert means == sorted(means)
    assert means[0] < 0.4
    assert means[-1] > 0.95


def test_noise_alone_reaches_little() -> None:
    _, counts, library = simulated(3.0, spread=0.0)
    for metric in ("spearman", "pearson"):
        assert strank.ceiling(counts, library, metric=metric).mean() < 0.15


def test_libraries_are_split_with_their_counts() -> None:
    """Each half has its own depth, the share of genes that are not in the table drawn like the others."""
    counts, library, _ = table(400, 3)
    entries = Entries.of(counts)
    rest = (library - counts.sum(1)).numpy()
    one, two = next(halves(entries, rest, 0))
    assert (one.library + two.library == library.numpy()).all()
    assert (one.counts + two.counts == entries.counts).all()
    genes = np.bincount(entries.spot, one.counts, 400)
    assert (one.library >= genes).all()
    spare = one.library - genes
    assert stats.binomtest(int(spare.sum()), int(rest.sum()), 0.5).pvalue > 1e-3
    assert stats.binomtest(int(one.counts.sum()), int(entries.counts.sum()), 0.5).pvalue > 1e-3
    assert 0.5 < np.mean((spare - rest / 2) ** 2) / np.mean(rest / 4) < 1.5  # and vary as draws do


def test_counts_are_split_molecule_by_molecule() -> None:
    """Of a count of 3, halves of 0 to 3 come 1, 3, 3, 1 times in 8."""
    entries = Entries.of(torch.full((4000, 1), 3))
    one, _ = next(halves(entries, np.zeros(4000, dtype=np.int64), 0))
    assert stats.chisquare(np.bincount(one.counts, minlength=4), 4000 * np.array([1, 3, 3, 1]) / 8).pvalue > 1e-3


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
@pytest.mark.parametrize("with_slides", [False, True])
def test_is_the_formula_written_out(metric: str, with_slides: bool) -> None:
    """The same halves as dense tables, through the metrics of the package, which are tested against SciPy."""
    counts, library, slides = table()
    codes = slides if with_slides else torch.zeros(60, dtype=torch.long)
    entries, rest = Entries.of(counts), (library - counts.sum(1)).numpy()
    split, found = halves(entries, rest, 3), []
    for _ in range(4):
        tables, libraries = [], []
        for half in next(split):
            dense = np.zeros(counts.shape)
            dense[entries.spot, entries.gene] = half.counts
            tables.append(dense)
            libraries.append(half.library)
        usable = (libraries[0] > 0) & (libraries[1] > 0)
        assert not usable[4]
        assert not usable[9]
        one, two = (
            torch.from_numpy(np.log1p(1e4 * t[usable] / size[usable, None]))
            for t, size in zip(tables, libraries, strict=True)
        )
        found.append(getattr(strank, metric)(one, two, slides=codes[torch.from_numpy(usable)], per_slide=True))
    rho = torch.stack(found).mean(0).clamp(min=0)
    expected = (2 * rho / (1 + rho)).sqrt()
    options = {"slides": slides if with_slides else None, "metric": metric, "repeats": 4, "seed": 3}
    per_slide = strank.ceiling(counts, library, per_slide=True, **options)
    torch.testing.assert_close(per_slide, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(strank.ceiling(counts, library, **options), expected.mean(0), atol=1e-6, rtol=0)


def test_ranks_within_lists_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, 300) / 3
    lists = rng.integers(0, 5, 300)
    n_spots = np.bincount(lists, minlength=5) + np.array([0, 3, 1, 0, 7])  # some spots have no entry: they are zeros
    found = reliability._ranks(values, lists, n_spots)
    for at in range(5):
        own = values[lists == at]
        padded = np.concatenate([own, np.zeros(n_spots[at] - len(own))])
        ranks = stats.rankdata(padded)
        zero = ranks[padded == 0][0]
        np.testing.assert_allclose(found[lists == at], ranks[: len(own)] - zero)


def test_seeds_decide() -> None:
    counts, library, slides = table()
    first = strank.ceiling(counts, library, slides=slides)
    torch.manual_seed(99)
    assert torch.equal(strank.ceiling(counts, library, slides=slides), first)
    assert not torch.equal(strank.ceiling(counts, library, slides=slides, seed=1), first)


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_order_of_spots_and_split_into_slides(metric: str) -> None:
    """Other draws, so equal up to the splits' own noise: .02 with 40 of them."""
    _, counts, library = simulated(2.0, n_spots=600, n_genes=20)
    slides = torch.arange(600) % 2 * 4 - 1
    whole = strank.ceiling(counts, library, slides=slides, metric=metric, repeats=40, per_slide=True)
    turn = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    turned = strank.ceiling(counts[turn], library[turn], slides=slides[turn], metric=metric, repeats=40, per_slide=True)
    apart = [
        strank.ceiling(counts[slides == code], library[slides == code], metric=metric, repeats=40) for code in (-1, 3)
    ]
    for found in (turned, torch.stack(apart)):
        assert (found - whole).abs().mean() < 0.02
        assert (found - whole).abs().max() < 0.08
    assert (whole[0] - whole[1]).abs().mean() > 0.02  # slides are different samples, so this could fail


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_dense_sparse_and_any_dtype_are_one() -> None:
    counts, library, slides = table()
    expected = strank.ceiling(counts, library, slides=slides)
    others = [counts.to_sparse(), counts.to_sparse_csr(), counts.int(), counts.float(), counts.double().to_sparse_csc()]
    for other in (*others, counts.T.contiguous().T):
        assert torch.equal(strank.ceiling(other, library.float(), slides=slides.int()), expected)
    assert torch.equal(counts, table()[0])  # left alone


def test_some_genes_alone_keep_the_library_of_all() -> None:
    """Other draws again, but the same expectation: what is left out is split as one more gene."""
    _, counts, _ = simulated(2.0, n_genes=40)
    library = counts.sum(1)
    every = strank.ceiling(counts, library, repeats=40)[:5]
    some = strank.ceiling(counts[:, :5], library, repeats=40)
    assert (some - every).abs().max() < 0.06


def test_what_is_undefined_is_nan() -> None:
    counts = torch.zeros(40, 5, dtype=torch.long)
    counts[:, 0] = torch.arange(40)
    counts[3, 1] = 1  # a single count: one half has none
    counts[:, 2] = 1  # halves of counts of 0 and 1 never meet in a spot
    counts[:, 4] = 1000
    found = strank.ceiling(counts, torch.full((40,), 5000))
    assert found.isnan().tolist() == [False, True, False, True, False]
    assert found[0] > 0.9
    assert found[2] == 0
    assert found[4] < 0.5  # equal counts: halves are opposites of each other up to their libraries


def test_few_or_empty_spots() -> None:
    counts, library, _ = table()
    assert strank.ceiling(counts[:2], library[:2]).isnan().all()
    assert strank.ceiling(counts[:0], library[:0]).isnan().all()
    assert strank.ceiling(counts[:, :0], library).shape == (0,)
    assert strank.ceiling(0 * counts, 0 * library).isnan().all()
    slides = torch.zeros(60, dtype=torch.long)
    slides[[4, 9]] = 8  # a slide of the two spots that cannot be split
    per_slide = strank.ceiling(counts, library, slides=slides, per_slide=True)
    assert per_slide.isnan().all(1).tolist() == [False, True]
    mean = strank.ceiling(counts, library, slides=slides)
    assert torch.equal(mean, per_slide[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"counts": [[1]]}, TypeError, "counts as a torch tensor, received list"),
        ({"counts": torch.ones(4)}, ValueError, r"shape \[spot, gene\], received \[4\]"),
        ({"counts": torch.full((4, 2), 0.5)}, ValueError, "whole numbers of at least 0"),
        ({"counts": torch.full((4, 2), -1)}, ValueError, "whole numbers of at least 0"),
        ({"counts": torch.full((4, 2), torch.nan)}, ValueError, "whole numbers of at least 0"),
        ({"counts": torch.ones(4, 2, dtype=torch.complex64)}, TypeError, "real counts"),
        ({"library_size": torch.full((4,), 1)}, ValueError, "at least the counts of a spot, received less in 4 spots"),
        ({"library_size": torch.full((4,), 2.5)}, ValueError, "library_size as whole numbers"),
        ({"library_size": torch.full((3,), 9)}, ValueError, r"shape \[spot\] = \[4\], received \[3\]"),
        ({"slides": torch.zeros(4)}, TypeError, "integer slide codes"),
        ({"metric": "kendall"}, ValueError, "received 'kendall'"),
        ({"repeats": 0}, ValueError, "repeats as a whole number of at least 1, received 0"),
    ],
)
def test_bad_input(change: dict, error: type[Exception], message: str) -> None:
    given = {"counts": torch.ones(4, 2), "library_size": torch.full((4,), 9)} | change
    with pytest.raises(error, match=message):
        strank.ceiling(given.pop("counts"), given.pop("library_size"), **given)
