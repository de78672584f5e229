"""What a run keeps so that its model outlives the training data: the weights, and what its inputs are made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agl.leftovers import replacing

if TYPE_CHECKING:
    from agl.config import Config
    from agl.data.dataset import Dataset
    from agl.prediction.recipe import Recipe
    from agl.training.experiment import Experiment

WEIGHTS, RECIPE = "checkpoints/best.safetensors", "recipe.json"


def save_fitted(path: Path, fitted: Any) -> None:
    """The scores of a fitted estimator, if they can be written down."""
    from safetensors.torch import save_file

    from agl.estimators.written import written

    found = written(fitted)
    if found is not None:
        path.parent.mkdir(exist_ok=True)
        tensors = {key: value.contiguous() for key, value in found[1].items()}
        with replacing(path) as part:
            save_file(tensors, str(part), metadata={"kind": found[0]})


def recipe_of(experiment: Experiment) -> Recipe:
    """What the run's inputs are made of, and what they were like on the spots it was fitted on."""
    from agl.prediction.recipe import Recipe, moments

    config, dataset = experiment.config, experiment.dataset
    spots = np.sort(np.concatenate([experiment.split.train, experiment.split.validation]))
    if dataset.features is None:
        assert dataset.patches is not None
        shown = spots[np.unique(np.linspace(0, len(spots) - 1, min(len(spots), 1024)).astype(np.int64))]
        mean, sd = moments(dataset.patches.read(shown).mean((1, 2)))
        shape = dataset.patches.shape
        return Recipe((), (), "train", (shape[0], shape[1], shape[2]), tuple(mean.tolist()), tuple(sd.tolist()))
    about = dataset.report.get("features") or {}
    named = about.get("encoders") or {str(config.data.features): {"width": dataset.features.shape[1]}}
    encoders = tuple((str(name), int(each["width"])) for name, each in named.items())
    table = _before_normalising(config, dataset)[:, : sum(width for _, width in encoders)]
    mean, sd = moments(table[spots])
    data = config.data
    own = tuple(mean.tolist()), tuple(sd.tolist())
    return Recipe(encoders, data.surroundings, data.normalise, None, *own, bool(data.places))


def _before_normalising(config: Config, dataset: Dataset) -> np.ndarray:
    """The features as they came, own columns first."""
    from agl.training.loading import load_data

    assert dataset.features is not None
    if config.data.normalise == "train":
        return dataset.features
    changes = {"context": (), "normalise": "train", "places": False}
    plain = config.model_copy(update={"data": config.data.model_copy(update=changes)})
    features = load_data(plain).features
    assert features is not None
    assert len(features) == len(dataset)
    return features
