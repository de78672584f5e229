"""The score of every number of auxiliary genes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from agl.reporting.style import MUTED, MethodStyle, SavedFigure, file_name, house_style, new_figure, save


def draw_curve(table: pd.DataFrame, method: str, block: str, style: MethodStyle, folder: Path) -> SavedFigure:
    """A line a run: its mean score on left-out training slides over k, with one standard error around it."""
    with house_style():
        figure = new_figure(5.4, 3.0)
        axes = figure.add_subplot()
        for _, run in table.groupby(["fold", "seed"], dropna=False):
            axes.plot(run.k, run.scc, color=style.colour, lw=1.2)
            low, high = run.scc - run.standard_error, run.scc + run.standard_error
            axes.fill_between(run.k, low, high, color=style.colour, alpha=0.12, lw=0)
            axes.axhline(run.scc.iloc[0], color=MUTED, lw=0.6, ls=":")
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(0, table.k.max())
        axes.set_xlabel("k, the first genes of the learned ranking")
        axes.set_ylabel("SCC on left-out training slides")
        axes.grid(axis="y")
    caption = (
        f"{method}: a line is a run, the band one standard error over its left-out slides (which differ far more than "
        "choices do), the dotted line the score without auxiliary genes. Where the curve is flat, no k is better than "
        "another."
    )
    return save(figure, folder, file_name("k-curve", block, method), "Every k of the ranking", caption, table)
