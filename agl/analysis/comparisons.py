"""Paired differences between methods and the baseline they are compared with, one row a method."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from agl.analysis import intervals, power
from agl.analysis import statistics as st
from agl.analysis.methods import Reference
from agl.analysis.results import Results, difference_matrix
from agl.analysis.seed_level import SeedLevel, seed_level, typical_move
from agl.analysis.units import Unit, choose_unit, left_out_level
from agl.seeds import seeded

ONE_SEED = "one seed: a training that several units share may be luck"


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of one block.

    Attributes:
        table: one row a method: baseline, difference, intervals, p, Holm's p, n, seeds, verdict; p_alike and its
            Holm's p (equivalence within the margin), sd (of the units), detectable (a difference that a test of n units
            finds in 80% of cases), needed (units that would find the margin).
        units: one row a method and unit, its difference.
        unit: what n counts, and what a claim holds for.
        margin: below which a difference is none.
        seed_words: how far another seed moves such a difference, and how that is dealt with.
    """

    table: pd.DataFrame
    units: pd.DataFrame
    unit: Unit
    margin: float
    seed_words: str


def compare(
    results: Results,
    block: str,
    reference: Reference,
    *,
    unit: str = "auto",
    score: str = "scc",
    margin: float = st.MARGIN,
    seed: int = 0,
) -> Comparisons:
    """Every method of a block against its counterpart, p corrected by Holm over these methods.

    Args:
        unit: "auto", "patient" or "slide"; see `agl.analysis.units.choose_unit`.
        margin: differences below it are none; see `agl.analysis.statistics.equivalence`.
        seed: of the bootstrap over genes.
    """
    cells = results.cells[results.cells.block == block]
    patients = results.patients[block]
    slides = sorted(set(cells.slide))
    chosen = choose_unit(slides, patients, unit, left_out_level(results.splits(block), patients))
    unit_of = {slide: patients[slide] if chosen.name == "patient" else slide for slide in slides}
    rows, details, levels = [], [], []
    for method in (name for name in results.methods(block) if name in reference.of):
        baseline = reference.of[method]
        level = seed_level(cells, method, baseline, unit_of, score)
        rng = seeded(seed, block, method)
        row, by_unit = _row(cells, method, baseline, unit_of, level, rng, score, margin)
        rows.append(row)
        levels.append(level)
        details += [{"method": method, "baseline": baseline, chosen.name: u, "difference": d} for u, d in by_unit]
    table = _claims(pd.DataFrame(rows), chosen, levels, margin) if rows else pd.DataFrame(rows)
    return Comparisons(table, pd.DataFrame(details), chosen, margin, _seed_words(levels, cells, unit_of, chosen))


def _row(
    cells: pd.DataFrame,
    method: str,
    baseline: str,
    unit_of: dict[str, str],
    level: SeedLevel,
    rng: np.random.Generator,
    score: str,
    margin: float,
) -> tuple[dict[str, Any], list[tuple[str, float]]]:
    matrix, seeds = difference_matrix(cells, method, baseline, score)
    values = matrix.to_numpy(float)
    names, codes = np.unique([unit_of[slide] for slide in matrix.index], return_inverse=True)
    row: dict[str, Any] = {"method": method, "baseline": baseline}
    if values.size == 0:
        empty = dict.fromkeys(_NUMBERS, float("nan"))
        return row | empty | {
            "error": intervals.MeanError(()),
            "n": 0,
            "slides": 0,
            "genes": 0,
            "better": 0,
            "seeds": seeds,
        }, []
    found, by_unit = judge(values, codes, level, rng, margin)
    return row | found | {"seeds": seeds}, list(zip(map(str, names), by_unit.tolist(), strict=True))


def judge(
    values: np.ndarray, codes: np.ndarray, level: SeedLevel, rng: np.random.Generator | None, margin: float
) -> tuple[dict[str, Any], np.ndarray]:
    """Of differences `[slide, gene]`, already averaged over seeds: mean, intervals, p; and each unit's difference.

    Args:
        codes: [slide] of the units.
        rng: of the bootstrap over genes; None leaves that out.
    """
    by_unit = intervals.unit_differences(values, codes)
    known = by_unit[np.isfinite(by_unit)]
    n, mean = known.size, intervals.mean_difference(values, codes)
    error = intervals.mean_error(known, level.error)
    genes = intervals.NO_INTERVAL if rng is None else intervals.interval_over_genes(values, codes, rng)
    over = {"units": error.interval(mean), "genes": genes}
    p = st.signed_rank(known) if n >= st.FEWEST_UNITS else float("nan")
    alike = st.equivalence(known, margin) if n >= st.FEWEST_ALIKE else float("nan")
    if level.error is not None:  # units that share a training are no repetitions of it
        p = max(p, min(1.0, 2 * error.beyond(abs(mean))))
        alike = max(alike, error.beyond(margin - abs(mean)))
    row = {f"{name}_{end}": getattr(interval, end) for name, interval in over.items() for end in ("low", "high")}
    row |= {
        "difference": mean,
        "p": p,
        "p_alike": alike,
        "sd": float(known.std(ddof=1)) if n > 1 else float("nan"),
        "seed_sd": level.spread,
        "n": n,
        "slides": int(np.isfinite(values).any(1).sum()),
        "genes": int(np.isfinite(values).any(0).sum()),
        "better": int((known > 0).sum()),
        "error": error,
    }
    return row, by_unit


def _claims(table: pd.DataFrame, unit: Unit, levels: list[SeedLevel], margin: float) -> pd.DataFrame:
    """With Holm's p, the power at hand, and what each row may claim."""
    alone = [level.shared and level.seeds < 2 for level in levels]
    bars = [unit.bar or (ONE_SEED if lone else "") for lone in alone]
    barred = np.array([bool(bar) for bar in bars])
    table.loc[barred, ["p", "p_alike", "units_low", "units_high"]] = np.nan  # what means nothing is not shown either
    for p in ("p", "p_alike"):
        table[f"{p}_holm"] = st.holm(table[p].to_numpy())
    family = max(1, int(table.p.notna().sum()))
    rows = table.to_dict("records")
    table["detectable"] = [_detectable(row, 0.05 / family) for row in rows]
    table["needed"] = [power.units_needed(row["sd"], margin) if np.isfinite(row["sd"]) else 0 for row in rows]
    table["verdict"] = [
        st.verdict(r["n"], family, r["p_holm"], r["difference"], bar=bar, alike=r["p_alike_holm"], margin=margin)
        for r, bar in zip(table.to_dict("records"), bars, strict=True)
    ]
    return table.drop(columns="error")


def _detectable(row: dict[Hashable, Any], alpha: float) -> float:
    """The difference that a row's test finds in 80% of cases; of Student's, where seeds add to the error, about."""
    found = power.detectable(row["sd"], row["n"], alpha=alpha)
    error: intervals.MeanError = row["error"]
    return (
        max(found, error.reach(alpha / 2) + error.error * float(norm.ppf(power.POWER)))
        if len(error.parts) > 1
        else found
    )


def _seed_words(levels: list[SeedLevel], cells: pd.DataFrame, unit_of: dict[str, str], unit: Unit) -> str:
    """What seeds do to these differences."""
    move, source = typical_move(cells, unit_of)
    about = f"another seed alone moves such a difference by about {move:.3f} (standard deviation; from {source})"
    if any(level.seeds < 2 for level in levels):
        return (
            f"With one seed: where networks are trained, {about}, and its share in what is seen here is unknown. Train "
            "them with several seeds; what is solved has none."
        )
    held = f"one training is tested on several {unit.name}s, so intervals and p contain the seeds' variance"
    if not any(level.shared for level in levels):
        held = f"every {unit.name} has trainings of its own, so the spread over {unit.name}s contains the seeds'"
    return f"{about[0].upper()}{about[1:]}; {held}."


_NUMBERS = (
    "difference", "units_low", "units_high", "genes_low", "genes_high", "p", "p_alike", "sd", "seed_sd",
)  # fmt: skip
