"""From a study file to a finished study: fill the queue, put workers on it, see to them until it is empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agl.config import Config
from agl.errors import UserError
from agl.studies.address import parse_storage, refuse_sqlite
from agl.studies.grid import read_grid, refuse_many
from agl.studies.ledger import RETRIES
from agl.studies.pool import WorkerPool
from agl.studies.search import read_search
from agl.studies.side_by_side import AUTO
from agl.studies.study import Entry, Study, create_study
from agl.studies.worker import Shown, work
from agl.trees import read_yaml

if TYPE_CHECKING:
    from rich.progress import Progress

MOST_JOBS = 256  # workers on one machine
Identify = Callable[[Config, dict[str, Any]], str]


@dataclass(frozen=True)
class Launched:
    """A study with its cells in the queue, and the names of the cells that its file asks for."""

    study: Study
    names: list[str]
    warnings: tuple[str, ...] = ()  # what was seen in the data that deserves a look


def default_storage(config: Config) -> str:
    """A journal beside the study's runs."""
    return f"journal:{Path(config.output) / config.name / 'study.journal'}"


def queue_grid(
    path: str | Path,
    words: Sequence[str] = (),
    *,
    storage: str | None = None,
    retries: int = RETRIES,
    many: bool = False,
    identify: Identify | None = None,
) -> Launched:
    """Put the cells of a grid into their study's queue. Every config is checked before the first is put there."""
    grid = read_grid(path, words, many=many)
    identify = identify or _identify
    datasets: dict[str, Any] = {}
    entries: dict[str, Entry] = {}
    configs = [(cell, grid.config(cell)) for cell in grid.cells()]
    for cell, config in configs:
        name = identify(config, datasets)
        entries.setdefault(name, Entry(name, tuple(cell), config.to_dict()))
    first = configs[0][1]
    study = create_study(storage or default_storage(first), first.name, kind="grid", retries=retries)
    study.add(list(entries.values()))
    return Launched(study, list(entries), _warnings(datasets))


def queue_search(
    path: str | Path,
    words: Sequence[str] = (),
    *,
    storage: str | None = None,
    retries: int = RETRIES,
    many: bool = False,
    identify: Identify | None = None,
) -> Launched:
    """Put a search's trials into its study's queue: each a number, of which the sampler makes a config later."""
    found = read_search(path, words)
    refuse_many(found.search.trials, f"trials in the search of {path}", many)
    identify, datasets = identify or _identify, dict[str, Any]()
    corners = found.corners()
    names = [identify(config, datasets) for config in corners]
    if found.search.folds is not None and identify is _identify:
        check_folds(corners[0], found.search.folds)
    shared = found.config()
    search = found.search.model_dump(mode="json")
    same = {key: value for key, value in search.items() if key in ("parameters", "objective", "folds")}
    plain = {key: value for key, value in found.shared.items() if key not in ("name", "output")}
    about = {"what": same, "shared": plain, "corners": names}
    study = create_study(
        storage or default_storage(shared), shared.name, kind="search", directions=found.search.directions,
        retries=retries,
    )  # fmt: skip
    if study.attrs.get("about", about) != about:
        raise UserError(
            f"Expected the search that the study {study.name!r} in {study.address.shown} holds, received another "
            "(ranges, objective, data or config), whose trials cannot be compared with its own. Set another name=."
        )
    for key, value in (("search", search), ("about", about)):
        study.set_attr(key, value)
    entries = [Entry(f"trial-{i:04d}", (), found.shared) for i in range(found.search.trials)]
    study.add(entries)
    return Launched(study, [entry.name for entry in entries], _warnings(datasets))


def queue_study(path: str | Path, words: Sequence[str] = (), **options: Any) -> Launched:
    """A grid or a search, whichever the file is."""
    return (queue_search if "search" in read_yaml(path) else queue_grid)(path, words, **options)


def run_study(study: Study, *, jobs: int = 1, progress: Progress, shown: Shown, side_by_side: str = AUTO) -> None:
    """Until no cell is waiting or running: in this process, or with `jobs` workers on this machine."""
    if jobs == 1:
        work(study, progress=progress, shown=shown, side_by_side=side_by_side)
    else:
        refuse_sqlite(study.address, f"{jobs} workers")
        WorkerPool(study, jobs, words=() if side_by_side == AUTO else ("--side-by-side", side_by_side)).run(shown)


def check_jobs(storage: str | None, jobs: int) -> None:
    """Before anything is read or written."""
    if not 1 <= jobs <= MOST_JOBS:
        raise UserError(f"Expected --jobs from 1 to {MOST_JOBS}, received {jobs}.")
    if storage is not None and jobs > 1:
        refuse_sqlite(parse_storage(storage), f"{jobs} workers")


def check_folds(config: Config, folds: Sequence[int]) -> None:
    """Before anything is trained: the folds that a search averages must be there."""
    from agl.runs.train import prepare

    n = len(prepare(config).experiments)
    if wrong := [fold for fold in folds if not 0 <= fold < n]:
        raise UserError(f"Expected search.folds from 0 to {n - 1}, received {wrong}. Leave them out to average all.")


def _warnings(datasets: dict[str, Any]) -> tuple[str, ...]:
    from agl.runs.train import warnings_of

    return warnings_of(datasets.values())


def _identify(config: Config, datasets: dict[str, Any]) -> str:
    from agl.studies.cell import identify

    return identify(config, datasets)
