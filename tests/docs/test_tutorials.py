"""The tutorials run from their first cell to the last, on the real sections in the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from tests.docs.blocks import run_cells

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
LARGEST = 250_000  # bytes of a notebook, its outputs included


def cells(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text("utf-8"))["cells"])


def test_there_are_five() -> None:
    assert len(NOTEBOOKS) == 5


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    matplotlib.use("agg")
    run_cells([cell for cell in cells(path) if cell["cell_type"] == "code"], path.name, tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_saved_with_it_is_small_and_whole(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    assert cells(path)[0]["source"][0].startswith("# ")
    outputs = [output for cell in cells(path) for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert "/tmp" not in path.read_text("utf-8")


def test_a_cell_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="cell 2 of x: division by zero"):
        run_cells([{"source": ["y = 0"]}, {"source": ["1 / y"]}], "x", tmp_path)
