"""The library size of a spot: its total over ALL genes, also where a file keeps only some of them.

Cutting genes from a file makes the totals of what is left too small, by another share in every spot. Such a file says
what they were in `obs['library_size']`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.reading.header import LIBRARY_SIZE as COLUMN
from agl.data.reading.header import RECORDED, Header
from agl.errors import UserError


def recorded_library_size(obs: pd.DataFrame, slide: str) -> np.ndarray | None:
    """int64 [spot] from `obs['library_size']`; None where there is no such column.

    Raises:
        UserError: a value that is no whole number from 0, named with its spot.
    """
    if COLUMN not in obs:
        return None
    values = pd.to_numeric(obs[COLUMN], errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~((values >= 0) & (values == np.floor(values)) & (values < 2**53)))
    if bad.size:
        raise UserError(
            f"Expected whole numbers from 0 in {RECORDED} of slide '{slide}', spot {obs.index[bad[0]]} has "
            f"{obs[COLUMN].iloc[bad[0]]} ({bad.size} such spots); give the total raw counts over all genes measured, "
            "or rename the column if it means something else."
        )
    return values.astype(np.int64)


def library_sizes(header: Header, start: int, counts: sparse.csr_matrix, is_gene: np.ndarray) -> np.ndarray:
    """int64 [spot] of the spots from `start` on: as recorded, else the sum of `counts` [spot, gene] where `is_gene`.

    Raises:
        UserError: a recorded total below the counts in the file, named with its spot.
    """
    stored = np.asarray(counts @ is_gene.astype(np.int64))
    if header.library_size is None:
        return stored
    recorded = header.library_size[start : start + len(stored)]
    low = np.flatnonzero(recorded < stored)
    if low.size:
        raise UserError(
            f"Expected {RECORDED} of slide '{header.slide}' to be the total over all genes, spot "
            f"{header.barcodes[start + low[0]]} has {recorded[low[0]]} and {stored[low[0]]} counts in the file; give "
            "the total before genes were cut away, or rename the column if it means something else."
        )
    return recorded
