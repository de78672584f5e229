"""The tables of finished runs, as small files beside a study: OUT.md (mean, spread) and OUT_runs.csv (one row a run).

python experiments/write_tables.py RUNS OUT               # RUNS as `agl grid` printed it, OUT e.g. experiments/x/her2st
python experiments/write_tables.py RUNS MORE_RUNS OUT     # of several folders
python experiments/write_tables.py RUNS OUT --add         # rows of OUT_runs.csv that RUNS has no run for stay
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from agl.analysis.tables import METHOD, markdown, methods_frame, runs_frame
from agl.runs.folder import find_runs

NOT_SHOWN = ["folder", "seconds", "peak_memory_mib", "finished", "data_key"]  # where the runs lie, how long they took


def main(*words: str) -> None:
    """Read the runs, and the earlier table where it is added to; write both files."""
    *folders, out = [word for word in words if word != "--add"]
    file = Path(f"{out}_runs.csv")
    frames = [runs_frame(find_runs(Path(folder))).drop(columns=NOT_SHOWN, errors="ignore") for folder in folders]
    if "--add" in words:
        numbers = frames[0].select_dtypes("number")  # words may be empty, numbers then are missing
        frames.insert(0, pd.read_csv(file, keep_default_na=False, na_values={name: [""] for name in numbers}))
    frame = pd.concat(frames, ignore_index=True)
    same = frame[[*METHOD, "data", "fold", "seed"]].astype(str)
    frame = frame[~same.duplicated(keep="last")].sort_values([*METHOD, "data", "fold", "seed"], kind="stable")
    Path(f"{out}.md").write_text(markdown(methods_frame(frame)) + "\n", encoding="utf-8")
    frame.to_csv(file, index=False, float_format="%.5f")


if __name__ == "__main__":
    main(*sys.argv[1:])
