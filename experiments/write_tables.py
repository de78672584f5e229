"""The tables of finished runs, as small files beside a study: OUT.md (mean, spread) and OUT_runs.csv (one row a run).

python experiments/write_tables.py RUNS OUT          # RUNS as `agl grid` printed it, OUT e.g. experiments/x/her2st
"""

from __future__ import annotations

import sys
from pathlib import Path

from agl.report.tables import markdown, methods_frame, runs_frame
from agl.studies.runs import find_runs


def main(runs: str, out: str) -> None:
    """Everything but where the runs lie and how long they took."""
    frame = runs_frame(find_runs(Path(runs)))
    Path(f"{out}.md").write_text(markdown(methods_frame(frame)) + "\n", encoding="utf-8")
    shown = frame.drop(columns=["folder", "seconds", "peak_memory_mib", "finished", "data_key"], errors="ignore")
    shown.to_csv(f"{out}_runs.csv", index=False, float_format="%.5f")


if __name__ == "__main__":
    main(*sys.argv[1:3])
