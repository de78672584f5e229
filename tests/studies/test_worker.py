"""A worker and what may befall it: failing cells, interruptions, full disks, storages that go away."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from agl.errors import UserError
from agl.runs.folder import Run
from agl.studies import stops
from agl.studies.address import parse_storage
from agl.studies.heartbeats import FileHeartbeats, Watch
from agl.studies.launch import queue_grid
from agl.studies.outages import StorageGone
from agl.studies.study import Study, open_study
from agl.studies.worker import repair_study, work


def by_name(config: Any, _: object) -> str:
    return f"{config.loss.name}-{config.seed}"


class Cells:
    """Trains by writing a number; `troubles` names what a cell raises, and how often."""

    def __init__(self, **troubles: tuple[BaseException, int]) -> None:
        self.troubles = {key.replace("_", "-"): list(value) for key, value in troubles.items()}
        self.begun: list[str] = []

    def __call__(self, config: Any, *, folds: Any, report: Any, progress: Any) -> list[Run]:
        name = by_name(config, None)
        self.begun.append(name)
        trouble = self.troubles.get(name)
        if trouble is not None and trouble[1] > 0:
            trouble[1] -= 1
            raise trouble[0]
        folder = Path(config.output) / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps({"validation": config.seed / 10}))
        return [Run(folder)]


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """The tests themselves may be a shell's background job, which is deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def study(grid_file: Callable[[int], Path]) -> Study:
    return queue_grid(grid_file(2), identify=by_name).study


def states(study: Study) -> dict[str, str]:
    return {cell.name: cell.state for cell in study.cells()}


def test_cells_are_done_in_order_and_once(study: Study) -> None:
    cells, shown = Cells(), []
    work(study, train=cells, shown=lambda now: shown.append([cell.state for cell in now]))
    assert cells.begun == ["mse-0", "mse-1", "listwise-0", "listwise-1"]
    assert [run.folder.name for run in study.runs()] == cells.begun
    assert [cell.score for cell in study.cells()] == [0.0, 0.1, 0.0, 0.1]
    assert shown[0] == ["running", *["waiting"] * 3]
    assert shown[-1] == ["done"] * 4
    work(open_study("journal:runs/g/study.journal"), train=cells)
    assert len(cells.begun) == 4


def test_a_failing_cell_is_tried_again_and_then_reported(study: Study) -> None:
    cells = Cells(mse_1=(RuntimeError("out of\nmemory"), 2), listwise_0=(ZeroDivisionError("no"), 9))
    work(study, train=cells)
    assert states(study) == {"mse-0": "done", "mse-1": "done", "listwise-0": "failed", "listwise-1": "done"}
    assert (cells.begun.count("mse-1"), cells.begun.count("listwise-0")) == (3, 3)
    failed = next(cell for cell in study.cells() if cell.state == "failed")
    assert failed.error == "ZeroDivisionError: no"
    assert "test_worker.py" in failed.trial.user_attrs["traceback"]
    assert repair_study(study) == 0
    assert repair_study(study, also_failed=True) == 1
    cells.troubles.clear()
    work(study, train=cells)
    assert set(states(study).values()) == {"done"}
    assert len(study.runs()) == 4


def test_what_a_user_must_mend_is_not_tried_again(study: Study, grid_file: Callable[[int], Path]) -> None:
    cells = Cells(mse_0=(UserError("Expected a folder, received nothing."), 1))
    work(study, train=cells)
    assert cells.begun.count("mse-0") == 1
    assert study.cells()[0].error == "Expected a folder, received nothing."
    again = queue_grid(grid_file(2), identify=by_name)  # the same command: a fresh start for what failed
    assert states(again.study)["mse-0"] == "waiting"
    work(again.study, train=cells)
    assert set(states(study).values()) == {"done"}
    assert len(cells.begun) == 5


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left", "runs/x")])
def test_an_interruption_is_not_the_cells_fault(study: Study, stop: BaseException) -> None:
    cells = Cells(mse_1=(stop, 9))
    for _ in range(5):
        with pytest.raises(type(stop)):
            work(study, train=cells)
        assert states(study)["mse-1"] == "waiting"
    cells.troubles.clear()
    work(study, train=cells)
    assert set(states(study).values()) == {"done"}
    assert [cell.attempts for cell in study.cells()] == [1, 1, 1, 1]


def test_other_os_errors_are_the_cells_own(study: Study) -> None:
    cells = Cells(mse_0=(FileNotFoundError(errno.ENOENT, "gone", "x"), 9))
    work(study, train=cells)
    assert states(study)["mse-0"] == "failed"


def test_sigterm_puts_the_cell_back(study: Study) -> None:
    def cell(config: Any, **_: Any) -> list[Run]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        raise AssertionError("not reached")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        work(study, train=cell)
    assert signal.getsignal(signal.SIGTERM) == before
    assert set(states(study).values()) == {"waiting"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", ["repair", "take", "complete"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_while_the_books_are_written_costs_no_cell_a_death(
    study: Study, monkeypatch: pytest.MonkeyPatch, hears_ctrl_c: None, number: int, step: str, when: str
) -> None:
    """A trial that is taken and not begun, or done and not entered, would be found as that of a dead worker."""
    real = getattr(Study, step)

    def interrupted(self: Study, *args: Any, **attrs: Any) -> Any:
        if when == "before":
            signal.raise_signal(number)
        found = real(self, *args, **attrs)
        if when == "after":
            signal.raise_signal(number)
        return found

    cells = Cells()
    with monkeypatch.context() as patch:
        patch.setattr(Study, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            work(study, train=cells)
    assert sorted(states(study).values()) == sorted(
        ["done"] * (step == "complete") + ["waiting"] * (4 - (step == "complete"))
    )
    work(study, train=cells)
    assert set(states(study).values()) == {"done"}
    assert sum(cell.deaths for cell in study.cells()) == 0
    assert len(cells.begun) == 4


def test_a_second_signal_ends_a_worker_whose_storage_hangs(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "PATIENCE", 0.05)

    def hanging(self: Study, _: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.1)
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not reached")

    monkeypatch.setattr(Study, "take", hanging)
    with pytest.raises(KeyboardInterrupt):
        work(study, train=Cells())


def test_a_signal_that_was_ignored_stays_ignored(study: Study) -> None:
    """A shell's background jobs are deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:

        def cell(config: Any, **words: Any) -> list[Run]:
            signal.raise_signal(signal.SIGINT)
            return cells(config, **words)

        cells = Cells()
        work(study, train=cell)
    finally:
        signal.signal(signal.SIGINT, before)
    assert set(states(study).values()) == {"done"}


def test_a_storage_that_goes_away_in_mid_cell(study: Study, tmp_path: Path) -> None:
    cells = Cells()
    journal = tmp_path / "runs/g/study.journal"

    def cell(config: Any, **words: Any) -> list[Run]:
        runs = cells(config, **words)
        if len(cells.begun) == 2:
            journal.rename(tmp_path / "elsewhere")
        return runs

    with pytest.raises(StorageGone, match=r"study\.journal cannot be written: no such file .*same command goes on\.$"):
        work(study, train=cell)
    (tmp_path / "elsewhere").rename(journal)
    back = open_study("journal:runs/g/study.journal")
    assert list(states(back).values()) == ["done", "running", "waiting", "waiting"]
    work(back, train=cells)
    assert set(states(back).values()) == {"done"}
    assert cells.begun == ["mse-0", "mse-1", "listwise-0", "listwise-1", "mse-1"]


def test_a_worker_that_was_given_up_for_dead_does_no_harm(study: Study) -> None:
    """It was asleep; another has its cell by now. What it brings is not entered twice."""
    cells = Cells()

    def cell(config: Any, **words: Any) -> list[Run]:
        if not cells.begun:
            (running,) = study.optuna.get_trials(states=(TrialState.RUNNING,))
            study.close(running)
        return cells(config, **words)

    work(study, train=cell)
    assert set(states(study).values()) == {"done"}
    assert len(study.optuna.get_trials(states=(TrialState.COMPLETE,))) == 4
    assert cells.begun.count("mse-0") == 2


def test_a_cell_queued_twice_is_struck_off(study: Study) -> None:
    study.optuna.enqueue_trial({}, user_attrs=study.cells()[2].trial.user_attrs)
    cells = Cells()
    work(study, train=cells)
    assert cells.begun == ["mse-0", "mse-1", "listwise-0", "listwise-1"]
    assert [cell.attempts for cell in study.cells()] == [1, 1, 1, 1]
    assert study.optuna.trials[4].user_attrs["duplicate_of"] == 2


def test_a_worker_stays_for_the_others_unless_told_to_leave(study: Study) -> None:
    other = open_study("journal:runs/g/study.journal")
    taken = other.take(FileHeartbeats(Path("elsewhere"), "g", other.address))  # where nobody looks ...
    heartbeats = FileHeartbeats(Path("runs/g/study.journal.workers"), "g", other.address)
    heartbeats.claim(taken.number)  # ... and here, as it should be
    cells = Cells()
    work(study, train=cells, wait=False)
    assert list(states(study).values()) == ["running", "done", "done", "done"]
    threading.Timer(0.5, heartbeats.close).start()
    work(open_study("journal:runs/g/study.journal"), train=cells)
    assert set(states(study).values()) == {"done"}
    assert cells.begun[-1] == "mse-0"


def test_a_lock_file_of_another_machine_counts_by_its_age(tmp_path: Path) -> None:
    address = parse_storage(f"journal:{tmp_path}/a?heartbeat=10")
    folder = tmp_path / "workers"
    folder.mkdir()
    elsewhere = folder / "other-1-abc"
    elsewhere.write_text(json.dumps({"host": "other", "study": "g", "trial": 7}))
    heartbeats = FileHeartbeats(folder, "g", address)
    trials: Any = [SimpleNamespace(number=7), SimpleNamespace(number=8)]
    assert [trial.number for trial in heartbeats.dead(trials)] == [8]
    old = time.time() - 41
    os.utime(elsewhere, (old, old))
    assert [trial.number for trial in heartbeats.dead(trials)] == [7, 8]
    assert not elsewhere.exists()
    here = folder / "here-1-abc"
    here.write_text(json.dumps({"host": heartbeats.host, "study": "g", "trial": 7}))
    assert [trial.number for trial in heartbeats.dead(trials)] == [7, 8]


def test_silence_is_measured_by_the_listeners_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watch = Watch(grace=10)

    def trial(beat: int) -> Any:
        return SimpleNamespace(number=1, user_attrs={"beat": beat})

    heard = []
    for time_now, beat in [(0, 1), (9, 1), (9.5, 2), (19, 2), (19.5, 2), (20, 3)]:
        now = time_now
        now = time_now
        heard.append(bool(watch.silent([trial(beat)])))
    assert heard == [False, False, False, False, True, False]
    assert watch.silent([]) == []
    assert watch.silent([trial(3)]) == []  # forgotten in between: listening begins anew


def test_sqlite_serves_one_worker_and_refuses_a_second(grid_file: Callable[[int], Path], tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/a.db"
    study = queue_grid(grid_file(1), storage=storage, identify=by_name).study
    cells, refused = Cells(), []

    def cell(config: Any, **words: Any) -> list[Run]:
        if not refused:
            with pytest.raises(
                UserError, match="Expected a storage for a second worker, received SQLite: it has no row locks"
            ) as error:
                work(open_study(storage), train=cells)
            refused.append(error)
        return cells(config, **words)

    work(study, train=cell)
    assert refused
    assert set(states(study).values()) == {"done"}
