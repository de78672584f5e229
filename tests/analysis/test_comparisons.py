"""Pairing, units and intervals on real run folders, against slow references."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from agl.analysis.comparisons import compare
from agl.analysis.methods import reference
from agl.analysis.results import difference_matrix, gene_abundance, gene_means, read_predictions, read_results
from agl.runs.folder import Run, find_runs

Make = Callable[..., Path]


def slow_difference(folders: dict[str, dict[int, list[Path]]], slides: list[str]) -> dict[str, float]:
    """slide -> mean over genes of mean over seeds of paired differences, read from the files with plain loops."""
    found = {}
    for slide in slides:
        genes: dict[str, list[float]] = {}
        for mine, theirs in zip(folders["mine"].values(), folders["theirs"].values(), strict=True):
            for a, b in zip(mine, theirs, strict=True):
                left, right = (pd.read_csv(folder / "per_gene.csv") for folder in (a, b))
                for _, row in left[left.slide == slide].iterrows():
                    other = right[(right.slide == slide) & (right.gene == row.gene)].scc.iloc[0]
                    if np.isfinite(row.scc) and np.isfinite(other):
                        genes.setdefault(row.gene, []).append(row.scc - other)
        if genes:
            found[slide] = float(np.mean([np.mean(values) for values in genes.values()]))
    return found


def test_differences_follow_the_slow_reference(make_run: Make, world, tmp_path: Path) -> None:
    folders: dict[str, dict[int, list[Path]]] = {"mine": {}, "theirs": {}}
    for fold in range(3):
        folders["mine"][fold] = [make_run(tmp_path, world, "loss=mse", fold=fold, seed=s, noise=0.7) for s in (0, 1)]
        folders["theirs"][fold] = [make_run(tmp_path, world, "loss=pearson", fold=fold, seed=s) for s in (0, 1)]
    results = read_results(find_runs(tmp_path))
    block = results.blocks[0]
    found = compare(results, block, reference(results.frame, "pearson"))
    by_slide = slow_difference(folders, ["S0", "S1", "S2", "S3"])
    by_patient = [np.mean([by_slide["S0"], by_slide["S1"]]), by_slide["S2"], by_slide["S3"]]
    row = found.table.iloc[0]
    assert row.difference == pytest.approx(np.mean(by_patient))
    assert list(found.units.difference) == pytest.approx(by_patient)
    assert (row.n, row.slides, row.genes, row.seeds) == (3, 4, 12, "paired by seed (2)")
    assert row.verdict == "n too small: 3 units cannot reach p < 0.05"
    assert np.isnan([row.p, row.p_holm, row.p_alike]).all()
    student = stats.ttest_1samp(by_patient, 0).confidence_interval()
    assert [row.units_low, row.units_high] == pytest.approx(list(student))
    assert row.seed_sd > 0
    assert "every patient has trainings of its own" in found.seed_words
    slides = compare(results, block, reference(results.frame, "pearson"), unit="slide")
    assert slides.table.difference[0] == pytest.approx(np.mean(list(by_slide.values())))
    assert slides.table.n[0] == 4
    assert slides.table.verdict[0] == "no claim: slides of one patient are no repetitions"
    assert np.isnan([slides.table.p[0], slides.table.units_low[0]]).all()


def test_seven_patients_are_tested_and_corrected(runs: Path) -> None:
    results = read_results(find_runs(runs))
    found = compare(results, results.blocks[0], reference(results.frame, "listwise"))
    table = found.table.set_index("method")
    for method in table.index:
        differences = found.units[found.units.method == method].difference
        assert table.p[method] == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)
    learned = table.loc["listwise + dkgsb"]
    assert learned.p == pytest.approx(2 / 2**7)
    assert learned.p_holm == pytest.approx(4 / 2**7)
    assert learned.verdict == "better"
    assert learned.seeds == "means over 2 and 1 seeds"
    assert learned.units_low < learned.difference < learned.units_high
    assert learned.detectable < learned.difference
    assert found.seed_words.startswith("With one seed: where networks are trained, another seed alone moves such a")
    assert "from 1 method here with several seeds" in found.seed_words
    assert table.verdict["mse"] == "no difference shown"


def test_one_training_for_several_patients_needs_several_seeds(make_run: Make, tmp_path: Path) -> None:
    """Seven patients in one fold: the signed rank alone would claim; a second seed brings in the seeds' variance."""
    from agl.testing.runs import ExampleSlides

    world = ExampleSlides({"all": [f"S{i + 1}" for i in range(7)], "train": ["S9"]})

    def compared(seeds: tuple[int, ...]):
        for seed in seeds:
            for words, noise in (("loss=mse", 0.4), ("loss=pearson", 0.9)):
                folder = make_run(tmp_path / str(len(seeds)), world, words, fold=0, seed=seed, noise=noise)
                file = folder / "provenance.json"
                said = json.loads(file.read_text())
                said["data"]["report"]["sections"] = {f"S{i}": {"patient": f"P{i}"} for i in range(1, 10)}
                file.write_text(json.dumps(said))
        results = read_results(find_runs(tmp_path / str(len(seeds))))
        return compare(results, results.blocks[0], reference(results.frame, "pearson"))

    alone, both = compared((0,)), compared((0, 1, 2))
    assert alone.table.verdict[0] == "no claim: one seed: a training that several units share may be luck"
    assert np.isnan([alone.table.p[0], alone.table.units_low[0]]).all()
    row = both.table.iloc[0]
    differences = both.units.difference
    assert (row.n, row.verdict) == (7, "better")
    assert row.p >= stats.wilcoxon(differences, method="exact").pvalue
    student = stats.ttest_1samp(differences, 0).confidence_interval()
    assert row.units_high - row.units_low > student.high - student.low
    assert "one training is tested on several patients" in both.seed_words


def test_nothing_is_claimed_of_unknown_patients(runs: Path) -> None:
    for run in find_runs(runs):
        file = run.folder / "provenance.json"
        said = json.loads(file.read_text())
        for section in said["data"]["report"]["sections"].values():
            section["patient_source"] = "slide name"
        file.write_text(json.dumps(said))
    results = read_results(find_runs(runs))
    found = compare(results, results.blocks[0], reference(results.frame, "listwise"))
    assert set(found.table.verdict) == {"no claim: patients unknown"}
    assert found.table[["p", "p_holm", "p_alike", "units_low"]].isna().all(axis=None)


def test_undefined_genes_are_left_out_of_both_sides(make_run: Make, world, tmp_path: Path) -> None:
    for loss in ("mse", "pearson"):
        make_run(tmp_path, world, f"loss={loss}", fold=0)
    results = read_results(find_runs(tmp_path))
    matrix, _ = difference_matrix(results.cells, "mse", "pearson")
    assert np.isnan(matrix.loc["S0", "GENE11"])  # never counted there
    assert np.isfinite(matrix.loc["S1"]).all()


def test_abundance_is_weighted_by_spots_and_methods_do_not_count_twice(runs: Path, world) -> None:
    results = read_results(find_runs(runs))
    counts = np.concatenate([world.counts(slide) for fold in range(7) for slide in world.slides(fold)])
    found = gene_abundance(results.cells).loc[[f"GENE{i}" for i in range(12)]]
    assert found.mean_count.to_numpy() == pytest.approx(counts.mean(0))
    assert found.zero_fraction.to_numpy() == pytest.approx((counts == 0).mean(0))
    cells = results.cells[(results.cells.gene == "GENE3") & (results.cells.method == "mse")]
    assert gene_means(results.cells).loc["GENE3", "mse"] == pytest.approx(cells.groupby("slide").scc.mean().mean())


def test_broken_files_cost_their_part_only(runs: Path) -> None:
    folders = [run.folder for run in find_runs(runs)]
    (folders[0] / "per_gene.csv").unlink()
    (folders[1] / "per_gene.csv").write_text("slide,gene\nS,G\n")
    (folders[2] / "provenance.json").unlink()
    results = read_results(find_runs(runs))
    assert len(results.frame) == len(folders)
    assert set(results.cells.run) == set(range(2, len(folders)))
    assert any("per_gene.csv is missing" in note for note in results.notes)
    assert any("has no column spots, scc" in note for note in results.notes)


def test_predictions_that_are_no_predictions(tmp_path: Path) -> None:
    from agl.errors import UserError

    with pytest.raises(UserError, match=r"Expected predictions\.npz in .*, found none\."):
        read_predictions(Run(tmp_path).folder)
    (tmp_path / "predictions.npz").write_bytes(b"PK not really")
    with pytest.raises(UserError, match=r"Expected the arrays of a run in .* train the run again"):
        read_predictions(tmp_path)


def test_the_table_says_what_may_be_claimed(agl, runs: Path) -> None:
    status, out, err = agl("table", runs, "--baseline", "listwise", "--json")
    assert (status, err) == (0, "")
    learned = next(row for row in json.loads(out)["differences"] if row["method"] == "listwise + dkgsb")
    assert (learned["unit"], learned["n"], learned["verdict"]) == ("patient", 7, "better")
    status, out, err = agl("table", runs, "--baseline", "listwise", "--margin", "0.9")
    assert (status, err) == (0, "")
    assert "within 0.9 of it" in out
    assert "One unit is a patient" in out
    status, _, err = agl("table", runs, "--baseline", "listwice")
    assert status == 2
    assert "Did you mean 'listwise'?" in err
    assert agl("table", runs, "--baseline", "listwise", "--margin", "0")[0] == 2
