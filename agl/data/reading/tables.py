"""Small tables that people write by hand or save from a spreadsheet: sections, metadata, splits."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from agl.errors import DataError, UserError

_LARGEST = 64 << 20  # bytes; HEST's table of all sections has less than one million
_START = 1 << 16  # bytes that hold any header
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Line:
    """One line: its number in the file, counted from 1 as editors do, and its stripped values by column."""

    number: int
    values: dict[str, str]


@dataclass(frozen=True)
class TextTable:
    """A table of words. Columns are found whatever their letter case."""

    path: Path
    columns: tuple[str, ...]
    lines: tuple[Line, ...]

    def column(self, *names: str) -> str | None:
        """The first of these columns that there is, as the file spells it."""
        spelled = {column.casefold(): column for column in self.columns}
        return next((spelled[name] for name in names if name in spelled), None)

    def values(self, column: str) -> Iterator[tuple[int, str]]:
        """(line number, value) of a column, blank values left out."""
        return ((line.number, line.values[column]) for line in self.lines if line.values[column])


def read_text_table(path: Path) -> TextTable:
    """Read a table with a header, whatever the spreadsheet: byte order mark, Windows line ends, `,` `;` or tab, UTF-16.

    Blank lines are left out. Fields that a line lacks are empty, and only empty ones may be too many.

    Raises:
        DataError: a file that cannot be read or is no text, no header, a column twice, a line of another length.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as d:
    ...     _ = (Path(d) / "t.csv").write_bytes(b"\\xef\\xbb\\xbfsection;patient\\r\\nS1; P1 \\r\\n\\r\\n")
    ...     read_text_table(Path(d) / "t.csv").lines
    (Line(number=2, values={'section': 'S1', 'patient': 'P1'}),)
    """
    rows = _rows(path, _text(path))
    _, header = next(rows, (0, []))
    while header and not header[-1]:
        header.pop()
    if not header:
        raise DataError(f"Expected a table with a header at {path}, found it empty; write it again or remove it.")
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise DataError(f"Expected each column once in {path}, found {twice[0]!r} twice; rename or remove one.")
    lines = []
    for number, fields in rows:
        if any(fields[len(header) :]):
            raise DataError(
                f"Expected {len(header)} fields in every line of {path}, received {len(fields)} in line {number}; "
                "mend the line."
            )
        lines.append(Line(number, dict(zip_longest(header, fields[: len(header)], fillvalue=""))))
    return TextTable(path, tuple(header), tuple(lines))


def header_of(path: Path) -> tuple[str, ...]:
    """The columns of a table, of which only the beginning is read; () for what is none."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_START)
        return next((tuple(fields) for _, fields in _rows(path, _decoded(start, "ignore").partition("\n")[0])), ())
    except (OSError, UnicodeError, UserError):
        return ()


def _decoded(content: bytes, errors: str = "strict") -> str:
    return content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig", errors)


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise DataError(f"Expected a table at {path}, found no file; check the path.")
        if path.stat().st_size > _LARGEST:
            raise DataError(f"Expected a table of sections at {path}, received {path.stat().st_size:,} bytes.")
        text = _decoded(path.read_bytes())
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"Expected a table of text at {path}, cannot read it ({_short(error)}); save it as CSV in UTF-8."
        ) from error
    if "\0" in text:
        raise DataError(f"Expected a table of text at {path}, received binary data; save it as CSV in UTF-8.")
    return text


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, stripped fields) of every line that is not blank."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=header.count)  # the first of equals: a table of one column has none
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if any(stripped):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise DataError(
            f"Expected a CSV table at {path}, line {reader.line_num} cannot be read ({error}); mend or remove it."
        ) from error


def _short(error: Exception) -> str:
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"[:80]
