"""What a component must be before training: a sentence to the author of one that is something else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from agl.data.splitting.splits import Split
from agl.errors import UserError
from agl.training.checks import check_scores, kind_of
from agl.training.plugins import Plugin


def splits_of(name: str, given: Any, *, validated: bool) -> list[Split]:
    """The folds of a split; with `validated`, each has spots that decide when to stop."""
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(split, Split) for split in given):
        raise UserError(
            f"Expected a list of agl.data.splitting.splits.Split from the split {name!r}, received {kind_of(given)}. "
            "Return one Split a fold."
        )
    empty = [split.name for split in given if validated and not len(split.validation)]
    if empty:
        raise UserError(
            f"Expected validation spots in every fold of the split {name!r}, found none in {empty[0]!r}. "
            "They decide when to stop: carve some with agl.data.splitting.splits.hold_out."
        )
    return list(given)


def plugin_of(name: str, given: Any) -> Plugin:
    """A plugin of the training loop."""
    if not isinstance(given, Plugin):
        raise UserError(
            f"Expected a subclass of agl.training.plugins.Plugin from {name!r}, received {kind_of(given)}. "
            "Inherit from it and override the events you care about."
        )
    return given


def module_of(name: str, given: Any) -> Any:
    """A predictor: any module that maps inputs to scores."""
    if not isinstance(given, nn.Module):
        raise UserError(
            f"Expected a torch.nn.Module from the model {name!r}, received {kind_of(given)}. "
            "Return one that maps inputs to scores [spot, gene]."
        )
    return given


def try_model(name: str, model: nn.Module, n_features: int, n_genes: int) -> None:
    """Score two spots of nothing: a model of one's own says here, in one sentence, that its layers do not fit."""
    was = model.training
    try:
        with torch.no_grad():
            scores = model.eval()(torch.zeros(2, n_features))
    except (RuntimeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"Expected the model {name!r} to score spots of {n_features} features, received an error: {reason}. "
            "Let its first layer take n_features."
        ) from error
    model.train(was)
    check_scores(scores, 2, n_genes)
