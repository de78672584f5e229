"""What is in a folder: one h5ad per tissue section, its patches, and the patient it came from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agl.data.reading.foreign import about_overlooked, why_not_sections
from agl.data.reading.names import nearest
from agl.data.reading.patients import PatientTables, in_one_spelling, names_patients, patient_of
from agl.errors import DataError
from agl.places import expanded

LAYOUTS = {"adata": "HEST-bench task", "st": "HEST-1k", ".": "folder of h5ad files"}
ONE_FILE = "one h5ad file"
SECTIONS_CSV = "sections.csv"


@dataclass(frozen=True)
class SectionFiles:
    """Where one section lies on disk; nothing has been opened yet. `about` is HEST-1k's `metadata/<slide>.json`."""

    slide: str
    counts: Path
    patches: Path | None
    about: Path | None = None


@dataclass(frozen=True)
class TissueSection:
    """One tissue section and whom it belongs to; `patient_source` says where the patient's name was found."""

    slide: str
    patient: str
    patient_source: str
    counts: Path
    patches: Path | None


@dataclass(frozen=True)
class Folder:
    """A data folder: its layout, the files of its sections (sorted by name), and the tables beside them."""

    root: Path
    layout: str
    files: tuple[SectionFiles, ...]
    sections_csv: Path | None
    metadata: Path | None

    @property
    def slides(self) -> tuple[str, ...]:
        return tuple(f.slide for f in self.files)

    def overlooked(self) -> list[str]:
        """Sections beside these in formats that are not read, a sentence each."""
        return [] if self.layout == ONE_FILE else about_overlooked(self.files[0].counts.parent, self.slides)


def find_sections(
    root: Path | str, *, sections: Sequence[str] | None = None, metadata: Path | str | None = None
) -> tuple[TissueSection, ...]:
    """The sections under `root`, sorted by name, each with its patient.

    Layouts: a HEST-bench task (`adata/`, `patches/`), HEST-1k (`st/`, `patches/`), a folder of `.h5ad`, one
        `.h5ad`.
    Patient: `obs['patient']`, else `sections.csv`, else the metadata table (HEST's CSV, where patients are
    numbered anew in every `dataset_title`), else HEST-1k's `metadata/<slide>.json`, else the section counts as its
    own patient and `patient_source` is "slide name". Where several name one they must agree.

    Raises:
        DataError: no such folder, no sections, a section whose patient is contradictory, an unknown name in
            `sections`.
    """
    folder = scan_folder(root, metadata=metadata)
    return tuple(with_patients(folder, choose(folder, sections)))


def scan_folder(root: Path | str, *, metadata: Path | str | None = None) -> Folder:
    """Find the sections of `root` by file name alone (fast: nothing is opened)."""
    root = expanded(root)
    if root.is_file() and root.suffix == ".h5ad":
        return Folder(root.parent, ONE_FILE, (_files(root, root.parent),), None, _metadata(root.parent, metadata))
    if root.is_file():
        if known := why_not_sections(root):
            raise DataError(f"Expected tissue sections as h5ad, {known}.")
        raise DataError(f"Expected a folder of tissue sections at {root}, found a file; give the folder it is in.")
    if not root.is_dir():
        near = [p.name for p in root.parent.glob("[!.]*") if p.is_dir()] if root.parent.is_dir() else []
        hint = nearest(root.name, near)
        raise DataError(f"Expected a folder of tissue sections at {root}, found nothing.{hint or ' Check the path.'}")
    for name, layout in LAYOUTS.items():
        found = [p for p in (root / name).glob("*.h5ad") if not p.name.startswith(".")]
        if found:
            files = tuple(_files(path, root) for path in sorted(found, key=lambda p: p.stem))  # "S1" before "S1-2"
            table = root / SECTIONS_CSV
            return Folder(root, layout, files, table if table.is_file() else None, _metadata(root, metadata))
    raise DataError(_why_empty(root))


def choose(folder: Folder, slides: Sequence[str] | None) -> tuple[SectionFiles, ...]:
    """The files of the slides asked for (all when None); sorted by name."""
    if slides is None:
        return folder.files
    if isinstance(slides, str) or not slides:
        raise DataError(f"Expected a list of slide names, received {slides!r}; for example ['{folder.slides[0]}'].")
    by_name = {f.slide: f for f in folder.files}
    for slide in slides:
        if slide not in by_name:
            raise DataError(f"Expected slides that are in {folder.root}, received '{slide}'.{nearest(slide, by_name)}")
    return tuple(by_name[slide] for slide in sorted(set(slides)))


def with_patients(folder: Folder, files: Sequence[SectionFiles]) -> list[TissueSection]:
    """Add the patient to each section; opens every h5ad for its `obs['patient']`."""
    tables = patient_tables(folder)
    owners = [patient_of(f.slide, f.counts, f.about, tables) for f in files]
    return [
        TissueSection(f.slide, *owner, f.counts, f.patches)
        for f, owner in zip(files, in_one_spelling(owners), strict=True)
    ]


def patient_tables(folder: Folder) -> PatientTables:
    """What `sections.csv` and the metadata table say about the sections of the folder."""
    return PatientTables.read(folder.slides, folder.sections_csv, folder.metadata)


def _files(path: Path, root: Path) -> SectionFiles:
    patches = [folder / f"{path.stem}.h5" for folder in (root / "patches", path.parent / "patches")]
    about = root / "metadata" / f"{path.stem}.json"
    return SectionFiles(
        path.stem, path, next((p for p in patches if os.path.lexists(p)), None), about if about.is_file() else None
    )


def _metadata(root: Path, given: Path | str | None) -> Path | None:
    """The table given, else one in the folder with an id column and a patient column (HEST_v1_1_0.csv)."""
    if given is not None:
        if not Path(given).is_file():
            raise DataError(f"Expected a metadata table at {given}, found nothing; check the path.")
        return Path(given)
    return next((path for path in _tables(root) if path.name != SECTIONS_CSV and names_patients(path)), None)


def _tables(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.suffix.lower() in (".csv", ".tsv") and path.is_file())


def _why_empty(root: Path) -> str:
    tasks = sorted(p.parent.name for p in root.glob("*/adata") if p.is_dir())
    if tasks:
        return (
            f"Expected one HEST-bench task, {root} holds {len(tasks)} ({', '.join(tasks[:6])}); "
            f"give one, such as {root / tasks[0]}."
        )
    if known := why_not_sections(root):
        return f"Expected tissue sections as h5ad, {known}."
    inside = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))[:6]
    what = f"has {', '.join(inside)}" if inside else "is empty"
    return (
        f"Expected sections as adata/*.h5ad, st/*.h5ad or *.h5ad in {root}, which {what}; "
        "give the folder that contains adata/."
    )
