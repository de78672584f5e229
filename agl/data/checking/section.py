"""The doctor's examination of one section: patient, spots, counts, patches, features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

from agl.data.checking.density import densities
from agl.data.checking.reach import mean_reach, thinned, thinning
from agl.data.checking.report import Finding, Level, SectionCheck
from agl.data.reading.counts import count_blocks, move_columns
from agl.data.reading.formats.base import FeatureFile
from agl.data.reading.header import Header
from agl.data.reading.join import Match, join
from agl.data.reading.library_size import library_sizes
from agl.data.reading.locate import BUILTIN, NONE
from agl.data.reading.names import Harmonised, RawNames
from agl.data.reading.patches import PatchFile, open_patches
from agl.data.reading.plausible import Tally
from agl.data.reading.remarks import about_empty, about_join, about_patient, about_places
from agl.data.reading.sections import SectionFiles
from agl.data.reading.vital_signs import Vitals
from agl.data.splitting.twins import spot_signatures
from agl.data.surroundings import Surroundings, surround
from agl.errors import UserError
from agl.nuisances import places

_SHALLOW = 100  # median counts a spot below which most genes are zero nearly everywhere
CONTEXT = (8, 24)  # the surroundings that the default model sees
_RANK: dict[Level, int] = {"error": 0, "warning": 1, "note": 2}
T = TypeVar("T")


class Findings:
    """Collects what is found; turns a reader's error into a finding."""

    def __init__(self) -> None:
        self.all: list[Finding] = []

    def note(self, level: Level, slide: str | None, message: str) -> None:
        self.all.append(Finding(level, slide, message))

    def warn(self, slide: str | None, remarks: Iterable[str]) -> None:
        for remark in remarks:
            self.note("warning", slide, remark)

    def attempt(self, slide: str | None, step: Callable[[], T], level: Level = "error") -> T | None:
        """Run one reader; None when it failed."""
        try:
            return step()
        except UserError as error:
            self.note(level, slide, str(error))
        except Exception as error:  # a damaged file may raise anything; the others are still to be checked
            self.note(level, slide, f"Cannot be read ({type(error).__name__}: {error}); write the file again.")
        return None

    def worst_first(self) -> None:
        self.all.sort(key=lambda finding: _RANK[finding.level])


@dataclass
class Seen:
    """What the sections have to agree on; filled section by section."""

    headers: dict[str, Header] = field(default_factory=dict)
    genes: Harmonised | None = None  # None where the sections share too few
    widths: dict[str, int] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    patch_shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    patches: dict[str, tuple[PatchFile, np.ndarray]] = field(default_factory=dict)  # and the row of each spot, -1: none
    kept: dict[str, np.ndarray] = field(default_factory=dict)  # bool [spot] of each slide: what a training would see
    detected: dict[str, np.ndarray] = field(default_factory=dict)  # int [shared gene]: in how many of the kept spots
    signatures: dict[str, list[np.ndarray]] = field(default_factory=dict)  # of the kept spots, see `find_twins`
    vitals: dict[str, Vitals] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, RawNames]:
        return {slide: header.genes for slide, header in self.headers.items()}

    def drop(self, slide: str) -> None:
        """No training would see the slide."""
        self.kept.pop(slide, None)

    def add(self, slide: str, counts: sparse.csr_matrix) -> None:
        """Kept spots `[spot, gene in file]` of a slide, over the genes that all slides share."""
        if self.genes is None:
            return
        shared = move_columns(counts, self.genes.columns[slide], len(self.genes.genes))
        shared.sum_duplicates()
        self.signatures.setdefault(slide, []).append(spot_signatures(shared))
        detected = self.detected.setdefault(slide, np.zeros(shared.shape[1], dtype=np.int64))
        detected += np.bincount(shared.indices, minlength=shared.shape[1])


def examine_section(
    files: SectionFiles,
    owner: tuple[str, str] | None,
    kind: str,
    open_features: Callable[[], FeatureFile] | None,
    min_counts: int,
    tolerance: float | None,
    min_matched: float,
    found: Findings,
    seen: Seen,
) -> SectionCheck:
    """Each step on its own, so that a broken patch file does not hide negative counts."""
    slide = files.slide
    result = SectionCheck(slide)
    if owner is not None:
        result.patient, result.patient_source = owner
        found.warn(slide, about_patient(result.patient_source))
    header = seen.headers.get(slide)
    if header is None:
        return result
    seen.kept[slide] = np.ones(len(header.barcodes), dtype=bool)
    result.spots, result.genes = len(header.barcodes), len(header.genes.names)
    result.counts_source, result.library_size_source = header.counts_source, header.library_size_source
    found.warn(slide, about_places(header))
    if files.patches is not None:
        path = files.patches
        patches = found.attempt(slide, lambda: open_patches(path))
        result.patches = _examine_join(header, patches, "patches", kind, tolerance, min_matched, found, seen)
    elif kind == BUILTIN:
        found.note("error", slide, f"Expected patches/{slide}.h5 to compute features from, found none; add it.")
        seen.drop(slide)
    if open_features is not None:
        table = found.attempt(slide, open_features)
        result.features = _examine_join(header, table, "features", kind, tolerance, min_matched, found, seen)
    elif kind == BUILTIN and result.patches is not None:
        result.features = {"state": "computed"}
    if kind != NONE and slide in seen.kept:
        xy = header.xy[seen.kept[slide]]
        found.attempt(slide, lambda: surround(np.zeros((len(xy), 1)), xy, Surroundings(CONTEXT), slide=slide))
    found.attempt(slide, lambda: _examine_counts(header, result, min_counts, found, seen))
    return result


def _examine_counts(header: Header, result: SectionCheck, min_counts: int, found: Findings, seen: Seen) -> None:
    """Depth of every spot, over all genes (antibodies and controls are none), and how far scores can go with it."""
    slide = header.slide
    is_gene = header.genes.is_gene()
    parts: list[np.ndarray] = []
    tally = Tally(is_gene, len(header.barcodes))
    kept = seen.kept.pop(slide, np.zeros(len(header.barcodes), dtype=bool))  # back when all has been read

    def measured() -> Iterator[tuple[int, sparse.csr_matrix]]:
        for start, block in count_blocks(header):
            tally.add(start, block)
            library_size = library_sizes(header, start, block, is_gene)
            parts.append(library_size)
            kept[start : start + len(library_size)] &= library_size >= min_counts
            seen.add(slide, block[kept[start : start + len(library_size)]])
            yield start, block[:, is_gene]

    some = thinned(measured(), len(header.barcodes))
    totals = np.concatenate(parts)
    every = slice(None, None, thinning(len(header.barcodes)))
    density = None
    if slide in seen.patches:
        file, rows = seen.patches[slide]
        density = found.attempt(slide, lambda: densities(file, rows[every]), "warning")
    position = places(header.xy)[every] if np.isfinite(header.xy).all() else None
    reach = mean_reach(some, position=position, density=density)
    result.ceiling, result.depth, result.position, result.stain = reach
    result.counts_min, result.counts_max = int(totals.min()), int(totals.max())
    result.counts_median, result.zero_count_spots = float(np.median(totals)), int((totals == 0).sum())
    below = int((totals < min_counts).sum())
    if not totals.any():
        found.note("error", slide, "All counts are zero: is this the right matrix? leave the section out.")
        return
    if below == len(totals):
        found.note("error", slide, f"No spot has {min_counts} counts; lower min_counts or leave the section out.")
    elif below:
        found.note("note", slide, f"{below} spots have fewer than {min_counts} counts and are left out.")
    found.warn(slide, tally.doubts())
    found.warn(slide, about_empty(0 if min_counts else result.zero_count_spots))
    if result.counts_median < _SHALLOW:
        found.note("warning", slide, f"Shallow: median {result.counts_median:g} counts a spot.")
    if kept.any():
        seen.kept[slide] = kept


def _examine_join(
    header: Header,
    table: PatchFile | FeatureFile | None,
    what: str,
    kind: str,
    tolerance: float | None,
    min_matched: float,
    found: Findings,
    seen: Seen,
) -> dict[str, Any]:
    slide = header.slide
    needed = what == "features" or kind in (BUILTIN, NONE)
    if table is None:
        seen.drop(slide)
        return {"state": "unreadable"}
    if isinstance(table, FeatureFile):
        seen.widths[slide] = table.shape[1]
        seen.kinds.add(table.kind)
    else:
        seen.patch_shapes[slide] = table.shape
    needed = what == "features" or kind in (BUILTIN, NONE)
    least = min_matched if needed else 0.0
    match = found.attempt(slide, lambda: join(header.spots, table.rows, tolerance=tolerance, min_matched=least))
    if match is None:
        seen.drop(slide)
        return {"state": "not joined"}
    if isinstance(table, PatchFile):
        seen.patches[slide] = (table, match.rows)
    found.warn(slide, match.warnings)
    if needed and slide in seen.kept:
        seen.kept[slide] &= match.rows >= 0
    found.warn(slide, about_join(match.matched, len(match.rows), what, needed=needed))
    if isinstance(table, FeatureFile):
        found.attempt(slide, lambda: _examine_features(table, match, header, found, seen))
        return {**match.to_dict(), "kind": table.kind, "width": table.shape[1]}
    return {**match.to_dict(), "shape": list(table.shape)}


def _examine_features(table: FeatureFile, match: Match, header: Header, found: Findings, seen: Seen) -> None:
    """Read all features of joined spots once: finite, alive, and what the slides have to agree on."""
    spot_of_row = np.full(table.shape[0], -1, dtype=np.int64)
    joined = np.flatnonzero(match.rows >= 0)
    spot_of_row[match.rows[joined]] = joined
    vitals = Vitals(header.slide, table.rows.where, table.shape[1])
    for start, values in table.blocks():
        spot = spot_of_row[start : start + len(values)]
        vitals.add(values[spot >= 0], header.barcodes[spot[spot >= 0]])
    for sentence in vitals.doubts():
        found.note("warning", header.slide, sentence)
    seen.vitals[header.slide] = vitals
