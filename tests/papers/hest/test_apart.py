"""`agl hest --protocols` on a made folder, and the benchmark's own files, against scikit-learn and SciPy."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from agl.papers.hest.apart import MEAN, run_apart
from agl.papers.hest.folders import find_tasks
from agl.papers.hest.results import kfold_results, split_results


def read(base: Path, task: str, slides: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, log1p counts of the benchmark's genes, slides; stacked as the benchmark does."""
    folder = base / "bench" / task
    genes = json.loads((folder / "var_50genes.json").read_text())["genes"]
    xs, ys, names = [], [], []
    for slide in slides:
        with h5py.File(base / "embeddings" / task / "conch_v1" / f"{slide}.h5") as file:
            xs.append(file["embeddings"][:])
            barcodes = [b.decode() for b in file["barcodes"][:].ravel()]
        table = anndata.read_h5ad(folder / "adata" / f"{slide}.h5ad")
        ys.append(np.log1p(table[barcodes][:, genes].to_df().to_numpy(np.float64)))
        names += [slide] * len(barcodes)
    return np.concatenate(xs), np.concatenate(ys), np.array(names)


def folds(base: Path, task: str):
    for fold in range(len(list((base / "bench" / task / "splits").iterdir())) // 2):
        yield [
            read(base, task, pd.read_csv(base / "bench" / task / "splits" / f"{part}_{fold}.csv").sample_id.tolist())
            for part in ("train", "test")
        ]


def predicted(train: tuple, test: tuple, *, pca: bool) -> np.ndarray:
    x, new = train[0], test[0]
    if pca:
        pipe = make_pipeline(StandardScaler(), PCA(256, random_state=1))  # LSQR stops early: bits of its input matter
        x = pipe.fit_transform(x).astype(np.float32).astype(float)
        new = pipe.transform(new).astype(np.float32).astype(float)
    alpha = 100 / (x.shape[1] * train[1].shape[1])
    ridge = Ridge(alpha=alpha, solver="lsqr", fit_intercept=False, max_iter=1000, random_state=1)
    return ridge.fit(x, train[1]).predict(new)


@pytest.fixture(scope="module")
def apart(made, tmp_path_factory) -> tuple[Path, dict]:
    """READ under all protocols, ridge and forest."""
    tasks, _ = find_tasks(made / "bench", ["READ"], made / "embeddings")
    output = tmp_path_factory.mktemp("apart")
    return output, run_apart(
        tasks, ["conch_v1"], ["ridge", "forest"], ["reduction", "penalty", "correlation", "spots"], output
    )


def score(found, method: str, **protocol: str) -> pd.Series:
    table = found["READ"].scores
    here = table[(table.method == method) & np.logical_and.reduce([table[k] == v for k, v in protocol.items()])]
    assert len(here) == 1
    return here.iloc[0]


@pytest.mark.parametrize("reduction", ["PCA", "none"])
@pytest.mark.parametrize("spots", ["pooled", "per slide"])
@pytest.mark.parametrize("correlation", ["Pearson", "Spearman"])
def test_the_ridges_protocols_against_scipy(apart, made, reduction, spots, correlation) -> None:
    r, values = {"Pearson": pearsonr, "Spearman": spearmanr}[correlation], []
    for train, test in folds(made, "READ"):
        scores, truth = predicted(train, test, pca=reduction == "PCA"), test[1]
        groups = [test[2] == slide for slide in np.unique(test[2])] if spots == "per slide" else [test[2] != ""]
        values.append(np.mean([[r(scores[k, g], truth[k, g])[0] for g in range(50)] for k in groups]))
    row = score(apart[1], "conch_v1, ridge", reduction=reduction, penalty="formula", spots=spots,
                correlation=correlation)  # fmt: skip
    assert row.score == pytest.approx(np.mean(values), abs=1e-5)
    assert row.sd == pytest.approx(np.std(values), abs=1e-5)


def test_a_forest_is_in_every_order_and_a_penalty_does_not_move_it(apart) -> None:
    found = apart[1]["READ"]
    assert len(found.scores) == 2 * 2**4
    forest = found.scores[found.scores.method == "conch_v1, forest"]
    same = forest.pivot(index=["reduction", "correlation", "spots"], columns="penalty", values="score")
    assert (same.formula == same.chosen).all()
    assert (forest.applies == (forest.penalty == "formula")).all()
    rows = found.moves.set_index("choice")
    at = {"reduction": "PCA", "correlation": "Pearson", "spots": "pooled"}
    ridge = [score(apart[1], "conch_v1, ridge", penalty=penalty, **at).score for penalty in ("formula", "chosen")]
    assert rows.loc["penalty", "mean"] == pytest.approx(ridge[1] - ridge[0])
    assert rows.loc["reduction", "mean"] != rows.loc["reduction", "lowest"]
    assert set(found.scores["rank"]) == {1, 2}


def test_the_benchmarks_files_have_its_keys_and_numbers(apart, made) -> None:
    folder = apart[0] / "results" / "ridge-pca-formula" / "READ" / "conch_v1"
    kfold = json.loads((folder / "results_kfold.json").read_text())
    assert list(kfold) == ["mean_per_split", "pearson_corrs", "pearson_mean", "pearson_std"]
    by_gene: dict[str, list[float]] = {}
    for fold, (train, test) in enumerate(folds(made, "READ")):
        scores, truth = predicted(train, test, pca=True), test[1]
        split = json.loads((folder / f"split{fold}" / "results.json").read_text())
        assert set(split) == {"l2_errors", "r2_scores", "pearson_corrs", "pearson_mean", "pearson_std"} | {
            f"{name}_q{i}" for name in ("l2_error", "r2_score") for i in (1, 2, 3)
        }
        errors = mean_squared_error(truth, scores, multioutput="raw_values")
        r2 = r2_score(truth, scores, multioutput="raw_values")
        np.testing.assert_allclose(split["l2_errors"], errors, rtol=1e-5)
        np.testing.assert_allclose(split["r2_scores"], r2, rtol=1e-5)
        assert split["l2_error_q2"] == pytest.approx(np.median(errors), rel=1e-5)
        assert split["r2_score_q1"] == pytest.approx(np.quantile(r2, 0.25), rel=1e-5)
        r = [pearsonr(truth[:, g], scores[:, g])[0] for g in range(50)]
        assert split["pearson_mean"] == pytest.approx(np.mean(r), abs=1e-6)
        assert split["pearson_std"] == pytest.approx(np.std(r), abs=1e-6)
        assert kfold["mean_per_split"][fold] == split["pearson_mean"]
        for entry, value in zip(split["pearson_corrs"], r, strict=True):
            by_gene.setdefault(entry["name"], []).append(value)
    assert kfold["pearson_mean"] == pytest.approx(np.mean(kfold["mean_per_split"]))
    assert kfold["pearson_std"] == pytest.approx(np.std(kfold["mean_per_split"]))
    means = [entry["mean"] for entry in kfold["pearson_corrs"]]
    assert means == sorted(means, reverse=True)
    for entry in kfold["pearson_corrs"]:
        np.testing.assert_allclose(entry["pearson_corrs"], by_gene[entry["name"]], atol=1e-6)
        assert entry["std"] == pytest.approx(np.std(by_gene[entry["name"]]), abs=1e-6)


def test_a_gene_without_a_correlation_is_null_and_last() -> None:
    counts = np.array([[1, 3, 0], [1, 1, 2], [1, 0, 5]])
    splits = [split_results(np.log1p(counts[:, ::1]) * sign, counts, ["flat", "b", "c"]) for sign in (1.0, -1.0)]
    assert np.isnan(splits[0]["pearson_mean"])
    assert np.isnan(splits[0]["r2_scores"][0])
    found = kfold_results([{**split, "pearson_mean": 0.0} for split in splits])
    assert [entry["name"] for entry in found["pearson_corrs"]] == ["b", "c", "flat"]
    assert found["pearson_corrs"][0]["std"] == pytest.approx(1.0)


def test_the_command_line(agl, made, tmp_path) -> None:
    """Two tasks, their mean, the table's files; the ridge's runs alone."""
    words = ["hest", made / "bench", "--embeddings", made / "embeddings", "--output", tmp_path / "runs"]
    words += ["--encoder", "conch_v1", "--regressor", "ridge", "--protocols", "spots,folds"]
    code, out, err = agl(*words, "--out", tmp_path / "table")
    assert code == 0, err
    assert [line for line in out.splitlines() if line.startswith("### ")] == ["### IDC", "### READ", f"### {MEAN}"]
    assert out.count("| choice | change |") == 3
    assert (tmp_path / "table.md").read_text().strip() == out.strip()
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 3 * 4
    means = table.pivot_table(index=["method", "spots", "folds"], columns="task", values="score")
    np.testing.assert_allclose(means[MEAN], (means.IDC + means.READ) / 2, atol=2e-6)
    code, out, _ = agl(*words, "--json")
    content = json.loads(out)
    assert code == 0
    assert [entry["task"] for entry in content] == ["IDC", "READ", MEAN]
    assert [row["choice"] for row in content[0]["moves"]] == ["spots", "folds"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protocols", "penlty"], "Did you mean 'penalty'"),
        (["--protocols", "all", "--protocol", "hest"], "received both"),
        (["--regressor", "ridge"], "Add --protocols all"),
        (["--protocols", "all", "--regressor", "lasso"], "Expected a regressor among"),
        (["--protocols", "all", "model.penalty=chosen"], "Expected no 'model.penalty=chosen'"),
        (["--protocols", "all", "--encoder", "builtin"], "Expected something to fit, found nothing"),
    ],
)
def test_mistakes_are_one_sentence(agl, made, tmp_path, words, said) -> None:
    given = ["--embeddings", made / "embeddings", "--output", tmp_path]
    code, _, err = agl("hest", made / "bench", *given, *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
