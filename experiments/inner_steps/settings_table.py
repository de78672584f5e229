"""One row a setting: score, chosen genes, and whether the outer signal could be told from noise.

python experiments/inner_steps/settings_table.py RUNS        # prints Markdown; RUNS as `agl grid` printed it
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from agl.config import Config
from agl.runs.folder import find_runs


def setting(config: Config) -> str:
    """What differs from the default, in words."""
    if config.auxiliary.genes.name == "none":
        return "primary genes alone"
    outer = config.auxiliary.outer
    tau = config.auxiliary.genes.args.get("tau")
    start = "warm" if outer.warm else "fresh"
    return f"H={outer.steps}, {outer.inner_optimizer}, {start}" + (f", tau={tau}" if tau is not None else "")


def read(folder: str) -> pd.DataFrame:
    """One row a run."""
    rows = []
    for run in find_runs(Path(folder)):
        keys = ("scc", "k", "outer_signal", "hypergradient_t")
        data = run.config.data.simulate.get("seed", 0)
        rows.append({"setting": setting(run.config), "data": (data, run.config.fold, run.config.seed)})
        rows[-1] |= {key: run.result.get(key) for key in keys}
    return pd.DataFrame(rows)


def main(folder: str) -> None:
    """Gains are paired with primary genes alone."""
    runs = read(folder)
    alone = runs[runs.setting == "primary genes alone"].set_index("data").scc
    runs["gain"] = runs.scc - runs.data.map(alone)
    print("| setting | SCC | gain | smallest, largest gain | k | median abs(t) | signal | runs |")
    print("|---|---|---|---|---|---|---|---|")
    for name, group in runs.groupby("setting"):
        found = group.hypergradient_t.dropna().astype(float).abs()
        t = f"{found.median():.1f}" if len(found) else ""
        signal = ", ".join(sorted({str(value) for value in group.outer_signal if value}))
        print(
            f"| {name} | {group.scc.mean():.3f} | {group.gain.mean():+.3f} | {group.gain.min():+.3f}, "
            f"{group.gain.max():+.3f} | {group.k.mean():.0f} | {t} | {signal} | {len(group)} |"
        )


if __name__ == "__main__":
    main(sys.argv[1])
