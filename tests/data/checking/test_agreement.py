"""What `agl check` says, `agl train` says: a folder that can be used starts training, with the same warnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agl.config import load
from agl.data.checking.doctor import check
from agl.data.checking.section import CONTEXT
from agl.errors import UserError
from agl.estimators.committee import Committee
from agl.runs.train import prepare
from tests.data.checking.changes import CASES, Tools, tools

__all__ = ["tools"]


def ask_both(root: Path, features: str) -> tuple[Any, tuple[str, ...] | str]:
    """The doctor's report, and what a training says: its warnings, or why it does not start."""
    report = check(root, features=features, min_counts=1)
    plain = [f"data.root={root}", *([] if features == "auto" else [f"data.features={features}"])]
    try:
        prepared = prepare(load([*(report.train or plain), f"output={root.parent / 'runs'}"]))
        for experiment in prepared.experiments:
            assert len(experiment.panel.primary)
            if features != "none":
                assert np.isfinite(experiment.sample().features).all()
        return report, prepared.warnings
    except UserError as error:
        return report, str(error)


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize("name", CASES)
def test_check_and_train_agree(name: str, tools: Tools) -> None:
    change, usable, features = CASES[name]
    change(tools)
    report, said = ask_both(tools.root, features)
    assert (report.status != "error") == usable, report.findings
    assert isinstance(said, tuple) == usable, said
    if isinstance(said, tuple):
        warned = {f"{f.slide}: {f.message}" if f.slide else f.message for f in report.findings if f.level == "warning"}
        begin = {warning for warning in warned if "rain with " in warning}  # the words are in report.train
        depth = {warning for warning in warned if "Shallow" in warning}
        assert warned - begin - depth == set(said)
        assert bool(begin) == bool([w for w in report.train if w.startswith(("split=", "primary.k="))])


def test_the_doctor_sees_what_the_default_model_sees() -> None:
    assert Committee.surroundings == CONTEXT


def test_the_example_and_simulated_sections_have_no_warnings(tmp_path: Path) -> None:
    from agl.data.example import example_folder
    from agl.data.simulate.task import simulate

    simulated = simulate(tmp_path / "simulated", n_patients=3, spots_per_slide=60, n_genes=150, seed=1)
    for root in (example_folder(), simulated):
        report, said = ask_both(Path(root), "auto")
        assert (report.status, said) == ("ok", ())
        assert report.train == [f"data.root={root}"]


def test_every_command_that_learns_says_the_same_once(tools: Tools, agl: Callable, tmp_path: Path, monkeypatch) -> None:
    """Train, grid and search: warnings before anything is trained, each once however many cells share the data."""
    monkeypatch.chdir(tmp_path)
    tools.obs(tools.slides[0], "in_tissue", np.arange(36) % 2)
    shared = (
        f"data: {{root: {tools.root}, features: uni}}\nprimary: {{k: 5, min_detection: 0}}\nmodel: ridge\nfold: 0\n"
    )
    (tmp_path / "one.yaml").write_text(shared)
    (tmp_path / "grid.yaml").write_text(f"name: g\n{shared}axes: {{seed: [0, 1]}}\n")
    search = "search: {parameters: {model.alpha: {low: 1.0, high: 9.0}}, trials: 1}\n"
    (tmp_path / "search.yaml").write_text(f"name: s\n{shared}{search}")
    for command, file in (("train", "one.yaml"), ("grid", "grid.yaml"), ("search", "search.yaml")):
        status, _, err = agl(command, file)
        assert status == 0, err
        assert err.count("warning: S0: 18 of 36 spots have in_tissue = 0 but are kept") == 1, (command, err)


def test_a_section_in_another_format_is_named_once(tools: Tools) -> None:
    CASES["a_section_in_another_format_beside_them"][0](tools)
    _, said = ask_both(tools.root, "uni")
    [sentence] = [each for each in said if "zarr" in each]
    assert sentence.startswith("T9.zarr lies beside the sections and is left out: a Zarr store of AnnData; write ")
