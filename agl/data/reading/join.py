"""Finding, for every spot, its row in a file of features or patches: by barcode, else by place, never by order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from agl.data.geometry import pitch
from agl.errors import UserError


@dataclass(frozen=True)
class Rows:
    """How a file says which spot each of its rows belongs to. `corners` [row, 2] are top-left, in full-res pixels."""

    where: str
    barcodes: np.ndarray | None = None
    corners: np.ndarray | None = None
    patch_size: float | None = None  # side of a patch in full-res pixels


@dataclass(frozen=True)
class Match:
    """`rows` [spot] is the row of each spot, -1 where there is none."""

    rows: np.ndarray
    how: str
    unused_rows: int

    @property
    def matched(self) -> int:
        return int((self.rows >= 0).sum())

    def to_dict(self) -> dict[str, int | str]:
        return {
            "joined_by": self.how,
            "matched_spots": self.matched,
            "unmatched_spots": len(self.rows) - self.matched,
            "unused_rows": self.unused_rows,
        }


def join(slide: str, barcodes: np.ndarray, xy: np.ndarray, rows: Rows, *, tolerance: float | None = None) -> Match:
    """Match spots (`barcodes` [spot], centres `xy` [spot, 2]) to the rows of a file.

    By barcode when the file has them. Otherwise by coordinates: a spot takes the row whose patch centre
    (corner + half the patch size) is nearest, if it is within `tolerance` full-res pixels. The default
    tolerance is a quarter of the median distance between neighbouring spots, which is about half a spot on
    Visium and ST arrays.

    Raises:
        UserError: neither barcodes nor coordinates, repeated barcodes, no spot matched.

    >>> file = Rows("f.h5", np.array(["b", "c"], object))
    >>> found = join("A", np.array(["a", "b"], object), np.zeros((2, 2)), file)
    >>> found.rows.tolist(), found.to_dict()["unused_rows"]
    ([-1, 0], 1)
    """
    if rows.barcodes is not None:
        match = _by_barcode(slide, barcodes, rows.barcodes, rows.where)
    elif rows.corners is not None:
        match = _by_place(slide, xy, rows, tolerance)
    else:
        raise UserError(
            f"Expected barcodes or coordinates with the rows of {rows.where}, found neither; rows are never "
            "joined by order: put one barcode a line, in row order, into a file next to it with the same "
            "name and the ending .barcodes.txt."
        )
    return match


def _by_barcode(slide: str, barcodes: np.ndarray, theirs: np.ndarray, where: str) -> Match:
    index = pd.Index(theirs)
    if index.has_duplicates:
        raise UserError(
            f"Expected unique barcodes in {where}, {index[index.duplicated()][0]} comes twice; write the file again."
        )
    rows = index.get_indexer(pd.Index(barcodes)).astype(np.int64)
    matched = int((rows >= 0).sum())
    if not matched:
        example = f"'{theirs[0]}'" if len(theirs) else "none at all"
        raise UserError(
            f"Expected the barcodes of slide '{slide}' (such as '{barcodes[0]}') in {where}, "
            f"received {example}; none of {len(barcodes)} matches: is it another slide's file?"
        )
    return Match(rows, "barcode", len(theirs) - matched)


def _by_place(slide: str, xy: np.ndarray, rows: Rows, tolerance: float | None) -> Match:
    from scipy.spatial import cKDTree

    corners = rows.corners
    assert corners is not None
    if not np.isfinite(corners).all() or corners.ndim != 2 or corners.shape[1] != 2 or not len(corners):
        raise UserError(
            f"Expected finite coordinates [row, 2] in {rows.where}, received shape {corners.shape}; write them again."
        )
    if rows.patch_size is None:
        raise UserError(
            f"Expected the patch size with the top-left corners in {rows.where}, found none; "
            "set the attribute 'patch_size_level0' (full-resolution pixels) of its 'coords'."
        )
    centres = corners + rows.patch_size / 2
    limit = pitch(xy) / 4 if tolerance is None else tolerance
    if not np.isfinite(limit):
        limit = rows.patch_size / 4  # a slide of one spot
    distance, nearest = cKDTree(centres).query(xy)
    found = np.where(distance <= limit, nearest, -1).astype(np.int64)
    _keep_nearest_of_rivals(found, distance)
    matched = int((found >= 0).sum())
    if not matched:
        raise UserError(
            f"Expected patch centres within {limit:.4g} px of the spots of slide '{slide}', the nearest in "
            f"{rows.where} is {distance.min():.4g} px away; check that both are full-resolution pixels of "
            "one image."
        )
    return Match(found, f"coordinates within {limit:.4g} px", len(corners) - matched)


def _keep_nearest_of_rivals(found: np.ndarray, distance: np.ndarray) -> None:
    """A wide tolerance can give one patch to two spots: the nearer spot keeps it."""
    order = np.lexsort((distance, found))
    rivals = found[order]
    again = np.zeros(len(found), dtype=bool)
    again[order[1:]] = rivals[1:] == rivals[:-1]
    found[again] = -1
