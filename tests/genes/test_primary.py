"""Primary genes: scanpy's where scanpy has them, and every wrong wish refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agl.errors import UserError
from agl.genes import primary, priors
from agl.testing.gene_sets import check_primary_rule


@pytest.mark.parametrize("rule", [primary.dispersion, primary.variance, primary.mean, primary.moran])
def test_every_rule_keeps_the_contract(rule):
    check_primary_rule(rule)


@pytest.mark.parametrize("normalise", ["none", "cp10k"])
def test_dispersion_takes_scanpys_top_genes_of_the_detected_ones(planted, normalise):
    """As HEST-bench: filter by detection first, then rank: the bins are those of the genes that are left."""
    import anndata
    import scanpy

    training = planted(0, kinds=(200, 200, 200)).candidates.training
    share = (training.counts.toarray() > 0).mean(axis=0)
    often = np.flatnonzero(share >= 0.7)
    assert 100 < len(often) < 600  # some genes are left out
    counts = training.counts.toarray().astype(float)
    if normalise == "cp10k":
        counts = counts * 1e4 / training.library_size[:, None]
    data = anndata.AnnData(counts[:, often])
    scanpy.pp.log1p(data)
    scanpy.pp.highly_variable_genes(data, flavor="seurat", n_top_genes=50)
    ours = primary.dispersion(training, k=50, min_detection=0.7, normalise=normalise)
    assert set(ours) == set(often[data.var["highly_variable"]])
    norm = np.full(training.n_genes, np.nan)
    norm[often] = data.var["dispersions_norm"]
    assert (np.diff(norm[ours]) <= 1e-6).all()  # best first


def test_rules_rank_by_their_prior(spots):
    for rule, prior in (
        (primary.mean, priors.mean),
        (primary.variance, priors.variance),
        (primary.moran, priors.moran),
    ):
        chosen = rule(spots, k=7, min_detection=0.2)
        values = np.where(spots.detection >= 0.2, prior(spots), np.nan)
        expected = list(np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable"))[:7]
        assert chosen.tolist() == expected


def test_the_detection_limit_is_inclusive(spots):
    share = float(np.sort(spots.detection)[-7])
    assert len(primary.mean(spots, k=7, min_detection=share)) == 7
    with pytest.raises(UserError, match=r"Expected 8 primary genes, but only 7 genes.*lower k or min_detection"):
        primary.mean(spots, k=8, min_detection=share)


def test_genes_come_from_a_file_in_its_order(spots, tmp_path):
    (tmp_path / "panel.json").write_text(json.dumps({"genes": ["G9", "G2"]}))
    assert primary.file(spots, path=str(tmp_path / "panel.json")).tolist() == [9, 2]
    assert primary.file(spots, path="panel.json", root=str(tmp_path)).tolist() == [9, 2]
    (tmp_path / "panel.txt").write_text("# my genes\nG3\n\nG1  # the best\n")
    assert primary.file(spots, path=str(tmp_path / "panel.txt")).tolist() == [3, 1]
    check = primary.file(spots, path=str(tmp_path / "panel.txt"))
    assert check.dtype == np.int64


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "G1\nG2x\n", "1 that are not among its 80 genes: G2x. Did you mean 'G2'"),
        ("a.txt", "\n".join(f"ZZZ{i}" for i in range(9)), "9 that are not.*ZZZ4 and 4 more"),
        ("a.txt", "# nothing\n", "found none"),
        ("a.txt", "G1\nG1\n", "each gene once.*G1 more than once"),
        ("a.json", '{"panel": ["G1"]}', "found something else"),
        ("a.json", "[1, 2]", "found something else"),
        ("a.json", "{", "not readable"),
    ],
)
def test_a_wrong_file_is_one_sentence(spots, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        primary.file(spots, path=str(tmp_path / name))


def test_wrong_wishes_are_refused(spots):
    with pytest.raises(UserError, match="there is no such file, neither here nor in data"):
        primary.file(spots, path="no.json", root="data")
    with pytest.raises(UserError, match="at least 1 primary gene, received k=0"):
        primary.mean(spots, k=0)
    with pytest.raises(UserError, match="share of spots from 0 to 1, received 10"):
        primary.mean(spots, min_detection=10)
    with pytest.raises(UserError, match="only 0 genes"):
        primary.dispersion(spots, min_detection=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda training, *, k: np.zeros(k, dtype=np.int64),
        lambda training, *, k: np.arange(k, dtype=np.int32),
        lambda training, *, k: np.arange(k + 1),
        lambda training, *, k: np.arange(training.n_genes)[-k:],  # genes without counts
        lambda training, *, k: list(range(k)),
        lambda training, *, k: np.argsort(-training.counts[0].toarray()[0], kind="stable")[
            :k
        ],  # the first spot decides
    ],
)
def test_the_battery_catches_broken_rules(wrong):
    with pytest.raises(AssertionError, match="Expected"):
        check_primary_rule(wrong)
