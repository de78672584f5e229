"""Tissue maps: observed, predicted, and what is left, on the spots of a test slide.

Scores of ranking losses have no unit, so observed and predicted values are shown on the one scale they share: the rank
of a spot among the measured spots of its slide, from 0 (lowest) to 1 (highest), ties at their mean rank. The residual
is the difference of the two ranks, and Spearman's correlation of the two pictures is the score over the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from agl.analysis.results import Predictions, Results, read_predictions
from agl.data.example import folder_named
from agl.data.geometry import pitch
from agl.data.images.thumbnails import Thumbnail, find_thumbnail
from agl.errors import UserError, did_you_mean
from agl.reporting.style import (
    MUTED,
    SHADES,
    TWO_SIDED,
    SavedFigure,
    bare,
    file_name,
    house_style,
    new_figure,
    save,
    short,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SLIDES, GENES = 3, 3
WIDTH = 3.1  # inches of one map; three fill the page
DRAWN = 1000  # spots up to which circles are drawn one by one and stay sharp when enlarged


@dataclass(frozen=True)
class Map:
    """One slide of one run: ranks [spot, gene] and where the spots lie."""

    slide: str
    genes: list[str]
    observed: np.ndarray
    predicted: np.ndarray
    counted: np.ndarray  # bool: any count at all
    x: np.ndarray
    y: np.ndarray
    barcode: np.ndarray


def percent_ranks(values: np.ndarray) -> np.ndarray:
    """[spot, gene] ranks from 0 to 1 over the spots, ties at their mean; a lone spot is 0.5.

    >>> percent_ranks(np.array([[3.0], [1.0], [1.0]])).ravel()
    array([1.  , 0.25, 0.25])
    """
    ranks = stats.rankdata(values, axis=0)
    return (ranks - 1) / (len(values) - 1) if len(values) > 1 else np.full(values.shape, 0.5)


def map_of(saved: Predictions, slide: str, genes: Sequence[str]) -> Map:
    """The ranks of a slide's measured spots; expression is counts over library size, as in the scores."""
    here = (saved.slide == slide) & (saved.library_size > 0)
    columns = [saved.genes.index(gene) for gene in genes]
    share = saved.counts[here][:, columns] / saved.library_size[here, None]
    return Map(
        slide,
        list(genes),
        percent_ranks(share),
        percent_ranks(saved.scores[here][:, columns]),
        share > 0,
        saved.x[here],
        saved.y[here],
        saved.barcode[here],
    )


def draw_maps(
    results: Results, block: str, method: str, folder: Path, *, genes: Sequence[str] = (), slides: Sequence[str] = ()
) -> tuple[list[SavedFigure], list[str]]:
    """Maps of chosen genes on chosen slides, one figure a slide, from the method's run with the lowest seed.

    Args:
        genes: default: on each slide, the genes with this method's highest, median and lowest score.
        slides: default: a slide each of the first three patients.

    Returns:
        The figures, and sentences about what could not be drawn.

    Raises:
        UserError: a gene or slide that no run of this method tested, with the nearest name.
    """
    cells = results.cells[(results.cells.block == block) & (results.cells.method == method)]
    chosen_slides = _slides(sorted(set(cells.slide)), results.patients[block], slides)
    known_genes = sorted(set(cells.gene))
    for gene in genes:
        if gene not in known_genes:
            hint = did_you_mean(gene, known_genes)
            raise UserError(f"Expected a primary gene of these runs, received {gene!r}.{hint}")
    drawn, notes = [], []
    for slide in chosen_slides:
        here = cells[cells.slide == slide].sort_values(["seed", "fold"])
        run = int(here.run.iloc[0])
        try:
            saved = read_predictions(results.runs[run].folder)
        except UserError as error:
            notes.append(str(error))
            continue
        asked = list(genes) or _high_to_low(here[here.run == run])
        known = [gene for gene in asked if gene in saved.genes]
        if not known:  # primary genes may differ between folds
            notes.append(f"{slide}: none of {', '.join(asked)} is a primary gene of the run that tests this slide.")
            continue
        found = map_of(saved, slide, known)
        root = results.provenance[run].get("data", {}).get("root")
        picture = find_thumbnail(root and folder_named(root), slide, found.x, found.y, found.barcode)
        drawn.append(_draw(found, picture, block, method, int(here.seed.iloc[0]), folder))
    return drawn, notes


def _draw(found: Map, picture: Thumbnail | None, block: str, method: str, seed: int, folder: Path) -> SavedFigure:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    xy = picture.place(found.x, found.y) if picture else np.column_stack([found.x, found.y])
    extent = np.ptp(xy, axis=0) + pitch(xy, alone=1.0) * 1.2
    tall = float(np.clip(extent[1] / extent[0], 0.5, 1.6))
    with house_style():
        figure = new_figure(3 * WIDTH + 0.8, len(found.genes) * (WIDTH * tall + 0.25) + 0.35)
        grid = figure.subplots(len(found.genes), 3, squeeze=False)
        for row, gene in enumerate(found.genes):
            observed, predicted = found.observed[:, row], found.predicted[:, row]
            seen = np.ma.masked_where(~found.counted[:, row], observed)
            panels = [(seen, SHADES, 0, 1), (predicted, SHADES, 0, 1), (predicted - observed, TWO_SIDED, -1, 1)]
            for axes, (values, colours, low, high) in zip(grid[row], panels, strict=True):
                _spots(axes, xy, values, picture, (colours, low, high))
            grid[row, 0].set_ylabel(short(gene, 16), fontsize=11)
            grid[row, 1].set_title(_score_words(observed, predicted), fontsize=10)
        for axes, words in zip(grid[0], ("observed", "predicted", "predicted − observed"), strict=True):
            said = axes.get_title(loc="left")
            axes.set_title(words + (f", {said}" if said else ""), fontsize=10)
        for colours, low, high, columns in ((SHADES, 0, 1, slice(0, 2)), (TWO_SIDED, -1, 1, slice(2, 3))):
            scale = ScalarMappable(Normalize(low, high), colours)
            bar = figure.colorbar(
                scale, ax=grid[:, columns].ravel().tolist(), location="bottom", shrink=0.5, aspect=30, pad=0.02
            )
            bar.set_ticks([low, (low + high) / 2, high])
            bar.set_label("rank on the slide" if low == 0 else "difference of ranks", fontsize=8.5)
            bar.outline.set_visible(False)
    on = " over the H&E picture in grey" if picture else ""
    caption = (
        f"Slide {found.slide}{on}: {method}, seed {seed}, not trained on this slide's fold. Both pictures show ranks "
        "among the slide's spots, so they share one scale; an empty ring: no count. In the residual, orange is too "
        "high and purple too low."
    )
    name = file_name("map", block, found.slide, method)
    return save(figure, folder, name, f"Slide {found.slide}", caption, _long(found))


def _spots(
    axes: Axes, xy: np.ndarray, values: np.ndarray, picture: Thumbnail | None, scale: tuple[str, float, float]
) -> None:
    """Circles as wide as most of the pitch, in data units, so that they fit at any size; rings without a count."""
    from matplotlib import colormaps
    from matplotlib.collections import EllipseCollection

    colours, low, high = scale
    step = pitch(xy, alone=1.0)
    if picture is not None:
        grey = picture.pixels.mean(2)
        axes.imshow(grey, cmap="gray", vmin=grey.min() - 128, vmax=255, rasterized=True)  # light: spots stand out
    across = step * (0.7 if picture else 0.86)
    empty = np.ma.getmaskarray(values)
    for where, style in (
        (~empty, {"array": np.ma.compressed(values), "cmap": colormaps[colours], "clim": (low, high), "lw": 0}),
        (empty, {"facecolor": "none", "edgecolor": MUTED, "lw": 0.5}),
    ):
        axes.add_collection(
            EllipseCollection(
                [across], [across], [0], units="x", offsets=xy[where], offset_transform=axes.transData,
                rasterized=len(xy) > DRAWN, **style,
            )
        )  # fmt: skip
    low_corner, high_corner = xy.min(0) - step, xy.max(0) + step
    axes.set_xlim(low_corner[0], high_corner[0])
    axes.set_ylim(high_corner[1], low_corner[1])  # picture rows go down
    axes.set_aspect("equal")
    bare(axes)


def _score_words(observed: np.ndarray, predicted: np.ndarray) -> str:
    if len(observed) < 2 or np.ptp(observed) == 0 or np.ptp(predicted) == 0:
        return "SCC undefined"
    return f"SCC {np.corrcoef(observed, predicted)[0, 1]:.2f}".replace("-", "−")


def _slides(known: list[str], patients: dict[str, str], asked: Sequence[str]) -> list[str]:
    for slide in asked:
        if slide not in known:
            raise UserError(f"Expected a test slide of these runs, received {slide!r}.{did_you_mean(slide, known)}")
    if asked:
        return list(asked)
    first: dict[str, str] = {}
    for slide in known:
        first.setdefault(patients.get(slide, slide), slide)
    return list(first.values())[:SLIDES]


def _high_to_low(here: pd.DataFrame) -> list[str]:
    """Genes over the range of a slide's scores, evenly spaced from the highest to the lowest."""
    order = here.groupby("gene").scc.mean().dropna().sort_values(ascending=False)
    places = np.unique(np.linspace(0, len(order) - 1, min(GENES, len(order))).round().astype(int))
    return [str(order.index[place]) for place in places]


def _long(found: Map) -> pd.DataFrame:
    spots: dict[str, Any] = {"barcode": found.barcode, "x": found.x, "y": found.y}
    return pd.concat(
        [
            pd.DataFrame({**spots, "gene": gene, "observed": found.observed[:, i], "predicted": found.predicted[:, i]})
            for i, gene in enumerate(found.genes)
        ],
        ignore_index=True,
    )
