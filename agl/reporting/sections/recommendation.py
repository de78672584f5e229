"""The answer of `agl recommend`, where the runs belong to one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from agl.analysis.recommendation import QUESTIONS, Advice, read_findings
from agl.analysis.tables import OF_REACHABLE, percent
from agl.reporting.inputs import ReportInput
from agl.reporting.parts import PageSection, Table, Text, number, write_csv
from agl.studies.recommend import ANSWER


def recommendation(report: ReportInput) -> list[PageSection]:
    """What is recommended, how it was tested, and what may be concluded."""
    folders = dict.fromkeys(run.folder.parent for run in report.results.runs)
    found = []
    for folder in (folder for folder in folders if (folder / ANSWER).is_file()):
        findings = read_findings(folder)
        section = PageSection(f"Recommendation for {folder.name}")
        section.items += [Text(" ".join(findings.words)), *(Text(words, warning=True) for words in findings.cautions)]
        section.items.append(_methods(findings, write_csv(report.folder, "recommendation-methods", findings.methods)))
        section.items.append(_options(findings, write_csv(report.folder, "recommendation-options", findings.options)))
        found.append(section)
    return found


def _methods(findings: Advice, csv: str) -> Table:
    rows = [
        {
            "method": row["method"],
            "SCC per slide": number(row["scc"]),
            OF_REACHABLE: percent(row["share"]),
            "against ridge": number(row["difference"], sign=True),
            "higher in": f"{row['higher']}/{row['n']}" if row["n"] else "–",
        }
        for row in findings.methods.to_dict("records")
    ]
    note = (
        f"Test spots, mean over folds. Differences are paired by slide and gene; higher in: {findings.unit}s. Chosen "
        "inside: every fold's options were chosen on its training spots alone. Default: nothing is chosen. "
        "Permuted: the default on counts dealt out anew among the spots of each slide. Recommended is the simplest "
        "within one standard error of the best, so that its own score is a little optimistic."
    )
    return Table("Tested", pd.DataFrame(rows), note=note, csv=csv)


def _options(findings: Advice, csv: str) -> Table:
    rows = [
        {
            "question": QUESTIONS[str(row["question"])],
            "answer": row["answer"],
            "against the simplest": number(row["difference"], digits=4, sign=True),
            "higher in": f"{row['higher']}/{row['n']}" if np.isfinite(row["difference"]) else "–",
            "chosen in folds": f"{row['folds']}/{row['of']}",
            "from all spots": "yes" if row["chosen"] else "",
        }
        for row in findings.options.to_dict("records")
    ]
    note = (
        f"Differences on left-out {findings.inner}, averaged over the answers to all other questions; the simplest "
        "answer within one standard error of the best is taken. No test score had a part in this."
    )
    return Table("Chosen", pd.DataFrame(rows), note=note, csv=csv)
