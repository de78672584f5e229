"""From run folders to a report folder, without training: report.html, report.md, figures/ and tables/."""

from __future__ import annotations

import shutil
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from agl.analysis import audit
from agl.analysis.comparisons import UNITS, Comparisons
from agl.analysis.material import Material, read_material
from agl.analysis.methods import Reference, find_method, reference
from agl.analysis.searches import SearchStudy, find_searches
from agl.analysis.tables import mean_sd
from agl.errors import UserError
from agl.report import sections
from agl.report.block import Block, Wishes
from agl.report.content import Listing, Section, Table, Text, number, write_csv
from agl.report.figures_search import draw_search
from agl.report.page import to_html, to_markdown
from agl.report.style import file_name, looks
from agl.runs.folder import find_runs

CONFIGS = 12  # resolved configs printed in the page


def write_report(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    baseline: str | None = None,
    method: str | None = None,
    genes: Sequence[str] = (),
    slides: Sequence[str] = (),
    unit: str = "auto",
    title: str | None = None,
) -> Path:
    """Write the report on all finished runs in and below some folders; the path of its page.

    Args:
        out: the report's folder, default FOLDER/report; an earlier report there is replaced as a whole.
        baseline: what methods are compared with, see `agl.analysis.methods.reference`.
        method: the one looked at gene by gene and on the tissue; default: that of the highest mean.
        genes, slides: for the maps; default: see `agl.report.maps.draw_maps`.
        unit: of the statistics: auto, patient or slide.

    Raises:
        UserError: no finished runs; a baseline, method, gene or slide that does not exist; an `out` that holds
            something else.
    """
    if unit not in UNITS:
        raise UserError(f"Expected --unit {', '.join(UNITS)}, received {unit!r}.")
    target = Path(out) if out is not None else Path(folders[0]) / "report"
    if target.exists() and not (target / "report.html").is_file() and (target.is_file() or any(target.iterdir())):
        raise UserError(f"Expected a new folder or an earlier report at {target}, found something else. Set --out.")
    material = read_material(find_runs(*folders))
    searches, notes = find_searches([Path(folder) for folder in folders])
    wishes = Wishes(baseline, method, tuple(genes), tuple(slides), unit)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        name = title or " + ".join(dict.fromkeys(material.frame.study))
        _write(part, material, searches, [*material.notes, *notes], wishes, name)
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target / "report.html"


def _write(
    folder: Path, material: Material, searches: list[SearchStudy], notes: list[str], wishes: Wishes, title: str
) -> None:
    blocks = _blocks(folder, material, wishes)
    several = len(blocks) > 1
    short, found = Section("In short"), []
    for block in blocks:
        parts = [sections.scores(block)]
        compared, tables = sections.differences(block)
        parts += [compared, sections.genes(block), sections.maps(block), sections.selection(block)]
        parts.append(sections.stains(block))
        short.items += [Text(words) for words in in_short(block, tables, several)]
        for part in parts:
            if part.items:
                part.title += f" · {block.name}" if several else ""
                found.append(part)
    short.items += [Text(note, warning=True) for note in notes]
    found += [_search(study, material, folder) for study in searches]
    found += [_trust(material, block, folder, several) for block in blocks]
    found.append(_provenance(material, folder))
    n = len(material.runs)
    subtitle = (
        f"{n} finished run{'s' * (n != 1)} of {material.frame.method.nunique()} methods on "
        f"{', '.join(dict.fromkeys(material.frame.data))}."
    )
    footer = "Made by agl report from run folders alone. All tables are in tables/, all figures in figures/."
    page = to_html(title, subtitle, [short, *found], blocks[0].look, footer)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "report.md").write_text(to_markdown(title, subtitle, [short, *found], footer), encoding="utf-8")
    write_csv(folder, "runs", material.frame)
    write_csv(folder, "per_gene", material.cells.drop(columns="run"))


def _blocks(folder: Path, material: Material, wishes: Wishes) -> list[Block]:
    """Every block with its baseline and the method looked at. A wish must come true in one block at least."""
    look = looks(name for block in material.blocks for name in material.methods(block))
    blocks, errors = [], []
    for name in material.blocks:
        frame = material.frame[material.frame.block == name]
        try:
            against: Reference | None = reference(frame, wishes.baseline)
        except UserError as error:
            against = None
            errors.append(error)
        blocks.append(Block(material, name, folder, look, against, _looked_at(material, name, against, wishes), wishes))
    if len(errors) == len(blocks):
        raise errors[0]
    return blocks


def _looked_at(material: Material, block: str, against: Reference | None, wishes: Wishes) -> str:
    """The method asked for, else the highest mean that is compared with something, else the highest mean."""
    if wishes.method is not None:
        return find_method(material.frame[material.frame.block == block], wishes.method)
    order = material.methods(block)
    return next((name for name in order if against is not None and name in against.of), order[0])


def in_short(block: Block, tables: list[Comparisons], several: bool) -> list[str]:
    """The block's answer in a few sentences, with what it may claim."""
    frame = block.frame
    best = block.material.methods(block.name)[0]
    runs = frame[frame.method == best]
    mean = number(float(runs.groupby("fold", dropna=False).scc.mean().mean()))
    on = f"On {block.name}, {best}" if several else f"{best[:1].upper()}{best[1:]}"
    words = [f"{on} has the highest mean, SCC {mean} per slide over {runs.fold.nunique()} folds."]
    for compared in tables:
        claims = compared.table[compared.table.verdict.isin(["better", "worse"])]
        words += [_claim(row, compared.unit) for row in claims.to_dict("records")]
        if claims.empty:
            words.append(_claim(compared.table.to_dict("records")[0], compared.unit))
    return words


def _claim(row: dict[Hashable, Any], unit: str) -> str:
    """One comparison in a sentence."""
    n = row["n"]
    size = f"{number(row['difference'], sign=True)} SCC over {n} {unit}{'s' * (n != 1)}"
    if row["verdict"] in ("better", "worse"):
        p = number(row["p_holm"])
        return (
            f"{row['method']} ranks {row['verdict']} than {row['baseline']}: {size}, p = {p} after Holm's correction."
        )
    return f"{row['method']} against {row['baseline']}: {size}; {row['verdict']}."


def _search(study: SearchStudy, material: Material, folder: Path) -> Section:
    section = Section(f"{'Search' if study.kind == 'search' else 'Grid'} {study.name}")
    states = ", ".join(f"{n} {state}" for state, n in study.states().items())
    section.items.append(Text(f"Trials: {states}."))
    failed = study.trials[(study.trials.state == "FAIL") & (study.trials.error != "")]
    if len(failed):
        rows = pd.DataFrame({"trial": failed.number.astype(str), "error": failed.error.astype(str)})
        section.items.append(Table("Failed", rows, folded=len(rows) > 5))
    csv = write_csv(folder, file_name("trials", study.name), study.trials.drop(columns="runs"))
    if study.kind != "search" or study.best is None:
        return section
    best = study.best
    words = ", ".join(f"{name} = {_shown(best[name])}" for name in study.parameters)
    values = ", ".join(f"{name} {number(float(best[name]))}" for name in study.objectives)
    section.items.append(Text(f"Best on the objective: trial {best['number']} ({values}) with {words}."))
    tested = material.frame[material.frame.folder.map(lambda folder: Path(folder).name).isin(best["runs"])]
    if len(tested):
        by_fold = tested.groupby("fold", dropna=False).scc.mean()
        score = mean_sd(float(by_fold.mean()), float(tested.scc.std(ddof=1)))
        section.items.append(Text(f"Its SCC on the test spots: {score} over {len(tested)} runs."))
    section.items.append(
        Text(
            "The search chose by validation spots, averaged over its folds. Where these folds share patients, a test "
            "patient of one is a validation patient of another, and the test score of the chosen trial is optimistic: "
            "search on one fold (fold=0) for an honest one. The highest test score among the trials is no estimate: "
            "report the test score of the trial that the validation chose.",
            warning=True,
        )
    )
    section.items += draw_search(study, folder / "figures")
    shown = study.complete.sort_values(
        next(iter(study.objectives)), ascending=not next(iter(study.objectives.values()))
    )
    columns = ["number", *study.objectives, *study.parameters]
    rows = shown[columns].head(15).map(_shown)
    section.items.append(Table("The best trials", rows.reset_index(drop=True), csv=csv, folded=True))
    return section


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _trust(material: Material, block: Block, folder: Path, several: bool) -> Section:
    """Leak audit and protocol."""
    section = Section("Protocol and leak audit" + (f" · {block.name}" if several else ""))
    said = audit.protocol(material, block.name)
    section.items.append(Table("Protocol", pd.DataFrame({"question": said.keys(), "answer": said.values()})))
    table, warnings = audit.leak_audit(material, block.name)
    section.items += [Text(words, warning=True) for words in warnings]
    if len(table):
        csv = write_csv(folder, file_name("leak-audit", block.name), table)
        note = "Training side: training and validation spots of the fold's first run."
        section.items.append(Table("Leak audit", table.astype(str), note=note, csv=csv, folded=len(table) > 12))
    differing = audit.differing_settings(material, block.name)
    if len(differing):
        note = "A difference between methods may come from these instead of from what they are named by."
        section.items.append(Table("Settings that differ between methods", differing, note=note, folded=True))
    return section


def _provenance(material: Material, folder: Path) -> Section:
    section = Section("Provenance")
    table = audit.provenance_table(material)
    csv = write_csv(folder, "provenance", table)
    rows, warnings = audit.provenance_summary(table)
    section.items += [Text(words, warning=True) for words in warnings]
    rows = rows if rows.block.nunique() > 1 else rows.drop(columns="block")
    note = "The file has every run with its data and split checksums, versions, time, memory and command."
    section.items.append(Table("", rows.astype(str), note=note, csv=csv, folded=len(rows) > sections.FOLD_FROM))
    first = material.frame.drop_duplicates(["block", "method"]).head(CONFIGS)
    for position, row in first.iterrows():
        text = yaml.safe_dump(material.runs[int(str(position))].config.to_dict(), sort_keys=False)
        section.items.append(Listing(f"Resolved config of {row.method}, fold {row.fold}, seed {row.seed}", text))
    return section
