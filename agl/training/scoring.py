"""How well scores rank the spots: per gene, per slide and pooled, with what is undefined counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import strank

POOLED = "(pooled)"


def expression(counts: Tensor, library_size: np.ndarray, *, depth: float = 1e4) -> Tensor:
    """log(1 + depth * counts / library size), `[spot, gene]`; what scores are compared with.

    The library size is the spot's total over all genes. Spots without counts have no expression and give NaN.
    """
    totals = torch.from_numpy(np.asarray(library_size, dtype=np.float64))[:, None]
    return torch.log1p(depth * counts.double() / torch.where(totals > 0, totals, torch.nan))


def mean_scores(scores: Tensor, counts: Tensor, library_size: np.ndarray, slides: np.ndarray) -> dict[str, float]:
    """Mean over slides of the mean over defined genes, and how many (slide, gene) pairs are undefined."""
    measured = np.asarray(library_size) > 0
    keep = torch.from_numpy(measured)
    target = expression(counts[keep], library_size[measured])
    groups = torch.from_numpy(np.asarray(slides)[measured])
    scc = strank.spearman(scores[keep], target, slides=groups, per_slide=True)
    pcc = strank.pearson(scores[keep], target, slides=groups, per_slide=True)
    return {"scc": _mean(scc), "pcc": _mean(pcc), "undefined": int(scc.isnan().sum())}


def gene_table(
    scores: Tensor,
    counts: Tensor,
    library_size: np.ndarray,
    slides: Sequence[str] | np.ndarray,
    genes: Sequence[str],
) -> pd.DataFrame:
    """One row a gene and slide, and one a gene over all slides pooled.

    Columns: slide, gene, spots, scc, pcc (against log-normalised expression), pcc_log1p (pooled rows: against
    log1p of raw counts, HEST-bench's score), mean_count and zero_fraction of the gene on those spots.
    """
    measured = np.asarray(library_size) > 0
    names = np.asarray(slides)[measured]
    keep = torch.from_numpy(measured)
    scores, counts, library_size = scores[keep], counts[keep], library_size[measured]
    target = expression(counts, library_size)
    present, codes = np.unique(names, return_inverse=True)
    groups = torch.from_numpy(codes)
    scc = strank.spearman(scores, target, slides=groups, per_slide=True)
    pcc = strank.pearson(scores, target, slides=groups, per_slide=True)
    parts = []
    for row, slide in enumerate(present):
        here = counts[groups == row]
        parts.append(_rows(slide, genes, here, scc=scc[row], pcc=pcc[row]))
    pooled = {"scc": strank.spearman(scores, target), "pcc": strank.pearson(scores, target)}
    parts.append(_rows(POOLED, genes, counts, **pooled, pcc_log1p=strank.pearson(scores, counts.double().log1p())))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> dict[str, float | int]:
    """The run's numbers: per slide (mean over slides of means over defined genes) and pooled."""
    per_slide, pooled = table[table.slide != POOLED], table[table.slide == POOLED]
    slides = per_slide.groupby("slide")[["scc", "pcc"]].mean()
    return {
        "scc": float(slides.scc.mean()),
        "pcc": float(slides.pcc.mean()),
        "scc_pooled": float(pooled.scc.mean()),
        "pcc_pooled": float(pooled.pcc.mean()),
        "pcc_log1p_pooled": float(pooled.pcc_log1p.mean()),
        "undefined": int(per_slide.scc.isna().sum()),
        "pairs": len(per_slide),
    }


def _rows(slide: str, genes: Sequence[str], counts: Tensor, **values: Tensor) -> pd.DataFrame:
    exact = counts.double()
    columns = {name: value.double().numpy() for name, value in values.items()}
    return pd.DataFrame(
        {"slide": slide, "gene": list(genes), "spots": len(counts), **columns}
        | {"mean_count": exact.mean(0).numpy(), "zero_fraction": (exact == 0).double().mean(0).numpy()}
    )


def _mean(values: Tensor) -> float:
    """Mean over slides of the mean over defined genes; NaN where nothing is defined."""
    per_slide = values.nanmean(1)
    return float(per_slide.nanmean())
