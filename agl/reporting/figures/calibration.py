"""Does a committee know where it is wrong?"""

from __future__ import annotations

from pathlib import Path

from agl.analysis.calibration import CHANCE, Calibration
from agl.reporting.style import MUTED, MethodStyle, SavedFigure, file_name, house_style, new_figure, save


def draw_calibration(found: Calibration, method: str, block: str, style: MethodStyle, folder: Path) -> SavedFigure:
    """Mean distance from the true place over the spread of a committee's members, a dot a tenth of the spots."""
    bins = found.bins
    with house_style():
        figure = new_figure(4.2, 3.0)
        axes = figure.add_subplot()
        axes.axhline(CHANCE, color=MUTED, lw=0.8, ls="--", label="places at random")
        axes.plot(bins.spread, bins.same_place, color=MUTED, lw=1.2, label="spots of the same predicted tenth")
        axes.plot(bins.spread, bins.error, color=style.colour, marker=style.marker, lw=1.6, label="these spots")
        axes.set_xlabel("spread of the members (slide's spreads)")
        axes.set_ylabel("distance from the true place")
        axes.grid(axis="y")
        figure.legend(loc="outside upper right", ncols=2, borderaxespad=0)
    caption = (
        f"{method}: tenths of the test spots of every slide and gene, those on which the members agree most first. A "
        "place is a rank between 0 and 1. Where the coloured line rises above the grey one, the spread knows more than "
        "that ends of a ranking are harder than its middle."
    )
    return save(figure, folder, file_name("calibration", block, method), "Spread and error", caption, bins)
