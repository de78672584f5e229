"""Gene sets: how the mean of a set is ranked, beside how its genes are.

A set's expression in a spot is the mean over its genes of z, the log-normalised expression centred and scaled inside
the slide; its prediction is the mean of the predicted scores of the same genes, centred and scaled likewise. So no gene
counts more because it is abundant or because its scores happen to be large. Averaging takes noise out of both sides: a
set may be ranked well whose genes are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from agl.data.expression import log_expression
from agl.errors import UserError
from agl.scoring import correlations

if TYPE_CHECKING:
    from agl.analysis.results import Predictions
    from agl.runs.folder import Run

FEWEST = 2  # genes of which a mean is more than a gene
CAPTION = (
    "SCC of the set's mean (mean SCC of its genes); mean: of expression and of scores standardised inside the slide"
)


def set_scores(predictions: Predictions, sets: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """One row a slide and set: slide, set, scc, pcc (of the means), genes_scc (mean over its genes), genes.

    Only predicted genes take part, and of these the ones that vary on the slide; sets that are left with fewer than two
    have no row. Scores that do not vary are 0 everywhere: they add nothing to the prediction.
    """
    measured = np.asarray(predictions.library_size) > 0
    place = {gene: i for i, gene in enumerate(predictions.genes)}
    members = {name: [place[gene] for gene in genes if gene in place] for name, genes in sets.items()}
    slides, rows = np.asarray(predictions.slide), []
    for slide in np.unique(slides[measured]):
        here = measured & (slides == slide)
        observed = _standardised(log_expression(predictions.counts[here], predictions.library_size[here]))
        scores = _standardised(np.asarray(predictions.scores)[here].astype(np.float64))
        varies = (observed != 0).any(0)
        each = _correlation(scores, observed)[0]
        for name, columns in members.items():
            kept = [column for column in columns if varies[column]]
            if len(kept) >= FEWEST and here.sum() >= 3:
                mean = [table[:, kept].mean(1, keepdims=True) for table in (scores, observed)]
                scc, pcc = (float(values[0]) for values in _correlation(*mean))
                rows.append((str(slide), name, scc, pcc, float(np.nanmean(each[kept])), len(kept)))
    return pd.DataFrame(rows, columns=["slide", "set", "scc", "pcc", "genes_scc", "genes"])


def runs_set_scores(runs: Sequence[Run], sets: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """One row a block, method and set: scc, pcc, genes_scc (means over slides of a fold, seeds, then folds), genes.

    `genes` is the mean number that took part, `members` the predicted genes of the set in any fold, `size` the genes
    that the file names.

    Raises:
        UserError: a run without its predictions, no set with two predicted genes.
    """
    from agl.analysis.methods import named
    from agl.analysis.results import read_predictions
    from agl.analysis.tables import runs_frame

    about = named(runs_frame(runs))
    parts: list[pd.DataFrame] = []
    predicted: dict[str, dict[str, None]] = {}
    for run, (_, row) in zip(runs, about.iterrows(), strict=True):
        found = read_predictions(run.folder)
        predicted.setdefault(str(row.block), dict.fromkeys(found.genes)).update(dict.fromkeys(found.genes))
        mean = set_scores(found, sets).drop(columns="slide").groupby("set", sort=False).mean().reset_index()
        parts.append(mean.assign(block=row.block, method=row.method, fold=row.fold, seed=row.seed))
    some = [part for part in parts if len(part)]
    if not some:
        names = ", ".join(list(next(iter(predicted.values())))[:3])
        raise UserError(
            f"Expected a set with at least {FEWEST} of the primary genes, found none in {len(sets)} sets: the runs "
            f"predict {names}, the sets name {', '.join(next(iter(sets.values()))[:3])}. Are the names of one kind?"
        )
    table = pd.concat(some, ignore_index=True)
    numbers = ["scc", "pcc", "genes_scc", "genes"]
    by_fold = table.groupby(["block", "method", "set", "fold"], sort=False, dropna=False)[numbers].mean()
    means = by_fold.groupby(["block", "method", "set"], sort=False).mean().reset_index()
    inside = [
        ", ".join(gene for gene in sets[name] if gene in predicted[block])
        for block, name in zip(means.block.astype(str), means.set.astype(str), strict=True)
    ]
    return means.assign(members=inside, size=[len(sets[name]) for name in means.set])


def sets_table(block: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of one block: a set, its genes, and `SCC of the mean (mean of its genes)` of every method.

    The set that is ranked best over all methods stands first.
    """
    methods = list(dict.fromkeys(block.method))
    cells = block.assign(
        cell=[f"{scc:.3f} ({genes:.3f})" for scc, genes in zip(block.scc, block.genes_scc, strict=True)]
    )
    wide = cells.pivot(index="set", columns="method", values="cell")[methods].fillna("-")
    first = block.drop_duplicates("set").set_index("set")
    order = block.groupby("set").scc.mean().sort_values(ascending=False, kind="stable").index
    rows = [
        [str(name), f"{first.genes[name]:.3g} of {first['size'][name]}", *map(str, wide.loc[name])] for name in order
    ]
    return ["set", "genes", *methods], rows


def _standardised(values: np.ndarray) -> np.ndarray:
    """Columns centred and scaled; one that does not vary is 0."""
    centred, spread = values - values.mean(0), values.std(0)
    varies = spread > 1e-9 * np.maximum(1.0, np.abs(values).max(0, initial=0.0))
    return np.where(varies, centred / np.where(varies, spread, 1.0), 0.0)


def _correlation(scores: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's and Pearson's `[column]`."""
    one = torch.zeros(len(scores), dtype=torch.long)
    scc, pcc, _ = correlations(torch.from_numpy(scores), torch.from_numpy(observed), one)
    return scc[0].double().numpy(), pcc[0].double().numpy()
