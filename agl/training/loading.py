"""From a config to data: the sections it names, the folds it asks for, and the negative control."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from agl import registry
from agl.config import Config
from agl.data.dataset import Dataset, open_dataset
from agl.data.example import folder_named
from agl.data.splitting.splits import Split
from agl.data.thinning import fewer_patients, thin
from agl.errors import UserError
from agl.seeds import seeded
from agl.training.contracts import splits_of


def data_folder(config: Config) -> str:
    """The folder the sections lie in: the example's if it is called so; simulated ones are written the first time."""
    if config.data.root is not None:
        return folder_named(config.data.root)
    from agl.data.simulate.embedded import simulated_folder

    return str(simulated_folder(config.data.simulate, cache_dir=config.data.cache))


def load_data(config: Config) -> Dataset:
    """The dataset of a config."""
    data = config.data
    dataset = open_dataset(
        data_folder(config),
        **data.reading,
        cache_dir=data.cache,
        sections=data.sections,
        min_counts=data.min_counts,
    )
    return permuted(dataset, config.seed) if data.permute else dataset


def load_splits(config: Config, dataset: Dataset, *, validated: bool | None = None) -> list[Split]:
    """Every fold of the config's split, validation carved from its training spots.

    Splits are made of all spots that have features, whatever their counts; those left out for their counts are taken
    away afterwards. So no count, least of all a test spot's, decides which spots are in which part.

    Args:
        validated: whether every fold needs validation spots; None: where the model is a network.
    """
    splits = registry.build(
        "split",
        config.split,
        dataset.listed,
        root=data_folder(config),
        seed=config.seed,
        validation_fraction=config.validation.fraction,
        validation_unit=config.validation.unit,
    )
    validated = not registry.is_estimator(config.model) if validated is None else validated
    folds = splits_of(config.split.name, splits, validated=validated)
    counted = [_counted(fold, len(dataset)) for fold in folds]
    if config.data.patients is not None:
        fewer = partial(fewer_patients, fraction=config.validation.fraction, unit=config.validation.unit)
        counted = [fewer(fold, dataset.spots, config.data.patients, config.seed) for fold in counted]
    return splits_of(config.split.name, counted, validated=validated)


def as_deep(config: Config, dataset: Dataset, split: Split) -> Dataset:
    """The dataset as deep as the config wants it in this fold (`data.thin`, `data.thin_test`, `data.library`)."""
    seen = np.union1d(split.train, split.validation)
    found = thin(dataset, seen, config.data.thin, config.data.thin_test, config.seed)
    if config.data.library == "measured":
        return found
    if config.scoring.depth == "partial":
        raise UserError(
            "Expected data.library=measured with scoring.depth=partial, received data.library=ignored, which scores "
            "depth as signal. Take one of the two."
        )
    return found.ignoring_library()


def _counted(split: Split, spots: int) -> Split:
    """A split of all listed spots, without those left out; the others come first."""
    parts = {name: getattr(split, name) for name in ("train", "validation", "test")}
    return replace(split, **{name: positions[positions < spots] for name, positions in parts.items()})


def permuted(dataset: Dataset, seed: int) -> Dataset:
    """The negative control: within every slide, the counts of spots are dealt out anew, whole spots at a time."""
    codes = np.asarray(dataset.slide_codes)
    rng = seeded(seed, "permute")
    order = np.arange(len(codes))
    for slide in np.unique(codes):
        here = np.flatnonzero(codes == slide)
        order[here] = rng.permutation(here)
    return replace(
        dataset,
        counts=dataset.counts[order],
        library_size=dataset.library_size[order],
        key=f"{dataset.key}-permuted",
    )
