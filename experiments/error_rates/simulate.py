"""How often what a report prints is wrong, where the truth is known: nested patients, slides, seeds, correlated genes.

python experiments/error_rates/simulate.py            # all settings, 2000 draws each, Markdown; some minutes
python experiments/error_rates/simulate.py 50         # fewer draws
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from agl.analysis import statistics as st
from agl.analysis.comparisons import ONE_SEED, judge
from agl.analysis.seed_level import level_of
from agl.seeds import seeded

MARGIN = st.MARGIN
GENES_EVERY = 5  # draws: the bootstrap over genes takes longer than all the rest


@dataclass(frozen=True)
class World:
    """Standard deviations of what moves the difference of two methods; all in SCC.

    Attributes:
        patients, slides, genes, seeds: how many; slides of each patient.
        patient, slide: of a patient's, a slide's difference, the same for all genes.
        factor: of what half of the genes of a slide share beyond it.
        gene: of a gene's own difference, the same on all tissue; sums to 0 over the panel, which is fixed.
        seed: of a training's, the same for all that it is tested on.
        noise: of a gene on a slide.
        alone: whether every patient has a training of its own (a fold); else one training is tested on all.
        tails: degrees of freedom of Student's t that patients are drawn from; None: normal.
    """

    patients: int = 8
    slides: int = 3
    genes: int = 12
    seeds: int = 1
    patient: float = 0.02
    slide: float = 0.01
    factor: float = 0.01
    gene: float = 0.02
    seed: float = 0.012
    noise: float = 0.03
    alone: bool = True
    tails: int | None = None

    def draw(self, rng: np.random.Generator, truth: float) -> np.ndarray:
        """[seed, patient, slide, gene] differences around the truth."""
        shape = (self.seeds, self.patients, self.slides, self.genes)
        patient = rng.normal(size=(1, self.patients, 1, 1))
        if self.tails is not None:  # of the same variance
            patient = rng.standard_t(self.tails, size=patient.shape) * ((self.tails - 2) / self.tails) ** 0.5
        gene = rng.normal(size=self.genes)
        half = np.arange(self.genes) % 2
        trainings = rng.normal(size=(self.seeds, self.patients if self.alone else 1, 1, 1))
        return (
            truth
            + self.patient * patient
            + self.slide * rng.normal(size=(1, self.patients, self.slides, 1))
            + self.factor * rng.normal(size=(1, self.patients, self.slides, 1)) * (half - half.mean())
            + self.gene * (gene - gene.mean())
            + self.seed * trainings
            + self.noise * rng.normal(size=shape)
        )


def judged(world: World, trials: int, truth: float = 0.0) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Drawn differences, and what a report says of them; `verdict` as in its tables."""
    codes = np.repeat(np.arange(world.patients), world.slides)
    for trial in range(trials):
        drawn = world.draw(seeded(trial, repr(world)), truth)
        level = level_of([drawn.mean((2, 3)).T], shared=not world.alone)
        values = drawn.mean(0).reshape(len(codes), world.genes)
        genes = seeded(trial, "genes") if trial % GENES_EVERY == 0 else None
        row, _ = judge(values, codes, level, genes, MARGIN)
        barred = level.shared and level.seeds < 2
        bar = ONE_SEED if barred else ""
        verdict = st.verdict(row["n"], 1, row["p"], row["difference"], bar=bar, alike=row["p_alike"])
        yield drawn, row | {"verdict": verdict, "barred": barred}


def null_rates(world: World, trials: int) -> dict[str, float]:
    """Where there is no difference, the share of draws in which each says that there is one."""
    found = []
    for drawn, row in judged(world, trials):
        found.append(
            {
                "genes": np.nan if np.isnan(row["genes_low"]) else not row["genes_low"] <= 0 <= row["genes_high"],
                "slides": st.signed_rank(drawn.mean((0, 3)).ravel()) < 0.05,
                "interval": np.nan if row["barred"] else not row["units_low"] <= 0 <= row["units_high"],
                "p": np.nan if row["barred"] or np.isnan(row["p"]) else row["p"] < 0.05,
                "claim": row["verdict"] in ("better", "worse"),
            }
        )
    return {str(name): float(value) for name, value in pd.DataFrame(found).astype(float).mean().items()}


def rate(world: World, trials: int, truth: float, *verdicts: str) -> float:
    """The share of draws with this truth whose verdict begins like that."""
    return float(np.mean([row["verdict"].startswith(verdicts) for _, row in judged(world, trials, truth)]))


SETTINGS = {
    "3 patients, own trainings, 1 seed": World(patients=3, slides=4),
    "6 patients": World(patients=6),
    "8 patients": World(),
    "8 patients, 3 seeds": World(seeds=3),
    "12 patients, 3 seeds": World(patients=12, seeds=3),
    "8 patients, heavy tails": World(tails=3),
    "8 patients, patients alike (sd 0)": World(patient=0.0),
    "8 patients, small differences (all sd / 5)": World(
        patient=0.004, slide=0.002, factor=0.002, gene=0.004, seed=0.0024, noise=0.006
    ),
    "one training for 8 patients, 1 seed": World(alone=False),
    "one training for 8 patients, 2 seeds": World(alone=False, seeds=2),
    "one training for 8 patients, 3 seeds": World(alone=False, seeds=3),
    "one training for 8 patients, 5 seeds": World(alone=False, seeds=5),
    "the same, seeds alike (sd 0), 3 seeds": World(alone=False, seeds=3, seed=0.0),
}


def main(trials: int = 2000) -> None:
    """Both tables."""
    head = ["genes", "slides", "interval", "p", "claim"]
    titles = ["spread over genes", "signed rank over slides", "interval over patients", "p < .05", "claim"]
    print(f"| no difference, {trials} draws | {' | '.join(titles)} | wrongly equal (truth: {MARGIN:g}) |")
    print("|---" * (len(titles) + 2) + "|")
    for name, world in SETTINGS.items():
        rates = null_rates(world, trials)
        alike = rate(world, trials, MARGIN, st.ALIKE)
        cells = [f"{rates[key]:.3f}" if np.isfinite(rates[key]) else "-" for key in head]
        print(f"| {name} | {' | '.join(cells)} | {alike:.3f} |", flush=True)
    print("\n| found | better, truth .02 | better, truth .04 | equal within .01, truth 0 |")
    print("|---|---|---|---|")
    for name, world in SETTINGS.items():
        cells = [
            f"{rate(world, trials, *asked):.2f}" for asked in ((0.02, "better"), (0.04, "better"), (0.0, st.ALIKE))
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
