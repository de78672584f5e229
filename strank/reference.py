"""Many scores against one table of counts: what depends on the counts alone is worked out once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from strank.columns import centred, centred_ranks, cosine, finite, squares, varying
from strank.groups import FEWEST_SPOTS, check_holds_values
from strank.ranks import check_table, gene_chunks
from strank.segments import Segments

KEPT = 1 << 22  # entries of a table of counts whose ranks are kept: 100 MB; those of a larger one are found again


class _Side(NamedTuple):
    """Some genes of a table, ready for both correlations: `[gene, spot]`, `[gene, slide]`."""

    usable: Tensor
    ranks: Tensor  # less their mean
    rank_squares: Tensor  # summed over the slide
    values: Tensor
    value_squares: Tensor


class ReferenceCounts:
    """A table of counts that scores are correlated with, again and again, as after every epoch.

    Args:
        counts: `[spot, gene]`, raw or transformed, any real dtype.
        slides: integer codes `[spot]`; correlations are taken inside each slide. None pools all spots.

    Raises:
        TypeError, ValueError: wrong dtypes or shapes, saying what was expected.

    >>> reference = ReferenceCounts(torch.tensor([[1], [2], [6]]))
    >>> spearman, pearson = reference.correlations(torch.tensor([[0.0], [1.0], [2.0]]))
    >>> spearman.item(), round(pearson.item(), 4)
    (1.0, 0.9449)
    """

    @torch.no_grad()
    def __init__(self, counts: Tensor, slides: Tensor | None = None) -> None:
        check_table(counts, "counts")
        check_holds_values(counts=counts)
        self.counts = counts
        self.segments = Segments(slides, len(counts), counts.device)
        self._chunks = list(gene_chunks(*counts.shape)) if len(counts) else []
        keeps = counts.numel() <= KEPT
        self._kept = [_side(counts[:, genes], self.segments) for genes in self._chunks] if keeps else None

    @torch.no_grad()
    def correlations(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Spearman's and Pearson's, float64 `[slide, gene]`: `strank.spearman`, `strank.pearson` with `per_slide`.

        Args:
            scores: `[spot, gene]`, any real dtype, of the shape of the counts.
        """
        check_table(scores, "scores")
        check_holds_values(scores=scores)
        if scores.shape != self.counts.shape:
            raise ValueError(
                "Expected scores and counts of one shape [spot, gene], "
                f"received {list(scores.shape)} and {list(self.counts.shape)}."
            )
        found = scores.new_full((2, scores.shape[1], len(self.segments)), torch.nan, dtype=torch.float64)
        for number, genes in enumerate(self._chunks):
            a = _side(scores[:, genes], self.segments)
            b = _side(self.counts[:, genes], self.segments) if self._kept is None else self._kept[number]
            usable = a.usable & b.usable
            spearman = cosine(a.ranks, b.ranks, a.rank_squares, b.rank_squares, self.segments)
            pearson = cosine(a.values, b.values, a.value_squares, b.value_squares, self.segments)
            found[:, genes] = torch.where(usable, torch.stack([spearman, pearson]), torch.nan)
        by_slide = found.transpose(1, 2).contiguous()
        return by_slide[0], by_slide[1]


def _side(table: Tensor, segments: Segments) -> _Side:
    values = segments.gene_major(table)
    usable = finite(values, segments) & (segments.lengths >= FEWEST_SPOTS) & varying(values, segments, table.dtype)
    ranks, around_mean = centred_ranks(values, segments), centred(values, segments)
    return _Side(usable, ranks, squares(ranks, segments), around_mean, squares(around_mean, segments))
