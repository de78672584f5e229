"""Every choice simply evaluated: the score that is reported, of many weights, and of every k of a ranking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agl.convex.low_rank import moment
from agl.convex.outer import Fold, OuterProblem
from agl.convex.projector import Spectrum, kept_share
from agl.errors import UserError
from strank import average_ranks

AT_ONCE = 1 << 22  # scores held at one time


@dataclass(frozen=True, eq=False)
class Curve:
    """Score against the number of auxiliary genes.

    Args:
        ks: how many of the ranking's first genes; 0 is primary genes alone.
        by_slide: `[k, unit]`, a unit being a slide of a fold: mean Spearman correlation over genes.
        widened: `[k]`, whether some fold's rank had to grow there.
    """

    ks: tuple[int, ...]
    by_slide: Tensor
    widened: tuple[bool, ...]

    @property
    def mean(self) -> Tensor:
        """`[k]`, over slides."""
        return self.by_slide.mean(1)

    @property
    def standard_error(self) -> Tensor:
        """`[k]`, of the mean over slides; NaN for a single one. Slides differ more than choices do: see `paired`."""
        return standard_error(self.by_slide)

    def paired(self, reference: int) -> tuple[Tensor, Tensor]:
        """Difference to the k `ks[reference]`, slide by slide: its mean and standard error, each `[k]`."""
        difference = self.by_slide - self.by_slide[reference]
        return difference.mean(1), standard_error(difference)

    @property
    def best(self) -> int:
        """The k of the largest mean, the smallest among equals."""
        return self.ks[int(self.mean.argmax())]

    @property
    def simplest(self) -> int:
        """The smallest k whose paired difference to the best is within one standard error of it."""
        difference, error = self.paired(self.ks.index(self.best))
        close = -difference <= error.nan_to_num(0.0)
        return min(k for k, fine in zip(self.ks, close.tolist(), strict=True) if fine)

    @property
    def flat(self) -> tuple[int, int]:
        """Smallest and largest k within one paired standard error of the best: what a k is to be reported as."""
        difference, error = self.paired(self.ks.index(self.best))
        fine = [k for k, ok in zip(self.ks, (-difference <= error.nan_to_num(0.0)).tolist(), strict=True) if ok]
        return min(fine), max(fine)


def spearman(problem: OuterProblem, weights: Tensor) -> Tensor:
    """Mean Spearman correlation `[candidate, unit]` of weight vectors `[candidate, aux]`; a unit: a fold's slide."""
    weights = weights.detach().reshape(-1, problem.n_auxiliary)
    found = []
    for fold in problem.folds:
        own = fold.primary @ fold.primary.T
        coefficients = problem.coefficients(weights)
        matrices = torch.stack([own + moment(fold.auxiliary, row) for row in coefficients])
        found.append(_scored(problem, fold, matrices)[0])
    return torch.cat(found, 1)


def curve(problem: OuterProblem, ranking: Tensor | Sequence[int], ks: Sequence[int] | None = None) -> Curve:
    """The score of the first k genes of a ranking, for every k asked for, each gene at weight 1.

    M grows gene by gene, so that all k together cost one pass over the candidates, and every k one decomposition of a
    matrix as small as the number of features.

    Args:
        ranking: positions among the candidates, best first.
        ks: None: 0, and about 16 per factor of 10 up to the length of the ranking.

    Raises:
        UserError: repeated or unknown positions, a k beyond the ranking.
    """
    order = torch.as_tensor(ranking, dtype=torch.long)
    known = (order >= 0) & (order < problem.n_auxiliary)
    if len(order.unique()) != len(order) or not known.all():
        raise UserError(f"Expected a ranking of different positions below {problem.n_auxiliary}, received others.")
    chosen = steps(len(order)) if ks is None else tuple(sorted({int(k) for k in ks}))
    if not chosen or not 0 <= chosen[0] <= chosen[-1] <= len(order):
        raise UserError(f"Expected ks from 0 to {len(order)}, received {chosen or 'none'}.")
    found, widened = [], torch.zeros(len(chosen), dtype=torch.bool)
    for fold in problem.folds:
        parts = [_scored(problem, fold, matrices) for matrices in _grown(problem, fold, order, chosen)]
        found.append(torch.cat([scores for scores, _ in parts]))
        widened |= torch.cat([wider for _, wider in parts])
    return Curve(chosen, torch.cat(found, 1), tuple(widened.tolist()))


def steps(n: int, per_decade: int = 16) -> tuple[int, ...]:
    """0, every k up to about `per_decade`, then growing steps up to n.

    >>> steps(100, per_decade=4)
    (0, 1, 2, 3, 6, 10, 18, 32, 56, 100)
    """
    if n == 0:
        return (0,)
    count = math.ceil(per_decade * math.log10(n)) if n > 1 else 0
    grown = {round(n ** (i / count)) for i in range(count + 1)} if count else {1}
    return tuple(sorted({0, *grown}))


def standard_error(values: Tensor) -> Tensor:
    """Of the mean over the last dimension; NaN for one value."""
    n = values.shape[-1]
    return values.std(-1) / n**0.5 if n > 1 else torch.full(values.shape[:-1], torch.nan, dtype=values.dtype)


def _grown(problem: OuterProblem, fold: Fold, order: Tensor, ks: tuple[int, ...]) -> Iterator[Tensor]:
    """M of every k `[k, q, q]`, some at a time."""
    own, step = fold.primary @ fold.primary.T, _batch(problem, fold)
    total, done, ready = torch.zeros_like(own), 0, []
    for k in ks:
        new = fold.auxiliary[:, order[done:k]]
        total, done = total + new @ new.T, k
        sum_of_weights = torch.tensor(k * problem.strength, dtype=total.dtype)
        ready.append(own + total * problem.strength * problem.shrinkage(sum_of_weights))
        if len(ready) == step or k == ks[-1]:
            yield torch.stack(ready)
            ready = []


def _scored(problem: OuterProblem, fold: Fold, matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Correlations `[candidate, slide]` of the trunks of M `[candidate, q, q]`, and where a rank was widened."""
    spectrum = Spectrum.of(matrices)
    filters, widened = [], []
    for values, vectors in zip(spectrum.values, spectrum.vectors, strict=True):
        one = Spectrum(values, vectors)
        used = [one.clear_rank(rank, problem.min_gap) for rank in problem.ranks]
        filters.append(kept_share(used, len(values), values))
        widened.append(any(u > min(r, len(values)) for u, r in zip(used, problem.ranks, strict=True)))
    within = torch.stack(filters)[:, :, None] * (spectrum.vectors.mT @ fold.heads)
    ranked, slides = _ranked_counts(fold)
    parts = []
    for part in torch.arange(len(matrices)).split(_batch(problem, fold)):
        scores = (fold.held @ spectrum.vectors[part]) @ within[part]  # [candidate, spot, primary]
        if fold.intercept is not None:
            scores = scores + fold.intercept
        parts.append(_correlations(scores, ranked, fold.slides, slides))
    return torch.cat(parts), torch.tensor(widened)


def _batch(problem: OuterProblem, fold: Fold) -> int:
    return max(1, AT_ONCE // max(1, len(fold.held) * max(problem.n_primary, len(fold.heads))))


def _ranked_counts(fold: Fold) -> tuple[Tensor, list[Tensor]]:
    """Unit-length centred ranks of the counts inside slides `[spot, primary]` (NaN: constant), and the slides' rows."""
    rows = [(fold.slides == code).nonzero().squeeze(1) for code in fold.slides.unique()]
    return _unit_ranks(fold.counts, fold.slides, rows), rows


def _correlations(scores: Tensor, ranked: Tensor, slides: Tensor, rows: list[Tensor]) -> Tensor:
    """`[candidate, slide]`, mean over the genes where a correlation is defined."""
    n, spots, genes = scores.shape
    flat = scores.permute(1, 0, 2).reshape(spots, n * genes)
    ours = _unit_ranks(flat, slides, rows).reshape(spots, n, genes)
    return torch.stack([(ours[some] * ranked[some, None]).sum(0).nanmean(1) for some in rows], 1)


def _unit_ranks(values: Tensor, slides: Tensor, rows: list[Tensor]) -> Tensor:
    ranks = average_ranks(values, slides)
    for some in rows:
        own = ranks[some] - (len(some) + 1) / 2
        ranks[some] = own / own.norm(dim=0)  # 0 / 0 = NaN: a constant column has no correlation
    return ranks
