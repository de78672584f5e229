"""Feature files of the common pipelines behind one small reader: HEST-bench, TRIDENT, CLAM, STRank, .npy and .pt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agl.data.reading.hdf5 import open_h5, strings
from agl.data.reading.join import Rows
from agl.errors import UserError

SUFFIXES = (".h5", ".hdf5", ".npy", ".pt", ".pth")
_VALUES = {
    "embeddings": "HEST-bench embeddings",
    "features": "TRIDENT/CLAM features",
    "img_feat": "STRank features",
}
_BARCODES = ("barcodes", "barcode")
_COORDS = ("coords", "coordinates")


@dataclass(frozen=True)
class FeatureFile:
    """One slide's features [row, feature] on disk and how its rows are joined to spots; nothing is loaded yet."""

    path: Path
    kind: str
    shape: tuple[int, int]
    dtype: np.dtype
    rows: Rows
    key: str = ""

    def blocks(self, size: int = 4096) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, values [at most size, feature]) in file order, in `self.dtype`."""
        if self.path.suffix in (".h5", ".hdf5"):
            with open_h5(self.path, "a feature file") as h5:
                for start in range(0, self.shape[0], size):
                    yield start, h5[self.key][start : start + size].astype(self.dtype, copy=False)
            return
        array = np.load(self.path, mmap_mode="r") if self.path.suffix == ".npy" else _load_torch(self.path)[self.key]
        for start in range(0, self.shape[0], size):
            yield start, np.asarray(array[start : start + size]).astype(self.dtype, copy=False)


def open_features(path: Path) -> FeatureFile:
    """Recognise a feature file by its contents.

    HDF5: `embeddings` | `features` | `img_feat` with `barcode(s)` or `coords` (top-left corners).
    `.npy` / `.pt`: a matrix whose rows are named by a sidecar (`sidecars`), or a `.pt` dictionary with the
    HDF5 keys. float16 is kept, everything else becomes float32.

    Raises:
        UserError: unreadable, not a matrix of numbers, rows and barcodes of different number.
    """
    path = Path(path)
    if path.suffix in (".h5", ".hdf5"):
        return _open_h5(path)
    if path.suffix == ".npy":
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"Expected a .npy matrix, cannot read {path} ({error}); save it with numpy.save."
            ) from error
        return _described(path, "NumPy matrix", array, _rows_beside(path, array.shape[0] if array.ndim else 0))
    if path.suffix in (".pt", ".pth"):
        return _open_torch(path)
    raise UserError(f"Expected features as {', '.join(SUFFIXES)}, received {path}; convert it to HDF5.")


def sidecars(path: Path) -> list[Path]:
    """Existing files that name the rows of a matrix: barcodes, corners, CLAM's h5 beside pt, TRIDENT's patches."""
    stem = path.with_suffix("")
    beside = [stem.parent / f"{stem.name}{end}" for end in (".barcodes.txt", "_barcodes.txt", ".barcodes.csv")]
    clam = path.parent.parent / "h5_files" / f"{stem.name}.h5"
    trident = path.parent.parent / "patches" / f"{stem.name}_patches.h5"
    wanted = [trident] if path.suffix in (".h5", ".hdf5") else [*beside, clam]
    return [p for p in wanted if p.is_file() and p != path]


def _open_h5(path: Path) -> FeatureFile:
    with open_h5(path, "a feature file") as h5:
        key = next((k for k in _VALUES if k in h5), None)
        if key is None:
            raise UserError(
                f"Expected a dataset named {', '.join(_VALUES)} in {path}, received "
                f"{', '.join(h5) or 'an empty file'}; rename it."
            )
        values = h5[key]
        found = _described(path, _VALUES[key], values, _rows_in_h5(h5, path), key)
    return found


def _rows_in_h5(h5: Any, path: Path) -> Rows:
    barcodes = next((strings(h5[k][...]) for k in _BARCODES if k in h5), None)
    coords = next((h5[k] for k in _COORDS if k in h5), None)
    if coords is None:
        return Rows(str(path), barcodes)
    size = patch_size(h5, coords)
    if size is None and barcodes is None:
        size = next((s for s in map(_size_in_file, sidecars(path)) if s is not None), None)
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


def _size_in_file(path: Path) -> float | None:
    with open_h5(path, "a patch file") as h5:
        return patch_size(h5, h5["coords"]) if "coords" in h5 else None


def _open_torch(path: Path) -> FeatureFile:
    content = _load_torch(path)
    key = next((k for k in (*_VALUES, "") if k in content), None)
    if key is None:
        raise UserError(
            f"Expected a matrix or one of {', '.join(_VALUES)} in {path}, received {', '.join(content)}; rename one."
        )
    values = content[key]
    rows = _rows_beside(path, len(values))
    barcodes = next((strings(np.asarray(content[k], dtype=object)) for k in _BARCODES if k in content), rows.barcodes)
    corners = next((np.asarray(content[k], dtype=np.float64) for k in _COORDS if k in content), rows.corners)
    size = content.get("patch_size_level0", rows.patch_size)
    named = Rows(str(path), barcodes, corners, None if size is None else float(size))
    return _described(path, "PyTorch tensor", values, named, key)


def _load_torch(path: Path) -> dict[str, Any]:
    """A tensor as {"": matrix} or a dictionary of them, as NumPy; never runs code from the file."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways
        raise UserError(
            f"Expected a tensor or a dictionary of tensors, cannot read {path} safely "
            f"({type(error).__name__}); save it again with torch.save(tensor)."
        ) from error
    content = content if isinstance(content, dict) else {"": content}
    as_numpy = {}
    for key, value in content.items():
        if isinstance(value, torch.Tensor):
            value = value.detach()
            value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        as_numpy[str(key)] = value
    return as_numpy


def _rows_beside(path: Path, n_rows: int) -> Rows:
    """Row names from a sidecar, if one is there."""
    for sidecar in sidecars(path):
        if sidecar.suffix == ".h5":
            with open_h5(sidecar, "CLAM's coordinates") as h5:
                return Rows(str(path), *_names_only(_rows_in_h5(h5, sidecar)))
        lines = [line.strip().split(",")[0].strip('"') for line in sidecar.read_text("utf-8-sig").splitlines()]
        lines = [line for line in lines if line]
        if len(lines) == n_rows + 1 and lines[0].lower() in _BARCODES:
            lines = lines[1:]
        return Rows(str(path), strings(np.array(lines, dtype=object)))
    return Rows(str(path))


def _names_only(rows: Rows) -> tuple[np.ndarray | None, np.ndarray | None, float | None]:
    return rows.barcodes, rows.corners, rows.patch_size


def _described(path: Path, kind: str, values: Any, rows: Rows, key: str = "") -> FeatureFile:
    shape, dtype = tuple(values.shape), np.dtype(values.dtype)
    if len(shape) != 2 or dtype.kind not in "fiu" or not shape[1]:
        hint = " (one vector for the whole slide?)" if len(shape) == 1 else ""
        raise UserError(
            f"Expected features [spot, feature] in {path}, received {dtype} of shape {shape}{hint}; "
            "extract one row per spot."
        )
    for name, names in (("barcodes", rows.barcodes), ("coordinates", rows.corners)):
        if names is not None and len(names) != shape[0]:
            raise UserError(
                f"Expected one of the {name} for each row of {path}, received {len(names)} for {shape[0]} "
                "rows; write the file again."
            )
    kept = dtype if dtype == np.float16 else np.dtype(np.float32)
    return FeatureFile(path, kind, (shape[0], shape[1]), kept, rows, key)
