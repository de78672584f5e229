"""What is in a folder: one h5ad per tissue section, its patches, and the patient it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from agl.data.reading.foreign import why_not_sections
from agl.data.reading.hdf5 import open_h5, strings
from agl.data.reading.names import nearest
from agl.errors import UserError

LAYOUTS = {"adata": "HEST-bench task", "st": "HEST-1k", ".": "folder of h5ad files"}
_ID_COLUMNS = ("section", "slide", "sample_id", "id", "sample")


@dataclass(frozen=True)
class SectionFiles:
    """Where one section lies on disk; nothing has been opened yet."""

    slide: str
    counts: Path
    patches: Path | None


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


def find_sections(
    root: Path | str, *, sections: Sequence[str] | None = None, metadata: Path | str | None = None
) -> tuple[TissueSection, ...]:
    """The sections under `root`, sorted by name, each with its patient.

    Layouts: a HEST-bench task (`adata/`, `patches/`), HEST-1k (`st/`, `patches/`), a folder of `.h5ad`, one
        `.h5ad`.
    Patient: `obs['patient']`, else `sections.csv`, else the metadata table (HEST's CSV, where patients are
    numbered anew in every `dataset_title`), else the section counts as its own patient and `patient_source`
    is "slide name".

    Raises:
        UserError: no such folder, no sections, a section whose patient is contradictory, an unknown name in
            `sections`.
    """
    folder = scan_folder(root, metadata=metadata)
    return tuple(with_patients(folder, choose(folder, sections)))


def scan_folder(root: Path | str, *, metadata: Path | str | None = None) -> Folder:
    """Find the sections of `root` by file name alone (fast: nothing is opened)."""
    root = Path(root).expanduser()
    if root.is_file() and root.suffix == ".h5ad":
        return Folder(
            root.parent, "one h5ad file", (_files(root, root.parent),), None, _metadata(root.parent, metadata)
        )
    if root.is_file():
        if known := why_not_sections(root):
            raise UserError(f"Expected tissue sections as h5ad, {known}.")
        raise UserError(f"Expected a folder of tissue sections at {root}, found a file; give the folder it is in.")
    if not root.is_dir():
        near = [p.name for p in root.parent.iterdir() if p.is_dir()] if root.parent.is_dir() else []
        hint = nearest(root.name, near)
        raise UserError(f"Expected a folder of tissue sections at {root}, found nothing.{hint or ' Check the path.'}")
    for name, layout in LAYOUTS.items():
        found = [p for p in (root / name).glob("*.h5ad") if not p.name.startswith(".")]
        if found:
            files = tuple(_files(path, root) for path in sorted(found, key=lambda p: p.stem))  # "S1" before "S1-2"
            table = root / "sections.csv"
            return Folder(root, layout, files, table if table.is_file() else None, _metadata(root, metadata))
    raise UserError(_why_empty(root))


def choose(folder: Folder, slides: Sequence[str] | None) -> tuple[SectionFiles, ...]:
    """The files of the slides asked for (all when None); sorted by name."""
    if slides is None:
        return folder.files
    if isinstance(slides, str) or not slides:
        raise UserError(f"Expected a list of slide names, received {slides!r}; for example ['{folder.slides[0]}'].")
    by_name = {f.slide: f for f in folder.files}
    for slide in slides:
        if slide not in by_name:
            raise UserError(f"Expected slides that are in {folder.root}, received '{slide}'.{nearest(slide, by_name)}")
    return tuple(by_name[slide] for slide in sorted(set(slides)))


def with_patients(folder: Folder, files: Sequence[SectionFiles]) -> list[TissueSection]:
    """Add the patient to each section; opens every h5ad for its `obs['patient']`."""
    listed, described = patient_tables(folder)
    return [TissueSection(f.slide, *patient_of(f, listed, described, folder), f.counts, f.patches) for f in files]


def patient_tables(folder: Folder) -> tuple[dict[str, str], dict[str, str]]:
    """slide -> patient as `sections.csv` and as the metadata table have it."""
    return read_sections_csv(folder), _read_metadata(folder.metadata) if folder.metadata else {}


def read_sections_csv(folder: Folder) -> dict[str, str]:
    """slide -> patient from `sections.csv`; {} without one. A listed section that has no file is an error."""
    if folder.sections_csv is None:
        return {}
    table = _read_table(folder.sections_csv)
    column = _id_column(table, folder.sections_csv)
    for slide in table[column]:
        if slide not in folder.slides:
            raise UserError(
                f"Expected a file for every section in {folder.sections_csv}, there is none for '{slide}'; "
                f"remove the line or add the file.{nearest(slide, folder.slides)}"
            )
    return _patients(table, column) if "patient" in table else {}


def patient_of(
    files: SectionFiles, listed: dict[str, str], described: dict[str, str], folder: Folder
) -> tuple[str, str]:
    """(patient, where the name was found) of one section."""
    slide, own = files.slide, patient_in_obs(files)
    if own and listed.get(slide, own) != own:
        raise UserError(
            f"Expected one patient for section '{slide}', received '{own}' in obs['patient'] and "
            f"'{listed[slide]}' in sections.csv; make them agree, because splits hold out patients."
        )
    if own:
        return own, "obs['patient']"
    if slide in listed:
        return listed[slide], "sections.csv"
    if slide in described and folder.metadata is not None:
        return described[slide], folder.metadata.name
    return slide, "slide name"


def patient_in_obs(files: SectionFiles) -> str | None:
    """The patient in the h5ad's `obs`, None without one; more than one patient in a section is an error."""
    with open_h5(files.counts, "an h5ad file") as h5:
        obs = h5.get("obs")
        if obs is None or not hasattr(obs, "keys") or "patient" not in obs:
            return None
        column = obs["patient"]
        if hasattr(column, "keys"):  # categorical, or nullable strings
            values = strings(column["categories" if "categories" in column else "values"][...])
            codes = column["codes"][...] if "codes" in column else range(len(values))
        elif "__categories" in obs and "patient" in obs["__categories"]:  # anndata < 0.8
            values, codes = strings(obs["__categories/patient"][...]), column[...]
        else:
            values = strings(column[...])
            codes = range(len(values))
    named = {values[code].strip() for code in codes if code >= 0}  # "P1 " and "P1" are one patient, as in the tables
    patients = sorted(named - {"", "nan"})
    if len(patients) > 1:
        raise UserError(
            f"Expected one patient in a section, section '{files.slide}' has {len(patients)} in "
            f"obs['patient'] ({', '.join(patients[:3])}); save one h5ad per patient."
        )
    return patients[0] if patients else None


def _files(path: Path, root: Path) -> SectionFiles:
    patches = [folder / f"{path.stem}.h5" for folder in (root / "patches", path.parent / "patches")]
    return SectionFiles(path.stem, path, next((p for p in patches if p.is_file()), None))


def _metadata(root: Path, given: Path | str | None) -> Path | None:
    """The table given, else a CSV in the folder with an id column and a patient column (HEST_v1_1_0.csv)."""
    if given is not None:
        if not Path(given).is_file():
            raise UserError(f"Expected a metadata table at {given}, found nothing; check the path.")
        return Path(given)
    for path in sorted(root.glob("*.csv")):
        if path.name == "sections.csv":
            continue
        try:
            with path.open(encoding="utf-8-sig", errors="replace") as stream:
                header = [name.strip().strip('"') for name in stream.readline().split(",")]
        except OSError:
            continue
        if "patient" in header and any(name in header for name in _ID_COLUMNS):
            return path
    return None


def _read_metadata(path: Path) -> dict[str, str]:
    table = _read_table(path)
    column = _id_column(table, path)
    if "patient" not in table:
        raise UserError(f"Expected a column 'patient' in {path}, received {', '.join(table.columns[:8])}; add it.")
    if "dataset_title" in table:  # HEST: "Patient 1" of two studies are two people
        named = table["patient"] != ""
        table.loc[named, "patient"] = table["dataset_title"][named] + " / " + table["patient"][named]
    return _patients(table, column)


def _read_table(path: Path) -> pd.DataFrame:
    """A CSV of strings; HEST's starts with a byte order mark, which would hide the first column's name."""
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"Expected a CSV table at {path}, cannot read it ({error}); mend or remove it.") from error
    table.columns = table.columns.str.strip()
    return table.apply(lambda column: column.str.strip())


def _id_column(table: pd.DataFrame, path: Path) -> str:
    for name in _ID_COLUMNS:
        if name in table:
            return name
    raise UserError(
        f"Expected a column naming the section ({', '.join(_ID_COLUMNS)}) in {path}, "
        f"received {', '.join(map(str, table.columns[:8]))}; rename one."
    )


def _patients(table: pd.DataFrame, column: str) -> dict[str, str]:
    known = table[~table["patient"].str.lower().isin(["", "nan", "none"])]
    return dict(zip(known[column], known["patient"], strict=True))


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
