"""One name in several spellings: what is silently the same, and what only looks alike.

The same without a word: white space at the ends or repeated, invisible characters, composed and decomposed letters, and
1.0 for 1, which tables make of a whole number in a column with a gap. Alike, and said: letter case, separators, leading
zeros, full-width characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

_MISSING = {"", "nan", "none", "na", "n/a", "null", "<na>"}
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_SEPARATOR = re.compile(r"[\W_]+")
_ENDINGS = (".h5ad", ".h5")


def clean(raw: object) -> str:
    """A name as it is compared and shown; "" for one that is missing.

    >>> [clean(name) for name in (" P1\\u200b ", "Patient\\u00a0 1", 1.0, "1.", "NaN", None, "1.50")]
    ['P1', 'Patient 1', '1', '1', '', '', '1.50']
    """
    text = unicodedata.normalize("NFC", "" if raw is None else str(raw))
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf")
    name = " ".join(visible.split())
    if name.lower() in _MISSING:
        return ""
    whole = _WHOLE.fullmatch(name)
    return whole.group(1) if whole else name


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """Cleaned name to the spelling used. Where all are whole numbers, 1 and 01 are one; a number alone stays as it is.

    >>> one_spelling(["01", "1", "02"]), one_spelling(["01", "1", "P2"])
    ({'01': '1', '1': '1', '02': '02'}, {'01': '01', '1': '1', 'P2': 'P2'})
    """
    numbers = {name: _number(name) for name in names}
    if None in numbers.values():
        return {name: name for name in numbers}
    several = Counter(numbers.values())
    return {name: number if number and several[number] > 1 else name for name, number in numbers.items()}


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different names that may be one: equal but for case, separators, leading zeros and character width.

    >>> alike(["Patient 1", "patient_01", "Patient 11", "P1-1", "P11"])
    [('Patient 1', 'patient_01')]
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(key(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def key(name: str) -> str:
    """What names that look alike have in common. A separator counts between two digits: 1-1 is not 11.

    >>> key("Ｐatient_01") == key("patient 1"), key("1-1") == key("11")
    (True, False)
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    parts = [part for part in _SEPARATOR.split(folded) if part]
    joined = "".join(
        (" " if before[-1:].isdigit() and part[:1].isdigit() else "") + part
        for before, part in zip(["", *parts], parts, strict=False)
    )
    bare = re.sub(r"(?<!\d)0+(?=\d)", "", joined)
    return bare or name  # names of signs alone are only like themselves


def find_slide(name: str, slides: Collection[str]) -> str | None:
    """The slide that a table means: by its name, its file's, or the number that a spreadsheet made of it.

    >>> find_slide(" S1.h5ad ", ["S1"]), find_slide("3.0", ["3"]), find_slide("1", ["01"]), find_slide("S3", ["S1"])
    ('S1', '3', '01', None)
    """
    if name in slides:
        return name
    wanted = clean(name)
    for ending in _ENDINGS:
        wanted = wanted.removesuffix(ending)
    by_name = {clean(slide): slide for slide in slides}
    if wanted in by_name:
        return by_name[wanted]
    if not _number(wanted):
        return None
    same = [slide for slide in slides if _number(slide) == _number(wanted)]  # a spreadsheet takes the zeros away
    return same[0] if len(same) == 1 else None


def _number(name: str) -> str | None:
    """The digits of a whole number without leading zeros; None for anything else."""
    return name.lstrip("0") or "0" if name.isascii() and name.isdigit() else None
