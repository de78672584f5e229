"""HEST-bench number for number, against a short scikit-learn and SciPy version written here."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.stats import pearsonr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from agl.errors import UserError
from agl.papers.hest.panel import hest_gene_panel
from agl.papers.hest.ridge import HestRawRidge, HestRidge, hest_score

HER2ST = Path(os.environ.get("AGL_HER2ST", Path(__file__).parents[2] / ".." / "shared" / "data" / "her2st"))
needs_data = pytest.mark.skipif(not HER2ST.is_dir(), reason="real sections not found: set AGL_HER2ST to their folder")


def task(n: int, width: int, genes: int, dtype: type, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of unequal scales, and counts that follow some of them."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 20))
    mixing, loading = (
        np.random.default_rng(99).normal(size=(20, width)),
        np.random.default_rng(98).normal(size=(20, genes)),
    )
    features = (hidden @ mixing + rng.normal(size=(n, width))) * np.geomspace(0.1, 10, width)
    return features.astype(dtype), rng.poisson(np.exp(0.25 * hidden @ loading + 1))


def witness(train: tuple, test: tuple, dimreduce: bool) -> tuple[np.ndarray, list[float]]:
    """The benchmark's steps, as tensors go through it."""
    (x_train, c_train), (x_test, c_test) = train, test
    y_train, y_test = np.log1p(c_train.astype(np.float64)), np.log1p(c_test.astype(np.float64))
    if dimreduce:
        pipe = Pipeline([("scaler", StandardScaler()), ("PCA", PCA(n_components=256, random_state=1))])
        x_train, x_test = torch.Tensor(pipe.fit_transform(x_train)), torch.Tensor(pipe.transform(x_test))
    alpha = 100 / (x_train.shape[1] * y_train.shape[1])
    ridge = SklearnRidge(solver="lsqr", alpha=alpha, random_state=1, fit_intercept=False, max_iter=1000)
    ridge.fit(x_train, y_train)
    predicted = ridge.predict(x_test)
    return predicted, [pearsonr(y_test[:, g], predicted[:, g])[0] for g in range(y_test.shape[1])]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("dimreduce", [True, False], ids=["hest-pca256", "hest-raw"])
@pytest.mark.parametrize("width", [260, 400])
def test_number_for_number(dtype: type, dimreduce: bool, width: int) -> None:
    train, test = task(500, width, 5, dtype, 0), task(150, width, 5, dtype, 1)
    expected, correlations = witness(train, test, dimreduce)
    baseline = HestRidge() if dimreduce else HestRawRidge()
    fitted = baseline.fit(train[0], sparse.csr_matrix(train[1]), np.ones(500), np.zeros(500), seed=7)
    found = fitted.predict(test[0])
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)
    score = hest_score([(found, test[1])])
    np.testing.assert_allclose(score.per_gene[0], correlations, atol=1e-14)
    assert score.mean == pytest.approx(np.mean(correlations), abs=1e-14)


def test_the_rounding_to_float32_is_part_of_the_number() -> None:
    train, test = task(500, 260, 5, np.float32, 0), task(150, 260, 5, np.float32, 1)
    scaler = StandardScaler().fit(train[0])
    pca = PCA(256, random_state=1).fit(scaler.transform(train[0]))
    inputs = pca.transform(scaler.transform(train[0])).astype(np.float32)
    ridge = SklearnRidge(solver="lsqr", alpha=100 / 1280, fit_intercept=False, max_iter=1000, random_state=1)
    in_float32 = ridge.fit(inputs, np.log1p(train[1])).predict(pca.transform(scaler.transform(test[0])))
    ours = HestRidge().fit(*train, np.ones(500), np.zeros(500)).predict(test[0])
    assert np.abs(in_float32 - ours).max() > 1e-7  # a float32 solver is another number


def test_details_name_the_protocol() -> None:
    x, counts = task(300, 260, 2, np.float32, 0)
    details = HestRidge().fit(x, counts, np.ones(300), np.zeros(300)).details
    assert details["alpha"] == 100 / 512
    assert details["components"] == 256
    assert details["pca_solver"] in ("full", "covariance_eigh", "randomized")
    assert HestRawRidge().fit(x, counts, np.ones(300), np.zeros(300)).details["alpha"] == 100 / 520


@pytest.mark.parametrize(("n", "width"), [(255, 300), (300, 100)])
def test_too_small_for_256_components(n: int, width: int) -> None:
    x, counts = task(n, width, 2, np.float32, 0)
    with pytest.raises(UserError, match=f"received {n} spots with {width} features.*components=largest"):
        HestRidge().fit(x, counts, np.ones(n), np.zeros(n))
    assert HestRidge(components="largest").fit(x, counts, np.ones(n), np.zeros(n)).details["components"] == min(
        n, width
    )


def test_bad_input() -> None:
    x, counts = task(300, 260, 2, np.float32, 0)
    with pytest.raises(UserError, match="received 'most'"):
        HestRidge(components="most")
    with pytest.raises(UserError, match="received 0"):
        HestRidge(components=0)
    with pytest.raises(UserError, match=r"one row of counts a spot \(300\), received 299"):
        HestRidge().fit(x, counts[1:], np.ones(300), np.zeros(300))
    fitted = HestRidge().fit(x, counts, np.ones(300), np.zeros(300))
    with pytest.raises(UserError, match=r"\[spot, 260\] as in training, received \[300, 259\]"):
        fitted.predict(x[:, 1:])
    assert fitted.predict(x[:0]).shape == (0, 2)
    x[3, 7] = np.nan
    with pytest.raises(UserError, match="found nan at training spot 3, feature 7"):
        HestRawRidge().fit(x, counts, np.ones(300), np.zeros(300))
    with pytest.raises(UserError, match="at least one fold"):
        hest_score([])


def test_score_over_folds_by_hand() -> None:
    up, down = np.array([[0.0], [1.0], [2.0]]), np.array([[2.0], [1.0], [0.0]])
    counts = np.expm1(up)
    score = hest_score([(up, counts), (up, counts), (down, counts), (up, counts)])
    assert score.mean == pytest.approx(0.5)
    assert score.sd == pytest.approx(np.sqrt(0.75))  # divisor 4, not 3
    constant = hest_score([(np.hstack([up, up]), np.hstack([counts, np.ones((3, 1))]))])
    assert np.isnan(constant.mean)  # one constant gene, as in the benchmark
    assert (constant.mean_defined, constant.undefined) == (pytest.approx(1.0), 1)


# ---- the gene panel


def scanpy_panel(samples: list[tuple[sparse.csr_matrix, list[str]]], k: int) -> list[str]:
    """The rule through scanpy and AnnData."""
    anndata, scanpy = pytest.importorskip("anndata"), pytest.importorskip("scanpy")
    frames = [pd.DataFrame(counts.toarray(), columns=genes) for counts, genes in samples]
    common = None
    for frame in frames:
        often = frame.columns[(frame > 0).sum(0) >= np.ceil(0.10 * len(frame))]
        common = np.array(often) if common is None else np.intersect1d(common, often)
    keep = [gene for gene in common if "BLANK" not in gene and "Control" not in gene]
    stacked = anndata.AnnData(pd.concat([frame[keep] for frame in frames], ignore_index=True).astype(np.float32))
    scanpy.pp.log1p(stacked)
    scanpy.pp.highly_variable_genes(stacked, n_top_genes=k)
    return stacked.var_names[stacked.var["highly_variable"]][:k].tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_samples", [1, 3])
def test_panel_equals_scanpy(seed: int, n_samples: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"G{i}" for i in range(300)] + ["BLANK_1", "ControlProbe"]
    rate, size = rng.gamma(0.8, 2.0, len(names)), rng.gamma(2.0, 1.0, len(names)) + 0.2
    samples = []
    for _ in range(n_samples):
        order = rng.permutation(len(names))[: 280 if n_samples > 1 else len(names)]
        counts = rng.negative_binomial(size[order], size[order] / (size[order] + rate[order]), (60, len(order)))
        samples.append((sparse.csr_matrix(counts), [names[i] for i in order]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = scanpy_panel(samples, 50)
    assert hest_gene_panel(samples) == expected


@needs_data
def test_panel_of_the_real_sections() -> None:
    anndata = pytest.importorskip("anndata")
    sections = [anndata.read_h5ad(path) for path in sorted((HER2ST / "adata").glob("*.h5ad"))]
    samples = [(sparse.csr_matrix(section.X), list(section.var_names)) for section in sections]
    assert hest_gene_panel(samples) == json.loads((HER2ST / "var_50genes.json").read_text())["genes"]


def test_panel_refuses_what_it_cannot_rank() -> None:
    counts = sparse.csr_matrix(np.array([[0, 5], [9, 5], [1, 5]]))
    with pytest.raises(UserError, match="at least one sample"):
        hest_gene_panel([])
    with pytest.raises(UserError, match=r"one name a gene \(2\), received 1"):
        hest_gene_panel([(counts, ["A"])])
    with pytest.raises(UserError, match="found 'A' twice"):
        hest_gene_panel([(counts, ["A", "A"])])
    with pytest.raises(UserError, match="of every sample, found none"):
        hest_gene_panel([(counts, ["A", "B"]), (counts, ["C", "D"])])
    with pytest.raises(UserError, match="genes that vary, found none among 1"):
        hest_gene_panel([(counts[:, 1], ["B"])])
