"""Paired differences of every method from its baseline, with what may be claimed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from agl.analysis.comparisons import Comparisons
from agl.analysis.statistics import FEWEST_UNITS, NO_CLAIM, TOO_SMALL
from agl.reporting.figures.scores import draw_differences
from agl.reporting.inputs import RunBlock
from agl.reporting.parts import FOLD_FROM, PageSection, Table, Text, number, span, write_csv
from agl.reporting.style import file_name

_STATISTICS = (
    "Differences are paired by fold, slide, gene and seed, then averaged over seeds, genes, slides and units, in this "
    "order. p: Wilcoxon's signed-rank test over units, exact, two-sided; where units share a training, no smaller than "
    "Student's with the seeds' variance in it. p (within): the same as two one-sided tests of a difference beyond the "
    "margin. Both are corrected by Holm over the rows of a table. Intervals over units: 95%, Student's t, which takes "
    "the units' differences for roughly normal. The spread over genes is that of these data and seeds, and no ground "
    "for a claim. Folds share training spots, which no test here accounts for."
)


def differences(block: RunBlock) -> PageSection:
    """Paired differences from the baseline, and of auxiliary genes from none."""
    section = PageSection("Differences")
    if not block.compared:  # a single method, or none shares a fold with its baseline
        return section
    first = block.compared[0].comparisons
    section.items.append(Text(first.unit.words + " " + _STATISTICS))
    if first.unit.bar:
        words = (
            f"Nothing is claimed: {first.unit.bar}. What follows describes these data; it is no evidence for others."
        )
        section.items.append(Text(words, warning=True))
    elif (words := _too_few(first)) or (words := _seen(first)):
        section.items.append(Text(words, warning=int(first.table.n.max()) < FEWEST_UNITS))
    section.items.append(Text(first.seed_words, warning=bool((first.table.verdict.str.contains("one seed")).any())))
    for name, against, reference, compared in block.compared:
        file = file_name(name, block.name)
        csv = write_csv(block.folder, file, compared.table)
        section.items.append(_difference_table(compared, f"Against {against}", csv, several=reference.of))
        if (compared.table.n > 0).any():
            section.items.append(draw_differences(compared, file, against, block.styles, block.figures))
    return section


def _too_few(compared: Comparisons) -> str:
    """That no test can show anything, and how many units could; "" where there are enough."""
    n, unit = int(compared.table.n.max()), compared.unit.name
    if n >= FEWEST_UNITS:
        return ""
    words = (
        f"n too small: with {n} {unit}{'s' * (n != 1)} no test can reach p < 0.05. What follows describes these data; "
        "it is no evidence for others."
    )
    needed = compared.table.needed[compared.table.needed > 0]
    if len(needed):
        words += (
            f" At the spread seen here, a difference of {compared.margin:g} would be found (in 80% of cases) with "
            f"about {_many(int(needed.median()))} {unit}s."
        )
    return words


def _seen(compared: Comparisons) -> str:
    """What n units cannot see."""
    finite = compared.table.detectable[np.isfinite(compared.table.detectable)]
    if finite.empty:
        return ""
    n, unit = int(compared.table.n.max()), compared.unit.name
    needed = int(compared.table.needed[compared.table.needed > 0].median())
    return (
        f"With {n} {unit}s and the spread seen here, a difference under about {number(float(finite.median()))} is "
        f"mostly missed (found in fewer than 80% of cases); one of {compared.margin:g} would need about "
        f"{_many(needed)} {unit}s."
    )


def _many(n: int) -> str:
    return f"{n:,}" if n <= 1000 else "more than 1,000"


def _difference_table(compared: Comparisons, title: str, csv: str, *, several: dict[str, str]) -> Table:
    unit = compared.unit.name
    counterparts = len(set(several.values())) > 1
    rows = [
        {
            "method": r["method"],
            **({"against": r["baseline"]} if counterparts else {}),
            "ΔSCC": number(r["difference"], sign=True),
            f"95%, {unit}s": span(r["units_low"], r["units_high"]),
            "spread over genes": span(r["genes_low"], r["genes_high"]),
            "± seeds": number(r["seed_sd"]),
            "p": number(r["p"]),
            "p (Holm)": number(r["p_holm"]),
            f"p (within {compared.margin:g})": number(r["p_alike_holm"]),
            "higher in": f"{r['better']}/{r['n']}",
            "claim": _short(r["verdict"]),
        }
        for r in compared.table.to_dict("records")
    ]
    n = compared.table
    small = [words for words in dict.fromkeys(compared.table.verdict) if words.startswith(f"{TOO_SMALL} for")]
    shown = pd.DataFrame(rows)
    shown = shown.loc[:, (shown != "–").any()]  # no column of dashes where n is too small for every row
    note = (
        f"higher in: {unit}s whose mean difference is positive. {_range(n.slides)} slides, {_range(n.genes)} genes; "
        f"{', '.join(dict.fromkeys(n.seeds))}." + "".join(f" {words[0].upper()}{words[1:]}." for words in small)
    )
    if "± seeds" in shown:
        note += " ± seeds: standard deviation of the difference from seed to seed."
    return Table(title, shown, note=note, csv=csv, folded=len(rows) > FOLD_FROM)


def _short(verdict: str) -> str:
    """Why nothing can be claimed is said above the table."""
    return next((words for words in (TOO_SMALL, NO_CLAIM) if verdict.startswith(words)), verdict)


def _range(values: Sequence[int] | pd.Series) -> str:
    low, high = int(min(values)), int(max(values))
    return str(low) if low == high else f"{low} to {high}"
