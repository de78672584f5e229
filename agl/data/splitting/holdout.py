"""Carve a part out of the training spots: for validation, and for the outer problem."""

from __future__ import annotations

import numpy as np
import pandas as pd

from agl.data.geometry import distance_to
from agl.errors import DataError, did_you_mean

UNITS = ("auto", "patient", "slide", "blocks", "random")
ENOUGH_UNITS = 5  # whole patients or slides are held out from so many on; fewer are too precious


def hold_out(
    spots: pd.DataFrame, train: np.ndarray, fraction: float, unit: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split training spots into kept and held ones, about `fraction` of them held.

    The draw depends on the spots (slide, place, barcode), not on the order of the table's rows.

    Args:
        spots: table with slide, patient, x, y, and barcode where there is one.
        train: spot positions.
        fraction: share to hold out, in (0, 1).
        unit: what is held out. `patient`, `slide`: whole ones, each patient keeping a slide where possible;
            `blocks`: a compact patch of every slide; `random`: spots of every slide, drawn singly, which are
            neighbours of kept ones; `auto`: patients from five training patients on, else slides from five on
            when patients can spare them, else blocks.
        rng: the only source of randomness.

    Returns:
        kept, held: sorted int64 spot positions, disjoint, together `train`, neither empty.

    Raises:
        DataError: a fraction outside (0, 1), an unknown unit, nothing that could be held out.

    >>> spots = pd.DataFrame({"slide": "S", "patient": "P", "x": range(4), "y": 0})
    >>> kept, held = hold_out(spots, np.arange(4), 0.5, "blocks", np.random.default_rng(0))
    >>> len(kept), len(held), abs(held[0] - held[1])
    (2, 2, np.int64(1))
    """
    if not 0 < fraction < 1:
        raise DataError(f"Expected a held-out fraction between 0 and 1, received {fraction}.")
    if unit not in UNITS:
        raise DataError(f"Expected the unit to hold out, received {unit!r}.{did_you_mean(unit, UNITS)}")
    train = np.asarray(train, dtype=np.int64)
    part = spots.iloc[train]
    part = part.assign(slide=part["slide"].astype(str), patient=patient_or_slide(part))
    order = canonical_order(part)
    train, part = train[order], part.iloc[order]
    chosen = choose_unit(part, fraction) if unit == "auto" else unit
    held = (
        _whole(part, chosen, fraction, rng) if chosen in ("patient", "slide") else _within(part, chosen, fraction, rng)
    )
    if not held.any():
        raise DataError(
            f"Expected training spots enough to hold out a fraction of {fraction:g}, received {len(train)} in "
            f"{part['slide'].nunique()} slides. Add slides, or choose another fraction."
        )
    return np.sort(train[~held]), np.sort(train[held])


def choose_unit(spots: pd.DataFrame, fraction: float) -> str:
    """What `auto` means for these training spots."""
    if spots["patient"].nunique() >= ENOUGH_UNITS:
        return "patient"
    sizes = spots.groupby(["patient", "slide"], sort=True).size()
    spare = len(spots) - int(sizes.groupby(level="patient").max().sum())
    return "slide" if len(sizes) >= ENOUGH_UNITS and spare >= fraction * len(spots) else "blocks"


def patient_or_slide(spots: pd.DataFrame) -> pd.Series:
    """Each spot's patient as a word; its slide where the patient is not known."""
    return spots["patient"].astype(str).where(has_patient(spots), spots["slide"].astype(str))


def has_patient(spots: pd.DataFrame) -> pd.Series:
    """Whether each spot's patient is known: neither missing nor blank."""
    return spots["patient"].notna() & (spots["patient"].astype(str).str.strip() != "")


def canonical_order(spots: pd.DataFrame) -> np.ndarray:
    """Row positions by slide, place and barcode: the same spots in the same order, however the table was sorted."""
    columns = [name for name in ("slide", "y", "x", "barcode") if name in spots]
    texts = {name: spots[name].astype(str) if name in ("slide", "barcode") else spots[name] for name in columns}
    keys = [np.unique(texts[name].to_numpy(), return_inverse=True)[1] for name in reversed(columns)]
    return np.lexsort(keys)


def _whole(spots: pd.DataFrame, unit: str, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Whole patients or slides, in random order, as long as each brings the held part nearer its size."""
    sizes = spots.groupby(unit, sort=True).size()
    if len(sizes) < 2:
        raise DataError(
            f"Expected at least two training {unit}s to hold one out, received {len(sizes)}. "
            "Hold out blocks instead (unit blocks)."
        )
    owner = spots.groupby(unit, sort=True)["patient"].first()
    slides_left = owner.value_counts().to_dict()
    spare = unit == "slide" and max(slides_left.values()) > 1  # then every patient keeps a slide
    target, taken, held = fraction * len(spots), 0, []
    units = list(sizes.index)
    names = [units[i] for i in rng.permutation(len(units))]
    allowed = [name for name in names if not spare or slides_left[owner[name]] > 1]
    if not any(sizes[name] < 2 * target for name in allowed):
        held = [min(allowed, key=lambda name: sizes[name])]
        return spots[unit].isin(held).to_numpy()
    for name in allowed:
        nearer = abs(taken + sizes[name] - target) < abs(taken - target)
        last = slides_left[owner[name]] == 1 if spare else len(held) == len(sizes) - 1
        if nearer and not last:
            held.append(name)
            taken += sizes[name]
            slides_left[owner[name]] -= 1
    return spots[unit].isin(held).to_numpy()


def _within(spots: pd.DataFrame, unit: str, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Part of every slide: the spots nearest to one drawn at random, or spots drawn at random."""
    held = np.zeros(len(spots), dtype=bool)
    xy = spots[["x", "y"]].to_numpy(float)
    for rows in map(np.asarray, spots.groupby("slide", sort=True).indices.values()):
        size = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        if unit == "random":
            held[rng.choice(rows, size, replace=False)] = True
        else:
            centre = rows[rng.integers(len(rows))]
            nearest = np.argsort(distance_to(xy[rows], xy[[centre]]), kind="stable")
            held[rows[nearest[:size]]] = True
    return held
