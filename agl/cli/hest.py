"""`agl hest` and `agl download`: HEST-bench folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agl.cli.further import protocols_record
from agl.cli.printing import print_json
from agl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from agl.papers.hest.folders import BenchmarkTask

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
    protocols: Annotated[
        str | None,
        typer.Option(help="all: the benchmark's disagreements told apart; or some: reduction,penalty,spots, ..."),
    ] = None,
    regressor: Annotated[
        list[str] | None, typer.Option(help="With --protocols: ridge, forest, boosting; may be repeated. Default: all.")
    ] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Folder of TASK/ENCODER/SLIDE.h5.")] = None,
    output: Annotated[Path, typer.Option(help="Where the run folders go.")] = Path("runs/hest"),
    out: Annotated[Path | None, typer.Option(help="Also write the table to OUT.md and OUT.csv.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """HEST-bench tasks under three protocols, published figures beside ours. Needs no network.

    With --protocols one table of methods and protocols: PCA or none, the ridge's penalty by formula or chosen, Pearson
    or Spearman, pooled or per slide, log(1 + count) or log-normalised; with ranks, and what each single choice moves.
    The benchmark's results_kfold.json, and L2 and R2 of every gene in split0/results.json, are below OUTPUT/results.
    """
    from agl.papers.hest.apart import REGRESSORS
    from agl.papers.hest.folders import find_tasks
    from agl.papers.hest.protocols import PROTOCOLS
    from agl.runs.files import write_text
    from agl.trees import is_override

    if protocol and protocols:
        raise UserError("Expected --protocol or --protocols, received both. Leave one out.")
    if regressor and not protocols:
        raise UserError("Expected --regressor beside --protocols, received it alone. Add --protocols all.")
    for name in regressor or []:
        if name not in REGRESSORS:
            raise UserError(f"Expected a regressor among {', '.join(REGRESSORS)}, received {name!r}.")
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
    if protocols:
        content, text, csv = _apart(tasks, encoder or [], regressor or list(REGRESSORS), protocols, output, words or [])
    else:
        content, text, csv = _benchmark(tasks, encoder or [], protocol or ["hest"], output, words or [])
    if out is not None:
        write_text(out.with_name(out.name + ".md"), text)
        write_text(out.with_name(out.name + ".csv"), csv)
    if as_json:
        print_json(content)
    else:
        typer.echo(text)


def _benchmark(
    tasks: list[BenchmarkTask], encoders: list[str], names: list[str], output: Path, words: list[str]
) -> tuple[Any, str, str]:
    """The scores for JSON, as Markdown and as CSV."""
    from agl.papers.hest.benchmark import markdown, run_benchmark
    from agl.progress import display

    with display() as progress:
        frame = run_benchmark(tasks, encoders, names, output, words=words, progress=progress, on_message=_say)
    return frame.to_dict("records"), markdown(frame), frame.to_csv(index=False, float_format="%.6f")


def _apart(
    tasks: list[BenchmarkTask], encoders: list[str], regressors: list[str], text: str, output: Path, words: list[str]
) -> tuple[Any, str, str]:
    """Methods under every protocol, likewise."""
    from agl.papers.hest.apart import frame_of, markdown, run_apart, wanted_choices
    from agl.progress import display

    choices = wanted_choices(text)
    with display() as progress:
        found = run_apart(tasks, encoders, regressors, choices, output, words=words, progress=progress, on_message=_say)
    content = [protocols_record(each, task=name) for name, each in found.items()]
    return content, markdown(found), frame_of(found).to_csv(index=False, float_format="%.6f")


def _say(line: str) -> None:
    typer.echo(line, err=True)


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
