"""`agl hest` and `agl download`: HEST-bench folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agl.errors import UserError, did_you_mean

Tasks = Annotated[list[str] | None, typer.Option(help="IDC, PRAD, ...; may be repeated. Default: all that are there.")]


def hest(
    root: Annotated[Path, typer.Argument(help="The benchmark's folder, or one task's.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)] = None,
    task: Tasks = None,
    encoder: Annotated[
        list[str] | None, typer.Option(help="Folder names of embeddings, or builtin; may be repeated. Default: all.")
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="hest, strank, strank-safe or sound; may be repeated. Default: hest.")
    ] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Folder of TASK/ENCODER/SLIDE.h5.")] = None,
    output: Annotated[Path, typer.Option(help="Where the run folders go.")] = Path("runs/hest"),
    out: Annotated[Path | None, typer.Option(help="Also write the table to OUT.md and OUT.csv.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """HEST-bench tasks under three protocols, published figures beside ours. Needs no network."""
    import json

    from agl.papers.hest.benchmark import markdown, run_benchmark
    from agl.papers.hest.folders import find_tasks
    from agl.papers.hest.protocols import PROTOCOLS
    from agl.progress import display
    from agl.runs.files import plain, write_text
    from agl.trees import is_override

    for name in protocol or []:
        if name not in PROTOCOLS:
            raise UserError(
                f"Expected a protocol among {', '.join(PROTOCOLS)}, received {name!r}.{did_you_mean(name, PROTOCOLS)}"
            )
    for word in words or []:
        if not is_override(word):
            raise UserError(f"Expected key=value after the folder, received {word!r}.")
    tasks, broken = find_tasks(root, task or [], embeddings)
    for sentence in broken:
        typer.echo(f"Left out: {sentence}", err=True)
    with display() as progress:
        frame = run_benchmark(
            tasks,
            encoder or [],
            protocol or ["hest"],
            output,
            words=words or [],
            progress=progress,
            on_message=lambda line: typer.echo(line, err=True),
        )
    if out is not None:
        write_text(out.with_name(out.name + ".md"), markdown(frame))
        write_text(out.with_name(out.name + ".csv"), frame.to_csv(index=False, float_format="%.6f"))
    typer.echo(json.dumps(plain(frame.to_dict("records")), indent=2) if as_json else markdown(frame))


def download(
    what: Annotated[str, typer.Argument(help="hest")],
    task: Tasks = None,
    root: Annotated[Path, typer.Option(help="Folder for the task folders.")] = Path("hest-bench"),
) -> None:
    """Fetch tasks of HEST-bench from Hugging Face (gated: ask for access there first)."""
    from agl.papers.hest.download import download as fetch

    if what != "hest":
        raise UserError(f"Expected `agl download hest`, received {what!r}.")
    if not task:
        raise UserError("Expected the tasks to fetch, received none. Write agl download hest --task IDC.")
    for folder in fetch(task, root):
        typer.echo(f"Wrote {folder}")
