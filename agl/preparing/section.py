"""A section as every source gives it: who and where its spots are, what was counted, which picture belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

GENE_EXPRESSION = "Gene Expression"


@dataclass(frozen=True)
class Genes:
    """What the columns of a section's counts are called, [gene] each; `ids` "" where unknown."""

    names: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def table(self) -> pd.DataFrame:
        """`var` of an AnnData; a name that comes again gets a number, as scanpy does it."""
        from anndata.utils import make_index_unique

        index = make_index_unique(pd.Index(self.names.astype(object)))
        table = pd.DataFrame(index=pd.Index(np.asarray(index, dtype=object)))
        if (self.ids != "").any():
            table["gene_ids"] = self.ids.astype(object)
        return table


@dataclass(frozen=True)
class Picture:
    """A small picture of the section: its px = full-resolution px times `scale`."""

    path: Path
    scale: float


@dataclass(frozen=True)
class Asked:
    """What the user wants of a source. `bin_um`: side of the spots to make of smaller units, 0 for the units as they
    are, None for what is usual; `image`: the picture that places refer to; `alignment`: its 3 x 3 matrix."""

    bin_um: float | None = None
    image: Path | None = None
    alignment: Path | None = None


@dataclass(frozen=True)
class Section:
    """One tissue section, not yet written.

    Attributes:
        name, kind: of the section, of its source ("Space Ranger").
        barcodes: [spot].
        xy: [spot, 2] centres in px of the full-resolution image.
        genes: [gene].
        blocks: counts int [spots of the block, gene], block after block in the order of `barcodes`; may be asked
            several times.
        files: what all this was read from; a change of theirs makes the section anew.
        lattice: [spot, 2] (array_row, array_col).
        pitch_um: distance between neighbouring spots, where the technology fixes it.
        um_per_px: as the source states it.
        image, image_size: the full-resolution image found beside it, and how large (width, height) it must be.
        pictures: by name: hires, lowres.
        obs: more columns, [spot].
        remarks: sentences about what was left out or is doubtful.
    """

    name: str
    kind: str
    barcodes: np.ndarray
    xy: np.ndarray
    genes: Genes
    blocks: Callable[[], Iterator[sparse.csr_matrix]]
    files: tuple[Path, ...]
    lattice: np.ndarray | None = None
    pitch_um: float | None = None
    um_per_px: float | None = None
    image: Path | None = None
    image_size: tuple[float, float] | None = None
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    scalefactors: Mapping[str, float] = field(default_factory=dict)
    obs: pd.DataFrame | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.barcodes)


@dataclass(frozen=True)
class Found:
    """A section that a source has recognised in `path`; nothing of it is read before `read`."""

    name: str
    kind: str
    path: Path
    read: Callable[[Asked], Section]
