"""A model on an outside cohort: other slides with counts, scored as the model's own test slides were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from agl.errors import ModelError
from agl.scoring import POOLED, gene_table, summary

if TYPE_CHECKING:
    from agl.data.slides import Dataset
    from agl.prediction.fitted import FittedModel
    from agl.prediction.slide import Slide


@dataclass(frozen=True)
class CohortScores:
    """How a model ranks the spots of slides that it comes from nowhere near.

    Attributes:
        table: one row a gene and slide, and a gene over all slides, see `agl.scoring.gene_table`.
        genes: one row a gene of the model: scc and ceiling (means over the cohort's slides, NaN where it was not
            measured), own_scc (over the test slides of the model's own run), difference.
        slides: one row a slide: spots, scc, shift (median over features of how many training spreads its mean is away),
            stretch (median of how many times as much they vary).
        numbers: `agl.scoring.summary`, and genes, measured.
        notes: what to know, in sentences.
    """

    table: pd.DataFrame
    genes: pd.DataFrame
    slides: pd.DataFrame
    numbers: dict[str, Any]
    notes: list[str]


def evaluate(
    model: FittedModel, root: Path | str, read: Callable[[str], Slide], *, anyway: bool = False, seed: int = 0
) -> CohortScores:
    """Score a model on all slides under a folder, or on one h5ad, against their counts.

    Genes that the cohort does not measure cannot be scored, and are counted; a cohort's slide that the model was
    trained on is named.

    Args:
        read: a slide's inputs by its name.
        anyway: also where they are not like those in training.
        seed: of the ceilings.

    Raises:
        UserError: a folder without counts, or that measures none of the genes.
    """
    import torch

    from agl.data.dataset import NONE, open_dataset

    data = open_dataset(root, features=NONE, min_counts=max(1, model.config.data.min_counts))
    data = data if model.config.data.library == "measured" else data.ignoring_library()
    place = {gene: position for position, gene in enumerate(data.genes)}
    measured = [gene for gene in model.genes if gene in place]
    if not measured:
        raise ModelError(
            f"Expected at least one of the model's {len(model.genes)} genes among those measured under {root}, found "
            f"none: the model has {', '.join(model.genes[:3])}, the data {', '.join(data.genes[:3])}. Are the names of "
            "one kind?"
        )
    columns = np.array([model.genes.index(gene) for gene in measured])
    parts, rows, notes = [], [], _seen(model, data)
    for slide in data.slide_names:
        found = read(slide)
        scored = model.score(found, anyway=anyway)
        here, theirs = _matched(data, slide, scored.slide.spots.barcodes)
        parts.append((here, np.asarray(scored.scores)[np.ix_(theirs, columns)]))
        shift, stretch = (np.nan, np.nan) if found.own is None else model.recipe.distance(found.own)
        rows.append({"slide": slide, "spots": len(here), "shift": shift, "stretch": stretch})
        notes += [note for note in scored.notes if note not in notes]
    spots = np.concatenate([here for here, _ in parts])
    table = gene_table(
        torch.from_numpy(np.concatenate([scores for _, scores in parts]).astype(np.float32)),
        torch.from_numpy(data.dense_counts(spots, [place[gene] for gene in measured])),
        np.asarray(data.library_size)[spots],
        np.asarray(data.slide_names)[data.slide_codes[spots]],
        measured,
        seed=seed,
        depth=model.config.scoring.depth,
    )
    if missing := [gene for gene in model.genes if gene not in place]:
        told = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        notes.insert(0, f"{len(missing)} of the model's {len(model.genes)} genes are not measured there: {told}")
    numbers = summary(table) | {"genes": len(model.genes), "measured": len(measured)}
    by_slide = table[table.slide != POOLED].groupby("slide").scc.mean()
    slides = pd.DataFrame(rows).assign(scc=lambda each: each.slide.map(by_slide))
    return CohortScores(table, _genes(model, table), slides, numbers, notes)


def folder_of_slides(root: Path | str) -> Path | None:
    """Where slides are looked up by their names: the folder itself, or the one that an h5ad lies in."""
    path = Path(root)
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name in ("adata", "st") else path.parent


def _matched(data: Dataset, slide: str, barcodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of a slide's spots that were scored: in the dataset, and among those scored."""
    here = np.flatnonzero(data.spots.slide.to_numpy(str) == slide)
    found = pd.Index(np.asarray(barcodes, dtype=str)).get_indexer(data.spots.barcode.to_numpy(str)[here])
    if not (found >= 0).any():
        raise ModelError(f"Expected spots of slide {slide!r} with counts and inputs, found none that have both.")
    return here[found >= 0], found[found >= 0]


def _seen(model: FittedModel, data: Dataset) -> list[str]:
    """Slides of the cohort that have the name of one in training: an outside cohort has none."""
    slides = model.about.get("slides", {})
    shared = sorted({*slides.get("train", []), *slides.get("validation", [])} & set(data.slide_names))
    return [f"{', '.join(shared)}: slides of this name were trained on"] if shared else []


def _genes(model: FittedModel, table: pd.DataFrame) -> pd.DataFrame:
    """Every gene of the model here and at home."""
    here = table[table.slide != POOLED].groupby("gene")[["scc", "ceiling"]].mean().reindex(list(model.genes))
    text = model.about.get("per_gene")
    if text:
        own = pd.read_csv(StringIO(str(text)), dtype={"gene": str, "slide": str}, keep_default_na=False, na_values=[""])
        here["own_scc"] = own[own.slide != POOLED].groupby("gene").scc.mean().reindex(here.index)
    else:
        here["own_scc"] = np.nan
    here["difference"] = here.scc - here.own_scc
    return here.rename_axis("gene").reset_index()
