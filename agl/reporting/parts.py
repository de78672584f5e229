"""What a page is made of: sections of texts, numbers, tables, listings and figures, for HTML and Markdown alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from agl.reporting.style import SavedFigure

FOLD_FROM = 16  # rows from which a table is folded


@dataclass(frozen=True)
class Text:
    """A paragraph. `warning` sets it apart."""

    words: str
    warning: bool = False


@dataclass(frozen=True)
class Table:
    """A table as it is read: strings only, numbers to the right.

    Attributes:
        title: words above it.
        rows: the cells.
        bold: positions (row, column name) of the best.
        note: words below it.
        csv: the file with all of it, in full precision, relative to the report's folder.
        folded: hidden until it is asked for.
    """

    title: str
    rows: pd.DataFrame
    bold: frozenset[tuple[int, str]] = frozenset()
    note: str = ""
    csv: str = ""
    folded: bool = False

    def is_number(self, column: str) -> bool:
        """Whether the column's cells are numbers (with their spread) and stand to the right."""
        return bool(self.rows[column].astype(str).str.match(r"^[-−+±\d.,/%<>=\s\[\]…]*$|^undefined$|^–$").all())


@dataclass(frozen=True)
class Listing:
    """Preformatted text, hidden until it is asked for."""

    title: str
    text: str


@dataclass(frozen=True)
class Answer:
    """A number set large: what it answers, the number, and how sure it is."""

    question: str
    value: str
    spread: str


@dataclass(frozen=True)
class Answers:
    """Numbers side by side, for the first thing a reader sees."""

    numbers: tuple[Answer, ...]


Item = Text | Answers | Table | Listing | SavedFigure


@dataclass
class PageSection:
    """A heading and what is below it; `chapter` names the block of runs it speaks of, where there are several."""

    title: str
    items: list[Item] = field(default_factory=list)
    chapter: str = ""

    @property
    def heading(self) -> str:
        """Title and chapter."""
        return f"{self.title} · {self.chapter}" if self.chapter else self.title

    @property
    def anchor(self) -> str:
        """The heading as a link's target."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.heading.lower()).split())


def write_csv(folder: Path, name: str, table: pd.DataFrame) -> str:
    """A table in full precision; its path relative to the report."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "tables" / f"{name}.csv", index=False)
    return f"tables/{name}.csv"


def number(value: object, digits: int = 3, sign: bool = False) -> str:
    """A number for a table.

    >>> number(0.12345), number(-0.02, sign=True), number(float("nan"))
    ('0.123', '−0.020', '–')
    """
    if not isinstance(value, (int, float)) or pd.isna(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def span(low: float, high: float) -> str:
    """An interval for a table.

    >>> span(-0.01, 0.2), span(float("nan"), 0.1)
    ('[−0.010, +0.200]', '–')
    """
    return "–" if pd.isna(low) or pd.isna(high) else f"[{number(low, sign=True)}, {number(high, sign=True)}]"
