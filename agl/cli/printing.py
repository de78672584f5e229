"""What several commands print, and the arguments they share."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from agl.analysis.comparisons import Comparisons
    from agl.cli.further import Further
    from agl.prediction.cohort import CohortScores

Words = Annotated[list[str] | None, typer.Argument(metavar="[CONFIG.yaml] [key=value ...]", show_default=False)]
WARNINGS_SHOWN = 20
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_runs(
    runs: list[Any],
    as_json: bool,
    *,
    pooled: bool = False,
    csv: Path | None = None,
    unfinished: Sequence[Path] | None = None,
    against: dict[str, Comparisons] | None = None,
    further: Sequence[Further] = (),
    columns: Sequence[str] = (),
) -> None:
    """The table of some runs, for people or as JSON; `unfinished` folders are named below it.

    Differences from a method (`against`) and `further` tables come after it.
    """
    from rich.console import Console

    from agl.analysis.tables import methods_frame, rich_table, runs_frame
    from agl.runs.files import write_text

    frame = runs_frame(runs)
    methods = methods_frame(frame)
    if csv is not None:
        write_text(csv, frame.to_csv(index=False))
    if as_json:
        print_json(
            {
                "methods": json.loads(methods.to_json(orient="records")),
                "runs": json.loads(frame.to_json(orient="records")),
            }
            | ({} if unfinished is None else {"unfinished": [str(folder) for folder in unfinished]})
            | ({} if against is None else {"differences": _differences(against)})
            | {each.key: each.record for each in further}
        )
        return
    # Redirected, a table may be as wide as it needs to be.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    console.print(rich_table(methods, pooled=pooled, columns=columns))
    for block, compared in (against or {}).items():
        _print_differences(console, block if len(against or {}) > 1 else "", compared)
    for each in further:
        each.show(console)
    folders = sorted({str(run.folder.parent) for run in runs})
    counted = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    typer.echo(f"{counted} in this table; folders: {', '.join(folders)}")
    if unfinished:
        others = f"  and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        typer.echo(f"{len(unfinished)} not finished (failed, interrupted or at work), hence not in it:")
        typer.echo("".join(f"  {folder}\n" for folder in unfinished[:3]) + others, nl=bool(others))


def compare_runs(runs: list[Any], baseline: str, margin: float) -> dict[str, Comparisons]:
    """Every block's differences from a baseline, as a report has them."""
    from agl.analysis.comparisons import compare
    from agl.analysis.methods import reference
    from agl.analysis.results import read_results
    from agl.errors import UserError

    if not 0 < margin < 1:
        raise UserError(f"Expected --margin between 0 and 1, received {margin}; the SCC lies in [-1, 1].")
    results, found, errors = read_results(runs), {}, []
    for block in results.blocks:
        try:
            against = reference(results.frame[results.frame.block == block], baseline)
        except UserError as error:
            errors.append(error)
            continue
        if against is not None:
            found[block] = compare(results, block, against, margin=margin)
    if not found and errors:
        raise errors[0]
    return {block: compared for block, compared in found.items() if len(compared.table)}


def _differences(against: dict[str, Comparisons]) -> list[dict[str, Any]]:
    return [
        {"block": block, "unit": compared.unit.name} | {str(key): value for key, value in row.items()}
        for block, compared in against.items()
        for row in compared.table.to_dict("records")
    ]


def _print_differences(console: Console, block: str, compared: Comparisons) -> None:
    from rich.table import Table

    unit = compared.unit.name
    table = Table(title=" ".join(("differences in SCC", block)).strip(), title_justify="left", header_style="bold")
    for title in (
        "method",
        "against",
        "difference",
        f"95%, {unit}s",
        "p (Holm)",
        f"p (within {compared.margin:g})",
        unit,
    ):
        table.add_column(f"{title}s" if title == unit else title)
    table.add_column("claim")
    for row in compared.table.to_dict("records"):
        interval = (
            f"{row['units_low']:+.3f} to {row['units_high']:+.3f}" if row["units_low"] == row["units_low"] else "-"
        )
        p = [f"{row[name]:.3f}" if row[name] == row[name] else "-" for name in ("p_holm", "p_alike_holm")]
        higher = f"higher in {row['better']}/{row['n']}"
        table.add_row(row["method"], row["baseline"], f"{row['difference']:+.3f}", interval, *p, higher, row["verdict"])
    console.print(table)
    console.print(f"{compared.unit.words} {compared.seed_words}", soft_wrap=True)


def print_cohort(found: CohortScores, as_json: bool, csv: Path | None) -> None:
    """A model's scores on an outside cohort: slides, then the genes from the best to the worst."""
    from rich.console import Console
    from rich.table import Table

    from agl.runs.files import write_text

    if csv is not None:
        write_text(csv, found.table.to_csv(index=False))
    if as_json:
        frames = {name: json.loads(getattr(found, name).to_json(orient="records")) for name in ("slides", "genes")}
        print_json({"numbers": found.numbers, **frames, "notes": found.notes})
        return
    print_warnings(found.notes)
    console = Console() if sys.stdout.isatty() else Console(width=180)
    numbers = found.numbers
    console.print(
        f"{numbers['measured']} of {numbers['genes']} genes are measured there. SCC per slide {numbers['scc']:.3f}, "
        f"{numbers['share']:.0%} of reachable; PCC per slide {numbers['pcc']:.3f}",
        highlight=False,
    )
    shown = {"slides": ["slide", "spots", "scc", "shift", "stretch"], "genes": list(found.genes.columns)}
    for name, columns in shown.items():
        table = Table(title=name, title_justify="left", header_style="bold")
        for column in columns:
            table.add_column(column, justify="left" if column in ("slide", "gene") else "right")
        rows = getattr(found, name).sort_values("scc", ascending=False, kind="stable")[columns]
        for row in rows.itertuples(index=False):
            table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
        console.print(table)
    console.print("shift, stretch: features against training, in training spreads and times (medians over features)")


def print_warnings(warnings: Sequence[str]) -> None:
    """What was seen in the data, on standard error, as many as a screen shows."""
    for warning in warnings[:WARNINGS_SHOWN]:
        typer.echo(f"warning: {warning}", err=True)
    if len(warnings) > WARNINGS_SHOWN:
        typer.echo(f"and {len(warnings) - WARNINGS_SHOWN} more warnings: agl check lists them all", err=True)


def print_json(content: Any) -> None:
    """Plain JSON; NaN is null."""
    from agl.runs.files import plain

    typer.echo(json.dumps(plain(content), indent=2, default=str))
