"""Grids: which cells there are, and the ways to write them wrongly."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agl.errors import UserError
from agl.studies.grid import Grid, read_grid
from agl.studies.launch import queue_grid, queue_study


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.chdir(tmp_path)

    def write(**tree: Any) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(tree, sort_keys=False))
        return path

    return write


def test_all_combinations_the_last_axis_fastest() -> None:
    grid = Grid({}, {"loss": ["mse", "listwise"], "seed": [0, 1, 2]}, [])
    expected = [[f'loss="{loss}"', f"seed={seed}"] for loss, seed in itertools.product(["mse", "listwise"], range(3))]
    assert grid.cells() == expected


def test_skips_and_repeated_values() -> None:
    grid = Grid({}, {"loss": ["mse", "listwise"], "seed": [0, 1, 1]}, [{"loss": "mse", "seed": 1}])
    assert grid.cells() == [['loss="mse"', "seed=0"], ['loss="listwise"', "seed=0"], ['loss="listwise"', "seed=1"]]


def test_values_that_set_several_keys() -> None:
    axes = {
        "method": [{"model": "ridge"}, {"loss": {"name": "listwise", "target": "log1p"}, "auxiliary.genes": "all"}],
        "split": [{"name": "leave_one_slide_out", "patient": "C"}],
    }
    first, second = (Grid({"seed": 3}, axes, []).config(cell) for cell in Grid({}, axes, []).cells())
    assert (first.model.name, first.split.args, first.seed) == ("ridge", {"patient": "C"}, 3)
    assert (second.loss.args, second.auxiliary.genes.name) == ({"target": "log1p"}, "all")


def test_overrides_of_axes_and_of_the_shared_config(study_file: Callable) -> None:
    path = study_file(name="g", training={"epochs": 5}, axes={"seed": [0, 1]}, skip=[{"seed": 5}])
    grid = read_grid(path, ["axes.seed=[4]", "axes.loss=[mse]", "training.epochs=3"])
    assert grid.cells() == [["seed=4", 'loss="mse"']]
    assert grid.config(grid.cells()[0]).training.epochs == 3


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({}, "Expected `axes:` with a list of values for each key"),
        ({"axes": {}}, "Expected `axes:` with a list of values for each key"),
        ({"axes": ["loss"]}, "Expected `axes:` with a list of values for each key"),
        ({"axes": {"loss": []}}, "Expected a list of values on the axis 'loss'"),
        ({"axes": {"loss": "mse"}}, "Expected a list of values on the axis 'loss'"),
        ({"axes": {"loss": ["mse"]}, "skip": [{"los": "mse"}]}, "received 'los'. Did you mean 'loss'?"),
        ({"axes": {"loss": ["mse"]}, "skip": {"loss": "mse"}}, "Expected `skip:` as a list"),
        ({"axes": {"loss": ["mse"]}, "skip": [{"loss": "mse"}]}, "rules that leave none"),
    ],
)
def test_grids_written_wrongly(study_file: Callable, tree: dict, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        read_grid(study_file(**tree))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [
        ({"los": ["mse"]}, "Did you mean 'loss'?"),
        ({"training.epoch": [3]}, "Did you mean 'training.epochs'?"),
        ({"training.epochs": [3, "many"]}, "'training.epochs'"),
        ({"loss": ["mse", "lisstwise"]}, "Did you mean 'listwise'?"),
        ({"loss.powr": [1.0]}, "takes no argument 'powr'"),
    ],
)
def test_every_cell_is_checked_before_the_first_is_queued(
    study_file: Callable, sections: Path, axes: dict, sentence: str
) -> None:
    path = study_file(name="g", data={"root": str(sections), "features": "latent"}, axes=axes)
    with pytest.raises(UserError) as error:
        queue_grid(path)
    assert sentence in str(error.value)
    assert not Path("runs").exists()


def test_cells_that_come_to_the_same_are_one(study_file: Callable, sections: Path) -> None:
    data = {"root": str(sections), "features": "latent"}
    axes = {"model": ["mlp", "ridge"], "loss": ["mse", "listwise"]}
    launched = queue_grid(study_file(name="g", data=data, axes=axes))
    assert len(launched.names) == 3  # a baseline has no loss
    again = queue_grid(study_file(name="g", data=data, axes={"seed": [1], **axes}))
    assert len(again.names) == 3
    assert [cell.order for cell in again.study.cells()] == list(range(6))
    assert queue_study(study_file(name="g", data=data, axes=axes)).names == launched.names
    assert len(again.study.cells()) == 6


def test_a_grid_larger_than_anybody_means_is_asked_about(study_file: Callable) -> None:
    """The number is known without making the cells: 10^12 of them are refused at once."""
    path = study_file(axes={"seed": list(range(101)), "training.epochs": list(range(1, 101))})
    told = r"Expected at most 10,000 cells in the grid of .* \(seed 101 x .*\), received 10,100\. .*--yes"
    with pytest.raises(UserError, match=told):
        read_grid(path)
    assert len(read_grid(path, many=True).cells()) == 10_100
    assert len(read_grid(path, ["axes.seed=[0]"]).cells()) == 100
    thousand = list(range(1, 1001))
    words = [f"axes.{key}={thousand}" for key in ("seed", "fold", "data.min_counts")]
    with pytest.raises(UserError, match="received 100,000,000,000"):
        read_grid(path, words)


def test_a_search_of_more_trials_than_anybody_means(study_file: Callable) -> None:
    path = study_file(search={"parameters": {"training.learning_rate": {"low": 1e-4, "high": 1e-2}}, "trials": 10**9})
    with pytest.raises(UserError, match=r"at most 10,000 trials in the search of .*, received 1,000,000,000\."):
        queue_study(path)
