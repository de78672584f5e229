"""Patches around spots, cut from an image and written as the rest of the program reads them.

img [spot, px, px, 3] uint8 (or jpeg [spot], byte strings), barcode [spot, 1], coords [spot, 2] top-left corners in px
of the full image; attributes of `img` as HEST has them: patch_size_src, patch_size_target, downsample, pixel_size.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from agl.data.reading.jpeg import JPEG
from agl.preparing.images.image import SlideImage
from agl.preparing.images.resample import cut

_AT_ONCE = 16  # spots cut by one worker before the next are asked for


@dataclass(frozen=True)
class Cut:
    """How patches are cut: side in px of the image (may be a fraction), side in px of the patch, um a px of both.

    `jpeg`: quality of patches that are stored as JPEG, None to store their pixels; `grain`: corners are multiples
    of it, in px of the image.
    """

    side: float
    pixels: int
    um_per_px: float
    jpeg: int | None = None
    grain: int = 1

    @classmethod
    def of(cls, image: SlideImage, side: float, pixels: int, um_per_px: float, jpeg: int | None = None) -> Cut:
        """`grain` is the px of a level that has just the resolution that is asked for, so that its px are copied."""
        wanted = side / pixels
        downsample = image.levels[image.level_for(wanted)].downsample
        exact = all(abs(d - wanted) < 1e-6 and abs(d - round(d)) < 1e-6 for d in downsample)
        return cls(side, pixels, um_per_px, jpeg, round(wanted) if exact else 1)

    def corners(self, xy: np.ndarray) -> np.ndarray:
        """int32 [spot, 2]: whole px, so that a patch at a resolution that the image has is a plain crop.

        >>> Cut(4.0, 4, 0.5).corners(np.array([[10.0, 20.4]])).tolist()
        [[8, 18]]
        """
        return self.grain * np.rint((xy - self.side / 2) / self.grain).astype(np.int32)


def write_patches(
    path: Path,
    image: SlideImage,
    barcodes: np.ndarray,
    xy: np.ndarray,
    how: Cut,
    *,
    workers: int = 1,
    look: Callable[[np.ndarray, np.ndarray], None] | None = None,
    told: Callable[[int], None] | None = None,
) -> None:
    """Cut a patch around every centre `xy` [spot, 2] and write them in the order of the spots.

    Args:
        workers: threads that read and decode.
        look: sees (spots, patches uint8 [n, px, px, 3]) as they are cut.
        told: hears how many are done.
    """
    import h5py

    corners, n = how.corners(xy), len(xy)
    with h5py.File(path, "w") as h5:
        if how.jpeg is None:
            shape = (n, how.pixels, how.pixels, 3)
            images = h5.create_dataset("img", shape, np.uint8, chunks=(1, *shape[1:]))
        else:
            images = h5.create_dataset(JPEG, (n,), h5py.vlen_dtype(np.uint8))
        size = how.side * how.um_per_px / how.pixels
        images.attrs.update(
            {
                "patch_size_src": how.side,
                "patch_size_target": how.pixels,
                "downsample": how.side / how.pixels,
                "pixel_size": size,
            }
        )
        h5.create_dataset("barcode", data=np.array([str(b).encode() for b in barcodes], dtype="S")[:, None])
        h5.create_dataset("coords", data=corners).attrs["patch_size_level0"] = how.side
        done = 0
        for spots, patches in _in_order(image, corners, how, workers):
            for spot, patch in zip(spots, patches, strict=True):
                images[spot] = patch if how.jpeg is None else _jpeg(patch, how.jpeg)
            done += len(spots)
            if look is not None:
                look(spots, patches)
            if told is not None:
                told(done)


def _in_order(
    image: SlideImage, corners: np.ndarray, how: Cut, workers: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(spots, patches), neighbours one after another so that a tile is decoded once; few are in memory at a time."""
    band = max(how.side, 1.0)  # as high as a patch: with strips, all that a row of spots touches is kept
    order = np.lexsort((corners[:, 0], np.floor(corners[:, 1] / band)))
    groups = iter([order[start : start + _AT_ONCE] for start in range(0, len(order), _AT_ONCE)])

    def work(spots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return spots, np.stack([cut(image, corners[spot], how.side, how.pixels) for spot in spots])

    if workers <= 1:
        yield from map(work, groups)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[tuple[np.ndarray, np.ndarray]]] = [
            pool.submit(work, g) for g in islice(groups, 2 * workers)
        ]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(work, group) for group in islice(groups, 1)]
        finally:
            for future in waiting:
                future.cancel()


def _jpeg(patch: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(patch).save(stream, "JPEG", quality=quality, subsampling=0)
    return np.frombuffer(stream.getvalue(), np.uint8)
