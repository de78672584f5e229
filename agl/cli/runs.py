"""`agl train`, `table`, `report`, `evaluate`, `predict`, `demo`: runs and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agl.cli.printing import (
    AsJson,
    Words,
    compare_runs,
    print_cohort,
    print_json,
    print_runs,
    print_warnings,
)


def train(words: Words = None, as_json: AsJson = False) -> None:
    """Train one run a fold, or the one that fold=N names, and print the table. Finished runs are kept.

    Several GPUs, or machines, on one run: torchrun --nproc-per-node N -m agl train ...
    """
    from agl.config import load
    from agl.progress import display
    from agl.runs.train import prepare, train_each
    from agl.training.parallel import together

    config = load(words or [])
    with together(config.training.device) as ranks:
        if not ranks.leads:
            ranks.barrier()  # until the leader has imported the data
            list(train_each(prepare(config)))
            return
        prepared = prepare(config)
        print_warnings(prepared.warnings)
        ranks.barrier()
        with display() as progress:
            runs = list(train_each(prepared, progress=progress, on_message=lambda line: typer.echo(line, err=True)))
    print_runs(runs, as_json)


def table(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    as_json: AsJson = False,
    pooled: Annotated[bool, typer.Option(help="Also scores over all test spots of a fold together.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Also write one row a run to this file.")] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help='Also differences from a method, or what it is like: "loss=mse, auxiliary=none".'),
    ] = None,
    margin: Annotated[float, typer.Option(help="Differences of SCC below it are none.")] = 0.01,
    protocols: Annotated[
        bool, typer.Option("--protocols", help="Also under other protocols, and what each choice of one moves.")
    ] = False,
    gene_sets: Annotated[
        Path | None, typer.Option(help="A GMT file: also the score of each set's mean, beside its genes'.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Also these, with commas: ceiling, predictability, depth, position, stain.")
    ] = None,
) -> None:
    """Mean and spread of finished runs over folds and seeds, and how many scores are undefined.

    With --baseline also what may be claimed of the differences, as in a report. Undefined is what no method could
    rank: a gene that does not vary, fewer than three spots. A prediction that does not vary ranks nothing and counts 0.
    With --protocols the stored predictions scored by Pearson or Spearman, pooled or per slide, with log(1 + count) or
    log-normalised targets, over folds or all together: who changes places by which choice.
    """
    from agl.cli.further import columns_of, gene_sets_of, protocols_of
    from agl.runs.folder import find_runs, unfinished

    shown = columns_of(columns)

    runs = find_runs(*folders)
    against = None if baseline is None else compare_runs(runs, baseline, margin)
    further = [protocols_of(runs)] if protocols else []
    further += [] if gene_sets is None else [gene_sets_of(runs, gene_sets)]
    begun = unfinished(*folders)
    print_runs(runs, as_json, pooled=pooled, csv=csv, unfinished=begun, against=against, further=further, columns=shown)


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
    margin: Annotated[float, typer.Option(help="Differences of SCC below it are none.")] = 0.01,
    gene_sets: Annotated[
        Path | None, typer.Option(help="A GMT file: also the score of each set's mean, beside its genes'.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Default: the study's name.")] = None,
    section: Annotated[
        list[str] | None,
        typer.Option(help="What is on the page, in this order; may be repeated. `all` is the default; mine.py:name."),
    ] = None,
) -> None:
    """Tables, statistics, figures and one self-contained page about finished runs; nothing is trained."""
    from agl.genes.gmt import read_gmt
    from agl.reporting.build import write_report
    from agl.reporting.inputs import ReportOptions

    sets = {} if gene_sets is None else read_gmt(gene_sets)
    options = ReportOptions(baseline, method, tuple(gene or ()), tuple(slide or ()), unit, margin, sets)
    page = write_report(folders, out, sections=section or (), options=options, title=title)
    typer.echo(f"Wrote {page}")


Trust = Annotated[bool, typer.Option(help="Run the Python file that the model brings along.")]


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="MODEL", help="A finished run; with --on also an exported model.")],
    on: Annotated[
        Path | None, typer.Option(help="An outside cohort: a folder of slides with counts, or one h5ad.")
    ] = None,
    features: Annotated[
        list[str] | None, typer.Option(help="The cohort's features: a file or folder, once for each encoder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write one row a gene and slide to this file.")] = None,
    anyway: Annotated[bool, typer.Option(help="Also where features are not like those in training.")] = False,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Score a run's saved weights on its test spots again; with --on, a model on slides from elsewhere.

    The first compares with what the run wrote. The second says how many of the model's genes are measured there, how
    far the features are from those in training, and each gene's score beside its ceiling and its score at home.
    """
    from agl.runs.predict import evaluate_again, open_model

    if on is not None:
        model = open_model(run, trust=trust)[1]
        print_cohort(model.evaluate(on, features=features or (), anyway=anyway), as_json, out)
        return
    outcome = evaluate_again(run)
    if as_json:
        print_json(outcome)
    else:
        for name, value in outcome.items():
            typer.echo(f"{name:<18} {value:.6f}" if isinstance(value, float) else f"{name:<18} {value}")


def export(
    runs: Annotated[list[Path], typer.Argument(help="A finished run; of several, such as a config's folds, the mean.")],
    out: Annotated[Path, typer.Option(help="The new folder of the model.")],
    push: Annotated[str | None, typer.Option(help="Also send it to OWNER/NAME on the Hugging Face hub.")] = None,
    public: Annotated[bool, typer.Option("--public", help="For everybody to see; default: private.")] = False,
) -> None:
    """A run's model in a folder of its own, to be given away: weights, genes, scores, and a card to read."""
    from agl import hub
    from agl.runs.folder import open_run
    from agl.runs.model import ensemble_of_runs

    if push is not None:
        hub.check_name(push)
    folder = ensemble_of_runs([open_run(run) for run in runs]).save(out)
    typer.echo(f"Wrote {folder}")
    if push is not None:
        typer.echo(f"Sent to {hub.push(folder, push, private=not public)}")


def predict(
    model: Annotated[str, typer.Argument(help="A finished run, an exported model, or hf://OWNER/NAME.")],
    slide: Annotated[
        str, typer.Argument(help="An h5ad, feature file, patch file or folder; or a section of --root, or of the run.")
    ],
    root: Annotated[Path | None, typer.Option(help="Folder of the section; default: the run's own data.")] = None,
    features: Annotated[
        list[str] | None, typer.Option(help="The slide's features: a file or folder, once for each encoder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: RUN/SLIDE.h5ad.")] = None,
    anyway: Annotated[bool, typer.Option(help="Also where features are not like those in training.")] = False,
    trust: Trust = False,
) -> None:
    """Scores of a model's genes on a slide, as a layer of an AnnData file. The slide needs no counts."""
    from agl.runs.predict import predict_section

    file, notes = predict_section(model, slide, root=root, features=features or (), out=out, anyway=anyway, trust=trust)
    for note in notes:
        typer.echo(f"warning: {note}", err=True)
    typer.echo(f"Wrote {file}")


def demo(
    output: Annotated[Path, typer.Option(help="Where the run folders go.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """The main job on real sections, and on simulated ones: losses, and primary genes alone against auxiliary genes."""
    from agl.progress import display
    from agl.studies.demo import train_demo

    with display() as progress:
        runs = train_demo(output, progress=progress)
    print_runs(runs, as_json)
