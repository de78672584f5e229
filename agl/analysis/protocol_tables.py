"""Protocols beside each other, as words in cells: for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from agl.analysis.moves import at, firsts, moves, neighbours, ranked
from agl.analysis.protocols import CHOICES, OURS, protocol_scores

if TYPE_CHECKING:
    from agl.analysis.results import Predictions
    from agl.runs.folder import Run

DIGITS = 3
CAPTION = "score (rank); ±: spread over folds (divisor n); each column differs from the reference in that choice alone"


@dataclass(frozen=True)
class Protocols:
    """The methods of one block under every protocol.

    Attributes:
        scores: one row a method and protocol: method, a column a choice, score, sd, rank, and `applies`: False where
            the choice says nothing about the method.
        reference: what the others are compared with.
    """

    scores: pd.DataFrame
    reference: dict[str, str]

    @property
    def choices(self) -> list[str]:
        """What may differ between protocols."""
        return list(self.reference)

    @property
    def moves(self) -> pd.DataFrame:
        """What each single choice moves, see `agl.analysis.moves.moves`."""
        return moves(self.scores, self.reference)

    @property
    def firsts(self) -> str:
        """Which methods are first under how many of all protocols, in words."""
        counted = firsts(self.scores, self.choices)
        total = len(self.scores[self.choices].drop_duplicates())
        said = ", ".join(f"{name} in {n}" for name, n in counted.sort_values(ascending=False).items() if n)
        return f"first among all {total} protocols: {said}" if said else ""

    def cells(self, digits: int = DIGITS) -> tuple[list[str], list[list[str]]]:
        """Titles and rows: methods in the order of the reference, a column for it and for each single change."""
        columns = neighbours(self.scores, self.reference)
        order = at(self.scores, self.reference).sort_values("score", ascending=False, kind="stable").index
        tables = [at(self.scores, protocol).reindex(order) for _, protocol in columns]
        rows = [[str(name), *(_cell(table.loc[name], digits) for table in tables)] for name in order]
        first = ", ".join(self.reference.values())
        return ["method", first, *(name for name, _ in columns[1:])], rows

    def move_cells(self, digits: int = DIGITS) -> tuple[list[str], list[list[str]]]:
        """Titles and rows of what each single choice moves."""
        titles = ["choice", "change", "mean", "lowest", "highest", "in fold spreads", "pairs turned", "tau", "first"]
        rows = []
        for row in self.moves.to_dict("records"):
            first = row["first"] if row["first"] == row["first_before"] else f"{row['first_before']} to {row['first']}"
            changes = [_signed(row[name], digits) for name in ("mean", "lowest", "highest")]
            order = [_number(row["spreads"], 1), f"{row['turned']}/{row['pairs']}", _number(row["tau"], 2), first]
            rows.append([str(row["choice"]), str(row["change"]), *changes, *order])
        return titles, rows


def protocols(frame: pd.DataFrame, reference: Mapping[str, str]) -> Protocols:
    """Rows `method, choices, score, sd` with ranks."""
    return Protocols(ranked(frame, list(reference)), dict(reference))


def runs_protocols(runs: Sequence[Run]) -> dict[str, Protocols]:
    """Every block of stored runs under the protocols that need no new training.

    Raises:
        UserError: a run without its predictions.
    """
    from agl.analysis.methods import named
    from agl.analysis.results import read_predictions
    from agl.analysis.tables import runs_frame

    about = named(runs_frame(runs)).assign(position=range(len(runs)))
    found = {}
    for block, methods in about.groupby("block", sort=False):
        parts = []
        for method, rows in methods.groupby("method", sort=False):
            repeats: list[dict[object, Predictions]] = [
                {fold: read_predictions(runs[int(i)].folder) for fold, i in zip(each.fold, each.position, strict=True)}
                for _, each in rows.groupby("seed", sort=True)
            ]
            parts.append(protocol_scores(repeats).assign(method=method))
        found[str(block)] = protocols(pd.concat(parts, ignore_index=True)[["method", *CHOICES, "score", "sd"]], OURS)
    return found


def markdown_rows(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(markdown_rows(["a", "b"], [["1", "x|y"]]))
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(row: pd.Series, digits: int) -> str:
    if pd.isna(row.score):
        return "undefined"
    spread = "" if pd.isna(row.sd) else f" ± {row.sd:.{digits}f}"
    return f"{row.score:.{digits}f}{spread} ({row['rank']})"


def _signed(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:+.{digits}f}"


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"
