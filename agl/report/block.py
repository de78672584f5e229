"""One block of runs (same data, split and primary genes), and what the reader wants to see of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from agl.analysis.material import Material
from agl.analysis.methods import Reference
from agl.report.style import Look


@dataclass(frozen=True)
class Wishes:
    """What the reader asked for beside the defaults."""

    baseline: str | None = None
    method: str | None = None
    genes: tuple[str, ...] = ()
    slides: tuple[str, ...] = ()
    unit: str = "auto"


@dataclass(frozen=True)
class Block:
    """One block of runs, where its files go, and what is looked at closely."""

    material: Material
    name: str
    folder: Path
    look: dict[str, Look]
    reference: Reference | None
    method: str  # looked at gene by gene and on the tissue
    wishes: Wishes

    @property
    def frame(self) -> pd.DataFrame:
        """Its runs."""
        return self.material.frame[self.material.frame.block == self.name]

    @property
    def cells(self) -> pd.DataFrame:
        """Its scores per gene and slide."""
        return self.material.cells[self.material.cells.block == self.name]

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.folder / "figures"
