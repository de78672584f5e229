"""From a study file to a finished study: fill the queue, put workers on it, see to them until it is empty."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from agl.config import Config
from agl.errors import UserError
from agl.machine import cores
from agl.studies.address import parse_storage, refuse_sqlite
from agl.studies.alive import signs_of
from agl.studies.grid import read_grid
from agl.studies.ledger import RETRIES
from agl.studies.search import read_search
from agl.studies.study import Entry, Study, create_study
from agl.studies.worker import OPEN, Shown, work
from agl.trees import read_yaml

if TYPE_CHECKING:
    from rich.progress import Progress

Identify = Callable[[Config, dict[str, Any]], str]


@dataclass(frozen=True)
class Launched:
    """A study with its cells in the queue, and the names of the cells that its file asks for."""

    study: Study
    names: list[str]


def default_storage(config: Config) -> str:
    """A journal beside the study's runs."""
    return f"journal:{Path(config.output) / config.name / 'study.journal'}"


def queue_grid(
    path: str | Path,
    words: Sequence[str] = (),
    *,
    storage: str | None = None,
    retries: int = RETRIES,
    identify: Identify | None = None,
) -> Launched:
    """Put the cells of a grid into their study's queue. Every config is checked before the first is put there."""
    grid = read_grid(path, words)
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
    return Launched(study, list(entries))


def queue_search(
    path: str | Path,
    words: Sequence[str] = (),
    *,
    storage: str | None = None,
    retries: int = RETRIES,
    identify: Identify | None = None,
) -> Launched:
    """Put a search's trials into its study's queue: each a number, of which the sampler makes a config later."""
    found = read_search(path, words)
    identify, datasets = identify or _identify, dict[str, Any]()
    corners = found.corners()
    names = [identify(config, datasets) for config in corners]
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
            f"The study {study.name!r} in {study.address.shown} searches something else (other ranges, objective, data "
            "or config), and its trials cannot be compared with these. Set another name=."
        )
    for key, value in (("search", search), ("about", about)):
        study.set_attr(key, value)
    entries = [Entry(f"trial-{i:04d}", (), found.shared) for i in range(found.search.trials)]
    study.add(entries)
    return Launched(study, [entry.name for entry in entries])


def queue_study(path: str | Path, words: Sequence[str] = (), **options: Any) -> Launched:
    """A grid or a search, whichever the file is."""
    return (queue_search if "search" in read_yaml(path) else queue_grid)(path, words, **options)


def run_study(study: Study, *, jobs: int = 1, progress: Progress, shown: Shown) -> None:
    """Until no cell is waiting or running: in this process, or with `jobs` workers on this machine."""
    if jobs == 1:
        work(study, progress=progress, shown=shown)
    else:
        refuse_sqlite(study.address, f"{jobs} workers")
        Crew(study, jobs).run(shown)


def check_jobs(storage: str | None, jobs: int) -> None:
    """Before anything is read or written."""
    if jobs < 1:
        raise UserError(f"Expected --jobs of at least 1, received {jobs}.")
    if storage is not None and jobs > 1:
        refuse_sqlite(parse_storage(storage), f"{jobs} workers")


@dataclass
class Crew:
    """Local workers. One that is killed is replaced; one that cannot go on stops the study with its sentence.

    The cores are split between the workers by their numbers of threads; the threads of a run's own sums are part of
    its config (`training.threads`) and stay. Several GPUs in CUDA_VISIBLE_DEVICES are dealt out in turn.
    """

    study: Study
    jobs: int
    command: Sequence[str] = (sys.executable, "-m", "agl", "worker")
    poll: float = 0.2
    workers: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = field(default_factory=list)
    started: int = 0

    def run(self, shown: Shown) -> None:
        """Until the queue is empty, or nobody can work on it."""
        sentence, fruitless, state = "", 0, None
        signs = signs_of(self.study.address, self.study.storage, self.study.optuna)
        try:
            while True:
                cells = self.study.cells()
                shown(cells)
                for code, words in self._gone():
                    if code == 2:
                        sentence = words
                    elif code != 0:
                        now = [(cell.name, cell.state, cell.deaths) for cell in cells]
                        fruitless = fruitless + 1 if now == state else 0
                        state = now
                        if fruitless > 3 * self.jobs:
                            raise UserError(f"The workers of study {self.study.name!r} keep dying: {words or code}")
                unfinished = sum(cell.state in OPEN for cell in cells)
                if not self.workers:
                    if sentence:
                        raise UserError(sentence)
                    if unfinished == 0:
                        return
                    self.study.repair(signs)
                missing = 0 if sentence else min(self.jobs, unfinished) - len(self.workers)
                for _ in range(missing):
                    self._start()
                time.sleep(self.poll)
        finally:
            self._dismiss()

    def _start(self) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the worker is gone
        command = [*self.command, "--study", self.study.name]
        environment = os.environ | worker_environment(self.started, self.jobs)
        environment["AGL_STORAGE"] = self.study.address.text  # not among the arguments, which everybody can read
        worker = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        self.workers.append((worker, errors))
        self.started += 1

    def _gone(self) -> list[tuple[int, str]]:
        """Exit status and last words of the workers that have ended."""
        ended = [(worker, errors) for worker, errors in self.workers if worker.poll() is not None]
        self.workers = [pair for pair in self.workers if pair not in ended]
        found = []
        for worker, errors in ended:
            errors.seek(0)
            lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
            errors.close()
            found.append((int(worker.returncode), lines[-1].removeprefix("agl: ") if lines else ""))
        return found

    def _dismiss(self) -> None:
        """Ask the workers to stop; they put their cells back. One that does not is killed."""
        for worker, _ in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker, errors in self.workers:
            try:
                worker.wait(timeout=20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            errors.close()


def worker_environment(number: int, jobs: int) -> dict[str, str]:
    """Threads and GPU of the n-th of some workers on this machine."""
    threads = str(max(1, cores() // jobs))
    words = {f"{library}_NUM_THREADS": threads for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    gpus = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    return words | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if len(gpus) > 1 else {})


def _identify(config: Config, datasets: dict[str, Any]) -> str:
    from agl.studies.cell import identify

    return identify(config, datasets)
