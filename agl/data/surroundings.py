"""A spot in its surroundings: the mean features of its nearest spots, and features relative to their slide.

Only image features and places are read, never counts, so a test spot's surroundings tell nothing of what is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from agl.data.geometry import blocks, pitch
from agl.errors import DataError, did_you_mean

NORMALISE = ("train", "slide")
TIE = 0.05  # in pitches: spots hardly farther than the k-th nearest count as near as it (pixels are often rounded)
_SPOTS_AT_ONCE = 2_048


@dataclass(frozen=True)
class Surroundings:
    """What is added to a spot's own features, and against what they are measured.

    Attributes:
        context: numbers of nearest spots whose mean is appended, ascending.
        normalise: "slide" centres and scales every feature inside each slide; "train" leaves that to the models,
            which do it over the training spots.
        places: whether a spot's place is appended: x and y from the middle of its slide, in pitches.

    >>> Surroundings.of([24, 8]).context
    (8, 24)
    """

    context: tuple[int, ...] = ()
    normalise: str = "train"
    places: bool = False

    @classmethod
    def of(cls, context: Iterable[int] = (), normalise: str = "train", places: bool = False) -> Surroundings:
        """Checked settings. Raises a `UserError` for numbers below 1 or twice, and for an unknown normalisation."""
        sizes = tuple(context)
        whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 1 for k in sizes)
        if not whole or len(set(sizes)) < len(sizes):
            raise DataError(
                f"Expected different numbers of nearest spots from 1 as context, received {list(sizes)}; "
                "give for example [8, 24]."
            )
        if normalise not in NORMALISE:
            raise DataError(
                f"Expected normalise as one of {', '.join(NORMALISE)}, received {normalise!r}; choose one."
                f"{did_you_mean(str(normalise), NORMALISE)}"
            )
        return cls(tuple(sorted(int(k) for k in sizes)), normalise, places)

    @property
    def none(self) -> bool:
        """Features stay as they are."""
        return not self.context and self.normalise == "train" and not self.places

    def width(self, own: int) -> int:
        """Number of features where a spot itself has `own`."""
        return own * (1 + len(self.context)) + (2 if self.places else 0)


def surround(
    own: np.ndarray, xy: np.ndarray, settings: Surroundings, *, slide: str = "", out: np.ndarray | None = None
) -> np.ndarray:
    """Features float32 `[spot, feature]` of the spots of one slide, seen in their surroundings.

    Appends for every k of the context the mean of `own` over the `nearest` k spots, then, with normalise="slide",
    subtracts each column's mean over the slide and divides by its standard deviation (columns that do not vary
    become 0), then, with places, appends two columns. Sums run in float64. Memory does not grow with the slide beyond
    `out`.

    Args:
        own: `[spot, feature]` features of all spots of the slide; read block by block.
        xy: `[spot, 2]` places of the spots, in any unit.
        slide: its name, for messages.
        out: float32 `[spot, settings.width(feature)]` to write into, such as a memory map.

    Raises:
        DataError: context is asked for a slide of one spot, without finite coordinates, or with all spots in one place.

    >>> surround(np.array([[0.0], [1.0], [5.0]]), np.array([[0, 0], [1, 0], [3, 0]]), Surroundings.of([1]))
    array([[0., 1.],
           [1., 0.],
           [5., 1.]], dtype=float32)
    """
    n, width = own.shape
    result = np.empty((n, settings.width(width)), dtype=np.float32) if out is None else out
    if settings.context or settings.places:
        _check_places(xy, slide, "data.context=[]" if settings.context else "data.places=false")
    features = result[:, : settings.width(width) - (2 if settings.places else 0)]
    if settings.context:
        for rows, weights in _blocks_of_weights(xy, settings.context, slide):
            used = np.unique(np.concatenate([rows, *(w.indices for w in weights)]))
            values = np.asarray(own[used], dtype=np.float64)
            parts = [values[np.searchsorted(used, rows)], *(w[:, used] @ values for w in weights)]
            features[rows] = np.concatenate(parts, axis=1)
    else:
        for part in _parts(n):
            features[part] = own[part]
    if settings.normalise == "slide":
        _standardise(features)
    if settings.places:
        xy = np.asarray(xy, dtype=np.float64)
        result[:, -2:] = (xy - xy.mean(0)) / pitch(xy)
    return result


def nearest(xy: np.ndarray, k: int) -> sparse.csr_matrix:
    """`[spot, spot]` averaging weights: each row is 1/m at the spot's m nearest others of the slide, else 0.

    m is k, or more where others are as far as the k-th nearest (to `TIE` pitches): all of them are taken, so that
    the set depends on where spots lie and not on their order, and follows turns and mirror images. Eight neighbours
    of a square lattice are the ring around a spot, 24 two rings; of Visium's hexagons 8 give 12 and 24 give 30. A
    slide of fewer spots gives all others; at the edge of the tissue the nearest lie farther away, to one side.

    >>> nearest(np.array([[0, 0], [1, 0], [-1, 0], [3, 0]]), 1).toarray().tolist()
    [[0.0, 0.5, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    """
    _check_places(xy, "")
    found = [(rows, weights) for rows, [weights] in _blocks_of_weights(xy, (k,), "")]
    order = np.argsort(np.concatenate([rows for rows, _ in found]))
    return sparse.csr_matrix(sparse.vstack([weights for _, weights in found], format="csr")[order])


def _blocks_of_weights(
    xy: np.ndarray, context: tuple[int, ...], slide: str
) -> Iterable[tuple[np.ndarray, list[sparse.csr_matrix]]]:
    """Compact blocks of spots: their rows, and averaging weights `[row, spot]` for every k."""
    places = np.asarray(xy, dtype=np.float64)
    tree, tolerance = cKDTree(places), TIE * pitch(places)
    block = blocks(places, max(1, len(places) // _SPOTS_AT_ONCE))
    order = np.argsort(block, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(block))[:-1]):
        if len(rows):
            distance, spot = _query(tree, places[rows], max(context), tolerance, slide)
            other = spot != rows[:, None]
            yield rows, [_weights(distance, spot, other, k, tolerance, len(places)) for k in context]


def _query(tree: cKDTree, places: np.ndarray, k: int, tolerance: float, slide: str) -> tuple[np.ndarray, np.ndarray]:
    """Distances and spots `[row, some]`, nearest first, at least all that tie with the k-th other one."""
    size = k + k // 2 + 8
    while True:
        distance, spot = tree.query(places, k=min(size, tree.n))
        if size >= tree.n or (distance[:, -1] > distance[:, k] + tolerance).all():
            return distance, spot
        size *= 2
        if size > 64 * (k + 8):
            raise DataError(
                f"Expected spots at places of their own in slide '{slide}', received hundreds at one place; "
                "check its coordinates."
            )


def _weights(
    distance: np.ndarray, spot: np.ndarray, other: np.ndarray, k: int, tolerance: float, n: int
) -> sparse.csr_matrix:
    limit = distance[:, [min(k, n - 1)]] + tolerance  # the spot itself stands before the k-th other one
    taken = (distance <= limit) & other
    many = taken.sum(axis=1)
    indptr = np.concatenate([[0], np.cumsum(many)])
    return sparse.csr_matrix((np.repeat(1.0 / many, many), spot[taken], indptr), shape=(len(spot), n))


def _standardise(values: np.ndarray) -> None:
    """Centre and scale columns in place, in two passes over blocks."""
    n, width = values.shape
    mean, variance = np.zeros(width), np.zeros(width)
    for part in _parts(n):
        mean += values[part].sum(axis=0, dtype=np.float64) / n
    for part in _parts(n):
        variance += np.square(values[part] - mean).sum(axis=0) / n
    deviation = np.sqrt(variance)
    varies = deviation > np.finfo(np.float32).eps * np.abs(mean)  # less is rounding
    for part in _parts(n):
        values[part] = (values[part] - mean) * np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)


def _parts(n: int) -> list[slice]:
    return [slice(start, start + _SPOTS_AT_ONCE) for start in range(0, n, _SPOTS_AT_ONCE)]


def _check_places(xy: np.ndarray, slide: str, without: str = "data.context=[]") -> None:
    if len(xy) < 2:
        raise DataError(
            f"Expected at least two spots in slide '{slide}' to give them a context, received {len(xy)}; "
            f"leave the slide out, or set {without}."
        )
    bad = int((~np.isfinite(xy)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"Expected finite coordinates in slide '{slide}' to find its spots' neighbours, received {bad} spots "
            f"without; add them, or set {without}."
        )
    if (np.asarray(xy) == np.asarray(xy)[0]).all():
        raise DataError(
            f"Expected spots at different places in slide '{slide}' to find their neighbours, received all "
            f"{len(xy)} at one; add their coordinates, or set {without}."
        )
