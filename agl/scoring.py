"""How well scores rank the spots: per gene, per slide and pooled, with what is undefined counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import strank
from agl.data.expression import expression
from agl.nuisances import NUISANCES
from strank.reference import ReferenceCounts

POOLED = "(pooled)"
PREDICTABILITY = "predictability"  # of a gene in the training spots, see `agl.genes.lookalikes`
EXACT = 1e-9  # 1 - r^2 below which two columns are the same but for rounding


class Target:
    """Log expression of some spots, which scores are held against again and again.

    Args:
        counts: raw counts `[spot, gene]`.
        library_size, slides: `[spot]`; spots without any count are left out.
    """

    def __init__(self, counts: Tensor, library_size: np.ndarray, slides: np.ndarray) -> None:
        measured = np.asarray(library_size) > 0
        self.keep = torch.from_numpy(measured)
        self.known = Known(
            expression(counts[self.keep], np.asarray(library_size)[measured]),
            torch.from_numpy(np.asarray(slides)[measured]),
        )

    def mean_scores(self, scores: Tensor) -> dict[str, float]:
        """Mean over slides of the mean over defined genes, and how many (slide, gene) pairs are undefined."""
        scc, pcc, constant = self.known.correlations(scores[self.keep])
        return {
            "scc": mean_over_slides(scc),
            "pcc": mean_over_slides(pcc),
            "undefined": int(scc.isnan().sum()),
            "constant": int(constant.sum()),
        }


def mean_scores(scores: Tensor, counts: Tensor, library_size: np.ndarray, slides: np.ndarray) -> dict[str, float]:
    """`Target.mean_scores` of scores that are the only ones."""
    return Target(counts, library_size, slides).mean_scores(scores)


def without_depth(
    scores: Tensor, target: Tensor, library_size: Tensor, slides: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`correlations` with depth partialled out: what is left of a score once depth is known.

    r_st.d = (r_st - r_sd r_td) / sqrt((1 - r_sd^2) (1 - r_td^2)), with s the scores, t the target and d the log library
    size `[spot]`; Spearman's r for the one, Pearson's for the other. Scores that are depth itself say nothing beyond
    it: 0. NaN where `correlations` has it, or where depth alone gives the gene.

    Source: Kendall 1942, Biometrika 32:277 (its form for ranks); Yule 1907.
    """
    scc, pcc, constant = correlations(scores, target, slides)
    depth = library_size.double().log()[:, None].expand_as(target)
    return (
        _partial(scc, *(correlations(each, depth, slides)[0] for each in (scores, target))),
        _partial(pcc, *(correlations(each, depth, slides)[1] for each in (scores, target))),
        constant,
    )


def _partial(both: Tensor, scores: Tensor, target: Tensor) -> Tensor:
    """Of three correlations; depth that does not vary takes nothing away."""
    scores, target = scores.nan_to_num(0.0), torch.where(both.isnan(), torch.nan, target.nan_to_num(0.0))
    left = (1 - scores.square()) * (1 - target.square())
    found = (both - scores * target) / left.clamp_min(1e-24).sqrt()
    found = torch.where(1 - scores.square() < EXACT, torch.zeros_like(found), found)
    return torch.where(1 - target.square() < EXACT, torch.nan, found).clamp(-1, 1)


class Known:
    """A target `[spot, gene]` with its slides' codes `[spot]`, its ranks worked out."""

    def __init__(self, target: Tensor, slides: Tensor) -> None:
        self.reference, self.slides = ReferenceCounts(target, slides), slides
        self.defined = self.reference.correlations(target)[1].isfinite()

    def correlations(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spearman, Pearson `[slide, gene]`, and where the scores do not vary although the gene does.

        Such a prediction ranks nothing and counts 0: left out of the means, a method whose heads collapse on hard genes
        would gain by it. NaN remains for what no method could rank: a constant gene, fewer than three spots.
        """
        scc, pcc = self.reference.correlations(scores)
        constant = self.defined & scc.isnan()
        if bool(constant.any()):
            constant &= torch.stack([scores[self.slides == code].isfinite().all(0) for code in self.slides.unique()])
        zero = torch.zeros((), dtype=scc.dtype)
        return torch.where(constant, zero, scc), torch.where(constant, zero, pcc), constant


def correlations(scores: Tensor, target: Tensor, slides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`Known.correlations` with a target that is asked for once."""
    return Known(target, slides).correlations(scores)


def mean_over_slides(values: Tensor) -> float:
    """Of `[slide, gene]` the mean over slides of the mean over defined genes; NaN where nothing is defined.

    >>> mean_over_slides(torch.tensor([[0.2, 0.4], [0.6, torch.nan]]))
    0.45...
    """
    return float(values.double().nanmean(1).nanmean())


class Measured:
    """The counts of some spots, ready to judge any number of scores by.

    Args:
        counts: raw counts `[spot, gene]`.
        library_size, slides: `[spot]`, the slides by name.
        genes: names.
        depth: "partial" takes depth out of scc and pcc, see `without_depth`; no ceiling is known of such a score.
        beside: column -> scores `[spot, gene]` of what needs no model, see `agl.nuisances`.
    """

    def __init__(
        self,
        counts: Tensor,
        library_size: np.ndarray,
        slides: Sequence[str] | np.ndarray,
        genes: Sequence[str],
        *,
        depth: str = "plain",
        beside: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        measured = np.asarray(library_size) > 0
        self.raw = Known(counts.double().log1p(), torch.zeros(len(counts), dtype=torch.long))
        self.keep, self.genes, self.depth = torch.from_numpy(measured), genes, depth
        self.counts, library_size = counts[self.keep], np.asarray(library_size)[measured]
        self.present, codes = np.unique(np.asarray(slides)[measured], return_inverse=True)
        self.groups = torch.from_numpy(codes)
        self.totals = torch.from_numpy(np.asarray(library_size, dtype=np.float64))
        target = expression(self.counts, library_size)
        self.known = Known(target, self.groups)
        self.together = Known(target, torch.zeros(len(target), dtype=torch.long))
        self.others = {
            name: self.known.correlations(torch.from_numpy(np.asarray(each))[self.keep])[0]
            for name, each in (beside or {}).items()
        }
        self._ceilings: dict[int, Tensor] = {}

    def table(self, scores: Tensor, *, seed: int = 0) -> pd.DataFrame:
        """`gene_table` of some scores `[spot, gene]`."""
        raw = self.raw.correlations(scores)[1][0]
        scores = scores[self.keep]
        scc, pcc, constant = self._correlate(scores, self.known)
        reach, parts = self._ceiling(seed), []
        for row, slide in enumerate(self.present):
            here = self.counts[self.groups == row]
            values = {"scc": scc[row], "pcc": pcc[row], "constant": constant[row], "ceiling": reach[row]}
            others = {name: each[row] for name, each in self.others.items()}
            parts.append(_rows(slide, self.genes, here, **values, **others))
        scc, pcc, constant = (values[0] for values in self._correlate(scores, self.together))
        parts.append(_rows(POOLED, self.genes, self.counts, scc=scc, pcc=pcc, constant=constant, pcc_log1p=raw))
        return pd.concat(parts, ignore_index=True)

    def _correlate(self, scores: Tensor, known: Known) -> tuple[Tensor, Tensor, Tensor]:
        if self.depth == "plain":
            return known.correlations(scores)
        return without_depth(scores, known.reference.counts, self.totals, known.slides)

    def _ceiling(self, seed: int) -> Tensor:
        if seed not in self._ceilings:
            found = strank.ceiling(self.counts, self.totals, slides=self.groups, seed=seed, per_slide=True)
            self._ceilings[seed] = found if self.depth == "plain" else torch.full_like(found, torch.nan)
        return self._ceilings[seed]


def gene_table(
    scores: Tensor,
    counts: Tensor,
    library_size: np.ndarray,
    slides: Sequence[str] | np.ndarray,
    genes: Sequence[str],
    *,
    seed: int = 0,
    depth: str = "plain",
    beside: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """One row a gene and slide, and one a gene over all slides pooled; arguments as of `Measured`.

    Columns: slide, gene, spots, scc, pcc (against log-normalised expression), constant (1 where the prediction does
    not vary: it counts 0), ceiling (rows of a slide: the scc that a perfect predictor would reach, by `strank.ceiling`
    with this seed; NaN where the counts are too few to say), pcc_log1p (pooled rows: against log1p of raw counts over
    all spots, those without any count too, HEST-bench's score), mean_count and zero_fraction of the gene on the spots
    that have counts; and the scc of other predictors' scores.
    """
    return Measured(counts, library_size, slides, genes, depth=depth, beside=beside).table(scores, seed=seed)


def summary(table: pd.DataFrame) -> dict[str, float | int]:
    """The run's numbers: per slide (mean over slides of means over defined genes) and pooled.

    `share` is the scc over the ceiling, both over the pairs of gene and slide that have both. What needs no model
    (`agl.nuisances`) has its scc beside, where it was scored, and so has the genes' predictability without training.
    """
    per_slide, pooled = table[table.slide != POOLED], table[table.slide == POOLED]

    beside = [name for name in (*NUISANCES, PREDICTABILITY) if name in table]
    shown = ["scc", "pcc", "ceiling", *beside]
    pairs = per_slide.pivot(index="slide", columns="gene", values=shown).astype(float)
    known = pairs["scc"].notna() & pairs["ceiling"].notna()

    def mean(column: str, among: Any = None) -> float:
        values = pairs[column] if among is None else pairs[column].where(among)
        return mean_over_slides(torch.from_numpy(np.ascontiguousarray(values.to_numpy(dtype=float))))

    ceiling = mean("ceiling", known)
    return {
        "scc": mean("scc"),
        "pcc": mean("pcc"),
        "scc_pooled": float(pooled.scc.mean()),
        "pcc_pooled": float(pooled.pcc.mean()),
        "pcc_log1p_pooled": float(pooled.pcc_log1p.mean()),
        "ceiling": mean("ceiling"),
        "share": mean("scc", known) / ceiling if ceiling > 0 else float("nan"),
        "undefined": int(per_slide.scc.isna().sum()),
        "constant": int(per_slide.constant.sum()),
        "pairs": len(per_slide),
        **{name: mean(name) for name in beside},
    }


def _rows(slide: str, genes: Sequence[str], counts: Tensor, **values: Tensor) -> pd.DataFrame:
    exact = counts.double()
    columns = {name: value.double().numpy() for name, value in values.items()}
    return pd.DataFrame(
        {"slide": slide, "gene": list(genes), "spots": len(counts), **columns}
        | {"mean_count": exact.mean(0).numpy(), "zero_fraction": (exact == 0).double().mean(0).numpy()}
    )
