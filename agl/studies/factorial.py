"""Every combination of some options, scored on training slides that were left out in turn.

The committee is a sum of members, and most combinations share most of them: each group of members is solved once for
every view of the spots, normalisation, loss and gene set, and the combinations are put together from these. No run
folder is written, and no spot is seen but those given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from agl.config import Component, Config
from agl.data.dataset import Dataset
from agl.data.splitting.holdout import patient_or_slide
from agl.data.views import CONTEXT
from agl.errors import UserError
from agl.estimators.committee import MEMBERS, Committee
from agl.estimators.inside import Inside, folds_inside, score_by_slide
from agl.estimators.sample import Sample
from agl.genes.panel import Panel, choose_panel, choose_primary
from agl.genes.training import TrainingSpots
from agl.studies.options import GENES, Options
from agl.training.experiment import sample_of

Done = Callable[[], None]


@dataclass(frozen=True)
class Scored:
    """How every combination fared.

    Attributes:
        scores: `[*options.shape, unit]`, the score that is reported, mean over genes.
        units: names of what was left out: patients, slides, or parts of the only slide.
        unit: "patients", "slides" or "spots".
        genes: gene set -> names of its auxiliary genes.
    """

    scores: np.ndarray
    units: tuple[str, ...]
    unit: str
    genes: Mapping[str, tuple[str, ...]]


def score_options(
    config: Config, datasets: Mapping[str, Dataset], spots: np.ndarray, options: Options, done: Done | None = None
) -> Scored:
    """Score every combination inside some spots.

    Args:
        config: of the committee; the options stand in place of what it says.
        datasets: normalisation -> the dataset with every encoder and, where it is asked for, context.
        spots: sorted positions of the only spots that are looked at.
        done: called after every left-out part and normalisation.
    """
    first = next(iter(datasets.values()))
    panels = panels_of(config, first, spots)
    samples = {name: sample_of(config, dataset, panels["all"], spots) for name, dataset in datasets.items()}
    some = next(iter(samples.values()))
    inside = folds_inside(some)
    if len(inside) < 2:
        raise UserError(f"Expected spots enough to leave some out and choose, received {len(spots)}. Add sections.")
    genes = {name: np.flatnonzero(np.isin(panels["all"].auxiliary, panel.auxiliary)) for name, panel in panels.items()}
    found, names = [], []
    for number, (kept, held) in enumerate(inside):
        blocks: dict[tuple[str, ...], Tensor] = {}
        for normalise, sample in samples.items():
            blocks |= _blocks(sample.at(kept), sample.at(held), genes, normalise, options)
            if done is not None:
                done()
        views = list(some.views)
        scores = torch.stack([_together(blocks, answers, views) for answers in options])
        found.append(score_by_slide(scores, some.at(held)))
        names += _units(first, spots[held], inside, number)
    by_slide = np.concatenate(found, axis=1)
    units = tuple(dict.fromkeys(names))
    by_unit = np.stack(
        [np.nanmean(by_slide[:, [i for i, name in enumerate(names) if name == unit]], axis=1) for unit in units], axis=1
    )
    auxiliary = {name: tuple(first.genes[i] for i in panel.auxiliary) for name, panel in panels.items()}
    return Scored(by_unit.reshape(*options.shape, len(units)), units, inside.unit, auxiliary)


def panels_of(config: Config, dataset: Dataset, spots: np.ndarray) -> dict[str, Panel]:
    """The panel of every gene set that is compared, by these spots alone; the primary genes are the same in all."""
    seen = TrainingSpots.of(dataset, spots)
    primary = choose_primary(seen, config.primary, seed=config.seed)
    auxiliary = {name: config.auxiliary.model_copy(update={"genes": Component(name=name)}) for name in GENES}
    return {name: choose_panel(seen, primary, each, seed=config.seed) for name, each in auxiliary.items()}


def _blocks(
    kept: Sample, held: Sample, genes: Mapping[str, np.ndarray], normalise: str, options: Options
) -> dict[tuple[str, ...], Tensor]:
    """Sums of standardised scores `[spot, primary]` on the left-out spots, by what a group of members depends on."""
    asked = {factor.name: factor.answers for factor in options.factors}
    panels = {
        name: kept.with_genes(columns, np.ones(len(columns), dtype=np.float32)) for name, columns in genes.items()
    }
    found: dict[tuple[str, ...], Tensor] = {}
    for view in kept.views:
        for number, member in enumerate(MEMBERS):
            for loss in asked["loss"] if "loss" not in member else ("",):
                for name in asked["genes"] if member.get("rank") else ("",):
                    sample = panels[name or "none"]
                    sample = replace(sample, loss=Component(name=loss)) if loss else sample
                    fitted = Committee(members=[{**member, "view": view}], network=None).fit(sample)
                    key = (normalise, view, str(number), loss, name)
                    found[key] = fitted.total(held.features, held.slides)
    return found


def _together(blocks: Mapping[tuple[str, ...], Tensor], answers: Mapping[str, str], views: Sequence[str]) -> Tensor:
    """The committee of one combination `[spot, primary]`, up to a factor, which changes no rank."""
    chosen = [view for view in views if _in_view(view, answers)]
    parts = [
        blocks[
            answers["normalise"],
            view,
            str(number),
            answers["loss"] if "loss" not in member else "",
            answers["genes"] if member.get("rank") else "",
        ]
        for view in chosen
        for number, member in enumerate(MEMBERS)
    ]
    return torch.stack(parts).sum(0)


def _in_view(view: str, answers: Mapping[str, str]) -> bool:
    """Whether a view is one of those that a combination has; see `agl.data.views`."""
    encoder, _, shows = view.rpartition(" ")
    if answers.get("encoder", "all") not in ("all", encoder):
        return False
    return shows != CONTEXT or answers.get("context", "own") != "own"


def _units(dataset: Dataset, held: np.ndarray, inside: Inside, number: int) -> list[str]:
    """Of every slide among left-out spots, in the order of `score_by_slide`, the unit it belongs to."""
    slides = np.unique(np.asarray(dataset.slide_codes)[held])
    if inside.unit == "spots":
        return [f"part {number + 1}"] * len(slides)
    if inside.unit == "slides":
        return [dataset.slide_names[code] for code in slides]
    patient_of = dict(zip(dataset.spots.slide, patient_or_slide(dataset.spots), strict=True))
    return [str(patient_of[dataset.slide_names[code]]) for code in slides]
