"""Patches kept as JPEG inside a patch file: a tenth of the size, decoded when they are read.

jpeg       [n] one byte string (variable-length uint8) a patch, each a whole RGB JPEG file
barcode    [n, 1] and coords [n, 2], as beside `img`
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from agl.errors import DataError, UserError

JPEG = "jpeg"
_AT_ONCE = 64  # byte strings in memory while they are decoded


class JpegImages:
    """A dataset of JPEGs that reads like an array uint8 [n, height, width, 3]; nothing is decoded before it is asked.

    The first patch says how large all are.

    Raises:
        DataError: not byte strings, no patches, or a first patch that is no RGB JPEG.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, streams: Any) -> None:
        import h5py

        self._streams, self._where = streams, streams.file.filename
        if h5py.check_vlen_dtype(streams.dtype) != np.uint8 or streams.ndim != 1 or not len(streams):
            raise DataError(
                f"Expected '{JPEG}' in {self._where} as one byte string (variable-length uint8) for each of some "
                f"patches, received {streams.dtype} {streams.shape}; write each patch as a JPEG file's bytes."
            )
        with self._opened(0, streams[0]) as first:
            self.shape = (len(streams), first.height, first.width, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Decoded patches of neighbouring rows, [n, height, width, 3].

        Raises:
            DataError: a patch that cannot be decoded, or of another size than the first.
        """
        start, stop, _ = rows.indices(len(self))
        out = np.empty((max(0, stop - start), *self.shape[1:]), dtype=np.uint8)
        for first in range(start, stop, _AT_ONCE):
            for row, stream in enumerate(self._streams[first : min(first + _AT_ONCE, stop)], first):
                out[row - start] = self._decoded(row, stream)
        return out

    def _decoded(self, row: int, stream: np.ndarray) -> np.ndarray:
        with self._opened(row, stream) as image:
            if (image.height, image.width) != self.shape[1:3]:  # known from its first bytes: nothing is decoded yet
                raise DataError(
                    f"Expected patches of {self.shape[2]} x {self.shape[1]} px in {self._where}, row {row} has "
                    f"{image.width} x {image.height}; cut them at one size."
                )
            try:
                return np.asarray(image)
            except Exception as error:
                raise self._damaged(row, error) from error

    def _opened(self, row: int, stream: np.ndarray) -> Any:
        """The patch as a Pillow image, its size and colours known, its pixels not yet decoded."""
        from PIL import Image

        try:
            image = Image.open(io.BytesIO(stream.tobytes()), formats=["JPEG"])
        except Exception as error:  # Pillow has many ways to say that bytes are no picture
            raise self._damaged(row, error) from error
        if image.mode != "RGB":
            raise DataError(
                f"Expected RGB patches in {self._where}, row {row} is {image.mode}; convert it before it is encoded."
            )
        return image

    def _damaged(self, row: int, error: Exception) -> UserError:
        said = str(error).split(" <")[0]  # without the address of an object
        return UserError(
            f"Expected a JPEG in row {row} of {self._where}, cannot decode it ({said}); "
            "the file is damaged: copy it again."
        )
