"""What an image of a slide offers: its levels, the size of its pixels, and any region of a level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

_NEAR = 0.02  # share by which a level may be too coarse: nobody sees it, and a finer one has four times the px
PIXELS = (0.05, 20.0)  # um a px that a slide can have; what lies outside is a screen's resolution or a mistake


@dataclass(frozen=True)
class Level:
    """One resolution. `downsample` = px of the full image for a px of this level, (x, y)."""

    width: int
    height: int
    downsample: tuple[float, float]


@dataclass(frozen=True)
class SlideImage:
    """An open image.

    Attributes:
        path: the file.
        levels: from the full image to the coarsest.
        um_per_px: as its tags say, None where they say nothing that can be meant.
        region: `(level, x, y, width, height)` in px of the level, inside it -> uint8 [height, width, 3]; from any
            thread.
        close: gives the file back.
    """

    path: object
    levels: Sequence[Level]
    um_per_px: float | None
    region: Callable[[int, int, int, int, int], np.ndarray]
    close: Callable[[], None] = field(default=lambda: None)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the full image, whose px places are given in."""
        first = self.levels[0]
        return round(first.width * first.downsample[0]), round(first.height * first.downsample[1])

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """uint8 [height, width, 3] of a region in px of the level; white where it reaches over the edge."""
        of = self.levels[level]
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, of.width), min(y + height, of.height)
        if (left, top, right, bottom) == (x, y, x + width, y + height):
            return self.region(level, x, y, width, height)
        out = np.full((height, width, 3), 255, dtype=np.uint8)
        if right > left and bottom > top:
            inside = self.region(level, left, top, right - left, bottom - top)
            out[top - y : bottom - y, left - x : right - x] = inside
        return out

    def level_for(self, downsample: float) -> int:
        """The coarsest level that is at least as fine as `downsample`, or coarser by 2 % at most; 0 where none is.

        >>> levels = [Level(8, 8, (1, 1)), Level(4, 4, (2, 2)), Level(2, 2, (4, 4))]
        >>> image = SlideImage("", levels, None, lambda *box: np.zeros(0))
        >>> [image.level_for(d) for d in (0.5, 1, 1.9, 2, 3.9, 9)]
        [0, 0, 0, 1, 1, 2]
        """
        fine = [k for k, level in enumerate(self.levels) if max(level.downsample) <= downsample * (1 + _NEAR)]
        return max(fine, key=lambda k: self.levels[k].downsample, default=0)


def reduced(image: SlideImage, scale: float) -> SlideImage:
    """An image that is a small copy of the full one: its px = px of the full image times `scale`."""
    levels = [Level(n.width, n.height, (n.downsample[0] / scale, n.downsample[1] / scale)) for n in image.levels]
    return replace(image, levels=levels, um_per_px=None)


def levels_of(sizes: Sequence[tuple[int, int]]) -> list[Level]:
    """Levels of (width, height) each; the first is the full image.

    >>> levels_of([(100, 80), (50, 40)])[1].downsample
    (2.0, 2.0)
    """
    width, height = sizes[0]
    return [Level(w, h, (width / w, height / h)) for w, h in sizes]


def plausible(um_per_px: float | None) -> float | None:
    """The size of a pixel if it can be that of a slide.

    >>> plausible(0.25), plausible(264.58), plausible(None)
    (0.25, None, None)
    """
    return um_per_px if um_per_px is not None and PIXELS[0] <= um_per_px <= PIXELS[1] else None
