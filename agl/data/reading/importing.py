"""One import: sections on disk -> the files of a cached dataset, slide by slide, block by block.

Two passes. The first reads names and shapes only and refuses what cannot work; the second streams counts and
features of one slide after the other to disk, so the peak memory does not grow with the number of slides.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.reading.counts import count_blocks, move_columns
from agl.data.reading.formats.known import Formats
from agl.data.reading.growing import GrowingArray
from agl.data.reading.h5ad import read_header
from agl.data.reading.header import Header
from agl.data.reading.import_report import Tables, describe, warnings_of
from agl.data.reading.join import Match, join
from agl.data.reading.library_size import library_sizes
from agl.data.reading.locate import BUILTIN
from agl.data.reading.names import Harmonised, RawNames, harmonise
from agl.data.reading.patches import PatchFile, PatchReader, open_patches
from agl.data.reading.patients import alike_warnings
from agl.data.reading.plausible import Tally
from agl.data.reading.sections import TissueSection
from agl.data.reading.vital_signs import Vitals, odd_scales, refuse_lifeless
from agl.errors import DataError

Progress = Callable[[str, int, int], None]
_PATCHES_AT_ONCE = 256


@dataclass(frozen=True)
class Request:
    """What to import and how; everything that changes the result is here and in the files themselves."""

    sections: tuple[TissueSection, ...]
    feature_files: Mapping[str, Path]
    features: str  # "builtin", "none" or "files"
    min_counts: int
    tolerance: float | None
    min_matched: float
    formats: Formats
    progress: Progress = lambda what, done, total: None


def import_sections(request: Request, folder: Path) -> dict[str, Any]:
    """Write the dataset's files into `folder`; returns what the manifest should say about it."""
    genes, n_stored = _first_pass(request)
    patch_shape = _patch_shape(request)
    width, dtype = _feature_type(request, patch_shape)
    index_type = np.dtype(np.int64 if n_stored > np.iinfo(np.int32).max else np.int32)
    slides: dict[str, Any] = {}
    vitals: dict[str, Vitals] = {}
    with ExitStack() as files:
        out = _Output(folder, files, index_type, width, dtype)
        for done, section in enumerate(request.sections):
            request.progress(section.slide, done, len(request.sections))
            slides[section.slide] = _import_slide(request, section, genes, out, vitals)
        request.progress("", len(request.sections), len(request.sections))
    refuse_lifeless(vitals)
    report: dict[str, Any] = {"sections": slides}
    report["genes"] = {"kept": len(genes.genes), "notes": list(genes.notes)}
    report["features"] = {"source": request.features, "width": width, "dtype": str(dtype)} if width else None
    report["patch_shape"] = patch_shape
    report["warnings"] = [
        *warnings_of(report),
        *(f"{slide}: {words}" for slide, words in odd_scales(vitals)),
        *alike_warnings(section.patient for section in request.sections),
    ]
    (folder / "report.json").write_text(json.dumps(report, indent=1), "utf-8")
    (folder / "genes.json").write_text(json.dumps(genes.genes), "utf-8")
    genes.lost.to_csv(folder / "lost_genes.csv", index=False)
    return {"spots": int(sum(s["spots_kept"] for s in slides.values())), "genes": len(genes.genes)}


class _Output:
    """The arrays of the dataset, growing slide by slide; `files` closes them."""

    def __init__(self, folder: Path, files: ExitStack, index: np.dtype, width: int, dtype: np.dtype) -> None:
        def array(name: str, dtype: np.dtype, row_shape: tuple[int, ...] = ()) -> GrowingArray:
            return files.enter_context(GrowingArray(folder / f"{name}.npy", dtype, row_shape))

        long = np.dtype(np.int64)
        self.folder = folder
        self.indptr, self.indices = array("indptr", long), array("indices", index)
        self.data, self.library_size = array("data", np.dtype(np.int32)), array("library_size", long)
        self.patch_rows, self.feature_rows = array("patch_rows", long), array("feature_rows", long)
        self.features = array("features", dtype, (width,)) if width else None
        self.indptr.append(np.zeros(1))

    def add_counts(self, counts: sparse.csr_matrix, library_size: np.ndarray) -> None:
        self.indptr.append(counts.indptr[1:].astype(np.int64) + self.data.length)
        self.indices.append(counts.indices)
        self.data.append(counts.data)
        self.library_size.append(library_size)


def _import_slide(
    request: Request, section: TissueSection, genes: Harmonised, out: _Output, vitals: dict[str, Vitals]
) -> dict[str, Any]:
    """Append one slide to all arrays and to the index, and what its features are like; its part of the report."""
    header = read_header(section.slide, section.counts)
    tables = _tables(request, section)
    joined, matches = _join(request, header, tables)
    tally = Tally(genes.is_gene[section.slide], len(header.barcodes))
    spots, totals = _write_counts(header, joined, genes, tally, request.min_counts, out)
    nowhere = np.full(len(header.barcodes), -1)
    rows = {name: match.rows for name, match in matches.items()}
    out.patch_rows.append(rows.get("patches", nowhere)[spots])
    out.feature_rows.append(rows.get("features", rows.get("patches", nowhere))[spots])
    if out.features is not None:
        vitals[section.slide] = _write_features(out.features, section, header, tables, matches, spots)
    _write_index(out.folder / "index.csv", section, header, spots)
    left_out = np.setdiff1d(np.flatnonzero(joined), spots)
    if left_out.size:
        _write_index(out.folder / "left_out.csv", section, header, left_out)
    doubts = vitals[section.slide].doubts() if section.slide in vitals else []
    described = describe(section, header, tables, matches, totals, spots, genes)
    return described | {"count_doubts": tally.doubts(), "feature_doubts": doubts}


def _write_counts(
    header: Header, joined: np.ndarray, genes: Harmonised, tally: Tally, min_counts: int, out: _Output
) -> tuple[np.ndarray, np.ndarray]:
    """Stream the counts of joined spots; returns (positions of the spots kept, library size of every spot)."""
    spots, totals = [], []
    for start, block in count_blocks(header):
        tally.add(start, block)
        library_size = library_sizes(header, start, block, genes.is_gene[header.slide])
        rows = np.flatnonzero(joined[start : start + block.shape[0]] & (library_size >= min_counts))
        counts = move_columns(block[rows], genes.columns[header.slide], len(genes.genes))
        counts.sum_duplicates()  # repeated genes are added up; sorts too
        out.add_counts(counts, library_size[rows])
        spots.append(start + rows)
        totals.append(library_size)
    kept = np.concatenate(spots)
    if not len(kept):
        raise DataError(
            f"Expected spots with at least {min_counts} counts in slide '{header.slide}', found none; "
            "lower min_counts or leave the slide out."
        )
    return kept, np.concatenate(totals)


def _first_pass(request: Request) -> tuple[Harmonised, int]:
    names: dict[str, RawNames] = {}
    n_stored = 0
    for section in request.sections:
        header = read_header(section.slide, section.counts)
        names[section.slide] = _interned(header.genes)
        n_stored += header.n_stored
    return harmonise(names), n_stored


def _interned(raw: RawNames) -> RawNames:
    """Slides share most names: one string object each keeps a thousand slides in little memory."""
    shared = [
        tuple(map(sys.intern, map(str, column))) if column else None for column in (raw.symbols, raw.ids, raw.kinds)
    ]
    return RawNames(tuple(map(sys.intern, raw.names)), *shared)


def _patch_shape(request: Request) -> tuple[int, int, int] | None:
    """Height, width and channels of all patches; None without patches."""
    shapes: dict[str, tuple[int, int, int]] = {}
    for section in request.sections:
        if section.patches is not None:
            shapes[section.slide] = open_patches(section.patches).shape
        elif request.features == BUILTIN:
            raise DataError(
                f"Expected patches/{section.slide}.h5 to compute features from, found none; "
                "add it or give features=<folder of feature files>."
            )
    if len(set(shapes.values())) > 1:
        (a, first), (b, other) = next((p, q) for p in shapes.items() for q in shapes.items() if p[1] != q[1])
        raise DataError(
            f"Expected patches of one size, slide '{a}' has {first[0]} px and slide '{b}' {other[0]} px; "
            "cut them again at one size."
        )
    return next(iter(shapes.values()), None)


def _feature_type(request: Request, patch_shape: tuple[int, int, int] | None) -> tuple[int, np.dtype]:
    """Width and number type of the features of all slides, (0, float32) without features."""
    if request.features == BUILTIN:
        assert patch_shape is not None
        return len(_extract(np.zeros((1, *patch_shape), np.uint8))[0]), np.dtype(np.float32)
    width, dtype, first = 0, np.dtype(np.float16), ""
    for slide, path in request.feature_files.items():
        file = request.formats.open(path)
        if width and file.shape[1] != width:
            raise DataError(
                f"Expected features of one width, slide '{first}' has {width} and slide '{slide}' "
                f"{file.shape[1]}; use files of one encoder."
            )
        width, first = file.shape[1], first or slide
        dtype = np.promote_types(dtype, file.dtype)
    return width, dtype if width else np.dtype(np.float32)


def _tables(request: Request, section: TissueSection) -> Tables:
    path = request.feature_files.get(section.slide)
    features = request.formats.open(path) if path else None
    return Tables(features, open_patches(section.patches) if section.patches else None)


def _join(request: Request, header: Header, tables: Tables) -> tuple[np.ndarray, dict[str, Match]]:
    """Which spots have all they need, and the row of each in the tables."""
    matches = {}
    needed = "features" if tables.features else "patches"  # patches beside feature files are a bonus
    for name in ("features", "patches"):
        table = getattr(tables, name)
        if table is not None:
            least = request.min_matched if name == needed else 0.0
            matches[name] = join(header.spots, table.rows, tolerance=request.tolerance, min_matched=least)
    kept = matches[needed].rows >= 0 if needed in matches else np.ones(len(header.barcodes), dtype=bool)
    return kept, matches


def _write_features(
    out: GrowingArray,
    section: TissueSection,
    header: Header,
    tables: Tables,
    matches: Mapping[str, Match],
    spots: np.ndarray,
) -> Vitals:
    """Features of the kept spots, written in spot order while the source is read in its own order."""
    first = out.reserve(len(spots))
    if tables.features is not None:
        blocks, rows = tables.features.blocks(), matches["features"].rows[spots]
        n_rows, where = tables.features.shape[0], tables.features.rows.where
    else:
        assert tables.patches is not None
        blocks, rows = _computed(tables.patches), matches["patches"].rows[spots]
        n_rows, where = tables.patches.n_rows, tables.patches.rows.where
    spot_of_row = np.full(n_rows, -1, dtype=np.int64)
    spot_of_row[rows] = np.arange(len(rows))
    vitals = Vitals(section.slide, where, out.row_shape[0])
    for start, values in blocks:
        spot = spot_of_row[start : start + len(values)]
        used = spot >= 0
        values, spot = values[used], spot[used]
        vitals.add(values, header.barcodes[spots[spot]])
        out.write_rows(first + spot, values)
    return vitals


def _computed(patches: PatchFile) -> Iterator[tuple[int, np.ndarray]]:
    rows = np.arange(patches.n_rows)
    reader = PatchReader((patches.path,), np.zeros_like(rows), rows, patches.shape)
    for start in range(0, patches.n_rows, _PATCHES_AT_ONCE):
        yield start, _extract(reader.read(rows[start : start + _PATCHES_AT_ONCE]))
    reader.close()


def _extract(images: np.ndarray) -> np.ndarray:
    from agl.data.images.builtin import extract

    return np.asarray(extract(images), dtype=np.float32)


def _write_index(path: Path, section: TissueSection, header: Header, spots: np.ndarray) -> None:
    missing = np.full(len(spots), np.nan)
    table = pd.DataFrame(
        {
            "barcode": header.barcodes[spots],
            "slide": section.slide,
            "patient": section.patient,
            "x": header.xy[spots, 0],
            "y": header.xy[spots, 1],
            "array_row": missing if header.spots.array_row is None else header.spots.array_row[spots],
            "array_col": missing if header.spots.array_col is None else header.spots.array_col[spots],
        }
    )
    table.to_csv(path, mode="a", header=not path.exists(), index=False, encoding="utf-8")
