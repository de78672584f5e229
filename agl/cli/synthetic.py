"""`agl synthetic`: STRank's synthetic study."""

from __future__ import annotations

from typing import Annotated

import typer

from agl.errors import UserError

Words = Annotated[list[str] | None, typer.Argument(metavar="[STUDY.yaml] [key=value ...]", show_default=False)]


def synthetic(
    words: Words = None,
    quick: Annotated[bool, typer.Option("--quick", help="The short form under `quick:` of the study file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Two tissues, known functions: every loss on every case at once, beside STRank's published table."""
    import json

    import pandas as pd

    from agl.papers.strank_synthetic.settings import read_study
    from agl.papers.strank_synthetic.study import run_study
    from agl.papers.strank_synthetic.tables import comparison
    from agl.progress import display
    from agl.runs.files import plain
    from agl.studies.quick import quick_words
    from agl.trees import is_override

    given = words or []
    files = [word for word in given if not is_override(word)]
    if quick and not files:
        raise UserError("Expected a study file beside --quick, received none. Write agl synthetic STUDY.yaml --quick.")
    short = [word for file in files for word in quick_words(file)] if quick else []
    study = read_study([*files, *short, *filter(is_override, given)])
    with display() as progress:
        folder = run_study(study, progress=progress)
    if as_json:
        rows = comparison(pd.read_csv(folder / "trainings.csv")).to_dict("records")
        typer.echo(json.dumps(plain(rows), indent=2))
    else:
        typer.echo((folder / "table.md").read_text(encoding="utf-8"))
        typer.echo(f"folder: {folder}")
