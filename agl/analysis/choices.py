"""What runs chose inside their training spots (`choose:`), fold by fold, and by which scores."""

from __future__ import annotations

import pandas as pd

from agl.analysis.results import Results
from agl.errors import UserError
from agl.runs.choosing import read_choice


def choices(results: Results, block: str) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Method -> every option of every run, and sentences about what could not be read.

    Columns: fold, seed, one a question, mean, standard_error (over left-out slides), seconds, chosen (whether this is
    what was taken), left_out (of what).
    """
    found: dict[str, pd.DataFrame] = {}
    notes: list[str] = []
    here = results.frame[results.frame.block == block]
    for method in results.methods(block):
        runs = here[here.method == method].sort_values(["fold", "seed"])
        rows = []
        for position, run in runs.iterrows():
            try:
                choice = read_choice(results.runs[int(str(position))].folder)
            except UserError as error:
                notes.append(str(error))
                continue
            for option in choice["options"] if choice is not None else ():
                about = {"fold": run.fold, "seed": run.seed, **option["answers"]}
                numbers = {key: option[key] for key in ("mean", "standard_error", "seconds")}
                assert choice is not None
                taken = option["answers"] == choice["chosen"]
                rows.append(about | numbers | {"chosen": taken, "left_out": choice["left_out"]})
        if rows:
            found[method] = pd.DataFrame(rows)
    return found, notes
