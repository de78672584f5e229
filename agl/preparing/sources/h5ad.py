"""An h5ad with counts and places, to which an image is to be added."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.reading.counts import count_blocks
from agl.data.reading.h5ad import read_header
from agl.preparing.section import Asked, Found, Genes, Section
from agl.preparing.sources.beside import find_image

KIND = "h5ad"
_FOLDERS = (".", "adata", "st")
_GIVEN = {"in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"}


def find(path: Path) -> list[Found]:
    """One file, or the sections of a folder of them."""
    if path.is_file():
        files = [path] if path.suffix == ".h5ad" else []
    else:
        files = next((found for sub in _FOLDERS if (found := sorted((path / sub).glob("[!.]*.h5ad")))), [])
    return [Found(file.stem, KIND, file, partial(read, file)) for file in files]


def read(path: Path, asked: Asked) -> Section:
    """Counts of genes of the spots on tissue; the columns of `obs` are kept.

    Raises:
        UserError: whatever `read_header` refuses.
    """
    header = read_header(path.stem, path)
    spots = header.spots
    keep = np.ones(len(spots.barcodes), dtype=bool) if spots.on_tissue is None else spots.on_tissue
    is_gene = header.genes.is_gene()
    names = np.array([str(name).strip() for name in header.genes.names], dtype=object)
    ids = np.array(header.genes.ids if header.genes.ids is not None else [""] * len(names), dtype=object)
    if header.genes.symbols is not None:
        symbols = np.array([str(name).strip() for name in header.genes.symbols], dtype=object)
        ids = np.where((ids == "") & (symbols != names), names, ids)
        names = np.where(symbols == "", names, symbols)

    def blocks() -> Iterator[sparse.csr_matrix]:
        for start, block in count_blocks(header):
            wanted = keep[start : start + block.shape[0]]
            if wanted.any():
                yield sparse.csr_matrix(block[wanted][:, is_gene]).astype(np.int32)

    remarks = [
        f"{what}, left out: {int(left)}."
        for left, what in (((~keep).sum(), "Spots off tissue"), ((~is_gene).sum(), "Features that are no genes"))
        if left
    ]
    obs = _obs(path).loc[keep]
    if header.library_size is not None:
        obs["library_size"] = np.asarray(header.library_size)[keep]
    return Section(
        path.stem,
        KIND,
        spots.barcodes[keep],
        spots.xy[keep],
        Genes(names[is_gene], ids[is_gene]),
        blocks,
        (path,),
        lattice=None if spots.lattice is None else spots.lattice[keep][:, ::-1],
        image=find_image(path.parent, asked, path.stem),
        obs=obs,
        remarks=tuple(remarks),
    )


def _obs(path: Path) -> pd.DataFrame:
    import anndata

    table = anndata.read_h5ad(path, backed="r")
    try:
        obs = table.obs.drop(columns=[name for name in table.obs if name in _GIVEN])
    finally:
        table.file.close()
    return obs.reset_index(drop=True)
