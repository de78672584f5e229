"""The features of several encoders side by side, in their surroundings: which spots have them, and the table on disk.

A spot that has every encoder's features counts here, whatever its counts: it is somebody's neighbour. Spots below
`min_counts` are left out of the result only at the end, so features never depend on counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agl.data.reading.growing import GrowingArray, reserve_bytes
from agl.data.reading.hashing import sha256_of_json
from agl.data.slides import Dataset
from agl.data.surroundings import Surroundings, surround
from agl.errors import DataError

_VERSION = 1  # raise when the same imports give other features
_IN_MEMORY = 1 << 28  # bytes of one slide's features from which on they are worked on in a file
_ROWS_AT_ONCE = 4_096


def encoder_names(features: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """What features are joined, by name. Raises a `UserError` for none, and for one twice.

    >>> encoder_names("builtin"), encoder_names(["builtin", "uni_v1"])
    (('builtin',), ('builtin', 'uni_v1'))
    """
    names = (str(features),) if isinstance(features, str | Path) else tuple(map(str, features))
    if not names or len(set(names)) < len(names):
        raise DataError(
            f"Expected one or several different encoders as features, received {list(names)}; give for example "
            "builtin, or [builtin, uni_v1]."
        )
    return names


@dataclass(frozen=True)
class Encoders:
    """Imports of the same sections with the features of one encoder each.

    Attributes:
        imports: (name, dataset) of each, with all spots that have its features.
        min_counts: spots with a smaller library size are not in the result.
        surroundings: what is made of the features joined.
    """

    imports: Sequence[tuple[str, Dataset]]
    min_counts: int
    surroundings: Surroundings

    @cached_property
    def key(self) -> str:
        """Hash of the imports and settings."""
        return sha256_of_json(
            {
                "version": _VERSION,
                "imports": [dataset.key for _, dataset in self.imports],
                "min_counts": self.min_counts,
                "context": self.surroundings.context,
                "normalise": self.surroundings.normalise,
                **({"places": True} if self.surroundings.places else {}),
            }
        )

    @cached_property
    def _rows(self) -> list[np.ndarray]:
        """For each import, the rows of the spots that all have: one order, that of the first import."""
        shared, *others = (_identity(dataset.spots) for _, dataset in self.imports)
        for other in others:
            shared = shared[shared.isin(other)]
        return [_identity(dataset.spots).get_indexer(shared) for _, dataset in self.imports]

    @cached_property
    def _kept(self) -> np.ndarray:
        """bool [shared spot]: deep enough for the result."""
        first, rows = self.imports[0][1], self._rows[0]
        kept = np.asarray(first.library_size[rows] >= self.min_counts)
        for slide in set(first.slide_names) - set(first.spots["slide"].to_numpy()[rows[kept]]):
            raise DataError(
                f"Expected spots of slide '{slide}' that have features of {self._names}, and {self.min_counts} counts, "
                "received none; extract the features for the same spots, lower min_counts, or leave the slide out."
            )
        return kept

    @property
    def left_out(self) -> pd.DataFrame | None:
        """The spots that have every encoder's features but too few counts; None where there are none."""
        shallow = self.imports[0][1].spots.iloc[self._rows[0][~self._kept]]
        return shallow.reset_index(drop=True) if len(shallow) else None

    @property
    def _names(self) -> str:
        return " and ".join(name for name, _ in self.imports)

    def rows_in(self, spots: pd.DataFrame) -> np.ndarray:
        """Positions in a table of spots of those in the result."""
        mine = self.imports[0][1].spots.iloc[self._rows[0][self._kept]]
        return _identity(spots).get_indexer(_identity(mine))

    def write(self, folder: Path) -> dict[str, int]:
        """Write features.npy, float32 [spot, feature], slide by slide; returns its size."""
        tables = [np.asarray(dataset.features) for _, dataset in self.imports]
        own = sum(table.shape[1] for table in tables)
        width = self.surroundings.width(own)
        spots = self.imports[0][1].spots.iloc[self._rows[0]]
        slides, xy = spots["slide"].to_numpy(str), spots[["x", "y"]].to_numpy(float)
        with GrowingArray(folder / "features.npy", np.dtype(np.float32), (width,)) as out:
            for slide in self.imports[0][1].slide_names:
                here = np.flatnonzero(slides == slide)
                joined = _scratch(folder, len(here), own)
                for part in np.array_split(np.arange(len(here)), len(here) // _ROWS_AT_ONCE + 1):
                    values = [table[rows[here[part]]] for table, rows in zip(tables, self._rows, strict=True)]
                    joined[part] = np.concatenate(values, axis=1)
                wide = surround(
                    joined, xy[here], self.surroundings, slide=slide, out=_scratch(folder, len(here), width)
                )
                kept = np.flatnonzero(self._kept[here])
                for part in np.array_split(kept, len(kept) // _ROWS_AT_ONCE + 1):
                    out.append(wide[part])
        return {"spots": int(self._kept.sum()), "features": width}

    def report(self, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The first import's report, with what became of the spots and features of all."""
        slides = self.imports[0][1].spots["slide"].to_numpy(str)[self._rows[0]]
        first, sections = reports[0], {}
        warnings = list(dict.fromkeys(sentence for report in reports for sentence in report["warnings"]))
        for slide, section in first["sections"].items():
            here = slides == slide
            joined = {name: _joined(dataset.report, slide) for name, dataset in self.imports}
            sections[slide] = {**section, "spots_kept": int((here & self._kept).sum()), "encoders": joined}
            lost = max(table["matched_spots"] for table in joined.values()) - int(here.sum())
            if lost:
                warnings.append(f"{slide}: {lost} spots lack the features of one of {self._names} and are left out")
        own = sum(dataset.report["features"]["width"] for _, dataset in self.imports)
        about = {
            "source": " + ".join(Path(name).name for name, _ in self.imports) + self._description(),
            "width": self.surroundings.width(own),
            "dtype": "float32",
            "encoders": {name: dataset.report["features"] for name, dataset in self.imports},
            "context": list(self.surroundings.context),
            "normalise": self.surroundings.normalise,
            **({"places": True} if self.surroundings.places else {}),
        }
        return {**first, "sections": sections, "features": about, "warnings": warnings}

    def _description(self) -> str:
        sizes = " and ".join(map(str, self.surroundings.context))
        means = f", means of the nearest {sizes} spots" if sizes else ""
        scaled = ", centred and scaled inside each slide" if self.surroundings.normalise == "slide" else ""
        return means + scaled + (", the spot's place" if self.surroundings.places else "")


def _identity(spots: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(spots[["slide", "barcode"]].astype(str))


def _joined(report: Mapping[str, Any], slide: str) -> dict[str, Any]:
    """How one encoder's rows were joined to the slide's spots."""
    section = report["sections"][slide]
    return dict(section["features"] or section["patches"])


def _scratch(folder: Path, rows: int, columns: int) -> np.ndarray:
    """Room for one slide: in memory, or in a file without a name that goes with the array."""
    if 4 * rows * columns < _IN_MEMORY:
        return np.empty((rows, columns), dtype=np.float32)
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve_bytes(file.fileno(), 4 * rows * columns)
        return np.memmap(file, np.float32, "w+", shape=(rows, columns))
