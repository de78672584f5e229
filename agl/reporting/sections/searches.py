"""The grids and searches that runs belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from agl.analysis.results import Results
from agl.analysis.searches import SearchStudy
from agl.analysis.tables import mean_sd
from agl.reporting.figures.searches import draw_search
from agl.reporting.inputs import ReportInput
from agl.reporting.parts import PageSection, Table, Text, number, write_csv
from agl.reporting.style import file_name


def searches(report: ReportInput) -> list[PageSection]:
    """Every grid and search with its states; of a search, its best trial, what it scored on test spots, its figures."""
    return [_search(study, report.results, report.folder) for study in report.searches]


def _search(study: SearchStudy, results: Results, folder: Path) -> PageSection:
    section = PageSection(f"{'Search' if study.kind == 'search' else 'Grid'} {study.name}")
    states = ", ".join(f"{n} {state}" for state, n in study.states().items())
    section.items.append(Text(f"Trials: {states}."))
    failed = study.trials[(study.trials.state == "FAIL") & (study.trials.error != "")]
    if len(failed):
        rows = pd.DataFrame({"trial": failed.number.astype(str), "error": failed.error.astype(str)})
        section.items.append(Table("Failed", rows, folded=len(rows) > 5))
    csv = write_csv(folder, file_name("trials", study.name), study.trials.drop(columns="runs"))
    if study.kind != "search" or study.best is None:
        return section
    best = study.best
    words = ", ".join(f"{name} = {_shown(best[name])}" for name in study.parameters)
    values = ", ".join(f"{name} {number(float(best[name]))}" for name in study.objectives)
    section.items.append(Text(f"Best on the objective: trial {best['number']} ({values}) with {words}."))
    tested = results.frame[results.frame.folder.map(lambda folder: Path(folder).name).isin(best["runs"])]
    if len(tested):
        by_fold = tested.groupby("fold", dropna=False).scc.mean()
        score = mean_sd(float(by_fold.mean()), float(tested.scc.std(ddof=1)))
        section.items.append(Text(f"Its SCC on the test spots: {score} over {len(tested)} runs."))
    section.items.append(
        Text(
            "The search chose by validation spots, averaged over its folds. Where these folds share patients, a test "
            "patient of one is a validation patient of another, and the test score of the chosen trial is optimistic: "
            "search on one fold (fold=0) for an honest one. The highest test score among the trials is no estimate: "
            "report the test score of the trial that the validation chose.",
            warning=True,
        )
    )
    section.items += draw_search(study, folder / "figures")
    shown = study.complete.sort_values(
        next(iter(study.objectives)), ascending=not next(iter(study.objectives.values()))
    )
    columns = ["number", *study.objectives, *study.parameters]
    rows = shown[columns].head(15).map(_shown)
    section.items.append(Table("The best trials", rows.reset_index(drop=True), csv=csv, folded=True))
    return section


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
