"""Whether a learned selection has anything to learn from: candidates beside genes that are known to have no influence.

Planted genes are candidates whose counts were turned about the centre of their slides (`agl.convex.calibration`), so
that they vary in space as before and have to do with nothing. Their heads come from the same solver on the same folds.
The verdict is about the candidates as a set: clear in at most 5 % of cases where none has an influence. Once some have,
single genes of noise may stand out, too, for they share the depth of their spots with the primary genes, which planted
ones do not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from agl.convex.calibration import calibrate, moved_spots
from agl.convex.outer import OuterProblem
from agl.estimators.sample import Sample
from agl.seeds import seeded

MOST = 1000  # planted genes; fewer make the verdict blind, not wrong
TURNS = 8
CLEAR, NOISE = "clear", "indistinguishable from noise"


@dataclass(frozen=True, eq=False)
class Turn:
    """Counts `[spot, gene]` and library sizes `[spot]` of a whole sample after one turn of its slides."""

    counts: np.ndarray
    library_size: np.ndarray

    def within(self, sample: Sample, spots: np.ndarray) -> Sample:
        """A part of the sample with these genes' counts in place of its own, spots without counts left out."""
        part = replace(sample.at(spots), counts=self.counts[spots], library_size=self.library_size[spots])
        return part.at(np.flatnonzero(part.library_size > 0))


def turned(sample: Sample) -> list[Turn]:
    """Planted genes of a sample: as many candidates as there are, up to `MOST`, dealt out over the turns."""
    assert sample.places is not None
    candidates = sample.counts.shape[1] - sample.n_primary
    each = min(candidates, MOST // TURNS)
    places = torch.from_numpy(np.asarray(sample.places, dtype=np.float64))
    found = []
    for draw in range(TURNS):
        genes = sample.n_primary + np.sort(seeded(sample.seed, "planted", draw).permutation(candidates)[:each])
        source = moved_spots(places, sample.slide_codes, seed=sample.seed, draw=draw).numpy()
        found.append(Turn(sample.counts[np.ix_(source, genes)], sample.library_size[source]))
    return found


def verdict(problem: OuterProblem, n_planted: int) -> dict[str, Any]:
    """What the influences of all candidates on the primary genes say, the planted ones being the last.

    Returns:
        for the record: outer_signal ("clear" where some gene helps more than planted ones do, at a false discovery
        rate of 5 %), discoveries (how many stand out by that), harmful (by harming), and how many were planted.
    """
    found = calibrate(problem, torch.zeros(problem.n_auxiliary - n_planted, dtype=torch.float64), n_planted)
    discoveries = int(found.helps.sum())
    return {
        "outer_signal": CLEAR if discoveries else NOISE,
        "discoveries": discoveries,
        "harmful": int(found.harms.sum()),
        "planted": n_planted,
    }


def can_plant(sample: Sample) -> bool:
    """Whether slides can be turned: every spot has a place, and there are candidates."""
    known = sample.places is not None and bool(np.isfinite(sample.places).all())
    return known and sample.counts.shape[1] > sample.n_primary
