"""HDF5 features of the common pipelines: HEST-bench, TRIDENT, CLAM, STRank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agl.data.reading.formats.base import FeatureFile, feature_file
from agl.data.reading.hdf5 import open_h5, strings
from agl.data.reading.join import Rows
from agl.errors import DataError

VALUES = {
    "embeddings": "HEST-bench embeddings",
    "features": "TRIDENT/CLAM features",
    "img_feat": "STRank features",
}
BARCODES = ("barcodes", "barcode")
COORDS = ("coords", "coordinates")


class Hdf5Features:
    """HDF5 with `embeddings`, `features` or `img_feat`, and `barcode(s)` or `coords` (top-left corners).

    Where the corners come without a size of patch, TRIDENT's `patches/{slide}_patches.h5` has it.
    """

    suffixes = (".h5", ".hdf5")

    def open(self, path: Path) -> FeatureFile:
        """Recognise the file by the names of its datasets."""
        with open_h5(path, "a feature file") as h5:
            key = next((k for k in VALUES if k in h5), None)
            if key is None:
                raise DataError(
                    f"Expected a dataset named {', '.join(VALUES)} in {path}, received "
                    f"{', '.join(h5) or 'an empty file'}; rename it."
                )
            return feature_file(self, path, VALUES[key], h5[key], rows_in_h5(h5, path), key)

    def blocks(self, file: FeatureFile, size: int) -> Iterator[np.ndarray]:
        """Slices of the dataset."""
        with open_h5(file.path, "a feature file") as h5:
            for start in range(0, file.shape[0], size):
                yield h5[file.key][start : start + size]

    def sidecars(self, path: Path) -> list[Path]:
        """TRIDENT's patches."""
        return _patches_beside(path)


def rows_in_h5(h5: Any, path: Path) -> Rows:
    """How an open file names its rows."""
    barcodes = next((strings(h5[k][...]) for k in BARCODES if k in h5), None)
    coords = next((h5[k] for k in COORDS if k in h5), None)
    if coords is None:
        return Rows(str(path), barcodes)
    size = patch_size(h5, coords)
    if size is None and barcodes is None:
        size = next((s for s in map(_size_in_file, _patches_beside(path)) if s is not None), None)
    return Rows(str(path), barcodes, np.asarray(coords[...], dtype=np.float64), size)


def patch_size(h5: Any, coords: Any) -> float | None:
    """Side of a patch in full-resolution pixels as TRIDENT, HEST or CLAM record it; None where nobody did."""
    places = [coords.attrs, h5.attrs] + ([h5["img"].attrs] if "img" in h5 else [])
    for name in ("patch_size_level0", "patch_size_src", "patch_size_source_fullres_px"):
        for attrs in places:
            if name in attrs:
                return float(np.asarray(attrs[name]).reshape(-1)[0])
    attrs = coords.attrs
    if "patch_size" in attrs and "patch_level" in attrs:  # CLAM: size at its level, times that level's downsample
        scale = np.asarray(attrs.get("downsample", 1.0), dtype=np.float64).reshape(-1)[0]
        if int(attrs["patch_level"]) == 0 or "downsample" in attrs:
            return float(attrs["patch_size"]) * float(scale)
    return None


def _patches_beside(path: Path) -> list[Path]:
    trident = path.parent.parent / "patches" / f"{path.stem}_patches.h5"
    return [trident] if trident.is_file() and trident != path else []


def _size_in_file(path: Path) -> float | None:
    with open_h5(path, "a patch file") as h5:
        return patch_size(h5, h5["coords"]) if "coords" in h5 else None
