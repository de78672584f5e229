"""The library size of a spot: its total over ALL genes, also where a file keeps only some of them.

Cutting genes from a file makes the totals of what is left too small, by another share in every spot. Such a file says
what they were in `obs['library_size']`.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from agl.data.reading.columns import ColumnTable
from agl.data.reading.header import LIBRARY_SIZE as COLUMN
from agl.data.reading.header import RECORDED, Header
from agl.errors import DataError

_LARGEST = np.iinfo(np.int32).max


def recorded_library_size(obs: ColumnTable) -> np.ndarray | None:
    """int64 [spot] from `obs['library_size']`; None where there is no such column.

    Raises:
        DataError: a value that is no whole number from 0, named with its spot.
    """
    if COLUMN not in obs:
        return None
    values = obs.numbers(COLUMN)
    bad = np.flatnonzero(~((values >= 0) & (values == np.floor(values)) & (values < 2**53)))
    if bad.size:
        raise DataError(
            f"Expected whole numbers from 0 in {RECORDED} of slide '{obs.slide}', spot {obs.index[bad[0]]} has "
            f"{obs.text(COLUMN)[bad[0]] or 'none'} ({bad.size} such spots); give the total raw counts over all genes "
            "measured, or rename the column if it means something else."
        )
    return values.astype(np.int64)


def library_sizes(header: Header, start: int, counts: sparse.csr_matrix, is_gene: np.ndarray) -> np.ndarray:
    """int64 [spot] of the spots from `start` on: as recorded, else the sum of `counts` [spot, gene] where `is_gene`.

    Raises:
        DataError: a total that 32 bits cannot hold, or a recorded one below the counts in the file; names the spot.
    """
    stored = np.asarray(counts @ is_gene.astype(np.int64))
    if len(stored) and stored.max() > _LARGEST:  # then no sum of repeated genes can overflow either
        raise DataError(
            f"Expected fewer than {_LARGEST + 1} counts in a spot of slide '{header.slide}', spot "
            f"{header.barcodes[start + stored.argmax()]} has {stored.max()}; are these raw counts?"
        )
    if header.library_size is None:
        return stored
    recorded = header.library_size[start : start + len(stored)]
    low = np.flatnonzero(recorded < stored)
    if low.size:
        raise DataError(
            f"Expected {RECORDED} of slide '{header.slide}' to be the total over all genes, spot "
            f"{header.barcodes[start + low[0]]} has {recorded[low[0]]} and {stored[low[0]]} counts in the file; give "
            "the total before genes were cut away, or rename the column if it means something else."
        )
    return recorded
