"""The command `agl`: which commands there are, and what a mistake looks like."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from agl import __version__
from agl.cli import data, hest, lookup, prepare, recommend, runs, studies, synthetic
from agl.errors import UserError
from agl.machine import under_torchrun
from agl.places import plain_line

app = typer.Typer(
    name="agl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"agl {__version__}")
        raise typer.Exit


@app.callback()
def agl(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Which genes should a model learn, and with which loss, to rank gene expression across a tissue image?"""


app.command()(prepare.prepare)
app.command()(recommend.recommend)
app.command()(runs.train)
studies.add_to(app)
STUDIES: list[Callable[..., None]] = [synthetic.synthetic, hest.hest, hest.download]
AFTER: list[Callable[..., None]] = [runs.table, runs.report, runs.evaluate, runs.predict, runs.export]
for command in [*STUDIES, *AFTER]:
    app.command()(command)
app.command("list")(lookup.list_)
app.command()(lookup.show)
app.command()(data.check)
app.command()(data.features)
app.command(epilog=data.SIMULATE)(data.simulate)
app.command()(runs.demo)


def main() -> None:
    """Run a command; a user's mistake is one sentence and exit status 2. `--debug` anywhere shows the traceback."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show ends no command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        _refuse_torchrun(sys.argv[1:])
        app()
    except UserError as error:
        _fail(str(error), error, debug)
    except KeyboardInterrupt:
        typer.echo("\nStopped. The same command goes on from the last checkpoint.", err=True)
        sys.exit(130)
    except Exception as error:  # a library's own error may still be the user's mistake: a full disk, no right to write
        from agl.blame import sentence as explained

        explanation = explained(error)
        if explanation is None:
            raise
        _fail(explanation, error, debug)


def _fail(sentence: str, error: Exception, debug: bool) -> None:
    if debug:
        raise error
    typer.echo(f"agl: {plain_line(sentence)}", err=True)
    sys.exit(2)


def _refuse_torchrun(words: list[str]) -> None:
    """Several processes on one thing is for `agl train` alone."""
    if under_torchrun() and words[:1] != ["train"]:
        raise UserError(
            "Expected `agl train` under torchrun, which shares one run among processes, received agl "
            f"{' '.join(words[:1])}. For many runs at once give --jobs, or start several `agl worker`."
        )
