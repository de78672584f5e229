"""HEST-bench's disagreements told apart: every regressor under every protocol, and what each single choice moves.

Two choices need a fit of their own: features reduced to principal components or as they are (the leaderboard and the
paper differ in it), the penalty of the ridge by the benchmark's formula or chosen on training slides. The others score
the same predictions (`agl.analysis.protocols`). The reference is the benchmark's: PCA, formula, Pearson, pooled,
log(1 + count), mean of folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from agl.analysis.protocol_tables import CAPTION, Protocols, markdown_rows, protocols
from agl.analysis.protocols import BENCHMARK, CHOICES, protocol_scores
from agl.analysis.results import read_predictions
from agl.errors import UserError, did_you_mean
from agl.papers.hest.folders import BenchmarkTask, choose_encoders
from agl.papers.hest.protocols import Job, hest_tree, job_of
from agl.papers.hest.results import results_folder, write_results
from agl.runs.train import train

if TYPE_CHECKING:
    from rich.progress import Progress

REGRESSORS = ("ridge", "forest", "boosting")
FITS: dict[str, tuple[str, ...]] = {"reduction": ("PCA", "none"), "penalty": ("formula", "chosen")}
ALL = {**FITS, **CHOICES}
REFERENCE = {"reduction": "PCA", "penalty": "formula", **BENCHMARK}
MEAN = "mean over tasks"
DIGITS = 4


def wanted_choices(text: str) -> list[str]:
    """`all`, or some choices by name with commas between.

    >>> wanted_choices("penalty,spots")
    ['penalty', 'spots']
    """
    names = list(ALL) if text.strip() == "all" else [word.strip() for word in text.split(",")]
    for name in names:
        if name not in ALL:
            raise UserError(
                f"Expected --protocols all, or some of {', '.join(ALL)}, received {name!r}.{did_you_mean(name, ALL)}"
            )
    return list(dict.fromkeys(names))


def run_apart(
    tasks: Sequence[BenchmarkTask],
    encoders: list[str],
    regressors: Sequence[str],
    choices: Sequence[str],
    output: Path,
    *,
    words: Sequence[str] = (),
    progress: Progress | None = None,
    on_message: Callable[[str], None] = print,
) -> dict[str, Protocols]:
    """Task -> its methods under every protocol; with two tasks or more also their mean. Finished runs are kept.

    A method is an encoder with a regressor. `results_kfold.json` of every fit is written beside, see
    `agl.papers.hest.results`. What cannot be fitted is left out, with a message.

    Args:
        choices: those that vary; the others stay as the benchmark has them.

    Raises:
        UserError: nothing could be fitted under the benchmark's own choices; words about the model, which the
            protocols are about.
    """
    if about := [word for word in words if word.split("=")[0].split(".")[0] == "model"]:
        raise UserError(f"Expected no {about[0]!r} with --protocols, which names the models. Leave it out.")
    found: dict[str, list[pd.DataFrame]] = {}
    reasons: list[str] = []
    for task in tasks:
        try:
            known = choose_encoders(task, encoders)
        except UserError as error:
            reasons.append(f"{task.name}: {error}")
            continue
        for (encoder, features), regressor in product(known.items(), regressors):
            method = f"{encoder}, {regressor}"
            for reduction, penalty in _fits(regressor, choices):
                job = _job(task, encoder, features, output, list(words), regressor, reduction, penalty)
                try:
                    runs = train(job.config, progress=progress)
                except UserError as error:
                    reasons.append(f"{task.name}, {encoder}, {job.method}: {error}")
                    continue
                write_results(results_folder(output, job.method, task.name, encoder), runs)
                table = protocol_scores([{run.config.fold: read_predictions(run.folder) for run in runs}])
                own = table.assign(method=method, reduction=reduction, penalty=penalty, applies=True)
                found.setdefault(task.name, []).append(own)
                if regressor != "ridge" and "penalty" in choices:
                    found[task.name].append(own.assign(penalty="chosen", applies=False))
                on_message(f"Done: {task.name}  {encoder}  {job.method}")
    for reason in reasons:
        on_message(f"Left out: {reason}")
    return _by_task({task: pd.concat(parts, ignore_index=True) for task, parts in found.items()}, choices, reasons)


def markdown(found: dict[str, Protocols]) -> str:
    """Every task's table, and what each single choice moves."""
    parts = []
    for name, each in found.items():
        parts += [f"### {name}", markdown_rows(*each.cells(DIGITS)), markdown_rows(*each.move_cells(DIGITS))]
        parts += [each.firsts[:1].upper() + each.firsts[1:] + "."] if each.firsts else []
    return "\n\n".join([*parts, CAPTION[:1].upper() + CAPTION[1:] + "."]) + "\n"


def frame_of(found: dict[str, Protocols]) -> pd.DataFrame:
    """One row a task, method and protocol."""
    return pd.concat([each.scores.assign(task=name) for name, each in found.items()], ignore_index=True)


def _fits(regressor: str, choices: Sequence[str]) -> list[tuple[str, str]]:
    """Reduction and penalty of the fits that are needed, the benchmark's first; only a ridge has a penalty."""
    reductions = FITS["reduction"] if "reduction" in choices else FITS["reduction"][:1]
    penalties = FITS["penalty"] if "penalty" in choices and regressor == "ridge" else FITS["penalty"][:1]
    return list(product(reductions, penalties))


def _job(task: BenchmarkTask, encoder: str, features: str, output: Path, words: list[str], *fit: str) -> Job:
    """One fit as a config; `largest` is the benchmark's 256 components wherever there are as many."""
    regressor, reduction, penalty = fit
    components = "largest" if reduction == "PCA" else None
    model: dict[str, Any]
    if regressor == "ridge":
        model = {"name": "hest-raw"} if components is None else {"name": "hest-pca256", "components": components}
        model |= {"penalty": penalty} if penalty != "formula" else {}
    else:
        model = {"name": f"hest-{regressor}", "components": components}
    method = "-".join([regressor, "pca" if components else "raw", *([penalty] if regressor == "ridge" else [])])
    return job_of("hest", task, encoder, features, output, words, method, hest_tree(model))


def _by_task(tables: dict[str, pd.DataFrame], choices: Sequence[str], reasons: list[str]) -> dict[str, Protocols]:
    reference = {name: REFERENCE[name] for name in ALL if name in choices}
    found = {}
    for task, table in tables.items():
        fixed = [name for name in ALL if name not in choices]
        kept = table[[all(row[name] == REFERENCE[name] for name in fixed) for _, row in table.iterrows()]]
        if kept.empty or not (kept[list(reference)] == pd.Series(reference)).all(axis=1).any():
            reasons.append(f"{task}: nothing could be fitted as the benchmark does")
            continue
        found[task] = protocols(kept[["method", *reference, "score", "sd", "applies"]], reference)
    if not found:
        raise UserError(f"Expected something to fit, found nothing. {reasons[0] if reasons else 'Name a task.'}")
    if len(found) > 1:
        found[MEAN] = _mean_over_tasks(found, reference)
    return found


def _mean_over_tasks(found: dict[str, Protocols], reference: dict[str, str]) -> Protocols:
    """Of the methods that every task has, under every protocol; no spread: folds of tasks are not alike."""
    table = pd.concat([each.scores for each in found.values()])
    groups = table.groupby(["method", *reference], sort=False)
    mean = groups.agg(score=("score", lambda each: each.mean(skipna=False)), applies=("applies", "all"))
    whole = mean[groups.size() == len(found)].reset_index()
    return protocols(whole.assign(sd=float("nan")), reference)
