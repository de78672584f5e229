"""Sums of small units (bins, cells) into spots, in bounded memory.

Counts come in the file's order, which is not that of places. So each block is summed as far as it goes, and its values
are written to one of several files by the spot they belong to; then file after file is read and summed to the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import IO

import numpy as np
from scipy import sparse

_FILES = 64
_FEWEST = 128  # spots a file


def summed(
    read: Callable[[], Iterator[sparse.csr_matrix]], spots: np.ndarray, n_spots: int, n_genes: int
) -> Iterator[sparse.csr_matrix]:
    """Counts int32 [some spots, gene], in the order of the spots.

    Args:
        read: gives counts [some units, gene] of all units, in the order of `spots`.
        spots: [unit] the spot of each unit, -1 for none.

    >>> units = sparse.csr_matrix([[1, 0], [2, 5], [0, 7]])
    >>> next(summed(lambda: iter([units]), np.array([1, 1, 0]), 2, 2)).toarray().tolist()
    [[0, 7], [3, 5]]
    """
    height = max(_FEWEST, -(-n_spots // _FILES))
    firsts = range(0, max(n_spots, 1), height)
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in firsts]
        start = 0
        for block in read():
            _scatter(block, spots[start : start + block.shape[0]], n_spots, files, height)
            start += block.shape[0]
        for first, file in zip(firsts, files, strict=True):
            file.seek(0)
            row, gene, count = np.frombuffer(file.read(), dtype=np.int32).reshape(-1, 3).T
            shape = (min(height, n_spots - first), n_genes)
            yield sparse.coo_matrix((count, (row - first, gene)), shape).tocsr()


def _scatter(
    block: sparse.csr_matrix, spots: np.ndarray, n_spots: int, files: Sequence[IO[bytes]], height: int
) -> None:
    known = np.flatnonzero(spots >= 0)
    if not len(known):
        return
    here, back = np.unique(spots[known], return_inverse=True)
    ones = np.ones(len(known), dtype=np.int32)
    gathered = sparse.csr_matrix((ones, (back, np.arange(len(known)))), shape=(len(here), len(known)))
    partial = sparse.coo_matrix(gathered @ block[known])
    rows = here[partial.row]
    values = np.column_stack([rows, partial.col, partial.data]).astype(np.int32)
    number = rows // height
    order = np.argsort(number, kind="stable")
    ends = np.searchsorted(number[order], np.arange(len(files) + 1))
    for file, first, last in zip(files, ends[:-1], ends[1:], strict=True):
        if last > first:
            file.write(values[order[first:last]].tobytes())
