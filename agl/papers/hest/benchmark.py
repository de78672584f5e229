"""Run protocols over tasks and encoders, and lay the results beside the published figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import Progress

from agl.errors import UserError
from agl.papers.hest.folders import BenchmarkTask, choose_encoders
from agl.papers.hest.protocols import Job, jobs
from agl.papers.hest.published import leaderboard, strank_table
from agl.papers.hest.results import results_folder, write_results
from agl.runs.folder import Run
from agl.runs.train import train

OnMessage = Callable[[str], None]
SCORES = {"pcc_log1p_pooled": "PCC pooled", "scc": "SCC per slide", "pcc": "PCC per slide"}


def run_benchmark(
    tasks: Sequence[BenchmarkTask],
    encoders: list[str],
    protocols: Sequence[str],
    output: Path,
    *,
    words: Sequence[str] = (),
    progress: Progress | None = None,
    on_message: OnMessage = print,
) -> pd.DataFrame:
    """One row a protocol, task, encoder and method; see `row_of`. Finished runs are kept.

    What cannot be run (a task without embeddings, a protocol that does not cover it) is left out, with a message.
    Of the benchmark's own protocol its files are written beside, see `agl.papers.hest.results`.

    Raises:
        UserError: nothing could be run.
    """
    rows: list[dict[str, object]] = []
    reasons: list[str] = []
    for job in _all_jobs(tasks, encoders, protocols, output, list(words), reasons):
        try:
            runs = train(job.config, progress=progress)
            rows.append(row_of(job, runs))
            if job.protocol == "hest":
                write_results(results_folder(output, job.method, job.task, job.encoder), runs)
            on_message(f"Done: {job.protocol}  {job.task}  {job.encoder}  {job.method}")
        except UserError as error:
            reasons.append(f"{job.protocol}, {job.task}, {job.encoder}, {job.method}: {error}")
    for reason in reasons:
        on_message(f"Left out: {reason}")
    if not rows:
        raise UserError(
            f"Expected something to run, found nothing. {reasons[0] if reasons else 'Name a protocol and a task.'}"
        )
    return pd.DataFrame(rows)


def row_of(job: Job, runs: Sequence[Run]) -> dict[str, object]:
    """Mean and spread over folds of each score (divisor n, as the benchmark has it), and the published figure.

    `pcc_log1p_pooled` is the benchmark's score: Pearson with log(1 + count) over all test spots of a fold, mean over
    genes. A gene without a correlation is left out and counted, where the benchmark's mean would be NaN.
    """
    published = leaderboard(job.encoder, job.task) if job.protocol == "hest" else float("nan")
    if job.protocol == "strank" and job.encoder.lower().startswith("conch"):
        published = strank_table(job.method, job.task)
    row: dict[str, object] = {"protocol": job.protocol, "task": job.task, "encoder": job.encoder, "method": job.method}
    row["published"] = published
    results = [run.result for run in runs]
    for score in SCORES:
        values = np.array([np.nan if result[score] is None else result[score] for result in results], dtype=float)
        row[score], row[f"{score}_sd"] = float(values.mean()), float(values.std())
    row["folds"] = len(runs)
    row["undefined"] = sum(int(result["undefined"]) for result in results)
    row["optimistic"] = any(bool(result["optimistic"]) for result in results)
    return row


def averages(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over tasks, for every protocol, encoder and method with two tasks or more; published over the same tasks."""
    numbers = ["published", *SCORES]
    groups = frame.groupby(["protocol", "encoder", "method"], sort=False)
    mean = groups[numbers].mean().join(groups.size().rename("tasks"))
    mean["published"] = groups["published"].apply(lambda column: column.mean(skipna=False))
    return mean[mean.tasks > 1].reset_index()


def markdown(frame: pd.DataFrame) -> str:
    """A table for every protocol: the protocol's own score beside the published one, and the scores per slide."""
    parts = []
    for protocol, block in frame.groupby("protocol", sort=False):
        own = "scc" if str(protocol).startswith("strank") else "pcc_log1p_pooled"
        shown = [own, *(score for score in SCORES if score != own)]
        header = ["task", "encoder", "method", "published", *(SCORES[score] for score in shown), "folds"]
        lines = [f"### Protocol {protocol}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        for _, row in block.iterrows():
            words = [str(row["task"]), str(row["encoder"]), str(row["method"])]
            scores = [_number(row[s], row[f"{s}_sd"] if row["folds"] > 1 else float("nan")) for s in shown]
            folds = str(row["folds"]) + (" (optimistic)" if row["optimistic"] else "")
            lines.append("| " + " | ".join([*words, _number(row["published"]), *scores, folds]) + " |")
        for _, row in averages(block).iterrows():
            words = [f"mean of {row['tasks']}", str(row["encoder"]), str(row["method"])]
            lines.append(
                "| " + " | ".join([*words, _number(row["published"]), *(_number(row[s]) for s in shown), ""]) + " |"
            )
        parts.append("\n".join(lines))
    notes = "PCC pooled: with log(1 + count), over all test spots of a fold. ±: spread over folds (divisor n)."
    if frame.optimistic.any():
        notes += " optimistic: slides of a test patient were trained on, or patients are not recorded."
    return "\n\n".join([*parts, notes]) + "\n"


def _all_jobs(
    tasks: Sequence[BenchmarkTask],
    encoders: list[str],
    protocols: Sequence[str],
    output: Path,
    words: list[str],
    reasons: list[str],
) -> list[Job]:
    found: list[Job] = []
    for protocol in protocols:
        for task in tasks:
            try:
                for encoder, features in choose_encoders(task, encoders).items():
                    found += jobs(protocol, task, encoder, features, output, words)
            except UserError as error:
                reasons.append(f"{protocol}, {task.name}: {error}")
    return found


def _number(value: float, spread: float = float("nan")) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4f}" + ("" if pd.isna(spread) else f" ± {spread:.4f}")
