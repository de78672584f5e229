"""The answer in three numbers, or a line a block, and what may be claimed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from agl.analysis.comparisons import Comparisons
from agl.analysis.statistics import ALIKE, FEWEST_UNITS
from agl.analysis.tables import OF_REACHABLE, percent
from agl.reporting.inputs import Compared, ReportInput, RunBlock
from agl.reporting.parts import Answer, Answers, Item, PageSection, Table, Text, number, span


def summary(report: ReportInput) -> PageSection:
    """The highest mean, its difference from the baseline and its share of the reachable; then every claim."""
    items: list[Item] = [_table(report.blocks) if report.several else Answers(tuple(answers(report.blocks[0])))]
    items += [Text(words) for block in report.blocks for words in claims(block, report.several)]
    return PageSection("In short", [*items, *(Text(note, warning=True) for note in report.notes)])


def answers(block: RunBlock) -> list[Answer]:
    """Three numbers: how good, how much better, how much of what these counts allow; those that exist."""
    best = block.results.methods(block.name)[0]
    scc, folds = _by_fold(block, best, "scc")
    found = [Answer(f"Highest mean: {best}", number(scc), f"SCC per slide; {_folds(folds)}")]
    for compared in block.compared[:1]:
        row = _row(compared, best)
        found.append(
            Answer(
                f"{row['method']} against {row['baseline']}", number(row["difference"], sign=True), _sure(row, compared)
            )
        )
    share, _ = _by_fold(block, best, "share")
    if np.isfinite(share):
        ceiling, _ = _by_fold(block, best, "ceiling")
        found.append(
            Answer("Of what these counts allow", percent(share), f"noise ceiling {number(ceiling)} on average; rough")
        )
    return found


def claims(block: RunBlock, several: bool) -> list[str]:
    """Every claim that a comparison supports; of a lone block also the second comparison and why it claims nothing."""
    words: list[str] = []
    for position, (_, _, _, compared) in enumerate(block.compared):
        table = compared.table[compared.table.verdict.map(_claimed)]
        if table.empty and position and not several:  # the numbers above say the first
            table = compared.table.head(1)
        words += [_claim(row, compared) for row in table.to_dict("records")]
    on = f"On {block.name}: " if several else ""
    return [on + each for each in dict.fromkeys(words)]  # a baseline may also be a method's own counterpart


def _table(blocks: list[RunBlock]) -> Table:
    """The three numbers of every block."""
    rows = []
    for block in blocks:
        best = block.results.methods(block.name)[0]
        scc, folds = _by_fold(block, best, "scc")
        share, _ = _by_fold(block, best, "share")
        row = {
            "runs on": block.name,
            "highest mean": best,
            "SCC per slide (folds)": f"{number(scc)} ({_span(folds)})",
            OF_REACHABLE: percent(share),
        }
        for compared in block.compared[:1]:
            first = _row(compared, best)
            row |= {
                "compared": f"{first['method']} against {first['baseline']}",
                "ΔSCC": number(first["difference"], sign=True),
                "in each": _span(_units(first, compared), sign=True),
                "of": str(first["n"]),
            }
        rows.append(row)
    shown = pd.DataFrame(rows).fillna("–")
    note = (
        "Runs of one line may be compared with each other, not with those of another. Ranges are from the lowest to "
        "the highest fold, patient or slide; they are no intervals. What may be claimed is below and in Differences."
    )
    return Table("", shown.loc[:, (shown != "–").any()], note=note)


def _by_fold(block: RunBlock, method: str, score: str) -> tuple[float, pd.Series]:
    """A score's mean over folds, each averaged over its seeds first, and the folds'."""
    if score not in block.frame:
        return float("nan"), pd.Series(dtype=float)
    folds = block.frame[block.frame.method == method].groupby("fold", dropna=False)[score].mean()
    return float(folds.mean()), folds


def _row(compared: Compared, best: str) -> dict[Hashable, Any]:
    """The best method's comparison, or, where it is the baseline, that of the best of the others."""
    table = compared.comparisons.table
    mine = table[table.method == best]
    return (mine if len(mine) else table).to_dict("records")[0]


def _units(row: dict[Hashable, Any], compared: Compared) -> pd.Series:
    units = compared.comparisons.units
    return units[units.method == row["method"]].difference.dropna()


def _sure(row: dict[Hashable, Any], compared: Compared) -> str:
    """How sure a difference is: its interval or its range over units, and what may be claimed of it."""
    n = int(row["n"])
    of = _counted(row, compared)
    if np.isfinite(row["units_low"]):
        of = f"95% interval over {of} {span(row['units_low'], row['units_high'])}"
    elif n > 1:
        of += f": {_span(_units(row, compared), sign=True)}"
    few = n < FEWEST_UNITS and not (row["verdict"].startswith("no claim") or _claimed(row["verdict"]))
    return f"SCC; {of}; {'too few to claim a difference' if few else row['verdict']}"


def _claimed(verdict: str) -> bool:
    return verdict in ("better", "worse") or verdict.startswith(ALIKE)


def _counted(row: dict[Hashable, Any], compared: Compared) -> str:
    return f"{row['n']} {compared.comparisons.unit.name}{'s' * (row['n'] != 1)}"


def _folds(folds: pd.Series) -> str:
    return f"{len(folds)} folds: {_span(folds)}" if len(folds) > 1 else "1 fold"


def _span(values: pd.Series, sign: bool = False) -> str:
    if values.dropna().empty:
        return "–"
    return f"{number(float(values.min()), sign=sign)} to {number(float(values.max()), sign=sign)}"


def _claim(row: dict[Hashable, Any], compared: Comparisons) -> str:
    """One comparison in a sentence."""
    n = row["n"]
    size = f"{number(row['difference'], sign=True)} SCC over {n} {compared.unit.name}{'s' * (n != 1)}"
    if row["verdict"] in ("better", "worse"):
        p = number(row["p_holm"])
        return (
            f"{row['method']} ranks {row['verdict']} than {row['baseline']}: {size}, p = {p} after Holm's correction."
        )
    if row["verdict"].startswith(ALIKE):
        return (
            f"{row['method']} and {row['baseline']} differ by less than {compared.margin:g}: {size}, "
            f"p = {number(row['p_alike_holm'])} (two one-sided tests) after Holm's correction."
        )
    return f"{row['method']} against {row['baseline']}: {size}; {row['verdict']}."
