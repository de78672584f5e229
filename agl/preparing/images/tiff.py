"""TIFF, OME-TIFF and pyramids, by tifffile: only the tiles or strips that a region touches are read and decoded."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import numpy as np

from agl.errors import UserError
from agl.extras import need
from agl.preparing.images.image import SlideImage, levels_of
from agl.preparing.images.segments import Segments
from agl.preparing.images.tiff_tags import um_per_px

_AXES = {"YXS": "together", "SYX": "apart", "CYX": "apart", "YX": "grey", "YXC": "together"}
LARGEST_SEGMENT = 1 << 29  # bytes of one decoded tile or strip; whole images stored as one strip are refused


def open_tiff(path: Path) -> SlideImage:
    """The largest picture in the file, with its smaller copies as levels, 8-bit colours or grey.

    Raises:
        UserError: damaged, no 8-bit picture, or one that can only be decoded as a whole.
    """
    library = need("tifffile", "to read TIFF images", "slides")
    try:
        file = library.TiffFile(str(path))
    except Exception as error:  # damage shows as nearly any kind
        raise _damaged(path, error) from error
    try:
        series = max(file.series, key=_area)
        levels = [_Level(level, path) for level in series.levels if level.axes.replace("Q", "C") in _AXES]
        if not levels:
            raise _not_a_picture(path, series)
        mpp = um_per_px(file, levels[0].keyframe)
    except UserError:
        file.close()
        raise
    except Exception as error:
        file.close()
        raise _damaged(path, error) from error
    stream, lock = path.open("rb"), threading.Lock()

    def stored(offset: int, size: int) -> bytes:
        with lock:
            stream.seek(offset)
            found = stream.read(size)
        if len(found) != size:
            raise UserError(f"Expected {size} bytes at {offset} of {path}, it ends before; copy the image again.")
        return found

    readers = [level.readers(path, stored) for level in levels]

    def region(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        planes = [reader(x, y, width, height) for reader in readers[level]]
        if len(planes) > 1:
            return np.concatenate(planes[:3], axis=2)
        return planes[0][..., :3] if planes[0].shape[2] >= 3 else np.repeat(planes[0][..., :1], 3, axis=2)

    def close() -> None:
        with contextlib.suppress(OSError):
            stream.close()
        file.close()

    return SlideImage(path, levels_of([(level.width, level.height) for level in levels]), mpp, region, close)


class _Level:
    """One resolution of a series: how large it is and how its colours are stored."""

    def __init__(self, level: Any, path: Path) -> None:
        axes = level.axes.replace("Q", "C")
        sizes = dict(zip(axes, level.shape, strict=True))
        self.keyframe, self.kind = level.keyframe, _AXES[axes]
        self.width, self.height = int(sizes["X"]), int(sizes["Y"])
        colours = int(sizes["S"] if "S" in sizes else sizes.get("C", 1))
        if level.dtype != np.uint8 or (self.kind != "grey" and colours not in (3, 4)):
            raise _not_a_picture(path, level)
        # Colours apart are planes of one page or pages of their own.
        self.pages = [page for page in level.pages if page is not None]
        if self.kind == "apart" and len(self.pages) not in (1, colours):
            raise _not_a_picture(path, level)

    def readers(self, path: Path, stored: Any) -> list[Any]:
        """One function (x, y, width, height) -> [height, width, sample] a plane."""
        keyframe = self.keyframe
        whole = int(np.prod(keyframe.chunks)) if keyframe.chunks else 0
        if keyframe.is_memmappable and not keyframe.is_tiled and self.kind == "together":
            shape = (self.height, self.width, keyframe.shape[-1])
            pixels = np.memmap(path, np.uint8, "r", keyframe.dataoffsets[0], shape)
            return [lambda x, y, w, h: np.array(pixels[y : y + h, x : x + w])]
        if whole > LARGEST_SEGMENT:
            raise UserError(
                f"Expected tiles or narrow strips in {path}, received strips of {whole:,} bytes, which must be decoded "
                f"as a whole; write it anew: vips tiffsave {path.name} tiled.tif --tile --pyramid --bigtiff"
            )
        if self.kind == "apart" and len(self.pages) == 1:
            tiles = len(keyframe.dataoffsets) // 3
            return [Segments(self.pages[0], keyframe, stored, path, first=k * tiles).read for k in range(3)]
        pages = self.pages[:3] if self.kind == "apart" else self.pages[:1]
        return [Segments(page, keyframe, stored, path).read for page in pages]


def _area(series: Any) -> int:
    sizes = dict(zip(series.axes, series.shape, strict=True))
    return int(sizes.get("X", 0)) * int(sizes.get("Y", 0))


def _not_a_picture(path: Path, found: Any) -> UserError:
    return UserError(
        f"Expected a picture in 8-bit colours in {path}, received {found.dtype} of shape {tuple(found.shape)} "
        f"({found.axes}); give the H&E image, or convert it to 8-bit RGB."
    )


def _damaged(path: Path, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:
        return error
    said = " ".join(f"{type(error).__name__}: {error}".split())[:120]
    return UserError(f"Expected a TIFF image at {path}, cannot read it ({said}); copy it again.")
