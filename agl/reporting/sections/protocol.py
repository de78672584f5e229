"""What a reader must know to believe a number: protocol, leak audit, provenance."""

from __future__ import annotations

import pandas as pd
import yaml

from agl.analysis import audit
from agl.reporting.inputs import ReportInput, RunBlock
from agl.reporting.parts import FOLD_FROM, Listing, PageSection, Table, Text, write_csv
from agl.reporting.style import file_name

CONFIGS = 12  # resolved configs printed in the page


def protocol(block: RunBlock) -> PageSection:
    """How the numbers were made, and who was on both sides of a split."""
    section = PageSection("Protocol and leak audit")
    results = block.results
    said = audit.protocol(results, block.name)
    section.items.append(Table("Protocol", pd.DataFrame({"question": said.keys(), "answer": said.values()})))
    table, warnings = audit.leak_audit(results, block.name)
    section.items += [Text(words, warning=True) for words in warnings]
    if len(table):
        csv = write_csv(block.folder, file_name("leak-audit", block.name), table)
        note = "Training side: training and validation spots of the fold's first run."
        section.items.append(Table("Leak audit", table.astype(str), note=note, csv=csv, folded=len(table) > 12))
    differing = audit.differing_settings(results, block.name)
    if len(differing):
        note = "A difference between methods may come from these instead of from what they are named by."
        section.items.append(Table("Settings that differ between methods", differing, note=note, folded=True))
    return section


def provenance(report: ReportInput) -> PageSection:
    """Every run's code, machine, time and memory, and the resolved config of every method."""
    section = PageSection("Provenance")
    results = report.results
    table = audit.provenance_table(results)
    csv = write_csv(report.folder, "provenance", table)
    rows, warnings = audit.provenance_summary(table)
    section.items += [Text(words, warning=True) for words in warnings]
    rows = rows if rows.block.nunique() > 1 else rows.drop(columns="block")
    note = "The file has every run with its data and split checksums, versions, time, memory and command."
    section.items.append(Table("", rows.astype(str), note=note, csv=csv, folded=len(rows) > FOLD_FROM))
    first = results.frame.drop_duplicates(["block", "method"]).head(CONFIGS)
    for position, row in first.iterrows():
        text = yaml.safe_dump(results.runs[int(str(position))].config.to_dict(), sort_keys=False)
        section.items.append(Listing(f"Resolved config of {row.method}, fold {row.fold}, seed {row.seed}", text))
    return section
