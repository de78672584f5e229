"""One row a protocol and choice of genes: AGL's score (PCC) and ours (SCC), paired with primary genes alone.

python experiments/agl_intra_slide/protocol_table.py RUNS        # prints Markdown; RUNS as `agl grid` printed it
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from agl.config import Config
from agl.runs.folder import find_runs

NAMES = {"none": "PGL: primary genes alone", "all": "ALL"}


def genes(config: Config) -> str:
    """The choice of auxiliary genes in the paper's words; dkgsb with its inner steps."""
    name, outer = config.auxiliary.genes.name, config.auxiliary.outer
    return NAMES.get(name, f"{name}, H={outer.steps} {outer.inner_optimizer}, {config.auxiliary.objective.name}")


def read(folder: str) -> pd.DataFrame:
    """One row a run."""
    rows = []
    for run in find_runs(Path(folder)):
        config, result = run.config, run.result
        row = {"split": config.split.name, "genes": genes(config), "fold": config.fold, "seed": config.seed}
        keys = ("scc", "pcc", "k", "candidates", "best_epoch", "outer_signal")
        rows.append(row | {key: result.get(key) for key in keys})
    return pd.DataFrame(rows).sort_values(["split", "genes", "fold", "seed"])


def main(folder: str) -> None:
    """Gains are paired by fold and seed; ± is the spread (sample standard deviation) over folds and seeds."""
    runs = read(folder)
    pair = ["split", "fold", "seed"]
    alone = runs[runs.genes == NAMES["none"]].set_index(pair).pcc
    runs["gain"] = runs.pcc - runs.set_index(pair).index.map(alone)
    print("| split | genes | PCC | SCC | PCC gain | smallest, largest gain | k | best epoch | outer signal | runs |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (split, name), group in runs.groupby(["split", "genes"]):
        of = f" of {group.candidates.mean():.0f}" if group.candidates.notna().any() else ""
        signal = ", ".join(sorted({str(value) for value in group.outer_signal if isinstance(value, str)}))
        print(
            f"| {split} | {name} | {group.pcc.mean():.3f} ± {group.pcc.std():.3f} | {group.scc.mean():.3f} | "
            f"{group.gain.mean():+.3f} | {group.gain.min():+.3f}, {group.gain.max():+.3f} | {group.k.mean():.0f}{of} | "
            f"{group.best_epoch.mean():.0f} | {signal} | {len(group)} |"
        )


if __name__ == "__main__":
    main(sys.argv[1])
