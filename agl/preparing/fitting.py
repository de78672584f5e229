"""Does the image fit the counts? Spots with more RNA lie on denser stain.

All eight ways to lay the spots on the image are compared, because exchanged axes, a mirrored image and the wrong slide
are common and nothing else shows them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agl.preparing.tissue import mean_in, rectangle_sums, tissue_mask

FAR_BETTER = 0.2  # in correlation and share of spots on tissue, added up
_INSIDE = 0.9  # share of spots that must lie in the image
_CHANCE = 0.05  # correlation below which the image says nothing about the counts
_ENOUGH = 30  # spots

WAYS = {
    "as given": (False, False, False),
    "left and right exchanged": (False, True, False),
    "upside down": (False, False, True),
    "turned by 180 degrees": (False, True, True),
    "x and y exchanged": (True, False, False),
    "x and y exchanged, then left and right": (True, True, False),
    "x and y exchanged, then upside down": (True, False, True),
    "x and y exchanged, then turned by 180 degrees": (True, True, True),
}


@dataclass(frozen=True)
class Fit:
    """How spots laid on the image one way fit it.

    Attributes:
        way: a key of `WAYS`.
        correlation: Pearson, over spots, of log(1 + total counts) with the stain's mean optical density.
        on_tissue: mean share of a spot that is tissue.
        inside: share of spots in the image.
    """

    way: str
    correlation: float
    on_tissue: float
    inside: float


def fits(
    picture: np.ndarray,
    scale: float,
    size: tuple[int, int],
    xy: np.ndarray,
    side: float,
    totals: np.ndarray,
    mask: np.ndarray | None = None,
) -> list[Fit]:
    """The eight ways, "as given" first.

    Args:
        picture, scale: the image, small, and its px for a full-resolution px.
        size: (width, height) of the full-resolution image.
        xy, side: [spot, 2] centres and the side of a spot in full-resolution px.
        totals: [spot] counts.
        mask: the picture's tissue, where it is known.
    """
    density, tissue = (
        rectangle_sums(optical_density(picture)),
        rectangle_sums(tissue_mask(picture) if mask is None else mask),
    )
    depth = np.log1p(np.asarray(totals, dtype=np.float64))
    found = []
    for way in WAYS:
        placed = laid(xy, size, way)
        inside = ((placed >= 0) & (placed <= np.asarray(size))).all(axis=1)
        stain = mean_in(density, placed, side, scale)
        found.append(
            Fit(
                way,
                _pearson(stain[inside], depth[inside]),
                float(mean_in(tissue, placed, side, scale).mean()),
                float(inside.mean()),
            )
        )
    return found


def laid(xy: np.ndarray, size: tuple[int, int], way: str) -> np.ndarray:
    """Centres [spot, 2] as they would lie if the image had been given in another way.

    >>> laid(np.array([[1.0, 2.0]]), (10, 20), "x and y exchanged, then left and right").tolist()
    [[8.0, 1.0]]
    """
    exchanged, across, down = WAYS[way]
    placed = xy[:, ::-1].astype(np.float64) if exchanged else xy.astype(np.float64)
    for axis, flipped in enumerate((across, down)):
        if flipped:
            placed[:, axis] = size[axis] - placed[:, axis]
    return placed


def optical_density(picture: np.ndarray) -> np.ndarray:
    """-log10 of the light let through, mean of the channels [height, width]; black frames count as glass."""
    of_level = -np.log10((np.arange(256) + 1) / 256)
    red, green, blue = (picture[..., channel] for channel in range(3))
    density = (of_level[red] + of_level[green] + of_level[blue]) / 3
    density[np.maximum(np.maximum(red, green), blue) < 10] = 0.0
    return np.asarray(density)


def doubts(found: list[Fit], n_spots: int) -> list[str]:
    """A sentence if another way fits far better than the given one, or if the image tells nothing about the counts."""
    given = found[0]
    if n_spots < _ENOUGH:
        return []
    if given.inside < _INSIDE:
        return [f"Only {given.inside:.0%} of the spots lie in the image: it is another image, or another scale of it."]
    able = [fit for fit in found[1:] if fit.inside >= _INSIDE and np.isfinite(fit.correlation)]
    own = given.correlation if np.isfinite(given.correlation) else 0.0
    better = [f for f in able if _advantage(f, given, own) > FAR_BETTER]
    if better:
        best = max(better, key=lambda fit: _advantage(fit, given, own))
        return [
            f"With {best.way} the spots fit the image far better (counts and stain correlate by {best.correlation:.2f} "
            f"instead of {own:.2f}, {best.on_tissue:.0%} instead of {given.on_tissue:.0%} lie on tissue): is it the "
            "right image, and are x and y right? See the picture in checks/."
        ]
    if own < _CHANCE:
        return [
            f"Counts and stain hardly correlate ({own:.2f}): spots with more RNA should lie on denser stain. Is it the "
            "right image? See the picture in checks/."
        ]
    return []


def _advantage(fit: Fit, given: Fit, own: float) -> float:
    """How far better a way is, by both witnesses together: on five real sections the right way always won."""
    return fit.correlation - own + fit.on_tissue - given.on_tissue


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 3 or first.std() < 1e-12 or second.std() < 1e-12:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
