"""Whose the sections are: one name for all, or a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agl.data.reading.patients import id_column
from agl.data.reading.spelling import clean, find_slide
from agl.data.reading.tables import read_text_table
from agl.errors import UserError
from agl.places import shortened, unwritable

_TABLES = (".csv", ".tsv", ".txt")


def patients_of(sections: Sequence[str], given: str | Path | Mapping[str, str] | None) -> dict[str, str]:
    """Section -> patient; "" where nobody said. `given`: a name, a table with the columns section and patient, a dict.

    Raises:
        UserError: a table without these columns, or without a section.

    >>> patients_of(["S1", "S2"], "P1")
    {'S1': 'P1', 'S2': 'P1'}
    """
    if given is None:
        return dict.fromkeys(sections, "")
    if isinstance(given, Mapping):
        named = {str(section): clean(patient) for section, patient in given.items()}
        where = "the patients given"
    elif Path(given).suffix.lower() in _TABLES:
        named, where = _in_table(Path(given), sections), str(given)
    else:
        named, where = dict.fromkeys(sections, clean(given)), "--patient"
    for name in named.values():
        if wrong := unwritable(name):
            raise UserError(f"Expected a patient's name, received {shortened(name)}, which {wrong}; give another.")
    missing = [section for section in sections if not named.get(section)]
    if missing:
        raise UserError(f"Expected a patient for every section in {where}, section '{missing[0]}' has none; add it.")
    return {section: named[section] for section in sections}


def _in_table(path: Path, sections: Sequence[str]) -> dict[str, str]:
    table = read_text_table(path)
    section, patient = id_column(table), table.column("patient")
    if patient is None:
        raise UserError(
            f"Expected a column 'patient' in {path}, received {', '.join(table.columns[:8])}; add it beside {section}."
        )
    found = {}
    for line in table.lines:
        if name := find_slide(line.values[section], sections):
            found[name] = clean(line.values[patient])
    return found
