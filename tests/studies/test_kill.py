"""Any number of workers, some of them killed at any moment: every cell is done exactly once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agl.runs.folder import Run
from agl.studies.launch import queue_grid
from agl.studies.outages import StorageGone
from agl.studies.study import Study, open_study
from agl.studies.worker import work


def by_name(config, _: object) -> str:
    """Fake cells have no data to be told apart by."""
    return f"{config.loss.name}-{config.seed}"


def check_books(study: Study, n: int) -> None:
    """Every cell done, by one trial that counts; every run trained once and whole."""
    from optuna.trial import TrialState

    cells = study.cells()
    assert [cell.state for cell in cells] == ["done"] * n
    assert len({cell.name for cell in cells}) == n
    complete = [trial.user_attrs["cell"] for trial in study.optuna.get_trials(states=(TrialState.COMPLETE,))]
    assert sorted(complete) == sorted(cell.name for cell in cells)
    assert not study.optuna.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    runs = study.runs()
    assert len({run.folder for run in runs}) == n
    for run in runs:
        assert run.result["validation"] == pytest.approx(0.1 + int(run.folder.name.partition(".s")[2]) / 1000)
    assert all(cell.failures == 0 for cell in cells)


@pytest.mark.parametrize("place", ["journal:{folder}/runs/g/study.journal", "{database}", "{proxy}"])
def test_four_workers_do_every_cell_exactly_once(
    place: str, nursery: Callable, grid_file: Callable, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = {name: request.getfixturevalue(name) for name in ("database", "proxy") if "{" + name in place}
    storage = place.format(folder=tmp_path, **wanted)
    n = 24
    pool = nursery(0.02)
    study = queue_grid(grid_file(n // 2), storage=storage, identify=by_name).study
    pool.wait([pool.start("g", storage) for _ in range(4)])
    assert pool.complaints() == ""
    check_books(open_study(storage, "g"), n)
    assert len({run.result["by"] for run in study.runs()}) > 1
    workers = {trial.user_attrs["cell"]: trial.number for trial in study.optuna.get_trials()}
    assert len(workers) == n == len(study.optuna.get_trials())


def test_twenty_kills_lose_nothing_and_repeat_nothing(nursery: Callable, grid_file: Callable, tmp_path: Path) -> None:
    storage = f"journal:{tmp_path}/runs/g/study.journal"
    n, rng = 60, random.Random(0)
    pool = nursery(0.1)
    study = queue_grid(grid_file(n // 2), storage=storage, identify=by_name).study
    pids = [pool.start("g", storage) for _ in range(2)]
    for _ in range(20):
        time.sleep(rng.uniform(0.01, 0.25))
        victim = pids.pop(rng.randrange(2))
        os.kill(victim, signal.SIGKILL)  # it is there: the queue is far from empty
        pids.append(pool.start("g", storage))
    assert any(cell.state == "waiting" for cell in study.cells())
    pool.wait(pids)
    assert pool.complaints() == ""
    check_books(open_study(storage, "g"), n)
    assert sum(cell.deaths for cell in study.cells()) >= 10


@pytest.mark.parametrize("kind", ["database", "proxy"])
def test_a_killed_workers_cell_is_found_by_its_silence(
    kind: str, nursery: Callable, grid_file: Callable, request: pytest.FixtureRequest
) -> None:
    storage = request.getfixturevalue(kind)
    pool = nursery(0.6)
    study = queue_grid(grid_file(2), storage=storage, identify=by_name).study
    first = pool.start("g", storage)
    while not any(cell.state == "running" for cell in study.cells()):
        time.sleep(0.02)
    os.kill(first, signal.SIGKILL)
    pool.wait([pool.start("g", storage)])
    check_books(study, 4)
    assert sum(cell.deaths for cell in study.cells()) == 1


def small_cell(config, **_: object) -> list[Run]:
    folder = Path(config.output) / by_name(config, None)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text('{"validation": 0.5}')
    return [Run(folder)]


def test_a_proxy_that_goes_away_is_one_sentence_and_the_study_goes_on(
    database: str, proxy_server: Callable, grid_file: Callable
) -> None:
    server, storage = proxy_server(database)
    study = queue_grid(grid_file(2), storage=storage, identify=by_name).study
    begun = []

    def cell(config, **words: object) -> list[Run]:
        begun.append(by_name(config, None))
        if len(begun) == 2:
            server.kill()
            server.wait()
        return small_cell(config)

    with pytest.raises(StorageGone, match=r"grpc://localhost:\d+ does not answer .*once it is back, the same command"):
        work(study, train=cell)
    assert begun == ["mse-0", "mse-1"]
    work(open_study(database, "g"), train=small_cell)
    assert [cell.state for cell in open_study(database, "g").cells()] == ["done"] * 4


def test_a_database_that_drops_its_connections_is_asked_again(database: str, grid_file: Callable) -> None:
    import psycopg2

    study = queue_grid(grid_file(2), storage=database, identify=by_name).study
    begun = []

    def cell(config, **words: object) -> list[Run]:
        begun.append(by_name(config, None))
        if len(begun) == 2:
            connection = psycopg2.connect(database.partition("?")[0])
            with connection.cursor() as cursor:
                cursor.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where datname = current_database() and pid <> pg_backend_pid()"
                )
            connection.close()
        return small_cell(config)

    work(study, train=cell)
    assert [cell.state for cell in study.cells()] == ["done"] * 4
    assert len(begun) == 4
