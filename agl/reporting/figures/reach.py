"""How far every gene is from what its counts allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agl.reporting.figures.genes import correlation_words
from agl.reporting.style import INK, MUTED, MethodStyle, SavedFigure, file_name, house_style, new_figure, save, short

NAMED = 60  # genes whose names fit below the axis
LABELLED = 6  # genes that are named beside their points


def draw_reach(table: pd.DataFrame, method: str, block: str, style: MethodStyle, folder: Path) -> SavedFigure:
    """A method's score of every gene as a point, the gene's noise ceiling as a bar across, what is missing between.

    Args:
        table: [gene] with the columns scc and ceiling, see `agl.analysis.results.gene_reach`.
    """
    order = table.sort_values("scc", ascending=False, kind="stable")
    half = NAMED // 2
    shown = pd.concat([order.head(half), order.tail(half)]) if len(order) > NAMED else order
    places = np.arange(len(shown)) + 2 * ((np.arange(len(shown)) >= half) & (len(order) > NAMED))
    with house_style():
        figure = new_figure(max(3.6, 0.9 + 0.135 * len(shown)), 3.0)
        axes = figure.add_subplot()
        axes.vlines(places, shown.scc, shown.ceiling, color=MUTED, lw=0.6, alpha=0.5)
        axes.hlines(shown.ceiling, places - 0.38, places + 0.38, color=INK, lw=1.6, label="ceiling")
        axes.scatter(places, shown.scc, s=16, color=style.colour, marker=style.marker, lw=0, zorder=3, label="SCC")
        axes.axhline(0, color=MUTED, lw=0.8)
        axes.set_xticks(places, [short(str(gene), 14) for gene in shown.index], rotation=90, fontsize=7.5)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-1, places.max() + 1)
        axes.grid(axis="y")
        axes.set_ylabel("SCC per slide")
        figure.legend(loc="outside upper right", ncols=2, borderaxespad=0)
    left = f" The {half} best and worst ranked of {len(order)} genes." if len(order) > NAMED else ""
    caption = (
        f"{method}, averaged over slides, folds and seeds. The ceiling is what the true expression itself would score "
        f"with counts this noisy, estimated from halves of the counts; it is rough where it is low.{left}"
    )
    name = file_name("genes-reach", block)
    return save(figure, folder, name, "How far from the ceiling", caption, order.reset_index())


def draw_predictability(table: pd.DataFrame, method: str, block: str, style: MethodStyle, folder: Path) -> SavedFigure:
    """A method's score of every gene against the gene's predictability without training.

    Args:
        table: [gene] with the columns scc and predictability, see `agl.analysis.results.gene_predictability`.
    """
    rank = table.rank()
    apart = (rank.scc - rank.predictability).abs().sort_values(ascending=False, kind="stable").index
    with house_style():
        figure = new_figure(3.6, 3.0)
        axes = figure.add_subplot()
        axes.axhline(0, color=MUTED, lw=0.8)
        axes.axvline(0, color=MUTED, lw=0.8)
        axes.scatter(table.predictability, table.scc, s=18, color=style.colour, marker=style.marker, alpha=0.75, lw=0)
        for gene in _legible(table, apart):
            place = (table.predictability[gene], table.scc[gene])
            left = place[0] > 0.8 * table.predictability.max()  # or the name would leave the figure
            axes.annotate(
                short(str(gene), 14), place, xytext=(-3 if left else 3, 3), textcoords="offset points", fontsize=7,
                ha="right" if left else "left",
            )  # fmt: skip
        axes.set_title(correlation_words(table.predictability, table.scc))
        axes.set_xlabel("predictability without training")
        axes.set_ylabel("SCC per slide")
        axes.grid()
    caption = (
        f"{method}; a point is a gene, averaged over slides, folds and seeds. Predictability is Moran's I of its "
        "expression over training spots of other slides that look alike; the genes whose two ranks differ most are "
        "named. The rank correlation describes these genes and carries no p."
    )
    name = file_name("genes-predictability", block)
    return save(figure, folder, name, "Could it be foreseen?", caption, table.reset_index())


def _legible(table: pd.DataFrame, genes: pd.Index) -> list[Any]:
    """The first genes that may be named without one name lying on another's."""
    width, height = np.ptp(table.predictability) or 1.0, np.ptp(table.scc) or 1.0
    chosen: list[Any] = []
    for gene in genes:
        x, y = table.predictability[gene], table.scc[gene]
        near = (
            abs(x - table.predictability[other]) < 0.2 * width and abs(y - table.scc[other]) < 0.05 * height
            for other in chosen
        )
        if not any(near):
            chosen.append(gene)
        if len(chosen) == LABELLED:
            break
    return chosen
