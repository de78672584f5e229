"""The doctor: examine a data folder, survive whatever is in it, and say what is wrong and how to mend it.

It runs the same readers as the import, one after the other and each on its own, so that one screen lists every
problem and not only the first. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from agl.data.checking.folder import examine_beside, examine_together
from agl.data.checking.report import CheckReport
from agl.data.checking.section import Findings, Seen, examine_section
from agl.data.checking.start import examine_start
from agl.data.reading.formats.known import Formats, Name
from agl.data.reading.h5ad import read_header
from agl.data.reading.join import MIN_MATCHED
from agl.data.reading.locate import BUILTIN, NONE, locate_features
from agl.data.reading.names import harmonise
from agl.data.reading.patients import ALONE, PatientTables, alike_warnings, in_one_spelling, patient_of
from agl.data.reading.sections import Folder, SectionFiles, choose, patient_tables, scan_folder

AUTO = "auto"


def check(
    path: Path | str,
    *,
    features: str | Path = AUTO,
    sections: Sequence[str] | None = None,
    min_counts: int = 0,
    tolerance: float | None = None,
    min_matched: float = MIN_MATCHED,
    metadata: Path | str | None = None,
    formats: Iterable[Name] = (),
) -> CheckReport:
    """Examine the sections under `path` as `open_dataset` would read them; reads all counts and features once.

    Never raises for what is in the folder: every problem becomes a finding of the report.

    Args:
        path: the folder, or one h5ad.
        features: as for `open_dataset`, or "auto": "builtin" when there are patches, else "none".
        sections: names of the slides to examine; all when None.
        min_counts: as for `open_dataset`.
        tolerance: as for `open_dataset`.
        min_matched: as for `open_dataset`.
        metadata: as for `open_dataset`.
        formats: as for `open_dataset`.

    >>> report = check("no/such/folder")
    >>> report.status, report.findings[0].message
    ('error', 'Expected a folder of tissue sections at no/such/folder, found nothing. Check the path.')
    """
    found = Findings()
    report = CheckReport(str(path), findings=found.all)
    folder = found.attempt(None, lambda: scan_folder(path, metadata=metadata))
    files = found.attempt(None, lambda: choose(folder, sections)) if folder else None
    if folder is None or files is None:
        return report
    report.layout = folder.layout
    kind = str(features)
    if kind == AUTO:
        kind = BUILTIN if any(f.patches for f in files) else NONE
    slides = [f.slide for f in files]
    owners = _owners(folder, files, found)
    known = found.attempt(None, lambda: Formats(formats)) or Formats()
    located = found.attempt(None, lambda: locate_features(kind, folder.root, slides, known)) or {}
    feature_files = {slide: partial(known.open, path) for slide, path in located.items()}
    seen = Seen()
    for one in files:
        header = found.attempt(one.slide, partial(read_header, one.slide, one.counts))
        if header is not None:
            seen.headers[one.slide] = header
    if seen.headers:
        seen.genes = found.attempt(None, lambda: harmonise(seen.names))
    for one in files:
        owner = owners.get(one.slide)
        report.sections.append(
            examine_section(
                one, owner, kind, feature_files.get(one.slide), min_counts, tolerance, min_matched, found, seen
            )
        )
    examine_together(report, kind, found, seen)
    examine_start(report, kind, found, seen)
    examine_beside(folder, found, seen)
    found.warn(None, folder.overlooked() if sections is None else [])
    found.worst_first()
    return report


def _owners(folder: Folder, files: Sequence[SectionFiles], found: Findings) -> dict[str, tuple[str, str]]:
    """slide -> (patient, where the name was found), as far as it can be found out."""
    tables = found.attempt(None, lambda: patient_tables(folder))
    known = {}
    for f in files:
        ask = partial(patient_of, f.slide, f.counts, f.about, tables or PatientTables({}, {}))
        owner = found.attempt(f.slide, ask)
        if owner is not None and (tables is not None or owner[1] != ALONE):  # an unreadable table may know the patient
            known[f.slide] = owner
    owners = in_one_spelling(list(known.values()))
    for warning in alike_warnings(patient for patient, _ in owners):
        found.note("warning", None, warning)
    return dict(zip(known, owners, strict=True))
