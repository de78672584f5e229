"""How many auxiliary genes, in runs that solved the outer problem: the whole curve, and whether any gene helps."""

from __future__ import annotations

import pandas as pd

from agl.analysis.results import Results

SIGNAL = ("outer_signal", "discoveries", "harmful", "planted")


def curves(results: Results, block: str) -> dict[str, pd.DataFrame]:
    """Method -> one row a run and k: fold, seed, k, scc, standard_error (over left-out slides), gain over k = 0."""
    found: dict[str, pd.DataFrame] = {}
    for method, position, run in _runs(results, block):
        curve = results.runs[position].result.get("curve")
        if not isinstance(curve, dict) or not {"k", "scc", "standard_error"} <= curve.keys():
            continue
        table = pd.DataFrame({key: curve[key] for key in ("k", "scc", "standard_error")})
        table = table.assign(gain=table.scc - table.scc.iloc[0])
        table.insert(0, "fold", run.fold)
        table.insert(1, "seed", run.seed)
        found[method] = pd.concat([found[method], table]) if method in found else table
    return found


def signals(results: Results, block: str) -> dict[str, pd.DataFrame]:
    """Method -> one row a run: fold, seed, best_k, as_good_from, as_good_to, and the verdict of planted genes."""
    found: dict[str, list[dict[str, object]]] = {}
    for method, position, run in _runs(results, block):
        result = results.runs[position].result
        if "curve" in result:
            keys = ("best_k", "as_good_from", "as_good_to", *SIGNAL)
            row = {"fold": run.fold, "seed": run.seed} | {key: result.get(key) for key in keys}
            found.setdefault(method, []).append(row)
    return {method: pd.DataFrame(rows) for method, rows in found.items()}


def _runs(results: Results, block: str) -> list[tuple[str, int, pd.Series]]:
    here = results.frame[results.frame.block == block]
    return [
        (method, int(str(position)), run)
        for method in results.methods(block)
        for position, run in here[here.method == method].sort_values(["fold", "seed"]).iterrows()
    ]
