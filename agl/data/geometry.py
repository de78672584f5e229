"""Where spots lie: their pitch, contiguous blocks, distances. Coordinates are `[spot, 2]`, any unit."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree


def pitch(xy: np.ndarray, alone: float = float("nan")) -> float:
    """Usual distance between neighbouring spots: the median distance to the nearest other place.

    Args:
        alone: the answer where there are fewer than two distinct places.

    >>> pitch(np.array([[0, 0], [0, 2], [0, 4], [0, 4]]))
    2.0
    """
    places = np.unique(np.asarray(xy, dtype=np.float64), axis=0)
    if len(places) < 2:
        return alone
    return float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))


def distance_to(xy: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`[spot]`: distance to the nearest of the others; infinite where there are none."""
    if len(xy) == 0 or len(others) == 0:
        return np.full(len(xy), np.inf)
    return np.asarray(cKDTree(others).query(xy)[0])


def edge_distance(xy: np.ndarray) -> np.ndarray:
    """`[spot]`: distance to the nearest spot on the edge; 0 on it, and everywhere where no spot is inside.

    On the edge is a spot that lacks two and more of the neighbours (within 1.5 pitches) that a spot may have; a hole
    has an edge, too.

    >>> edge_distance(np.array([[x, y] for x in range(5) for y in range(5)])).reshape(5, 5)[2]
    array([0., 1., 2., 1., 0.])
    """
    xy = np.asarray(xy, dtype=np.float64)
    reach = 1.5 * pitch(xy)
    if not np.isfinite(reach):
        return np.zeros(len(xy))
    tree = cKDTree(xy)
    neighbours = np.array([len(near) for near in tree.query_ball_point(xy, reach)])
    edge = neighbours < neighbours.max() - 1
    return distance_to(xy, xy[edge]) if edge.any() and not edge.all() else np.zeros(len(xy))


def blocks(xy: np.ndarray, k: int) -> np.ndarray:
    """Cut spots into k compact blocks of equal size (to one spot): int64 block number `[spot]`.

    Halves the spots across the longer side of their bounding box, again and again, in proportion to the number of
    blocks on each side. With fewer than k spots some blocks stay empty.

    >>> blocks(np.array([[0, 0], [1, 0], [9, 0], [8, 0]]), 2)
    array([0, 0, 1, 1])
    """
    xy = np.asarray(xy, dtype=np.float64)
    out = np.zeros(len(xy), dtype=np.int64)
    _cut(xy, np.arange(len(xy)), k, 0, out)
    return out


def _cut(xy: np.ndarray, spots: np.ndarray, k: int, first: int, out: np.ndarray) -> None:
    if k == 1 or len(spots) == 0:
        out[spots] = first
        return
    longer = int(np.argmax(np.ptp(xy[spots], axis=0)))
    along = spots[np.lexsort((xy[spots, 1 - longer], xy[spots, longer]))]
    left = k // 2
    border = round(len(spots) * left / k)
    _cut(xy, along[:border], left, first, out)
    _cut(xy, along[border:], k - left, first + left, out)
