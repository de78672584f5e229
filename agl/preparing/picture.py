"""The picture that shows whether an image fits the counts: spots on the section, counts beside stain, eight ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agl.data.geometry import pitch
from agl.preparing.fitting import Fit
from agl.preparing.section import Section


def draw(path: Path, section: Section, small: np.ndarray, scale: float, found: list[Fit], totals: np.ndarray) -> None:
    """Write a PNG: spots coloured by total counts over the picture, the bare picture, correlation of the eight ways."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    coarse = max(1, max(small.shape[:2]) // 600)
    small, scale = small[::coarse, ::coarse], scale / coarse
    figure = Figure(figsize=(14, 5), layout="constrained")
    FigureCanvasAgg(figure)
    bare, spots, bars = figure.subplots(1, 3, width_ratios=[1, 1.1, 0.8])
    x, y = (section.xy * scale).T
    for axes in (bare, spots):
        axes.imshow(small)
        axes.set(xticks=[], yticks=[])
    bare.set_title(f"{section.name}: image")
    inches = 14 / 2.9 / max(1, small.shape[1])
    size = (72 * inches * 0.55 * scale * pitch(section.xy, 100.0)) ** 2
    drawn = spots.scatter(x, y, c=np.log1p(totals), s=max(size, 0.2), cmap="viridis", linewidths=0, alpha=0.8)
    spots.set_title("log(1 + total counts) of the spots")
    figure.colorbar(drawn, ax=spots, shrink=0.7)
    order = np.arange(len(found))[::-1]
    bars.barh(order + 0.2, [np.nan_to_num(f.correlation) for f in found], 0.4, label="correlation of counts and stain")
    bars.barh(order - 0.2, [f.on_tissue for f in found], 0.4, label="share on tissue", color="0.7")
    bars.set_yticks(order, [f.way for f in found], fontsize=7)
    bars.axvline(0, color="0.3", linewidth=0.8)
    bars.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.05))
    bars.set_title("other ways to lay the spots on the image", fontsize=9)
    figure.savefig(path, format="png", dpi=90)
