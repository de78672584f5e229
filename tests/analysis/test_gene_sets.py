"""Gene sets: the score of a mean against SciPy and by hand, and files that are no gene sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr, zscore

from agl.analysis.gene_sets import runs_set_scores, set_scores
from agl.analysis.results import Predictions, read_predictions
from agl.errors import UserError
from agl.genes.gmt import read_gmt
from agl.runs.folder import find_runs
from agl.testing.runs import ExampleSlides, write_run

GENES = ["g0", "g1", "g2", "g3", "g4"]


def predictions(seed: int = 0) -> Predictions:
    """Two slides; g3 has no count on slide B, g4's score does not vary."""
    rng = np.random.default_rng(seed)
    slide = np.repeat(["A", "B"], [40, 30])
    counts = rng.poisson(3.0, size=(70, 5)) * np.array([1, 1, 5, 1, 1])
    counts[40:, 3] = 0
    scores = np.log1p(counts) + rng.normal(size=(70, 5)) * np.array([1, 1, 9, 1, 1])
    scores[:, 4] = 2.5
    library_size = counts.sum(1) + rng.integers(5, 30, 70)
    counts[2], library_size[2] = 0, 0
    names = np.array([str(i) for i in range(70)])
    return Predictions(scores.astype(np.float32), counts, library_size, GENES, slide, names, np.zeros(70), np.zeros(70))


def witness(found: Predictions, slide: str, columns: list[int], scored: list[int]) -> tuple[float, float, float]:
    keep = (found.slide == slide) & (found.library_size > 0)
    truth = np.log1p(1e4 * found.counts[keep] / found.library_size[keep][:, None])
    scores = found.scores[keep].astype(float)
    means = zscore(truth[:, columns]).mean(1), zscore(scores[:, scored]).sum(1) / len(columns)
    genes = [spearmanr(scores[:, g], truth[:, g])[0] if g in scored else 0.0 for g in columns]
    return spearmanr(*means)[0], pearsonr(*means)[0], float(np.mean(genes))


def test_the_mean_of_a_set_against_scipy() -> None:
    found = predictions()
    table = set_scores(found, {"X": ["g0", "g2", "g3", "absent"], "Y": ["g1", "g4"], "Z": ["g3", "g0"], "W": ["g1"]})
    rows = {(row.slide, row.set): row for row in table.itertuples()}
    assert list(rows) == [("A", "X"), ("A", "Y"), ("A", "Z"), ("B", "X"), ("B", "Y")]  # Z has one gene left on B
    for key, columns, scored in (
        (("A", "X"), [0, 2, 3], [0, 2, 3]),
        (("B", "X"), [0, 2], [0, 2]),
        (("A", "Y"), [1, 4], [1]),
        (("A", "Z"), [0, 3], [0, 3]),
    ):
        scc, pcc, genes = witness(found, key[0], columns, scored)
        assert rows[key].scc == pytest.approx(scc, abs=1e-6)
        assert rows[key].pcc == pytest.approx(pcc, abs=1e-6)
        assert rows[key].genes_scc == pytest.approx(genes, abs=1e-6)
        assert rows[key].genes == len(columns)


def test_a_mean_is_ranked_better_than_its_noisy_genes() -> None:
    """Twenty genes of one pattern, each with its own noise: averaging takes it out."""
    rng = np.random.default_rng(1)
    pattern = rng.normal(size=(300, 1))
    counts = rng.poisson(np.exp(0.5 * pattern + 0.5), size=(300, 20))
    scores = (pattern + 3 * rng.normal(size=(300, 20))).astype(np.float32)
    names, library_size = [f"h{i}" for i in range(20)], np.full(300, 1000)
    places = np.array([str(i) for i in range(300)])
    zero = np.zeros(300)
    found = Predictions(scores, counts, library_size, names, np.full(300, "A"), places, zero, zero)
    [row] = set_scores(found, {"all": names}).itertuples()
    assert row.scc > 2 * row.genes_scc > 0.1


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    base, world = tmp_path_factory.mktemp("runs"), ExampleSlides({"p": ["a1", "a2"], "q": ["b1"], "r": ["c1"]})
    for fold in range(3):
        for loss, noise in (("mse", 1.5), ("listwise", 0.5)):
            write_run(base, world, f"loss={loss}", fold=fold, noise=noise)
    return base


@pytest.fixture
def gmt(tmp_path) -> Path:
    file = tmp_path / "sets.gmt"
    file.write_text("FIRST\tnone\tGENE0\tGENE1\tELSE\tGENE1\n\nLAST\t\tGENE9\tGENE10\t\nOTHER\tx\tELSE\tMORE\n")
    return file


def test_runs_are_averaged_over_slides_then_folds(root, gmt) -> None:
    sets = read_gmt(gmt)
    assert sets == {"FIRST": ("GENE0", "GENE1", "ELSE"), "LAST": ("GENE9", "GENE10"), "OTHER": ("ELSE", "MORE")}
    found = runs_set_scores(find_runs(root), sets)
    assert sorted(map(tuple, found[["method", "set"]].values)) == [
        (m, s) for m in ("listwise", "mse") for s in ("FIRST", "LAST")
    ]
    runs = [run for run in find_runs(root) if run.config.loss.name == "mse"]
    each = [set_scores(read_predictions(run.folder), sets) for run in runs]
    expected = np.mean([table[table.set == "FIRST"].scc.mean() for table in each])
    [row] = found[(found.method == "mse") & (found.set == "FIRST")].itertuples()
    assert row.scc == pytest.approx(expected)
    assert (row.members, row.size) == ("GENE0, GENE1", 3)


def test_the_commands(agl, root, gmt, tmp_path) -> None:
    code, out, err = agl("table", root, "--gene-sets", gmt)
    assert code == 0, err
    assert "2 of 3" in out
    assert "SCC of the set's mean (mean SCC of its genes)" in out
    assert "1 of 3 sets have fewer than two of these genes" in out
    code, out, _ = agl("table", root, "--gene-sets", gmt, "--json")
    assert {row["set"] for row in json.loads(out)["gene_sets"]} == {"FIRST", "LAST"}
    code, out, err = agl("report", root, "--gene-sets", gmt, "--out", tmp_path / "report", "--section", "genes")
    assert code == 0, err
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Gene sets" in page
    assert "GENE0, GENE1" in page
    assert list((tmp_path / "report" / "tables").glob("gene-sets*.csv"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "found none. Give one line a set"),
        (b"\n \n", "found none. Give one line a set"),
        (b"NAME GENE1 GENE2\n", "in line 1 of"),
        (b"A\tx\tG1\nB\tx\n", "in line 2 of"),
        (b"A\tx\t\t \n", "found no genes"),
        (b"\tx\tG1\n", "found no name"),
        (b"A\tx\tG1\nA\tx\tG2\n", "found 'A' again in line 2"),
        (b"\xff\xfe\x00A", "Expected text in UTF-8"),
        (b"A\tx\tG1\tG2\n", "Expected a set with at least 2 of the primary genes, found none in 1 sets"),
    ],
)
def test_bad_files_are_one_sentence(agl, root, tmp_path, content, said) -> None:
    file = tmp_path / "bad.gmt"
    file.write_bytes(content)
    code, _, err = agl("table", root, "--gene-sets", file)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_no_file_and_a_folder(tmp_path) -> None:
    for path in (tmp_path / "no.gmt", tmp_path):
        with pytest.raises(UserError, match="Expected a GMT file of gene sets"):
            read_gmt(path)
