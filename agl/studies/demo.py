"""The main job in small: losses and auxiliary genes on the example's real sections, and where the truth is planted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agl.studies.grid import Grid, train_cells

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.runs.folder import Run

COEXPRESSED = {"name": "coexpressed", "k": 100}  # a fixed number, so that the demo is quick
METHODS: list[dict[str, Any]] = [
    {"model": "ridge"},
    {"model": "committee", "auxiliary.genes": "none"},
    {"model": "committee", "auxiliary.genes": COEXPRESSED},
    {"model": "low_rank", "loss": "mse", "auxiliary.genes": COEXPRESSED},
    {"model": "mlp", "loss": "listwise"},
]
# Useful auxiliary genes exist among the simulated ones; whether they do on real sections is what one wants to know.
PLANTED: list[dict[str, Any]] = [
    {"model": "committee", "auxiliary.genes": "none"},
    {"model": "committee", "auxiliary.genes": COEXPRESSED},
]
REAL_DATA = {"root": "example", "features": "builtin_originals"}
PLANTED_DATA = {"simulate": {"preset": "easy", "n_patients": 3, "features": "latent"}, "features": "latent"}
TRAINING = {"epochs": 60, "patience": 15}


def train_demo(output: Path, *, progress: Progress) -> list[Run]:
    """Every method, leaving out one patient after another: the example's first, then the simulated ones."""
    runs: list[Run] = []
    for data, methods in ((REAL_DATA, METHODS), (PLANTED_DATA, PLANTED)):
        shared = {"name": "demo", "output": str(output), "data": data, "training": TRAINING}
        runs += train_cells(Grid(shared, {"method": methods}, []), progress=progress)
    return runs
