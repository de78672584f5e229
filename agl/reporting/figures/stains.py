"""Learned stain vectors as colours: what a gene's hematoxylin and eosin look like, beside the ones it started from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from agl.data.images.stain import render, stain_matrix
from agl.errors import UserError
from agl.models.stain import seen_vectors
from agl.reporting.style import MUTED, SavedFigure, bare, file_name, house_style, new_figure, save, short
from agl.runs.folder import Run

STAINS = ("hematoxylin", "eosin")
CHANNELS = ["red", "green", "blue"]
START = "start"
MOST = 12  # genes or runs in a figure
STRENGTHS = (0.25, 0.5, 1.0)  # optical density along the vector


def _weights(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(
            f"Expected weights in {file}, received something else ({error}). Remove that folder and train the run "
            "again."
        ) from None


def learned_vectors(runs: list[Run]) -> pd.DataFrame:
    """One row a run, gene and stain: the vector (red, green, blue) as the model sees it, and its angle to the start's.

    See `agl.models.stain.seen_vectors`. A model with one matrix for all genes has rows of the gene `all`, and every run
    rows of the gene `start`; runs without stain vectors have none.
    """
    rows = []
    for run in runs:
        file = run.folder / "checkpoints" / "best.safetensors"
        weights = _weights(file) if file.is_file() else {}
        prefix = next(
            (word for word in ("", "trunk.") if f"{word}vectors" in weights and f"{word}plane" in weights), None
        )
        if prefix is None:
            continue
        vectors, plane = weights[f"{prefix}vectors"].double(), weights[f"{prefix}plane"].double()
        names = list(pd.read_csv(run.folder / "panel.csv").gene) if vectors.ndim == 3 else ["all"]
        start = seen_vectors(stain_matrix().double(), plane)
        seen = torch.cat([start[None], seen_vectors(vectors.view(-1, 3, 3), plane)])
        angles = torch.rad2deg(torch.arccos((seen * start).sum(2).clamp(-1, 1))).numpy()
        rows += [
            {"run": run.folder.name, "fold": run.config.fold, "seed": run.config.seed, "gene": gene, "stain": stain,
             **dict(zip(CHANNELS, seen[i, k].tolist(), strict=True)), "angle": angles[i, k]}
            for i, gene in enumerate([START, *names])
            for k, stain in enumerate(STAINS)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def draw_stains(vectors: pd.DataFrame, best: list[str], method: str, block: str, folder: Path) -> SavedFigure:
    """Swatches of hematoxylin and eosin: a column a gene (the best-scored ones), or a run where genes share them."""
    begun = vectors[vectors.gene == START].groupby("stain")[CHANNELS].mean()
    vectors = vectors[vectors.gene != START]
    shared = set(vectors.gene) == {"all"}
    if shared:
        named = vectors.assign(
            column=[f"fold {f:g}, seed {s}" for f, s in zip(vectors.fold, vectors.seed, strict=True)]
        )
    else:
        mean = vectors.groupby(["gene", "stain"], as_index=False)[[*CHANNELS, "angle"]].mean()
        named = mean[mean.gene.isin(best)].assign(column=lambda table: table.gene)
    wanted = list(dict.fromkeys(named.column)) if shared else [gene for gene in best if gene in set(named.column)]
    columns = wanted[:MOST]
    table = {(row.column, row.stain): np.array([row.red, row.green, row.blue], float) for row in named.itertuples()}
    angle = named.groupby(["column", "stain"]).angle.mean()
    with house_style():
        figure = new_figure(max(4.2, 0.62 * (len(columns) + 1) + 1.2), 2.5)
        grid = figure.subplots(2, len(columns) + 1, squeeze=False)
        for row, stain in enumerate(STAINS[:2]):
            for place, column in enumerate([START, *columns]):
                vector = _unit(begun.loc[stain].to_numpy() if column == START else table[column, stain])
                axes = grid[row, place]
                axes.imshow(_colours(vector), aspect="auto")
                bare(axes)
                if row == 0:
                    axes.set_title(short(column, 14), fontsize=7, rotation=45, ha="left", rotation_mode="anchor")
                if column != START:
                    axes.set_xlabel(f"{angle[column, stain]:.0f}°", fontsize=7, color=MUTED)
            grid[row, 0].set_ylabel(stain, fontsize=8)
    what = "runs" if shared else "genes of the highest SCC; vectors averaged over runs"
    caption = (
        f"Colour of each learned stain of {method} at optical densities {', '.join(map(str, STRENGTHS))} (downwards), "
        f"beside Ruifrok and Johnston's, where all start; the angle to it below. Columns: {what}."
    )
    name = file_name("stains", block, method)
    return save(figure, folder, name, f"Learned stains of {method}", caption, named.drop(columns="column"))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _colours(vector: np.ndarray) -> np.ndarray:
    """`[strength, 1, channel]` in [0, 1]."""
    densities = torch.tensor(STRENGTHS, dtype=torch.float64)[:, None] * torch.from_numpy(vector)[None]
    grey = render(densities, torch.eye(3, dtype=torch.float64)).clamp(0, 255)
    return (grey / 255).numpy()[:, None]
