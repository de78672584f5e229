"""The doctor's examination of one section: patient, spots, counts, patches, features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.checking.reach import mean_ceiling, thinned
from agl.data.checking.report import Finding, Level, SectionCheck
from agl.data.reading.counts import count_blocks
from agl.data.reading.formats.base import FeatureFile
from agl.data.reading.h5ad import read_header
from agl.data.reading.header import Header
from agl.data.reading.join import Match, join
from agl.data.reading.library_size import library_sizes
from agl.data.reading.locate import BUILTIN, NONE
from agl.data.reading.names import RawNames, clean_name, is_control
from agl.data.reading.patches import PatchFile, open_patches
from agl.data.reading.sections import SectionFiles
from agl.data.reading.vital_signs import Vitals
from agl.errors import UserError

_SHALLOW = 100  # median counts a spot below which most genes are zero nearly everywhere
_RANK: dict[Level, int] = {"error": 0, "warning": 1, "note": 2}
T = TypeVar("T")


class Findings:
    """Collects what is found; turns a reader's error into a finding."""

    def __init__(self) -> None:
        self.all: list[Finding] = []

    def note(self, level: Level, slide: str | None, message: str) -> None:
        self.all.append(Finding(level, slide, message))

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

    names: dict[str, RawNames] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    patch_shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    vitals: dict[str, Vitals] = field(default_factory=dict)
    totals: dict[bytes, str] = field(default_factory=dict)


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
        if result.patient_source == "slide name":
            found.note("warning", slide, "No patient known, counts as its own; add obs['patient'] or sections.csv.")
    header = found.attempt(slide, lambda: read_header(slide, files.counts))
    if header is None:
        return result
    seen.names[slide] = header.genes
    result.spots, result.genes = len(header.barcodes), len(header.genes.names)
    result.counts_source, result.library_size_source = header.counts_source, header.library_size_source
    found.attempt(slide, lambda: _examine_counts(header, result, min_counts, found, seen))
    _examine_places(header, found)
    if files.patches is not None:
        path = files.patches
        patches = found.attempt(slide, lambda: open_patches(path))
        result.patches = _examine_join(header, patches, "patches", kind, tolerance, min_matched, found, seen)
    elif kind == BUILTIN:
        found.note("error", slide, f"Expected patches/{slide}.h5 to compute features from, found none; add it.")
    if open_features is not None:
        table = found.attempt(slide, open_features)
        result.features = _examine_join(header, table, "features", kind, tolerance, min_matched, found, seen)
    elif kind == BUILTIN and result.patches is not None:
        result.features = {"state": "computed"}
    return result


def _examine_counts(header: Header, result: SectionCheck, min_counts: int, found: Findings, seen: Seen) -> None:
    """Depth of every spot, over all genes but control probes, and how far scores can go with it."""
    slide = header.slide
    is_gene = np.array([not is_control(clean_name(n)) for n in header.genes.names])
    parts: list[np.ndarray] = []

    def measured() -> Iterator[tuple[int, sparse.csr_matrix]]:
        for start, block in count_blocks(header):
            parts.append(library_sizes(header, start, block, is_gene))
            yield start, block[:, is_gene]

    some = thinned(measured(), len(header.barcodes))
    totals = np.concatenate(parts)
    result.ceiling = mean_ceiling(some)
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
    elif result.zero_count_spots:
        found.note("warning", slide, f"{result.zero_count_spots} spots without any count; min_counts=1 drops them.")
    if result.counts_median < _SHALLOW:
        found.note("warning", slide, f"Shallow: median {result.counts_median:g} counts a spot.")
    twin = seen.totals.setdefault(totals.tobytes(), slide)
    if twin != slide:
        found.note("warning", slide, f"Same total counts, spot for spot, as '{twin}'; is it a copy?")


def _examine_places(header: Header, found: Findings) -> None:
    if header.off_tissue:
        found.note("warning", header.slide, f"{header.off_tissue} spots have in_tissue = 0 but are kept; drop them.")
    if len(header.xy) < 3:
        found.note("warning", header.slide, f"Only {len(header.xy)} spots: correlations are undefined; leave it out.")
    repeated = int(pd.DataFrame(header.xy).duplicated().sum())
    if repeated:
        found.note("warning", header.slide, f"{repeated} spots lie exactly on another; check obsm['spatial'].")


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
    if table is None:
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
        return {"state": "not joined"}
    for sentence in match.warnings:
        found.note("warning", slide, sentence)
    missing = len(match.rows) - match.matched
    if missing:
        left_out = " and are left out" if needed else ""
        found.note("warning", slide, f"{missing} of {len(match.rows)} spots have no {what}{left_out}.")
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
