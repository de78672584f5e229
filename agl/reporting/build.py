"""From run folders to a report folder, without training: report.html, report.md, figures/ and tables/."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from agl.errors import UserError
from agl.leftovers import replace_folder, sweep, temporary
from agl.reporting.inputs import ReportInput, ReportOptions, read_input
from agl.reporting.making import make_sections, section_makers
from agl.reporting.page import to_html, to_markdown
from agl.reporting.parts import PageSection, write_csv

FOOTER = (
    "Made by agl report from run folders alone. All tables (tables/) and figures (figures/) lie beside this page; it "
    "is whole without them."
)


def write_report(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    sections: Sequence[str] = (),
    options: ReportOptions | None = None,
    title: str | None = None,
) -> Path:
    """Write the report on all finished runs in and below some folders; the path of its page.

    Args:
        out: the report's folder, default FOLDER/report; an earlier report there is replaced as a whole.
        sections: names of report sections in the order of the page, see `agl.reporting.making`; default: the built-in
            ones.
        options: what methods are compared with, what is looked at closely.
        title: default: the studies' names.

    Raises:
        UserError: no finished runs; a section, baseline, method, gene or slide that does not exist; an `out` that holds
            something else.
    """
    makers = section_makers(sections)
    target = Path(out) if out is not None else Path(folders[0]) / "report"
    if target.exists() and not (target / "report.html").is_file() and (target.is_file() or any(target.iterdir())):
        raise UserError(f"Expected a new folder or an earlier report at {target}, found something else. Set --out.")
    part = temporary(target, "partial")
    report = read_input(folders, part, options)
    sweep(target.parent, f".{target.name}.*")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _write(report, make_sections(makers, report), title or " + ".join(dict.fromkeys(report.results.frame.study)))
        replace_folder(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target / "report.html"


def _write(report: ReportInput, sections: list[PageSection], title: str) -> None:
    """The page, its Markdown, and the two tables that everything else is computed from."""
    results, folder = report.results, report.folder
    n = len(results.runs)
    subtitle = (
        f"{n} finished run{'s' * (n != 1)} of {results.frame.method.nunique()} methods on "
        f"{', '.join(dict.fromkeys(results.frame.data))}."
    )
    page = to_html(title, subtitle, sections, report.blocks[0].styles, FOOTER, folder)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "report.md").write_text(to_markdown(title, subtitle, sections, FOOTER), encoding="utf-8")
    write_csv(folder, "runs", results.frame)
    write_csv(folder, "per_gene", results.cells.drop(columns="run"))
