"""The same predictions under other protocols: what needs no new training.

Four choices make a score of stored predictions, and papers make them differently:

correlation: Pearson's or Spearman's.
spots: over all test spots of a fold pooled, or per slide and then the mean over slides.
target: log(1 + count), or log-normalised by the library size (spots without any count then have no target).
folds: the mean of the folds' scores, or all test spots together: slides then count alike wherever they were tested, and
pooled spots are one pool over the models of all folds.

A gene that does not vary has no score and is left out; a prediction that does not vary counts 0 (`agl.scoring`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from agl.data.expression import expression
from agl.scoring import correlations

if TYPE_CHECKING:
    from agl.analysis.results import Predictions

CHOICES: dict[str, tuple[str, ...]] = {
    "correlation": ("Pearson", "Spearman"),
    "spots": ("pooled", "per slide"),
    "target": ("log1p", "log-normalised"),
    "folds": ("mean of folds", "together"),
}
BENCHMARK = {"correlation": "Pearson", "spots": "pooled", "target": "log1p", "folds": "mean of folds"}
OURS = {"correlation": "Spearman", "spots": "per slide", "target": "log-normalised", "folds": "mean of folds"}

Repeats = Sequence[Mapping[object, "Predictions"]]  # a seed each: fold -> its predictions


def protocol_scores(repeats: Repeats) -> pd.DataFrame:
    """One row a protocol: the choices, score and sd, of one method.

    `score` is the mean over seeds (first within a fold), `sd` the spread of the folds' scores (divisor n, as HEST-bench
    has it; NaN where folds are taken together or there is one).

    Args:
        repeats: for every seed, fold -> predictions.
    """
    by_fold: dict[tuple[str, str, str], dict[object, list[float]]] = defaultdict(lambda: defaultdict(list))
    together: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for folds in repeats:
        tables = {fold: _Tables(predictions) for fold, predictions in folds.items()}
        for correlation, spots, target in _inner():
            key = (correlation, spots, target)
            for fold, each in tables.items():
                by_fold[key][fold].append(each.score(*key))
            together[key].append(_together(tables.values(), *key))
    rows = []
    for key in _inner():
        folds_means = np.array([_mean(values) for values in by_fold[key].values()])
        defined = folds_means[~np.isnan(folds_means)]
        spread = float(defined.std()) if len(defined) > 1 else np.nan
        rows.append((*key, CHOICES["folds"][0], _mean(folds_means), spread))
        rows.append((*key, CHOICES["folds"][1], _mean(together[key]), np.nan))
    return pd.DataFrame(rows, columns=[*CHOICES, "score", "sd"])


def _inner() -> Iterable[tuple[str, str, str]]:
    return product(CHOICES["correlation"], CHOICES["spots"], CHOICES["target"])


class _Tables:
    """What one fold's predictions are compared with."""

    def __init__(self, predictions: Predictions) -> None:
        self.genes = predictions.genes
        self.measured = np.asarray(predictions.library_size) > 0
        self.scores = torch.from_numpy(np.asarray(predictions.scores))
        self.slide = np.asarray(predictions.slide)
        counts = torch.from_numpy(np.asarray(predictions.counts))
        kept = torch.from_numpy(self.measured)
        library_size = np.asarray(predictions.library_size)[self.measured]
        self.targets = {
            "log1p": counts.double().log1p(),
            "log-normalised": expression(counts[kept], library_size).double(),
        }

    def columns(self, target: str) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """Scores, target `[spot, gene]` and slides of the spots that have this target."""
        keep = self.measured if target == "log-normalised" else np.ones(len(self.slide), dtype=bool)
        return self.scores[torch.from_numpy(keep)], self.targets[target], self.slide[keep]

    def by_slide(self, correlation: str, target: str) -> dict[str, float]:
        """Slide -> mean over its defined genes."""
        scores, truth, slide = self.columns(target)
        names, codes = np.unique(slide, return_inverse=True)
        found = _of(correlation, scores, truth, torch.from_numpy(codes))
        return dict(zip(names.tolist(), map(_mean, found.numpy()), strict=True))

    def score(self, correlation: str, spots: str, target: str) -> float:
        """The fold's score."""
        if spots == "per slide":
            return _mean(list(self.by_slide(correlation, target).values()))
        scores, truth, slide = self.columns(target)
        return _mean(_of(correlation, scores, truth, torch.zeros(len(slide), dtype=torch.long))[0].numpy())


def _together(folds: Iterable[_Tables], correlation: str, spots: str, target: str) -> float:
    """All folds at once; a gene is pooled over the folds that predict it, a slide averaged over those that test it."""
    folds = list(folds)
    if spots == "per slide":
        found: dict[str, list[float]] = defaultdict(list)
        for each in folds:
            for slide, value in each.by_slide(correlation, target).items():
                found[slide].append(value)
        return _mean([_mean(values) for values in found.values()])
    columns: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
    for each in folds:
        scores, truth, _ = each.columns(target)
        for at, gene in enumerate(each.genes):
            columns[gene].append((scores[:, at : at + 1], truth[:, at : at + 1]))
    values = []
    for pairs in columns.values():
        scores, truth = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        values.append(float(_of(correlation, scores, truth, torch.zeros(len(scores), dtype=torch.long))))
    return _mean(values)


def _of(correlation: str, scores: torch.Tensor, truth: torch.Tensor, slides: torch.Tensor) -> torch.Tensor:
    """`[slide, gene]`"""
    scc, pcc, _ = correlations(scores, truth, slides)
    return (scc if correlation == "Spearman" else pcc).double()


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Of what is defined; NaN where nothing is."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")
