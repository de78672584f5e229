"""10x Genomics' count matrices, HDF5 or a folder of Matrix Market: barcodes, features, counts in blocks of barcodes.

Both store features x barcodes. HDF5 has it by columns, so that neighbouring barcodes can be read alone.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.reading.hdf5 import open_h5, strings
from agl.errors import UserError
from agl.places import regular_file
from agl.preparing.section import GENE_EXPRESSION, Genes

_VALUES = 1 << 21  # counts in memory at once, at 12 bytes each, and as much again while they are worked on


@dataclass(frozen=True)
class TenxMatrix:
    """A matrix on disk: `barcodes` [row], features [feature], and where to read the counts.

    `is_gene` [feature] tells gene expression from antibodies, guides and control probes.
    """

    path: Path
    barcodes: np.ndarray
    names: np.ndarray
    ids: np.ndarray
    kinds: np.ndarray
    read: Callable[[], Iterator[sparse.csr_matrix]]

    @property
    def is_gene(self) -> np.ndarray:
        """bool [feature]; without kinds all are genes."""
        return (self.kinds == GENE_EXPRESSION) | (self.kinds == "")

    def genes(self) -> Genes:
        """Names and ids of the features that are genes.

        Raises:
            UserError: none is.
        """
        if not self.is_gene.any():
            kinds = ", ".join(sorted(set(self.kinds))[:4]) or "no features"
            raise UserError(f"Expected gene expression in {self.path}, received {kinds}; give the matrix of genes.")
        return Genes(self.names[self.is_gene], self.ids[self.is_gene])

    def blocks(self, rows: np.ndarray) -> Iterator[sparse.csr_matrix]:
        """Counts int32 [some of `rows`, gene], in the file's order; `rows` are increasing."""
        wanted, columns = np.zeros(len(self.barcodes), dtype=bool), np.flatnonzero(self.is_gene)
        wanted[rows] = True
        start = 0
        for block in self.read():
            keep = wanted[start : start + block.shape[0]]
            start += block.shape[0]
            if keep.any():
                yield block[keep][:, columns] if len(columns) < block.shape[1] else block[keep]


def read_tenx_h5(path: Path) -> TenxMatrix:
    """`filtered_feature_bc_matrix.h5` and its relatives.

    Raises:
        UserError: damaged, another kind of file, counts that are not whole or negative.
    """
    with open_h5(path, "a 10x matrix") as h5:
        group = h5.get("matrix")
        if group is None or "features" not in group or "barcodes" not in group:
            inside = ", ".join(list(h5)[:5]) or "an empty file"
            raise UserError(
                f"Expected 10x's groups matrix/features and matrix/barcodes in {path}, received {inside}; give "
                "filtered_feature_bc_matrix.h5."
            )
        features, barcodes = group["features"], strings(group["barcodes"][...])
        names = strings(features["name"][...])
        ids = strings(features["id"][...]) if "id" in features else _blank(names)
        kinds = strings(features["feature_type"][...]) if "feature_type" in features else _blank(names)
        shape = tuple(int(n) for n in group["shape"][...])
        ends = group["indptr"].shape[0] - 1
        if shape != (len(names), len(barcodes)) or ends != len(barcodes):
            raise UserError(
                f"Expected {len(names)} features x {len(barcodes)} barcodes in {path}, received a matrix of {shape} "
                f"with {ends} columns; copy the file again."
            )
    return TenxMatrix(path, barcodes, names, ids, kinds, lambda: _h5_blocks(path))


def read_tenx_folder(folder: Path) -> TenxMatrix:
    """`matrix.mtx`, `features.tsv` (or `genes.tsv`) and `barcodes.tsv`, each perhaps with `.gz`.

    Raises:
        UserError: a file is not there or damaged, their lengths differ.
    """
    matrix = _one_of(folder, "matrix.mtx")
    features = _lines(_one_of(folder, "features.tsv", "genes.tsv"))
    barcodes = np.array([line.split("\t")[0].strip() for line in _lines(_one_of(folder, "barcodes.tsv"))], dtype=object)
    fields = [[*(word.strip() for word in line.split("\t")), "", "", ""][:3] for line in features]
    ids, names, kinds = np.array(fields, dtype=object).reshape(-1, 3).T
    names = np.where(names == "", ids, names)

    def read() -> Iterator[sparse.csr_matrix]:
        from scipy.io import mmread

        try:
            stored = sparse.csc_matrix(mmread(str(matrix)))
        except Exception as error:  # a truncated archive and bad numbers each raise their own kind
            raise UserError(
                f"Expected counts in Matrix Market's form in {matrix}, cannot read them "
                f"({type(error).__name__}: {error}); copy the file again."
            ) from error
        if stored.shape != (len(names), len(barcodes)):
            raise UserError(
                f"Expected {len(names)} features x {len(barcodes)} barcodes in {matrix}, received {stored.shape}; "
                "copy the three files of one matrix."
            )
        yield _whole(stored.T.tocsr(), matrix)

    return TenxMatrix(matrix, barcodes, names, ids, kinds, read)


def _h5_blocks(path: Path) -> Iterator[sparse.csr_matrix]:
    with open_h5(path, "a 10x matrix") as h5:
        group = h5["matrix"]
        n_features = int(group["shape"][0])
        ends = group["indptr"][...].astype(np.int64)
        start = 0
        while start < len(ends) - 1:
            stop = max(start + 1, int(np.searchsorted(ends, ends[start] + _VALUES, side="right")) - 1)
            values, columns = (group[key][ends[start] : ends[stop]] for key in ("data", "indices"))
            _check_columns(columns, n_features, path)
            rows = sparse.csr_matrix(
                (values, columns, ends[start : stop + 1] - ends[start]), (stop - start, n_features)
            )
            yield _whole(rows, path)
            start = stop


def _check_columns(columns: np.ndarray, n_features: int, path: Path) -> None:
    if len(columns) and not 0 <= int(columns.min()) <= int(columns.max()) < n_features:
        raise UserError(f"Expected features 0 to {n_features - 1} in {path}, received others; copy the file again.")


def _whole(block: sparse.csr_matrix, path: Path) -> sparse.csr_matrix:
    values = block.data
    if len(values) and (values.min() < 0 or not np.array_equal(values, np.rint(values))):
        raise UserError(f"Expected raw counts in {path}, received values like {values.min():g}; give the raw matrix.")
    block.data = values.astype(np.int32)
    block.sum_duplicates()
    return block


def _blank(names: np.ndarray) -> np.ndarray:
    return np.full(len(names), "", dtype=object)


def _one_of(folder: Path, *names: str) -> Path:
    for name in names:
        for ending in (".gz", ""):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    raise UserError(f"Expected {names[0]} or {names[0]}.gz in {folder}, found neither; copy the folder again.")


def _lines(path: Path) -> list[str]:
    try:
        content = regular_file(path, "a table of 10x").read_bytes()
        text = (gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content).decode("utf-8")
    except (OSError, EOFError, UnicodeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"Expected lines of text in {path}, cannot read it ({error}); copy it again.") from error
    return text.splitlines()


def rows_of(barcodes: np.ndarray, wanted: Any) -> np.ndarray:
    """[wanted] the row of each name in `barcodes`, -1 where there is none."""
    return np.asarray(pd.Index(barcodes).get_indexer(pd.Index(wanted)), dtype=np.int64)
