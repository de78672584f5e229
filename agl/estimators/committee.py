"""The plain average of many cheap solved learners, nothing chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from agl.config import Component
from agl.convex.losses import read_loss
from agl.errors import UserError, did_you_mean
from agl.estimators.convex import solve
from agl.estimators.low_rank import CutHeads, Votes
from agl.estimators.sample import Sample
from agl.estimators.selection import settled
from agl.estimators.tables import check_finite, check_width

SQUARES = (0.1, 0.3, 1.0, 3.0, 10.0)
LIKELIHOOD = (0.1, 0.3, 1.0, 3.0)
MEMBERS: tuple[Mapping[str, Any], ...] = (
    {"loss": "mse", "penalties": list(SQUARES)},
    {"loss": "mse", "penalties": list(SQUARES), "rank": 5},
    {"penalties": list(LIKELIHOOD)},  # the config's loss
)
KEYS = ("loss", "penalties", "rank", "view")


@dataclass(frozen=True)
class Member:
    """One entry of the committee: a loss, its penalties, a rank or full rank, and by which view of the spots."""

    loss: str
    penalties: tuple[float, ...]
    rank: int | None
    view: str

    @property
    def ingredients(self) -> set[str]:
        """What `without` may name."""
        return {self.loss, "full_rank" if self.rank is None else "low_rank", self.view}


class Committee:
    """The mean of the members' scores, each standardised gene by gene inside each slide, with equal weights.

    A member is one loss, one view of the spots (their own features, or with their surroundings; with several encoders
    each of them), full or low rank, one penalty. Members of one view share one decomposition, so that a member costs
    milliseconds. The mean is better than nearly every member, and nothing is chosen. The auxiliary genes of the config
    decide on the directions of the low-rank members. The members' spread is what is uncertain about a spot's place.

    Where the config says nothing it sees surroundings and co-expressed genes (`surroundings`, `auxiliary_genes`): both
    gave it something and cost it nothing wherever they were measured, while surroundings can harm a single ridge.

    Args:
        members: a list of `{loss, penalties, rank, view}`; without a loss the config's, without a rank full rank,
            without a view every view there is.
        without: ingredients to leave out: a loss, "low_rank", "full_rank", a view.
        bound, votes: see `agl.estimators.low_rank.LowRank`.
    """

    surroundings: ClassVar[tuple[int, ...]] = (8, 24)  # two rings of a square lattice
    auxiliary_genes: ClassVar[str] = "coexpressed"

    def __init__(
        self,
        *,
        members: Sequence[Mapping[str, Any]] = MEMBERS,
        without: Sequence[str] = (),
        bound: float | None = 1.0,
        votes: Votes = "explained",
    ) -> None:
        self.votes: Votes = votes
        self.members, self.bound = [dict(member) for member in members], bound
        self.without = (without,) if isinstance(without, str) else tuple(without)
        for member in self.members:
            for key in member:
                if key not in KEYS:
                    raise UserError(
                        f"Expected a member of {', '.join(KEYS)}, received {key!r}.{did_you_mean(key, KEYS)}"
                    )
            penalties, rank = member.get("penalties"), member.get("rank")
            if not penalties:
                raise UserError(
                    f"Expected penalties of every member, received none for {member}; write penalties: [1]."
                )
            if not isinstance(penalties, Sequence) or not all(_is_penalty(value) for value in penalties):
                raise UserError(f"Expected penalties above 0 as in penalties: [1, 10], received {penalties!r}.")
            if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or rank < 1):
                raise UserError(f"Expected ranks of at least 1, received {rank!r}; leave it out for full rank.")

    def fit(self, sample: Sample) -> CommitteeScores:
        """Solve every member on all training spots."""
        views = dict(sample.views) or {"own": np.arange(sample.features.shape[1])}
        members = self._read(sample.loss, list(views))
        details: dict[str, Any] = {}
        low = [member.rank for member in members if member.rank is not None]
        if low or sample.selector is not None:
            first = next(iter(views.values()))  # own features: fewer, and genes are compared, not scores
            settled_sample, details = settled(sample.seen(first), rank=max(low, default=5), bound=self.bound)
            sample = replace(settled_sample, features=sample.features)
        weights, names = [], []
        for view, columns in views.items():
            mine = [member for member in members if member.view == view]
            for name, found in _solved(sample.seen(columns), mine, self.bound, self.votes):
                full = torch.zeros(len(found), sample.features.shape[1], sample.n_primary, dtype=torch.float64)
                full[:, torch.from_numpy(columns)] = found
                weights.append(full)
                names.append(f"{view}: {name}")
        stacked = torch.cat(weights).float()  # rounded here, so that what is saved scores as what was fitted
        return CommitteeScores(stacked, details | {"members": len(stacked), "ingredients": names})

    def _read(self, loss: Component, views: list[str]) -> list[Member]:
        """The members, the config's loss written in, without those that are left out."""
        read_loss(loss.name, loss.args)
        found = [
            Member(
                str(member.get("loss", loss.name)),
                tuple(float(penalty) for penalty in member["penalties"]),
                member.get("rank"),
                view,
            )
            for member in self.members
            for view in ([str(member["view"])] if member.get("view") else views)
        ]
        for member in found:
            if member.view not in views:
                raise UserError(
                    f"Expected a view in {views}, received {member.view!r}.{did_you_mean(member.view, views)}"
                )
        known = set().union(*(member.ingredients for member in found)) if found else set()
        for word in self.without:
            if word not in known:
                raise UserError(f"Expected an ingredient to leave out, received {word!r}.{did_you_mean(word, known)}")
        kept = [member for member in found if not member.ingredients & set(self.without)]
        if not kept:
            raise UserError(f"Expected members to be left, received without={list(self.without)}, which leaves none.")
        return kept


def _is_penalty(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _solved(sample: Sample, members: Sequence[Member], bound: float | None, votes: Votes) -> list[tuple[str, Tensor]]:
    """Every member's weights `[penalty, feature, primary]` for raw features; members of one loss share a path."""
    found = []
    for loss in dict.fromkeys(member.loss for member in members):
        mine = [member for member in members if member.loss == loss]
        path = sorted({penalty for member in mine for penalty in member.penalties}, reverse=True)
        low = any(member.rank is not None for member in mine)
        heads = solve(sample, path, sample.counts if low else sample.primary, loss=loss, told=True)
        cut = CutHeads(heads, sample, bound=bound, votes=votes, squares=loss == "mse") if low else None
        for member in mine:
            at = [path.index(penalty) for penalty in sorted(member.penalties, reverse=True)]
            if member.rank is None:
                weights = heads.basis.weights(heads.coefficients[at][..., : sample.n_primary])
            else:
                assert cut is not None
                weights = torch.stack([cut.linear(member.rank, position)[0] for position in at])
            rank = "" if member.rank is None else f", rank {member.rank}"
            found.append((f"{loss}{rank}", weights.double()))
    return found


@dataclass(frozen=True, eq=False)
class CommitteeScores:
    """The members' linear scores, standardised inside slides and averaged."""

    weights: Tensor  # [member, feature, gene]
    details: dict[str, Any]

    def members(self, features: np.ndarray, slides: np.ndarray) -> Iterator[Tensor]:
        """Every member's standardised scores `[spot, gene]`: mean 0 and sd 1 inside each slide, 0 without variation."""
        check_width(features, self.weights.shape[1])
        check_finite(features)
        x = torch.from_numpy(np.asarray(features, dtype=np.float64))
        codes = torch.from_numpy(np.unique(slides, return_inverse=True)[1])
        slides_of = [torch.nonzero(codes == code).flatten() for code in codes.unique()]
        for weights in self.weights:
            scores = x @ weights.double()
            for rows in slides_of:
                part = scores[rows] - scores[rows].mean(0)
                sd = part.square().mean(0).sqrt()
                scores[rows] = torch.where(sd > 1e-12, part / sd.clamp_min(1e-12), 0.0)
            yield scores

    def total(self, features: np.ndarray, slides: np.ndarray) -> Tensor:
        """The sum of the members' scores `[spot, gene]`: sums of several committees make one of all their members."""
        return torch.stack(list(self.members(features, slides))).sum(0)

    def predict(self, features: np.ndarray, slides: np.ndarray) -> np.ndarray:
        """float64 `[spot, gene]`; `slides` are codes `[spot]`, inside which the scores rank."""
        return self.mean_and_spread(features, slides)[0]

    def mean_and_spread(self, features: np.ndarray, slides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The members' mean score, and their standard deviation: how little they agree on a spot; both `[spot, gene]`.

        Member by member, so that memory does not grow with the committee.
        """
        mean = torch.zeros(len(features), self.weights.shape[2], dtype=torch.float64)
        squares = torch.zeros_like(mean)
        for count, scores in enumerate(self.members(features, slides), start=1):  # Welford, Technometrics 4 (1962) 419
            off = scores - mean
            mean += off / count
            squares += off * (scores - mean)
        return mean.numpy(), (squares / len(self.weights)).sqrt().numpy()
