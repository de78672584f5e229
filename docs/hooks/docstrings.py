"""Docstrings of the packages as the site wants them: formulas for `.. math::`, code for examples."""

from __future__ import annotations

import re
from typing import Any

import griffe

MATH = re.compile(r"^\.\. math:: ?(?P<first>.*)\n(?P<rest>(?:[ \t]+\S.*\n?|(?=\n)\n(?=[ \t]+\S))*)", re.MULTILINE)

EXAMPLE = re.compile(r"^>>> (?:.*\S.*\n?)+", re.MULTILINE)


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


def as_code(text: str) -> str:
    """
    >>> print(as_code("Before\\n\\n>>> 1 + 1\\n2\\n\\nafter"))
    Before
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    <BLANKLINE>
    after
    """
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)


class Formulas(griffe.Extension):
    """Called by griffe for every object with a docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_code(as_formulas(obj.docstring.value))
