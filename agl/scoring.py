"""How well scores rank the spots: per gene, per slide and pooled, with what is undefined counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import strank
from agl.data.expression import expression

POOLED = "(pooled)"


def mean_scores(scores: Tensor, counts: Tensor, library_size: np.ndarray, slides: np.ndarray) -> dict[str, float]:
    """Mean over slides of the mean over defined genes, and how many (slide, gene) pairs are undefined."""
    measured = np.asarray(library_size) > 0
    keep = torch.from_numpy(measured)
    target = expression(counts[keep], library_size[measured])
    groups = torch.from_numpy(np.asarray(slides)[measured])
    scc, pcc, constant = correlations(scores[keep], target, groups)
    return {
        "scc": mean_over_slides(scc),
        "pcc": mean_over_slides(pcc),
        "undefined": int(scc.isnan().sum()),
        "constant": int(constant.sum()),
    }


def correlations(scores: Tensor, target: Tensor, slides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Spearman, Pearson `[slide, gene]`, and where the scores do not vary although the gene does.

    Such a prediction ranks nothing and counts 0: left out of the means, a method whose heads collapse on hard genes
    would gain by it. NaN remains for what no method could rank: a constant gene, fewer than three spots.
    """
    defined = strank.pearson(target, target, slides=slides, per_slide=True).isfinite()
    scc = strank.spearman(scores, target, slides=slides, per_slide=True)
    pcc = strank.pearson(scores, target, slides=slides, per_slide=True)
    finite = torch.stack([scores[slides == code].isfinite().all(0) for code in slides.unique()])
    constant = defined & scc.isnan() & finite
    zero = torch.zeros((), dtype=scc.dtype)
    return torch.where(constant, zero, scc), torch.where(constant, zero, pcc), constant


def mean_over_slides(values: Tensor) -> float:
    """Of `[slide, gene]` the mean over slides of the mean over defined genes; NaN where nothing is defined.

    >>> mean_over_slides(torch.tensor([[0.2, 0.4], [0.6, torch.nan]]))
    0.45...
    """
    return float(values.double().nanmean(1).nanmean())


def gene_table(
    scores: Tensor,
    counts: Tensor,
    library_size: np.ndarray,
    slides: Sequence[str] | np.ndarray,
    genes: Sequence[str],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a gene and slide, and one a gene over all slides pooled.

    Columns: slide, gene, spots, scc, pcc (against log-normalised expression), constant (1 where the prediction does
    not vary: it counts 0), ceiling (rows of a slide: the scc that a perfect predictor would reach, by `strank.ceiling`
    with this seed; NaN where the counts are too few to say), pcc_log1p (pooled rows: against log1p of raw counts over
    all spots, those without any count too, HEST-bench's score), mean_count and zero_fraction of the gene on the spots
    that have counts.
    """
    raw = correlations(scores, counts.double().log1p(), torch.zeros(len(scores), dtype=torch.long))[1][0]
    measured = np.asarray(library_size) > 0
    names = np.asarray(slides)[measured]
    keep = torch.from_numpy(measured)
    scores, counts, library_size = scores[keep], counts[keep], library_size[measured]
    target = expression(counts, library_size)
    present, codes = np.unique(names, return_inverse=True)
    groups = torch.from_numpy(codes)
    scc, pcc, constant = correlations(scores, target, groups)
    totals = torch.from_numpy(np.asarray(library_size, dtype=np.float64))
    reach = strank.ceiling(counts, totals, slides=groups, seed=seed, per_slide=True)
    parts = []
    for row, slide in enumerate(present):
        here = counts[groups == row]
        values = {"scc": scc[row], "pcc": pcc[row], "constant": constant[row], "ceiling": reach[row]}
        parts.append(_rows(slide, genes, here, **values))
    together = torch.zeros(len(scores), dtype=torch.long)
    scc, pcc, constant = (values[0] for values in correlations(scores, target, together))
    parts.append(_rows(POOLED, genes, counts, scc=scc, pcc=pcc, constant=constant, pcc_log1p=raw))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> dict[str, float | int]:
    """The run's numbers: per slide (mean over slides of means over defined genes) and pooled.

    `share` is the scc over the ceiling, both over the pairs of gene and slide that have both.
    """
    per_slide, pooled = table[table.slide != POOLED], table[table.slide == POOLED]

    def mean(column: str, among: pd.DataFrame = per_slide) -> float:
        pairs = among.pivot(index="slide", columns="gene", values=column)
        return mean_over_slides(torch.from_numpy(pairs.to_numpy(dtype=float)))

    both = per_slide.dropna(subset=["scc", "ceiling"])
    ceiling = mean("ceiling", both)
    return {
        "scc": mean("scc"),
        "pcc": mean("pcc"),
        "scc_pooled": float(pooled.scc.mean()),
        "pcc_pooled": float(pooled.pcc.mean()),
        "pcc_log1p_pooled": float(pooled.pcc_log1p.mean()),
        "ceiling": mean("ceiling"),
        "share": mean("scc", both) / ceiling if ceiling > 0 else float("nan"),
        "undefined": int(per_slide.scc.isna().sum()),
        "constant": int(per_slide.constant.sum()),
        "pairs": len(per_slide),
    }


def _rows(slide: str, genes: Sequence[str], counts: Tensor, **values: Tensor) -> pd.DataFrame:
    exact = counts.double()
    columns = {name: value.double().numpy() for name, value in values.items()}
    return pd.DataFrame(
        {"slide": slide, "gene": list(genes), "spots": len(counts), **columns}
        | {"mean_count": exact.mean(0).numpy(), "zero_fraction": (exact == 0).double().mean(0).numpy()}
    )
