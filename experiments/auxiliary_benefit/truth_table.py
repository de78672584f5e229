"""The table of a study on simulated sections: gain, share of the oracle's gain, AUC against the truth, k, stability.

    python experiments/auxiliary_benefit/truth_table.py RUNS [OUT.csv]

RUNS is the folder that `agl grid experiments/auxiliary_benefit/simulated.yaml` filled. Gains are paired by data set.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from agl.report.tables import label
from agl.studies.runs import Run, find_runs
from agl.training.experiment import data_folder


def chosen_genes(run: Run, truth: pd.DataFrame) -> dict[str, object]:
    """AUC of the weights for the planted useful genes, and the genes of weight at least one half."""
    panel = pd.read_csv(run.folder / "panel.csv")
    auxiliary = panel[panel.role == "auxiliary"].set_index("gene").weight
    candidates = truth[truth["class"] != "primary"]
    weight = auxiliary.reindex(candidates.gene).fillna(0.0).to_numpy()
    useful = (candidates["class"] == "useful").to_numpy()
    auc = roc_auc_score(useful, weight) if weight.any() and useful.any() else np.nan
    return {"auc": auc, "genes": frozenset(auxiliary.index[auxiliary >= 0.5])}


def read(folder: str) -> pd.DataFrame:
    """One row a run."""
    rows = []
    for run in find_runs(folder):
        config = run.config
        genes = config.auxiliary.genes
        kind = label(genes.name, {k: v for k, v in genes.args.items() if k != "path"}, "gene_set")
        kind = "oracle" if genes.name == "file" else kind
        truth = pd.read_csv(Path(data_folder(config)) / "truth.csv")
        row = {"preset": config.data.simulate["preset"], "genes": kind, "seed": config.seed, "scc": run.result["scc"]}
        rows.append(
            row
            | {"k": run.result["k"], "signal": run.result.get("outer_signal", "")}
            | {name if name != "genes" else "chosen": value for name, value in chosen_genes(run, truth).items()}
        )
    return pd.DataFrame(rows)


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting and choice of genes."""
    rows = []
    for preset, group in runs.groupby("preset", sort=False):
        scores = group.pivot_table(index="seed", columns="genes", values="scc")
        scores = scores.dropna()  # data sets that every choice has seen
        gains = scores.sub(scores["none"], axis=0)
        for genes in dict.fromkeys(group.genes):
            here = group[(group.genes == genes) & group.seed.isin(scores.index)]
            gain = gains[genes]
            pairs = [len(a & b) / len(a | b) for a, b in combinations(here.chosen, 2) if a | b]
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
                    "jaccard": np.mean(pairs) if pairs else np.nan,
                }
            )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    found = table(read(sys.argv[1]))
    print(found.to_string(index=False, float_format="{:.3f}".format))
    if len(sys.argv) > 2:
        found.to_csv(sys.argv[2], index=False, float_format="%.4f")
