"""The main job in small: simulated sections, several losses, and primary genes alone against auxiliary genes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agl.studies.grid import Grid, train_cells

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.runs.folder import Run

METHODS: list[dict[str, Any]] = [
    {"model": "ridge"},
    {"loss": "mse"},
    {"loss": "pearson"},
    {"loss": "pairwise"},
    {"loss": "listwise"},
    {"loss": "listwise", "auxiliary.genes": "all"},
    {"loss": "listwise", "auxiliary.genes": "coexpressed"},
]


def train_demo(output: Path, *, progress: Progress) -> list[Run]:
    """Every method, leaving out one simulated patient after another."""
    shared = {
        "name": "demo",
        "output": str(output),
        "data": {"simulate": {"preset": "easy"}},
        "training": {"epochs": 80, "patience": 20},
    }
    return train_cells(Grid(shared, {"method": METHODS}, []), progress=progress)
