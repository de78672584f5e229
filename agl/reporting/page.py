"""Sections as one self-contained HTML page, and as Markdown beside the figures' files."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from agl.reporting.parts import Answers, Item, Listing, PageSection, Table, Text
from agl.reporting.style import VARIABLES, MethodStyle, SavedFigure

LONG, SHORT = 40, 28  # characters from which a cell gets room of its own, and up to which it stays on one line
LARGEST = 1 << 18  # bytes of a table that goes into the page; all are beside it
FITS = 600  # CSS pixels a figure may have to be shrunk to a phone's width; wider ones are scrolled


def to_html(
    title: str,
    subtitle: str,
    sections: Sequence[PageSection],
    styles: Mapping[str, MethodStyle],
    footer: str,
    folder: Path,
) -> str:
    """One page that can be sent alone: styles, drawings and the numbers behind them are inside, nothing is fetched.

    Args:
        styles: give the methods' names their colour.
        folder: of the report, where the tables and the figures' numbers are; those above `LARGEST` stay there.
    """
    from jinja2 import Environment

    files = resources.files("agl.reporting")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (files / "page.html").read_text("utf-8")
    )
    return template.render(
        title=title,
        subtitle=subtitle,
        css=(files / "page.css").read_text("utf-8"),
        footer=footer,
        chapters=_contents(sections),
        sections=[
            {
                "title": s.title,
                "chapter": s.chapter,
                "anchor": s.anchor,
                "items": [_item(item, styles, folder) for item in s.items],
            }
            for s in sections
        ],
    )


def _contents(sections: Sequence[PageSection]) -> dict[str, list[PageSection]]:
    """Sections by chapter, for the links at the top: a line each, those without a chapter first."""
    chapters: dict[str, list[PageSection]] = {"": []}
    for section in sections:
        chapters.setdefault(section.chapter, []).append(section)
    return chapters


def to_markdown(title: str, subtitle: str, sections: Sequence[PageSection], footer: str) -> str:
    """The same for a repository: tables as Markdown, figures by their files."""
    parts = [f"# {title}", subtitle]
    for section in sections:
        parts.append(f"## {section.heading}")
        parts += [_in_markdown(item) for item in section.items]
    return "\n\n".join(part for part in [*parts, footer] if part) + "\n"


def markdown_table(table: Table) -> str:
    """
    >>> import pandas as pd
    >>> print(markdown_table(Table("", pd.DataFrame({"method": ["a|b"], "SCC": ["0.5"]}), frozenset({(0, "SCC")}))))
    | method | SCC |
    |---|---:|
    | a\\|b | **0.5** |
    """
    columns = [str(column) for column in table.rows.columns]
    lines = ["| " + " | ".join(_cell(column) for column in columns) + " |"]
    lines.append("|" + "|".join("---:" if table.is_number(column) else "---" for column in columns) + "|")
    for i, row in enumerate(table.rows.itertuples(index=False)):
        cells = [_cell(str(value)) for value in row]
        cells = [f"**{cell}**" if (i, name) in table.bold else cell for cell, name in zip(cells, columns, strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _in_markdown(item: Item) -> str:
    if isinstance(item, Text):
        return f"> **Note.** {item.words}" if item.warning else item.words
    if isinstance(item, Listing):
        return f"<details><summary>{_cell(item.title)}</summary>\n\n```yaml\n{item.text.rstrip()}\n```\n\n</details>"
    if isinstance(item, Answers):
        return "\n".join(f"* {each.question}: **{each.value}** ({each.spread})" for each in item.numbers)
    if isinstance(item, SavedFigure):
        return f"### {item.title}\n\n![{item.title}](figures/{item.name}.png)\n\n{item.caption}"
    heading = f"### {item.title}\n\n" if item.title else ""
    below = " ".join(part for part in (item.note, f"[CSV]({item.csv})" if item.csv else "") if part)
    return f"{heading}{markdown_table(item)}" + (f"\n\n{below}" if below else "")


def _item(item: Item, styles: Mapping[str, MethodStyle], folder: Path) -> dict[str, Any]:
    if isinstance(item, Text):
        return {"kind": "text", "words": item.words, "warning": item.warning}
    if isinstance(item, Listing):
        return {"kind": "listing", "title": item.title, "text": item.text}
    if isinstance(item, Answers):
        return {"kind": "answers", "numbers": item.numbers}
    if isinstance(item, SavedFigure):
        link = _inside(folder / "figures" / f"{item.name}.csv")
        return {
            "kind": "figure",
            **vars(item),
            "link": link,
            "least": round(item.width * 0.8) if item.width > FITS else 0,
        }
    numeric = {column: item.is_number(column) for column in item.rows.columns}
    rows = []
    for i, row in enumerate(item.rows.to_dict("records")):
        cells = []
        for column, value in row.items():
            text, name = str(value), str(column)
            style = styles.get(text) if name == "method" else None
            css = "number" if numeric[name] else "long" if len(text) > LONG else "word" if len(text) < SHORT else ""
            cells.append(
                {
                    "text": text,
                    "bold": (i, name) in item.bold,
                    "css": css,
                    "colour": style and f"var({VARIABLES[style.colour]})",
                }
            )
        rows.append(cells)
    return {
        "kind": "table",
        "title": item.title,
        "css": "protocol" if item.title == "Protocol" else "wide",
        "columns": [{"title": str(column), "number": numeric[column]} for column in item.rows.columns],
        "rows": rows,
        "note": item.note,
        "link": _inside(folder / item.csv) if item.csv else "",
        "file": Path(item.csv).name,
        "folded": item.folded,
    }


def _inside(file: Path) -> str:
    """A file's content as a link that works wherever the page is; empty for one that is too large, or not there."""
    if not file.is_file() or file.stat().st_size > LARGEST:
        return ""
    return f"data:text/csv;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
