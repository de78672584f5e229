"""Every fold of a config, one run each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from agl.config import Config
from agl.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.data.dataset import Dataset
    from agl.data.splitting.splits import Split
    from agl.data.splitting.twins import Twins
    from agl.runs.folder import Run
    from agl.training.experiment import Experiment
    from agl.training.sharing import Sharing


@dataclass(frozen=True)
class PreparedRuns:
    """The runs of one config, before anything is trained."""

    config: Config
    experiments: list[Experiment]
    warnings: tuple[str, ...] = ()  # what was seen in the data that deserves a look


def prepare(config: Config, sharing: Sharing | None = None) -> PreparedRuns:
    """Read the data, split it, refuse leaks; one experiment a fold, or the one fold the config names.

    Args:
        sharing: what other runs of this process have had prepared before.
    """
    import numpy as np

    from agl import registry
    from agl.data.reading.remarks import refuse_blindness
    from agl.data.splitting.twins import twins_of
    from agl.runs.choosing import data_key, dataset_of, option_configs
    from agl.runs.resolve import complete
    from agl.training.experiment import Experiment
    from agl.training.sharing import Sharing

    completed, sharing = complete(config), Sharing(0) if sharing is None else sharing
    dataset = sharing.get("dataset", dataset_of, data_key(completed), partial(dataset_of, completed))
    if dataset.features is None:
        rows = np.full(len(dataset), -1) if dataset.patches is None else dataset.patches.row_of_spot
        seen = set(dataset.slide_codes[rows >= 0])
        refuse_blindness(dataset.slide_names, [s for i, s in enumerate(dataset.slide_names) if i not in seen])
    validated = any(not registry.is_estimator(each.model) for each in [completed, *option_configs(completed)])
    twins = sharing.get(
        "twins", dataset, (), partial(twins_of, dataset.counts, dataset.slide_codes, dataset.slide_names)
    )
    cut = (completed.split, completed.validation, completed.data)
    key = (*(part.model_dump_json() for part in cut), completed.seed, completed.fold, completed.allow_leaks, validated)
    folds = sharing.get("folds", dataset, key, partial(_folds, completed, dataset, twins, validated))
    experiments = [
        Experiment(completed.model_copy(update={"fold": fold}), own, split, sharing=sharing)
        for fold, own, split in folds
    ]
    return PreparedRuns(completed, experiments, _warnings(dataset, twins))


def _folds(
    config: Config, dataset: Dataset, twins: Sequence[Twins], validated: bool
) -> list[tuple[int, Dataset, Split]]:
    """The folds that a complete config asks for, each with the dataset as deep as it wants it; none leaks."""
    from agl.data.splitting.audit import audit, refuse_leaks
    from agl.runs.provenance import spots_key
    from agl.training.loading import as_deep, load_splits

    splits = [_marked_optimistic(split, dataset) for split in load_splits(config, dataset, validated=validated)]
    if config.fold is not None and config.fold >= len(splits):
        names = ", ".join(f"{i}: {split.name}" for i, split in enumerate(splits))
        raise UserError(f"Expected fold below {len(splits)}, received fold={config.fold}. The folds are {names}.")
    found = []
    for fold in range(len(splits)) if config.fold is None else [config.fold]:
        seen = audit(dataset.spots, splits[fold], twins)
        refuse_leaks(seen, allow=config.allow_leaks)
        split = replace(splits[fold], optimistic=True) if seen.twins else splits[fold]
        own = as_deep(config, dataset, split)
        if own is not dataset:  # other spots only where the test's counts are others
            key = spots_key(dataset, config.data.thin_test, config.data.library)
            own = replace(own, report=own.report | {"spots": key})
        found.append((fold, own, split))
    return found


def warnings_of(datasets: Iterable[Dataset]) -> tuple[str, ...]:
    """What deserves a look in data that can be learned from, each sentence once."""
    from agl.data.splitting.twins import twins_of

    found = (_warnings(data, twins_of(data.counts, data.slide_codes, data.slide_names)) for data in datasets)
    return tuple(dict.fromkeys(sentence for sentences in found for sentence in sentences))


def _warnings(dataset: Dataset, twins: Sequence[Twins]) -> tuple[str, ...]:
    return (*dataset.report.get("warnings", ()), *(pair.words for pair in twins))


def train(
    config: Config, *, progress: Progress | None = None, on_message: Callable[[str], None] | None = None
) -> list[Run]:
    """Train every fold that is not finished yet."""
    return list(train_each(prepare(config), progress=progress, on_message=on_message))


def train_each(
    prepared: PreparedRuns, *, progress: Progress | None = None, on_message: Callable[[str], None] | None = None
) -> Iterator[Run]:
    """The runs of one config, one after another, as they finish."""
    from agl.runs.execute import execute
    from agl.runs.folder import folder_of

    for experiment in prepared.experiments:
        known = (folder_of(experiment.config, experiment.dataset) / "result.json").is_file()
        run = execute(experiment, progress=progress)
        if on_message is not None:
            on_message(f"{'kept   ' if known else 'trained'}  {experiment.split.name:<16} {run.folder}")
        yield run


def _marked_optimistic(split: Split, dataset: Dataset) -> Split:
    """Where patients are not recorded, slides of one patient may be on both sides: the split is called optimistic."""
    sources = [section.get("patient_source") for section in dataset.report.get("sections", {}).values()]
    return replace(split, optimistic=True) if "slide name" in sources else split
