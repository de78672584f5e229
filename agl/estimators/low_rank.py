"""A trunk of a few directions that all weighted genes share, in closed form, and the primary genes' heads in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from agl.convex.heads import Heads
from agl.convex.low_rank import Coordinates, Trunk, centred
from agl.data.expression import log_expression
from agl.errors import UserError
from agl.estimators.convex import LinearScores, penalties_of, solve
from agl.estimators.inside import folds_inside, score_by_slide, simplest_of_the_best
from agl.estimators.sample import Sample
from agl.estimators.selection import counted, settled

RANKS = (1, 2, 3, 5, 8, 12, 20)
Votes = Literal["equal", "explained"]


class LowRank:
    r"""The heads of `Convex`, cut to the r directions that explain most of all weighted genes' fitted values.

    .. math:: M = \sum_g w_g v_g v_g', \quad v_g = R b_g / |R b_g|, \quad X = Q R, \qquad
              B_r = R^{-1} U_r U_r' R B

    Primary genes count 1 each; auxiliary genes `strength` times their weight, all of them together at most `bound`
    times the primary ones. So the auxiliary genes of a gene set or a selector decide on the directions, and the
    primary genes are predicted from these alone; with as many directions as features this is `Convex`. Rank and
    penalty are chosen inside the training spots by the score that is reported; among pairs within one standard error
    of the best the lowest rank, then the strongest penalty is taken. A selector is tuned in closed form
    (`agl.estimators.selection`).

    Args:
        rank, penalty: fixed instead of chosen.
        ranks, penalties: to choose from.
        bound: largest total weight of the auxiliary genes, in total weights of the primary ones; None: no bound.
        votes: "explained": a gene votes in proportion to how much of its log expression its head explains on the
            training spots (squared correlation inside slides, for squares the share of variance), so that noise among
            the genes costs little; "equal": every gene of weight 1 alike.
    """

    def __init__(
        self,
        *,
        rank: int | None = None,
        penalty: float | None = None,
        ranks: Sequence[int] = RANKS,
        penalties: Sequence[float] | None = None,
        bound: float | None = 1.0,
        votes: Votes = "explained",
    ) -> None:
        self.ranks = tuple(sorted(ranks if rank is None else (rank,)))
        if not self.ranks or min(self.ranks) < 1:
            raise UserError(f"Expected ranks of at least 1, received {list(self.ranks) or 'none'}.")
        self.penalties = (penalty,) if penalty is not None else None if penalties is None else tuple(penalties)
        self.bound, self.votes = bound, votes

    def fit(self, sample: Sample) -> LinearScores:
        """Settle the genes' weights, choose rank and penalty inside, then solve and cut on all spots."""
        path = sorted(penalties_of(sample, self.penalties), reverse=True)
        sample, details = settled(sample, rank=self.ranks[len(self.ranks) // 2], bound=self.bound)
        rank, at, choice = self.choose(sample, path)
        weights, intercept = self._cut(sample, path[: at + 1], told=True).linear(rank, at)
        return LinearScores(weights, intercept, details | choice)

    def choose(self, sample: Sample, path: Sequence[float]) -> tuple[int, int, dict[str, Any]]:
        """The rank and the position of the penalty to take, path from the strongest on; and for the record."""
        options = [(rank, at) for rank in self.ranks for at in range(len(path))]  # the simplest first
        inside = folds_inside(sample)
        chosen = len(options) // 2  # where there are too few spots to leave any out
        details: dict[str, Any] = {}
        if len(inside) > 1 and len(options) > 1:
            found = []
            for kept, held in inside:
                rest, left = sample.at(kept), sample.at(held)
                heads = self._cut(rest, path)
                found.append(
                    score_by_slide(torch.cat([heads.scores(rank, left.features) for rank in self.ranks]), left)
                )
            by_slide = np.concatenate(found, axis=1)
            chosen = simplest_of_the_best(by_slide)
            best = np.nanmean(by_slide, axis=1)
            details = {"cv": inside.words, f"cv_{sample.score}": float(best[chosen])}
        rank, at = options[chosen]
        return rank, at, details | {"rank": rank, "penalty": path[at]}

    def all_genes(self, sample: Sample) -> LinearScores:
        """The same for every gene of the panel: auxiliary genes' heads cut to the directions that they voted on."""
        path = sorted(penalties_of(sample, self.penalties), reverse=True)
        voting = np.flatnonzero(sample.weights > 0)
        rank, at, details = self.choose(sample.with_genes(voting, sample.weights[voting]), path)
        weights, intercept = self._cut(sample, [path[at]]).linear(rank, 0, slice(None))
        return LinearScores(weights, intercept, details)

    def _cut(self, sample: Sample, path: Sequence[float], *, told: bool = False) -> CutHeads:
        heads = solve(sample, path, sample.counts, told=told)
        return CutHeads(heads, sample, bound=self.bound, votes=self.votes, squares=sample.loss.name == "mse")


class CutHeads:
    """Heads of all weighted genes for a path of penalties, and the trunks that they agree on."""

    def __init__(self, heads: Heads, sample: Sample, *, bound: float | None, votes: Votes, squares: bool) -> None:
        self.heads, self.n_primary = heads, sample.n_primary
        usable = sample.library_size > 0
        x = heads.basis(torch.from_numpy(np.asarray(sample.features[usable], dtype=np.float64)))
        slides = sample.slide_codes[usable]
        coordinates = Coordinates.of(x, slides)
        weights = counted(sample, bound)
        self.trunks, self.spectra = [], []
        shares = _Shares.of(x, sample.counts[usable], sample.library_size[usable], slides, squares)
        for coefficients in heads.coefficients.double():
            share = shares(coordinates, coefficients) if votes == "explained" else None
            self.trunks.append(Trunk(coordinates, coefficients, share))
            self.spectra.append(self.trunks[-1].spectrum(weights))

    def coefficients(self, rank: int, at: int, genes: slice | None = None) -> Tensor:
        """Of the primary genes, or some, `[component, gene]`; all directions there are where `rank` is larger."""
        return self.trunks[at].cut(self.spectra[at], [rank], genes or slice(0, self.n_primary))[0]

    def linear(self, rank: int, at: int, genes: slice | None = None) -> tuple[Tensor, Tensor]:
        """Weights `[feature, gene]` and intercept `[gene]` of the primary genes, or some, for raw features, of one
        penalty."""
        weights = self.heads.basis.weights(self.coefficients(rank, at, genes))
        level = self.heads.level[at, genes or slice(0, self.n_primary)]
        return weights, level - (self.heads.basis.mean[:, None] * weights).sum(0)

    def scores(self, rank: int, features: np.ndarray) -> Tensor:
        """`[penalty, spot, primary]` of raw features."""
        x = self.heads.basis(torch.from_numpy(np.asarray(features, dtype=np.float64)))
        return torch.stack([x @ self.coefficients(rank, at) for at in range(len(self.trunks))])


@dataclass(frozen=True, eq=False)
class _Shares:
    """What every gene's vote is worth, from 0 to 1, from sums over spots taken once for a whole path of penalties."""

    cross: Tensor  # [component, gene] X'Y, both centred inside slides
    total: Tensor  # [gene] sum of squares of Y
    squares: bool

    @classmethod
    def of(cls, x: Tensor, counts: np.ndarray, library_size: np.ndarray, slides: Tensor, squares: bool) -> _Shares:
        truth = centred(torch.from_numpy(log_expression(counts, library_size)), slides)
        return cls(centred(x, slides).T @ truth, truth.square().sum(0), squares)

    def __call__(self, coordinates: Coordinates, heads: Tensor) -> Tensor:
        """For squares the share of variance in the fitted values `[gene]`; scores of other losses have no scale, so
        theirs is the squared correlation."""
        fitted = (coordinates.into @ heads).square().sum(0)  # |X b|^2 = |R b|^2
        top, bottom = (
            (fitted, self.total) if self.squares else ((heads * self.cross).sum(0).square(), fitted * self.total)
        )
        return torch.where(bottom > 0, top / bottom.clamp_min(1e-300), 0.0).clamp_max(1.0)
