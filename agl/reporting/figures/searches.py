"""Optuna's view of a search: its history, which parameters mattered, and the score over the selection's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from agl.analysis.searches import SearchStudy, slice_curve
from agl.reporting.style import (
    COLOURS,
    INK,
    MUTED,
    SavedFigure,
    file_name,
    house_style,
    log_axis,
    new_figure,
    save,
    short,
)
from agl.seeds import seeded

FEWEST_FOR_CURVE = 6
LOG_RATIO = 8  # largest over smallest value from which an axis is logarithmic
WORDS = {"validation_scc": "SCC on validation spots", "genes": "auxiliary genes chosen"}


def draw_search(study: SearchStudy, folder: Path) -> list[SavedFigure]:
    """All figures the study has trials for."""
    drawn = [_history(study, folder)] if len(study.complete) >= 2 else []
    drawn += [_front(study, folder)] if len(study.objectives) == 2 and len(study.complete) >= 2 else []
    drawn += [_importance(study, folder)] if len(study.importance) else []
    size = study.size
    if size is not None and study.complete[size].nunique() >= 3:
        drawn.append(_slice(study, size, folder))
    return drawn


def _history(study: SearchStudy, folder: Path) -> SavedFigure:
    name, maximise = next(iter(study.objectives.items()))
    done = study.complete
    best = done[name].cummax() if maximise else done[name].cummin()
    with house_style():
        figure = new_figure(5.4, 2.5)
        axes = figure.add_subplot()
        axes.scatter(done.number, done[name], s=18, color=COLOURS[0], alpha=0.6, lw=0, label="trial")
        axes.step(done.number, best, where="post", color=INK, lw=1.4, label="best so far")
        pruned = study.trials[study.trials.state == "PRUNED"].number
        if len(pruned):
            axes.plot(pruned, np.full(len(pruned), done[name].min()), "|", color=MUTED, ms=7, label="given up")
        axes.set_xlabel("trial")
        axes.set_ylabel(short(WORDS.get(name, name), 28))
        axes.grid()
        axes.legend(loc="lower right")
    states = ", ".join(f"{n} {state}" for state, n in study.states().items())
    caption = f"Study {study.name}: {states}."
    return save(
        figure, folder, file_name("search-history", study.name), "History", caption, study.trials.drop(columns="runs")
    )


def _front(study: SearchStudy, folder: Path) -> SavedFigure:
    (a, up_a), (b, up_b) = study.objectives.items()
    done = study.complete.copy()
    done["on_front"] = on_front(done[a].to_numpy() * (1 if up_a else -1), done[b].to_numpy() * (1 if up_b else -1))
    front = done[done.on_front].sort_values(b)
    with house_style():
        figure = new_figure(4.6, 2.9)
        axes = figure.add_subplot()
        axes.scatter(done[b], done[a], s=18, color=COLOURS[0], alpha=0.45, lw=0, label="trial")
        axes.plot(front[b], front[a], "o-", color=COLOURS[1], ms=5, label="front")
        axes.set_xlabel(short(WORDS.get(b, b), 40))
        axes.set_ylabel(short(WORDS.get(a, a), 28))
        axes.grid()
        axes.legend(loc="best")
    caption = f"Study {study.name}: no trial is better than one on the front in both objectives."
    return save(figure, folder, file_name("search-front", study.name), "Front", caption, done.drop(columns="runs"))


def _importance(study: SearchStudy, folder: Path) -> SavedFigure:
    shown = study.importance.head(12)
    with house_style():
        figure = new_figure(5.4, 0.7 + 0.3 * len(shown))
        axes = figure.add_subplot()
        axes.barh(range(len(shown)), shown, height=0.6, color=COLOURS[0])
        axes.set_yticks(range(len(shown)), [short(str(name)) for name in shown.index])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 1)
        axes.grid(axis="x")
        axes.set_xlabel("share of the objective's variance (fANOVA)")
    n = len(study.complete)
    caption = (
        f"Study {study.name}, {n} trials. With few trials these shares are rough; they speak for the ranges searched."
    )
    data = study.importance.rename("importance").rename_axis("parameter").reset_index()
    return save(figure, folder, file_name("search-importance", study.name), "Importance", caption, data)


def _slice(study: SearchStudy, size: str, folder: Path) -> SavedFigure:
    name = next(iter(study.objectives))
    done = study.complete.dropna(subset=[size])
    x, y = done[size].to_numpy(float), done[name].to_numpy(float)
    log = bool(x.min() > 0 and x.max() / x.min() >= LOG_RATIO)
    curve = pd.DataFrame()
    with house_style():
        figure = new_figure(5.4, 2.8)
        axes = figure.add_subplot()
        if len(done) >= FEWEST_FOR_CURVE:
            curve = slice_curve(x, y, seeded(0, "slice", study.name), log=log)
            axes.fill_between(curve.x, curve.low, curve.high, color=COLOURS[0], alpha=0.18, lw=0, label="90% band")
            axes.plot(curve.x, curve.curve, color=COLOURS[0], label="local mean")
        axes.scatter(x, y, s=18, color=INK, alpha=0.6, lw=0, label="trial")
        if study.best is not None:
            axes.scatter(
                study.best[size], study.best[name], s=60, facecolor="none", edgecolor=COLOURS[1], lw=1.8, label="best"
            )
        if log:
            log_axis(axes)
        room = 0.12 * (np.ptp(y) or 1)
        axes.set_ylim(y.min() - room, y.max() + room)
        axes.set_xlabel(size)
        axes.set_ylabel(short(WORDS.get(name, name), 28))
        axes.grid()
        axes.legend(loc="best", ncols=2)
    caption = (
        f"Study {study.name}: every trial's score against the selection's size, other parameters as the trial had "
        "them. The band comes from drawing trials again; trials of a sampler that learns are not independent, so it is "
        "a guide."
    )
    data = pd.concat([done[["number", size, name]].assign(part="trial"), curve.assign(part="curve")], ignore_index=True)
    return save(figure, folder, file_name("search-size", study.name), "Selection size", caption, data)


def on_front(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether no other point is at least as high in both and higher in one.

    >>> on_front(np.array([1.0, 2, 0]), np.array([2.0, 1, 0])).tolist()
    [True, True, False]
    """
    at_least = (a[None, :] >= a[:, None]) & (b[None, :] >= b[:, None])
    higher = (a[None, :] > a[:, None]) | (b[None, :] > b[:, None])
    return np.asarray(~(at_least & higher).any(axis=1))
