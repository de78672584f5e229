"""Is a committee's spread an honest uncertainty? Spots whose members disagree should lie further from their place.

A spot's place is its rank among the spots of its slide, from 0 to 1; its error the distance between the place that the
scores give it and that of its log-normalised expression. Ends of a ranking can be further off than its middle, and
members may disagree more there, so every bin has beside its error the one of spots of the same predicted tenth.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from scipy import stats

import strank
from agl.analysis.results import Results
from agl.data.expression import log_expression
from agl.errors import UserError

BINS = 10
CHANCE = 1 / 3  # mean distance of two places drawn at random


@dataclass(frozen=True)
class Calibration:
    """The runs of one method.

    Attributes:
        bins: one row a tenth of the spots, those of the least spread first: bin, spread, error, same_place (mean error
            of spots of the same predicted tenth of their slide and gene), pairs (of spots and genes).
        slides: one row a run and slide: fold, slide, correlation of spread and error over its spots (Spearman, mean
            over genes), and of spread and error beyond `same_place`.
    """

    bins: pd.DataFrame
    slides: pd.DataFrame


def calibrations(results: Results, block: str) -> tuple[dict[str, Calibration], list[str]]:
    """Every method of a block whose predictions have a spread, and sentences about what could not be read."""
    found: dict[str, Calibration] = {}
    notes: list[str] = []
    here = results.frame[results.frame.block == block]
    for method in results.methods(block):
        parts, slides = [], []
        for position, run in here[here.method == method].sort_values(["fold", "seed"]).iterrows():
            folder = results.runs[int(str(position))].folder
            try:
                for slide, spots in _slides(folder):
                    parts.append(spots)
                    slides.append({"fold": run.fold, "seed": run.seed, "slide": slide, **_correlations(spots)})
            except UserError as error:
                notes.append(str(error))
        if parts:
            found[method] = Calibration(_bins(parts), pd.DataFrame(slides))
    return found, notes


@dataclass(frozen=True)
class _Spots:
    """Of one slide `[spot, gene]`: spread, error, and the error of spots of the same predicted tenth."""

    spread: np.ndarray
    error: np.ndarray
    same_place: np.ndarray


def place_errors(scores: np.ndarray, counts: np.ndarray, library_size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors `[spot, gene]` of places on one slide, and the mean error of spots of the same predicted tenth.

    >>> error, _ = place_errors(np.array([[1.0], [2.0], [3.0]]), np.array([[1], [3], [2]]), np.full(3, 10))
    >>> error.ravel().round(3).tolist()
    [0.0, 0.333, 0.333]
    """
    n = len(scores)
    truth = log_expression(counts, library_size)
    predicted, true = ((stats.rankdata(each, axis=0) - 0.5) / n for each in (scores, truth))
    error = np.abs(predicted - true)
    tenth = np.minimum((predicted * BINS).astype(int), BINS - 1)
    same = np.empty_like(error)
    for gene in range(error.shape[1]):
        sums = np.bincount(tenth[:, gene], error[:, gene], minlength=BINS)
        same[:, gene] = (sums / np.maximum(np.bincount(tenth[:, gene], minlength=BINS), 1))[tenth[:, gene]]
    return error, same


def _slides(folder: Path) -> list[tuple[str, _Spots]]:
    """Slide by slide, genes that vary on it alone; none where the run kept no spread."""
    path = folder / "predictions.npz"
    if not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as saved:
            if "spread" not in saved:
                return []
            scores, spread, counts, library, names = (
                saved[key] for key in ("scores", "spread", "counts", "library_size", "slide")
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as wrong:
        raise UserError(f"Expected the arrays of a run in {path}, received something else ({wrong}).") from None
    found = []
    for slide in dict.fromkeys(names.tolist()):
        rows = (names == slide) & (library > 0)
        vary = (np.ptp(counts[rows], axis=0) > 0) & (np.ptp(scores[rows], axis=0) > 0) if rows.sum() > BINS else []
        if np.any(vary):
            error, same = place_errors(scores[rows][:, vary], counts[rows][:, vary], library[rows])
            found.append((str(slide), _Spots(spread[rows][:, vary].astype(float), error, same)))
    return found


def _correlations(spots: _Spots) -> dict[str, float]:
    spread = torch.from_numpy(spots.spread)
    beyond = spots.error - spots.same_place
    values = [strank.spearman(spread, torch.from_numpy(each)).nanmean() for each in (spots.error, beyond)]
    return {"correlation": float(values[0]), "beyond_place": float(values[1])}


def _bins(parts: list[_Spots]) -> pd.DataFrame:
    """Tenths of the spots of every slide and gene by their spread, then all of them together."""
    rows: list[pd.DataFrame] = []
    for spots in parts:
        order = (stats.rankdata(spots.spread, axis=0, method="ordinal") - 1) * BINS // len(spots.spread)
        table = pd.DataFrame(
            {
                "bin": order.astype(int).ravel() + 1, "spread": spots.spread.ravel(), "error": spots.error.ravel(),
                "same_place": spots.same_place.ravel(),
            }
        )  # fmt: skip
        means = table.groupby("bin").mean()
        rows.append(means.assign(pairs=table.groupby("bin").size()).reset_index())
    every = pd.concat(rows)
    means = every.groupby("bin")[["spread", "error", "same_place"]].mean()  # a slide counts as one
    return means.assign(pairs=every.groupby("bin").pairs.sum()).reset_index()
