"""How well scores follow counts, per gene: one policy for slides, and one for what is undefined.

Undefined is NaN, never 0 and never noise. A correlation is undefined for a slide and gene with fewer than
three spots, with a score or count that is not finite, or with scores or counts that do not vary. Rounding is
allowed for: a float32 or float64 column whose range is within a few units in the last place of its largest
value is constant.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from strank.columns import centred, centred_ranks, cosine, finite, squares, varying
from strank.groups import FEWEST_SPOTS, check_holds_values
from strank.ranks import check_table, codes_by_gene, gene_chunks, inversions, sort_integers
from strank.segments import Segments

Kernel = Callable[[Tensor, Tensor, Segments], Tensor]  # two float64 [gene, spot] -> [gene, slide]


def pearson(scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, per_slide: bool = False) -> Tensor:
    """Pearson's correlation of scores and counts, per gene.

    r = sum_i (s_i - mean s)(c_i - mean c) / sqrt(sum_i (s_i - mean s)^2 sum_i (c_i - mean c)^2)

    Args:
        scores: `[spot, gene]`, any real dtype.
        counts: `[spot, gene]`, raw or transformed, any real dtype.
        slides: integer codes `[spot]`; correlations are taken inside each slide. None pools all spots.
        per_slide: keep the slides apart.

    Returns:
        float64 `[gene]`: the mean over the slides where it is defined, NaN where there is none; with
        `per_slide` `[slide, gene]`, slides in rising code order.

    Raises:
        TypeError, ValueError: wrong dtypes or shapes, saying what was expected.

    Source: K. Pearson, Proc. R. Soc. Lond. 58 (1895) 240.

    >>> pearson(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1], [2], [6]])).round(decimals=4)
    tensor([0.9449], dtype=torch.float64)
    >>> pearson(torch.zeros(3, 1), torch.tensor([[1], [2], [6]]))  # a constant score has no correlation
    tensor([nan], dtype=torch.float64)
    """
    return _per_gene(_pearson, scores, counts, slides, per_slide, must_vary=True)


def spearman(scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, per_slide: bool = False) -> Tensor:
    """Spearman's correlation: Pearson's of the tie-aware ranks, exact at any number of ties.

    Arguments, shapes and errors as in `pearson`.

    Source: C. Spearman, Am. J. Psychol. 15 (1904) 72.

    >>> spearman(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1], [2], [6]]))
    tensor([1.], dtype=torch.float64)
    """
    return _per_gene(_spearman, scores, counts, slides, per_slide, must_vary=True)


def kendall(scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, per_slide: bool = False) -> Tensor:
    """Kendall's tau-b, in O(n log^2 n) time and O(n) memory. Arguments as in `pearson`.

    tau_b = (C - D) / sqrt((P - P_s)(P - P_c)); C, D concordant and discordant pairs, P all pairs, P_s and P_c
    the pairs tied in scores and in counts.

    Source: M. G. Kendall, Biometrika 33 (1945) 239; W. R. Knight, J. Am. Stat. Assoc. 61 (1966) 436.

    >>> kendall(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1], [6], [2]])).round(decimals=4)
    tensor([0.3333], dtype=torch.float64)
    """
    return _per_gene(_kendall, scores, counts, slides, per_slide, must_vary=True)


def mean_squared_error(
    scores: Tensor, counts: Tensor, *, slides: Tensor | None = None, per_slide: bool = False
) -> Tensor:
    """mean_i (s_i - c_i)^2 per gene: defined for constants and from one spot on. Arguments as in `pearson`.

    >>> mean_squared_error(torch.tensor([[0.0], [1.0]]), torch.tensor([[1], [3]]))
    tensor([2.5000], dtype=torch.float64)
    """
    return _per_gene(_mean_squared_error, scores, counts, slides, per_slide, must_vary=False)


def count_undefined(values: Tensor) -> int:
    """How many entries of a metric are undefined; of a `per_slide=True` result, (slide, gene) pairs.

    >>> count_undefined(spearman(torch.ones(3, 2), torch.eye(3)[:, :2]))
    2
    """
    return int(values.isnan().sum())


@torch.no_grad()
def why_undefined(scores: Tensor, counts: Tensor, *, slides: Tensor | None = None) -> dict[str, int]:
    """The (slide, gene) pairs without a correlation, by the first reason that holds.

    >>> why_undefined(torch.ones(3, 2), torch.eye(3)[:, :2])
    {'few_spots': 0, 'not_finite': 0, 'constant_counts': 0, 'constant_scores': 2}
    """
    segments = _check(scores, counts, slides)
    few = (segments.lengths < FEWEST_SPOTS)[None, :]
    found = dict.fromkeys(("few_spots", "not_finite", "constant_counts", "constant_scores"), 0)
    for genes in gene_chunks(*scores.shape):
        s, c = segments.gene_major(scores[:, genes]), segments.gene_major(counts[:, genes])
        usable = finite(s, segments) & finite(c, segments)
        varies = {
            "constant_counts": varying(c, segments, counts.dtype),
            "constant_scores": varying(s, segments, scores.dtype),
        }
        left = torch.ones_like(usable)
        for reason, fine in {"few_spots": ~few.expand_as(left), "not_finite": usable, **varies}.items():
            found[reason] += int((left & ~fine).sum())
            left = left & fine
    return found


@torch.no_grad()
def _per_gene(
    kernel: Kernel, scores: Tensor, counts: Tensor, slides: Tensor | None, per_slide: bool, *, must_vary: bool
) -> Tensor:
    """Run a kernel over genes in chunks, blank what is undefined, average over slides unless told not to."""
    segments = _check(scores, counts, slides)
    values = torch.full((scores.shape[1], len(segments)), torch.nan, dtype=torch.float64, device=scores.device)
    if len(scores):
        for genes in gene_chunks(*scores.shape):
            s, c = segments.gene_major(scores[:, genes]), segments.gene_major(counts[:, genes])
            defined = finite(s, segments) & finite(c, segments)
            if must_vary:
                defined &= segments.lengths >= FEWEST_SPOTS
                defined &= varying(s, segments, scores.dtype) & varying(c, segments, counts.dtype)
            values[genes] = torch.where(defined, kernel(s, c, segments), torch.nan)
    by_slide = values.T.contiguous()
    if per_slide:
        return by_slide
    return by_slide.nanmean(0) if len(segments) != 1 else by_slide[0]


def _pearson(scores: Tensor, counts: Tensor, segments: Segments) -> Tensor:
    return _cosine(centred(scores, segments), centred(counts, segments), segments)


def _spearman(scores: Tensor, counts: Tensor, segments: Segments) -> Tensor:
    return _cosine(centred_ranks(scores, segments), centred_ranks(counts, segments), segments)


def _cosine(a: Tensor, b: Tensor, segments: Segments) -> Tensor:
    return cosine(a, b, squares(a, segments), squares(b, segments), segments)


def _kendall(scores: Tensor, counts: Tensor, segments: Segments) -> Tensor:
    n_spots = scores.shape[1]
    s, c = codes_by_gene(scores, segments), codes_by_gene(counts, segments)
    both = sort_integers(s * n_spots + c)  # by slide, score, count
    by_count = both % n_spots
    discordant = _int_sum(inversions(by_count), segments)
    pairs = (segments.lengths * (segments.lengths - 1) // 2)[None, :]
    tied_scores = _tied_pairs(both // n_spots, segments)
    tied_counts = _tied_pairs(sort_integers(c.clone()), segments)
    concordant = pairs - tied_scores - tied_counts + _tied_pairs(both, segments) - discordant
    untied = ((pairs - tied_scores).double() * (pairs - tied_counts).double()).sqrt()
    return ((concordant - discordant) / untied).clamp(-1, 1)


def _tied_pairs(ordered: Tensor, segments: Segments) -> Tensor:
    """Equal pairs per slide of sorted int64 `[gene, spot]`: an entry pairs with its run's earlier ones."""
    place = torch.arange(ordered.shape[1], device=ordered.device).expand_as(ordered)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return _int_sum(place - torch.where(starts, place, 0).cummax(1).values, segments)


def _int_sum(values: Tensor, segments: Segments) -> Tensor:
    ends = torch.nn.functional.pad(values.cumsum(1), (1, 0))
    return ends[:, segments.starts + segments.lengths] - ends[:, segments.starts]


def _mean_squared_error(scores: Tensor, counts: Tensor, segments: Segments) -> Tensor:
    return segments.sum((scores - counts).square()) / segments.lengths


def _check(scores: Tensor, counts: Tensor, slides: Tensor | None) -> Segments:
    check_table(scores, "scores")
    check_table(counts, "counts")
    check_holds_values(scores=scores, counts=counts)
    if scores.shape != counts.shape:
        raise ValueError(
            "Expected scores and counts of one shape [spot, gene], "
            f"received {list(scores.shape)} and {list(counts.shape)}."
        )
    return Segments(slides, len(scores), scores.device)
