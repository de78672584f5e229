"""What several commands print, and the arguments they share."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

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
) -> None:
    """The table of some runs, for people or as JSON; `unfinished` folders are named below it."""
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
        )
        return
    # Redirected, a table may be as wide as it needs to be.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    console.print(rich_table(methods, pooled=pooled))
    folders = sorted({str(run.folder.parent) for run in runs})
    counted = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    typer.echo(f"{counted} in this table; folders: {', '.join(folders)}")
    if unfinished:
        others = f"  and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        typer.echo(f"{len(unfinished)} not finished (failed, interrupted or at work), hence not in it:")
        typer.echo("".join(f"  {folder}\n" for folder in unfinished[:3]) + others, nl=bool(others))


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
