"""Joining by place: the row whose patch centre is nearest to a spot, with x and y as both sides have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agl.data.geometry import pitch
from agl.data.reading.orientation import refuse_exchanged
from agl.data.reading.rows import Match, Rows, Spots
from agl.errors import DataError


def by_place(spots: Spots, rows: Rows, tolerance: float | None) -> Match:
    """The row whose patch centre (corner + half the patch size) is nearest to each spot.

    Args:
        tolerance: largest distance in pixels; a quarter of the median distance between neighbouring spots when None.

    Raises:
        DataError: no usable coordinates or patch size, no spot near a patch, x and y exchanged.
    """
    corners = rows.corners
    assert corners is not None
    if corners.ndim != 2 or corners.shape[1] != 2 or not len(corners) or not np.isfinite(corners).all():
        raise DataError(
            f"Expected finite coordinates [row, 2] in {rows.where}, received shape {corners.shape}; write them again."
        )
    if rows.patch_size is None:
        raise DataError(
            f"Expected the patch size with the top-left corners in {rows.where}, found none; "
            "set the attribute 'patch_size_level0' (full-resolution pixels) of its 'coords'."
        )
    centres = corners + rows.patch_size / 2
    step = pitch(spots.xy)
    limit = (step if np.isfinite(step) else rows.patch_size) / 4 if tolerance is None else tolerance  # nan: one spot
    given, exchanged = _nearest(centres, spots.xy, limit), _nearest(centres, spots.xy[:, ::-1], limit)
    if not given.matched and not exchanged.matched:
        raise DataError(
            f"Expected patch centres within {limit:.4g} px of the spots of slide '{spots.slide}' (x "
            f"{_range(spots.xy)}), the nearest in {rows.where} (x {_range(centres)}) is {given.smallest:.4g} px "
            "away; check that both are full-resolution pixels of one image."
        )
    doubts = refuse_exchanged(spots, rows.where, given, exchanged, min(len(spots.xy), len(corners)), step)
    how = f"coordinates within {limit:.4g} px"
    return Match(given.rows, how, len(corners) - given.matched, doubts)


@dataclass(frozen=True)
class Nearest:
    """`rows` [spot], -1 for none; how many, how far on average (median), and how far the nearest of all is."""

    rows: np.ndarray
    matched: int
    distance: float
    smallest: float


def _nearest(centres: np.ndarray, xy: np.ndarray, limit: float) -> Nearest:
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(centres).query(xy)
    found = np.where(distance <= limit, nearest, -1).astype(np.int64)
    _keep_nearest_of_rivals(found, distance)
    near = found >= 0
    typical = float(np.median(distance[near])) if near.any() else float("inf")
    return Nearest(found, int(near.sum()), typical, float(distance.min()))


def _keep_nearest_of_rivals(found: np.ndarray, distance: np.ndarray) -> None:
    """A wide tolerance can give one patch to two spots: the nearer spot keeps it."""
    order = np.lexsort((distance, found))
    rivals = found[order]
    again = np.zeros(len(found), dtype=bool)
    again[order[1:]] = rivals[1:] == rivals[:-1]
    found[again] = -1


def _range(places: np.ndarray) -> str:
    return f"{places[:, 0].min():.5g} to {places[:, 0].max():.5g}"
