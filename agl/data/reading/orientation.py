"""Are x and y exchanged? A square grid of spots matches its mirror image, so counting matches is not always enough."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from agl.data.reading.rows import Spots
from agl.errors import DataError

_NEARER = 0.02  # pitches by which one order must lie nearer to be told apart where both match; 2 px at least
_FEW = 0.02, 3  # share of spots, spots: fewer matches than this more or less are chance, at the rim of a square
_CLEAR = 0.2  # share of spots that chance does not bring: half the spots on a grid of tiles may match in either order
_SWAP = 'adata.obsm["spatial"] = adata.obsm["spatial"][:, ::-1]'


class OrderFit(Protocol):
    """How well spots match places."""

    @property
    def matched(self) -> int: ...

    @property
    def distance(self) -> float: ...


def refuse_exchanged(
    spots: Spots, where: str, given: OrderFit, exchanged: OrderFit, most: int, step: float
) -> tuple[str, ...]:
    """Weigh what is known: the fit of both orders, the pixel columns of obs, and the way that array rows grow.

    The fit is the best witness. Where both orders match, the labels of obs alone do not suffice (scanpy itself once
    exchanged pxl_row and pxl_col), nor does the array alone (an image may be turned or mirrored); together they do.

    Args:
        given, exchanged: how the spots match with obsm['spatial'] as (x, y), and as (y, x).
        most: number of spots that could match.
        step: pitch of the spots.

    Returns:
        What cannot be decided, in a sentence.

    Raises:
        DataError: x and y are exchanged.
    """
    labels, lattice = _labels(spots, step), _lattice(spots)
    nearer, clearly = _which_is_nearer(given, exchanged, most, step)
    if nearer == "exchanged" and (clearly or labels != "agree"):
        raise DataError(
            f"Expected (x, y) in obsm['spatial'] of slide '{spots.slide}' and in {where} alike, {exchanged.matched} of "
            f"{most} spots match with x and y exchanged, {given.matched} as they are; "
            + (
                "obs['pxl_row_in_fullres'] agrees with obsm, so mend the file's coordinates, which seem to be (y, x)."
                if labels == "agree"
                else f"exchange those of obsm: {_SWAP}."
            )
        )
    if labels == lattice == "exchanged" and not (nearer == "given" and clearly):
        raise DataError(
            f"Expected (x, y) in obsm['spatial'] of slide '{spots.slide}', received (y, x) by "
            f"obs['pxl_col_in_fullres'], obs['pxl_row_in_fullres'] and the way array_row grows; exchange them: {_SWAP}."
        )
    if nearer is not None or 2 * given.matched < most:  # too few match in either order, which is said elsewhere
        return ()
    both = f"The spots match {where} as well with x and y exchanged, and "
    look = "; see that obsm['spatial'] is (x, y)."
    if labels == "exchanged":
        more = " (array_row and array_col agree with obsm)" if lattice == "agree" else ""
        return (f"{both}obs['pxl_col_in_fullres'], obs['pxl_row_in_fullres'] say (y, x){more}{look}",)
    if lattice == "exchanged":
        return (f"{both}array_row grows with x{look}",)
    if labels is None and lattice is None:
        return (f"{both}nothing in obs (pxl_col_in_fullres, array_row) tells which is right{look}",)
    return ()


def _which_is_nearer(given: OrderFit, exchanged: OrderFit, most: int, step: float) -> tuple[str | None, bool]:
    """Which order fits, None where both do or neither; and whether a tile more or less at the rim could not do that."""
    more = given.matched - exchanged.matched
    better = given if more > 0 else exchanged
    name = "given" if more > 0 else "exchanged"
    if abs(more) >= max(_CLEAR * most, _FEW[1]) and 2 * better.matched >= most:
        return name, True
    if abs(more) >= max(_FEW[0] * most, _FEW[1]) and better.matched >= 0.9 * most:
        return name, False
    if 2 * better.matched < most:
        return None, False
    close, far = sorted((given.distance, exchanged.distance))
    if far - close > max(_NEARER * step, 2.0) and close < far / 2:
        return "given" if close == given.distance else "exchanged", True
    return None, False


def _labels(spots: Spots, step: float) -> str | None:
    """Whether the pixel columns of obs agree with obsm; None where there are none, or they fit both ways."""
    if spots.pixels is None:
        return None
    off = [float(np.median(np.linalg.norm(p - spots.xy, axis=1))) for p in (spots.pixels, spots.pixels[:, ::-1])]
    agree, exchanged = (value <= step / 4 for value in off)
    return None if agree == exchanged else "agree" if agree else "exchanged"


def _lattice(spots: Spots) -> str | None:
    """Whether array_col grows with x and array_row with y, or the other way round and mirrored.

    Turning an image exchanges the directions too, but never mirrors the array: only a negative determinant counts.
    """
    if spots.lattice is None or not np.isfinite(spots.lattice).all() or len(spots.xy) < 3:
        return None
    index, xy = spots.lattice - spots.lattice.mean(axis=0), spots.xy - spots.xy.mean(axis=0)
    if np.linalg.matrix_rank(index) < 2:
        return None
    grows = np.linalg.lstsq(index, xy, rcond=None)[0]  # [array_col or array_row, x or y]
    if np.linalg.det(grows) > 0:
        return "agree"
    return "exchanged" if abs(grows[0, 1] * grows[1, 0]) > abs(grows[0, 0] * grows[1, 1]) else None
