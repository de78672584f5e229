"""An h5ad written in blocks of spots, so that no section's counts need to fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from agl.errors import UserError

_CHUNK = 1 << 16
_EMPTY = ("varm", "obsp", "varp", "layers")


def write_counts(path: Path, blocks: Iterator[sparse.csr_matrix], shape: tuple[int, int]) -> np.ndarray:
    """Begin an h5ad at `path` with `X` int32 CSR [spot, gene] alone; gives the total counts of each spot, int64 [spot].

    Raises:
        UserError: the blocks have fewer or more spots than the shape.
    """
    import h5py

    totals, ends, n_stored = [np.zeros(0, dtype=np.int64)], [np.zeros(1, dtype=np.int64)], 0
    with h5py.File(path, "w") as h5:
        h5.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        x = h5.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)})
        compact = {"maxshape": (None,), "chunks": (_CHUNK,), "compression": "gzip", "compression_opts": 1}
        data = x.create_dataset("data", (0,), np.int32, shuffle=True, **compact)
        indices = x.create_dataset("indices", (0,), np.int32, shuffle=True, **compact)
        for block in blocks:
            block.sort_indices()
            stop = n_stored + block.nnz
            for stored, values in ((data, block.data), (indices, block.indices)):
                stored.resize((stop,))
                stored[n_stored:stop] = values
            ends.append(n_stored + block.indptr[1:].astype(np.int64))
            totals.append(np.asarray(block.sum(axis=1, dtype=np.int64)).reshape(-1))
            n_stored = stop
        indptr = np.concatenate(ends)
        if len(indptr) != shape[0] + 1:
            raise UserError(f"Expected counts of {shape[0]} spots, received {len(indptr) - 1}; copy the source again.")
        x.create_dataset("indptr", data=indptr)
    return np.concatenate(totals)


def finish(
    path: Path, obs: pd.DataFrame, var: pd.DataFrame, obsm: Mapping[str, np.ndarray], uns: Mapping[str, Any]
) -> None:
    """Add what belongs beside `X`, so that AnnData reads the file."""
    import h5py
    from anndata.io import write_elem

    with h5py.File(path, "a") as h5:
        for name, table in (("obs", plain_text(obs)), ("var", plain_text(var))):
            write_elem(h5, name, table)
        write_elem(h5, "obsm", dict(obsm))
        write_elem(h5, "uns", dict(uns), dataset_kwargs={"compression": "gzip", "compression_opts": 1})
        for name in _EMPTY:
            write_elem(h5, name, {})


def plain_text(table: pd.DataFrame) -> pd.DataFrame:
    """Text as plain objects: nullable strings cannot be read by older AnnData."""
    plain = table.copy()
    for column in plain:
        if isinstance(plain[column].dtype, pd.StringDtype):
            plain[column] = plain[column].astype(object)
    plain.index = pd.Index(plain.index.to_numpy(dtype=object), name=table.index.name)
    return plain
