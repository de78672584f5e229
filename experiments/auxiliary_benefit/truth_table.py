"""The table of a study on simulated sections: gain, share of the oracle's, AUC against the truth, k, cost, stability.

    python experiments/auxiliary_benefit/truth_table.py OUT.csv RUNS [STABILITY_RUNS]

RUNS is the folder that `agl grid experiments/auxiliary_benefit/simulated.yaml` filled, STABILITY_RUNS that of
`stability.yaml`. Gains are paired by data set; `cost` is the time of a run over that of primary genes alone; `jaccard`
compares the genes that two training seeds choose on one data set.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from agl.analysis.tables import auxiliary_label
from agl.runs.folder import Run, find_runs
from agl.training.loading import data_folder

SETTINGS = ["standard", "easy", "hard", "misleading"]


def chosen_genes(run: Run, truth: pd.DataFrame) -> dict[str, object]:
    """AUC of the weights for the planted useful genes, and the genes of weight at least one half."""
    panel = pd.read_csv(run.folder / "panel.csv")
    auxiliary = panel[panel.role == "auxiliary"].set_index("gene").weight
    candidates = truth[truth["class"] != "primary"]
    weight = auxiliary.reindex(candidates.gene).fillna(0.0).to_numpy()
    useful = (candidates["class"] == "useful").to_numpy()
    auc = roc_auc_score(useful, weight) if weight.any() and useful.any() else np.nan
    return {"auc": auc, "genes": frozenset(auxiliary.index[auxiliary >= 0.5])}


def read(folders: list[str]) -> pd.DataFrame:
    """One row a run."""
    rows = []
    for run in (run for folder in folders for run in find_runs(folder)):
        config = run.config
        genes = config.auxiliary.genes
        kind = "oracle" if genes.name == "file" else auxiliary_label(config)
        kind += ", gate=trunk" if config.auxiliary.gate == "trunk" else ""
        truth = pd.read_csv(Path(data_folder(config)) / "truth.csv")
        simulated = config.data.simulate
        row = {"preset": simulated["preset"], "data_set": simulated["seed"], "seed": config.seed, "genes": kind}
        row |= {"scc": run.result["scc"], "seconds": run.whole_provenance["seconds"]}
        rows.append(
            row
            | {"k": run.result["k"], "signal": run.result.get("outer_signal", "")}
            | {name if name != "genes" else "chosen": value for name, value in chosen_genes(run, truth).items()}
        )
    return pd.DataFrame(rows)


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting and choice of genes."""
    rows = []
    for preset in sorted(runs.preset.unique(), key=SETTINGS.index):
        group = runs[runs.preset == preset]
        scores = group.pivot_table(index=["data_set", "seed"], columns="genes", values="scc")
        scores = scores.dropna()  # data sets that every choice has seen
        gains = scores.sub(scores["none"], axis=0)
        seconds = group.pivot_table(index=["data_set", "seed"], columns="genes", values="seconds").loc[scores.index]
        for genes in dict.fromkeys(group.genes):
            same = group[group.genes == genes]
            here = same.set_index(["data_set", "seed"]).loc[scores.index]
            gain = gains[genes]
            pairs = [
                len(a & b) / len(a | b)
                for _, twins in same.groupby("data_set")
                for a, b in combinations(twins.chosen, 2)
                if a | b
            ]
            rows.append(
                {
                    "setting": preset,
                    "genes": genes,
                    "scc": scores[genes].mean(),
                    "gain": gain.mean(),
                    "standard_error": gain.std(ddof=1) / np.sqrt(len(gain)),
                    "share_of_oracle": gain.mean() / gains["oracle"].mean(),
                    "wins": f"{int((gain > 0).sum())}/{len(gain)}",
                    "auc": here.auc.mean(),
                    "k": here.k.mean(),
                    "cost": (seconds[genes] / seconds["none"]).median(),
                    "jaccard": np.mean(pairs) if pairs else np.nan,
                }
            )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    out, *folders = sys.argv[1:]
    found = table(read(folders))
    print(found.to_string(index=False, float_format="{:.3f}".format))
    found.to_csv(out, index=False, float_format="%.4f")
