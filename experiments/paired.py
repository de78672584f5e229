"""Scores against a baseline choice of genes, paired by data set, fold and seed; prints Markdown.

python experiments/paired.py RUNS.csv          # a table of runs that write_tables.py wrote
"""

from __future__ import annotations

import sys

import pandas as pd


def main(path: str) -> None:
    """A difference is averaged over seeds first; it varies over folds, or over data sets where there is one fold."""
    runs = pd.read_csv(path, dtype={"seed": str}, keep_default_na=False)
    runs["scc"] = runs.scc.astype(float)
    pair = ["split", "loss", "data", "fold", "seed"]
    alone = runs[runs.auxiliary == "none"].groupby(pair).scc.mean()
    runs["gain"] = runs.scc - runs.set_index(pair).index.map(alone)
    unit = "fold" if runs.fold.nunique() > 1 else "seed"
    print(f"| split | loss | genes | SCC | gain over none | smallest, largest over {unit}s | seeds |")
    print("|---|---|---|---|---|---|---|")
    for (split, loss, genes), group in runs.groupby(["split", "loss", "auxiliary"], sort=False):
        units = group.groupby(unit).gain.mean()
        print(
            f"| {split} | {loss} | {genes} | {group.scc.mean():.3f} | {units.mean():+.3f} | "
            f"{units.min():+.3f}, {units.max():+.3f} | {group.seed.nunique()} |"
        )


if __name__ == "__main__":
    main(sys.argv[1])
