"""Studies beside the published table: one Markdown table for each way the tissues are sampled.

python experiments/strank_synthetic/side_by_side.py experiments/strank_synthetic/{released,paper,wide}_trainings.csv
python experiments/strank_synthetic/side_by_side.py honest ...     # the weights that another checkpoint keeps

Test SCC against the noise-free signal: mean over the four functions, mean ± SD over seeds.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pandas as pd

from agl.papers.strank_synthetic.settings import METHODS
from agl.papers.strank_synthetic.tables import CHECKPOINTS, comparison, mean_and_spread, published


def side_by_side(frames: dict[str, pd.DataFrame], checkpoint: str, sampling: str) -> str:
    """Published losses first, then the controls; the best of each study is bold."""
    studies = {name: frame[frame.sampling == sampling].set_index("method") for name, frame in frames.items()}
    best = {name: study[checkpoint].idxmax() for name, study in studies.items()}
    rows = [f"| {sampling} | published | {' | '.join(studies)} |", "|---|---" + "|---" * len(studies) + "|"]
    for method in METHODS:
        cells = []
        for name, study in studies.items():
            if method not in study.index:
                cells.append("")
                continue
            mean, spread = (float(study[column][method]) for column in (checkpoint, f"{checkpoint}_sd"))
            cell = mean_and_spread(mean, spread)
            cells.append(f"**{cell}**" if method == best[name] else cell)
        if any(cells):
            value = published(method, sampling)
            rows.append(f"| {method} | {'' if math.isnan(value) else f'{value:.3f}'} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main(*words: str) -> None:
    """Both tables."""
    checkpoint = words[0] if words[0] in CHECKPOINTS else CHECKPOINTS[0]
    files = [Path(word) for word in words if word not in CHECKPOINTS]
    frames = {file.name.removesuffix("_trainings.csv"): comparison(pd.read_csv(file)) for file in files}
    print(*(side_by_side(frames, checkpoint, sampling) for sampling in ("uniform", "imbalanced")), sep="\n\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
