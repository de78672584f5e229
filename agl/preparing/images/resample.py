"""Any square of an image at any resolution, and the whole of it small: always from a level that is fine enough, and
averaged over what falls into a pixel, so that nothing aliases."""

from __future__ import annotations

import math

import numpy as np

from agl.preparing.images.image import SlideImage

_BAND = 1 << 26  # bytes read at once while the whole is made small


def cut(image: SlideImage, corner: np.ndarray, side: float, pixels: int) -> np.ndarray:
    """uint8 [pixels, pixels, 3] of the square of `side` px of the full image whose top-left corner is `corner` (x, y).

    Where the square is `pixels` whole px of a level, these are copied as they are. Else the nearest level that is
    fine enough is read and filtered (Pillow's bicubic kernel, widened by the factor of reduction).
    """
    level = image.level_for(side / pixels)
    scale = 1 / np.asarray(image.levels[level].downsample)
    (x, y), (width, height) = np.asarray(corner) * scale, side * scale
    off = [x - round(x), y - round(y), width - pixels, height - pixels]
    if max(map(abs, off)) < 1e-6:
        return image.read(level, round(x), round(y), pixels, pixels)
    # The kernel reaches over the edge of the square by two px of the result.
    reach = math.ceil(2 * max(width, height) / pixels) + 1 if min(width, height) > pixels else 3
    left, top = math.floor(x) - reach, math.floor(y) - reach
    right, bottom = math.ceil(x + width) + reach, math.ceil(y + height) + reach
    region = image.read(level, left, top, right - left, bottom - top)
    return _resized(region, (x - left, y - top, x - left + width, y - top + height), (pixels, pixels))


def overview(image: SlideImage, longest: int) -> tuple[np.ndarray, float]:
    """(uint8 [height, width, 3], its px for a px of the full image): the whole image, no side above `longest`.

    Read in bands, so that an image without levels does not fill the memory.
    """
    full_width, full_height = image.size
    scale = min(1.0, longest / max(full_width, full_height))
    width, height = max(1, round(full_width * scale)), max(1, round(full_height * scale))
    number = image.level_for(1 / scale)
    level = image.levels[number]
    if (level.width, level.height) == (width, height) and level.width * level.height * 3 <= _BAND:
        return image.read(number, 0, 0, width, height), scale
    out = np.empty((height, width, 3), dtype=np.uint8)
    across, down = level.width / width, level.height / height
    rows = max(1, int(_BAND / 3 / max(1, level.width) / down))
    columns = width if level.width * down * 3 <= _BAND else max(1, int(_BAND / 3 / max(1.0, down) / across))
    for first in range(0, height, rows):
        last = min(first + rows, height)
        for begin in range(0, width, columns):
            end = min(begin + columns, width)
            x0, x1 = math.floor(begin * across), min(math.ceil(end * across), level.width)
            y0, y1 = math.floor(first * down), min(math.ceil(last * down), level.height)
            region = image.read(number, x0, y0, x1 - x0, y1 - y0)
            box = (begin * across - x0, first * down - y0, end * across - x0, last * down - y0)
            out[first:last, begin:end] = _averaged(region, box, (end - begin, last - first))
    return out, scale


def _resized(region: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(region).resize(size, Image.Resampling.BICUBIC, box=box))


def _averaged(region: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    height, width = region.shape[:2]
    inside = (box[0], box[1], min(box[2], width), min(box[3], height))
    return np.asarray(Image.fromarray(region).resize(size, Image.Resampling.BOX, box=inside))
