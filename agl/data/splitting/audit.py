"""Does a fold test what it claims to? Who and what is on both sides, and how near."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from agl.data.geometry import distance_to, pitch
from agl.data.splitting.splits import Split
from agl.data.splitting.twins import Twins
from agl.errors import ConfigError, DataError, LeakError, did_you_mean

# Rules whose name says that the test patient is trained on.
WITHIN_PATIENT = ("leave_one_slide_out", "spatial_blocks", "random_spots")
LEAKS = ("patient", "slide", "duplicate")


@dataclass(frozen=True)
class Audit:
    """What one fold shares between its training side (training and validation spots) and its test spots.

    Attributes:
        name, protocol, optimistic: as in the split.
        patients, slides: those on both sides; spots without a patient are not compared.
        duplicates: test spots with the slide and barcode, or the slide and place, of a spot on the training side.
        twins: pairs of slides that are one section (`twins.find_twins`), of which one tests and the other does not.
        nearest: least distance from a test spot to a spot of its slide on the training side, in spot pitches of the
            slide; infinite where no slide is on both sides.
        spots: number of spots in train, validation, test, and unused.
    """

    name: str
    protocol: str
    optimistic: bool
    patients: tuple[str, ...]
    slides: tuple[str, ...]
    duplicates: int
    nearest: float
    spots: dict[str, int]
    twins: tuple[Twins, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an infinite distance is None, which JSON has a word for."""
        return asdict(self) | {"nearest": self.nearest if np.isfinite(self.nearest) else None}


def audit(spots: pd.DataFrame, split: Split, twins: Collection[Twins] = ()) -> Audit:
    """Compare the two sides of a fold; `twins` are the pairs of slides that are one section, wherever they are.

    >>> from agl.data.splitting.splits import leave_one_slide_out
    >>> spots = pd.DataFrame({"slide": list("aabb"), "patient": "A", "x": [0, 1, 0, 1], "y": 0})
    >>> found = audit(spots, leave_one_slide_out(spots)[0])
    >>> found.patients, found.slides, found.nearest
    (('A',), (), inf)
    """
    sides = {"seen": np.concatenate([split.train, split.validation]), "test": split.test}
    _within_table(sides, len(spots), split)
    seen, test = spots.iloc[sides["seen"]], spots.iloc[sides["test"]]
    slides = _shared(seen["slide"], test["slide"])
    nearest = np.inf
    for slide in slides:
        xy, a, b = (
            (table.loc[table["slide"].astype(str) == slide, ["x", "y"]].to_numpy(float))
            for table in (spots, seen, test)
        )
        nearest = min(nearest, float(distance_to(b, a).min()) / pitch(xy, alone=1.0))
    sizes = {"train": len(split.train), "validation": len(split.validation), "test": len(split.test)}
    return Audit(
        name=split.name,
        protocol=split.protocol,
        optimistic=split.optimistic,
        patients=_shared(seen["patient"], test["patient"]),
        slides=slides,
        duplicates=_duplicates(seen, test),
        nearest=nearest,
        spots=sizes | {"unused": len(spots) - sum(sizes.values())},
        twins=tuple(pair for pair in twins if _apart(pair, set(seen["slide"]), set(test["slide"]))),
    )


def refuse_leaks(found: Audit, allow: Collection[str] = ()) -> None:
    """Raise where a patient, slide or spot is on both sides and nothing says that this is meant.

    Args:
        allow: of `patient`, `slide` (which allows the patient too), `duplicate`. The rules in `WITHIN_PATIENT` allow
            patients by their name, and those that cut slides allow slides; a duplicated spot is never part of a rule.

    Raises:
        LeakError: a leak, naming who leaks and what to do.
    """
    for word in allow:
        if word not in LEAKS:
            raise ConfigError(
                f"Expected leaks to allow among {', '.join(LEAKS)}, received {word!r}.{did_you_mean(word, LEAKS)}"
            )
    within = found.protocol in WITHIN_PATIENT
    slide_allowed = "slide" in allow or (within and found.protocol != "leave_one_slide_out")
    where = f"both training and test of fold {found.name!r} ({found.protocol})"
    if found.duplicates and "duplicate" not in allow:
        raise LeakError(
            f"Expected each spot once, found {found.duplicates} test spots with the barcode or place of another in "
            f"{where}. Remove the duplicates."
        )
    if found.twins and "duplicate" not in allow:
        pair = found.twins[0]
        raise LeakError(
            f"Expected each section once, found '{pair.first}' and '{pair.second}' with the same counts in "
            f"{pair.shared} of {pair.spots} spots in {where}. Leave one of them out."
        )
    if found.slides and not slide_allowed:
        raise LeakError(
            f"Expected whole slides on one side, found {_names(found.slides)} in {where}. "
            "Split by slide or patient, or allow it and call the result optimistic."
        )
    if found.patients and not (within or slide_allowed or "patient" in allow):
        raise LeakError(
            f"Expected whole patients on one side, found {_names(found.patients)} in {where}. "
            "Split by patient, or allow it and call the result optimistic."
        )


def _within_table(sides: dict[str, np.ndarray], n_spots: int, split: Split) -> None:
    for positions in sides.values():
        if len(positions) and not (positions.min() >= 0 and positions.max() < n_spots):
            raise DataError(
                f"Expected positions of {n_spots} spots in fold {split.name!r}, received {positions.max()}. "
                "Make the split from the same spots."
            )


def _shared(a: pd.Series, b: pd.Series) -> tuple[str, ...]:
    left, right = ({str(name) for name in side.dropna() if str(name).strip()} for side in (a, b))
    return tuple(sorted(left & right))


def _apart(pair: Twins, seen: set[str], test: set[str]) -> bool:
    return (pair.first in test and pair.second in seen) or (pair.second in test and pair.first in seen)


def _duplicates(seen: pd.DataFrame, test: pd.DataFrame) -> int:
    found = np.zeros(len(test), dtype=bool)
    for columns in (["slide", "x", "y"], ["slide", "barcode"]):
        if set(columns) <= set(test.columns):
            found |= pd.MultiIndex.from_frame(test[columns]).isin(pd.MultiIndex.from_frame(seen[columns]))
    return int(found.sum())


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
