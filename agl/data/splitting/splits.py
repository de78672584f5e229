"""Which spots train, which decide when to stop, which test. Every rule gives one `Split` a fold.

Rules are functions of the spots table (slide, patient, x, y) and need nothing else. Validation spots are carved from
the training part by `hold_out`; the same fold has the same test spots whatever the seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from agl.data.geometry import blocks, distance_to, pitch
from agl.data.splitting.holdout import canonical_order, has_patient, hold_out, patient_or_slide
from agl.errors import DataError, did_you_mean
from agl.seeds import seeded

__all__ = [
    "Split",
    "carve",
    "hold_out",
    "k_fold",
    "known_name",
    "leave_one_patient_out",
    "leave_one_slide_out",
    "random_spots",
    "spatial_blocks",
]


@dataclass(frozen=True, eq=False)
class Split:
    """One fold.

    Attributes:
        name: the fold in words, such as `patient=A`.
        train, validation, test: int64 sorted spot positions, pairwise disjoint.
        protocol: the rule that made it.
        optimistic: True where neighbours of test spots (same slide, or same patient) were trained on; tables say so.
        train_slides: training slides in the order in which a file names them; empty where none does.

    Raises:
        DataError: parts that overlap, or no training or no test spots.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    protocol: str
    optimistic: bool
    train_slides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            object.__setattr__(self, part, np.sort(np.asarray(getattr(self, part), dtype=np.int64)))
            if part != "validation" and len(getattr(self, part)) == 0:
                raise DataError(f"Expected {part} spots in fold {self.name!r} of {self.protocol}, found none.")
        everything = np.concatenate([self.train, self.validation, self.test])
        if len(np.unique(everything)) != len(everything):
            raise DataError(
                f"Expected each spot once in fold {self.name!r} of {self.protocol}, found spots in two parts."
            )


def leave_one_patient_out(
    spots: pd.DataFrame, validation_fraction: float = 0.2, validation_unit: str = "auto", seed: int = 0
) -> list[Split]:
    """Test each patient in turn, train on all others.

    >>> spots = pd.DataFrame({"slide": list("aabb"), "patient": list("AABB"), "x": [0, 1, 0, 1], "y": 0})
    >>> [(split.name, split.test.tolist()) for split in leave_one_patient_out(spots)]
    [('patient=A', [0, 1]), ('patient=B', [2, 3])]
    """
    patient = _patients(spots)
    folds = [(f"patient={name}", patient != name, patient == name) for name in _several(patient, "patients")]
    return carve(spots, folds, "leave_one_patient_out", validation_fraction, validation_unit, seed)


def leave_one_slide_out(
    spots: pd.DataFrame,
    validation_fraction: float = 0.2,
    validation_unit: str = "auto",
    seed: int = 0,
    *,
    patient: str | None = None,
) -> list[Split]:
    """Test each slide in turn, train on all others; with `patient`, only slides of this patient take part.

    Optimistic wherever the test slide's patient is trained on.
    """
    slide = spots["slide"].astype(str).to_numpy()
    used = np.ones(len(spots), dtype=bool)
    if patient is not None:
        used = _patients(spots) == known_name(patient, _patients(spots), "patient")
    folds = [(f"slide={n}", used & (slide != n), used & (slide == n)) for n in _several(slide[used], "slides")]
    return carve(spots, folds, "leave_one_slide_out", validation_fraction, validation_unit, seed)


def k_fold(
    spots: pd.DataFrame,
    validation_fraction: float = 0.2,
    validation_unit: str = "auto",
    seed: int = 0,
    *,
    k: int = 5,
) -> list[Split]:
    """k folds of whole patients of nearly equal size: the largest patient first, each into the emptiest fold."""
    patient = _patients(spots)
    sizes = pd.Series(patient).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if not 2 <= k <= len(sizes):
        raise DataError(f"Expected k between 2 and the number of patients ({len(sizes)}), received {k}.")
    fold_of, filled = {}, np.zeros(k, dtype=np.int64)
    for name, size in sizes.items():
        fold_of[name] = int(np.argmin(filled))
        filled[fold_of[name]] += size
    fold = np.array([fold_of[name] for name in patient])
    folds = [(f"fold={i}", fold != i, fold == i) for i in range(k)]
    return carve(spots, folds, "k_fold", validation_fraction, validation_unit, seed)


def spatial_blocks(
    spots: pd.DataFrame,
    validation_fraction: float = 0.2,
    validation_unit: str = "blocks",
    seed: int = 0,
    *,
    k: int = 5,
    buffer: float = 0.0,
    slide: str | None = None,
) -> list[Split]:
    """Cut every slide (or one) into k compact blocks and test each in turn. Optimistic: slides are on both sides.

    Args:
        buffer: spots of the training part nearer to a test spot than this, in spot pitches, take no part.
    """
    if k < 2 or buffer < 0:
        raise DataError(f"Expected k >= 2 blocks and a buffer >= 0 pitches, received k={k} and buffer={buffer}.")
    xy, fold = spots[["x", "y"]].to_numpy(float), np.full(len(spots), -1)
    slides = _rows_by_slide(spots, slide)
    for rows in slides:
        fold[rows] = blocks(xy[rows], k)
    folds = []
    for i in range(k):
        train = (fold >= 0) & (fold != i)
        for rows in slides if buffer else ():
            test = rows[fold[rows] == i]
            near = distance_to(xy[rows], xy[test]) <= buffer * pitch(xy[rows]) * (1 + 1e-9)
            train[rows[near]] = False
        folds.append((f"block={i}", train, fold == i))
    unit = "blocks" if validation_unit == "auto" else validation_unit
    return carve(spots, folds, "spatial_blocks", validation_fraction, unit, seed)


def random_spots(spots: pd.DataFrame, *, k: int = 5, fold_seed: int = 0, slide: str | None = None) -> list[Split]:
    """Deal the spots of every slide (or of one) into k folds: one tests, the next validates, the others train.

    With k = 5 the 3:1:1 protocol of Shiku et al. (arXiv 2511.18336, section 4). Optimistic: test spots have trained
    neighbours on all sides. `fold_seed` deals, so that runs with other seeds share their folds.
    """
    if k < 3:
        raise DataError(f"Expected k >= 3 folds (one tests, one validates), received {k}.")
    fold = np.full(len(spots), -1)
    for rows in _rows_by_slide(spots, slide):
        rng = seeded(fold_seed, "random_spots", str(spots["slide"].iloc[rows[0]]))
        fold[rows[rng.permutation(len(rows))]] = (np.arange(len(rows)) + rng.integers(k)) % k
    where = [np.flatnonzero(fold == i) for i in range(k)]
    return [
        Split(
            name=f"fold={i}",
            train=np.concatenate([where[j] for j in range(k) if j not in (i, (i + 1) % k)]),
            validation=where[(i + 1) % k],
            test=where[i],
            protocol="random_spots",
            optimistic=True,
        )
        for i in range(k)
    ]


Fold = tuple[str, np.ndarray, np.ndarray]  # name, and masks [spot] of the training and the test part


def carve(
    spots: pd.DataFrame, folds: Iterable[Fold], protocol: str, fraction: float, unit: str, seed: int
) -> list[Split]:
    """Hold validation spots out of each fold's training part, and see whether the test part has relatives there."""
    relative = patient_or_slide(spots).to_numpy()
    splits = []
    for name, train, test in folds:
        rng = seeded(seed, "validation", protocol, name)
        if not train.any():
            raise DataError(f"Expected training spots in fold {name!r} of {protocol}, found none.")
        kept, held = hold_out(spots, np.flatnonzero(train), fraction, unit, rng)
        shared = bool(set(relative[train]) & set(relative[test]))
        splits.append(Split(name, kept, held, np.flatnonzero(test), protocol, optimistic=shared))
    return splits


def _rows_by_slide(spots: pd.DataFrame, only: str | None) -> list[np.ndarray]:
    """Spot positions of each slide, or of one, in an order that does not depend on the table's."""
    slide = spots["slide"].astype(str).to_numpy()
    names = sorted(set(slide)) if only is None else [known_name(only, slide, "slide")]
    order = canonical_order(spots)
    return [order[slide[order] == name] for name in names]


def _patients(spots: pd.DataFrame) -> np.ndarray:
    """str `[spot]`. Every spot must have a patient, and every slide one patient."""
    missing = sorted(set(spots.loc[~has_patient(spots), "slide"].astype(str)))
    if missing:
        raise DataError(
            f"Expected a patient for every slide, found none for {', '.join(missing[:5])}. Give patients with the "
            "sections, or split by slide (leave_one_slide_out)."
        )
    owners = spots.groupby("slide")["patient"].nunique()
    if (owners > 1).any():
        raise DataError(f"Expected one patient a slide, found {owners.max()} in slide {owners.idxmax()!r}.")
    return spots["patient"].astype(str).to_numpy()


def _several(values: np.ndarray, what: str) -> list[str]:
    names = sorted(set(values))
    if len(names) < 2:
        raise DataError(
            f"Expected at least two {what} to leave one out, received {len(names)} ({', '.join(names)}). "
            "Within one slide, use spatial_blocks."
        )
    return names


def known_name(name: str, values: np.ndarray, what: str) -> str:
    """The name, if it is among the values; otherwise an error with the nearest one."""
    names = sorted(set(values))
    if str(name) not in names:
        raise DataError(f"Expected a {what} in the data, received {name!r}.{did_you_mean(str(name), names)}")
    return str(name)
