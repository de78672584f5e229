"""What was chosen inside every fold, and the scores it was chosen by."""

from __future__ import annotations

import pandas as pd

from agl.analysis.choices import choices as choices_of
from agl.reporting.inputs import RunBlock
from agl.reporting.parts import PageSection, Table, Text, number, write_csv
from agl.reporting.style import file_name

NUMBERS = ("mean", "standard_error", "seconds", "chosen", "left_out")


def choices(block: RunBlock) -> PageSection:
    """Of configs that leave something open (`choose:`): each option on left-out training slides."""
    section = PageSection("Chosen inside")
    found, notes = choices_of(block.results, block.name)
    section.items += [Text(note, warning=True) for note in notes]
    for method, table in found.items():
        csv = write_csv(block.folder, file_name("choices", block.name, method), table)
        asked = [column for column in table.columns if column not in ("fold", "seed", *NUMBERS)]
        taken = table[table.chosen]
        note = (
            f"By {taken.left_out.iloc[0]} of the training spots, the simplest within one standard error of the best; "
            "the test spots take no part."
        )
        shown = taken[["fold", "seed", *asked, "mean"]].assign(mean=[number(value) for value in taken["mean"]])
        section.items.append(Table(f"What {method} chose", shown.astype(str), note=note))
        section.items.append(Table("All options", _options(table, asked), csv=csv, folded=len(table) > 12))
    return section


def _options(table: pd.DataFrame, asked: list[str]) -> pd.DataFrame:
    """One row an option, its score ± standard error in every fold; an asterisk where it was taken."""
    cells = [
        f"{number(row.mean_score)} ± {number(row.standard_error)}{' *' if row.chosen else ''}"
        for row in table.rename(columns={"mean": "mean_score"}).itertuples()
    ]
    wide = table[asked].assign(run=[f"fold {f}, seed {s}" for f, s in zip(table.fold, table.seed, strict=True)])
    wide = wide.assign(cell=cells).set_index([*asked, "run"]).cell.unstack("run", sort=False)
    return wide.reset_index().astype(str)
