"""A file should hold one tissue section: scores, surroundings and splits take it for one.

Several sections in one file are told by a column of `obs`, by the ids in `uns["spatial"]`, by barcodes that come again
with another ending, or by array positions that come again at another place.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from agl.data.reading.columns import ColumnTable
from agl.data.reading.header import Spots
from agl.errors import DataError, UserError

_COLUMNS = {"libraryid", "library", "sample", "sampleid", "samplename", "slide", "slideid", "slidename", "section"}
_COLUMNS |= {"sectionid", "sectionname", "capturearea", "imageid"}
_SAID = "library_id"  # with one value: they are one section, whatever it looks like
_BARCODE = re.compile(r"[ACGT]{12,}")  # of 10x and of beads: one spot of a section each
_GEM_ENDING = re.compile(r"^(.{8,}-\d+)[-_.]\w{1,20}$")  # "-1" of 10x, then what a concatenation appended
_FEW = 3  # spots; below, a value is a label of single spots
_OFTEN = 0.05  # share of spots whose barcode comes again
_TWICE = 0.3  # share of spots whose array position comes again
_MOST_SECTIONS = 16


def refuse_several_sections(obs: ColumnTable, ids: list[str], spots: Spots) -> None:
    """Raise if the spots are of more than one section; `ids` are those of `spatial_ids`.

    Raises:
        DataError: says by what they are told, and how to part them.
    """
    columns = [name for name in obs.names if re.sub(r"[^a-z]", "", name.lower()) in _COLUMNS]
    told = {name: values for name in columns if (values := _values(obs, name))}
    for name, values in told.items():
        if len(values) > 1:
            raise DataError(
                f"Expected one tissue section in the file of slide '{obs.slide}', obs['{name}'] names {len(values)} "
                f"({', '.join(values[:4])}); write one h5ad each, such as "
                f"adata[adata.obs['{name}'].astype(str) == '{values[0]}'].write_h5ad('{values[0]}.h5ad')."
            )
    if _SAID in told:
        return
    if twins := _same_barcode_twice(spots.barcodes):
        raise _several(obs.slide, f"barcodes come again with another ending ({twins[0]} and {twins[1]})")
    if again := _same_position_twice(spots):
        raise _several(
            obs.slide, f"{again} of {len(spots.xy)} spots share their array_row and array_col with spots elsewhere"
        )
    if len(ids) > 1 and not told:
        raise _several(obs.slide, f"uns['spatial'] has images of {len(ids)} ({', '.join(ids[:4])})", " and its image")


def spatial_ids(h5: Any) -> list[str]:
    """The ids in `uns["spatial"]` that have an image or its scale."""
    spatial = h5.get("uns/spatial")
    if not hasattr(spatial, "keys"):
        return []
    groups = {name: spatial.get(name) for name in spatial}
    return sorted(n for n, g in groups.items() if hasattr(g, "keys") and ({"images", "scalefactors"} & set(g)))


def _several(slide: str, seen: str, more: str = "") -> UserError:
    return UserError(
        f"Expected one tissue section in the file of slide '{slide}', {seen}; write one h5ad for each section{more}, "
        f"or, if they are one, say so with one value in obs['{_SAID}']."
    )


def _values(obs: ColumnTable, name: str) -> list[str]:
    """The sections that a column names; [] where it labels single spots, or nothing."""
    try:
        counts = pd.Series(obs.text(name)).replace("nan", "").value_counts()
    except UserError:  # an encoding that is not known: the column is not needed
        return []
    counts = counts[counts.index != ""]
    if len(counts) > 1 and (len(counts) > len(obs) / _FEW or (counts >= _FEW).sum() < 2):
        return []
    return sorted(map(str, counts.index))


def _same_barcode_twice(barcodes: np.ndarray) -> tuple[str, str] | None:
    """Two names of one barcode, where that happens often."""
    for rule in (_BARCODE, _GEM_ENDING):
        found = [rule.search(name) for name in barcodes]
        stems = pd.Series([m.group(rule.groups) if m else None for m in found])
        again = stems.notna() & stems.duplicated(keep=False)
        if again.sum() >= max(2, _OFTEN * len(stems)):
            pair = np.flatnonzero(stems == stems[int(np.argmax(again))])[:2]
            return str(barcodes[pair[0]]), str(barcodes[pair[1]])
    return None


def _same_position_twice(spots: Spots) -> int:
    """How many spots share their array position with one that lies further than a step of the array away; 0 if few.

    Within a section an array's position tells the place up to a shift, a turn and a scale; of several sections each has
    its own.
    """
    if spots.array_row is None or spots.array_col is None:
        return 0
    lattice, xy = np.column_stack([spots.array_row, spots.array_col]), spots.xy
    known = np.isfinite(lattice).all(axis=1)
    positions = pd.DataFrame(lattice[known])
    size = positions.groupby([0, 1])[0].transform("size").to_numpy()
    again = (size > 1) & (size <= _MOST_SECTIONS)
    if again.sum() < max(_FEW, _TWICE * len(xy)):
        return 0
    design = np.column_stack([lattice[known], np.ones(known.sum())])
    fit = np.linalg.lstsq(design, xy[known], rcond=None)[0]
    step = np.sqrt((fit[:2] ** 2).sum(axis=1)).max()
    off = np.sqrt(((xy[known] - design @ fit) ** 2).sum(axis=1))
    return int(again.sum()) if np.median(off[again]) > step else 0
