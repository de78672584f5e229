"""Paired differences between methods and the baseline they are compared with, one row a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from agl.analysis import statistics as st
from agl.analysis.methods import Reference
from agl.analysis.results import Results, difference_matrix
from agl.seeds import seeded

UNITS = ("auto", "patient", "slide")


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of one block.

    Attributes:
        table: one row a method: baseline, mean difference, intervals, p, Holm's p, n, verdict.
        units: one row a method and unit, its difference.
        unit: "patient" or "slide".
        words: what n counts and what a claim holds for, in a sentence.
    """

    table: pd.DataFrame
    units: pd.DataFrame
    unit: str
    words: str


def choose_unit(slides: list[str], patients: dict[str, str], asked: str = "auto") -> tuple[str, str]:
    """What is independent of what: patients where they are known and more than one, else slides; and why, in words."""
    known = [patients[slide] for slide in slides if slide in patients]
    n = len(set(known))
    if asked == "slide":
        return "slide", "One unit is a slide, as asked for; slides of one patient are not independent of each other."
    if len(known) == len(slides) and n > 1:
        return (
            "patient",
            "One unit is a patient: slides of a patient, and genes of a slide, are no repetitions.",
        )
    if n == 1 and len(known) == len(slides):
        return "slide", "One unit is a slide; all are of one patient, so nothing here speaks for other patients."
    return (
        "slide",
        "One unit is a slide, for not every slide's patient is recorded; genes of a slide are no repetitions.",
    )


def compare(
    results: Results, block: str, reference: Reference, *, unit: str = "auto", score: str = "scc", seed: int = 0
) -> Comparisons:
    """Every method of a block against its counterpart, p corrected by Holm over these methods.

    Args:
        unit: "auto", "patient" or "slide"; see `choose_unit`.
        seed: of the bootstrap.
    """
    cells = results.cells[results.cells.block == block]
    patients = results.patients[block]
    slides = sorted(set(cells.slide))
    chosen, words = choose_unit(slides, patients, unit)
    unit_of = {slide: patients[slide] if chosen == "patient" else slide for slide in slides}
    rows, details = [], []
    for method in (name for name in results.methods(block) if name in reference.of):
        row, by_unit = _row(cells, method, reference.of[method], unit_of, seeded(seed, block, method), score)
        rows.append(row)
        details += [{"method": method, "baseline": row["baseline"], chosen: u, "difference": d} for u, d in by_unit]
    table = pd.DataFrame(rows)
    if len(table):
        tested = table.n >= st.FEWEST_UNITS
        table["p_holm"] = np.nan
        table.loc[tested, "p_holm"] = st.holm(table.p[tested].to_numpy())
        family = int(tested.sum())
        table["verdict"] = [st.verdict(r["n"], family, r["p_holm"], r["difference"]) for r in table.to_dict("records")]
    return Comparisons(table, pd.DataFrame(details), chosen, words)


def _row(
    cells: pd.DataFrame, method: str, baseline: str, unit_of: dict[str, str], rng: np.random.Generator, score: str
) -> tuple[dict[str, Any], list[tuple[str, float]]]:
    matrix, seeds = difference_matrix(cells, method, baseline, score)
    values = matrix.to_numpy(float)
    names, codes = np.unique([unit_of[slide] for slide in matrix.index], return_inverse=True)
    row: dict[str, Any] = {"method": method, "baseline": baseline}
    if values.size == 0:
        empty = dict.fromkeys(_NUMBERS, float("nan"))
        return row | empty | {"n": 0, "slides": 0, "genes": 0, "better": 0, "seeds": seeds}, []
    by_unit = st.unit_differences(values, codes)
    n = int(np.isfinite(by_unit).sum())
    over = {
        "units": st.interval_over_units(by_unit, rng),
        "genes": st.interval_over_genes(values, codes, rng),
        "both": st.interval_over_both(values, codes, rng),
    }
    row |= {"difference": st.mean_difference(values, codes)}
    row |= {f"{name}_{end}": getattr(interval, end) for name, interval in over.items() for end in ("low", "high")}
    row |= {
        "p": st.signed_rank(by_unit) if n >= st.FEWEST_UNITS else float("nan"),
        "n": n,
        "slides": int(np.isfinite(values).any(1).sum()),
        "genes": int(np.isfinite(values).any(0).sum()),
        "better": int((by_unit > 0).sum()),
        "seeds": seeds,
    }
    return row, list(zip(map(str, names), by_unit.tolist(), strict=True))


_NUMBERS = (
    "difference", "units_low", "units_high", "genes_low", "genes_high", "both_low", "both_high", "p",
)  # fmt: skip
