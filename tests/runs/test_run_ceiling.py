"""The noise ceiling of a run: beside every score, seeded, and missing without harm in older runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import strank
from agl.analysis.results import gene_reach, read_results
from agl.analysis.tables import OF_REACHABLE, markdown, methods_frame, runs_frame
from agl.runs.folder import Run, find_runs
from agl.scoring import POOLED, gene_table, summary

RNG = np.random.default_rng(3)
RATE = np.exp(RNG.normal(size=(300, 3)))
COUNTS = torch.from_numpy(RNG.poisson(RATE * [0.2, 2.0, 40.0]).astype(np.float32))
LIBRARY = np.full(300, 20_000)
SLIDES = np.repeat(["a", "b"], 150)


def table(scores: torch.Tensor, seed: int = 0) -> pd.DataFrame:
    return gene_table(scores, COUNTS, LIBRARY, SLIDES, ["rare", "some", "many"], seed=seed)


def test_the_truth_itself_scores_the_ceiling() -> None:
    """The scores are the rates the counts were drawn from: what they reach is what the ceiling has to say."""
    found = table(torch.from_numpy(RATE))
    each = found[found.slide != POOLED].groupby("gene")[["scc", "ceiling"]].mean()
    assert each.ceiling["rare"] < each.ceiling["some"] < each.ceiling["many"]
    assert np.abs(each.scc - each.ceiling).max() < 0.12  # .04 to .11 too high for genes as rare and variable as these
    assert summary(found)["share"] == pytest.approx(1.0, abs=0.1)


def test_it_is_stranks_of_this_seed_slide_by_slide() -> None:
    found = table(torch.from_numpy(RATE), seed=5)
    here = SLIDES == "b"
    alone = strank.ceiling(COUNTS, torch.from_numpy(LIBRARY), slides=torch.from_numpy(here.astype(int)), seed=5)
    both = found[found.slide != POOLED].groupby("gene", sort=False).ceiling.mean()
    np.testing.assert_allclose(both, alone, atol=1e-12)
    assert found[found.slide == POOLED].ceiling.isna().all()
    assert not np.allclose(both, table(torch.from_numpy(RATE), seed=6).groupby("gene", sort=False).ceiling.mean())


def test_the_share_is_of_the_pairs_that_have_both() -> None:
    frame = pd.DataFrame(
        {
            "slide": ["a", "a", "b", POOLED], "gene": ["x", "y", "x", "x"], "scc": [0.2, 0.4, 0.1, 0.9],
            "pcc": 0.0, "constant": 0, "pcc_log1p": np.nan, "ceiling": [0.5, np.nan, 0.7, np.nan],
        }
    )  # fmt: skip
    numbers = summary(frame)
    assert numbers["ceiling"] == pytest.approx((0.5 + 0.7) / 2)
    assert numbers["share"] == pytest.approx((0.2 + 0.1) / (0.5 + 0.7))


def test_a_run_has_it_and_evaluates_to_it(agl: Callable[..., tuple[int, str, str]], sections: Path) -> None:
    status, out, err = agl("train", f"data.root={sections}", "data.features=latent", "model=ridge", "fold=0", "seed=4")
    assert status == 0, err
    assert OF_REACHABLE in out
    (run,) = find_runs("runs")
    rows = pd.read_csv(run.folder / "per_gene.csv")
    assert rows[rows.slide != POOLED].ceiling.between(0, 1).sum() > 40
    assert run.result["share"] == pytest.approx(run.result["scc"] / run.result["ceiling"], rel=0.1)
    status, out, _ = agl("evaluate", run.folder, "--json")
    again = json.loads(out)
    assert (again["ceiling"], again["share"]) == (run.result["ceiling"], run.result["share"])


def test_runs_of_before_load_without(agl: Callable[..., tuple[int, str, str]], sections: Path) -> None:
    for seed in (0, 1):
        agl("train", f"data.root={sections}", "data.features=latent", "model=ridge", "fold=0", f"seed={seed}")
    old, new = find_runs("runs")
    _forget(old)
    frame = runs_frame([old, new])
    assert frame.share.isna().tolist() == [True, False]
    assert methods_frame(frame).share.notna().all()
    results = read_results([old, new])
    assert results.notes == []
    assert results.cells.ceiling.isna().mean() > 0.49
    assert len(gene_reach(results.cells, results.frame.method[0])) > 40
    _forget(new)
    assert OF_REACHABLE not in markdown(methods_frame(runs_frame([old, new])))
    status, _, err = agl("report", "runs")
    assert status == 0, err
    assert "How far from the ceiling" not in Path("runs/report/report.html").read_text()


def _forget(run: Run) -> None:
    """A run as it was before ceilings were recorded."""
    pd.read_csv(run.folder / "per_gene.csv").drop(columns="ceiling").to_csv(run.folder / "per_gene.csv", index=False)
    result = {key: value for key, value in run.result.items() if key not in ("ceiling", "share")}
    (run.folder / "result.json").write_text(json.dumps(result))
