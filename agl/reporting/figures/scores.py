"""Scores of all methods, and their differences from the baseline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from agl.analysis.comparisons import Comparisons
from agl.reporting.style import (
    INK,
    MUTED,
    PAPER,
    MethodStyle,
    SavedFigure,
    file_name,
    house_style,
    new_figure,
    save,
    short,
)

MOST = 16  # methods in one figure; the tables hold them all


def draw_scores(
    frame: pd.DataFrame, block: str, methods: list[str], styles: dict[str, MethodStyle], folder: Path
) -> SavedFigure:
    """One row a method: every fold (mean over its seeds) as a dot, the mean over folds as a bar across them.

    Args:
        frame: runs of one block.
        methods: best first.
    """
    by_fold = frame.groupby(["method", "fold"], dropna=False).scc.mean().rename("scc").reset_index()
    shown = methods[:MOST]
    with house_style():
        figure = new_figure(5.4, 0.75 + 0.32 * len(shown))
        axes = figure.add_subplot()
        for row, method in enumerate(shown):
            values = by_fold[by_fold.method == method].scc.dropna()
            axes.scatter(values, np.full(len(values), row), s=20, color=styles[method].colour, alpha=0.65, lw=0)
            axes.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=styles[method].colour, lw=3)
        axes.locator_params(axis="x", nbins=6)
        axes.set_yticks(range(len(shown)), [short(method) for method in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel("SCC per slide (Spearman, mean over genes)")
    left = f" The best {MOST} of {len(methods)} methods." if len(methods) > MOST else ""
    caption = f"A dot is a fold, averaged over its seeds; the bar is the mean over folds.{left}"
    data = by_fold.merge(pd.Series(range(len(methods)), methods, name="rank").rename_axis("method").reset_index())
    return save(
        figure, folder, file_name("scores", block), "Scores by fold", caption, data.sort_values(["rank", "fold"])
    )


def draw_differences(
    found: Comparisons, name: str, against: str, styles: dict[str, MethodStyle], folder: Path
) -> SavedFigure:
    """One row a method: its difference in every unit, their mean, and the intervals over units and over genes."""
    table = found.table[found.table.n > 0].head(MOST)
    over_units = bool(np.isfinite(table.units_low).any())
    rng = np.random.default_rng(0)
    with house_style():
        figure = new_figure(5.4, 1.1 + 0.42 * len(table))
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, lw=1)
        for row, each in enumerate(table.to_dict("records")):
            colour = styles[each["method"]].colour
            units = found.units[found.units.method == each["method"]].difference.dropna()
            jitter = (rng.random(len(units)) - 0.5) * 0.2 if len(units) > 12 else np.zeros(len(units))
            axes.scatter(units, row + jitter, s=12, color=colour, alpha=0.5, lw=0)
            if np.isfinite(each["units_low"]):
                axes.plot(
                    [each["units_low"], each["units_high"]], [row - 0.26] * 2, color=colour, lw=3, solid_capstyle="butt"
                )
            if np.isfinite(each["genes_low"]):
                axes.plot([each["genes_low"], each["genes_high"]], [row + 0.26] * 2, color=colour, lw=1.2)
            axes.scatter(each["difference"], row, marker="D", s=34, color=colour, edgecolor=PAPER, lw=0.8, zorder=3)
        axes.locator_params(axis="x", nbins=5)
        axes.set_yticks(range(len(table)), [short(str(name)) for name in table.method])
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel(f"difference in SCC from {against}" if len(against) < 26 else "difference in SCC")
        thick = axes.plot([], [], color=INK, lw=3, label=f"95% interval over {found.unit.name}s")
        thin = axes.plot([], [], color=INK, lw=1.2, label="spread over genes")
        intervals = ([*thick] if over_units else []) + [*thin]
        figure.legend(handles=intervals, loc="outside upper right", ncols=2, borderaxespad=0)
    unit = found.unit.name
    thick_line = f"The thick line asks whether other {unit}s would show the difference. " if over_units else ""
    caption = (
        f"A dot is a {unit}, the diamond the mean over {unit}s. {thick_line}The thin line is the spread over genes, "
        "for these very slides and seeds: no ground for a claim."
    )
    data = found.units.merge(found.table, on=["method", "baseline"], suffixes=("", "_mean"))
    return save(figure, folder, name, f"Every {unit}'s difference from {against}", caption, data)
