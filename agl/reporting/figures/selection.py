"""Learned selections: their way over the epochs, the mask over the ranked genes, and the agreement of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from agl.analysis.selection import Selection, leading_prior, stability, stability_words
from agl.reporting.style import (
    COLOURS,
    MUTED,
    SHADES,
    MethodStyle,
    SavedFigure,
    file_name,
    house_style,
    new_figure,
    save,
    short,
)  # fmt: skip

NUMBERS = ("k", "hypergradient_t", "sign_agreement", "primary_share", "hypergradient")
PANELS = 6
MOST_RUNS = 40


def draw_trajectory(selection: Selection, block: str, style: MethodStyle, folder: Path) -> SavedFigure:
    """k and the selector's own numbers against the epoch, a line a run."""
    history = selection.histories
    phi = sorted(name for name in history.columns if name.startswith("phi/"))
    known = [name for name in (NUMBERS[0], *phi, *NUMBERS[1:]) if name in history and history[name].notna().any()]
    shown = known[:PANELS]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    folds = sorted(set(history.fold.dropna()))
    with house_style():
        figure = new_figure(5.4, 1.75 * rows + 0.6)
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, name in zip(grid.flat, shown, strict=False):
            for _, run in history.groupby("run"):
                where = folds.index(run.fold.iloc[0]) if run.fold.iloc[0] in folds else 0
                line = "-" if run.seed.iloc[0] == history.seed.min() else "--"
                colour = COLOURS[where % len(COLOURS)] if len(folds) > 1 else style.colour
                said = run[["epoch", name]].dropna()  # an outer step is not taken in every epoch
                axes.plot(said.epoch, said[name], line, color=colour, lw=1.1, alpha=0.85)
            axes.set_title(name.removeprefix("phi/") if name.startswith("phi/") else name)
            axes.grid()
            axes.set_ylim(*_limits(name, history[name]))
        for axes in grid.flat[len(shown) :]:
            axes.remove()
        figure.supxlabel("epoch", fontsize=9)
        if 1 < len(folds) <= len(COLOURS):
            handles = [
                grid[0, 0].plot([], [], color=COLOURS[i], label=f"fold {fold:g}")[0] for i, fold in enumerate(folds)
            ]
            figure.legend(handles=handles, loc="outside upper left", ncols=min(5, len(folds)), borderaxespad=0)
    dashed = "; dashed: other seeds than the first" if history.seed.nunique() > 1 else ""
    caption = (
        f"{selection.method}: a line is a run, a colour a fold{dashed}. k counts the auxiliary genes of weight 0.5 or "
        "more; the other panels show the selector's parameters and how clear its outer gradient was."
    )
    name = file_name("selection-epochs", block, selection.method)
    columns_kept = ["run", "fold", "seed", "epoch", *known]
    return save(figure, folder, name, "k and the selector's own numbers", caption, history[columns_kept])


def draw_mask(selection: Selection, block: str, folder: Path) -> SavedFigure | None:
    """Weights of the auxiliary genes, a row a run, genes in the order of the prior that the weights follow."""
    weights = selection.weights
    if weights.empty:
        return None
    prior = leading_prior(selection)
    # Without a prior, the genes that most runs chose come first.
    key = selection.priors[prior] if prior else weights.fillna(0).mean(axis=1)
    order = key.reindex(weights.index).sort_values(ascending=False, kind="stable").index
    shown = weights.loc[order].iloc[:, :MOST_RUNS]
    labels = [_run_label(selection, int(run)) for run in shown.columns]
    with house_style():
        figure = new_figure(5.4, 1.15 + 0.2 * shown.shape[1])
        axes = figure.add_subplot()
        picture = axes.imshow(shown.T.to_numpy(float), aspect="auto", cmap=SHADES, vmin=0, vmax=1, rasterized=True)
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.tick_params(length=0)
        axes.set_xlabel(f"auxiliary genes by {prior}, highest first" if prior else "auxiliary genes, most chosen first")
        for side in axes.spines.values():
            side.set_visible(False)
        bar = figure.colorbar(picture, ax=axes, label="weight", fraction=0.03, aspect=12, ticks=[0, 0.5, 1])
        bar.outline.set_visible(False)
    caption = f"{selection.method}: a row is a run, a column one of {len(order)} auxiliary genes. Blank: no candidate."
    data = shown.set_axis(labels, axis=1).rename_axis("gene").reset_index()
    return save(
        figure,
        folder,
        file_name("selection-mask", block, selection.method),
        "Mask",
        caption,
        data,
    )


def draw_stability(selection: Selection, block: str, folder: Path) -> SavedFigure | None:
    """Agreement of every two runs."""
    pairs = stability(selection)
    if pairs.empty or len(selection.runs) > MOST_RUNS:
        return None
    order = list(selection.weights.columns)
    place = {run: i for i, run in enumerate(order)}
    matrix = np.full((len(order), len(order)), np.nan)
    for a, b, value in zip(pairs.run_a, pairs.run_b, pairs.jaccard, strict=True):
        matrix[place[a], place[b]] = matrix[place[b], place[a]] = value
    labels = [_run_label(selection, int(run)) for run in order]
    with house_style():
        size = 1.6 + 0.24 * len(order)
        figure = new_figure(max(4.2, size + 1.2), max(2.6, size))
        axes = figure.add_subplot()
        picture = axes.imshow(matrix, cmap=SHADES, vmin=0, vmax=1)
        axes.set_xticks(range(len(order)), labels, rotation=90, fontsize=8)
        axes.set_yticks(range(len(order)), labels, fontsize=8)
        axes.tick_params(length=0)
        if len(order) <= 8:
            for i, j in np.argwhere(np.isfinite(matrix)):
                ink = "black" if matrix[i, j] > 0.55 else "white"
                axes.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
        for side in axes.spines.values():
            side.set_visible(False)
        bar = figure.colorbar(picture, ax=axes, label="Jaccard index", fraction=0.04, ticks=[0, 0.5, 1])
        bar.outline.set_visible(False)
    name = file_name("selection-stability", block, selection.method)
    return save(figure, folder, name, "Agreement of runs", f"{selection.method}. {stability_words(pairs)}", pairs)


def draw_chosen(
    selection: Selection, genes: pd.DataFrame, block: str, style: MethodStyle, folder: Path
) -> SavedFigure | None:
    """How often each gene is chosen against each of its priors: what the selector went by."""
    priors = list(selection.priors.columns)[:3]
    if not priors:
        return None
    table = selection.priors.join((selection.chosen.sum(axis=1) / len(selection.runs)).rename("share")).dropna()
    with house_style():
        figure = new_figure(1.75 * len(priors) + 0.4, 2.3)
        for i, prior in enumerate(priors):
            axes = figure.add_subplot(1, len(priors), i + 1)
            axes.scatter(table[prior], table.share, s=10, color=style.colour, alpha=0.5, lw=0)
            axes.set_xlabel(short(prior, 20))
            axes.set_ylim(-0.05, 1.05)
            axes.grid()
            if table[prior].nunique() > 1 and table.share.nunique() > 1:
                axes.set_title(f"ρ = {stats.spearmanr(table[prior], table.share).statistic:.2f}", color=MUTED)
            if i == 0:
                axes.set_ylabel("share of runs that chose it")
    caption = f"{selection.method}: a point is an auxiliary gene; priors are means over the runs."
    name = file_name("selection-priors", block, selection.method)
    return save(figure, folder, name, "Choice and priors", caption, table.rename_axis("gene").reset_index())


def _run_label(selection: Selection, run: int) -> str:
    fold, seed = selection.runs.fold[run], selection.runs.seed[run]
    return f"fold {fold:g}" + (f", seed {seed}" if selection.runs.seed.nunique() > 1 else "")


def _limits(name: str, values: pd.Series) -> tuple[float | None, float | None]:
    """Shares from 0 to 1, counts from 0, the rest as it comes."""
    if name in ("sign_agreement", "primary_share"):
        return -0.03, 1.03
    return (0, max(1.0, float(values.max()) * 1.08)) if name == "k" else (None, None)
