from __future__ import annotations

import numpy as np
import pytest

from agl.errors import UserError
from agl.genes import sets
from agl.genes.candidates import Candidates
from agl.testing.gene_sets import check_gene_set


@pytest.mark.parametrize(
    ("gene_set", "options"),
    [
        (sets.none, {}),
        (sets.all_genes, {}),
        (sets.top, {}),
        (sets.top, {"prior": "mean", "k": 5}),
        (sets.top, {"prior": {"name": "moran", "neighbours": 4}, "fraction": 0.2}),
        (sets.coexpressed, {}),
        (sets.coexpressed, {"k": 6}),
        (sets.coexpressed, {"fdr": 0.3, "null": "spots"}),
        (sets.low_variance_coexpressed, {}),
        (sets.low_variance_coexpressed, {"k": 4}),
    ],
)
def test_every_set_keeps_the_contract(gene_set, options):
    check_gene_set(gene_set, **options)


def test_a_random_set_keeps_it_but_for_the_order():
    check_gene_set(sets.random, k=5, equivariant=False)


def test_a_set_from_a_file_keeps_it(tmp_path):
    (tmp_path / "list.txt").write_text("GENE9\nGENE12\nGENE2\n")  # GENE2 is primary
    check_gene_set(sets.file, path=str(tmp_path / "list.txt"))


@pytest.fixture
def data(planted):
    return planted(2)


def test_none_and_all(data):
    assert sets.none(data.candidates).sum() == 0
    assert sets.all_genes(data.candidates).sum() == 300


def test_random_draws_k_by_its_seed(data):
    one, same, other = (sets.random(data.candidates, k=40, seed=s) for s in (1, 1, 2))
    assert one.sum() == 40
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert sets.random(data.candidates, k=10_000).sum() == 300
    drawn = sum(sets.random(data.candidates, k=30, seed=s) for s in range(300))
    assert abs(drawn - 30).max() < 5 * np.sqrt(300 * 0.1 * 0.9)  # every gene equally often


def test_top_takes_the_best_of_the_prior(data):
    mean = np.asarray(data.candidates.training.counts.mean(axis=0)).ravel()[data.candidates.auxiliary]
    assert set(np.flatnonzero(sets.top(data.candidates, prior="mean", k=12))) == set(np.argsort(-mean)[:12])
    assert sets.top(data.candidates, prior="mean", fraction=0.25).sum() == 75
    assert sets.top(data.candidates, prior="mean", k=10_000).sum() == 300
    assert sets.top(data.candidates, prior="mean", k=0).sum() == 0


def test_top_never_takes_a_gene_of_undefined_prior(spots):
    candidates = Candidates(spots, np.array([0]), np.arange(1, 80))
    assert np.isnan(candidates.prior("dispersion")[6])  # G7 has no counts
    chosen = sets.top(candidates, prior="dispersion", fraction=1.0)
    assert chosen[6] == 0
    assert chosen.sum() == (~np.isnan(candidates.prior("dispersion"))).sum()


def test_coexpressed_finds_the_useful_genes_and_says_how_many(planted):
    found = useful = false = 0
    for seed in range(4):
        data = planted(seed)
        chosen = sets.coexpressed(data.candidates) > 0
        found, useful = found + int((chosen & data.useful).sum()), useful + int(data.useful.sum())
        false += int((chosen & ~data.useful).sum())
        k = int(data.useful.sum())
        best = sets.coexpressed(data.candidates, k=k) > 0
        assert best.sum() == k
        assert (best & data.useful).sum() > 0.75 * k
    assert found > 0.6 * useful
    assert false / (false + found) < 0.12  # 0.05 in expectation, over four data sets


def test_a_larger_rate_takes_more_genes(data):
    few, more = (sets.coexpressed(data.candidates, fdr=fdr) for fdr in (0.01, 0.3))
    assert few.sum() < more.sum()
    assert (more >= few).all()


def test_coexpressed_is_empty_where_nothing_is(planted):
    """The misleading setting: no gene shares anything with the primary genes."""
    counts = [sets.coexpressed(planted(seed, kinds=(0, 100, 100)).candidates).sum() for seed in range(5)]
    assert sorted(counts)[2] == 0
    assert max(counts) <= 5


def test_low_variance_coexpressed_are_the_quiet_ones_of_the_coexpressed(data):
    spread = data.candidates.prior("dispersion")
    together = sets.coexpressed(data.candidates) > 0
    chosen = sets.low_variance_coexpressed(data.candidates, quantile=0.4) > 0
    assert chosen.sum() > 3
    assert not (chosen & ~together).any()
    assert spread[chosen].max() <= np.quantile(spread[together], 0.4) <= spread[together & ~chosen].min()
    assert chosen.sum() == sum(value <= np.quantile(spread[together], 0.4) for value in spread[together])
    assert (chosen & data.useful).sum() > 0.8 * chosen.sum()
    everything = sets.low_variance_coexpressed(data.candidates, quantile=1.0) > 0  # the gene at the cut belongs to it
    assert (everything == together).all()


def test_low_variance_coexpressed_by_number(data):
    spread, score = (data.candidates.prior(name) for name in ("dispersion", "coexpression"))
    best = np.argsort(-score, kind="stable")[:14]
    chosen = sets.low_variance_coexpressed(data.candidates, quantile=0.5, k=7) > 0
    assert set(np.flatnonzero(chosen)) == set(best[np.argsort(spread[best], kind="stable")[:7]])


def test_a_file_of_names(data, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("G40\nG31\nG2\n")  # G2 is primary
    chosen = np.flatnonzero(sets.file(data.candidates, path=str(path)))
    assert [data.candidates.names[i] for i in chosen] == ["G31", "G40"]
    assert sets.file(data.candidates, path="list.txt", root=str(tmp_path)).sum() == 2
    path.write_text("G40\nELSEWHERE\n")
    with pytest.raises(UserError, match="1 that are not among its 330 genes: ELSEWHERE"):
        sets.file(data.candidates, path=str(path))
    assert sets.file(data.candidates, path=str(path), ignore_missing=True).sum() == 1
    path.write_text("ELSEWHERE\n")
    with pytest.raises(UserError, match="ELSEWHERE"):  # none at all is an error even so
        sets.file(data.candidates, path=str(path), ignore_missing=True)


@pytest.mark.parametrize(
    ("gene_set", "options", "message"),
    [
        (sets.top, {"k": -1}, "k as a number of genes.*received -1"),
        (sets.top, {"k": 2.5}, "received 2.5"),
        (sets.random, {"k": True}, "received True"),
        (sets.top, {"fraction": 1.5}, "share of the candidates from 0 to 1, received 1.5"),
        (sets.top, {"prior": "dispersoin"}, "Did you mean 'dispersion'"),
        (sets.top, {"prior": {"name": "dispersion", "normalize": "cp10k"}}, "Did you mean 'normalise'"),
        (sets.coexpressed, {"fdr": 5}, "fdr between 0 and 1.*received 5"),
        (sets.coexpressed, {"null": "none"}, "null='spatial' or 'spots'"),
        (sets.low_variance_coexpressed, {"quantile": 0.0}, "quantile above 0"),
    ],
)
def test_wrong_wishes_are_refused(data, gene_set, options, message):
    with pytest.raises(UserError, match=message):
        gene_set(data.candidates, **options)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda candidates: np.ones(3, dtype=np.float32),
        lambda candidates: np.ones(len(candidates)),
        lambda candidates: np.full(len(candidates), 2.0, dtype=np.float32),
        lambda candidates: np.full(len(candidates), np.nan, dtype=np.float32),
        lambda candidates: np.random.default_rng().random(len(candidates)).astype(np.float32),
        lambda candidates: (np.arange(len(candidates)) < 5).astype(np.float32),  # by position, not by gene
        lambda candidates: np.ones(max(len(candidates), 2), dtype=np.float32),  # not for one candidate
    ],
)
def test_the_battery_catches_broken_sets(wrong):
    with pytest.raises(AssertionError, match="Expected"):
        check_gene_set(wrong)
