"""Whose section is it? What obs, sections.csv, a metadata table and HEST's own file say, and whether they agree."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agl.data.reading.columns import ColumnTable
from agl.data.reading.hdf5 import open_h5
from agl.data.reading.names import nearest
from agl.data.reading.spelling import alike, clean, find_slide, key, one_spelling
from agl.data.reading.tables import TextTable, header_of, read_text_table
from agl.errors import DataError

OBS, ALONE = "obs['patient']", "slide name"
ID_COLUMNS = ("section", "slide", "sample_id", "id", "sample")
_PATIENT, _STUDY = "patient", "dataset_title"


@dataclass(frozen=True)
class Claim:
    """A patient as one place names it. `study`: HEST numbers patients anew in every `dataset_title`."""

    patient: str
    source: str
    line: int | None = None
    study: str = ""

    @property
    def name(self) -> str:
        return f"{self.study} / {self.patient}" if self.study else self.patient

    @property
    def place(self) -> str:
        return self.source if self.line is None else f"{self.source}, line {self.line}"

    def agrees(self, other: Claim) -> bool:
        """Whether both may mean one person: alike in the study, or where one of them knows of no study."""
        names = [(self.name, other.name), (self.patient, other.name), (self.name, other.patient)]
        return any(key(a) == key(b) for a, b in names)


@dataclass(frozen=True)
class PatientTables:
    """What the tables beside the sections say of each slide: `sections.csv` first, then the metadata table."""

    listed: dict[str, Claim]
    described: dict[str, Claim]

    @classmethod
    def read(cls, slides: Collection[str], sections_csv: Path | None, metadata: Path | None) -> PatientTables:
        """Read both where they are.

        Raises:
            DataError: a table that cannot be read or does not say which section or patient; two patients of one
                section in a table; in sections.csv, a section that has no file.
        """
        listed, described = {}, {}
        if sections_csv is not None:
            table = read_text_table(sections_csv)
            listed = _claims(table, slides, every=True) if table.column(_PATIENT) else _names_checked(table, slides)
        if metadata is not None:
            described = _claims(read_text_table(metadata), slides, every=False)
        return cls(listed, described)


def patient_of(slide: str, counts: Path, about: Path | None, tables: PatientTables) -> tuple[str, str]:
    """(patient, where the name was found) of one section: in `obs`, sections.csv, the metadata, or HEST's JSON.

    Raises:
        DataError: places that contradict each other, several patients in one section, a file that cannot be read.
    """
    own = patient_in_obs(slide, counts)
    claims = [Claim(own, OBS)] if own else []
    claims += [table[slide] for table in (tables.listed, tables.described) if slide in table]
    if about is not None:
        claims += _in_json(about)
    for claim in claims[1:]:
        _refuse_contradiction(slide, claims[0], claim)
    return (claims[0].name, claims[0].source) if claims else (slide, ALONE)


def patient_in_obs(slide: str, counts: Path) -> str | None:
    """The patient in the h5ad's `obs`, None without one; more than one patient in a section is an error."""
    with open_h5(counts, "an h5ad file") as h5:
        obs = h5.get("obs")
        if not hasattr(obs, "keys") or _PATIENT not in obs:
            return None
        names = set(ColumnTable(h5, "obs", slide).text(_PATIENT))
    patients = sorted({clean(name) for name in names} - {""})
    if len(patients) > 1:
        raise DataError(
            f"Expected one patient in a section, section '{slide}' has {len(patients)} in "
            f"{OBS} ({', '.join(patients[:3])}); save one h5ad per patient."
        )
    return patients[0] if patients else None


def in_one_spelling(owners: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(patient, source) of all sections, a number spelled 1 here and 01 there spelled the same everywhere."""
    spelled = one_spelling(patient for patient, source in owners if source != ALONE)
    return [(patient if source == ALONE else spelled[patient], source) for patient, source in owners]


def alike_warnings(patients: Iterable[str]) -> list[str]:
    """A sentence about each group of patients whose names differ in nothing but spelling."""
    return [
        f"Patients {' and '.join(map(repr, group))} look alike; if they are the same patient, spell them the same, for "
        "splits hold out patients by name."
        for group in alike(patients)
    ]


def names_patients(path: Path) -> bool:
    """Whether a table's header has a column for the section and one for the patient."""
    header = TextTable(path, header_of(path), ())
    return header.column(*ID_COLUMNS) is not None and header.column(_PATIENT) is not None


def id_column(table: TextTable) -> str:
    """The column that names the section."""
    column = table.column(*ID_COLUMNS)
    if column is None:
        raise DataError(
            f"Expected a column naming the section ({', '.join(ID_COLUMNS)}) in {table.path}, "
            f"received {', '.join(table.columns[:8])}; rename one."
        )
    return column


def _names_checked(table: TextTable, slides: Collection[str]) -> dict[str, Claim]:
    for _ in _by_slide(table, slides, every=True):
        pass
    return {}


def _by_slide(table: TextTable, slides: Collection[str], *, every: bool) -> Iterable[tuple[str, int, dict[str, str]]]:
    """(slide, line number, values) of the lines about known slides; with `every`, an unknown slide is an error."""
    column = id_column(table)
    for line in table.lines:
        name = line.values[column]
        slide = find_slide(name, slides) if name else None
        if slide is not None:
            yield slide, line.number, line.values
        elif every:
            raise DataError(
                f"Expected a file for every section in {table.path}, there is none for '{name}'; "
                f"remove the line or add the file.{nearest(name, slides)}"
            )


def _claims(table: TextTable, slides: Collection[str], *, every: bool) -> dict[str, Claim]:
    patient, study = table.column(_PATIENT), table.column(_STUDY)
    if patient is None:
        raise DataError(
            f"Expected a column 'patient' in {table.path}, received {', '.join(table.columns[:8])}; add it."
        )
    found: dict[str, Claim] = {}
    for slide, number, values in _by_slide(table, slides, every=every):
        if name := clean(values[patient]):
            title = clean(values[study]) if study and not every else ""
            claim = Claim(name, table.path.name, number, title)
            _refuse_contradiction(slide, found.setdefault(slide, claim), claim)
    return found


def _in_json(path: Path) -> list[Claim]:
    """HEST-1k's metadata/<id>.json, of which the keys patient and dataset_title are read."""
    try:
        about = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"Expected the metadata of a section as JSON in {path}, cannot read it ({type(error).__name__}); "
            "mend or remove it."
        ) from error
    if not isinstance(about, dict):
        raise DataError(f"Expected keys and values in {path}, received a {type(about).__name__}; mend or remove it.")
    patient, study = (
        clean(about[k]) if isinstance(about.get(k), str | int | float) else "" for k in (_PATIENT, _STUDY)
    )
    return [Claim(patient, f"{path.parent.name}/{path.name}", study=study)] if patient else []


def _refuse_contradiction(slide: str, first: Claim, other: Claim) -> None:
    if not first.agrees(other):
        raise DataError(
            f"Expected one patient for section '{slide}', received '{first.name}' in {first.place} and "
            f"'{other.name}' in {other.place}; make them agree, because splits hold out patients."
        )
