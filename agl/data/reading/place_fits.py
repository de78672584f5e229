"""How well places of rows and of spots agree: as they are, and under a scale, a shift or any affine map. Places are
`[row, 2]` pixels, row by row the same spots on both sides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

NEAR = 0.25  # pitches up to which places agree: patches may have been cut at a coarser level, or aligned anew
_DIAGONAL = 0.1  # pitches by which half a patch may differ in x and y, for the same reasons
_LARGEST_HALF = 3.0, 300.0  # pitches, px: the larger of both is half of the largest patch believed without a record
_USUAL_HALF = 0.8  # pitches: usual patches are not much wider than spots are apart
_IRREGULAR = (
    0.015  # pitches: files cut at the spots are off by rounding, .003; other slides of one array by .03 and more
)
_ENOUGH = 8  # spots from which on six numbers of an affine map leave something to be seen
_FINE = 8  # grains in a pitch: coarser ones are the lattice of the spots itself


def distances(places: np.ndarray, xy: np.ndarray, patch_size: float | None, step: float) -> np.ndarray:
    """[row] distance under the convention that fits best: places are centres, or corners of patches.

    >>> corners = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    >>> distances(corners, corners + 20, 40.0, 100.0), distances(corners, corners + 20, None, 100.0)
    (array([0., 0., 0.]), array([0., 0., 0.]))
    """
    candidates = [np.linalg.norm(places + half - xy, axis=1) for half in halves(places, xy, patch_size, step)]
    return min(candidates, key=np.median)


def halves(places: np.ndarray, xy: np.ndarray, patch_size: float | None, step: float) -> Iterator[float]:
    """What may have to be added to x and y: nothing, or half a patch, which is guessed where the file does not say."""
    yield 0.0
    if patch_size is not None:
        yield patch_size / 2
        return
    move, spread = shift(places, xy)
    half = float(move.mean())
    even = max(abs(move[0] - move[1]), spread) <= _DIAGONAL * step
    if even and 0 < half <= max(_LARGEST_HALF[0] * step, _LARGEST_HALF[1]):
        yield half
    yield float(np.clip(half, 0.0, _USUAL_HALF * step))


def shift(places: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, float]:
    """(x, y) to add to the places, median over the rows, and the median distance left."""
    move = np.median(xy - places, axis=0)
    return move, float(np.median(np.linalg.norm(places + move - xy, axis=1)))


def at_others(places: np.ndarray, xy: np.ndarray, patch_size: float | None, step: float) -> bool:
    """Whether most places are exactly those of other spots, under one of the conventions: rows moved by a few spots."""
    tree, own = cKDTree(xy), np.arange(len(xy))
    for half in halves(places, xy, patch_size, step):
        distance, nearest = tree.query(places + half)
        if np.mean((distance <= _DIAGONAL * step) & (nearest != own)) > 0.5:
            return True
    return False


def scale_and_shift(places: np.ndarray, xy: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Least squares xy = scale * places + move: (scale, move, median distance left).

    >>> scale, move, left = scale_and_shift(np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([[5.0, 5], [7, 5], [5, 7]]))
    >>> round(scale, 6), move.round(6).tolist(), round(left, 6)
    (2.0, [5.0, 5.0], 0.0)
    """
    centred, target = places - places.mean(axis=0), xy - xy.mean(axis=0)
    square = float((centred**2).sum())
    scale = float((centred * target).sum()) / square if square > 0 else 0.0
    move = xy.mean(axis=0) - scale * places.mean(axis=0)
    return scale, move, float(np.median(np.linalg.norm(scale * places + move - xy, axis=1)))


def irregular(places: np.ndarray, xy: np.ndarray, step: float) -> float:
    """Median distance that the best affine map leaves, 0 where it is no more than rounding.

    Spots are not on a perfect grid: each slide has its own small irregularities, by which it is known whatever was
    done to its image. (Those of Visium are given by a template; there nothing is left for any slide.)
    """
    if len(xy) < _ENOUGH or np.linalg.matrix_rank(places - places.mean(axis=0)) < 2:
        return 0.0
    design = np.column_stack([places - places.mean(axis=0), np.ones(len(places))])
    mapped = np.linalg.lstsq(design, xy, rcond=None)[0]
    left = float(np.median(np.linalg.norm(design @ mapped - xy, axis=1)))
    zoom = np.sqrt(abs(np.linalg.det(mapped[:2])))
    allowed = _IRREGULAR * step + max(zoom, 1.0) * max(2.0, _grain(places, step / max(zoom, 1e-9)))
    return left if left > allowed else 0.0


def _grain(places: np.ndarray, step: float) -> float:
    """Largest number that all coordinates are multiples of: patches cut at a coarser level are rounded to it."""
    whole = np.rint(places - places.min(axis=0)).astype(np.int64)
    if not np.array_equal(places, np.rint(places)):
        return 1.0
    grain = float(np.gcd.reduce(whole.reshape(-1)))
    return grain if 1 < grain <= step / _FINE else 1.0
