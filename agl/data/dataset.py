"""The data of all slides behind one object: spots, genes, sparse counts, memory-mapped features, patches "
"on demand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.reading.cache import cache_root, get_or_build
from agl.data.reading.content_key import content_key
from agl.data.reading.counts import move_columns
from agl.data.reading.fingerprint import sha256_of_json
from agl.data.reading.importing import Progress, Request, import_sections
from agl.data.reading.locate import BUILTIN, NONE, locate_features
from agl.data.reading.names import nearest
from agl.data.reading.patches import PatchReader
from agl.data.reading.sections import Files, choose, scan_folder, with_patients
from agl.errors import UserError

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
        key: hash of the contents of the input files and of the options.
        report: matched and unmatched spots, genes lost and why, per slide; warnings.
        folder: the cached import, None for a dataset made in memory.
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

    def __len__(self) -> int:
        return len(self.spots)

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
            UserError: an unknown gene, with the nearest name.
        """
        for name in names:
            if name not in self._position:
                raise UserError(
                    f"expected genes that all slides measure, received '{name}'.{nearest(name, self.genes)}"
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
            raise ValueError("expected every gene of the panel once, received one twice; remove the repeats")
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
        """Raw counts float32 [len(spots), len(genes)]; all genes when None. For many batches see "
        "`panel_counts`."""
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
        )

    def lost_genes(self) -> pd.DataFrame:
        """Every gene of a slide that is not in `genes`: slide, gene, reason."""
        if self.folder is None:
            return pd.DataFrame(columns=["slide", "gene", "reason"])
        return pd.read_csv(self.folder / "lost_genes.csv", dtype=str, keep_default_na=False)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {gene: i for i, gene in enumerate(self.genes)}


def open_dataset(
    root: Path | str,
    *,
    features: str | Path = BUILTIN,
    cache_dir: Path | str | None = None,
    sections: Sequence[str] | None = None,
    min_counts: int = 0,
    tolerance: float | None = None,
    metadata: Path | str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Open the sections under `root`, importing them into the cache the first time.

    Args:
        root: a HEST-bench task folder, HEST-1k, a folder of h5ad, or one h5ad (`sections.find_sections`).
        features: "builtin" computes them from the patches, "none" reads none, else a folder, an encoder's
            name or a pattern of feature files (`locate.locate_features`). Spots without features (with
            "none": without a patch, in slides that have patches) are left out and reported.
        cache_dir: default `$AGL_CACHE`, else `~/.cache/agl`.
        sections: names of the slides to open; all when None.
        min_counts: spots with a smaller library size are left out.
        tolerance: largest distance, in full-resolution px, of a join by coordinates (`join.join`).
        metadata: a table with the patient of each section, if it is not found by itself.
        progress: called as `progress(slide, done, total)` while importing.

    Raises:
        UserError: one sentence for each way the input can be wrong.

    >>> import tempfile
    >>> from agl.data.simulate.task import simulate
    >>> with tempfile.TemporaryDirectory() as d:
    ...     root = simulate(f"{d}/task", n_patients=2, slides_per_patient=1, spots_per_slide=9, seed=0)
    ...     dataset = open_dataset(root, features="none", cache_dir=f"{d}/cache")
    ...     dataset.slide_names, dataset.counts.shape[0], dataset.dense_counts([0, 17], [3, 1]).shape
    (('P1S1', 'P2S1'), 18, (2, 2))
    """
    if isinstance(min_counts, bool) or not isinstance(min_counts, int | np.integer) or min_counts < 0:
        raise UserError(f"expected min_counts as a whole number from 0, received {min_counts!r}")
    folder = scan_folder(root, metadata=metadata)
    files = choose(folder, sections)
    feature_files = locate_features(features, folder.root, [f.slide for f in files])
    kind = "files" if feature_files else str(features)
    cache = cache_root(cache_dir)
    key = content_key(folder, files, feature_files, kind, int(min_counts), tolerance, cache)

    def build(target: Path) -> dict[str, Any]:
        found = tuple(with_patients(folder, files))
        request = Request(found, feature_files, kind, int(min_counts), tolerance, progress or _silent)
        return {"about": import_sections(request, target)}

    return load(get_or_build(cache, key, build), files)


def load(folder: Path, files: Sequence[Files]) -> Dataset:
    """A cached import as a dataset; patches are read from the original `files`."""
    spots = pd.read_csv(
        folder / "index.csv",
        dtype={"barcode": str, "slide": str, "patient": str},
        keep_default_na=False,
        na_values={"array_row": [""], "array_col": [""]},
        float_precision="round_trip",
    )
    spots = spots.drop(columns=[name for name in ("array_row", "array_col") if spots[name].isna().all()])
    genes = tuple(json.loads((folder / "genes.json").read_text("utf-8")))
    report = json.loads((folder / "report.json").read_text("utf-8"))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("indptr", "indices", "data")}
    features = folder / "features.npy"
    dataset = Dataset(
        spots,
        genes,
        _mapped_csr(arrays["data"], arrays["indices"], arrays["indptr"], (len(spots), len(genes))),
        np.load(folder / "library_size.npy"),
        np.load(features, mmap_mode="r") if features.is_file() else None,
        None,
        folder.name,
        report,
        folder,
    )
    if report["patch_shape"] is None:
        return dataset
    height, width, channels = report["patch_shape"]
    reader = PatchReader(
        tuple(f.patches or f.counts for f in files),  # a slide without patches has no row, so its file is never read
        dataset.slide_codes,
        np.load(folder / "patch_rows.npy"),
        (height, width, channels),
    )
    object.__setattr__(dataset, "patches", reader)
    return dataset


def _mapped_csr(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """A CSR matrix over memory-mapped parts; nothing is copied but `indptr`."""
    matrix = sparse.csr_matrix((data, indices, indptr.astype(indices.dtype)), shape=shape, copy=False)
    matrix.has_sorted_indices = True  # the import sorts; checking would read everything
    matrix.has_canonical_format = True
    return matrix


def _silent(what: str, done: int, total: int) -> None:
    return None


__all__ = ["BUILTIN", "NONE", "Dataset", "load", "open_dataset"]
