"""What `agl table` can print after its table: other protocols, gene sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from agl.analysis.protocol_tables import Protocols

LEFT = ("method", "choice", "change", "first", "set")  # columns of words


@dataclass(frozen=True)
class Further:
    """A part of the output: its key and content for JSON, and how it is printed."""

    key: str
    record: Any
    show: Callable[[Console], None]


def columns_of(text: str | None) -> list[str]:
    """Further columns of the table by name, with commas between.

    Raises:
        UserError: a name that is none of them.
    """
    from agl.analysis.tables import FURTHER
    from agl.errors import UserError, did_you_mean

    names = [word.strip() for word in (text or "").split(",") if word.strip()]
    for name in names:
        if name not in FURTHER:
            raise UserError(
                f"Expected --columns among {', '.join(FURTHER)}, received {name!r}.{did_you_mean(name, FURTHER)}"
            )
    return list(dict.fromkeys(names))


def protocols_of(runs: Sequence[Any]) -> Further:
    """Every block of runs under other protocols, and what each single choice moves."""
    from agl.analysis.protocol_tables import CAPTION, runs_protocols

    found = runs_protocols(runs)

    def show(console: Console) -> None:
        for block, each in found.items():
            name = block if len(found) > 1 else ""
            print_table(console, f"protocols {name}", *each.cells())
            print_table(console, f"what each choice moves {name}", *each.move_cells())
            console.print("; ".join(filter(None, (CAPTION, each.firsts))), soft_wrap=True, highlight=False)

    return Further("protocols", [protocols_record(each, block=block) for block, each in found.items()], show)


def protocols_record(found: Protocols, **about: str) -> dict[str, Any]:
    """For JSON: every method under every protocol, and what each single choice moves."""
    return {
        **about,
        "reference": found.reference,
        "scores": found.scores.to_dict("records"),
        "moves": found.moves.to_dict("records"),
    }


def gene_sets_of(runs: Sequence[Any], file: Path) -> Further:
    """Every block's gene sets: the score of a set's mean beside its genes'."""
    from agl.analysis.gene_sets import CAPTION, runs_set_scores, sets_table
    from agl.genes.gmt import read_gmt

    sets = read_gmt(file)
    found = runs_set_scores(runs, sets)
    blocks = {str(block): table for block, table in found.groupby("block", sort=False)}

    def show(console: Console) -> None:
        for block, table in blocks.items():
            print_table(console, f"gene sets {block if len(blocks) > 1 else ''}", *sets_table(table))
            unseen = len(sets) - table.set.nunique()
            left = f"; {unseen} of {len(sets)} sets have fewer than two of these genes" if unseen else ""
            console.print(CAPTION + left, soft_wrap=True, highlight=False)

    return Further("gene_sets", found.to_dict("records"), show)


def print_table(console: Console, title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Words to the left, numbers to the right."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title.strip()), title_justify="left", header_style="bold")
    for heading in titles:
        table.add_column(escape(heading), justify="left" if heading in LEFT else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
