"""Gene by gene: one method against another, and which genes profit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from agl.reporting.style import (
    DOWN,
    MUTED,
    UP,
    MethodStyle,
    SavedFigure,
    file_name,
    house_style,
    log_axis,
    new_figure,
    save,
    short,
)

NAMED_BARS = 60  # genes whose names fit under the bars
PANELS = 6


@dataclass(frozen=True)
class Pair:
    """A method and the one it is compared with, gene by gene.

    Attributes:
        method, baseline: their names.
        table: index gene; columns baseline, method (scores), difference (paired), mean_count, zero_fraction.
    """

    method: str
    baseline: str
    table: pd.DataFrame


def draw_scatter(pairs: list[Pair], block: str, styles: dict[str, MethodStyle], folder: Path) -> SavedFigure:
    """One panel a method: every gene's score with the baseline (across) and with the method (up)."""
    shown = pairs[:PANELS]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    values = np.concatenate([pair.table[["baseline", "method"]].to_numpy().ravel() for pair in shown])
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.06 * (high - low or 1)
    with house_style():
        figure = new_figure(1.75 * columns + 0.5, 1.95 * rows + 0.4)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, pair in zip(grid.flat, shown, strict=False):
            style, table = styles[pair.method], pair.table.dropna(subset=["difference"])
            axes.plot([low - room, high + room], [low - room, high + room], color=MUTED, lw=0.8)
            axes.scatter(table.baseline, table.method, s=16, color=style.colour, marker=style.marker, alpha=0.75, lw=0)
            up = int((table.difference > 0).sum())
            axes.set_title(f"{short(pair.method, 24)}\n{up} of {len(table)} genes higher", fontsize=8)
            axes.set_xlim(low - room, high + room)
            axes.set_ylim(low - room, high + room)
            axes.set_aspect("equal")
            axes.grid()
        for axes in grid.flat[len(shown) :]:
            axes.remove()
        names = sorted({pair.baseline for pair in shown})
        figure.supxlabel(f"SCC, {short(names[0], 40)}" if len(names) == 1 else "SCC, its counterpart", fontsize=9)
        figure.supylabel("SCC, method", fontsize=9)
    data = pd.concat(
        [pair.table.reset_index().assign(method_name=pair.method, baseline_name=pair.baseline) for pair in shown]
    )
    caption = "A point is a gene, averaged over slides, folds and seeds. Above the line, the method ranks better."
    return save(figure, folder, file_name("genes-scatter", block), "Gene by gene", caption, data)


def draw_bars(pair: Pair, block: str, folder: Path) -> SavedFigure:
    """Every gene's difference, sorted; the ends of the order where there are too many genes to name."""
    table = pair.table.dropna(subset=["difference"]).sort_values("difference", ascending=False)
    half = NAMED_BARS // 2
    cut = len(table) > NAMED_BARS
    shown = pd.concat([table.head(half), table.tail(half)]) if cut else table
    places = np.arange(len(shown)) + np.where(np.arange(len(shown)) >= half, 2, 0) * cut
    with house_style():
        figure = new_figure(max(3.6, 0.9 + 0.135 * len(shown)), 3.0)
        axes = figure.add_subplot()
        axes.bar(places, shown.difference, width=0.78, color=np.where(shown.difference > 0, UP, DOWN))
        axes.axhline(0, color=MUTED, lw=0.8)
        axes.set_xticks(places, [short(str(gene), 14) for gene in shown.index], rotation=90, fontsize=7.5)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-1, places.max() + 1 if len(places) else 1)
        axes.grid(axis="y")
        axes.set_ylabel("difference in SCC")
    left = f" The {half} largest gains and losses of {len(table)} genes." if cut else ""
    caption = f"{pair.method} minus {pair.baseline}, averaged over paired slides and seeds.{left}"
    return save(figure, folder, file_name("genes-bars", block), "Gains and losses", caption, table.reset_index())


def draw_profit(pair: Pair, block: str, styles: dict[str, MethodStyle], folder: Path) -> SavedFigure:
    """Differences against how abundant and how sparse each gene is."""
    table = pair.table.dropna(subset=["difference"])
    style = styles[pair.method]
    axis_words = {"mean_count": "mean count a spot", "zero_fraction": "fraction of spots without a count"}
    with house_style():
        figure = new_figure(5.4, 2.5)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (column, words) in zip(panels, axis_words.items(), strict=True):
            axes.axhline(0, color=MUTED, lw=0.8)
            axes.scatter(
                table[column], table.difference, s=18, color=style.colour, marker=style.marker, alpha=0.75, lw=0
            )
            axes.set_title(correlation_words(table[column], table.difference))
            axes.set_xlabel(words)
            axes.grid()
        if (table.mean_count > 0).all():
            log_axis(panels[0])
        panels[0].set_ylabel("difference in SCC")
    caption = (
        f"{pair.method} minus {pair.baseline}; a point is a gene. The rank correlation describes these genes; it "
        "carries no p, for genes of one tissue are not independent."
    )
    return save(figure, folder, file_name("genes-profit", block), "Who profits?", caption, table.reset_index())


def correlation_words(x: pd.Series, y: pd.Series) -> str:
    """Spearman's correlation in words, or that there is none.

    >>> correlation_words(pd.Series([1.0, 2, 3]), pd.Series([2.0, 4, 9]))
    'ρ = 1.00 (3 genes)'
    """
    if len(x) < 3 or x.nunique() < 2 or y.nunique() < 2:
        return f"ρ undefined ({len(x)} genes)"
    return f"ρ = {stats.spearmanr(x, y).statistic:.2f} ({len(x)} genes)".replace("-", "−")
