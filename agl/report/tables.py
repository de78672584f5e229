"""Runs as a table: one row a method, mean and spread over its folds and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from agl import registry

if TYPE_CHECKING:
    from rich.table import Table

    from agl.studies.runs import Run

SCORES = ("scc", "pcc", "scc_pooled", "pcc_pooled", "pcc_log1p_pooled")
METHOD = ("study", "split", "model", "loss", "auxiliary", "control")


def runs_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run: what it was, and its numbers."""
    return pd.DataFrame([_row(run) for run in runs])


def methods_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a method: mean over its runs, and the spread (sample standard deviation) over them.

    The mean of a fold over seeds is taken first, so that a fold with more seeds does not count more.
    """
    rows = []
    for method, group in frame.groupby(list(METHOD), sort=False):
        row: dict[str, Any] = dict(zip(METHOD, method, strict=True))
        for score in SCORES:
            row[score] = group.groupby("fold")[score].mean().mean()
            row[f"{score}_sd"] = group[score].std(ddof=1)
        row |= {"runs": len(group), "folds": group.fold.nunique(), "seeds": group.seed.nunique()}
        row |= {"undefined": int(group.undefined.sum()), "pairs": int(group.pairs.sum())}
        row |= {"optimistic": bool(group.optimistic.any())}
        rows.append(row)
    return pd.DataFrame(rows)


def rich_table(methods: pd.DataFrame, *, pooled: bool = False) -> Table:
    """For the terminal: columns that say the same in every row are left out, the best of each score is bold."""
    from rich.table import Table

    table = Table(title="mean ± spread over folds and seeds", title_justify="left", header_style="bold")
    said = [c for c in METHOD if c in ("model", "loss") or methods[c].nunique() > 1]
    for column in said:
        table.add_column(column)
    shown = {"scc": "SCC per slide", "pcc": "PCC per slide"}
    shown |= {"scc_pooled": "SCC pooled", "pcc_pooled": "PCC pooled"} if pooled else {}
    for title in shown.values():
        table.add_column(title, justify="right")
    for title in ("runs", "undefined"):
        table.add_column(title, justify="right")
    best = {score: _best(methods, score) for score in shown}
    for index, row in methods.iterrows():
        values = [str(row[c]) + (" (optimistic)" if c == "split" and row.optimistic else "") for c in said]
        scores = [_bold(_mean_sd(row[s], row[f"{s}_sd"]), index in best[s]) for s in shown]
        table.add_row(*values, *scores, str(row.runs), f"{row.undefined}/{row.pairs}")
    if methods.optimistic.any():
        table.caption = "optimistic: spots beside the test spots were trained on"
    return table


def markdown(methods: pd.DataFrame) -> str:
    """The same table for a README."""
    header = [*METHOD, "SCC per slide", "PCC per slide", "SCC pooled", "PCC pooled", "runs", "undefined"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for _, row in methods.iterrows():
        scores = [_mean_sd(row[s], row[f"{s}_sd"]) for s in SCORES[:4]]
        words = [str(row[c]) or "-" for c in METHOD]
        lines.append("| " + " | ".join([*words, *scores, str(row.runs), f"{row.undefined}/{row.pairs}"]) + " |")
    return "\n".join(lines) + "\n"


def _row(run: Run) -> dict[str, Any]:
    config, result = run.config, run.result
    baseline = registry.has("baseline", config.model.name)
    return {
        "study": config.name,
        "split": config.split.name.removeprefix("leave_").replace("_", " "),
        "model": label(config.model.name, config.model.args, "baseline" if baseline else "model"),
        "loss": "-" if baseline else label(config.loss.name, config.loss.args, "loss"),
        "auxiliary": "-" if baseline else label(config.auxiliary.genes.name, config.auxiliary.genes.args, "gene_set"),
        "control": "permuted" if config.data.permute else "",
        "fold": config.fold,
        "seed": config.seed,
        **{key: _number(result.get(key)) for key in SCORES},
        "undefined": result["undefined"],
        "pairs": result["pairs"],
        "optimistic": result["optimistic"],
        "epochs": result.get("epochs"),
        "k": result.get("k"),
        "folder": str(run.folder),
    }


def label(name: str, args: dict[str, Any], kind: str) -> str:
    """A component's name with the arguments that differ from its defaults.

    >>> label("listwise", {}, "loss")
    'listwise'
    """
    short = name.rpartition(":")[2]
    if not args or not registry.is_a("selector" if registry.is_a("selector", name) else kind, name):
        return short
    kind = "selector" if registry.is_a("selector", name) else kind
    from agl.config import Component

    defaults = registry.complete(kind, Component(name=name)).args
    changed = {key: value for key, value in args.items() if key not in defaults or defaults[key] != value}
    words = ", ".join(f"{key}={value}" for key, value in changed.items())
    return f"{short}({words})" if words else short


def _best(methods: pd.DataFrame, score: str) -> set[Any]:
    candidates = methods[score].round(3)
    return set(candidates.index[candidates == candidates.max()]) if len(methods) > 1 else set()


def _mean_sd(mean: float, sd: float) -> str:
    if pd.isna(mean):
        return "undefined"
    return f"{mean:.3f}" + ("" if pd.isna(sd) else f" ± {sd:.3f}")


def _bold(text: str, strong: bool) -> str:
    return f"[bold]{text}[/bold]" if strong else text


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
