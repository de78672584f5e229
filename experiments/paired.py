"""Scores against a baseline choice of genes, paired by data set, fold and seed; prints Markdown.

python experiments/paired.py RUNS.csv          # a table of runs that write_tables.py wrote
python experiments/paired.py RUNS.csv --wide   # one row for each choice of genes, one column for each loss
"""

from __future__ import annotations

import sys

import pandas as pd

PAIR = ["primary", "split", "model", "loss", "data", "fold", "seed"]


def gains(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """One row a method: mean score, mean gain, the smallest and the largest unit's, seeds; and what a unit is.

    A difference is averaged over seeds first; it varies over folds, or over data sets where there is one fold.
    """
    pair = [key for key in PAIR if key in runs]
    alone = runs[runs.auxiliary == "none"].groupby(pair).scc.mean()
    runs = runs.assign(gain=runs.scc - alone.reindex(pd.MultiIndex.from_frame(runs[pair])).to_numpy())
    unit = "fold" if runs.fold.nunique() > 1 else "seed"
    rows = []
    runs = runs.assign(learner=_learners(runs))
    for (split, loss, genes), group in runs.groupby(["split", "learner", "auxiliary"], sort=False):
        units, seeds = group.groupby(unit).gain.mean(), group.seed.nunique()
        rows.append((split, loss, genes, group.scc.mean(), units.mean(), units.min(), units.max(), seeds))
    return pd.DataFrame(rows, columns=["split", "loss", "genes", "scc", "gain", "least", "most", "seeds"]), unit


def _learners(runs: pd.DataFrame) -> pd.Series:
    """What a column of the wide table is called: the loss, and what else differs of primary genes and model."""
    words = [runs[key] for key in ("primary", "model", "loss") if key in runs]
    several = [word for word in words if word.nunique() > 1] or words[-1:]
    return pd.Series([", ".join(row) for row in zip(*several, strict=True)], index=runs.index)


def long(found: pd.DataFrame, unit: str) -> None:
    """One row a method."""
    print(f"| split | loss | genes | SCC | gain over none | smallest, largest over {unit}s | seeds |")
    print("|---|---|---|---|---|---|---|")
    for row in found.itertuples():
        print(
            f"| {row.split} | {row.loss} | {row.genes} | {row.scc:.3f} | {row.gain:+.3f} | "
            f"{row.least:+.3f}, {row.most:+.3f} | {row.seeds} |"
        )


def wide(found: pd.DataFrame) -> None:
    """One row for each choice of genes but none, a column for each loss; says where a cell has fewer seeds."""
    losses = list(dict.fromkeys(found.loss))
    seeds = found.seeds.max()
    print(f"| split | genes | {' | '.join(losses)} |")
    print("|---|---|" + "---|" * len(losses))
    for (split, genes), group in found[found.genes != "none"].groupby(["split", "genes"]):
        cells = {
            row.loss: f"{row.gain:+.3f} ({row.least:+.3f} to {row.most:+.3f})"
            + (f", seeds: {row.seeds}" if row.seeds < seeds else "")
            for row in group.itertuples()
        }
        print(f"| {split} | {genes} | {' | '.join(cells.get(loss, '') for loss in losses)} |")


def main(path: str, *words: str) -> None:
    """Read the table of runs and print the differences."""
    runs = pd.read_csv(path, dtype={"seed": str}, keep_default_na=False)
    runs["scc"] = runs.scc.astype(float)
    found, unit = gains(runs)
    if "--wide" in words:
        wide(found)
    else:
        long(found, unit)


if __name__ == "__main__":
    main(*sys.argv[1:])
