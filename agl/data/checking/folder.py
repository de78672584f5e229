"""The doctor's examination of a folder as a whole: do the sections fit together, and the files beside them?"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from agl.data.checking.report import CheckReport
from agl.data.checking.section import Findings, Seen
from agl.data.reading.locate import BUILTIN
from agl.data.reading.names import clean_name
from agl.data.reading.remarks import about_genes
from agl.data.reading.sections import Folder
from agl.data.reading.spelling import find_slide
from agl.data.reading.vital_signs import odd_scales, refuse_lifeless
from agl.data.splitting.fold_files import listed_slides, read_folds
from agl.places import regular_file


def examine_together(report: CheckReport, kind: str, found: Findings, seen: Seen) -> None:
    """Shared genes, equal widths and sizes, patients to hold out, and what would be used."""
    report.spots = sum(s.spots or 0 for s in report.sections)
    report.patients = sorted({s.patient for s in report.sections if s.patient})
    _one_size("features of one width", seen.widths, found)
    _one_size("patches of one size", seen.patch_shapes, found)
    if len(set(seen.widths.values())) == 1:
        found.attempt(None, partial(refuse_lifeless, seen.vitals))
        for slide, sentence in odd_scales(seen.vitals):
            found.note("warning", slide, sentence)
    if seen.headers:
        _genes(report, found, seen)
    if kind == BUILTIN:
        for shape in sorted(set(seen.patch_shapes.values())):
            found.attempt(None, partial(_extractor_accepts, shape))
    report.will_use = _will_use(report, kind, seen)


def examine_beside(folder: Folder, found: Findings, seen: Seen) -> None:
    """Split files and gene panels that come with the folder."""
    for split in sorted(p for p in folder.root.glob("splits*") if p.is_dir()):
        tests = sorted(split.glob("test_*.csv"))
        found.note("note", None, f"{split.name}: {len(tests)} folds in HEST-bench's format.")
        readable = bool(tests)
        for table in tests + sorted(split.glob("train_*.csv")):
            listed = found.attempt(None, partial(listed_slides, table), "warning") or []
            unknown = [name for name in listed if find_slide(name, folder.slides) is None]
            if unknown:
                found.note("warning", None, f"{split.name}/{table.name} lists '{unknown[0]}', which has no section.")
            readable &= bool(listed) and not unknown
        if readable:
            found.attempt(None, partial(read_folds, split, slides=folder.slides), "warning")
    everywhere = [{clean_name(n) for n in raw.names} for raw in seen.names.values()]
    shared = set.intersection(*everywhere) if everywhere else set()
    for panel in sorted(folder.root.glob("var_*genes.json")):
        genes = found.attempt(None, _Reader(panel).gene_panel, "warning") or []
        missing = [n for n in genes if clean_name(n) not in shared]
        if missing and shared:
            found.note("warning", None, f"{panel.name}: {len(missing)} genes not in all sections, e.g. {missing[0]}.")


def _extractor_accepts(shape: tuple[int, int, int]) -> None:
    """One empty patch of this size through the built-in extractor."""
    from agl.data.images.builtin import extract

    extract(np.zeros((1, *shape), dtype=np.uint8))


class _Reader:
    """Readers of one small file, named so that a failure can be attempted and reported."""

    def __init__(self, path: Path) -> None:
        self.path = regular_file(path, "a small file beside the sections")

    def gene_panel(self) -> list[str]:
        return [str(name) for name in json.loads(self.path.read_text("utf-8"))["genes"]]


def _one_size(what: str, sizes: dict[str, int] | dict[str, tuple[int, int, int]], found: Findings) -> None:
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"'{slide}' has {size}" for slide, size in list(sizes.items())[:4])
        found.note("error", None, f"Expected {what}, {listed}; make them with one extractor.")


def _genes(report: CheckReport, found: Findings, seen: Seen) -> None:
    report.genes_union = len({clean_name(n) for raw in seen.names.values() for n in raw.names})
    genes = seen.genes
    if genes is None:
        return
    report.genes_overlap = len(genes.genes)
    for slide, reasons in genes.lost.groupby("slide")["reason"]:
        report.genes_lost[str(slide)] = {str(r): int(n) for r, n in reasons.value_counts().items()}
    for note in genes.notes:
        found.note("note", None, note)
    found.warn(None, about_genes(report.genes_overlap, min(len(raw.names) for raw in seen.names.values())))


def _will_use(report: CheckReport, kind: str, seen: Seen) -> dict[str, str]:
    sources = sorted({s.counts_source for s in report.sections if s.counts_source})
    totals = sorted({s.library_size_source for s in report.sections if s.library_size_source})
    shapes = sorted(set(seen.patch_shapes.values()))
    size = f"{shapes[0][1]} x {shapes[0][0]} px" if shapes else ""
    features = "none"
    if kind == BUILTIN and size:
        features = f"built in, computed from patches of {size}"
    elif seen.widths:
        kinds = ", ".join(sorted(seen.kinds))
        features = f"{kinds}, {min(seen.widths.values())} numbers a spot{_joined_by(report, 'features')}"
    patients = len(report.patients)
    return {
        "counts": f"raw counts from {', '.join(sources) or 'nowhere'}",
        "library size": f"from {' or '.join(totals) or 'nothing'}",
        "genes": f"{report.genes_overlap:,} measured in every section",
        "features": features,
        "patches": f"{size}{_joined_by(report, 'patches')}" if size else "none",
        "hold out": f"one of {patients} patients at a time" if patients > 1 else "not by patient",
    }


def _joined_by(report: CheckReport, what: str) -> str:
    tables = [getattr(section, what) or {} for section in report.sections]
    ways = sorted({str(table["joined_by"]).split()[0] for table in tables if "joined_by" in table})
    return f", joined by {' and '.join(ways)}" if ways else ""
