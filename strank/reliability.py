"""How far scores can go: counts are noisy, so even the true expression does not correlate with them by 1."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strank.groups import FEWEST_SPOTS, LAST_PLACES
from strank.losses.inputs import TARGET_SUM
from strank.segments import Segments

Metric = Literal["spearman", "pearson"]
Whole = NDArray[np.int64]
Real = NDArray[np.float64]


def ceiling(
    counts: Tensor,
    library_size: Tensor,
    *,
    slides: Tensor | None = None,
    metric: Metric = "spearman",
    repeats: int = 10,
    seed: int = 0,
    per_slide: bool = False,
) -> Tensor:
    r"""Noise ceiling: the correlation with the observed counts that a perfect predictor would reach, per gene.

    .. math:: C_g = \sqrt{\frac{2 \rho_g}{1 + \rho_g}}, \qquad
              \rho_g = \frac1R \sum_r \mathrm{corr}(y_{\cdot g}, y'_{\cdot g}), \qquad
              y_{ig} = \log(1 + 10^4 h_{ig} / \textstyle\sum_{g'} h_{ig'}), \quad
              h_{ig} \sim \mathrm{Binomial}(c_{ig}, \tfrac12)

    Each of R splits deals every count c of a spot to two halves, h and c - h (y'), which are two measurements of the
    same spot that do not share their noise; the genes that are not in the table are dealt with as one more. rho is the
    reliability of half the depth, Spearman-Brown's formula makes it that of the whole, and the root is the correlation
    of the truth with what was measured. A negative rho counts as 0.

    Args:
        counts: raw counts `[spot, gene]`, whole numbers of any dtype, dense or sparse.
        library_size: `[spot]`, totals over all genes of the spot, those of `counts` included.
        slides: integer codes `[spot]`; correlations are taken inside each slide. None pools all spots.
        metric: "spearman" or "pearson", whichever the scores are judged by.
        repeats: R.
        seed: of the splits; equal seeds give equal ceilings.
        per_slide: keep the slides apart.

    Returns:
        float64 `[gene]`, between 0 and 1: the mean over the slides where it is defined, NaN where there is none; with
        `per_slide` `[slide, gene]`, slides in rising code order. Undefined are fewer than three spots with counts in
        both halves, and genes of which a half does not vary in one of the splits: too few counts to say anything.

    Raises:
        TypeError, ValueError: wrong dtypes or shapes, counts that are not whole, libraries smaller than their counts.

    How far it is off, from simulations that know the truth (1,000 spots, log-normal expression of log sd .5 and 1, mean
    counts 0.1 to 10): with equal libraries "pearson" is .01 too low to .03 too high. "spearman", for which the formula
    is approximate (ranks are not additive), is so too for moderate genes, but .04 to .11 too high for genes that are
    both rare (at most one count a spot) and variable (log sd 1): no ranking follows their many ties. Halves share the
    depth of their spot, which log(1 + x) of few counts follows: libraries of log sd .5 add up to .06 ("pearson") and
    .16 ("spearman"). Genes without any signal get .05 to .1, not 0, as negative values are cut, and up to .23 where
    libraries vary. So high ceilings can be relied on, low ones are upper bounds.

    Source: W. Brown, Br. J. Psychol. 3 (1910) 296; C. Spearman, ibid. 271 (halves and the correction); thinning of
    Poisson counts into independent parts.

    >>> rate = torch.linspace(0, 10, 400)[:, None] * torch.tensor([0.1, 10.0])  # the first gene is rare
    >>> counts = torch.poisson(rate, generator=torch.Generator().manual_seed(0))
    >>> ceiling(counts, torch.full((400,), 5000)).round(decimals=1)
    tensor([0.4000, 1.0000], dtype=torch.float64)
    """
    segments = _check(counts, library_size, slides, metric, repeats)
    entries, n_genes, n_slides = Entries.of(counts), counts.shape[1], len(segments)
    slide = segments.spot_major(segments.ids[None]).flatten().numpy()
    lists = entries.gene * n_slides + slide[entries.spot]  # a list: the spots of one slide, seen by one gene
    splits = halves(entries, _rest(entries, library_size), seed)
    rho = np.zeros(n_genes * n_slides)
    for one, two in islice(splits, repeats):
        usable = (one.library > 0) & (two.library > 0)
        n_spots = np.tile(np.bincount(slide[usable], minlength=n_slides), n_genes)
        kept = usable[entries.spot]
        at, spot = lists[kept], entries.spot[kept]
        x, y = (half.counts[kept] / half.library[spot] for half in (one, two))
        if metric == "spearman":
            x, y = _ranks(x, at, n_spots), _ranks(y, at, n_spots)
        else:
            x, y = np.log1p(TARGET_SUM * x), np.log1p(TARGET_SUM * y)
        rho += _correlation(x, y, at, n_spots) / repeats
    rho = rho.clip(0, 1)
    by_slide = torch.from_numpy(np.sqrt(2 * rho / (1 + rho)).reshape(n_genes, n_slides).T.copy())
    if per_slide:
        return by_slide
    return by_slide.nanmean(0) if n_slides != 1 else by_slide[0]


class Entries(NamedTuple):
    """The counts above 0 of a table, each with its spot and its gene: few of them, in most tables."""

    spot: Whole
    gene: Whole
    counts: Whole

    @classmethod
    def of(cls, counts: Tensor) -> Entries:
        """Of a `[spot, gene]` table, dense or sparse; ValueError where a number is no count."""
        table = counts.detach().cpu().to_sparse_coo().coalesce()
        (spot, gene), count = table.indices().numpy(), table.values().numpy()
        if not (np.isfinite(count).all() and (count >= 0).all() and (count == np.floor(count)).all()):
            raise ValueError("Expected counts as whole numbers of at least 0, received others; pass raw counts.")
        some = count > 0
        return cls(spot[some], gene[some], count[some].astype(np.int64))


class Half(NamedTuple):
    """A part of every count, and of every library."""

    counts: Whole  # [entry]
    library: Whole  # [spot]


def halves(entries: Entries, rest: Whole, seed: int) -> Iterator[tuple[Half, Half]]:
    """Random halves without end: every molecule goes to one or the other by itself.

    `rest` `[spot]` are the counts of the library that are not among the entries.
    """
    rng, n_spots = np.random.default_rng(seed), len(rest)
    library = rest + _by_spot(entries.counts, entries.spot, n_spots)
    while True:
        count = rng.binomial(entries.counts, 0.5)
        size = rng.binomial(rest, 0.5) + _by_spot(count, entries.spot, n_spots)
        yield Half(count, size), Half(entries.counts - count, library - size)


def _by_spot(counts: Whole, spot: Whole, n_spots: int) -> Whole:
    return np.bincount(spot, counts, n_spots).astype(np.int64)  # exact: float64 holds whole numbers up to 2^53


def _ranks(values: Real, lists: Whole, n_spots: Whole) -> Real:
    """Average ranks of non-negative values within lists, above the rank that all zeros of the list share.

    Spots without an entry are zeros, so theirs are right without being written. Values are told apart to a float32's
    precision: one integer then holds list and value, and sorting those is fast.
    """
    some = values > 0
    at, n_some = lists[some], np.bincount(lists[some], minlength=len(n_spots))
    keys = (at << 32) | values[some].astype(np.float32).view(np.int32)  # positive floats sort as their bits do
    order = keys.argsort()
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))  # of runs of ties
    lengths = np.diff(starts, append=len(keys))
    ranks = np.empty(len(keys))
    ranks[order] = np.repeat(starts + (lengths + 1) / 2, lengths)  # over all lists laid end to end
    out = np.zeros(len(values))
    before, zeros = n_some.cumsum() - n_some, n_spots - n_some
    out[some] = ranks - before[at] + (zeros[at] - 1) / 2
    return out


def _correlation(x: Real, y: Real, lists: Whole, n_spots: Whole) -> Real:
    """Pearson's r `[list]` of two values an entry, 0 for the spots without one; NaN where undefined."""

    def total(values: Real) -> Real:
        return np.bincount(lists, values, len(n_spots)).astype(np.float64, copy=False)

    with np.errstate(divide="ignore", invalid="ignore"):
        x_mean, y_mean = total(x) / n_spots, total(y) / n_spots
        x, y = x - x_mean[lists], y - y_mean[lists]
        absent = n_spots - np.bincount(lists, minlength=len(n_spots))
        xx, yy = total(x * x) + absent * x_mean**2, total(y * y) + absent * y_mean**2
        r = (total(x * y) + absent * x_mean * y_mean) / np.sqrt(xx * yy)
    noise = LAST_PLACES * np.finfo(np.float64).eps
    varies = (xx > n_spots * (noise * x_mean) ** 2) & (yy > n_spots * (noise * y_mean) ** 2)
    r[~(varies & (n_spots >= FEWEST_SPOTS))] = np.nan
    return r


def _rest(entries: Entries, library_size: Tensor) -> Whole:
    """What a library holds beyond the counts given, `[spot]`."""
    size = library_size.detach().cpu().double().numpy()
    if not (np.isfinite(size).all() and (size == np.floor(size)).all()):
        raise ValueError("Expected library_size as whole numbers, received others; pass totals of raw counts.")
    rest = size.astype(np.int64) - _by_spot(entries.counts, entries.spot, len(size))
    if (rest < 0).any():
        raise ValueError(
            f"Expected library_size of at least the counts of a spot, received less in {int((rest < 0).sum())} spots; "
            "pass totals over all genes."
        )
    return rest


def _check(counts: Tensor, library_size: Tensor, slides: Tensor | None, metric: str, repeats: int) -> Segments:
    for name, value in (("counts", counts), ("library_size", library_size)):
        if not isinstance(value, Tensor):
            raise TypeError(f"Expected {name} as a torch tensor, received {type(value).__name__}; use torch.as_tensor.")
        if value.is_complex():
            raise TypeError(f"Expected real {name}, received {value.dtype}; pass raw counts.")
    if counts.ndim != 2:
        raise ValueError(f"Expected counts of shape [spot, gene], received {list(counts.shape)}; add the other one.")
    if library_size.shape != counts.shape[:1]:
        raise ValueError(
            f"Expected library_size of shape [spot] = [{len(counts)}], received {list(library_size.shape)}; "
            "give one value per spot."
        )
    if metric not in ("spearman", "pearson"):
        raise ValueError(f"Expected metric='spearman' or metric='pearson', received {metric!r}; choose one.")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"Expected repeats as a whole number of at least 1, received {repeats!r}; 10 is a good one.")
    return Segments(None if slides is None else slides.cpu(), len(counts), torch.device("cpu"))
