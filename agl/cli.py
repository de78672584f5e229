"""`agl ...`: one thin function a command. Anything heavy is imported by the command that needs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from agl.cli_hest import download, hest
from agl.cli_studies import add_to as add_study_commands
from agl.cli_synthetic import synthetic
from agl.errors import UserError

app = typer.Typer(
    name="agl",
    help="Which genes should a model learn, and with which loss, to rank gene expression across a tissue image?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Words = Annotated[list[str] | None, typer.Argument(metavar="[CONFIG.yaml] [key=value ...]", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def train(words: Words = None, as_json: AsJson = False) -> None:
    """Train one run a fold, or the one that fold=N names, and print the table. Finished runs are kept.

    Several GPUs, or machines, on one run: torchrun --nproc-per-node N -m agl train ...
    """
    from agl.config import load
    from agl.progress import display
    from agl.studies.train import prepare, train_each
    from agl.training.parallel import together

    config = load(words or [])
    with together(config.training.device) as ranks:
        if not ranks.leads:
            ranks.wait()  # until the leader has imported the data
            list(train_each(prepare(config)))
            return
        prepared = prepare(config)
        ranks.wait()
        with display() as progress:
            runs = list(train_each(prepared, progress=progress, told=lambda line: typer.echo(line, err=True)))
    _print_runs(runs, as_json)


add_study_commands(app)
for command in (synthetic, hest, download):
    app.command()(command)


@app.command()
def table(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    as_json: AsJson = False,
    pooled: Annotated[bool, typer.Option(help="Also scores over all test spots of a fold together.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Also write one row a run to this file.")] = None,
) -> None:
    """Mean and spread of finished runs over folds and seeds, and how many scores are undefined.

    Undefined is what no method could rank: a gene that does not vary, fewer than three spots. A prediction that does
    not vary ranks nothing and counts 0.
    """
    from agl.studies.runs import find_runs, unfinished

    _print_runs(find_runs(*folders), as_json, pooled=pooled, csv=csv, unfinished=unfinished(*folders))


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    out: Annotated[Path | None, typer.Option(help="The report's folder; default: FOLDER/report.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help='A method, or what it is like: "loss=mse, auxiliary=none".')
    ] = None,
    method: Annotated[str | None, typer.Option(help="The one shown gene by gene and on the tissue.")] = None,
    gene: Annotated[list[str] | None, typer.Option(help="For the tissue maps; may be repeated.")] = None,
    slide: Annotated[list[str] | None, typer.Option(help="For the tissue maps; may be repeated.")] = None,
    unit: Annotated[str, typer.Option(help="Of the statistics: auto, patient or slide.")] = "auto",
    title: Annotated[str | None, typer.Option(help="Default: the study's name.")] = None,
) -> None:
    """Tables, statistics, figures and one self-contained page about finished runs; nothing is trained."""
    from agl.report.build import write_report

    page = write_report(
        folders, out, baseline=baseline, method=method, genes=gene or [], slides=slide or [], unit=unit, title=title
    )
    typer.echo(f"wrote {page}")


@app.command()
def evaluate(run: Annotated[Path, typer.Argument(help="A finished run.")], as_json: AsJson = False) -> None:
    """Score a run's saved weights on its test spots again, and compare with what it wrote."""
    from agl.studies.predict import evaluate_again

    outcome = evaluate_again(run)
    if as_json:
        _print_json(outcome)
    else:
        for name, value in outcome.items():
            typer.echo(f"{name:<18} {value:.6f}" if isinstance(value, float) else f"{name:<18} {value}")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    section: Annotated[str, typer.Argument(help="Id of a section.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the section; default: the run's own data.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: RUN/SECTION.h5ad.")] = None,
) -> None:
    """Scores of the primary genes on a section, as a layer of an AnnData file; X stays the raw counts."""
    from agl.studies.predict import predict_section

    typer.echo(f"wrote {predict_section(run, section, root=root, out=out)}")


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="losses, models, gene_sets, ...")] = None,
    as_json: AsJson = False,
) -> None:
    """The built-in components: all kinds, or one kind with its arguments."""
    from agl import registry
    from agl.report.catalogue import catalogue

    if kind is None:
        kinds = {name: registry.names(name) for name in registry.WHERE}
        if as_json:
            _print_json(kinds)
        else:
            typer.echo("".join(f"{name:<10} {', '.join(found)}\n" for name, found in kinds.items()), nl=False)
        return
    entries = catalogue(kind)
    if as_json:
        _print_json(entries)
        return
    for name, entry in entries.items():
        typer.echo(f"{name:<24} {entry['summary']}")
        typer.echo("".join(f"{'':<24}   {key} = {value}\n" for key, value in entry["arguments"].items()), nl=False)


@app.command()
def show(words: Words = None, as_json: AsJson = False) -> None:
    """The resolved config, every default written out, and the run folder of every fold."""
    import yaml

    from agl.config import load
    from agl.studies.runs import Run, folder_of
    from agl.studies.train import prepare

    prepared = prepare(load(words or []))
    folders = {e.split.name: folder_of(e.config, e.dataset) for e in prepared.experiments}
    if as_json:
        _print_json(
            {
                "config": prepared.config.to_dict(),
                "runs": {name: str(folder) for name, folder in folders.items()},
            }
        )
        return
    typer.echo(yaml.safe_dump(prepared.config.to_dict(), sort_keys=False), nl=False)
    for name, folder in folders.items():
        typer.echo(f"# {name:<18} {folder}{' (finished)' if Run(folder).finished else ''}")


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A folder of sections.")],
    features: Annotated[str, typer.Option(help="auto, builtin, none, or a folder of feature files.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """The doctor: sections, patients, spots, genes, depth, what will be used, what is wrong and how to mend it."""
    from rich.console import Console

    from agl.data.checking.doctor import check as examine

    report = examine(path, features=features)
    _print_json(report.to_dict()) if as_json else report.render(Console())
    if report.status == "error":
        raise typer.Exit(2)


@app.command()
def features(
    root: Annotated[Path, typer.Argument(help="A folder with patches/.")],
    encoder: Annotated[str, typer.Option(help="builtin, or a name or path for the `encoders` extra.")] = "builtin",
    out: Annotated[Path | None, typer.Option(help="Default: ROOT/embeddings/ENCODER.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A local file of weights for a named encoder.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Turn patches into features, one HEST-bench-style file a section. Finished sections are kept."""
    from agl.data.images.folder import extract_folder
    from agl.progress import display

    with display() as progress:
        folder = extract_folder(root, out=out, encoder=encoder, weights=weights, device=device, progress=progress)
    typer.echo(f"wrote {folder}")


SIMULATE = """Options, key=value:

\b
  preset=standard          standard, easy, hard or misleading
  n_patients=4             slides_per_patient=1
  spots_per_slide=150      n_genes=600
  n_primary=50             patch_size=64
  features=patches         or latent: no pictures, ready-made features
  seed=0                   overwrite=false"""


@app.command(epilog=SIMULATE)
def simulate(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)] = None,
) -> None:
    """Sections with patches, features, counts and the truth behind them, in HEST-bench's layout."""
    from agl.data.simulate.embedded import simulation_options
    from agl.data.simulate.task import simulate as write_sections

    if "=" in out.name:
        raise UserError(
            f"Expected a folder to write before the options, received {str(out)!r}. Write agl simulate FOLDER {out}."
        )
    typer.echo(f"wrote {write_sections(out, **simulation_options(words or []))}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the run folders go.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """The main job on simulated sections: losses, and primary genes alone against auxiliary genes."""
    from agl.progress import display
    from agl.studies.demo import train_demo

    with display() as progress:
        runs = train_demo(output, progress=progress)
    _print_runs(runs, as_json)


def main() -> None:
    """Run a command; a user's mistake is one sentence and exit status 2. `--debug` anywhere shows the traceback."""
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
    except Exception as error:
        from agl.blame import sentence as explained

        told = explained(error)
        if told is None:
            raise
        _fail(told, error, debug)


def _fail(sentence: str, error: Exception, debug: bool) -> None:
    if debug:
        raise error
    typer.echo(f"agl: {sentence}", err=True)
    sys.exit(2)


def _refuse_torchrun(words: list[str]) -> None:
    """Several processes on one thing is for `agl train` alone."""
    import os

    if (
        {"RANK", "MASTER_ADDR"} <= set(os.environ)
        and os.environ.get("WORLD_SIZE", "1") != "1"
        and words[:1] != ["train"]
    ):
        raise UserError(
            f"torchrun shares one run among processes, which only `agl train` can use; received agl {words[:1]}. "
            "For many runs at once give --jobs, or start several `agl worker`."
        )


def _print_runs(
    runs: list[Any],
    as_json: bool,
    *,
    pooled: bool = False,
    csv: Path | None = None,
    unfinished: Sequence[Path] | None = None,
) -> None:
    from rich.console import Console

    from agl.report.tables import methods_frame, rich_table, runs_frame
    from agl.studies.files import write_text

    frame = runs_frame(runs)
    methods = methods_frame(frame)
    if csv is not None:
        write_text(csv, frame.to_csv(index=False))
    if as_json:
        _print_json(
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


def _print_json(content: Any) -> None:
    from agl.studies.files import plain

    typer.echo(json.dumps(plain(content), indent=2, default=str))


if __name__ == "__main__":
    main()
