"""The two sides of a join: the spots of a slide, and the rows of a file that belong to some of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agl.errors import DataError


@dataclass(frozen=True)
class Spots:
    """Who and where the spots of a slide are.

    Attributes:
        slide, barcodes, xy: name, [spot] and centres [spot, 2] in full-resolution pixels.
        pixels: [spot, 2] what `obs` says of the same centres (pxl_col_in_fullres, pxl_row_in_fullres), if it does.
        lattice: [spot, 2] (array_col, array_row), if known.
        on_tissue: bool [spot]; None where all are.
    """

    slide: str
    barcodes: np.ndarray
    xy: np.ndarray
    pixels: np.ndarray | None = None
    lattice: np.ndarray | None = None
    on_tissue: np.ndarray | None = None

    @property
    def array_row(self) -> np.ndarray | None:
        """[spot]"""
        return None if self.lattice is None else self.lattice[:, 1]

    @property
    def array_col(self) -> np.ndarray | None:
        """[spot]"""
        return None if self.lattice is None else self.lattice[:, 0]

    @property
    def off_tissue(self) -> int:
        """How many spots lie beside the tissue."""
        return 0 if self.on_tissue is None else int((~self.on_tissue).sum())


@dataclass(frozen=True)
class Rows:
    """How a file says which spot each of its rows belongs to. `corners` [row, 2] are top-left, in full-res pixels."""

    where: str
    barcodes: np.ndarray | None = None
    corners: np.ndarray | None = None
    patch_size: float | None = None  # side of a patch in full-res pixels

    def __post_init__(self) -> None:
        if self.patch_size is not None and not 0 <= self.patch_size < float("inf"):
            raise DataError(
                f"Expected a patch size in pixels beside the coordinates of {self.where}, received {self.patch_size}; "
                "mend the attribute 'patch_size_level0', or remove it."
            )


@dataclass(frozen=True)
class Match:
    """`rows` [spot] is the row of each spot, -1 where there is none; `warnings` are what is doubtful about it."""

    rows: np.ndarray
    how: str
    unused_rows: int
    warnings: tuple[str, ...] = ()

    @property
    def matched(self) -> int:
        return int((self.rows >= 0).sum())

    def to_dict(self) -> dict[str, int | str | list[str]]:
        """For the report of an import."""
        return {
            "joined_by": self.how,
            "matched_spots": self.matched,
            "unmatched_spots": len(self.rows) - self.matched,
            "unused_rows": self.unused_rows,
            "warnings": list(self.warnings),
        }
