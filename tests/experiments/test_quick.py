"""Every study under experiments/ runs in its short form, from its file to a table of finite scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agl.analysis.tables import runs_frame
from agl.errors import UserError
from agl.runs.folder import find_runs
from agl.studies.quick import quick_words
from agl.trees import read_yaml

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "experiments").glob("*/*.yaml"))
SYNTHETIC = [path for path in STUDIES if "methods" in read_yaml(path)]
OF_RUNS = [path for path in STUDIES if path not in SYNTHETIC]


@pytest.mark.parametrize("study", OF_RUNS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_short_form_runs(study, agl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = "search" if "search" in read_yaml(study) else "grid"
    code, out, err = agl(command, study, "--quick", "--json")
    assert code == 0, err
    assert json.loads(out)
    runs = find_runs(tmp_path / "runs")
    assert {run.folder.parent.name for run in runs} == {read_yaml(study)["name"] + "_quick"}
    assert np.isfinite(runs_frame(runs)["scc"].to_numpy(dtype=float)).all()


@pytest.mark.parametrize("study", SYNTHETIC, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_short_form_of_a_synthetic_study_runs(study, agl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = agl("synthetic", study, "--quick", "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert len({row["method"] for row in rows}) >= 5
    assert all(-1 <= row["last"] <= 1 for row in rows)


def test_experiments_have_a_readme_and_say_their_command():
    for folder in {path.parent for path in STUDIES}:
        text = (folder / "README.md").read_text()
        for study in folder.glob("*.yaml"):
            assert study.name in text, f"{folder.name}/README.md does not mention {study.name}"


def test_quick_words_come_before_the_users_own(agl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "s.yaml"
    study.write_text("name: s\naxes: {seed: [0, 1]}\nquick: {training.epochs: 3, axes.seed: [0], data.root: null}\n")
    assert quick_words(study) == ['name="s_quick"', "training.epochs=3", "axes.seed=[0]", "data.root=null"]
    code, _, err = agl("grid", study, "--quick", "training.epochs=0")
    assert code == 2
    assert "training.epochs" in err


@pytest.mark.parametrize("quick", ["", "quick: yes", "quick: {}"])
def test_a_study_without_a_short_form_says_so(quick, tmp_path):
    study = tmp_path / "s.yaml"
    study.write_text(f"name: s\naxes: {{seed: [0, 1]}}\n{quick}\n")
    with pytest.raises(UserError, match="Expected `quick:` with overrides"):
        quick_words(study)
