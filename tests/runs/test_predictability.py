"""How predictable the genes were before anything was trained: in every run, its tables and its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agl.analysis.results import gene_predictability, read_results
from agl.analysis.tables import methods_frame, runs_frame
from agl.data.dataset import open_dataset
from agl.runs.folder import Run, find_runs
from agl.scoring import POOLED

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(agl: Cli, sections: Path) -> Run:
    status, _, err = agl("train", f"data.root={sections}", "data.features=latent", "model=ridge", "fold=0",
                         "data.context=[]")  # fmt: skip
    assert status == 0, err
    return find_runs("runs")[0]


def test_it_is_morans_over_look_alikes_among_training_spots(run: Run, sections: Path) -> None:
    """By loops, from the files: ten nearest spots of other slides in features, never of the test slide."""
    data = open_dataset(sections, features="latent")
    test = run.whole_provenance["split"]["slides"]["test"]
    keep = ~np.isin(np.asarray(data.slide_names)[data.slide_codes], test)
    spots = np.flatnonzero(keep)
    slides = np.asarray(data.slide_codes)[spots]

    def scaled(values: np.ndarray) -> np.ndarray:
        parts = [(v - v.mean(0)) / np.where(v.std(0) > 0, v.std(0), 1) for v in
                 (values[slides == code] for code in np.unique(slides))]  # fmt: skip
        return np.concatenate(parts)

    features = scaled(np.asarray(data.features[spots], dtype=float))
    rows = pd.read_csv(run.folder / "per_gene.csv")
    known = rows[rows.slide != POOLED].drop_duplicates("gene").set_index("gene").predictability
    genes = list(known.index[:3])
    counts = data.dense_counts(spots, [data.genes.index(gene) for gene in genes])
    z = scaled(np.log1p(1e4 * counts / np.asarray(data.library_size)[spots][:, None]))
    total = np.zeros(3)
    for i in range(len(spots)):
        distance = np.where(slides == slides[i], np.inf, ((features - features[i]) ** 2).sum(1))
        total += z[i] * z[np.argsort(distance, kind="stable")[:10]].mean(0)
    np.testing.assert_allclose(known[genes], total / (z**2).sum(0), atol=1e-6)
    assert rows[rows.slide == POOLED].predictability.isna().all()
    assert run.result["predictability"] == pytest.approx(known.mean())


def test_tables_and_the_report_show_it(run: Run, agl: Cli) -> None:
    found = gene_predictability(read_results([run]).cells, read_results([run]).frame.method[0])
    assert list(found) == ["scc", "predictability"]
    assert found.predictability.mean() == pytest.approx(run.result["predictability"], abs=0.02)
    status, out, _ = agl("table", "runs", "--columns", "predictability,ceiling")
    assert status == 0
    assert "predictability" in out
    assert f"{run.result['predictability']:.3f}" in out
    status, _, err = agl("table", "runs", "--columns", "predictable")
    assert status == 2
    assert "Did you mean 'predictability'" in err
    status, _, err = agl("report", "runs", "--section", "genes")
    assert status == 0, err
    assert "Could it be foreseen?" in Path("runs/report/report.html").read_text()


def test_it_comes_again_and_older_runs_do_without(run: Run, agl: Cli) -> None:
    table = run.folder / "per_gene.csv"
    pd.read_csv(table).drop(columns="predictability").to_csv(table, index=False)
    result = json.loads((run.folder / "result.json").read_text())
    del result["predictability"]
    (run.folder / "result.json").write_text(json.dumps(result))
    assert methods_frame(runs_frame([run])).predictability.isna().all()
    assert gene_predictability(read_results([run]).cells, "ridge").empty
    status, out, _ = agl("table", "runs", "--columns", "predictability")
    assert (status, "predictability" in out) == (0, True)
