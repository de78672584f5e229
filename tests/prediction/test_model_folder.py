"""Models that are given away: whole folders, cards that are true, no code without consent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agl.config import load
from agl.errors import UserError
from agl.prediction.model import Model
from agl.runs.folder import Run
from agl.runs.model import model_of
from agl.runs.train import train

RunOf = Callable[[str], Run]
OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, n_features, n_genes, width=4):
        super().__init__()
        self.trunk = nn.Linear(n_features, width)
        self.head = nn.Linear(width, n_genes)

    def forward(self, x):
        return self.head(torch.tanh(self.trunk(x)))
"""
ESTIMATOR = """
import numpy as np

class Nearest:
    def fit(self, features, counts, library_size, slides, *, seed=0):
        return self

    details = {}

    def predict(self, features):
        return np.tile(np.asarray(features)[:, :1], (1, 8))
"""


def test_what_is_in_it(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("committee")
    folder = model_of(run).save(tmp_path / "model")
    names = {file.name for file in folder.iterdir()}
    assert names == {"model.json", "weights.safetensors", "config.yaml", "per_gene.csv", "README.md"}
    assert not list(tmp_path.glob("*.part"))
    assert str(tmp_path.parent) not in (folder / "config.yaml").read_text()
    tree = json.loads((folder / "model.json").read_text())
    assert tree["genes"] == list(model_of(run).genes)
    with pytest.raises(UserError, match="is there"):
        model_of(run).save(folder)


def test_the_card_has_the_runs_numbers(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("committee")
    text = (model_of(run).save(tmp_path / "model") / "README.md").read_text()
    table = pd.read_csv(run.folder / "per_gene.csv")
    inside = table[table.slide != "(pooled)"]
    [spearman] = re.findall(r"Spearman (-?\d\.\d{3})", text)
    assert float(spearman) == pytest.approx(run.result["scc"], abs=6e-4)
    for gene, rows in inside.groupby("gene"):
        [row] = [line for line in text.splitlines() if line.startswith(f"| {gene} ")]
        assert row.split("|")[2].strip() in (f"{rows.scc.mean():.3f}", "undefined")
    split = run.provenance["split"]
    assert f"spots: {split['spots']['train'] + split['spots']['validation']}" in text
    assert "latent" in text
    assert "nearest 8 spots" in text


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "config.yaml"])
def test_a_damaged_model_is_one_sentence(run_of: RunOf, tmp_path: Path, name: str) -> None:
    folder = model_of(run_of("ridge")).save(tmp_path / "model")
    whole = (folder / name).read_bytes()
    for size in (0, len(whole) // 3, len(whole) - 5):
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(UserError):
            Model.load(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"found no {name}"):
        Model.load(folder)


def test_another_format_is_refused(run_of: RunOf, tmp_path: Path) -> None:
    folder = model_of(run_of("ridge")).save(tmp_path / "model")
    tree = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(tree | {"format": 99}))
    with pytest.raises(UserError, match="Update agl"):
        Model.load(folder)


def test_code_runs_only_where_it_is_trusted(sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OWN)
    words = [f"data.root={sections}", "data.features=latent", f"output={tmp_path / 'runs'}", "fold=0"]
    words += ["primary.k=8", "primary.min_detection=0", "training.epochs=1", "model=mine.py:Net", "model.width=5"]
    run = train(load(words))[0]
    model = model_of(run)
    before = model.predict("P1S1", root=sections)
    folder = model.save(tmp_path / "given")
    assert (folder / "mine.py").read_text() == OWN
    Path("mine.py").write_text("raise SystemExit('the wrong file')")
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(UserError, match=r"brings .*mine\.py:Net"):
        Model.load(folder)
    after = Model.load(folder, trust=True).predict("P1S1", root=sections)
    np.testing.assert_array_equal(after.layers["agl_score"], before.layers["agl_score"])


def test_an_estimator_that_nobody_can_write_down(
    sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(ESTIMATOR)
    words = [f"data.root={sections}", "data.features=latent", f"output={tmp_path / 'runs'}", "fold=0"]
    run = train(load([*words, "primary.k=8", "primary.min_detection=0", "model=mine.py:Nearest"]))[0]
    with pytest.raises(UserError, match=r"no method `linear\(\)`"):
        model_of(run).save(tmp_path / "given")
    assert not (tmp_path / "given").exists()
    assert len(model_of(run).predict("P1S1", root=sections)) == 40


def test_the_commands(agl, run_of: RunOf, sections: Path, tmp_path: Path) -> None:
    run = run_of("mlp")
    status, _, err = agl("export", run.folder, "--out", tmp_path / "given")
    assert status == 0, err
    latent = sections / "embeddings" / "latent" / "P1S1.h5"
    status, _, err = agl("predict", tmp_path / "given", latent, "--out", tmp_path / "o.h5ad")
    assert (status, (tmp_path / "o.h5ad").is_file()) == (0, True), err
    status, _, err = agl("export", run.folder, "--out", tmp_path / "given")
    assert (status, len(err.strip().splitlines())) == (2, 1)
    status, _, err = agl("predict", tmp_path / "nothing", latent)
    assert status == 2


def test_a_notebook_shows_what_it_is(run_of: RunOf) -> None:
    run, model = run_of("ridge"), model_of(run_of("ridge"))
    assert repr(run) == f"<Run {run.folder}>"
    assert repr(Run(run.folder / "checkpoints")) == f"<Run {run.folder / 'checkpoints'}, not finished>"
    shown = replace(model, genes=("<b>", *model.genes[1:]))._repr_html_()
    for word in ("<th>model</th><td>ridge</td>", "&lt;b&gt;", "<th>patients</th>", f"<td>{len(model.genes)}: "):
        assert word in shown
