"""The commands about many runs: `agl grid`, `search`, `worker`, `submit`, `study status|repair|proxy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from agl.studies.launch import Launched

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="See configs/ and experiments/.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)]
Quick = Annotated[bool, typer.Option("--quick", help="The short form under `quick:` of the study file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Workers on this machine; they share its cores.")]
Retries = Annotated[int, typer.Option(min=0, help="How often a failed cell is tried again.")]
SideBySide = Annotated[
    str,
    typer.Option(
        metavar="auto|N|off", help="What cells have in common is made once: all that fits into a GiB, N, none."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Queue more than 10,000 cells or trials, too.")]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="AGL_STORAGE",
        help="journal:PATH, postgresql://user@host/db or grpc://host:port. Default: a journal beside the runs.",
    ),
]
Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of the study; default: the storage's only one.")]

study_app = typer.Typer(help="Look after studies: status, repair, proxy.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Make these commands part of `agl`."""
    for command in (grid, search, worker, submit):
        app.command()(command)
    app.add_typer(study_app, name="study")


def grid(
    study: StudyFile,
    words: Words = None,
    quick: Quick = False,
    jobs: Jobs = 1,
    storage: Storage = None,
    retries: Retries = 2,
    side_by_side: SideBySide = "auto",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Train every cell of a grid: all combinations of the values on the `axes:` of a study file."""
    from agl.cli.printing import print_runs, print_warnings
    from agl.studies.board import failed_report
    from agl.studies.launch import check_jobs, queue_grid
    from agl.studies.side_by_side import check_word

    check_jobs(storage, jobs)
    check_word(side_by_side)
    launched = queue_grid(study, _words(study, words, quick), storage=storage, retries=retries, many=yes)
    typer.echo(f"{len(launched.names):,} cells in the grid {launched.study.name!r}.", err=True)
    print_warnings(launched.warnings)
    _run(launched, jobs, side_by_side)
    cells = [cell for cell in launched.study.cells() if cell.name in launched.names]
    runs = launched.study.runs(launched.names)
    if runs:
        print_runs(runs, as_json)
    _end_with_failures(failed_report(cells))


def search(
    study: StudyFile,
    words: Words = None,
    quick: Quick = False,
    jobs: Jobs = 1,
    storage: Storage = None,
    retries: Retries = 2,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Look for good values of the keys under `search.parameters:`, judged on validation spots."""
    from agl.cli.printing import print_warnings
    from agl.studies.board import failed_report
    from agl.studies.launch import check_jobs, queue_search

    check_jobs(storage, jobs)
    launched = queue_search(study, _words(study, words, quick), storage=storage, retries=retries, many=yes)
    typer.echo(f"{len(launched.names):,} trials in the search {launched.study.name!r}.", err=True)
    print_warnings(launched.warnings)
    _run(launched, jobs)
    _print_study(launched.study, as_json)
    _end_with_failures(failed_report(launched.study.cells()))


def worker(
    study: Annotated[str, typer.Option(help="Name of the study.")],
    storage: Storage = None,
    leave: Annotated[bool, typer.Option(help="Leave when nothing waits, though others are still at work.")] = False,
    side_by_side: SideBySide = "auto",
) -> None:
    """Take cells from a study's queue until it is empty. Start as many of these as you like, anywhere."""
    from agl.studies.address import refuse_sqlite
    from agl.studies.board import Board
    from agl.studies.side_by_side import check_word
    from agl.studies.worker import work

    check_word(side_by_side)
    opened = _open(study, storage)
    refuse_sqlite(opened.address, "`agl worker`, which is made to run beside others")
    from agl.progress import display

    with display(time_left=False) as progress:
        board = Board(opened, progress)
        work(opened, wait=not leave, progress=progress, shown=board, side_by_side=side_by_side)
        board.close()


def submit(
    study: StudyFile,
    words: Words = None,
    workers: Annotated[int, typer.Option("--workers", "-n", help="Workers, each a job of its own.")] = 4,
    storage: Storage = None,
    retries: Retries = 2,
    yes: Yes = False,
    minutes: Annotated[int, typer.Option(help="Time limit of a worker.")] = 240,
    cpus: Annotated[int, typer.Option(help="Cores of a worker.")] = 1,
    memory: Annotated[float, typer.Option(help="GB of a worker.")] = 8.0,
    gpus: Annotated[int, typer.Option(help="GPUs of a worker.")] = 0,
    partition: Annotated[str | None, typer.Option(help="SLURM partition.")] = None,
    local: Annotated[bool, typer.Option(help="Start the jobs on this machine instead, to try it out.")] = False,
) -> None:
    """Queue a grid or a search, and have SLURM start workers for it."""
    from agl.studies.cluster import Resources, submit_workers
    from agl.studies.launch import queue_study

    launched = queue_study(study, words or [], storage=storage, retries=retries, many=yes)
    resources = Resources(minutes=minutes, cpus=cpus, memory=memory, gpus=gpus, partition=partition)
    jobs = submit_workers(launched.study, workers, resources, local=local)
    typer.echo(f"{len(jobs)} workers submitted for study {launched.study.name!r}: {' '.join(jobs)}")
    typer.echo(f"See `agl study status {launched.study.name} --storage {launched.study.address.shown}`.")


@study_app.command()
def status(name: Name = None, storage: Storage = None, as_json: AsJson = False) -> None:
    """Every cell of a study and its state, what failed and why, the best so far."""
    _print_study(_open(name, storage), as_json)


@study_app.command()
def repair(
    name: Name = None,
    storage: Storage = None,
    failed: Annotated[bool, typer.Option(help="Also give cells that were given up a fresh start.")] = False,
) -> None:
    """Put the cells of workers that died back into the queue. Workers do this themselves; nothing is lost without."""
    from agl.studies.worker import repair_study

    opened = _open(name, storage)
    from agl.progress import display

    with display(time_left=False) as progress:
        n = repair_study(opened, also_failed=failed, on_message=progress.console.print)
    cells = "cell" if n == 1 else "cells"
    typer.echo(f"{n} {cells} put back into the queue of study {opened.name!r}" if n else "Nothing to repair.")


@study_app.command()
def proxy(
    storage: Storage = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "localhost",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 13000,
) -> None:
    """A gRPC server in front of PostgreSQL, for hundreds of workers: they use --storage grpc://HOST:PORT."""
    from agl.studies.address import parse_storage
    from agl.studies.databases import serve_proxy

    if storage is None:
        raise UserError("Expected --storage postgresql://user@host/database: what the proxy stands in front of.")
    typer.echo(f"Listening on grpc://{host}:{port}. Ctrl-C ends it.", err=True)
    serve_proxy(parse_storage(storage), host, port)


def _words(study: Path, words: list[str] | None, quick: bool) -> list[str]:
    from agl.studies.quick import quick_words

    return [*(quick_words(study) if quick else []), *(words or [])]


def _run(launched: Launched, jobs: int, side_by_side: str = "auto") -> None:
    from agl.progress import display
    from agl.studies.board import Board
    from agl.studies.launch import run_study

    with display(time_left=False) as progress:
        board = Board(launched.study, progress)
        run_study(launched.study, jobs=jobs, progress=progress, shown=board, side_by_side=side_by_side)
        board.close()


def _open(name: str | None, storage: str | None) -> Any:
    """A study by name and storage; without a storage, the journal `agl grid` makes in runs/NAME."""
    from agl.studies.study import open_study

    if storage is None:
        if name is None:
            raise UserError("Expected the name of a study, or --storage, received neither.")
        if not Path("runs", name, "study.journal").exists():
            known = [path.parent.name for path in Path("runs").glob("*/study.journal")]
            hint = did_you_mean(name, known) or " There is none in runs/; --storage names another place."
            raise UserError(f"Expected the name of a study in runs/, received {name!r}.{hint}")
        storage = f"journal:runs/{name}/study.journal"
    return open_study(storage, name)


def _print_study(study: Any, as_json: bool) -> None:
    from agl.cli.printing import print_json
    from agl.studies.board import study_rows, study_table

    if as_json:
        print_json(study_rows(study))
        return
    from rich.console import Console

    Console().print(study_table(study))


def _end_with_failures(lines: list[str]) -> None:
    if lines:
        typer.echo("\n".join([*lines, "`agl study repair --failed` or the same command tries again."]), err=True)
        raise typer.Exit(1)
