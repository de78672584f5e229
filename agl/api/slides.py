"""Sections of a folder as AnnData in memory: a way in for what lives in notebooks, and for trying things."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import anndata


def slides(
    folder: str | Path = "example", *, features: str = "builtin", sections: tuple[str, ...] | list[str] | None = None
) -> dict[str, anndata.AnnData]:
    """Slide -> AnnData: raw counts of the genes that all slides measure, features in obsm, places, slide and patient.

    Args:
        folder: of sections; "example": the breast-cancer sections that come with the program.
        features: as `data.features`; they become `obsm[features]`.
        sections: some of them by name.

    >>> found = slides(sections=["A1", "B4"])
    >>> sorted(found), found["A1"].obsm["builtin"].shape[1]
    (['A1', 'B4'], 72)
    """
    import anndata
    import pandas as pd

    from agl.data.dataset import open_dataset
    from agl.data.example import folder_named

    dataset = open_dataset(folder_named(str(folder)), features=features, sections=sections)
    made = {}
    for code, name in enumerate(dataset.slide_names):
        rows = np.flatnonzero(dataset.slide_codes == code)
        table = dataset.spots.iloc[rows]
        obs = table[["slide", "patient"]].set_index(pd.Index(table.barcode.to_numpy(str)))
        obs["library_size"] = np.asarray(dataset.library_size)[rows]
        for column in ("array_row", "array_col"):
            if column in table:
                obs[column] = table[column].to_numpy()
        made[name] = anndata.AnnData(dataset.counts[rows], obs, pd.DataFrame(index=list(dataset.genes)))
        made[name].obsm["spatial"] = table[["x", "y"]].to_numpy(float)
        if dataset.features is not None:
            made[name].obsm[Path(features).name] = np.asarray(dataset.features[rows])
    return made
