"""Choosing inside the training spots: some of them left out at a time, the simplest choice that is as good as the best.

Whole patients are left out where there are three or more, else whole slides: what is left out should be as far from the
rest as the test spots will be, as far as the training spots allow. Of a single slide spots are left out at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from agl.data.expression import expression
from agl.estimators.sample import Sample
from agl.scoring import correlations
from agl.seeds import seeded

FOLDS = 5
FEWEST_PATIENTS = 3


@dataclass(frozen=True, eq=False)
class Inside:
    """The folds of an inner choice.

    Attributes:
        fold: of every training spot `[spot]`, from 0.
        unit: what was left out at a time: "patients", "slides" or "spots".
    """

    fold: np.ndarray
    unit: str

    def __len__(self) -> int:
        return int(self.fold.max()) + 1 if len(self.fold) else 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of the spots kept and of those left out, fold by fold."""
        for number in range(len(self)):
            yield np.flatnonzero(self.fold != number), np.flatnonzero(self.fold == number)

    @property
    def words(self) -> str:
        """For the record."""
        return f"{len(self)} folds of {self.unit}"


def folds_inside(sample: Sample, most: int = FOLDS) -> Inside:
    """Up to five folds of whole patients, of whole slides, or of spots; the largest unit first into the emptiest fold.

    >>> from agl.config import Component
    >>> sample = Sample(np.zeros((5, 1)), np.zeros((5, 1)), np.ones(5), np.array([4, 4, 4, 7, 9]), np.zeros(5, int), 1,
    ...                 Component(name="mse"))
    >>> folds_inside(sample).fold.tolist(), folds_inside(sample).unit
    ([0, 0, 0, 1, 2], 'slides')
    """
    return folds_of(sample.patients, sample.slides, seed=sample.seed, most=most)


def folds_of(patients: np.ndarray, slides: np.ndarray, *, seed: int, most: int = FOLDS) -> Inside:
    """The same from the codes of patients and slides `[spot]`."""
    for unit, codes, fewest in (("patients", patients, FEWEST_PATIENTS), ("slides", slides, 2)):
        names, code, sizes = np.unique(codes, return_inverse=True, return_counts=True)
        if len(names) < fewest:
            continue
        filled = np.zeros(min(most, len(names)), dtype=np.int64)
        fold_of = np.empty(len(names), dtype=np.int64)
        for name in np.argsort(-sizes, kind="stable"):
            fold_of[name] = np.argmin(filled)
            filled[fold_of[name]] += sizes[name]
        return Inside(fold_of[code], unit)
    parts = min(most, max(1, len(slides) // 3))  # a correlation needs three spots
    order = seeded(seed, "inside").permutation(np.arange(len(slides)) % parts)
    return Inside(order, "spots")


def score_by_slide(scores: torch.Tensor, sample: Sample) -> np.ndarray:
    """The score that is reported, of the primary genes on these spots: `[option, slide]`, mean over defined genes.

    Args:
        scores: `[option, spot, primary]`. An option whose scores do not vary counts 0 for that gene.
    """
    return slide_scores(scores, sample.primary, sample.library_size, sample.slide_codes, sample.score)


def slide_scores(
    scores: torch.Tensor, counts: np.ndarray, library_size: np.ndarray, slides: torch.Tensor, score: str
) -> np.ndarray:
    """The same from counts `[spot, primary]`, library sizes and codes of slides `[spot]`; score: "scc" or "pcc"."""
    keep = np.flatnonzero(library_size > 0)
    target = expression(torch.from_numpy(counts[keep]), library_size[keep])
    measure = {"scc": 0, "pcc": 1}[score]
    found = [correlations(one[keep].to(target), target, slides[keep])[measure] for one in scores]
    return np.stack([each.nanmean(1).numpy() for each in found])


def simplest_of_the_best(by_unit: np.ndarray, order: Sequence[int] | None = None) -> int:
    """The position of the simplest option that is within one standard error of the best.

    Differences to the best are paired by unit: slides differ far more from each other than options do.

    Args:
        by_unit: scores `[option, slide]`; units where an option is undefined are left out.
        order: options from the simplest to the least simple; None: as they stand.

    >>> simplest_of_the_best(np.array([[0.10, 0.20], [0.11, 0.19], [0.05, 0.12]]))
    0
    """
    by_unit = np.asarray(by_unit, dtype=float)[:, np.isfinite(by_unit).all(0)]
    options = list(range(len(by_unit))) if order is None else list(order)
    if by_unit.shape[1] == 0:
        return options[0]
    means = by_unit.mean(1)
    best = max(options, key=lambda option: means[option])
    behind = by_unit[best] - by_unit
    n = by_unit.shape[1]
    error = behind.std(1, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(by_unit))
    return next(option for option in options if behind[option].mean() <= error[option] + 1e-12)
