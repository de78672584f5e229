"""Pictures in Zarr as OME-NGFF has them and SpatialData keeps them: arrays [colour, y, x], from fine to coarse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agl.errors import UserError
from agl.extras import need
from agl.preparing.images.image import SlideImage, levels_of

_MARKS = ("zarr.json", ".zattrs")


def is_picture(path: Path) -> bool:
    """Whether a folder is a Zarr group that may hold a picture."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


def open_ome_zarr(path: Path) -> SlideImage:
    """The picture with its levels; chunks are read as a region needs them.

    Raises:
        UserError: damaged, no 8-bit colours, or an order of axes other than colour, y, x.
    """
    zarr = need("zarr", "to read pictures in Zarr", "spatialdata")
    try:
        group = zarr.open_group(str(path), mode="r")
        about = dict(group.attrs)
        said = about.get("ome", about)["multiscales"][0]
        axes = [axis["name"] if isinstance(axis, dict) else axis for axis in said["axes"]]
        arrays = [group[level["path"]] for level in said["datasets"]]
    except Exception as error:  # Zarr's own are many
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"Expected a picture as OME-NGFF at {path}, cannot read it ({type(error).__name__}); copy it again."
        ) from error
    if axes != ["c", "y", "x"] or arrays[0].dtype != np.uint8 or arrays[0].shape[0] not in (3, 4):
        raise UserError(
            f"Expected 8-bit colours as [c, y, x] at {path}, received {arrays[0].dtype} {arrays[0].shape} as {axes}; "
            "name the H&E image with --image."
        )

    def region(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        read: Any = arrays[level][:3, y : y + height, x : x + width]
        return np.ascontiguousarray(np.moveaxis(np.asarray(read), 0, 2))

    sizes = [(int(array.shape[2]), int(array.shape[1])) for array in arrays]
    return SlideImage(path, levels_of(sizes), None, region)
