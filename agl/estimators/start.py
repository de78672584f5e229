"""The solution that a network starts from: which losses have one, and its scores of every gene of the panel."""

from __future__ import annotations

from typing import Any

from agl.config import Component
from agl.convex.losses import default_penalties, read_loss
from agl.errors import UserError
from agl.estimators.convex import Convex, LinearScores
from agl.estimators.low_rank import LowRank
from agl.estimators.sample import Sample

SOLVERS: dict[str, type[Convex] | type[LowRank]] = {"low_rank": LowRank, "convex": Convex}
DEFAULT = "low_rank"


def read_start(wanted: str, loss: Component) -> str:
    """What `start` comes to under a loss: low_rank, convex or none.

    Raises:
        UserError: a start is asked for, and the loss cannot be solved.

    >>> read_start("auto", Component(name="listwise")), read_start("auto", Component(name="margin_ranking"))
    ('low_rank', 'none')
    """
    if wanted == "none":
        return wanted
    try:
        read_loss(loss.name, loss.args)
    except UserError as error:
        if wanted == "auto":
            return "none"
        raise UserError(f"{error} Or set model.start=none: there is no solution to start from.") from None
    return DEFAULT if wanted == "auto" else wanted


def middle_penalty(loss: str) -> float:
    """Of the penalties worth trying with a loss."""
    path = sorted(default_penalties(loss))
    return float(path[len(path) // 2])


def solved_start(sample: Sample, start: str, **fixed: Any) -> LinearScores:
    """The chosen estimator's scores of all genes of the panel, auxiliary ones too.

    Penalty and rank are chosen inside the sample, for the primary genes, where they are not given. While a selection is
    being learnt no candidate votes for the directions: the start must not favour what the selector is yet to find.
    """
    if sample.selector is not None:
        sample = sample.undecided()
    return SOLVERS[start](**fixed).all_genes(sample)
