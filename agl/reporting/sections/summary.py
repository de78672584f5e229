"""The answer in a few sentences, with what it may claim."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from agl.reporting.inputs import ReportInput, RunBlock
from agl.reporting.parts import PageSection, Text, number


def summary(report: ReportInput) -> PageSection:
    """Every block's answer, and what could not be read."""
    answers = [Text(words) for block in report.blocks for words in block_summary(block, report.several)]
    return PageSection("In short", [*answers, *(Text(note, warning=True) for note in report.notes)])


def block_summary(block: RunBlock, several: bool) -> list[str]:
    """The block's answer: the highest mean, and every claim that a comparison supports."""
    frame = block.frame
    best = block.results.methods(block.name)[0]
    runs = frame[frame.method == best]
    mean = number(float(runs.groupby("fold", dropna=False).scc.mean().mean()))
    on = f"On {block.name}, {best}" if several else f"{best[:1].upper()}{best[1:]}"
    words = [f"{on} has the highest mean, SCC {mean} per slide over {runs.fold.nunique()} folds."]
    for _, _, _, compared in block.compared:
        claims = compared.table[compared.table.verdict.isin(["better", "worse"])]
        words += [_claim(row, compared.unit) for row in claims.to_dict("records")]
        if claims.empty:
            words.append(_claim(compared.table.to_dict("records")[0], compared.unit))
    return list(dict.fromkeys(words))  # a baseline may also be a method's own counterpart


def _claim(row: dict[Hashable, Any], unit: str) -> str:
    """One comparison in a sentence."""
    n = row["n"]
    size = f"{number(row['difference'], sign=True)} SCC over {n} {unit}{'s' * (n != 1)}"
    if row["verdict"] in ("better", "worse"):
        p = number(row["p_holm"])
        return (
            f"{row['method']} ranks {row['verdict']} than {row['baseline']}: {size}, p = {p} after Holm's correction."
        )
    return f"{row['method']} against {row['baseline']}: {size}; {row['verdict']}."
