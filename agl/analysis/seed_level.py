"""Seeds as a level of their own: how far another one moves a difference, and when its variance must be added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from agl.analysis.intervals import MeanError

# The spread of a mean over three folds when only the seed changes, networks on eight HER2ST sections; see
# experiments/seeds. What is solved to convergence has no seed.
TYPICAL = 0.012


@dataclass(frozen=True)
class SeedLevel:
    """What the seeds of one comparison say.

    Attributes:
        seeds: of the method that has fewer.
        spread: standard deviation of the mean difference from seed to seed; NaN with one seed.
        shared: whether one training is tested on several units, so that its seed moves them together.
        error: what seeds add to the error of the mean over units; None where the units' own spread holds it, or nothing
            is known.
    """

    seeds: int
    spread: float
    shared: bool
    error: MeanError | None


def seed_level(
    cells: pd.DataFrame, method: str, baseline: str, unit_of: Mapping[str, str], score: str = "scc"
) -> SeedLevel:
    """Of one comparison.

    With the same seeds on both sides a seed's difference is one value; else each side's spread counts on its own. A
    training is one fold with one seed. Where every unit has a fold of its own, trainings of one seed in different
    folds were found to be as independent as of different seeds (experiments/seeds), so the spread over units holds it.
    """
    mine, theirs = (by_seed(cells[cells.method == name], unit_of, score) for name in (method, baseline))
    units = cells.slide.map(unit_of).groupby(cells.fold, dropna=False).nunique()
    paired = set(mine) == set(theirs)
    sides = [(mine - theirs).to_numpy()] if paired else [mine.to_numpy(), theirs.to_numpy()]
    return level_of(sides, shared=bool((units > 1).any()))


def level_of(sides: Sequence[np.ndarray], *, shared: bool) -> SeedLevel:
    """Of differences, or of each method's scores, `[unit, seed]`.

    >>> level_of([np.array([[0.1, 0.3], [0.3, 0.5]])], shared=False).spread
    0.141421...
    """
    seeds = min(side.shape[1] for side in sides)
    if seeds < 2:
        return SeedLevel(seeds, float("nan"), shared, None)
    spreads = [(float(side.mean(0).std(ddof=1)), side.shape[1]) for side in sides]
    parts = tuple((spread**2 / n, n - 1) for spread, n in spreads if spread > 0)
    spread = float(np.sqrt(sum(each**2 for each, _ in spreads)))
    return SeedLevel(seeds, spread, shared, MeanError(parts) if shared and parts else None)


def by_seed(cells: pd.DataFrame, unit_of: Mapping[str, str], score: str = "scc") -> pd.DataFrame:
    """[unit, seed] mean over genes, then slides, of one method's cells; only units that every seed was tested on."""
    per_slide = cells.groupby(["seed", "slide"])[score].mean().rename("score").reset_index()
    per_slide["unit"] = per_slide.slide.map(dict(unit_of))
    return per_slide.groupby(["unit", "seed"]).score.mean().unstack("seed").dropna()


def typical_move(cells: pd.DataFrame, unit_of: Mapping[str, str], score: str = "scc") -> tuple[float, str]:
    """How far another seed moves the difference of two methods (standard deviation), and where that is known from.

    sqrt(2) times the root mean square over methods with several seeds of the spread of their mean from seed to seed;
    `TYPICAL` where no method has several.
    """
    squares = []
    for _, own in cells.groupby("method", sort=False):
        if own.seed.nunique() > 1:
            squares.append(float(by_seed(own, unit_of, score).mean().var(ddof=1)))
    known = [each for each in squares if np.isfinite(each)]
    if not known:
        return 2**0.5 * TYPICAL, "networks on eight HER2ST sections, for no method here has several seeds"
    return float(np.sqrt(2 * np.mean(known))), f"{len(known)} method{'s' * (len(known) != 1)} here with several seeds"
