"""Image patches on disk, read by spot, safely from many worker processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agl.data.reading.formats.hdf5_features import patch_size
from agl.data.reading.hdf5 import open_h5, strings
from agl.data.reading.join import Rows
from agl.data.reading.jpeg import JPEG, JpegImages
from agl.errors import DataError

_IMAGES = ("img", "imgs", "images", "patches")


@dataclass(frozen=True)
class PatchFile:
    """One slide's patches uint8 [row, height, width, 3] and how its rows are joined to spots."""

    path: Path
    n_rows: int
    shape: tuple[int, int, int]
    rows: Rows


def open_patches(path: Path) -> PatchFile:
    """Recognise a patch file (HEST: `img`, `barcode`, `coords` top-left; `jpeg` instead of `img` for compressed ones).

    Raises:
        DataError: unreadable, no images, not uint8 RGB, or rows and barcodes of different number.
    """
    with open_h5(path, "a patch file") as h5:
        images = stored_images(h5)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
            raise DataError(
                f"Expected uint8 RGB patches [n, height, width, 3] in {path}, received {images.dtype} "
                f"{images.shape}; convert them to 8-bit RGB."
            )
        barcodes = next((strings(h5[k][...]) for k in ("barcode", "barcodes") if k in h5), None)
        corners = np.asarray(h5["coords"][...], dtype=np.float64) if "coords" in h5 else None
        size = patch_size(h5, h5["coords"]) if "coords" in h5 else None
        shape = tuple(int(n) for n in images.shape)
    for name, names in (("barcodes", barcodes), ("coordinates", corners)):
        if names is not None and len(names) != shape[0]:
            raise DataError(
                f"Expected {name} for the {shape[0]} patches of {path}, received {len(names)}; write it again."
            )
    return PatchFile(path, shape[0], (shape[1], shape[2], shape[3]), Rows(str(path), barcodes, corners, size))


def stored_images(h5: Any) -> Any:
    """The patches of an open file, to be sliced: its array of images, or its JPEGs that read like one.

    Raises:
        DataError: there are none.
    """
    key = next((k for k in _IMAGES if k in h5), None)
    if key is not None:
        return h5[key]
    if JPEG in h5:
        return JpegImages(h5[JPEG])
    raise DataError(
        f"Expected images named 'img' or '{JPEG}' in {h5.filename}, received {', '.join(h5) or 'an empty file'}; "
        "rename them."
    )


@dataclass
class PatchReader:
    """Patches of all spots of a dataset: `read(spot positions)` -> uint8 [n, height, width, 3].

    Files open on first use, once per process: an HDF5 handle carried over a fork reads wrong data, so a
    reader that finds itself in another process starts afresh. Pickling (spawned workers) carries paths only.

    Attributes:
        files: one patch file per slide.
        file_of_spot: [spot] position in `files`.
        row_of_spot: [spot] row in that file, -1 for a spot without patch.
        shape: (height, width, 3) of every patch.
    """

    files: tuple[Path, ...]
    file_of_spot: np.ndarray
    row_of_spot: np.ndarray
    shape: tuple[int, int, int]
    _handles: dict[int, Any] = field(default_factory=dict, repr=False)
    _pid: int = field(default=-1, repr=False)
    _inherited: list[Any] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.row_of_spot)

    @property
    def complete(self) -> bool:
        """Every spot has a patch."""
        return bool((self.row_of_spot >= 0).all())

    def read(self, spots: Sequence[int] | np.ndarray) -> np.ndarray:
        """Patches of these spots in this order; repeats and any order allowed.

        Rows are read from disk sorted, neighbours in one go, each once.

        Raises:
            DataError: a spot without patch, or a damaged file.
        """
        positions = np.asarray(spots, dtype=np.int64)
        files, rows = self.file_of_spot[positions], self.row_of_spot[positions]
        if (rows < 0).any():
            raise DataError(
                f"Expected a patch for every spot, spot {int(positions[np.argmax(rows < 0)])} has none; "
                'open the dataset with features="none" to keep only spots with patches.'
            )
        out = np.empty((len(positions), *self.shape), dtype=np.uint8)
        for file in np.unique(files):
            wanted = np.flatnonzero(files == file)
            unique, back = np.unique(rows[wanted], return_inverse=True)
            out[wanted] = self._rows(int(file), unique)[back]
        return out

    def subset(self, spots: np.ndarray) -> PatchReader:
        """A reader whose spot i is this one's spot `spots[i]`."""
        return PatchReader(self.files, self.file_of_spot[spots], self.row_of_spot[spots], self.shape)

    def close(self) -> None:
        """Close the files opened by this process; reading opens them again."""
        if self._pid == os.getpid():
            for handle, _ in self._handles.values():
                handle.close()
        self._handles = {}

    def _rows(self, file: int, rows: np.ndarray) -> np.ndarray:
        """Sorted unique rows of one file."""
        images = self._images(file)
        out = np.empty((len(rows), *self.shape), dtype=np.uint8)
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        try:
            for start, stop in zip([0, *breaks], [*breaks, len(rows)], strict=True):
                out[start:stop] = images[int(rows[start]) : int(rows[stop - 1]) + 1]
        except (OSError, ValueError) as error:
            raise DataError(
                f"Expected patches in rows {rows[0]} to {rows[-1]} of {self.files[file]}, cannot read them "
                f"({error}); the file changed or is damaged: copy it again."
            ) from error
        return out

    def _images(self, file: int) -> Any:
        import h5py

        if self._pid != os.getpid():
            self._inherited.append(self._handles)  # the parent's: neither used nor closed here
            self._handles, self._pid = {}, os.getpid()
        if file not in self._handles:
            with open_h5(self.files[file], "a patch file") as h5:  # says what is wrong when it cannot be opened
                stored_images(h5)
            handle = h5py.File(self.files[file], "r")
            self._handles[file] = (handle, stored_images(handle))
        return self._handles[file][1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}, "_pid": -1, "_inherited": []}
