"""The members of a committee: lists of solved scores, and any other model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from agl import registry
from agl.config import Component
from agl.convex.losses import read_loss
from agl.errors import UserError, did_you_mean
from agl.estimators.convex import solve
from agl.estimators.low_rank import CutHeads, Votes
from agl.estimators.sample import Sample

KEYS = ("loss", "penalties", "rank", "view", "weight")
OF_MODELS = ("model", "loss", "seeds", "view", "weight")  # everything else are the model's own arguments
MOST_SEEDS = 20


@dataclass(frozen=True)
class Member:
    """One entry of the committee: a loss, its penalties, a rank or full rank, and by which view of the spots."""

    loss: str
    penalties: tuple[float, ...]
    rank: int | None
    view: str
    weight: float = 1.0

    @property
    def ingredients(self) -> set[str]:
        """What `without` may name."""
        return {self.loss, "full_rank" if self.rank is None else "low_rank", self.view}


@dataclass(frozen=True)
class ModelMember:
    """One entry that is a model by name, with a loss and seeds, by one view of the spots."""

    model: Component
    loss: Component
    seeds: int
    view: str
    weight: float = 1.0
    ingredients: set[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ingredients", {self.model.name, self.loss.name, self.view})

    @property
    def name(self) -> str:
        """For the record."""
        return f"{self.view}: {self.model.name}, {self.loss.name}"


def check_entry(entry: Mapping[str, Any]) -> None:
    """Refuse an entry of the config's list that is no member."""
    weight = entry.get("weight", 1.0)
    if not is_positive(weight):
        raise UserError(f"Expected a member's weight above 0, received {weight!r}; leave the member out instead.")
    if "model" in entry:
        seeds = entry.get("seeds", 1)
        if not isinstance(seeds, int) or isinstance(seeds, bool) or not 1 <= seeds <= MOST_SEEDS:
            raise UserError(f"Expected seeds of a member from 1 to {MOST_SEEDS}, received {seeds!r}.")
        if entry["model"] == "committee":
            raise UserError("Expected a member of a committee, received a committee; write its members instead.")
        if not isinstance(entry["model"], str):
            raise UserError(f"Expected a member's model by its name, received {entry['model']!r}; write model: mlp.")
        kind = registry.which(("model", "estimator"), entry["model"])
        if getattr(registry.find(kind, entry["model"]), "whole_slides", False):
            raise UserError(
                f"Expected a member that scores spot by spot, received {entry['model']!r}, which looks at a slide as a "
                f"whole. Train it by itself: model={entry['model']}."
            )
        return
    for key in entry:
        if key not in KEYS:
            raise UserError(f"Expected a member of {', '.join(KEYS)}, received {key!r}.{did_you_mean(key, KEYS)}")
    penalties, rank = entry.get("penalties"), entry.get("rank")
    if not penalties:
        raise UserError(f"Expected penalties of every member, received none for {dict(entry)}; write penalties: [1].")
    if not isinstance(penalties, Sequence) or not all(is_positive(value) for value in penalties):
        raise UserError(f"Expected penalties above 0 as in penalties: [1, 10], received {penalties!r}.")
    if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or rank < 1):
        raise UserError(f"Expected ranks of at least 1, received {rank!r}; leave it out for full rank.")


def read_members(
    entries: Sequence[Mapping[str, Any]], loss: Component, views: list[str], without: Sequence[str]
) -> list[Member | ModelMember]:
    """The members, the config's loss written in, without those that are left out."""
    read_loss(loss.name, loss.args)
    found: list[Member | ModelMember] = []
    for entry in entries:
        for view in [str(entry["view"])] if entry.get("view") else views:
            if "model" in entry:
                found.append(model_member(entry, loss, view))
                continue
            penalties = tuple(float(penalty) for penalty in entry["penalties"])
            weight = float(entry.get("weight", 1.0))
            found.append(Member(str(entry.get("loss", loss.name)), penalties, entry.get("rank"), view, weight))
    for view in (member.view for member in found):
        if view not in views:
            raise UserError(f"Expected a view in {views}, received {view!r}.{did_you_mean(view, views)}")
    known = set().union(*(member.ingredients for member in found)) if found else set()
    for word in without:
        if word not in known:
            raise UserError(f"Expected an ingredient to leave out, received {word!r}.{did_you_mean(word, known)}")
    kept = [member for member in found if not member.ingredients & set(without)]
    if not kept:
        raise UserError(f"Expected members to be left, received without={list(without)}, which leaves none.")
    return kept


def model_member(entry: Mapping[str, Any], loss: Component, view: str) -> ModelMember:
    """An entry `{model: mlp, seeds: 2, ...}`; without a loss it has the config's."""
    args = {key: value for key, value in entry.items() if key not in OF_MODELS}
    component = Component.model_validate({"name": entry["model"], **args})
    kind = registry.which(("model", "estimator"), component.name)
    registry.complete(kind, component)  # refuses a name or an argument that is none, before anything is solved
    given = entry.get("loss")
    own = loss if given is None or given == loss.name else Component.model_validate(given)
    return ModelMember(component, own, int(entry.get("seeds", 1)), view, float(entry.get("weight", 1.0)))


def is_positive(value: Any) -> bool:
    """Whether a value is a number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def solved(
    sample: Sample, members: Sequence[Member], bound: float | None, votes: Votes
) -> list[tuple[str, Tensor, float]]:
    """Name, weights `[penalty, feature, primary]` for raw features and weight of every member; members of one loss
    share a path."""
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
            found.append((f"{loss}{rank}", weights.double(), member.weight))
    return found
