"""What a report is made from: all results, their blocks of comparable runs, and what the reader asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from agl.analysis.comparisons import Comparisons, compare
from agl.analysis.methods import Reference, find_method, matched_reference, reference
from agl.analysis.results import Results, read_results
from agl.analysis.searches import SearchStudy, find_searches
from agl.analysis.statistics import MARGIN
from agl.analysis.units import UNITS
from agl.errors import UserError
from agl.reporting.style import MethodStyle, method_styles
from agl.runs.folder import find_runs


@dataclass(frozen=True)
class ReportOptions:
    """What the reader asked for beside the defaults.

    Attributes:
        baseline: what methods are compared with, see `agl.analysis.methods.reference`.
        method: the one looked at gene by gene and on the tissue; None: that of the highest mean.
        genes, slides: for the maps; empty: see `agl.reporting.figures.maps.draw_maps`.
        unit: of the statistics: auto, patient or slide.
        margin: of SCC below which a difference is none.
        gene_sets: name -> genes, whose means are scored, too.
    """

    baseline: str | None = None
    method: str | None = None
    genes: tuple[str, ...] = ()
    slides: tuple[str, ...] = ()
    unit: str = "auto"
    margin: float = MARGIN
    gene_sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UserError(f"Expected --unit {', '.join(UNITS)}, received {self.unit!r}.")
        if not 0 < self.margin < 1:
            raise UserError(f"Expected --margin between 0 and 1, received {self.margin}; the SCC lies in [-1, 1].")


class Compared(NamedTuple):
    """One family of comparisons of a block: its name in file names, the baseline in words, the numbers."""

    name: str
    against: str
    reference: Reference
    comparisons: Comparisons


@dataclass(frozen=True)
class RunBlock:
    """Runs that may be compared (same spots, split and primary genes), and where what is drawn of them goes.

    Attributes:
        results: of all blocks.
        name: of this one.
        folder: the report's.
        styles: method -> its colour and marker.
        reference: what each method is compared with; None where there is nothing to compare.
        method: the one looked at gene by gene and on the tissue.
        options: what the reader asked for.
    """

    results: Results
    name: str
    folder: Path
    styles: dict[str, MethodStyle]
    reference: Reference | None
    method: str
    options: ReportOptions

    @property
    def frame(self) -> pd.DataFrame:
        """Its runs."""
        return self.results.frame[self.results.frame.block == self.name]

    @property
    def cells(self) -> pd.DataFrame:
        """Its scores per gene and slide."""
        return self.results.cells[self.results.cells.block == self.name]

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.folder / "figures"

    @cached_property
    def compared(self) -> list[Compared]:
        """Every method against the baseline, and methods with auxiliary genes against themselves without."""
        asked = [] if self.reference is None else [("differences", self.reference.words, self.reference)]
        matched = matched_reference(self.frame)
        if matched is not None and (self.reference is None or matched.of != self.reference.of):
            asked.append(("differences-matched", "the same method without auxiliary genes", matched))
        if self.cells.empty:
            return []
        asked_of = partial(compare, self.results, self.name, unit=self.options.unit, margin=self.options.margin)
        found = [(*each, asked_of(each[2])) for each in asked]
        return [Compared(*each) for each in found if len(each[-1].table)]


@dataclass(frozen=True)
class ReportInput:
    """All there is to report.

    Attributes:
        results: of every run.
        blocks: of comparable runs.
        searches: grids and searches that the runs belong to.
        folder: the report's.
        options: what the reader asked for.
        notes: sentences about what could not be read.
    """

    results: Results
    blocks: list[RunBlock]
    searches: list[SearchStudy]
    folder: Path
    options: ReportOptions
    notes: list[str] = field(default_factory=list)

    @property
    def several(self) -> bool:
        """Whether a title has to say which block it speaks of."""
        return len(self.blocks) > 1

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.folder / "figures"


def read_input(folders: Sequence[str | Path], folder: Path, options: ReportOptions | None = None) -> ReportInput:
    """Read all finished runs in and below `folders`, for a report in `folder`.

    Raises:
        UserError: no finished runs; a baseline or method that no block has.
    """
    options = options or ReportOptions()
    results = read_results(find_runs(*folders))
    searches, notes = find_searches([Path(each) for each in folders])
    return ReportInput(results, _blocks(folder, results, options), searches, folder, options, [*results.notes, *notes])


def _blocks(folder: Path, results: Results, options: ReportOptions) -> list[RunBlock]:
    """Every block with its baseline and the method looked at. A baseline must exist in one block at least."""
    styles = method_styles(name for block in results.blocks for name in results.methods(block))
    blocks, errors = [], []
    for name in results.blocks:
        frame = results.frame[results.frame.block == name]
        try:
            against: Reference | None = reference(frame, options.baseline)
        except UserError as error:
            against = None
            errors.append(error)
        method = _method_in_focus(results, name, against, options)
        blocks.append(RunBlock(results, name, folder, styles, against, method, options))
    if len(errors) == len(blocks):
        raise errors[0]
    return blocks


def _method_in_focus(results: Results, block: str, against: Reference | None, options: ReportOptions) -> str:
    """The method asked for, else the highest mean that is compared with something, else the highest mean."""
    if options.method is not None:
        return find_method(results.frame[results.frame.block == block], options.method)
    order = results.methods(block)
    return next((name for name in order if against is not None and name in against.of), order[0])
