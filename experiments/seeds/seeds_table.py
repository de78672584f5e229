"""How far a seed alone moves a mean score and a difference, from tables of runs; prints Markdown.

python experiments/seeds/seeds_table.py experiments/*/her2st_runs.csv experiments/her2st_losses/*_runs.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

METHOD = ["study", "features", "split", "primary", "model", "loss", "auxiliary", "control", "settings"]


def by_method(runs: pd.DataFrame) -> list[np.ndarray]:
    """[fold, seed] scores of every method that has each fold with the same seeds, two at least."""
    found = []
    for _, group in runs.groupby([key for key in METHOD if key in runs]):
        scores = group.pivot_table(index="fold", columns="seed", values="scc").to_numpy()
        if min(scores.shape) > 1 and np.isfinite(scores).all():
            found.append(scores)
    return found


def numbers(scores: list[np.ndarray]) -> dict[str, float]:
    """Over the methods of a study.

    spread: root mean square of the standard deviation over seeds of the mean over folds; difference: sqrt(2) times it,
    for two methods have a seed each; fold: the same as spread, of one fold; apart: the furthest that two seeds of one
    method are apart; together: mean square of seeds over that of seed x fold, 1 where folds share nothing of a seed.
    """
    means = [each.mean(0) for each in scores]
    spread = np.sqrt(np.mean([mean.var(ddof=1) for mean in means]))
    rest = [each - each.mean(0) - each.mean(1, keepdims=True) + each.mean() for each in scores]
    inside = sum(float((each**2).sum()) / ((each.shape[0] - 1) * (each.shape[1] - 1)) for each in rest)
    between = sum(len(each) * float(mean.var(ddof=1)) for each, mean in zip(scores, means, strict=True))
    return {
        "spread": float(spread),
        "difference": float(2**0.5 * spread),
        "fold": float(np.sqrt(np.mean([each.var(axis=1, ddof=1).mean() for each in scores]))),
        "apart": max(float(np.ptp(mean)) for mean in means),
        "together": between / inside if inside else float("nan"),
    }


def main(*files: str) -> None:
    """One row a table of runs, and one over all."""
    print("| runs | methods | folds x seeds | one mean | a difference | one fold | furthest apart | seed in common |")
    print("|---|---|---|---|---|---|---|---|")
    every: list[np.ndarray] = []
    for file in [*files, "all"]:
        found = every
        if file != "all":
            found = by_method(pd.read_csv(file, keep_default_na=False, dtype={"seed": str}).astype({"scc": float}))
            every = every + found
        if not found:
            continue
        path = Path(file)
        name = "all" if file == "all" else f"{path.parent.name}/{path.stem.removesuffix('_runs')}"
        shapes = sorted({f"{len(each)} x {each.shape[1]}" for each in found})
        said = numbers(found)
        cells = [f"{said[key]:.4f}" for key in ("spread", "difference", "fold", "apart")]
        print(f"| {name} | {len(found)} | {', '.join(shapes)} | {' | '.join(cells)} | {said['together']:.2f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
