"""A matrix [spot, gene] on disk, dense, CSR or CSC, whose structure is checked before SciPy sees it.

SciPy trusts row pointers and column numbers: those of a damaged or mislabelled file make it read outside its memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from agl.data.reading.datasets import read
from agl.errors import UserError

_INDICES_AT_ONCE = 4_000_000


class StoredMatrix:
    """The matrix at an HDF5 node; `called` is its name in AnnData, `slide` the slide that errors name.

    Attributes:
        shape: (spots, genes). n_stored: values on disk, an upper bound of the non-zero ones.

    Raises:
        DataError: no matrix, or pointers of another length than its shape says, falling, or not from 0 to `n_stored`.
    """

    def __init__(self, node: Any, called: str, slide: str) -> None:
        self._node, self._called, self._slide = node, called, slide
        self._sparse = hasattr(node, "keys")
        if not self._sparse:
            shape = getattr(node, "shape", None)
            if shape is None or len(shape) != 2 or node.dtype.kind not in "iufb":
                raise self._wrong("a table of numbers [spot, gene]", f"{getattr(node, 'dtype', 'none')} {shape}")
            self.shape, self.n_stored = (int(shape[0]), int(shape[1])), int(node.size)
            return
        self._by_column = "csc" in self._encoding()
        self.shape = self._named_shape()
        self.n_stored = self._same_length()
        self._indptr = self._checked_pointers()

    def first_values(self, enough: int = 100_000) -> np.ndarray:
        """Some stored values."""
        if self._sparse:
            return read(self._node["data"], slice(enough)) if self.n_stored else np.zeros(0)
        if not self.n_stored:
            return np.zeros(0)
        return read(self._node, slice(max(1, enough // self.shape[1]))).reshape(-1)

    def blocks(self, values_at_once: int) -> Iterator[tuple[int, sparse.csr_matrix]]:
        """(first spot, values [some spots, gene]) in order; explicit zeros and repeated entries are kept.

        Raises:
            DataError: gene numbers outside the matrix.
        """
        if not self._sparse:
            step = max(1, values_at_once // max(1, self.shape[1]))
            for start in range(0, self.shape[0], step):
                yield start, sparse.csr_matrix(_native(read(self._node, slice(start, start + step))))
        elif self._by_column:  # rows cannot be cut on disk, so this one slide is held sparse in memory
            parts = (_native(read(self._node["data"])), self._all_indices(), self._indptr) if self.n_stored else None
            whole = sparse.csr_matrix(self.shape) if parts is None else sparse.csc_matrix(parts, self.shape).tocsr()
            for start, stop in self._cuts(whole.indptr.astype(np.int64), values_at_once):
                yield start, whole[start:stop]
        else:
            for start, stop in self._cuts(self._indptr, values_at_once):
                cut = slice(int(self._indptr[start]), int(self._indptr[stop]))
                parts = (self._data(cut), self._indices(cut), self._indptr[start : stop + 1] - cut.start)
                yield start, sparse.csr_matrix(parts, shape=(stop - start, self.shape[1]))

    @staticmethod
    def _cuts(indptr: np.ndarray, values_at_once: int) -> Iterator[tuple[int, int]]:
        start, n_rows = 0, len(indptr) - 1
        while start < n_rows:
            stop = int(np.searchsorted(indptr, indptr[start] + values_at_once, side="right")) - 1
            stop = min(max(stop, start + 1), n_rows)
            yield start, stop
            start = stop

    def _encoding(self) -> str:
        named = self._node.attrs.get("encoding-type", self._node.attrs.get("h5sparse_format", "csr"))
        encoding = named.decode("utf-8", "replace") if isinstance(named, bytes) else str(named)
        missing = [part for part in ("data", "indices", "indptr") if not hasattr(self._node.get(part), "dtype")]
        if missing or not ("csr" in encoding or "csc" in encoding):
            raise self._wrong("a dense, CSR or CSC matrix", f"encoding '{encoding}' without {' and '.join(missing)}")
        return encoding

    def _named_shape(self) -> tuple[int, int]:
        shape = np.asarray(self._node.attrs.get("shape", self._node.attrs.get("h5sparse_shape")))
        if shape.shape != (2,) or shape.dtype.kind not in "iu" or (shape < 0).any() or (shape > 2**31 - 1).any():
            raise self._wrong("a shape of two whole numbers", f"{shape.tolist()}")
        return int(shape[0]), int(shape[1])

    def _same_length(self) -> int:
        data, indices, indptr = (self._node[part] for part in ("data", "indices", "indptr"))
        kinds = (data.dtype.kind in "iufb", indices.dtype.kind in "iu", indptr.dtype.kind in "iu")
        if not all(kinds) or {data.ndim, indices.ndim, indptr.ndim} != {1}:
            raise self._wrong("lists of numbers", f"{data.dtype} {indices.dtype} {indptr.dtype}")
        if len(data) != len(indices):
            raise self._wrong("as many indices as values", f"{len(indices)} and {len(data)}")
        return len(data)

    def _checked_pointers(self) -> np.ndarray:
        n, other = self.shape[::-1] if self._by_column else self.shape
        length = len(self._node["indptr"])
        if length != n + 1:
            hint = f" ({'CSR' if self._by_column else 'CSC'} under a wrong label?)" if length == other + 1 else ""
            raise self._wrong(f"{n + 1} entries of indptr for shape {self.shape}", f"{length}{hint}")
        indptr = read(self._node["indptr"]).astype(np.int64)
        falls = np.flatnonzero(indptr[1:] < indptr[:-1])
        if indptr[0] != 0 or indptr[-1] != self.n_stored or falls.size:
            seen = f"one that falls at entry {falls[0] + 1}" if falls.size else f"one from {indptr[0]} to {indptr[-1]}"
            raise self._wrong(f"an indptr that rises from 0 to {self.n_stored}", seen)
        return indptr

    def _data(self, cut: slice) -> np.ndarray:
        return _native(read(self._node["data"], cut)) if cut.stop > cut.start else np.zeros(0, np.float32)

    def _indices(self, cut: slice) -> np.ndarray:
        if cut.stop == cut.start:
            return np.zeros(0, np.int32)
        indices = read(self._node["indices"], cut)
        n = self.shape[0] if self._by_column else self.shape[1]
        if indices.min() < 0 or indices.max() >= n:
            raise self._wrong(f"indices from 0 to {n - 1}", f"some from {indices.min()} to {indices.max()}")
        return indices.astype(np.int32)

    def _all_indices(self) -> np.ndarray:
        starts = range(0, self.n_stored, _INDICES_AT_ONCE)
        return np.concatenate([self._indices(slice(s, min(s + _INDICES_AT_ONCE, self.n_stored))) for s in starts])

    def _wrong(self, expected: str, received: str) -> UserError:
        return UserError(
            f"Expected {expected} in {self._called} of slide '{self._slide}', received {received}; write the file "
            "again with anndata, for example from the program that made it."
        )


def _native(values: np.ndarray) -> np.ndarray:
    """In this machine's byte order and a width that SciPy knows."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values.astype(np.float32) if values.dtype == np.float16 else values
