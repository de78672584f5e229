"""Bare matrices, whose rows are named by a file beside them: .npy and .pt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agl.data.reading.formats.base import FeatureFile, feature_file
from agl.data.reading.formats.hdf5_features import BARCODES, COORDS, VALUES, rows_in_h5
from agl.data.reading.hdf5 import open_h5, strings
from agl.data.reading.join import Rows
from agl.errors import DataError


class NumpyMatrix:
    """A `.npy` matrix, its rows named by a file beside it (`names_beside`)."""

    suffixes = (".npy",)

    def open(self, path: Path) -> FeatureFile:
        """Look at the header."""
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # a header that is none fails in many ways
            why = "no numbers, or no NumPy file" if "pickle" in str(error) or "Python objects" in str(error) else error
            raise DataError(f"Expected a .npy matrix, cannot read {path} ({why}); save it with numpy.save.") from error
        if not isinstance(array, np.ndarray):  # NumPy opens archives under this name too
            raise DataError(
                f"Expected one .npy matrix in {path}, received an archive of several; save it with numpy.save."
            )
        return feature_file(self, path, "NumPy matrix", array, _rows(path, array.shape[0] if array.ndim else 0))

    def blocks(self, file: FeatureFile, size: int) -> Iterator[np.ndarray]:
        """Slices of the memory-mapped matrix."""
        array = np.load(file.path, mmap_mode="r")
        for start in range(0, file.shape[0], size):
            yield array[start : start + size]

    def sidecars(self, path: Path) -> list[Path]:
        """Barcodes or CLAM's coordinates."""
        return names_beside(path)


class TorchTensor:
    """A `.pt` matrix, its rows named by a file beside it, or a dictionary of tensors with the HDF5 files' keys."""

    suffixes = (".pt", ".pth")

    def open(self, path: Path) -> FeatureFile:
        """Load the tensor; code in the file is never run."""
        content = _Content(path)
        key = next((k for k in (*VALUES, "") if k in content), None)
        if key is None:
            raise DataError(
                f"Expected a matrix or one of {', '.join(VALUES)} in {path}, received "
                f"{', '.join(content) or 'nothing'}; rename one."
            )
        values = content.array(key)
        rows = _rows(path, values.shape[0] if values.ndim else 0)
        barcodes = next((strings(content.array(k, object)) for k in BARCODES if k in content), rows.barcodes)
        corners = next((content.array(k, np.float64) for k in COORDS if k in content), rows.corners)
        size = rows.patch_size
        if "patch_size_level0" in content:
            size = float(content.array("patch_size_level0", np.float64).reshape(-1)[:1].sum())
        named = Rows(str(path), barcodes, corners, size)
        return feature_file(self, path, "PyTorch tensor", values, named, key)

    def blocks(self, file: FeatureFile, size: int) -> Iterator[np.ndarray]:
        """Slices of the tensor, which is loaded whole."""
        array = _Content(file.path).array(file.key)
        for start in range(0, file.shape[0], size):
            yield array[start : start + size]

    def sidecars(self, path: Path) -> list[Path]:
        """Barcodes or CLAM's coordinates."""
        return names_beside(path)


def names_beside(path: Path) -> list[Path]:
    """Existing files that name the rows of a matrix: a list of barcodes, or CLAM's h5 beside its pt."""
    stem = path.with_suffix("")
    beside = [stem.parent / f"{stem.name}{end}" for end in (".barcodes.txt", "_barcodes.txt", ".barcodes.csv")]
    clam = path.parent.parent / "h5_files" / f"{stem.name}.h5"
    return [p for p in (*beside, clam) if p.is_file()]


def _rows(path: Path, n_rows: int) -> Rows:
    """Row names from the first file beside the matrix, if there is one."""
    for sidecar in names_beside(path):
        if sidecar.suffix == ".h5":
            with open_h5(sidecar, "CLAM's coordinates") as h5:
                found = rows_in_h5(h5, sidecar)
            return Rows(str(path), found.barcodes, found.corners, found.patch_size)
        lines = [line.strip().split(",")[0].strip('"') for line in _text(sidecar).splitlines()]
        lines = [line for line in lines if line]
        if len(lines) == n_rows + 1 and lines[0].lower() in BARCODES:
            lines = lines[1:]
        return Rows(str(path), strings(np.array(lines, dtype=object)))
    return Rows(str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"Expected barcodes as UTF-8 text in {path}, cannot read it ({error}); save it again."
        ) from error


class _Content(dict[str, Any]):
    """What a `.pt` file holds, by name; a tensor alone has the name "". Code in the file is never run."""

    def __init__(self, path: Path) -> None:
        import torch

        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling fails in many ways
            raise DataError(
                f"Expected a tensor or a dictionary of tensors, cannot read {path} safely "
                f"({type(error).__name__}); save it again with torch.save(tensor)."
            ) from error
        super().__init__(
            {str(key): value for key, value in content.items()} if isinstance(content, dict) else {"": content}
        )
        self.path = path

    def array(self, key: str, dtype: Any = None) -> np.ndarray:
        """One of them as NumPy has it; number types that NumPy has not become float32."""
        import torch

        value = self[key]
        try:
            if isinstance(value, torch.Tensor):
                value = value.detach().resolve_conj().resolve_neg()
                small = value.is_floating_point() and value.dtype.itemsize <= 2 and value.dtype != torch.float16
                value = (value.float() if small else value).numpy()
            return np.asarray(value, dtype=dtype)
        except (TypeError, ValueError, RuntimeError) as error:  # sparse, quantised, without values, ragged, text
            raise DataError(
                f"Expected a dense tensor of numbers as '{key or 'the whole file'}' in {self.path}, cannot read it "
                f"({str(error).splitlines()[0][:80]}); save it again with torch.save(tensor.to_dense())."
            ) from error
