"""Commands that are killed at random moments: what they are, what they must leave, and a process to fork them from.

A kill is SIGKILL to the whole process group, workers included, or to one process of it. Afterwards the same command is
given again, killed again, and at last let finish. Then its results have the bytes of an uninterrupted one's.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.forked import agl, finish, kill_group, start

NET = ["data.root=task", "data.features=latent", "model=mlp", "model.start=none", "primary.k=10",
       "primary.min_detection=0", "training.checkpoint_every=2"]  # fmt: skip
TEMPORARY = ("*.part", "*.partial", "*.tmp", ".*.part", ".*.old", ".clock-*", ".writable*", "*-*-??????")
COMPARED = ("result.json", "history.jsonl", "selection.json", "predictions.npz", "per_gene.csv", "panel.csv",
            "config.yaml", "best.safetensors")  # fmt: skip


def four_at_once(words: Sequence[str]) -> None:
    """The command line in four processes of this group: each is a worker of the study that the first of them makes."""
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                agl(words)
            except SystemExit as stop:
                os._exit(int(stop.code or 0))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    sys.exit(max(abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) for child in children))


def import_sections() -> None:
    """The import alone, of larger sections, and their surroundings."""
    from agl.data.dataset import open_dataset
    from agl.errors import UserError

    try:
        open_dataset("large", features="latent", context=[6])
    except UserError as error:
        print(f"agl: {error}", file=sys.stderr)
        sys.exit(2)


@dataclass(frozen=True)
class Scenario:
    """A command, what stands in its folder before, and the files by which two runs of it are compared."""

    name: str
    target: Callable[..., Any]
    given: tuple[Any, ...]
    results: str  # folder below which results are
    compared: tuple[str, ...] = COMPARED
    study: dict[str, Any] | None = None
    workers: bool = False

    def prepare(self, folder: Path, stock: Path) -> None:
        """The state before the command: the data, the study file, finished runs to report on."""
        folder.mkdir(parents=True)
        for task in ("task", "large"):
            (folder / task).symlink_to(stock / task)
        if self.study is not None:
            (folder / "study.yaml").write_text(yaml.safe_dump(self.study))
        if self.name == "report":
            shutil.copytree(stock / "runs", folder / "runs")

    def outcome(self, folder: Path) -> dict[str, bytes]:
        """Results by path; runs that were trained twice would be two paths."""
        below = folder / self.results
        files = [path for pattern in self.compared for path in below.rglob(pattern) if path.is_file()]
        return {str(path.relative_to(below)): path.read_bytes() for path in sorted(files)}

    def left_over(self, folder: Path) -> list[str]:
        """Temporary files that nobody will come back for."""
        return sorted({str(path.relative_to(folder)) for word in TEMPORARY for path in folder.rglob(word)})


def scenarios(epochs: int = 6) -> dict[str, Scenario]:
    """Import, training, a grid by four processes, one with a pool of four workers, a search, a report."""
    words = [*NET, f"training.epochs={epochs}"]
    tree = {"data": {"root": "task", "features": "latent"}, "model": {"name": "mlp", "start": "none"},
            "primary": {"name": "dispersion", "k": 10, "min_detection": 0},
            "training": {"epochs": epochs, "checkpoint_every": 2}}  # fmt: skip
    grid = tree | {"name": "g", "axes": {"loss": ["listwise", "mse"], "seed": [0, 1]}, "fold": 0}
    search = tree | {
        "name": "s",
        "search": {"parameters": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}, "trials": 5,
                   "sampler": "random", "folds": [0]},
    }  # fmt: skip
    found = [
        Scenario("import", import_sections, (), "cache/datasets", ("*.npy", "*.csv", "genes.json", "report.json")),
        Scenario("train", agl, (["train", *words, "fold=0"],), "runs"),
        Scenario("grid", four_at_once, (["grid", "study.yaml"],), "runs", study=grid, workers=True),
        Scenario("pool", agl, (["grid", "study.yaml", "--jobs", "4"],), "runs", study=grid, workers=True),
        Scenario("search", agl, (["search", "study.yaml"],), "runs", study=search),
        Scenario("report", agl, (["report", "runs"],), "runs/report", ("*",)),
    ]
    return {scenario.name: scenario for scenario in found}


def make_stock(folder: Path) -> Path:
    """Sections, and finished runs of two losses on them."""
    from agl.data.simulate.task import simulate

    folder.mkdir(parents=True, exist_ok=True)
    for task, spots, genes in (("task", 40, 150), ("large", 700, 600)):
        simulate(folder / task, n_patients=3, slides_per_patient=1, spots_per_slide=spots, n_genes=genes,
                 features="latent", seed=1)  # fmt: skip
    for loss in ("listwise", "mse"):
        status, said = finish(folder, agl, ["train", *NET, "training.epochs=2", "fold=0", f"loss={loss}"])
        assert status == 0, said
    return folder


@dataclass
class Tally:
    """What became of a scenario under kills."""

    kills: int = 0  # that hit a process at work
    rounds: int = 0
    wrong: int = 0  # results that are not the uninterrupted one's
    lost: int = 0
    more: int = 0  # duplicated: a result that the uninterrupted one does not have
    left_over: int = 0
    said: str = ""


def uninterrupted(scenario: Scenario, stock: Path, folder: Path) -> tuple[dict[str, bytes], float]:
    """Its results, and how long it takes."""
    scenario.prepare(folder, stock)
    began = time.monotonic()
    status, said = finish(folder, scenario.target, *scenario.given)
    assert status == 0, said
    assert not scenario.left_over(folder), scenario.left_over(folder)
    return scenario.outcome(folder), time.monotonic() - began


def under_kills(
    scenario: Scenario,
    stock: Path,
    folder: Path,
    truth: dict[str, bytes],
    seconds: float,
    kills: int,
    rng: random.Random,
) -> Tally:
    """One folder: `kills` kills at random moments of `seconds`, then once to the end."""
    scenario.prepare(folder, stock)
    tally = Tally(rounds=1)
    for _ in range(kills):
        process = start(folder, scenario.target, *scenario.given)
        process.join(rng.uniform(0.02, seconds))
        if process.is_alive():
            tally.kills += 1
            _kill(process, alone=scenario.workers and rng.random() < 0.5, rng=rng)
    status, said = finish(folder, scenario.target, *scenario.given)
    found = scenario.outcome(folder)
    tally.lost = len(truth.keys() - found.keys())
    tally.more = len(found.keys() - truth.keys())
    tally.wrong = sum(found[name] != truth[name] for name in found.keys() & truth.keys())
    tally.left_over = len(scenario.left_over(folder))
    if status or tally.lost or tally.more or tally.wrong or tally.left_over:
        tally.said = f"status {status}: {said[-2000:]}\n{scenario.left_over(folder)}\n" + str(
            [name for name in truth if found.get(name) != truth[name]] + sorted(found.keys() - truth.keys())
        )
    return tally


def _kill(process: multiprocessing.process.BaseProcess, *, alone: bool, rng: random.Random) -> None:
    """All of the group, or one process of it: a worker, or the one that looks after them, and then the rest later."""
    if alone and (members := _members(int(process.pid or 0))):
        os.kill(rng.choice(members), signal.SIGKILL)
        process.join(rng.uniform(0, 3))
    kill_group(process)


def _members(group: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            found.append(int(path.parent.name))
    return sorted(found)
