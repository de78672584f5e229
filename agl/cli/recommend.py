"""`agl recommend`: which features, loss and auxiliary genes for a folder of sections."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agl.cli.printing import AsJson

if TYPE_CHECKING:
    from agl.analysis.recommendation import Advice


SECTIONS = ("recommendation", "scores", "differences", "genes", "protocol", "provenance")  # maps take long to draw


def recommend(
    path: Annotated[Path, typer.Argument(help="A folder of sections.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Which features, loss and auxiliary genes? Chosen inside training spots, tested beside ridge; a config to go on.

    Writes runs, recommended.yaml, auxiliary_genes.txt and a report below runs/recommend. The same command goes on where
    it was stopped. Settings that all runs share may follow: split, primary, data.features, seed, output, ...
    """
    from agl.analysis.recommendation import read_findings
    from agl.cli.printing import print_json, print_warnings
    from agl.progress import display
    from agl.reporting.build import write_report
    from agl.reporting.inputs import ReportOptions
    from agl.studies import recommend as study

    asked = study.plan(path, words or [])
    print_warnings(asked.first.warnings)
    with display() as progress:
        answer = study.recommend(asked, progress)
    findings = read_findings(asked.folder)
    page = write_report(
        [run.folder for run in study.runs_of(asked.folder, answer)],
        asked.folder / "report",
        sections=SECTIONS,
        options=ReportOptions(baseline="model=ridge"),
        title=f"Recommendation for {asked.folder.name}",
    )
    if as_json:
        print_json(_as_plain(findings) | {"config": str(asked.folder / study.CONFIG), "report": str(page)})
        return
    _print(findings)
    genes = study.auxiliary_genes(answer)
    typer.echo(f"Go on with: agl train {asked.folder / study.CONFIG}")
    if genes:
        typer.echo(f"The {len(genes):,} auxiliary genes: {asked.folder / study.AUXILIARY}")
    typer.echo(f"The page: {page}")


def _print(findings: Advice) -> None:
    from rich.console import Console
    from rich.table import Table

    from agl.analysis.recommendation import QUESTIONS
    from agl.analysis.tables import OF_REACHABLE, percent

    console = Console() if sys.stdout.isatty() else Console(width=180)
    tested = Table(title="on test spots", title_justify="left", header_style="bold")
    for title in ("method", "SCC per slide", OF_REACHABLE, "against ridge", f"{findings.unit}s higher"):
        tested.add_column(title, justify="left" if title == "method" else "right")
    for row in findings.methods.to_dict("records"):
        paired = (f"{row['difference']:+.3f}", f"{row['higher']}/{row['n']}") if row["n"] else ("", "")
        tested.add_row(str(row["method"]), f"{row['scc']:.3f}", percent(row["share"]), *paired)
    asked = Table(title=f"on left-out {findings.inner}", title_justify="left", header_style="bold")
    for title in ("question", "answer", "against the simplest", "higher", "chosen in folds", "from all spots"):
        asked.add_column(title, justify="left" if title in ("question", "answer") else "right")
    for row in findings.options.to_dict("records"):
        paired = (
            (f"{row['difference']:+.4f}", f"{row['higher']}/{row['n']}")
            if row["difference"] == row["difference"]
            else ("", "")
        )
        asked.add_row(
            QUESTIONS[str(row["question"])], str(row["answer"]), *paired, f"{row['folds']}/{row['of']}",
            "yes" if row["chosen"] else "",
        )  # fmt: skip
    console.print(asked)
    console.print(tested)
    typer.echo("\n".join([*findings.words, *findings.cautions]))


def _as_plain(findings: Advice) -> dict[str, Any]:
    return {
        "options": findings.options.to_dict("records"),
        "methods": findings.methods.to_dict("records"),
        "words": findings.words,
        "cautions": findings.cautions,
    }
