"""Cells that share what they have in common give the files that each would have given alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agl.config import Config, load
from agl.errors import UserError
from agl.runs.folder import Run
from agl.studies.cell import train_cell
from agl.studies.launch import queue_grid
from agl.studies.pool import WorkerPool
from agl.studies.side_by_side import sharing_of
from agl.studies.worker import work
from agl.training.sharing import Sharing

BYTES = ["config.yaml", "panel.csv", "history.jsonl", "recipe.json", "checkpoints/best.safetensors", "per_gene.csv",
         "result.json"]  # fmt: skip
WORDS = ["primary.k=10", "primary.min_detection=0", "auxiliary.min_detection=0", "data.features=latent",
         "training.epochs=4", "training.batch_size=32", "training.patience=1",
         "training.checkpoint_every=1"]  # fmt: skip
NETWORK = ["model.name=mlp", "model.hidden=[16]"]


def same(one: Run, other: Run) -> None:
    """Every file of a run to the byte, but for times and places."""
    assert one.folder.name == other.folder.name
    for name in BYTES:
        ours, theirs = ((run.folder / name).read_bytes() for run in (one, other))
        if name == "config.yaml":
            ours, theirs = (
                b"\n".join(line for line in text.split(b"\n") if b"output" not in line) for text in (ours, theirs)
            )
        assert ours == theirs, name
    with np.load(one.folder / "predictions.npz") as ours, np.load(other.folder / "predictions.npz") as theirs:
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    if (other.folder / "checkpoints/history.pt").exists():
        ours, theirs = (torch.load(run.folder / "checkpoints/history.pt") for run in (one, other))
        assert all(torch.equal(ours["model"][key], value) for key, value in theirs["model"].items())
        assert (ours["epoch"], ours["stop"]) == (theirs["epoch"], theirs["stop"])


@pytest.fixture
def cell(sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    monkeypatch.chdir(tmp_path)

    def config(*words: str, output: str = "together") -> Config:
        return load([f"data.root={sections}", f"output={output}", *WORDS, *words])

    return config


PLAIN = [*NETWORK, "model.start=none", "fold=0"]
CELLS = [
    [*NETWORK, "model.start=none", "loss=mse"],  # all folds
    [*PLAIN, "loss=pearson", "auxiliary.genes=coexpressed"],
    [*PLAIN, "loss=negative_binomial", "auxiliary.genes=coexpressed", "seed=1"],
    [*NETWORK, "model.start=low_rank", "fold=0", "loss=listwise"],
    [*PLAIN, "loss=pearson", "auxiliary.genes=random", "auxiliary.genes.k=20"],
    [*PLAIN, "auxiliary.genes=dkgsb", "auxiliary.outer.batches=1", "training.epochs=2"],
    ["model=ridge", "fold=0"],
    ["model=ridge", "fold=0", "scoring.depth=partial"],
    [*PLAIN, "data.thin=0.5"],
    [*PLAIN, "data.permute=true", "seed=1"],
    [*PLAIN, "primary=moran", "primary.k=7"],
]


@pytest.mark.parametrize(("word", "cells"), [("auto", CELLS), ("1", [CELLS[1], CELLS[2], CELLS[1]])])
def test_a_cell_is_to_the_byte_what_it_is_alone(word: str, cells: list[list[str]], cell: Callable[..., Config]) -> None:
    """Losses, gene sets, seeds, starts and folds; what learns its genes, what is solved, thinned and permuted."""
    sharing = sharing_of(word)
    lengths = set()
    for words in cells:
        together = train_cell(cell(*words), sharing=sharing)
        alone = train_cell(cell(*words, output="alone"))
        assert len(together) == len(alone) == (1 if "fold=0" in words else 3)
        for one, other in zip(together, alone, strict=True):
            same(one, other)
            lengths.add(one.result["epochs"])
    assert len(lengths) > 1, "the cells must end after different numbers of epochs"


def test_parts_are_made_once(cell: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    from agl.data.slides import Dataset

    made: list[int] = []
    cut = Dataset.panel_counts
    monkeypatch.setattr(Dataset, "panel_counts", lambda self, genes: made.append(len(genes)) or cut(self, genes))
    sharing = Sharing()
    for loss in ("mse", "pearson"):
        train_cell(cell(*NETWORK, "model.start=none", f"loss={loss}", "fold=0"), sharing=sharing)
    assert made == [10]


class Interrupted(BaseException):
    """As Ctrl-C."""


def test_an_interrupted_cell_goes_on_among_the_others(cell: Callable[..., Config]) -> None:
    sharing = Sharing()

    def stop(step: int, score: float) -> None:
        if step >= 2:
            raise Interrupted

    words = [*NETWORK, "model.start=none", "fold=1"]
    with pytest.raises(Interrupted):
        train_cell(cell(*words, "loss=mse"), sharing=sharing, report=stop)
    (between,) = train_cell(cell(*words, "loss=pearson"), sharing=sharing)
    (resumed,) = train_cell(cell(*words, "loss=mse"), sharing=sharing)
    for run, loss in ((resumed, "mse"), (between, "pearson")):
        same(run, train_cell(cell(*words, f"loss={loss}", output="alone"))[0])


FAILING = """
import torch

def failing(scores, counts):
    raise RuntimeError("planted")

def infinite(scores, counts):
    return scores.sum(0) / 0
"""


def test_a_failing_cell_leaves_the_others(sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FAILING)
    shared = [*WORDS, *NETWORK, "model.start=none", "fold=0", f"data.root={sections}"]
    Path("study.yaml").write_text("name: s\naxes: {loss: [mse, own.py:failing, own.py:infinite, pearson]}\n")
    launched = queue_grid("study.yaml", shared, retries=0)
    work(launched.study)
    cells = launched.study.cells()
    assert [each.state for each in cells] == ["done", "failed", "failed", "done"]
    assert "planted" in cells[1].error
    assert "Expected a finite loss" in cells[2].error
    for number, loss in ((0, "mse"), (3, "pearson")):
        alone = train_cell(load([*shared, "name=s", f"loss={loss}", "output=alone"]))
        same(Run(Path(cells[number].runs[0])), alone[0])


@pytest.mark.parametrize("word", ["off", "2"])
def test_the_command_line_gives_the_same_table(
    word: str, agl: Callable[..., tuple[int, str, str]], sections: Path, tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text("name: s\naxes: {loss: [mse, pearson]}\n")
    shared = [*WORDS, *NETWORK, "model.start=none", "fold=0", f"data.root={sections}", "training.epochs=2"]
    tables = []
    for each in ("auto", word):
        status, out, err = agl("grid", "study.yaml", *shared, f"output=to_{each}", "--side-by-side", each, "--json")
        assert status == 0, err
        tables.append(out.replace(f"to_{each}/s", "s"))
    assert tables[0] == tables[1]


def test_another_word_is_refused_before_anything_is_written(
    agl: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text("name: s\naxes: {loss: [mse, pearson]}\n")
    for word in ("many", "0", "-1", "1.5", "9999999", "\u0663"):
        status, _, err = agl("grid", "study.yaml", "--side-by-side", word)
        assert (status, len(err.splitlines())) == (2, 1), err
        assert "Expected --side-by-side auto, off or a number" in err
    assert not (tmp_path / "runs").exists()


def test_workers_of_a_pool_are_told(grid_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from agl.studies import launch

    told: list[Any] = []
    monkeypatch.setattr(WorkerPool, "run", lambda self, shown: told.append(tuple(self.words)))
    study = queue_grid(grid_file(2), identify=lambda config, _: f"{config.loss.name}-{config.seed}").study
    for word in ("auto", "off", "3"):
        launch.run_study(study, jobs=2, progress=None, shown=lambda cells: None, side_by_side=word)  # type: ignore[arg-type]
    assert told == [(), ("--side-by-side", "off"), ("--side-by-side", "3")]


def test_a_word_from_python_is_checked_too() -> None:
    with pytest.raises(UserError, match="Expected --side-by-side auto, off or a number from 1 to 1,000,000, received"):
        sharing_of("on")
