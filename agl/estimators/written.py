"""A fitted estimator as plain tensors, so that it outlives the data it was fitted on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agl.errors import UserError
from agl.estimators.committee_scores import CommitteeScores
from agl.estimators.convex import LinearScores
from agl.estimators.networks import NetworkScores

LINEAR, COMMITTEE, NETWORKS = "linear", "committee", "networks"
Written = tuple[str, dict[str, Tensor]]


def written(fitted: Any) -> Written | None:
    """What kind of scores they are and the tensors they are made of; None where nobody can tell.

    Whatever has a method `linear()` that gives `LinearScores` can be written, also an estimator of your own.
    """
    if isinstance(fitted, CommitteeScores):
        return _written_committee(fitted)
    linear = fitted if isinstance(fitted, LinearScores) else fitted.linear() if hasattr(fitted, "linear") else None
    if isinstance(linear, LinearScores):
        return LINEAR, {"weights": linear.weights.double(), "intercept": linear.intercept.double()}
    return None


def read(kind: str, tensors: Mapping[str, Tensor]) -> LinearScores | CommitteeScores:
    """The scores that `written` wrote.

    >>> import torch
    >>> before = LinearScores(torch.ones(2, 1), torch.zeros(1), {})
    >>> read(*written(before)).predict(torch.tensor([[1.0, 2.0]]).numpy())
    array([[3.]])
    """
    wanted = {LINEAR: {"weights", "intercept"}, COMMITTEE: {"members"}}
    if kind not in wanted or not wanted[kind] <= set(tensors):
        raise UserError(
            f"Expected the tensors of {LINEAR} or {COMMITTEE} scores, received {kind!r} with "
            f"{', '.join(sorted(tensors)) or 'none'}. Was it written by a newer version? Then install that one."
        )
    if kind == COMMITTEE:
        return _read_committee(tensors)
    return LinearScores(tensors["weights"], tensors["intercept"], {})


def _written_committee(fitted: CommitteeScores) -> Written | None:
    """Linear members in one tensor, each network's under its number."""
    tensors = {"members": fitted.weights}
    if fitted.shares is not None:
        tensors["shares"] = fitted.shares
    networks = []
    for number, other in enumerate(fitted.others):
        if not isinstance(other, NetworkScores):
            return None
        state = other.model.state_dict()
        tensors |= {f"{number}.{key}": value.detach().cpu().contiguous() for key, value in state.items()}
        networks.append(other.about())
    if networks:  # as a tensor: two words of metadata are written in any order
        tensors[NETWORKS] = torch.frombuffer(bytearray(json.dumps(networks).encode()), dtype=torch.uint8)
    return COMMITTEE, tensors


def _words(tensor: Tensor | None) -> list[dict[str, Any]]:
    return [] if tensor is None else list(json.loads(bytes(tensor.tolist())))


def _read_committee(tensors: Mapping[str, Tensor]) -> CommitteeScores:
    others = []
    for number, each in enumerate(_words(tensors.get(NETWORKS))):
        prefix = f"{number}."
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        others.append(NetworkScores.rebuilt(each, own))
    return CommitteeScores(tensors["members"], {}, tuple(others), tensors.get("shares"))
