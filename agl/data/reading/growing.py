"""Writing .npy files whose length is not known in advance, without holding them in memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType

import numpy as np

_HEADER = 128  # bytes reserved; the real header is padded to this length when the file is closed


def reserve_bytes(file: int, size: int) -> None:
    """Make a file that long, with room for it on the disk: a full one is an OSError here, and a crash in a mapping."""
    os.ftruncate(file, size)
    try:
        os.posix_fallocate(file, 0, size)
    except AttributeError:  # not on this system
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not on this file system, or nothing to reserve
            raise


class GrowingArray:
    """A .npy file [n, ...] written block by block; readable by `numpy.load` once closed.

    >>> import tempfile; from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as d:
    ...     with GrowingArray(Path(d) / "a.npy", np.dtype(np.int32)) as a:
    ...         a.append(np.arange(3)); a.append(np.arange(2))
    ...     np.load(Path(d) / "a.npy").tolist()
    [0, 1, 2, 0, 1]
    """

    def __init__(self, path: Path, dtype: np.dtype, row_shape: tuple[int, ...] = ()) -> None:
        self.path, self.dtype, self.row_shape, self.length = path, np.dtype(dtype), row_shape, 0
        self._stream = path.open("wb")
        self._stream.write(b"\0" * _HEADER)

    def append(self, block: np.ndarray) -> None:
        """Add rows [m, ...] at the end."""
        if block.shape[1:] != self.row_shape:
            raise ValueError(f"Expected rows of shape {self.row_shape}, received {block.shape[1:]}; cut them to it.")
        if block.size:  # `tofile` would not say why it failed
            self._stream.write(np.ascontiguousarray(block, dtype=self.dtype).data.cast("B"))
        self.length += len(block)

    def reserve(self, rows: int) -> int:
        """Add `rows` rows of zeros to be filled in by `write_rows`; returns the first one's position."""
        first = self.length
        self.length += rows
        self._stream.flush()
        reserve_bytes(self._stream.fileno(), _HEADER + self.length * self._row_bytes)
        self._stream.seek(0, 2)
        return first

    def write_rows(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Fill reserved rows. Mapped only for the call, so that written pages do not pile up in memory."""
        if not len(rows):
            return
        first, last = int(rows.min()), int(rows.max())
        region = np.memmap(
            self.path,
            self.dtype,
            "r+",
            _HEADER + first * self._row_bytes,
            (last - first + 1, *self.row_shape),
        )
        region[rows - first] = values
        region.flush()

    def close(self) -> None:
        """Write the header with the final length."""
        shape = (self.length, *self.row_shape)
        header = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
        self._stream.seek(0)
        magic = b"\x93NUMPY\x01\x00"
        size = _HEADER - len(magic) - 2
        self._stream.write(magic + size.to_bytes(2, "little") + header.ljust(size - 1).encode("latin1") + b"\n")
        self._stream.close()

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.row_shape, dtype=np.int64))

    def __enter__(self) -> GrowingArray:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stream.close()
