"""How figures look: one colour and marker a method on the whole page, light and dark from the same drawing.

Colours are Okabe and Ito's, told apart with any common colour vision (https://jfly.uni-koeln.de/color/), without the
yellow that vanishes on white. Ink, grid and paper are drawn in three marked greys; in the page they become CSS
variables, so a figure follows the reader's light or dark theme without a second copy.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from agl.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b1c1d", "#6f7071", "#dcdddf", "#fefefd"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6fbf", "#7f7f7f")
VARIABLES = {colour: f"--c{i}" for i, colour in enumerate(COLOURS)}  # lighter ones on dark paper
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
UP, DOWN = COLOURS[0], COLOURS[1]
SHADES = "viridis"  # more is lighter, also in grey
TWO_SIDED = "PuOr_r"
LARGE_PICTURE = 1 << 14  # bytes

RULES: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "legend.fontsize": 8.5,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "axes.titlecolor": INK,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.axisbelow": True,
    "axes.titlelocation": "left", "grid.color": GRID, "grid.linewidth": 0.7, "legend.frameon": False,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "white",
    "lines.linewidth": 1.4, "svg.fonttype": "path", "image.interpolation": "nearest",
    "text.parse_math": False,  # a dollar in a name is a dollar
}  # fmt: skip


@dataclass(frozen=True)
class MethodStyle:
    """A method's colour and marker."""

    colour: str
    marker: str


def method_styles(methods: Iterable[str]) -> dict[str, MethodStyle]:
    """Each method's colour and marker, by its place; the eighth takes the first colour with another marker.

    >>> method_styles(["mse", "listwise"])["listwise"]
    MethodStyle(colour='#d55e00', marker='s')
    """
    return {
        name: MethodStyle(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(dict.fromkeys(methods))
    }


@dataclass(frozen=True)
class SavedFigure:
    """A finished figure: its files lie in `figures/`, its drawing goes into the page.

    Attributes:
        name: of its files: NAME.svg, NAME.png, NAME.csv.
        title, caption: plain text.
        svg: for the page, in CSS colours.
        width: natural width in CSS pixels.
    """

    name: str
    title: str
    caption: str
    svg: str
    width: int


@contextmanager
def house_style() -> Iterator[None]:
    """Draw inside this."""
    import matplotlib as mpl

    with mpl.rc_context(RULES):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches; without pyplot, so nothing is left open."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, folder: Path, name: str, title: str, caption: str, data: pd.DataFrame) -> SavedFigure:
    """Write NAME.svg, NAME.png and NAME.csv (what was drawn) and give back what the page needs."""
    import matplotlib as mpl

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({**RULES, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a pictogram in a name is a box
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, for both files
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, dpi=160, transparent=True)
        figure.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})
    svg = text.getvalue()
    start = svg.index(">", svg.index("<svg")) + 1
    paper = '<rect width="100%" height="100%" fill="white"/>'
    (folder / f"{name}.svg").write_text(svg[:start] + paper + svg[start:], encoding="utf-8")
    data.to_csv(folder / f"{name}.csv", index=False)
    return SavedFigure(name, title, caption, inline_svg(svg, name, title), round(figure.get_figwidth() * 96))


def inline_svg(svg: str, name: str, title: str) -> str:
    """An SVG file as an element of a page: no prolog, ids of its own, theme colours as CSS variables."""
    body, name = svg[svg.index("<svg") :], f"f{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    theme = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"}
    for colour, variable in (theme | VARIABLES).items():
        body = body.replace(colour, f"var({variable})")
    # Matplotlib leaves black unsaid: glyphs without a fill of their own are ink.
    body = re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", _lighter, body)
    label = title.replace("&", "and").replace('"', "'").replace("<", "less than ")
    return body.replace("<svg", f'<svg role="img" aria-label="{label}" fill="var(--ink)"', 1)


def _lighter(picture: re.Match[str]) -> str:
    """A large picture inside a drawing as WebP, which is a tenth of its PNG."""
    from PIL import Image, features

    data = base64.b64decode(picture[1])
    if len(data) < LARGE_PICTURE or not features.check("webp"):
        return picture[0]
    lighter = io.BytesIO()
    Image.open(io.BytesIO(data)).save(lighter, "WEBP", quality=60, method=4)
    return f"data:image/webp;base64,{base64.b64encode(lighter.getvalue()).decode('ascii')}"


def bare(axes: Axes) -> None:
    """No axes around pictures and maps."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def log_axis(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5 of each decade: few enough not to overlap."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def file_name(*words: str) -> str:
    """Words as part of a file name.

    >>> file_name("differences", "her2st · patient", "listwise + top(k=5)")
    'differences-her2st-patient-listwise-top-k-5'
    """
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", " ".join(words)).strip("-.")
    if not name:
        raise UserError(f"Expected words for a file name, received {words!r}.")
    return name[:100]


def short(text: str, length: int = 34) -> str:
    """Text that fits beside an axis.

    >>> short("a very long name of a method", 12)
    'a very long…'
    """
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
