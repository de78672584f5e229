"""Several models of the same inputs as one: folds and seeds of a config, say. Equal votes, their spread beside them.

Members' scores have no common unit, so each is standardised over the spots of the slide, as in a committee:
score = mean over members of (s - mean_slide s) / sd_slide s, spread = their standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agl.errors import ModelError
from agl.estimators.committee_scores import mean_and_spread, rows_of, standardised
from agl.prediction.fitted import FittedModel
from agl.prediction.recipe import Recipe
from agl.prediction.scorers import Read


@dataclass(frozen=True, eq=False)
class Averaged:
    """The `Scorer` of an ensemble.

    Attributes:
        members: of the same inputs.
        genes: the shared ones, which are scored.
    """

    members: tuple[FittedModel, ...]
    genes: tuple[str, ...]

    def __call__(self, read: Read, slides: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean and spread of the members' standardised scores, both `[spot, gene]`; see `scorers.Scorer`."""
        mean, spread = mean_and_spread(self._standard(read, slides), [1 / len(self.members)] * len(self.members))
        return mean.numpy(), spread.numpy()

    def _standard(self, read: Read, slides: np.ndarray) -> Iterator[Tensor]:
        """Every member's scores, standardised inside slides."""
        rows = rows_of(slides)
        for member in self.members:
            position = {gene: i for i, gene in enumerate(member.genes)}
            scores = np.asarray(member.scorer(read, slides)[0], dtype=np.float64)
            yield standardised(torch.from_numpy(scores[:, [position[gene] for gene in self.genes]]), rows)


def ensemble_of(models: Sequence[FittedModel]) -> FittedModel:
    """The models' average as one model, of the genes that all of them score.

    Raises:
        ModelError: none; models of other features, context, normalisation or patches; no gene in common.
    """
    if not models:
        raise ModelError("Expected models to average, received none.")
    first = models[0]
    for other in models[1:]:
        for what in ("encoders", "context", "normalise", "patch_shape"):
            ours, theirs = getattr(first.recipe, what), getattr(other.recipe, what)
            if ours != theirs:
                raise ModelError(
                    f"Expected models of the same inputs to average, received {what} {ours} of {_name(first)} and "
                    f"{theirs} of {_name(other)}. Average runs of one config: its folds and seeds."
                )
    genes = tuple(gene for gene in first.genes if all(gene in model.genes for model in models[1:]))
    if not genes:
        raise ModelError(
            "Expected models that share genes, received none that all of them score. Primary genes are chosen in "
            "every fold anew; name them (primary=file) to average over folds."
        )
    recipe = _pooled([model.recipe for model in models])
    return FittedModel(genes, recipe, Averaged(tuple(models), genes), first.config, _about(models))


def _pooled(recipes: Sequence[Recipe]) -> Recipe:
    """What inputs were like over all members' training spots, each counting the same."""
    means, sds = (np.asarray([getattr(recipe, name) for recipe in recipes]) for name in ("mean", "sd"))
    mean, sd = means.mean(0), np.sqrt((sds**2).mean(0) + means.var(0))
    return replace(recipes[0], mean=tuple(mean.tolist()), sd=tuple(sd.tolist()))


def _name(model: FittedModel) -> str:
    return str(model.about.get("run", model.config.model.name))


def _about(models: Sequence[FittedModel]) -> dict[str, Any]:
    """What the members know of themselves, together; their scores are of each on its own test slides."""
    tables = [str(model.about["per_gene"]) for model in models if "per_gene" in model.about]
    rows = [line for i, table in enumerate(tables) for line in table.splitlines()[1 if i else 0 :]]
    trained = [f"{_name(model)}: {model.about.get('trained_on', {}).get('slides', '?')}" for model in models]
    return {
        "run": " + ".join(map(_name, models)),
        "members": len(models),
        "trained_on": {f"slides of member {i}": words for i, words in enumerate(trained, start=1)},
        "test_slides": sum(int(model.about.get("test_slides", 0)) for model in models),
        "origin": {"ensemble of": len(models), **dict(models[0].about.get("origin", {}))},
    } | ({"per_gene": "\n".join(rows) + "\n"} if len({table.partition("\n")[0] for table in tables}) == 1 else {})
