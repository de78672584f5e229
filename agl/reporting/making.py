"""A report's sections by name: functions of a block of runs or of the whole report, ours or in a file of yours.

    from agl.reporting.parts import Text

    def fastest(block):
        row = block.frame.loc[block.frame.scc.idxmax()]
        return [Text(f"{row.method} has the best single run, SCC {row.scc:.3f}.")]

`agl report runs --section all --section mine.py:fastest` adds it to the page.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

from agl import registry
from agl.errors import UserError
from agl.reporting.inputs import ReportInput
from agl.reporting.parts import Item, PageSection

KIND = "report_section"
ALL = "all"
WITHOUT_DEFAULT = inspect.Parameter.empty


@dataclass(frozen=True)
class SectionMaker:
    """One section: its name, its function, and what that is a function of."""

    name: str
    function: Callable[..., Any]
    of: Literal["block", "report"]

    def make(self, given: Any) -> list[PageSection]:
        """The function's answer as sections of the page; those that have nothing to say are left out."""
        answer = self.function(**{self.of: given})
        found = [answer] if isinstance(answer, PageSection) else answer
        if found is None:
            return []
        if isinstance(found, (list, tuple)):
            if found and all(isinstance(part, Item) for part in found):
                return [PageSection(self.title, list(found))]
            if all(isinstance(part, PageSection) for part in found):
                return [part for part in found if part.items]
        raise UserError(
            "Expected a PageSection or a list of Text, Answers, Table, Listing and SavedFigure from the report "
            f"section {self.name!r}, received {type(answer).__name__}; return one of these (see agl.reporting.parts)."
        )

    @property
    def title(self) -> str:
        """The heading where the function gives none: its own name."""
        words = getattr(self.function, "__name__", self.name).replace("_", " ").strip()
        return words[:1].upper() + words[1:]


def section_makers(names: Sequence[str] = ()) -> list[SectionMaker]:
    """The sections of these names, in this order; `all` stands for the built-in ones, which are the default.

    Raises:
        UserError: an unknown name; a function that takes neither `block` nor `report`, or needs more than that.
    """
    known = registry.names(KIND)
    wanted = [each for name in names or [ALL] for each in (known if name == ALL else [name])]
    return [section_maker(name) for name in dict.fromkeys(wanted)]


def section_maker(name: str) -> SectionMaker:
    """The section of one name."""
    return as_maker(registry.find(KIND, name), name)


def as_maker(function: Callable[..., Any], name: str = "") -> SectionMaker:
    """A function as a section, checked."""
    name = name or getattr(function, "__name__", repr(function))
    parameters = inspect.signature(function).parameters
    needed = {
        word
        for word, parameter in parameters.items()
        if parameter.default is WITHOUT_DEFAULT
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    if needed == {"block"}:
        return SectionMaker(name, function, "block")
    if needed == {"report"}:
        return SectionMaker(name, function, "report")
    raise UserError(
        f"Expected a report section to take `block` (called for every block of comparable runs) or `report` (called "
        f"once), received {name!r}, which takes {', '.join(parameters) or 'nothing'}; rename its argument, give the "
        "others a default."
    )


def make_sections(makers: Sequence[SectionMaker], report: ReportInput) -> list[PageSection]:
    """All sections in order. Neighbours that are made of blocks come block by block, and say which block it is."""
    found: list[PageSection] = []
    for of, neighbours in groupby(makers, key=lambda maker: maker.of):
        together = list(neighbours)
        if of == "report":
            found += [section for maker in together for section in maker.make(report)]
            continue
        for block in report.blocks:
            for section in (section for maker in together for section in maker.make(block)):
                found.append(replace(section, chapter=block.name if report.several else section.chapter))
    return found
