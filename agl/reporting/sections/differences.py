"""Paired differences of every method from its baseline, with what may be claimed."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from agl.analysis.comparisons import Comparisons
from agl.analysis.statistics import FEWEST_UNITS, TOO_SMALL
from agl.reporting.figures.scores import draw_differences
from agl.reporting.inputs import RunBlock
from agl.reporting.parts import FOLD_FROM, PageSection, Table, Text, number, span, write_csv
from agl.reporting.style import file_name

_STATISTICS = (
    "Differences are paired by fold, slide, gene and seed, then averaged over seeds, genes, slides and units, in this "
    "order. p: Wilcoxon's signed-rank test over units, exact, two-sided, corrected by Holm over the rows of a table. "
    "Intervals: 95%, expanded percentile bootstrap, 4,000 resamples, over units, over genes (these slides only), and "
    "over both at once. Folds share training spots, which no test here accounts for."
)


def differences(block: RunBlock) -> PageSection:
    """Paired differences from the baseline, and of auxiliary genes from none."""
    section = PageSection("Differences")
    if not block.compared:  # a single method, or none shares a fold with its baseline
        return section
    first = block.compared[0].comparisons
    section.items.append(Text(first.words + " " + _STATISTICS))
    n = int(first.table.n.max())
    if n < FEWEST_UNITS:
        words = (
            f"n too small: with {n} {first.unit}{'s' * (n != 1)} no test can reach p < 0.05 and no interval over "
            f"{first.unit}s is given. What follows describes these data; it is no evidence for others."
        )
        section.items.append(Text(words, warning=True))
    for name, against, reference, compared in block.compared:
        file = file_name(name, block.name)
        csv = write_csv(block.folder, file, compared.table)
        section.items.append(_difference_table(compared, f"Against {against}", csv, several=reference.of))
        if (compared.table.n > 0).any():
            section.items.append(draw_differences(compared, file, against, block.styles, block.figures))
    return section


def _difference_table(compared: Comparisons, title: str, csv: str, *, several: dict[str, str]) -> Table:
    unit = compared.unit
    counterparts = len(set(several.values())) > 1
    rows = [
        {
            "method": r["method"],
            **({"against": r["baseline"]} if counterparts else {}),
            "ΔSCC": number(r["difference"], sign=True),
            f"over {unit}s": span(r["units_low"], r["units_high"]),
            "over genes": span(r["genes_low"], r["genes_high"]),
            "over both": span(r["both_low"], r["both_high"]),
            "p": number(r["p"]),
            "p (Holm)": number(r["p_holm"]),
            "higher in": f"{r['better']}/{r['n']}",
            "claim": TOO_SMALL if r["verdict"].startswith(TOO_SMALL) else r["verdict"],
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
    return Table(title, shown, note=note, csv=csv, folded=len(rows) > FOLD_FROM)


def _range(values: Sequence[int] | pd.Series) -> str:
    low, high = int(min(values)), int(max(values))
    return str(low) if low == high else f"{low} to {high}"
