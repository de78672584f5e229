"""Every prior through the battery; each simple one against dense NumPy; numbers from files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agl import registry
from agl.builtins import WHERE
from agl.config import Component
from agl.errors import UserError
from agl.genes import priors
from agl.genes.candidates import prior_of_all
from agl.testing.gene_sets import check_prior, example_training


def prior(name, spots, **options):
    return prior_of_all(Component.model_validate({"name": name, **options}), spots)


@pytest.mark.parametrize("name", [name for name in registry.names("prior") if name != "file"])
def test_every_prior_keeps_the_contract(name):
    check_prior(registry.find("prior", name))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dispersion", {"normalise": "cp10k", "per_slide": True}),
        ("mean", {"normalise": "log"}),
        ("variance", {"normalise": "none"}),
        ("coexpression", {"top": 2, "depth": False, "corrected": False}),
        ("moran", {"neighbours": 4}),
    ],
)
def test_their_options_keep_it_too(name, options):
    check_prior(registry.find("prior", name), **options)


def test_mean_variance_and_detection_are_numpys(spots):
    dense = spots.counts.toarray().astype(float)
    scaled = dense * 1e4 / spots.library_size[:, None]
    np.testing.assert_allclose(priors.mean(spots), dense.mean(0), rtol=1e-12)
    np.testing.assert_allclose(priors.mean(spots, normalise="cp10k"), scaled.mean(0), rtol=1e-12)
    expected = np.log1p(scaled).var(0, ddof=1)
    np.testing.assert_allclose(priors.variance(spots), np.where(expected > 0, expected, np.nan), rtol=1e-9)
    np.testing.assert_array_equal(priors.detection(spots), (dense > 0).mean(0))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_numbers_come_from_a_table(spots, tmp_path, suffix):
    table = pd.DataFrame({"score": [0.5, -1.0, 9.0], "other": [1, 2, 3]}, index=["G4", "G0", "ELSEWHERE"])
    table.to_csv(tmp_path / f"t{suffix}", sep="\t" if suffix == ".tsv" else ",")
    values = prior("file", spots, path=str(tmp_path / f"t{suffix}"), column="score")
    assert values[4] == 0.5
    assert values[0] == -1.0
    assert np.isnan(np.delete(values, [0, 4])).all()


def test_numbers_come_from_an_anndata_column(spots, tmp_path):
    import anndata

    var = pd.DataFrame({"dispersions_norm": [1.5, np.nan]}, index=["G1", "G2"])
    anndata.AnnData(np.ones((1, 2), dtype=np.float32), var=var).write_h5ad(tmp_path / "a.h5ad")
    values = priors.file(spots, path=str(tmp_path / "a.h5ad"))
    assert values[1] == 1.5
    assert np.isnan(np.delete(values, 1)).all()


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("gene,a,b\nG1,1,2\n", None, "Expected column=.*has the columns a, b"),
        ("gene,mean\nG1,1\n", "maen", "column 'maen'.*Did you mean 'mean'"),
        ("gene,a\nG1,high\n", "a", "numbers in column 'a'"),
        ("gene,a\nG1,1\nG1,2\n", "a", "each gene once.*G1 twice"),
        ("gene,a\nX1,1\n", "a", "found none of its 1 names"),
        ("", "a", "not readable as a table"),
    ],
)
def test_a_wrong_table_is_one_sentence(spots, tmp_path, text, column, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        priors.file(spots, path=str(tmp_path / "t.csv"), column=column)


def test_names_and_options_are_checked(spots):
    with pytest.raises(UserError, match=r"Unknown prior 'moren'.*Did you mean 'moran'"):
        prior("moren", spots)
    with pytest.raises(UserError, match=r"'moran' takes no argument 'neighbors'.*Did you mean 'neighbours'"):
        prior("moran", spots, neighbors=3)
    with pytest.raises(UserError, match="'file' needs path="):
        prior("file", spots)
    with pytest.raises(UserError, match="there is no such file"):
        prior("file", spots, path="nowhere.csv")


def test_a_prior_of_ones_own_in_a_file(spots, tmp_path):
    (tmp_path / "own.py").write_text(
        "import numpy as np\n"
        "def length(training, *, primary=None, by=1.0):\n"
        "    return by * np.array([len(gene) for gene in training.genes], dtype=float)\n"
        "def short(training, *, primary=None):\n"
        "    return np.ones(3)\n"
    )
    values = prior(f"{tmp_path}/own.py:length", spots, by=2.0)
    assert values[:2].tolist() == [4.0, 4.0]
    with pytest.raises(UserError, match=r"one number per gene, shape \(80,\), received shape \(3,\)"):
        prior(f"{tmp_path}/own.py:short", spots)


def test_infinite_values_are_undefined(spots, monkeypatch):
    monkeypatch.setattr(priors, "odd", lambda training, *, primary: np.full(80, np.inf), raising=False)
    monkeypatch.setitem(WHERE["prior"], "odd", "agl.genes.priors:odd")
    assert np.isnan(prior("odd", spots)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda training, *, primary: np.ones(3),
        lambda training, *, primary: np.ones(training.n_genes, dtype=np.float32),
        lambda training, *, primary: np.full(training.n_genes, np.inf),
        lambda training, *, primary: np.full(training.n_genes, np.nan),
        lambda training, *, primary: np.random.default_rng().random(training.n_genes),
        lambda training, *, primary: training.counts[0].toarray()[0].astype(float),  # depends on the first spot
    ],
)
def test_the_battery_catches_broken_priors(wrong):
    with pytest.raises(AssertionError, match="Expected"):
        check_prior(wrong)


def test_the_battery_catches_changed_counts():
    def vandal(training, *, primary):
        training.counts.data[:] += 1
        return np.arange(training.n_genes, dtype=float)

    with pytest.raises(AssertionError, match="untouched"):
        check_prior(vandal)


def test_the_example_has_what_it_says():
    training = example_training()
    assert (training.detection == 0).sum() == 2
    assert len(training.slide_rows) == 3
