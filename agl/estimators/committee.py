"""The plain average of many cheap solved learners, nothing chosen, and a network where it adds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from agl import registry
from agl.errors import UserError
from agl.estimators.committee_scores import CommitteeScores, Scored
from agl.estimators.convex import LinearScores
from agl.estimators.inside import folds_inside
from agl.estimators.low_rank import Votes
from agl.estimators.members import Member, ModelMember, check_entry, model_member, read_members, solved
from agl.estimators.sample import Sample
from agl.estimators.seat import FEWEST, choose_share, stacked_shares
from agl.estimators.selection import settled

__all__ = ["MEMBERS", "NETWORK", "Committee", "CommitteeScores"]

SQUARES = (0.1, 0.3, 1.0, 3.0, 10.0)
LIKELIHOOD = (0.1, 0.3, 1.0, 3.0)
MEMBERS: tuple[Mapping[str, Any], ...] = (
    {"loss": "mse", "penalties": list(SQUARES)},
    {"loss": "mse", "penalties": list(SQUARES), "rank": 5},
    {"penalties": list(LIKELIHOOD)},  # the config's loss
)
NETWORK: Mapping[str, Any] = {"model": "mlp", "seeds": 2}  # of the config's loss


class Committee:
    """The mean of the members' scores, each standardised gene by gene inside each slide, with equal weights.

    A member is one loss, one view of the spots (their own features, or with their surroundings; with several encoders
    each of them), full or low rank, one penalty. Members of one view share one decomposition, so that a member costs
    milliseconds. The mean is better than nearly every member, and nothing is chosen. The auxiliary genes of the config
    decide on the directions of the low-rank members. The members' spread is what is uncertain about a spot's place.
    A member may also be any model by its name, `{model: mlp, seeds: 2}`; networks learn the primary genes alone.

    Where the config says nothing it sees surroundings and co-expressed genes (`surroundings`, `auxiliary_genes`): both
    gave it something and cost it nothing wherever they were measured, while surroundings can harm a single ridge. A
    network, started from the low-rank solution, has a seat where the training slides left out say that it adds: it has
    the smallest share within one standard error of the best, most often none (`agl.estimators.seat`).

    Args:
        members: a list of `{loss, penalties, rank, view, weight}`; without a loss the config's, without a rank full
            rank, without a view every view there is, without a weight 1. Or of `{model, loss, seeds, view, weight}` and
            arguments of the model.
        network: the member that has a seat where it adds; None: none has.
        without: ingredients to leave out: a loss, "low_rank", "full_rank", a view, a model.
        stacking: weights above or at 0, one a member, that fit left-out slides best, instead of equal ones.
        bound, votes: see `agl.estimators.low_rank.LowRank`.
    """

    surroundings: ClassVar[tuple[int, ...]] = (8, 24)  # two rings of a square lattice
    auxiliary_genes: ClassVar[str] = "coexpressed"

    def __init__(
        self,
        *,
        members: Sequence[Mapping[str, Any]] = MEMBERS,
        network: Mapping[str, Any] | None = NETWORK,
        without: Sequence[str] = (),
        stacking: bool = False,
        bound: float | None = 1.0,
        votes: Votes = "explained",
    ) -> None:
        self.votes: Votes = votes
        self.members, self.bound = [dict(member) for member in members], bound
        self.without = (without,) if isinstance(without, str) else tuple(without)
        self.network, self.stacking = None if network is None else dict(network), stacking
        for member in [*self.members, *([self.network] if self.network is not None else [])]:
            check_entry(member)
        if self.network is not None and "model" not in self.network:
            raise UserError(f"Expected a model at network, received {self.network}; write network: {{model: mlp}}.")

    def fit(self, sample: Sample) -> CommitteeScores:
        """Solve every member on all training spots; see whether a network adds, and weigh, on some left out."""
        views = _views(sample)
        seat = set() if self.network is None else {self.network["model"]}
        known = [
            word for word in self.without if word not in seat or any(word in each.values() for each in self.members)
        ]
        members = read_members(self.members, sample.loss, list(views), known)
        details: dict[str, Any] = {}
        low = [member.rank for member in members if isinstance(member, Member) and member.rank is not None]
        if low or sample.selector is not None:
            first = next(iter(views.values()))  # own features: fewer, and genes are compared, not scores
            settled_sample, details = settled(sample.seen(first), rank=max(low, default=5), bound=self.bound)
            sample = replace(settled_sample, features=sample.features)
        seated, decision = self._seat(sample, members)
        fitted = self._together(sample, [*members, *seated])
        shares = fitted.shares
        if self.stacking:
            shares = stacked_shares(sample, lambda rest: self._together(rest, [*members, *seated]), len(fitted))
        elif seated:
            count = sum(member.seeds for member in seated)  # the last ones; together they have the share chosen
            counted, share = fitted.counted, decision["network_share"]
            others = counted[:-count] / counted[:-count].sum() * (1 - share)
            shares = torch.cat([others, torch.full((count,), share / count, dtype=torch.float64)])
        details |= fitted.details | decision
        if self.stacking and shares is not None:
            details["shares"] = [round(float(each), 6) for each in shares]
        return replace(fitted, details=details, shares=shares)

    def _together(self, sample: Sample, members: Sequence[Member | ModelMember]) -> CommitteeScores:
        """All members fitted to some spots."""
        views = _views(sample)
        weights, names, counted = [], [], []
        others: list[Scored] = []
        for view, columns in views.items():
            mine = [member for member in members if isinstance(member, Member) and member.view == view]
            for name, found, weight in solved(sample.seen(columns), mine, self.bound, self.votes):
                full = torch.zeros(len(found), sample.features.shape[1], sample.n_primary, dtype=torch.float64)
                full[:, torch.from_numpy(columns)] = found
                weights.append(full)
                names.append(f"{view}: {name}")
                counted += [weight] * len(found)
        of_others: list[float] = []
        for member in (each for each in members if isinstance(each, ModelMember)):
            columns = views[member.view]
            names.append(member.name)
            for seed in range(member.seeds):
                scores = fitted_model(sample, member, columns, seed)
                if isinstance(scores, Tensor):
                    full = torch.zeros(1, sample.features.shape[1], sample.n_primary, dtype=torch.float64)
                    full[0, torch.from_numpy(columns)] = scores
                    weights.append(full)
                    counted.append(member.weight)
                else:
                    others.append(scores)
                    of_others.append(member.weight)
        counted += of_others
        none = torch.zeros(0, sample.features.shape[1], sample.n_primary, dtype=torch.float64)
        stacked = torch.cat([none, *weights]).float()  # rounded here, so that what is saved scores as what was fitted
        shares = None if len(set(counted)) == 1 else torch.tensor(counted, dtype=torch.float64)
        return CommitteeScores(stacked, {"members": len(counted), "ingredients": names}, tuple(others), shares)

    def _seat(
        self, sample: Sample, members: Sequence[Member | ModelMember]
    ) -> tuple[list[ModelMember], dict[str, Any]]:
        """The network, one a view, if it has a seat, and why; nothing where there is nobody to train one."""
        if self.network is None or sample.trains is None or len(sample) < FEWEST:
            return [], {}
        views = _views(sample)
        asked = [model_member(self.network, sample.loss, view) for view in [self.network.get("view")] if view] or [
            model_member(self.network, sample.loss, view) for view in views
        ]
        asked = [member for member in asked if not member.ingredients & set(self.without)]
        inside = folds_inside(sample, most=3)
        if not asked or len(inside) < 2 or inside.unit == "spots":
            return [], {}
        begun = time.perf_counter()
        share, scores = choose_share(
            sample,
            inside,
            lambda rest: self._together(rest, members),
            lambda rest: self._together(rest, [replace(member, seeds=1) for member in asked]),
        )
        decision = {"network_share": share, "network_scores": scores}
        return asked if share else [], decision | {"costs": {"seat": round(time.perf_counter() - begun, 3)}}


def fitted_model(sample: Sample, member: ModelMember, columns: np.ndarray, seed: int) -> Tensor | Scored:
    """A model by its name, fitted to the sample: an estimator here, a network by whoever trains one.

    Returns:
        weights `[feature, primary]` of scores that are linear, else what scores features.
    """
    kept = replace(sample, loss=member.loss)
    if registry.is_estimator(member.model):
        estimator = registry.build("estimator", member.model)
        seen = replace(kept.seen(columns), seed=sample.seed + seed)
        if registry.takes_sample(estimator):
            fitted = estimator.fit(seen)
        else:
            fitted = estimator.fit(seen.features, seen.primary, seen.library_size, seen.slides, seed=seen.seed)
        linear = fitted if isinstance(fitted, LinearScores) else fitted.linear() if hasattr(fitted, "linear") else None
        if isinstance(linear, LinearScores):
            return linear.weights.double()
        return lambda features: torch.from_numpy(np.asarray(fitted.predict(np.asarray(features)[:, columns])))
    if sample.trains is None:
        raise UserError(
            f"Expected an estimator as a member where nobody trains networks, received {member.model.name!r}; "
            "leave it out of members, or fit the committee by `agl train`."
        )
    alone = np.zeros(0, dtype=np.int64)  # a start of hundreds of auxiliary genes costs more than all other members
    return sample.trains(kept.with_genes(alone, np.zeros(0, dtype=np.float32)), member.model, columns, seed)


def _views(sample: Sample) -> dict[str, np.ndarray]:
    return dict(sample.views) or {"own": np.arange(sample.features.shape[1])}
