"""Leaks, protocol and provenance, from what runs say about themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agl.analysis.audit import differing_settings, leak_audit, protocol, provenance_summary, provenance_table
from agl.analysis.results import read_results
from agl.runs.files import write_json
from agl.runs.folder import Run, find_runs

Make = Callable[..., Path]


def change(folder: Path, section: str, **values: object) -> None:
    run = Run(folder)
    said = run.provenance
    said[section] |= values
    write_json(folder / "provenance.json", said)


def test_a_clean_split_shares_nobody(runs: Path) -> None:
    results = read_results(find_runs(runs))
    table, warnings = leak_audit(results, results.blocks[0])
    assert warnings == []
    assert list(table["fold"]) == [f"{i}: patient=P{i}" for i in range(7)]
    assert set(table["shared slides"]) == set(table["shared patients"]) == {"none"}
    assert table["test slides"][0] == "S0, S1"


def test_shared_slides_and_patients_are_named(make_run: Make, world, tmp_path: Path) -> None:
    folder = make_run(tmp_path, world, fold=0, optimistic=True)
    slides = {"train": ["S0", "S2"], "validation": ["S3"], "test": ["S0", "S1"]}
    change(folder, "split", slides=slides)
    results = read_results(find_runs(tmp_path))
    table, warnings = leak_audit(results, results.blocks[0])
    assert (table["shared slides"][0], table["shared patients"][0]) == ("S0", "P0")
    assert any(word.startswith("Optimistic: neighbours of test spots were trained on") for word in warnings)


def test_methods_that_were_split_differently_are_told(make_run: Make, world, tmp_path: Path) -> None:
    make_run(tmp_path, world, "loss=mse", fold=0)
    other = make_run(tmp_path, world, "loss=pearson", fold=0)
    results = read_results(find_runs(tmp_path))
    assert leak_audit(results, results.blocks[0])[1] == []
    change(other, "split", sha256="f" * 64)
    results = read_results(find_runs(tmp_path))
    assert "split differently" in leak_audit(results, results.blocks[0])[1][0]


def test_the_protocol_says_where_the_panel_comes_from(make_run: Make, world, tmp_path: Path) -> None:
    make_run(tmp_path / "a", world, fold=0)
    make_run(tmp_path / "b", world, "primary=file", "primary.path=genes.json", fold=0)
    results = read_results(find_runs(tmp_path))
    said = [protocol(results, block) for block in results.blocks]
    assert "chosen anew in every fold, on its training and validation spots" in said[0]["Primary genes"]
    assert "may have seen the test spots" in said[1]["Primary genes"]
    assert said[0]["Undefined"].startswith("1 of 24 (run, slide, gene) scores")
    assert "000000000000 (SHA-256)" in said[0]["Split"]


def test_settings_that_differ_between_methods_are_listed(make_run: Make, world, tmp_path: Path) -> None:
    make_run(tmp_path, world, "loss=mse", "training.epochs=10", fold=0)
    make_run(tmp_path, world, "loss=pearson", "training.epochs=20", fold=0)
    results = read_results(find_runs(tmp_path))
    table = differing_settings(results, results.blocks[0])
    assert table.to_dict("records") == [{"key": "training.epochs", "mse": "10", "pearson": "20"}]


def test_provenance_sums_up_and_warns(make_run: Make, world, tmp_path: Path) -> None:
    folders = [make_run(tmp_path, world, "loss=mse", fold=fold) for fold in range(3)]
    change(folders[1], "code", commit="fedcba9876543210", changed=True)
    (folders[2] / "provenance.json").unlink()
    results = read_results(find_runs(tmp_path))
    assert results.blocks == ["simulated worldk", "simulated unknown"]  # unknown data are not taken for the same
    table = provenance_table(results)
    rows, warnings = provenance_summary(table)
    assert (rows.runs[0], rows.time[0]) == (2, "25 s")
    assert rows["peak memory"][0] == "512 MiB"
    assert warnings[0] == "The runs come from 2 versions of the code: 0123456789ab, fedcba987654."
    assert warnings[1].startswith("1 of 3 runs come from a checkout with changes")
    assert table.split_sha256[0] == f"{0:064x}"


def test_runs_without_any_provenance(make_run: Make, world, tmp_path: Path) -> None:
    folder = make_run(tmp_path, world, fold=0)
    (folder / "provenance.json").unlink()
    results = read_results(find_runs(tmp_path))
    assert leak_audit(results, results.blocks[0])[1] == ["Fold 0: no run of it says how it was split."]
    assert "hash unknown" in protocol(results, results.blocks[0])["Split"]
    assert provenance_summary(provenance_table(results))[1] == [
        "No run says which commit it comes from; agl was not run from a checkout."
    ]
    assert results.patients[results.blocks[0]] == {}


@pytest.mark.parametrize("source", ["slide name", "obs['patient']"])
def test_a_guessed_patient_is_no_patient(make_run: Make, world, tmp_path: Path, source: str) -> None:
    folder = make_run(tmp_path, world, fold=0)
    sections = {"S0": {"patient": "S0", "patient_source": source}}
    change(folder, "data", report={"sections": sections})
    results = read_results(find_runs(tmp_path))
    assert results.patients[results.blocks[0]] == ({} if source == "slide name" else {"S0": "S0"})
