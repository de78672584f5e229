"""Does a section of a report fit? For ours, and for yours.

>>> from agl.reporting.parts import Text
>>> def runs(block):
...     return [Text(f"{len(block.frame)} runs.")]
>>> check_report_section(runs)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agl.errors import UserError
from agl.reporting.inputs import ReportInput, read_input
from agl.reporting.making import SectionMaker, as_maker, make_sections
from agl.reporting.page import to_html, to_markdown
from agl.reporting.parts import PageSection, Table
from agl.reporting.style import SavedFigure
from agl.testing.runs import (
    CANDIDATES,
    ExampleSlides,
    write_choice,
    write_curve,
    write_run,
    write_search,
    write_spread,
    write_stains,
)

LOST = [("predictions.npz", "panel.csv", "history.jsonl"), ("per_gene.csv", "provenance.json")]
SLIDES = ExampleSlides({"P0": ["S0", "S1"], "P1": ["S2"]})


def check_report_section(section: Callable[..., Any]) -> None:
    """Assert the contract of a report's section, a function of `block` or of `report`.

    It gives a `PageSection`, a list of them, or a list of texts, tables, listings and figures (nothing where it has
    nothing to say); the same twice; for a single run, and for runs whose other files are lost. It leaves the results
    as they are, its table cells are words, and the files it names exist, in `tables/` and `figures/` alone. Blocks of
    runs do not overwrite each other's files.
    """
    try:
        maker = as_maker(section)
    except UserError as error:
        raise AssertionError(str(error)) from None
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        runs = write_example(here / "runs")
        _check_answer(maker, read_input([runs], here / "first"), read_input([runs], here / "second"))
        few = write_example(here / "few", folds=[1])
        _check_blocks(maker, read_input([few, write_example(here / "others", folds=[1], key="another")], here / "both"))
        lone = write_run(here / "lone", SLIDES, "loss=mse", fold=1)
        _made(maker, read_input([lone], here / "one"), "a single run")
        for names in LOST:
            for file in (file for name in names for file in few.rglob(name)):
                file.unlink()
            _made(maker, read_input([few], here / f"without {names[0]}"), f"runs without {', '.join(names)}")


def write_example(root: Path, folds: Iterable[int] = (0, 1), key: str = "example") -> Path:
    """Something for every section: a method with a choice and a spread, one with a learned selection; a search."""
    slides = replace(SLIDES, key=key)
    plain, learned = ["loss=mse"], ["loss=mse", "auxiliary.genes=dkgsb"]
    runs = []
    for fold in folds:
        runs.append(write_run(root, slides, *plain, fold=fold, noise=1.5))
        write_choice(runs[-1])
        write_spread(runs[-1])
        for seed in (0, 1):
            chosen = CANDIDATES[: 10 + fold + seed]
            runs.append(write_run(root, slides, *learned, fold=fold, seed=seed, noise=0.5, chosen=chosen))
            write_stains(runs[-1])
            write_curve(runs[-1])
    write_search(root, runs)
    return root


def _made(maker: SectionMaker, report: ReportInput, what: str) -> list[PageSection]:
    try:
        found = make_sections([maker], report)
        to_html("title", "", found, {}, "", Path())
        to_markdown("title", "", found, "")
    except Exception as error:
        raise AssertionError(f"Expected a section of {what}, received {type(error).__name__}: {error}") from error
    for section in found:
        assert section.title.strip(), "Expected a title, received an empty one."
    return found


def _check_answer(maker: SectionMaker, first: ReportInput, second: ReportInput) -> None:
    before = first.results.frame.copy(), first.results.cells.copy()
    found = _made(maker, first, "a report")
    for name, old, new in zip(("frame", "cells"), before, (first.results.frame, first.results.cells), strict=True):
        assert old.equals(new), f"Expected the results' {name} as they were, found them changed; copy them first."
    for item in (item for section in found for item in section.items):
        for path in _files_of(item):
            assert (first.folder / path).is_file(), f"Expected the file {path} in the report's folder, found none."
        if isinstance(item, Table):
            _check_cells(item)
    strange = [str(path) for path in _files(first.folder) if path.parts[0] not in ("tables", "figures")]
    assert not strange, f"Expected files in tables/ and figures/ alone, found {strange[0]}."
    again = _made(maker, second, "a report")
    pages = [to_html("", "", sections, {}, "", Path()) for sections in (found, again)]
    assert pages[0] == pages[1], "Expected the same section twice, received another; seed what is random."
    for file in _files(first.folder):
        same = (first.folder / file).read_bytes() == (second.folder / file).read_bytes()
        assert same, f"Expected the same {file} twice, received another; seed what is random."


def _check_blocks(maker: SectionMaker, report: ReportInput) -> None:
    """What one block writes, no other writes anew."""
    if maker.of == "report":
        _made(maker, report, "two blocks")
        return
    parts = []
    for i, block in enumerate(report.blocks):
        own = replace(block, folder=report.folder.with_name(f"{report.folder.name} {i}"))
        maker.make(own)
        parts.append(set(_files(own.folder)))
    both = sorted(map(str, set.intersection(*parts)))
    assert not both, f"Expected files of its own for every block, received {both[0]} from both; name it by block.name."


def _check_cells(table: Table) -> None:
    wrong = [value for row in table.rows.itertuples(index=False) for value in row if not isinstance(value, str)]
    assert not wrong, (
        f"Expected a table's cells as words, received {wrong[0]!r}; format them (agl.reporting.parts.number)."
    )


def _files_of(item: object) -> Iterable[str]:
    if isinstance(item, SavedFigure):
        return [f"figures/{item.name}.{ending}" for ending in ("svg", "png", "csv")]
    return [item.csv] if isinstance(item, Table) and item.csv else []


def _files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
