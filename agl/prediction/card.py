"""The model card: what a model is, what it was trained on, how well it ranks which genes, and what it is not for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from agl.scoring import POOLED

if TYPE_CHECKING:
    from agl.prediction.fitted import FittedModel

SHOWN = 10


def card(model: FittedModel) -> str:
    """Markdown, with nothing in it that the model does not know of itself."""
    config, about = model.config, model.about
    ensemble = f"mean of {about['members']} models: " if "members" in about else ""
    title = f"{ensemble}{config.model.name}, {config.loss.name}: {len(model.genes)} genes"
    lines = [
        f"# {title} from {config.data.features_label}",
        "",
        "Scores rank the spots of one slide by a gene's expression: higher is more. They have no unit and cannot be "
        "compared between slides or genes. Not for diagnosis.",
        "",
        "```python",
        "import agl",
        'model = agl.load_model("this folder")',
        'scored = model.predict("slide.h5ad")  # or a feature file; no counts are needed',
        "```",
        "",
        "## What it takes",
        "",
        *_inputs(model),
        "",
        "## What it was trained on",
        "",
        *[f"- {name}: {value}" for name, value in about.get("trained_on", {}).items()],
        "",
        "## How well it ranks",
        "",
        *_scores(about),
        "",
        "## Where it comes from",
        "",
        *[f"- {name}: {value}" for name, value in about.get("origin", {}).items()],
        "",
    ]
    return "\n".join(lines)


def _inputs(model: FittedModel) -> list[str]:
    recipe = model.recipe
    if not recipe.encoders:
        assert recipe.patch_shape is not None
        return [f"- patches of {recipe.patch_shape[0]} x {recipe.patch_shape[1]} pixels around the spots"]
    lines = [f"- features {Path(name).name!r}, {width} a spot" for name, width in recipe.encoders]
    if recipe.context:
        sizes = " and ".join(map(str, recipe.context))
        lines.append(f"- the spots' places, for means over the nearest {sizes} spots of the slide")
    if recipe.normalise == "slide":
        lines.append("- whole slides: features are centred and scaled inside each of them")
    return lines


def _scores(about: Any) -> list[str]:
    if "per_gene" not in about:
        return ["Not known: the run has no test spots."]
    genes = by_gene(about["per_gene"])
    n = about.get("test_slides", "?")
    where = f"On {n} test {'slide' if n == 1 else 'slides'} that had no part in training"
    if "members" in about:
        where = f"Each of the {about['members']} members on the slides left out of its training ({n} in all)"
    lines = [
        f"{where}, mean over {len(genes)} genes: Spearman {genes.scc.mean():.3f}, "
        f"Pearson {genes.pcc.mean():.3f} (log expression, inside slides). "
        "The ceiling is the largest correlation that counts of this depth allow.",
        "",
        "| gene | Spearman | Pearson | ceiling |",
        "|---|---:|---:|---:|",
    ]
    ranked = genes.sort_values("scc", ascending=False)
    shown = ranked if len(ranked) <= 2 * SHOWN else pd.concat([ranked.head(SHOWN), ranked.tail(SHOWN)])
    for position, (gene, row) in enumerate(shown.iterrows()):
        if position == SHOWN and len(shown) < len(ranked):
            lines.append(f"| *{len(ranked) - len(shown)} more in per_gene.csv* | | | |")
        lines.append(f"| {gene} | {_number(row.scc)} | {_number(row.pcc)} | {_number(row.ceiling)} |")
    return lines


def by_gene(per_gene: str) -> pd.DataFrame:
    """Means over test slides of a run's per_gene.csv: scc, pcc, ceiling by gene."""
    table = pd.read_csv(io.StringIO(per_gene))
    inside = table[table.slide != POOLED]
    numbers = [name for name in ("scc", "pcc", "ceiling") if name in inside]
    return inside.groupby("gene")[numbers].mean().reindex(columns=["scc", "pcc", "ceiling"])


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"
