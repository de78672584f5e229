"""What selectors chose, read from panels and histories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from agl.analysis.results import read_results
from agl.analysis.selection import (
    Selection,
    chance_jaccard,
    chosen_genes,
    jaccard,
    leading_prior,
    selections,
    stability,
    stability_words,
)  # fmt: skip
from agl.runs.files import write_json
from agl.runs.folder import find_runs


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_jaccard_is_sklearns(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs).T
    if (a | b).any():
        assert jaccard(a, b) == pytest.approx(jaccard_score(a, b))
    else:
        assert np.isnan(jaccard(a, b))


def test_chance_is_what_random_choices_share() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        a, b = np.zeros(60, bool), np.zeros(60, bool)
        a[rng.permutation(60)[:20]] = True
        b[rng.permutation(60)[:35]] = True
        found.append(jaccard(a, b))
    assert chance_jaccard(20, 35, 60) == pytest.approx(np.mean(found), abs=0.01)
    assert np.isnan(chance_jaccard(0, 0, 60))


def test_selections_of_run_folders(runs: Path) -> None:
    results = read_results(find_runs(runs))
    found, notes = selections(results, results.blocks[0])
    assert notes == []
    (learned,) = found
    assert learned.method == "listwise + dkgsb"
    assert learned.weights.shape == (30, 14)
    assert list(learned.priors.columns) == ["mean"]
    k = learned.chosen.sum()
    expected = [10 + fold + seed for fold in range(7) for seed in (0, 1)]
    assert list(k) == expected
    last = learned.histories.groupby("run").k.last()
    assert list(last) == expected
    table = chosen_genes(learned)
    assert set(table.gene[:10]) == {f"AUX{i}" for i in range(10)}
    assert (table.chosen_in.iloc[0], table.candidate_in.iloc[0]) == (14, 14)
    assert len(table) == 17  # AUX0 to AUX16


def test_stability_by_hand(runs: Path) -> None:
    results = read_results(find_runs(runs))
    learned = selections(results, results.blocks[0])[0][0]
    pairs = stability(learned)
    assert len(pairs) == 14 * 13 / 2
    assert pairs.between.value_counts().to_dict() == {"seeds": 7, "folds": 42, "both": 42}
    seeds = pairs[pairs.between == "seeds"]
    assert list(seeds.jaccard) == pytest.approx([(10 + f) / (11 + f) for f in range(7)])  # nested choices
    assert f"{seeds.jaccard.mean():.2f} between seeds of one fold" in stability_words(pairs)
    assert stability_words(pairs.head(0)) == "One run: nothing to compare its choice with."


def test_a_panel_of_other_weights_than_the_runs_last_is_told(runs: Path) -> None:
    run = next(run for run in find_runs(runs) if run.config.auxiliary.genes.name == "dkgsb")
    write_json(run.folder / "result.json", run.result | {"k": 99})
    results = read_results(find_runs(runs))
    (note,) = selections(results, results.blocks[0])[1]
    assert "in 1 of 14 runs panel.csv does not hold the weights that training ended with (k = 99, but 10" in note


def test_damaged_panels_and_histories_are_told(runs: Path) -> None:
    learned = [run.folder for run in find_runs(runs) if run.config.auxiliary.genes.name == "dkgsb"]
    (learned[0] / "history.jsonl").write_text('{"epoch": 1, "k"')
    (learned[1] / "panel.csv").unlink()
    results = read_results(find_runs(runs))
    found, notes = selections(results, results.blocks[0])
    assert len(found[0].runs) == 13
    assert any("history.jsonl is not readable" in note for note in notes)
    assert any("panel.csv is not readable" in note for note in notes)


def test_the_leading_prior_is_the_one_the_weights_follow() -> None:
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(50)]
    weights = pd.DataFrame({0: np.linspace(1, 0, 50)}, index=genes)
    priors = pd.DataFrame({"noise": rng.random(50), "used": np.linspace(3, 1, 50) ** 2}, index=genes)
    runs = pd.DataFrame({"fold": [0], "seed": [0]})
    selection = Selection("m", runs, pd.DataFrame(), weights, priors)
    assert leading_prior(selection) == "used"
    assert leading_prior(Selection("m", runs, pd.DataFrame(), weights, priors[["noise"]])) is None
    assert leading_prior(Selection("m", runs, pd.DataFrame(), weights * 0, priors)) is None
