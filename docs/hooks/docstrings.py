"""Docstrings of the packages as the site wants them: `.. math::` blocks become formulas."""

from __future__ import annotations

import re
from typing import Any

import griffe

MATH = re.compile(r"^\.\. math:: ?(?P<first>.*)\n(?P<rest>(?:[ \t]+\S.*\n?|(?=\n)\n(?=[ \t]+\S))*)", re.MULTILINE)


def as_formulas(text: str) -> str:
    """
    >>> print(as_formulas("Before\\n\\n.. math:: a = b,\\n          c\\n\\nafter"))
    Before
    <BLANKLINE>
    $$
    a = b,
    c
    $$
    <BLANKLINE>
    after
    """

    def formula(found: re.Match[str]) -> str:
        lines = [found["first"], *found["rest"].splitlines()]
        return "\n".join(["$$", *(line.strip() for line in lines if line.strip()), "$$", ""])

    return MATH.sub(formula, text)


class Formulas(griffe.Extension):
    """Called by griffe for every object with a docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_formulas(obj.docstring.value)
