"""The tiles or strips of one TIFF page, decoded when a region touches them; the latest ones are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agl.errors import UserError

KEPT = 128 << 20  # bytes of decoded tiles held for a page's plane


class Segments:
    """One plane of a page: `read(x, y, width, height)` -> uint8 [height, width, sample].

    Args:
        page: where the bytes are (its keyframe says how they are encoded).
        stored: (offset, size) -> bytes, from any thread.
        first: number of the plane's first segment, where planes of colours lie one after another.
    """

    def __init__(
        self, page: Any, keyframe: Any, stored: Callable[[int, int], bytes], path: Path, first: int = 0
    ) -> None:
        self._offsets, self._sizes = page.dataoffsets, page.databytecounts
        self._stored, self._path, self._first = stored, path, first
        self._decode = keyframe.decode
        self._tables = {"jpegtables": keyframe.jpegtables, "jpegheader": keyframe.jpegheader}
        self._width, self._height = keyframe.imagewidth, keyframe.imagelength
        tiled = keyframe.is_tiled
        self._across = keyframe.tilewidth if tiled else keyframe.imagewidth
        self._down = keyframe.tilelength if tiled else min(keyframe.rowsperstrip, keyframe.imagelength)
        self._samples = keyframe.samplesperpixel if keyframe.planarconfig == 1 else 1
        self._columns = -(-self._width // self._across)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A region inside the page."""
        out = np.empty((height, width, self._samples), dtype=np.uint8)
        for row in range(y // self._down, (y + height - 1) // self._down + 1):
            for column in range(x // self._across, (x + width - 1) // self._across + 1):
                segment = self._segment(row * self._columns + column)
                left, top = column * self._across, row * self._down
                x0, x1 = max(x, left), min(x + width, left + segment.shape[1])
                y0, y1 = max(y, top), min(y + height, top + segment.shape[0])
                out[y0 - y : y1 - y, x0 - x : x1 - x] = segment[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _segment(self, number: int) -> np.ndarray:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        decoded = self._decoded(self._first + number)
        with self._lock:
            if number not in self._kept:
                self._kept[number] = decoded
                self._bytes += decoded.nbytes
            while self._bytes > KEPT and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return decoded

    def _decoded(self, index: int) -> np.ndarray:
        """[row, column, sample], cut at the image's edge; white where nothing is stored."""
        row, column = divmod(index - self._first, self._columns)
        height = min(self._down, self._height - row * self._down)
        width = min(self._across, self._width - column * self._across)
        if not self._sizes[index]:
            return np.full((height, width, self._samples), 255, dtype=np.uint8)
        data = self._stored(self._offsets[index], self._sizes[index])
        try:
            segment = self._decode(data, index, **self._tables)[0]
        except Exception as error:  # every codec has its own
            if "imagecodecs" in str(error):
                raise UserError(
                    f"Expected the package imagecodecs to decode {self._path} ({error}). "
                    "Write: pip install 'agl[slides]'"
                ) from error
            raise UserError(
                f"Expected an image that can be read to its end at {self._path}, a part of it is damaged "
                f"({type(error).__name__}: {error}); copy it again."
            ) from error
        if segment is None or segment.shape[1] < height or segment.shape[2] < width:
            raise UserError(f"Expected whole tiles in {self._path}, one is cut short; copy the image again.")
        return np.ascontiguousarray(segment[0, :height, :width])
