"""The README's figures are those of the tables that the studies produced."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
STUDY = ROOT / "experiments" / "her2st_losses"
OWN, WIDE = "builtin", "builtin, context 8 24"
PATIENT, SECTION = "one patient out", "one slide out(patient=C) (optimistic)"
COLUMNS = [(PATIENT, "moran"), (SECTION, "moran"), (PATIENT, "dispersion"), (SECTION, "dispersion")]
COMMITTEE = {"model": "committee", "loss": "listwise"}
TABLES = ("table_runs.csv", "networks_runs.csv", "seat_runs.csv")
ROWS = {
    "committee, the default": {**COMMITTEE, "features": WIDE, "auxiliary": "coexpressed", "study": "her2st_seat"},
    "the same without a network": {**COMMITTEE, "features": WIDE, "auxiliary": "coexpressed", "study": "her2st_losses"},
    "and without auxiliary genes": {**COMMITTEE, "features": WIDE, "auxiliary": "none"},
    "and without surroundings": {**COMMITTEE, "features": OWN, "auxiliary": "none"},
    "low rank, Pearson per slide": {"features": OWN, "model": "low_rank", "loss": "pearson"},
    "list loss, solved": {"features": OWN, "model": "convex", "loss": "listwise"},
    "ridge": {"features": OWN, "model": "ridge"},
    "ridge with surroundings": {"features": WIDE, "model": "ridge"},
    "network, list loss, random start": {"features": OWN, "model": "mlp(start=none)", "loss": "listwise"},
    "network, list loss, low-rank start": {"features": OWN, "model": "mlp(start=low_rank)", "loss": "listwise"},
}


def runs() -> pd.DataFrame:
    parts = [pd.read_csv(STUDY / name, keep_default_na=False) for name in TABLES]
    found = pd.concat(parts, ignore_index=True)
    found["split"] = found.split.where(found.optimistic.astype(str) != "True", found.split + " (optimistic)")
    return found.assign(scc=found.scc.astype(float))


def printed() -> dict[str, list[str]]:
    """The rows of the README's table, by their first cell."""
    lines = [line for line in README.splitlines() if line.startswith("| ")]
    cells = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells if row[0] in ROWS}


def test_every_row_is_there() -> None:
    assert list(printed()) == list(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_the_figures_are_the_tables(name: str) -> None:
    frame = runs()
    for key, value in ROWS[name].items():
        frame = frame[frame[key] == value]
    for (split, primary), figure in zip(COLUMNS, printed()[name], strict=True):
        here = frame[(frame.split == split) & (frame.primary == primary)]
        mean = here.groupby("fold").scc.mean().mean()  # a fold's seeds first
        assert here.fold.nunique() == 3
        assert figure == re.sub("^0", "", f"{mean:.3f}"), f"{name}: {split}, {primary}"
