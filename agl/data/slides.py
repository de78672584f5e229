"""The data of all slides behind one object: spots, genes, sparse counts, features on disk, patches on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.expression import DEPTH
from agl.data.reading.counts import move_columns
from agl.data.reading.hashing import sha256_of_json
from agl.data.reading.names import nearest
from agl.data.reading.patches import PatchReader
from agl.errors import DataError

_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True)
class Dataset:
    """Spots of one or more slides with raw counts, features and patches.

    Attributes:
        spots: one row a spot; barcode, slide, patient, x, y (spot centre, full-resolution px), array_row and
            array_col where known. Grouped by slide, slides in sorted order.
        genes: [gene] names, those that all slides measure.
        counts: raw counts int32 [spot, gene], sparse.
        library_size: int64 [spot] total over ALL genes measured in the spot's slide (control probes
            excepted); where genes were cut from a file before, what its obs['library_size'] says.
        features: float32 or float16 [spot, feature], usually memory-mapped; None without features.
        patches: `.read(spot positions)` -> uint8 [n, height, width, 3]; None without patches.
        key: hash of what was read: spots, counts, features, patches; the same whatever files it came in.
        report: matched and unmatched spots, genes lost and why, per slide; warnings.
        folder: the cached import, None for a dataset made in memory.
        feature_rows: int64 [spot] the row of each spot in its slide's file of features (or patches); None where
            there is no such file.
        left_out: rows as in `spots` for those that have too few counts to be there; None where there are none.
        depth: int64 [spot] the measured totals, where `library_size` is not to hold them (`data.library=ignored`).
    """

    spots: pd.DataFrame
    genes: tuple[str, ...]
    counts: sparse.csr_matrix
    library_size: np.ndarray
    features: np.ndarray | None
    patches: PatchReader | None
    key: str
    report: dict[str, Any]
    folder: Path | None = None
    feature_rows: np.ndarray | None = None
    left_out: pd.DataFrame | None = None
    depth: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.spots)

    @property
    def listed(self) -> pd.DataFrame:
        """`spots`, then those left out: what splits are made of, because no count decides who is in it."""
        return self.spots if self.left_out is None else pd.concat([self.spots, self.left_out], ignore_index=True)

    @cached_property
    def slide_names(self) -> tuple[str, ...]:
        """Names of the slides, sorted; `slide_codes` index it."""
        return tuple(sorted(self.spots["slide"].unique()))

    @cached_property
    def slide_codes(self) -> np.ndarray:
        """int64 [spot], the position of the spot's slide in `slide_names`."""
        return np.asarray(pd.Index(self.slide_names).get_indexer(pd.Index(self.spots["slide"])), dtype=np.int64)

    def gene_positions(self, names: Sequence[str]) -> np.ndarray:
        """int64 [len(names)] positions in `genes`.

        Raises:
            DataError: an unknown gene, with the nearest name.
        """
        for name in names:
            if name not in self._position:
                raise DataError(
                    f"Expected genes that all slides measure, received '{name}'.{nearest(name, self.genes)}"
                )
        return np.array([self._position[name] for name in names], dtype=np.int64)

    def panel_counts(self, genes: Sequence[int] | np.ndarray) -> sparse.csr_matrix:
        """Raw counts float32 [spot, len(genes)] of chosen gene positions, in their order, cut out once.

        Batches from the result cost in proportion to the panel, not to all genes:
        `panel_counts(g)[rows].toarray()`.
        """
        chosen = np.asarray(genes, dtype=np.int64)
        position = np.full(len(self.genes), -1, dtype=np.int64)
        position[chosen] = np.arange(len(chosen))
        if (position[chosen] != np.arange(len(chosen))).any():
            raise ValueError("Expected every gene of the panel once, received one twice; remove the repeats.")
        parts = [
            move_columns(self.counts[start : start + _ROWS_AT_ONCE], position, len(chosen)).astype(np.float32)
            for start in range(0, self.counts.shape[0], _ROWS_AT_ONCE)
        ]
        panel = sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, len(chosen)), dtype=np.float32)
        panel.sort_indices()
        return sparse.csr_matrix(panel)

    def dense_counts(
        self, spots: Sequence[int] | np.ndarray, genes: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """Raw counts float32 [len(spots), len(genes)], all genes when None; for many batches see `panel_counts`."""
        rows = self.counts[np.asarray(spots, dtype=np.int64)]
        if genes is not None:
            rows = rows[:, np.asarray(genes, dtype=np.int64)]
        return rows.astype(np.float32).toarray()

    def subset(self, spots: Sequence[int] | np.ndarray) -> Dataset:
        """The dataset of these spot positions, in ascending order. Contiguous features stay memory-mapped."""
        rows = np.unique(np.asarray(spots, dtype=np.int64))
        contiguous = bool(len(rows)) and rows[-1] - rows[0] + 1 == len(rows)
        features = self.features
        if features is not None:
            features = features[rows[0] : rows[-1] + 1] if contiguous else features[rows]
        return Dataset(
            self.spots.iloc[rows].reset_index(drop=True),
            self.genes,
            sparse.csr_matrix(self.counts[rows]),
            self.library_size[rows],
            features,
            self.patches.subset(rows) if self.patches is not None else None,
            sha256_of_json({"of": self.key, "spots": rows.tolist()}),
            self.report,
            self.folder,
            None if self.feature_rows is None else self.feature_rows[rows],
            self.left_out,
            None if self.depth is None else self.depth[rows],
        )

    def ignoring_library(self) -> Dataset:
        """Every spot as if it held 10,000 counts: losses, priors and scores then see log(1 + count)."""
        even = np.full_like(np.asarray(self.library_size), int(DEPTH))
        return replace(self, library_size=even, depth=self.library_size)

    def as_in_files(self, spots: np.ndarray, slides: Sequence[str] = ()) -> np.ndarray:
        """The same spot positions: slides as they are named, the others after them; spots as in their feature files."""
        named = {name: place for place, name in enumerate(slides)}
        place = np.array([named.get(name, len(named)) for name in self.slide_names])[self.slide_codes[spots]]
        row = np.zeros(len(spots), dtype=np.int64) if self.feature_rows is None else self.feature_rows[spots]
        return np.asarray(spots)[np.lexsort((row, self.slide_codes[spots], place))]

    def changed(self) -> str | None:
        """What became of the cached files that this dataset reads as it goes; None where they are as they were.

        One that was deleted, or built again, is still read: what is open stays.
        """
        from agl.data.reading.cache import damage

        mapped = getattr(self.features, "filename", None)
        folders = [folder for folder in (self.folder, Path(mapped).parent if mapped else None) if folder is not None]
        cached = [folder for folder in dict.fromkeys(folders) if (folder / "manifest.json").is_file()]
        return next((found for folder in cached if (found := damage(folder))), None)

    def lost_genes(self) -> pd.DataFrame:
        """Every gene of a slide that is not in `genes`: slide, gene, reason."""
        if self.folder is None:
            return pd.DataFrame(columns=["slide", "gene", "reason"])
        try:
            return pd.read_csv(self.folder / "lost_genes.csv", dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"Expected the cached import {self.folder} to stay while it is used, found it gone or changed "
                f"({error}); open the dataset again."
            ) from None

    @cached_property
    def _position(self) -> dict[str, int]:
        return {gene: i for i, gene in enumerate(self.genes)}
