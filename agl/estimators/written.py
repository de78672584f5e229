"""A fitted estimator as plain tensors, so that it outlives the data it was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from agl.errors import UserError
from agl.estimators.committee import CommitteeScores
from agl.estimators.convex import LinearScores

LINEAR, COMMITTEE = "linear", "committee"


def written(fitted: Any) -> tuple[str, dict[str, Tensor]] | None:
    """What kind of scores they are and the tensors they are made of; None where nobody can tell.

    Whatever has a method `linear()` that gives `LinearScores` can be written, also an estimator of your own.
    """
    if isinstance(fitted, CommitteeScores):
        return COMMITTEE, {"members": fitted.weights}
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
        return CommitteeScores(tensors["members"], {})
    return LinearScores(tensors["weights"], tensors["intercept"], {})
