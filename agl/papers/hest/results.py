"""HEST-bench's own files: `split0/results.json`, ... and `results_kfold.json`, with its keys and its statistics.

Per split: l2_errors and r2_scores (a number a gene), pearson_corrs (name, pearson_corr), pearson_mean and pearson_std
over genes, quartiles l2_error_q1 to q3 and r2_score_q1 to q3. Over splits: pearson_corrs (name, pearson_corrs, mean,
std; best mean first), mean_per_split, pearson_mean, pearson_std. Spreads have the divisor n. All against log(1 + count)
over the pooled test spots of a split; the ridge has no intercept on centred features, so its R2 is far below 0.

Two departures: what is NaN there is null here, and a gene without a correlation stands last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import strank
from agl.runs.files import plain, write_text

if TYPE_CHECKING:
    from agl.runs.folder import Run

KFOLD = "results_kfold.json"


def split_results(scores: np.ndarray, counts: np.ndarray, genes: Sequence[str]) -> dict[str, Any]:
    """One split's numbers.

    Args:
        scores: predicted log(1 + count) `[spot, gene]`.
        counts: raw `[spot, gene]`.

    >>> found = split_results(np.array([[0.0], [1.0], [2.0]]), np.expm1(np.array([[0.0], [1.0], [5.0]])), ["g"])
    >>> round(found["l2_errors"][0], 3), round(found["r2_scores"][0], 3), round(found["pearson_mean"], 3)
    (3.0, 0.357, 0.945)
    """
    predicted, truth = np.asarray(scores, dtype=np.float64), np.log1p(np.asarray(counts, dtype=np.float64))
    squared = np.square(predicted - truth)
    errors, variance = squared.mean(0), truth.var(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(variance > 0, 1 - errors / variance, np.nan)
    r = strank.pearson(torch.from_numpy(predicted), torch.from_numpy(truth)).numpy()
    return {
        "l2_errors": errors.tolist(),
        "r2_scores": r2.tolist(),
        "pearson_corrs": [{"name": gene, "pearson_corr": float(each)} for gene, each in zip(genes, r, strict=True)],
        "pearson_mean": float(r.mean()),
        "pearson_std": float(r.std()),
        **_quartiles("l2_error", errors),
        **_quartiles("r2_score", r2),
    }


def kfold_results(splits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over splits: every gene's correlations, and the mean of the splits' means."""
    by_gene: dict[str, list[float]] = {}
    for split in splits:
        for entry in split["pearson_corrs"]:
            by_gene.setdefault(entry["name"], []).append(entry["pearson_corr"])
    rows: list[dict[str, Any]] = [
        {"name": gene, "pearson_corrs": each, "mean": float(np.mean(each)), "std": float(np.std(each))}
        for gene, each in by_gene.items()
    ]
    means = [split["pearson_mean"] for split in splits]
    return {
        "pearson_corrs": sorted(rows, key=lambda row: (np.isnan(row["mean"]), -row["mean"])),
        "pearson_mean": float(np.mean(means)),
        "pearson_std": float(np.std(means)),
        "mean_per_split": means,
    }


def results_folder(output: Path, method: str, task: str, encoder: str) -> Path:
    """Where the files of one method, task and encoder go."""
    return output / "results" / method / task / encoder


def write_results(folder: Path, runs: Sequence[Run]) -> Path:
    """The files of a method's folds in a folder of their own; the path of `results_kfold.json`.

    Args:
        runs: its folds; their scores are log(1 + count).
    """
    from agl.analysis.results import read_predictions

    splits = []
    for number, run in enumerate(runs):
        found = read_predictions(run.folder)
        splits.append(split_results(found.scores, found.counts, found.genes))
        fold = run.config.fold if run.config.fold is not None else number
        _write(folder / f"split{fold}" / "results.json", splits[-1])
    _write(folder / KFOLD, kfold_results(splits))
    return folder / KFOLD


def _quartiles(name: str, values: np.ndarray) -> dict[str, float]:
    return {f"{name}_q{i}": float(each) for i, each in enumerate(np.percentile(values, [25, 50, 75]), start=1)}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(plain(content), indent=4, sort_keys=True) + "\n")
