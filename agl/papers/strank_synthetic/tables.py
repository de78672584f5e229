"""The published table beside ours, and how well the orders of methods agree."""

from __future__ import annotations

import math

import pandas as pd
from scipy.stats import kendalltau

CHECKPOINTS = ("oracle", "honest", "last")
SETTINGS = ["sampling", "scale", "offset", "r"]
PUBLISHED_AT = (10.0, 10.0, 100.0)  # scale, offset and r of the published table

# SCC, Table 1 and the N_k table of Nishimura et al., NeurIPS 2025 (50,000 spots a tissue, 2,000 epochs)
PUBLISHED = {
    "MSE": (0.748, 0.583),
    "Poisson": (0.777, 0.603),
    "NB": (0.788, 0.601),
    "Rank": (0.835, 0.738),
    "PairSTRank": (0.907, 0.818),
    "PCC pooled": (0.858, 0.560),
    "ListSTRank": (0.945, 0.828),
    "List of 2": (0.907, 0.818),
    "List of 4": (0.938, 0.837),
    "List of 8": (0.958, 0.839),
    "List of 16": (0.943, 0.833),
    "List of 32": (0.938, 0.818),
    "List of 64": (0.926, 0.827),
    "List of 128": (0.941, 0.845),
    "List of 256": (0.945, 0.828),
}


def published(method: str, sampling: str) -> float:
    """The published SCC; NaN where there is none.

    >>> published("ListSTRank", "uniform")
    0.945
    """
    pair = PUBLISHED.get(method, (float("nan"), float("nan")))
    return pair[0 if sampling == "uniform" else 1]


def comparison(trainings: pd.DataFrame) -> pd.DataFrame:
    """One row a method and setting: mean over functions, then mean and spread (SD) over seeds, of each checkpoint."""
    by_seed = trainings.groupby(["method", *SETTINGS, "seed"], sort=False)[list(CHECKPOINTS)].mean()
    groups = by_seed.groupby(level=["method", *SETTINGS], sort=False)
    frame = groups.mean().join(groups.std(), rsuffix="_sd").reset_index()
    frame["seeds"] = groups.size().to_numpy()
    values = [published(m, s) for m, s in zip(frame.method, frame.sampling, strict=True)]
    there = (frame[["scale", "offset", "r"]] == PUBLISHED_AT).all(axis=1)
    frame.insert(5, "published", pd.Series(values, index=frame.index).where(there))
    return frame


def markdown(frame: pd.DataFrame) -> str:
    """A table for every setting, best method first, and Kendall's tau between the published order and ours."""
    parts = []
    for values, block in frame.groupby(SETTINGS, sort=False):
        sampling, *numbers = map(str, values if isinstance(values, tuple) else [values])
        title = "### {}: scale {:g}, offset {:g}, r {:g}".format(sampling, *map(float, numbers))
        lines = ["| method | published | oracle checkpoint | honest checkpoint | last weights |"]
        lines.append("|---|---|---|---|---|")
        for _, row in block.sort_values("oracle", ascending=False).iterrows():
            value = published(str(row["method"]), str(row["sampling"]))
            cells = [mean_and_spread(row[name], row[f"{name}_sd"]) for name in CHECKPOINTS]
            lines.append(f"| {row['method']} | {'' if math.isnan(value) else f'{value:.3f}'} | {' | '.join(cells)} |")
        lines += ["", f"Mean and SD over {block.seeds.max()} seeds.", *agreement(block)]
        parts.append("\n".join([title, "", *lines]))
    return "\n\n".join(parts) + "\n"


def mean_and_spread(mean: float, spread: float) -> str:
    """`0.945 ± 0.010`; without a spread where there is one seed.

    >>> mean_and_spread(0.9449, 0.0102), mean_and_spread(0.9449, float("nan"))
    ('0.945 ± 0.010', '0.945')
    """
    if pd.isna(mean):
        return "undefined"
    return f"{mean:.3f}" if pd.isna(spread) else f"{mean:.3f} ± {spread:.3f}"


def agreement(block: pd.DataFrame) -> list[str]:
    """How far the published order of methods is ours, where three or more are published."""
    known = block.dropna(subset=["published"])
    if len(known) < 3:
        return []
    taus = {name: kendalltau(known.published, known[name]).statistic for name in CHECKPOINTS}
    said = ", ".join(f"{name} {tau:+.2f}" for name, tau in taus.items())
    return [f"Order of the {len(known)} published methods against ours (Kendall's tau): {said}."]
