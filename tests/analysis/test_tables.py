"""Runs as a table: what is averaged, what is kept apart."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agl.analysis.tables import BLOCK, best_rows, label, markdown, methods_frame, rich_table, runs_frame
from agl.runs.folder import find_runs

Make = Callable[..., Path]


def frame(**columns: list[object]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    words = ["study", *BLOCK, "features", "model", "loss", "auxiliary", "control", "settings"]
    base: dict[str, list[object]] = {name: [""] * n for name in words}
    base |= {name: [0.5] * n for name in ("pcc", "scc_pooled", "pcc_pooled", "pcc_log1p_pooled")}
    base |= {"seed": [0] * n, "undefined": [1] * n, "pairs": [10] * n, "optimistic": [False] * n, "fold": [0] * n}
    return pd.DataFrame(base | columns)


def test_a_fold_with_more_seeds_does_not_count_more() -> None:
    rows = methods_frame(frame(scc=[0.1, 0.2, 0.3, 0.8], fold=[0, 0, 0, 1], seed=[0, 1, 2, 0]))
    row = rows.iloc[0]
    assert row.scc == pytest.approx((0.2 + 0.8) / 2)
    assert row.scc_sd == pytest.approx(np.std([0.1, 0.2, 0.3, 0.8], ddof=1))
    assert row.scc_sd_folds == pytest.approx(np.std([0.2, 0.8], ddof=1))
    assert row.scc_sd_seeds == pytest.approx(0.1)  # the fold with one seed has none
    assert (row.runs, row.folds, row.seeds, row.undefined, row.pairs) == (4, 2, 3, 4, 40)


def test_an_undefined_fold_is_left_out_not_zero() -> None:
    rows = methods_frame(frame(scc=[np.nan, 0.4], fold=[0, 1]))
    assert rows.scc[0] == pytest.approx(0.4)
    assert "undefined" in markdown(methods_frame(frame(scc=[np.nan])))


def test_best_is_of_a_block_and_controls_do_not_compete() -> None:
    methods = frame(
        scc=[0.5, 0.4, 0.3, 0.9], data=["a", "a", "b", "b"], loss=list("xyxy"), control=["", "", "", "permuted"]
    )
    assert best_rows(methods, "scc") == {0}
    methods["control"] = ""
    assert best_rows(methods, "scc") == {0, 3}


def test_runs_that_differ_in_a_setting_are_not_averaged(make_run: Make, world, tmp_path: Path) -> None:
    for rate in ("0.001", "0.01"):
        for fold in (0, 1):
            make_run(tmp_path, world, f"training.learning_rate={rate}", fold=fold)
    methods = methods_frame(runs_frame(find_runs(tmp_path)))
    assert sorted(methods.settings) == ["training.learning_rate=0.001", "training.learning_rate=0.01"]
    assert list(methods.runs) == [2, 2]


def test_runs_of_other_data_are_another_block(make_run: Make, world, tmp_path: Path) -> None:
    from dataclasses import replace

    make_run(tmp_path / "a", world, fold=0)
    make_run(tmp_path / "b", replace(world, key="otherkey"), fold=0)
    make_run(tmp_path / "c", world, "data.permute=true", fold=0)
    runs = runs_frame(find_runs(tmp_path))
    assert sorted(set(runs.data)) == ["simulated otherk", "simulated worldk"]
    assert list(runs.data_key) == ["worldkey", "otherkey", "worldkey"]  # the control belongs to what it permutes
    assert list(methods_frame(runs).runs) == [1, 1, 1]


def test_other_features_of_the_same_spots_are_another_method_of_one_block(
    make_run: Make, world, tmp_path: Path
) -> None:
    from dataclasses import replace

    from agl.analysis.methods import named

    for key, features in (("k1", "here/uni"), ("k2", "here/conch"), ("k3", "none")):
        for fold in (0, 1):
            here = replace(world, key=key, spots_key="same")
            make_run(tmp_path / key, here, f"data.features={features}", fold=fold)
    runs = runs_frame(find_runs(tmp_path))
    assert runs.data.unique().tolist() == ["simulated"]
    assert sorted(methods_frame(runs).features) == ["conch", "patches", "uni"]
    assert list(methods_frame(runs).runs) == [2, 2, 2]
    assert set(named(runs).method) == {"listwise on conch", "listwise on patches", "listwise on uni"}
    make_run(tmp_path / "d", replace(world, key="k4", spots_key="same"), "data.features=there/uni", fold=0)
    two_of_a_name = {"uni k1", "uni k4"}  # told apart by content
    assert two_of_a_name < set(methods_frame(runs_frame(find_runs(tmp_path))).features)


def test_place_device_and_threads_make_no_method(make_run: Make, world, tmp_path: Path) -> None:
    make_run(tmp_path / "a", world, "training.threads=1", fold=0)
    make_run(tmp_path / "b", world, "training.threads=2", "data.cache=elsewhere", fold=1)
    assert len(methods_frame(runs_frame(find_runs(tmp_path)))) == 1


def test_labels_say_what_differs_from_the_defaults() -> None:
    assert label("top", {"k": 15, "by": "mean"}, "gene_set").startswith("top(")
    assert label("listwise", {"count_power": 1.0}, "loss") == "listwise"
    assert label("listwise", {"count_power": 0.5}, "loss") == "listwise(count_power=0.5)"
    assert label("my/losses.py:tweedie", {"power": 1.3}, "loss") == "tweedie(power=1.3)"
    assert label("file", {"path": "some/where/genes.txt"}, "gene_set") == "file(path=genes.txt)"


def test_markdown_and_terminal_say_the_same(runs: Path) -> None:
    from rich.console import Console

    methods = methods_frame(runs_frame(find_runs(runs)))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(rich_table(methods, pooled=True))
    text = console.export_text()
    for row in methods.itertuples():
        cell = f"{row.scc:.3f} ± {row.scc_sd:.3f}"
        assert cell in text
        assert cell in markdown(methods)


def test_the_table_command_draws_nothing(make_run, world, tmp_path: Path) -> None:
    make_run(tmp_path, world, fold=1)
    code = (
        "import atexit, sys; from agl.cli import main; sys.argv = ['agl', 'table', sys.argv[1], '--csv', sys.argv[2]]; "
        "atexit.register(lambda: print('matplotlib' in sys.modules, 'agl.reporting' in sys.modules)); main()"
    )
    words = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "runs.csv")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "1 run in this table" in done.stdout
    assert done.stdout.splitlines()[-1] == "False False"
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 1
